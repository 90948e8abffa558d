package memory

import (
	"context"
	"slices"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Explain implements store.Explainer. This engine looks at every resource of the
// arms' types and estimates nothing.
func (v *view) Explain(ctx context.Context, p *plan.Plan) (store.Explanation, error) {
	const op = "memory.Explain"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return store.Explanation{}, err
	}
	defer leave()
	matches, err := v.matches(op, p)
	if err != nil {
		return store.Explanation{}, err
	}
	w := v.store.data.world(v.commit)
	told := store.Explanation{Order: "all matches, then by their sort keys", Matches: int64(len(matches)), Arms: w.explainArms(p.Arms)}
	for _, c := range w.current {
		if slices.ContainsFunc(p.Arms, func(a plan.Arm) bool { return a.Type == c.Key.Type }) {
			told.Looked++
		}
	}
	return told, nil
}

func (w *World) explainArms(arms []plan.Arm) []store.ExplainedArm {
	told := make([]store.ExplainedArm, len(arms))
	for i, arm := range arms {
		told[i] = store.ExplainedArm{Type: arm.Type, AtMost: store.Unknown, Matches: w.count(arm.Type, arm.Where), Where: w.explain(arm.Type, arm.Where)}
	}
	return told
}

func (w *World) count(t plan.Type, where plan.Node) (n int64) {
	for _, c := range w.current {
		if c.Key.Type == t && w.Holds(where, c) {
			n++
		}
	}
	return n
}

func (w *World) explain(t plan.Type, node plan.Node) store.Explained {
	told := store.Explained{AtMost: store.Unknown, Matches: w.count(t, node)}
	switch n := node.(type) {
	case nil:
		told.Is = "everything"
	case plan.Term:
		told.Is, told.Params = "term", []plan.Param{n.Param}
	case plan.Range:
		told.Is, told.Params = "range", []plan.Param{n.Param}
	case plan.Contains:
		told.Is, told.Params = "contains", []plan.Param{n.Param}
	case plan.Test:
		told.Is = n.Name
	case plan.Updated:
		told.Is = "updated"
	case plan.Created:
		told.Is = "created"
	case plan.IDs:
		told.Is = "ids"
	case plan.And:
		told.Is, told.Parts = "all of", w.explainAll(t, n)
	case plan.Or:
		told.Is, told.Parts = "any of", w.explainAll(t, n)
	case plan.Not:
		told.Is, told.Parts = "not", w.explainAll(t, []plan.Node{n.Of})
	case plan.Chain:
		told.Is, told.Params, told.To = "chain", n.Params, w.explainArms(n.To)
	case plan.Has:
		told.Is, told.Params, told.To = "has", n.Params, w.explainArms(n.From)
	}
	return told
}

func (w *World) explainAll(t plan.Type, nodes []plan.Node) []store.Explained {
	told := make([]store.Explained, len(nodes))
	for i, node := range nodes {
		told[i] = w.explain(t, node)
	}
	return told
}
