package interaction

import (
	"context"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Bounds of includes: how many resources one page may include, and how many
// rounds :iterate goes.
const (
	maxIncluded = 10_000
	maxRounds   = 16
)

// include finds what _include and _revinclude ask for, in the same view and
// under the same grant as the matches (R4 search.html#revinclude). A resource
// stands in the answer once.
func (s *Session) include(ctx context.Context, view store.View, q *search.Query, matches []store.Record) ([]store.Record, error) {
	if len(q.Includes) == 0 {
		return nil, nil
	}
	seen := map[plan.Key]bool{}
	for _, rec := range matches {
		seen[rec.Key] = true
	}
	var included []store.Record
	from := matches
	for round := 0; len(from) > 0 && round < maxRounds; round++ {
		var found []store.Record
		for _, inc := range q.Includes {
			if round > 0 && !inc.Iterate {
				continue
			}
			more, err := s.hop(ctx, view, inc, from, seen)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
		included = append(included, found...)
		if len(included) > maxIncluded {
			return nil, &fault.Error{Kind: fault.TooCostly, Op: "interaction.include", Subject: "_include",
				Detail: "one page would include too many resources", Hint: "ask for a smaller _count"}
		}
		from = found
	}
	return included, nil
}

func (s *Session) hop(ctx context.Context, view store.View, inc search.Include, from []store.Record, seen map[plan.Key]bool) ([]store.Record, error) {
	var arms []plan.Arm
	var err error
	if inc.Reverse {
		arms = s.reverseArms(inc, from)
	} else {
		arms, err = s.forwardArms(inc, from, seen)
	}
	if err != nil || len(arms) == 0 {
		return nil, err
	}
	page, err := view.Search(ctx, &plan.Plan{Arms: arms, Limit: maxIncluded + 1, Work: maxSearchWork})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(page.Records, func(rec store.Record) bool {
		old := seen[rec.Key]
		seen[rec.Key] = true
		return old
	}), nil
}

// forwardArms are the resources that those of from point to.
func (s *Session) forwardArms(inc search.Include, from []store.Record, seen map[plan.Key]bool) ([]plan.Arm, error) {
	ids := map[plan.Type][]string{}
	for _, rec := range from {
		if inc.Source != 0 && rec.Key.Type != inc.Source {
			continue
		}
		targets, err := s.pointsTo(rec, inc.Param)
		if err != nil {
			return nil, err
		}
		for _, key := range targets {
			if !seen[key] && (inc.Target == 0 || key.Type == inc.Target) && !slices.Contains(ids[key.Type], key.ID) {
				ids[key.Type] = append(ids[key.Type], key.ID)
			}
		}
	}
	var arms []plan.Arm
	for t, list := range ids {
		if arm, ok := s.Grant.Arm(t, plan.IDs{IDs: list}); ok {
			arms = append(arms, arm)
		}
	}
	return arms, nil
}

// pointsTo lists the resources of this store that a parameter of a resource
// refers to; without a parameter, every reference in it.
func (s *Session) pointsTo(rec store.Record, p *search.Param) ([]plan.Key, error) {
	doc, err := fhir.Parse(fhir.StoredJSON(rec.Body))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.pointsTo", err)
	}
	defer doc.Release()
	if p != nil {
		return s.Extractor.Targets(rec.Key.Type, p, doc.Root()), nil
	}
	var keys []plan.Key
	for node := range fhir.References(doc.Root()) {
		if key, ok := s.local(fhir.ParseReference(node.Text())); ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// local is the resource of this store that a reference names.
func (s *Session) local(ref fhir.Reference) (plan.Key, bool) {
	if ref.Form != fhir.Relative && (ref.Form != fhir.Absolute || ref.Base != s.Base) {
		return plan.Key{}, false
	}
	t, ok := s.Registry.Type(ref.Type)
	return plan.Key{Type: t, ID: ref.ID}, ok
}

// reverseArms are the resources that point to those of from.
func (s *Session) reverseArms(inc search.Include, from []store.Record) []plan.Arm {
	var arms []plan.Arm
	for _, t := range s.Registry.Types() {
		if inc.Source != 0 && t != inc.Source {
			continue
		}
		var any plan.Or
		for _, param := range s.references(t, inc.Param) {
			for _, rec := range from {
				if inc.Target == 0 || rec.Key.Type == inc.Target {
					self := s.Store.HashKey().Self(rec.Key)
					any = append(any, plan.Term{Param: param.At(search.Main), Value: self[:]})
				}
			}
		}
		if len(any) == 0 {
			continue
		}
		if arm, ok := s.Grant.Arm(t, any); ok {
			arms = append(arms, arm)
		}
	}
	return arms
}

// references is the one parameter, or every reference parameter of the type.
func (s *Session) references(t plan.Type, one *search.Param) []*search.Param {
	if one != nil {
		return []*search.Param{one}
	}
	var all []*search.Param
	for _, code := range s.Registry.Codes(t) {
		if p, ok := s.Registry.Param(t, code); ok && p.Kind == search.KindReference {
			all = append(all, p)
		}
	}
	return all
}
