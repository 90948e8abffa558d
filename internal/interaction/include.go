package interaction

import (
	"context"
	"slices"
	"strings"

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

// hop runs one include over the resources of one round.
func (s *Session) hop(ctx context.Context, view store.View, inc search.Include, from []store.Record, seen map[plan.Key]bool) ([]store.Record, error) {
	ask := s.forwardPlans
	if inc.Reverse {
		ask = s.reversePlans
	}
	plans, err := ask(inc, from, seen)
	if err != nil {
		return nil, err
	}
	var found []store.Record
	for _, p := range plans {
		p.Limit, p.Work = maxIncluded+1, s.Limits.rows()
		page, err := view.Search(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, rec := range page.Records {
			if !seen[rec.Key] {
				seen[rec.Key] = true
				found = append(found, rec)
			}
		}
	}
	return found, nil
}

// forwardPlans ask for the resources that those of from point to: by id, and for
// canonicals by url.
func (s *Session) forwardPlans(inc search.Include, from []store.Record, seen map[plan.Key]bool) ([]*plan.Plan, error) {
	ids, urls := map[plan.Key]bool{}, map[string]bool{}
	for _, rec := range from {
		if inc.Source != 0 && rec.Key.Type != inc.Source {
			continue
		}
		keys, canonicals, err := s.pointsTo(rec, inc.Param)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if !seen[key] && (inc.Target == 0 || key.Type == inc.Target) {
				ids[key] = true
			}
		}
		for _, url := range canonicals {
			urls[url] = true
		}
	}
	plans := s.byIDs(ids)
	more, err := s.byURLs(inc, urls)
	return append(plans, more...), err
}

// byIDs is one plan for all of these keys, narrowed by the grant.
func (s *Session) byIDs(keys map[plan.Key]bool) []*plan.Plan {
	ids := map[plan.Type][]string{}
	for key := range keys {
		ids[key.Type] = append(ids[key.Type], key.ID)
	}
	p := &plan.Plan{}
	for t, list := range ids {
		slices.Sort(list)
		if arm, ok := s.Grant.Arm(t, plan.IDs{IDs: list}); ok {
			p.Arms = append(p.Arms, arm)
		}
	}
	if len(p.Arms) == 0 {
		return nil
	}
	slices.SortFunc(p.Arms, func(a, b plan.Arm) int { return int(a.Type) - int(b.Type) })
	return []*plan.Plan{p}
}

// byURLs are the plans for what canonicals name: conformance resources that have
// a url parameter, of the types the parameter may point to.
func (s *Session) byURLs(inc search.Include, urls map[string]bool) ([]*plan.Plan, error) {
	if len(urls) == 0 {
		return nil, nil
	}
	var plans []*plan.Plan
	for _, t := range s.canonicalTargets(inc) {
		values := make([]string, 0, len(urls))
		for url := range urls {
			values = append(values, searchEscape.Replace(url))
		}
		slices.Sort(values)
		q, err := search.Parse(s.Registry, []plan.Type{t}, []search.Pair{{Name: "url", Value: strings.Join(values, ",")}}, search.Options{Base: s.Base + "/"})
		if err != nil {
			return nil, err
		}
		p, err := q.Compile(s.plainEnv())
		if err != nil {
			return nil, err
		}
		p.Total = plan.TotalNone
		plans = append(plans, p)
	}
	return plans, nil
}

// searchEscape protects what separates values (R4 search.html#escaping).
var searchEscape = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `$`, `\$`, `|`, `\|`)

// canonicalTargets are the types with a url that an include may reach.
func (s *Session) canonicalTargets(inc search.Include) []plan.Type {
	targets := s.Registry.Types()
	switch {
	case inc.Target != 0:
		targets = []plan.Type{inc.Target}
	case inc.Param != nil && len(inc.Param.Targets) > 0:
		targets = inc.Param.Targets
	}
	var with []plan.Type
	for _, t := range targets {
		if p, ok := s.Registry.Param(t, "url"); ok && p.Kind == search.KindURI {
			with = append(with, t)
		}
	}
	return with
}

// pointsTo lists what a parameter of a resource refers to, without a parameter
// what every reference parameter does: resources of this store, and canonicals.
func (s *Session) pointsTo(rec store.Record, p *search.Param) ([]plan.Key, []string, error) {
	doc, err := fhir.ParseStored(fhir.StoredJSON(rec.Body))
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, "interaction.pointsTo", err)
	}
	defer doc.Release()
	t, root := rec.Key.Type, doc.Root()
	return s.Extractor.Targets(t, p, root), s.Extractor.Canonicals(t, p, root), nil
}

// reversePlans ask for the resources that point to those of from.
func (s *Session) reversePlans(inc search.Include, from []store.Record, _ map[plan.Key]bool) ([]*plan.Plan, error) {
	arms := s.reverseArms(inc, from)
	if len(arms) == 0 {
		return nil, nil
	}
	return []*plan.Plan{{Arms: arms}}, nil
}

// reverseArms are the resources that point to those of from.
func (s *Session) reverseArms(inc search.Include, from []store.Record) []plan.Arm {
	var arms []plan.Arm
	for _, t := range s.Registry.Types() {
		if inc.Source != 0 && t != inc.Source {
			continue
		}
		var keys []plan.Key
		for _, rec := range from {
			if inc.Target == 0 || rec.Key.Type == inc.Target {
				keys = append(keys, rec.Key)
			}
		}
		params := s.references(t, inc.Param)
		if len(keys) == 0 || len(params) == 0 {
			continue
		}
		if arm, ok := s.Grant.Arm(t, search.PointingTo(s.Store.HashKey(), params, keys)); ok {
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
