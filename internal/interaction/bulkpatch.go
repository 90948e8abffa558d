package interaction

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/patch"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// maxPatchIDs is how many resources a $bulk-patch may name (devguide,
// "$bulk-patch").
const maxPatchIDs = 50_000

// patchRequest is the body of $bulk-patch, HealthLake's own JSON. Persisted.
type patchRequest struct {
	ResourceType    string          `json:"resourceType"`
	ResourceIDs     []string        `json:"resourceIds,omitempty"`
	Operations      json.RawMessage `json:"operations"`
	ClientToken     string          `json:"clientToken,omitempty"`
	ValidationLevel string          `json:"validationLevel,omitempty"`
}

// bulkPatch starts one patch of many resources (devguide, "$bulk-patch"): those
// of now; what is changed before its turn comes is skipped. The same clientToken
// gives the job that it began.
func bulkPatch(ctx context.Context, s *Session, req OperationRequest) (*Started, error) {
	const op = "interaction.bulkPatch"
	if len(req.Pairs) > 0 {
		return nil, invalidPair(req.Pairs[0], "$bulk-patch takes its parameters from the body")
	}
	in, t, err := s.readBulkPatch(req.Body)
	if err != nil {
		return nil, err
	}
	for _, access := range []search.Access{search.Update, search.Search | search.Read} {
		if err := s.wholly(op, t, access); err != nil {
			return nil, err
		}
	}
	id, err := s.newJobID()
	if err != nil {
		return nil, err
	}
	if in.ClientToken != "" {
		sum := sha256.Sum256([]byte("$bulk-patch\x00" + in.ClientToken))
		id = hex.EncodeToString(sum[:16])
	}
	kept, err := s.submitPatch(ctx, id, in, t)
	if err != nil {
		return nil, err
	}
	return s.startedBulk("$bulk-patch", id, kept)
}

func (s *Session) submitPatch(ctx context.Context, id string, in *patchRequest, t plan.Type) (*bulkJob, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	j := bulkJob{Kind: BulkPatch, Type: in.ResourceType, Moment: view.Moment()}
	j.Count.Expected = int64(len(in.ResourceIDs))
	if in.ResourceIDs == nil {
		j.Count.Expected, err = view.Count(ctx, &plan.Plan{Arms: []plan.Arm{{Type: t}}})
	}
	if err = keep(err, view.Close()); err != nil {
		return nil, err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.submitPatch", err)
	}
	return s.submitBulk(ctx, id, j, store.Op{Kind: store.Put, Key: plan.Key{Type: TypeBulkPatch, ID: id}, Body: body})
}

// readBulkPatch reads and checks all that can be wrong before a resource is
// looked at. Ids are without their type from here on.
func (s *Session) readBulkPatch(body []byte) (*patchRequest, plan.Type, error) {
	const op = "interaction.readBulkPatch"
	in := new(patchRequest)
	if err := jsonv2.Unmarshal(body, in); err != nil {
		return nil, 0, &fault.Error{Kind: fault.Invalid, Op: op, Detail: "the body is not the JSON object of $bulk-patch", Cause: err,
			Hint: "it has resourceType, operations and, if wanted, resourceIds, clientToken, validationLevel"}
	}
	if in.ResourceType == "" {
		return nil, 0, &fault.Error{Kind: fault.Invalid, Op: op, Subject: "resourceType", Detail: "it is missing"}
	}
	t, err := s.typ(in.ResourceType)
	if err != nil {
		return nil, 0, err
	}
	if len(in.ResourceIDs) > maxPatchIDs {
		return nil, 0, fault.New(fault.TooCostly, op, "more than %d resourceIds", maxPatchIDs)
	}
	if in.ResourceIDs != nil && len(in.ResourceIDs) == 0 {
		return nil, 0, &fault.Error{Kind: fault.Invalid, Op: op, Subject: "resourceIds", Detail: "it is empty", Hint: "leave it out for all resources of the type"}
	}
	seen := map[string]bool{}
	for i, id := range in.ResourceIDs {
		id = strings.TrimPrefix(id, in.ResourceType+"/")
		if !fhir.ValidID(id) || seen[id] {
			return nil, 0, &fault.Error{Kind: fault.Invalid, Op: op, Subject: "resourceIds", Detail: cutText(in.ResourceIDs[i]) + " is no id of the type, or stands there twice"}
		}
		in.ResourceIDs[i], seen[id] = id, true
	}
	if in.ValidationLevel != "" {
		if _, err := validate.ParseLevel(in.ValidationLevel); err != nil {
			return nil, 0, err
		}
	}
	_, err = s.readPatch(t, in.patch())
	return in, t, err
}

// patch is the patch in the request: an array is a JSON Patch, an object a
// Parameters with a FHIRPath Patch.
func (in *patchRequest) patch() PatchBody {
	text := strings.TrimSpace(string(in.Operations))
	return PatchBody{Body: []byte(text), FHIRPath: strings.HasPrefix(text, "{")}
}

// patching is what a $bulk-patch does to each resource.
type patching struct {
	*Session
	in    *patchRequest
	t     plan.Type
	patch patch.Patch
}

func (r *bulkRun) patching(ctx context.Context) (*patching, error) {
	view, err := r.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	rec, err := view.Get(ctx, plan.Key{Type: TypeBulkPatch, ID: r.key.ID})
	if err != nil {
		return nil, fault.New(fault.Internal, "interaction.patching", "the patch of job %s: %v", r.key.ID, err)
	}
	in := new(patchRequest)
	if err := json.Unmarshal(rec.Body, in); err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.patching", err)
	}
	p := &patching{Session: r.Session, in: in}
	if in.ValidationLevel != "" {
		level, err := validate.ParseLevel(in.ValidationLevel)
		if err != nil {
			return nil, err
		}
		patched := *r.Session
		patched.Level = level
		p.Session = &patched
	}
	if p.t, err = r.typ(in.ResourceType); err != nil {
		return nil, err
	}
	p.patch, err = r.readPatch(p.t, in.patch())
	return p, err
}

// patchStep patches a page of the resources.
func (r *bulkRun) patchStep(ctx context.Context) error {
	p, err := r.patching(ctx)
	if err != nil {
		return err
	}
	view, err := r.Store.View(ctx, r.job.Moment)
	if err != nil {
		return err
	}
	defer view.Close()
	var found []store.Record
	if p.in.ResourceIDs == nil {
		page, err := view.Search(ctx, &plan.Plan{Arms: []plan.Arm{{Type: p.t}}, After: r.job.After, Limit: bulkPage})
		if err != nil {
			return err
		}
		found, r.job.After, r.job.Over = page.Records, page.Next, page.Next == nil
	} else if found, err = r.named(ctx, view, p); err != nil {
		return err
	}
	ops, err := r.patchAll(ctx, p, found)
	if err != nil {
		return err
	}
	return r.commitPatches(ctx, ops)
}

// named reads the next of the resources that the request names.
func (r *bulkRun) named(ctx context.Context, view store.View, p *patching) ([]store.Record, error) {
	ids := p.in.ResourceIDs[r.job.At:]
	ids = ids[:min(len(ids), bulkPage)]
	r.job.At += len(ids)
	r.job.Over = r.job.At == len(p.in.ResourceIDs)
	var found []store.Record
	for _, id := range ids {
		key := plan.Key{Type: p.t, ID: id}
		rec, err := view.Get(ctx, key)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if err != nil || rec.Deleted {
			r.job.Count.Failed++
			r.miss(&r.job.FailedOnes, key, "no such resource")
			continue
		}
		found = append(found, rec)
	}
	return found, nil
}

// patchAll makes the ops for the resources that the patch fits.
func (r *bulkRun) patchAll(ctx context.Context, p *patching, found []store.Record) ([]store.Op, error) {
	var ops []store.Op
	for _, rec := range found {
		op, err := p.one(ctx, rec)
		if err == nil {
			ops = append(ops, op)
			continue
		}
		f := fault.From(err)
		switch {
		case ctx.Err() != nil || passing(err):
			return nil, err
		case f.Kind == fault.Internal:
			r.job.Count.Broken++
		default:
			r.job.Count.Failed++
		}
		r.miss(&r.job.FailedOnes, rec.Key, missMessage(f))
	}
	return ops, nil
}

// missMessage is what is told of a resource that a patch does not fit.
func missMessage(f *fault.Error) string {
	if f.Kind == fault.Internal {
		return f.Kind.Row().Sentence
	}
	if len(f.Place) > 0 {
		return f.Place[0].Expression + ": " + f.Place[0].Detail
	}
	return f.Message()
}

func (p *patching) one(ctx context.Context, rec store.Record) (store.Op, error) {
	doc, err := p.patched(p.version(rec), p.patch)
	if err != nil {
		return store.Op{}, err
	}
	defer doc.Release()
	op, _, err := p.put(ctx, rec.Key, doc, tagPatch, store.Condition{Kind: store.AtVersion, Version: rec.Version})
	if err != nil {
		return op, placeless(err)
	}
	return op, nil
}

// commitPatches commits a page, without the resources that others changed.
func (r *bulkRun) commitPatches(ctx context.Context, ops []store.Op) error {
	done := r.job.Count.Done
	for {
		r.job.Count.Done = done + int64(len(ops))
		err := r.commit(ctx, ops)
		failed, no := unmet(err)
		if !no {
			return err
		}
		r.job.Count.Skipped++
		r.miss(&r.job.SkippedOnes, ops[failed.Op-1].Key, changedSince)
		ops = append(ops[:failed.Op-1:failed.Op-1], ops[failed.Op:]...)
	}
}
