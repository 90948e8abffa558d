package export

import (
	"context"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// latest leaves, of Provenance resources that are there for what they are about
// (includeAssociatedData=LatestProvenanceResources), those of which no later
// version is about the same resource.
func (r *run) latest(ctx context.Context, records []store.Record) ([]store.Record, error) {
	if !r.req.Latest || slices.Contains(r.req.Types, provenance) {
		return records, nil
	}
	t, _ := r.Registry.Type(provenance)
	target, ok := r.Registry.Param(t, "target")
	if !ok || len(records) == 0 || records[0].Key.Type != t {
		return records, nil
	}
	view, err := r.Store.View(ctx, r.req.Moment)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	var kept []store.Record
	for _, rec := range records {
		is, err := r.isLatest(ctx, view, rec, target)
		if err != nil {
			return nil, err
		}
		if is {
			kept = append(kept, rec)
		}
	}
	return kept, nil
}

// provenance is the type of the resources that tell where others come from.
const provenance = "Provenance"

// isLatest reports whether a Provenance is the newest about one of its targets
// that are exported.
func (r *run) isLatest(ctx context.Context, view store.View, rec store.Record, target *search.Param) (bool, error) {
	doc, err := fhir.Parse(fhir.AppendResource(nil, rec.Body, rec.Key.ID, rec.Version, rec.Updated))
	if err != nil {
		return false, fault.Wrap(fault.Internal, "export.isLatest", err)
	}
	defer doc.Release()
	for ref := range fhir.References(doc.Root().Get("target")) {
		key, arm, ok := r.exportedTarget(ref.Text())
		if !ok {
			continue
		}
		about := search.PointingTo(r.Store.HashKey(), []*search.Param{target}, []plan.Key{key})
		newest, err := view.Search(ctx, &plan.Plan{Arms: []plan.Arm{{Type: rec.Key.Type, Where: about}}, Limit: 1})
		if err != nil {
			return false, err
		}
		if len(newest.Records) == 0 || newest.Records[0].Key != rec.Key {
			continue
		}
		arm.Where = search.Simplify(plan.And{arm.Where, plan.IDs{IDs: []string{key.ID}}})
		if n, err := view.Count(ctx, &plan.Plan{Arms: []plan.Arm{arm}}); err != nil || n > 0 {
			return n > 0, err
		}
	}
	return false, nil
}

// exportedTarget reads a reference to a resource of an exported type, with that
// type's condition.
func (r *run) exportedTarget(reference string) (plan.Key, plan.Arm, bool) {
	ref := fhir.ParseReference(reference)
	if ref.Type == provenance || ref.Form == fhir.Absolute && ref.Base != r.Base {
		return plan.Key{}, plan.Arm{}, false
	}
	for _, arm := range r.arms {
		if r.Registry.Name(arm.Type) == ref.Type {
			return plan.Key{Type: arm.Type, ID: ref.ID}, arm, true
		}
	}
	return plan.Key{}, plan.Arm{}, false
}
