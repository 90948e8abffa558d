package export

import (
	"context"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Check refuses a request that could never be carried out: unknown types,
// filters that do not parse.
func (e *Exporter) Check(ctx context.Context, req Request) error {
	_, err := e.arms(ctx, req)
	return err
}

// arms are the conditions of an export, one a type, in the order of the types'
// numbers.
func (e *Exporter) arms(_ context.Context, req Request) ([]plan.Arm, error) {
	var arms []plan.Arm
	for _, name := range req.Types {
		t, known := e.Registry.Type(name)
		if !known {
			return nil, &fault.Error{Kind: fault.Invalid, Op: "export.arms", Subject: "_type", Detail: name + " is no resource type"}
		}
		inside, ok := e.inside(req, t)
		if !ok {
			continue
		}
		where, err := e.where(req, t)
		if err != nil {
			return nil, err
		}
		arms = append(arms, plan.Arm{Type: t, Where: search.Simplify(append(plan.And{inside}, where...))})
	}
	if req.Provenance {
		arms = e.withProvenance(arms)
	}
	slices.SortFunc(arms, func(a, b plan.Arm) int { return int(a.Type) - int(b.Type) })
	return arms, nil
}

// inside is the condition to be of one of the patients that are exported; false:
// no resource of the type is.
func (e *Exporter) inside(req Request, t plan.Type) (plan.Node, bool) {
	if req.Level == System {
		return nil, true
	}
	patient, _ := e.Registry.Type("Patient")
	var who plan.Node
	if req.Owners != nil {
		who = plan.IDs{IDs: req.Owners}
	}
	switch e.Registry.Name(t) {
	case "Patient":
		return who, true
	case "Group":
		if req.Level == Group {
			return plan.IDs{IDs: []string{req.Group}}, true
		}
	}
	params, _ := e.Registry.Compartment(patient, t)
	var columns []plan.Param
	for _, p := range params {
		columns = append(columns, p.Columns(search.Main)...)
	}
	slices.Sort(columns)
	columns = slices.Compact(columns)
	if len(columns) == 0 {
		return nil, false
	}
	return plan.Chain{Params: columns, To: []plan.Arm{{Type: patient, Where: who}}}, true
}

// where is what was asked of a type besides.
func (e *Exporter) where(req Request, t plan.Type) (plan.And, error) {
	var all plan.And
	if !req.Since.IsZero() || !req.Until.IsZero() {
		all = append(all, plan.Updated{Low: req.Since, High: req.Until})
	}
	if len(req.All) > 0 {
		node, err := e.compile(req, t, req.All)
		if err != nil {
			return nil, err
		}
		all = append(all, node)
	}
	var any plan.Or
	for _, filter := range req.Filters {
		typ, query, _ := strings.Cut(filter, "?")
		if typ != e.Registry.Name(t) {
			continue
		}
		pairs, err := search.ParsePairs(query)
		if err != nil {
			return nil, err
		}
		node, err := e.compile(req, t, pairs)
		if err != nil {
			return nil, err
		}
		any = append(any, node)
	}
	if any != nil {
		all = append(all, any)
	}
	return all, nil
}

// compile is the condition of a search on one type. Chains and _has look at
// resources of exported types only, so that nothing is told of those that the
// caller may not read.
func (e *Exporter) compile(req Request, t plan.Type, pairs []search.Pair) (plan.Node, error) {
	q, err := search.Parse(e.Registry, []plan.Type{t}, pairs, search.Options{Conditional: true, Base: e.Base + "/"})
	if err != nil {
		return nil, err
	}
	grant := onlyOf(e.Registry, req.Types)
	p, err := q.Compile(search.Env{Registry: e.Registry, Key: e.Store.HashKey(), Grant: grant, Now: req.Time})
	if err != nil {
		return nil, err
	}
	if len(p.Arms) == 0 {
		return plan.Or{}, nil
	}
	return p.Arms[0].Where, nil
}

// onlyOf is a grant to search some types.
func onlyOf(reg search.Registry, names []string) *search.Grant {
	rules := map[plan.Type][]search.Rule{}
	for _, name := range names {
		if t, ok := reg.Type(name); ok {
			rules[t] = []search.Rule{{Access: search.AllAccess}}
		}
	}
	return search.NewGrant(rules)
}

// withProvenance adds the Provenance resources about what is exported
// (includeAssociatedData=RelevantProvenanceResources).
func (e *Exporter) withProvenance(arms []plan.Arm) []plan.Arm {
	t, _ := e.Registry.Type(provenance)
	target, ok := e.Registry.Param(t, "target")
	if !ok {
		return arms
	}
	var others []plan.Arm
	here := -1
	for i, arm := range arms {
		if arm.Type == t {
			here = i
			continue
		}
		others = append(others, arm)
	}
	about := plan.Chain{Params: target.Columns(search.Main), To: others}
	if here < 0 {
		return append(arms, plan.Arm{Type: t, Where: about})
	}
	if arms[here].Where != nil {
		arms[here].Where = search.Simplify(plan.Or{arms[here].Where, about})
	}
	return arms
}
