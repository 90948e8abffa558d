package interaction

import (
	"context"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// maxDocument bounds the resources of one document.
const maxDocument = 2000

// document is $document (R4 composition-operation-document.html): a Bundle with
// the Composition and everything it refers to in this store, directly and
// indirectly, as in HealthLake. persist=true stores it too, by POST only.
func document(ctx context.Context, s *Session, req OperationRequest) ([]byte, error) {
	persist, err := readPersist(req)
	if err != nil {
		return nil, err
	}
	of, err := s.key(req.Type, req.ID)
	if err != nil {
		return nil, err
	}
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	first, err := s.readIn(ctx, view, of)
	if err != nil {
		return nil, err
	}
	parts, err := s.reached(ctx, view, of, first)
	if err != nil {
		return nil, err
	}
	body, err := s.documentBundle(parts)
	if err != nil || !persist {
		return body, err
	}
	v, err := s.Create(ctx, CreateRequest{Type: "Bundle", Body: body})
	if err != nil {
		return nil, err
	}
	return v.Resource(), nil
}

func readPersist(req OperationRequest) (bool, error) {
	pairs, err := req.pairs()
	if err != nil {
		return false, err
	}
	persist := false
	for _, p := range pairs {
		switch p.Name {
		case "persist":
			persist = p.Value == "true"
			if p.Value != "true" && p.Value != "false" {
				return false, invalidPair(p, "it is true or false")
			}
		case "_format", "_pretty":
		default:
			return false, invalidPair(p, "not a parameter of $document; it takes persist")
		}
	}
	if persist && !req.Post {
		return false, &fault.Error{Kind: fault.MethodNotAllowed, Op: "interaction.document", Subject: "POST", Detail: "persist=true stores the document"}
	}
	return persist, nil
}

// reached are a resource and what its references lead to, breadth first. What
// is not there, or not for the caller, is left out.
func (s *Session) reached(ctx context.Context, view store.View, of plan.Key, first *Version) ([]*Version, error) {
	parts, seen := []*Version{first}, map[plan.Key]bool{of: true}
	for i := 0; i < len(parts); i++ {
		keys, err := s.literalTargets(parts[i])
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if seen[key] {
				continue
			}
			seen[key] = true
			rec, ok, err := s.current(ctx, view, key, search.Read)
			if err != nil {
				return nil, err
			}
			if !ok || rec.Deleted {
				continue
			}
			if len(parts) == maxDocument {
				return nil, fault.New(fault.TooCostly, "interaction.document", "the document would have more than %d resources", maxDocument)
			}
			s.touch(rec)
			parts = append(parts, s.version(rec))
		}
	}
	return parts, nil
}

// literalTargets are the resources of this store that a version refers to by
// "Type/id" or its absolute URL.
func (s *Session) literalTargets(v *Version) ([]plan.Key, error) {
	doc, err := fhir.ParseStored(v.Resource())
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.document", err)
	}
	defer doc.Release()
	var keys []plan.Key
	for node := range fhir.References(doc.Root()) {
		ref := fhir.ParseReference(node.Text())
		if ref.Form != fhir.Relative && (ref.Form != fhir.Absolute || strings.TrimSuffix(ref.Base, "/") != s.Base) {
			continue
		}
		if key, err := s.key(ref.Type, ref.ID); err == nil {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func (s *Session) documentBundle(parts []*Version) ([]byte, error) {
	id, err := s.NewID()
	if err != nil {
		return nil, err
	}
	w := fhir.NewBundle(nil, "document")
	w.Timestamp(s.Clock())
	for _, v := range parts {
		w.Entry(fhir.BundleEntry{FullURL: s.Base + "/" + v.Type + "/" + v.ID, Resource: v.Resource()})
	}
	doc, err := fhir.Parse(w.Finish())
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.document", err)
	}
	defer doc.Release()
	identifier := []byte(`{"system":"urn:ietf:rfc:3986","value":"urn:uuid:` + id + `"}`)
	return fhir.Apply(doc, []fhir.Edit{fhir.SetBefore(doc.Root().Get("type"), "identifier", identifier)}), nil
}
