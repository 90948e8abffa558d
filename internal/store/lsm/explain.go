package lsm

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Explain implements store.Explainer: it arranges the plan as a search would,
// counts each condition on its own, and carries the search out once. Each of
// these may look at as many rows as the plan allows; a condition that has more
// stays uncounted.
func (v *View) Explain(ctx context.Context, p *plan.Plan) (store.Explanation, error) {
	const op = "lsm.Explain"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return store.Explanation{}, err
	}
	defer leave()
	if err := store.CheckPlan(op, p); err != nil {
		return store.Explanation{}, err
	}
	told, err := v.explain(ctx, p)
	return told, fault.Wrap(fault.Internal, op, err)
}

func (r *reader) explain(ctx context.Context, p *plan.Plan) (store.Explanation, error) {
	q := newQuery(ctx, r, p.Work)
	q.nodes = map[cond]plan.Node{}
	e := &explainer{ctx: ctx, r: r, q: q}
	told := store.Explanation{Order: orderNames[orderOf(p.Sort)]}
	a, err := q.arms(p.Arms)
	if err == nil {
		told.Arms, err = e.arms(a)
	}
	if err = q.close(err); err != nil {
		return told, err
	}
	for _, one := range told.Arms {
		if told.Matches != store.Unknown {
			told.Matches += one.Matches
		}
		if one.Matches == store.Unknown {
			told.Matches = store.Unknown
		}
	}
	carried := newQuery(ctx, r, p.Work)
	_, err = carried.search(p, true)
	told.Looked = carried.looked
	return told, carried.close(err)
}

var orderNames = map[order]string{
	newestFirst: "newest first, until the page is full",
	oldestFirst: "oldest first",
	sorted:      "all matches, then by their sort keys",
}

// explainer makes an Explanation of a query that is ready to be asked.
type explainer struct {
	ctx context.Context
	r   *reader
	q   *query
}

func (e *explainer) arms(a *arms) ([]store.ExplainedArm, error) {
	told := make([]store.ExplainedArm, len(a.list))
	for i, one := range a.list {
		if err := one.settle(); err != nil {
			return nil, err
		}
		n, err := one.bound()
		if err != nil {
			return nil, err
		}
		told[i] = store.ExplainedArm{Type: one.typ, AtMost: n}
		if told[i].Matches, err = e.count(one.typ, one.node); err != nil {
			return nil, err
		}
		if told[i].Where, err = e.cond(one.typ, one.where); err != nil {
			return nil, err
		}
	}
	return told, nil
}

// count counts the resources of a type that meet a condition alone.
func (e *explainer) count(t plan.Type, where plan.Node) (int64, error) {
	q := newQuery(e.ctx, e.r, e.q.work)
	n, err := q.count([]plan.Arm{{Type: t, Where: where}})
	if err = q.close(err); fault.Is(err, fault.TooCostly) {
		return store.Unknown, nil
	}
	return n, err
}

func (e *explainer) cond(t plan.Type, c cond) (store.Explained, error) {
	node := e.q.nodes[c]
	told := store.Explained{AtMost: store.Unknown, Params: paramsOf(node)}
	n, err := c.bound()
	if err != nil {
		return told, err
	}
	if n < many {
		told.AtMost = n
	}
	if told.Matches, err = e.count(t, node); err != nil {
		return told, err
	}
	var parts []cond
	told.Is, told.How, parts = describe(c, node)
	_, conjunction := c.(*all)
	for i, part := range parts {
		inner, err := e.cond(t, part)
		if err != nil {
			return told, err
		}
		inner.Leads = conjunction && i == 0
		told.Parts = append(told.Parts, inner)
	}
	if j, ok := c.(*join); ok {
		told.To, err = e.arms(j.other)
	}
	return told, err
}

func paramsOf(node plan.Node) []plan.Param {
	switch n := node.(type) {
	case plan.Term:
		return []plan.Param{n.Param}
	case plan.Range:
		return []plan.Param{n.Param}
	case plan.Contains:
		return []plan.Param{n.Param}
	case plan.Chain:
		return n.Params
	case plan.Has:
		return n.Params
	}
	return nil
}

// describe names a condition and how it is carried out.
func describe(c cond, node plan.Node) (is, how string, parts []cond) {
	switch c := c.(type) {
	case *scan:
		how = "through the index"
		if c.rows != nil {
			how = "row by row"
		}
		if _, ok := node.(plan.Contains); ok {
			return "contains", how, nil
		}
		return "range", how, nil
	case *join:
		how = "from the other end"
		if c.rows != nil && !c.gathered || c.rowwise {
			how = "row by row"
		}
		if _, ok := node.(plan.Has); ok {
			return "has", how, nil
		}
		return "chain", how, nil
	case *negation:
		return "not", "", []cond{c.of}
	case *all:
		if _, ok := node.(plan.Created); ok {
			return "created", "row by row", nil
		}
		return "all of", "", c.parts
	case *anyOf:
		return "any of", "", c.parts
	case *term:
		return "term", "", nil
	case *byBody:
		if n, ok := node.(plan.Test); ok {
			return n.Name, "row by row, of its body", nil
		}
		return "test", "row by row", nil
	case *span:
		return "updated", "", nil
	case *listed:
		if _, ok := node.(plan.IDs); ok {
			return "ids", "", nil
		}
		return "nothing", "", nil
	}
	return "everything", "", nil
}
