package interaction

import (
	"cmp"
	"context"
	"encoding/base64"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/patch"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// JSONPatchType is the media type of JSON Patch (RFC 6902).
const JSONPatchType = "application/json-patch+json"

// PatchBody is a patch as it was sent.
type PatchBody struct {
	Body     []byte
	FHIRPath bool // a Parameters resource with a FHIRPath Patch; else a JSON Patch
}

// Patch changes a resource by a JSON Patch or a FHIRPath Patch (R4
// http.html#patch), in one step: when another writer comes first, the patch is
// applied anew to what is there, unless If-Match names the version.
func (s *Session) Patch(ctx context.Context, typ, id string, operations PatchBody, match Match) (*Version, error) {
	key, err := s.key(typ, id)
	if err != nil {
		return nil, err
	}
	p, err := s.readPatch(key.Type, operations)
	if err != nil {
		return nil, err
	}
	return s.patchKey(ctx, key, p, match)
}

func (s *Session) patchKey(ctx context.Context, key plan.Key, p patch.Patch, match Match) (*Version, error) {
	for range maxRaces {
		v, err := s.patchOne(ctx, key, p, match)
		if !again(err) {
			return v, err
		}
	}
	return nil, raced()
}

// PatchWhere is the conditional patch of the one resource that matches.
func (s *Session) PatchWhere(ctx context.Context, typ, criteria string, operations PatchBody, match Match) (*Version, error) {
	t, err := s.typ(typ)
	if err != nil {
		return nil, err
	}
	p, err := s.readPatch(t, operations)
	if err != nil {
		return nil, err
	}
	where, err := s.criteria(ctx, t, criteria)
	if err != nil {
		return nil, err
	}
	for range maxRaces {
		found, err := s.matches(ctx, where)
		switch {
		case err != nil:
			return nil, err
		case len(found) == 0:
			return nil, noneMatch()
		case len(found) > 1:
			return nil, manyMatch()
		}
		v, err := s.patchOne(ctx, found[0], p, match, store.Condition{Kind: store.Matches, Plan: where, Keys: found})
		if !again(err) {
			return v, err
		}
	}
	return nil, raced()
}

func (s *Session) readPatch(t plan.Type, operations PatchBody) (patch.Patch, error) {
	if err := s.mayChange(t); err != nil {
		return nil, err
	}
	if most := cmp.Or(s.Rules.MaxResource, MaxResource); len(operations.Body) > most {
		return nil, fault.New(fault.TooLarge, "interaction.readPatch", "the patch is larger than %d bytes", most)
	}
	if !operations.FHIRPath {
		return patch.Parse(operations.Body)
	}
	doc, err := parseParameters(operations.Body)
	if err != nil {
		return nil, err
	}
	return patch.ParseFHIRPath(doc.Root())
}

// patchOne is one attempt: worth another (again) when another writer came first.
func (s *Session) patchOne(ctx context.Context, key plan.Key, p patch.Patch, match Match, conditions ...store.Condition) (*Version, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	old, err := s.patchable(ctx, view, key, match)
	if err != nil {
		return nil, err
	}
	doc, err := s.patched(old, p)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	conditions = append(conditions, store.Condition{Kind: store.AtVersion, Version: old.Number})
	op, issues, err := s.put(ctx, key, doc, tagPatch, conditions...)
	if err != nil {
		return nil, placeless(err)
	}
	guard, err := s.hold(ctx, view, s.draft(op, doc.Root()), search.Update, nil)
	if err != nil {
		return nil, err
	}
	return s.commitHeld(ctx, op, issues, guard)
}

// patchable reads what a patch applies to and holds it against If-Match.
func (s *Session) patchable(ctx context.Context, view store.View, key plan.Key, match Match) (*Version, error) {
	old, err := s.readIn(ctx, view, key)
	if err != nil {
		return nil, err
	}
	if match.Absent || match.Version > 0 && match.Version != old.Number {
		return nil, matchFault(&store.Unmet{Current: old.Number})
	}
	return old, nil
}

// patched applies a patch; what the server sets stays as it was.
func (s *Session) patched(old *Version, p patch.Patch) (*fhir.Document, error) {
	before, err := fhir.Parse(old.Resource())
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.patched", err)
	}
	defer before.Release()
	after, err := p.Apply(before)
	if err != nil {
		return nil, err
	}
	doc, err := s.parse(after, old.Type)
	if err == nil {
		err = checkID(doc, old.ID)
	}
	if err != nil {
		f := *fault.From(err)
		if f.Kind == fault.Invalid {
			f.Kind = fault.Unprocessable // the patch is well formed, its result is not
		}
		return nil, &f
	}
	return doc, nil
}

// entryPatch takes the operations out of a bundle's PATCH entry: a Parameters
// with a FHIRPath Patch, or a Binary with the base64 of a JSON Patch (R4
// http.html#patch); wrong says what else it is.
func entryPatch(resource fhir.Node) (operations PatchBody, wrong string) {
	switch resource.ResourceType() {
	case "Parameters":
		return PatchBody{Body: resource.Raw(), FHIRPath: true}, ""
	case "Binary":
	default:
		return operations, "a PATCH entry holds a Parameters with a FHIRPath Patch or a Binary with a JSON Patch"
	}
	if !resource.Get("contentType").Is(JSONPatchType) {
		return operations, "its contentType is not " + JSONPatchType
	}
	raw, err := base64.StdEncoding.DecodeString(resource.Get("data").Text())
	if err != nil {
		return operations, "its data is not base64"
	}
	return PatchBody{Body: raw}, ""
}
