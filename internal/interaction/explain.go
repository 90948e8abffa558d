package interaction

import (
	"context"
	"fmt"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// explained is the outcome that _explain=true adds to a searchset: what was
// understood, without values, and how the engine carries it out. A caller with a
// bounded grant is told of each parameter how many it finds of what the grant
// shows, and nothing of the engine: its estimates, its choices and its work tell
// of resources that the grant hides.
func (s *Session) explained(ctx context.Context, view store.View, q *search.Query, p *plan.Plan) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "understood %s\n", q.Shape(s.Registry))
	explainer, can := view.(store.Explainer)
	var err error
	if can && s.Grant.Unbounded() {
		err = s.explainPlan(ctx, explainer, p, &b)
	} else {
		err = s.explainParts(ctx, view, q, p, &b)
	}
	if err != nil {
		return nil, err
	}
	return fhir.AppendOutcome(nil, fhir.OutcomeIssue{Severity: "information", Code: "informational", Diagnostics: b.String()}), nil
}

func (s *Session) explainPlan(ctx context.Context, explainer store.Explainer, p *plan.Plan, b *strings.Builder) error {
	told, err := explainer.Explain(ctx, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "order: %s\n", told.Order)
	w := explanation{b, s.Registry}
	w.arms(told.Arms, 0)
	fmt.Fprintf(b, "true %s, rows looked at %d\n", count(told.Matches), told.Looked)
	return nil
}

func (s *Session) explainParts(ctx context.Context, view store.View, q *search.Query, p *plan.Plan, b *strings.Builder) error {
	parts, err := q.Parts(s.env(ctx, view))
	if err != nil {
		return err
	}
	for _, part := range append(parts, search.Part{Shape: "all together", Arms: p.Arms}) {
		n, err := view.Count(ctx, &plan.Plan{Arms: part.Arms, Work: s.Limits.rows()})
		if fault.Is(err, fault.TooCostly) {
			n, err = store.Unknown, nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "  %s: true %s\n", part.Shape, count(n))
	}
	return nil
}

// explanation writes what an engine tells, a line for each condition.
type explanation struct {
	*strings.Builder
	registry search.Registry
}

// maxExplained bounds the alternatives of one condition that are written out.
const maxExplained = 20

func (w explanation) arms(arms []store.ExplainedArm, depth int) {
	for i, arm := range arms {
		if i == maxExplained {
			fmt.Fprintf(w.Builder, "%sand %d types more\n", indent(depth), len(arms)-i)
			return
		}
		fmt.Fprintf(w.Builder, "%s%s: estimated %s, true %s\n", indent(depth), w.registry.Name(arm.Type), estimate(arm.AtMost), count(arm.Matches))
		w.condition(arm.Where, search.NameColumns(w.registry, arm.Type), depth+1)
	}
}

func (w explanation) condition(c store.Explained, names search.Columns, depth int) {
	w.WriteString(indent(depth) + c.Is)
	if len(c.Params) > 0 {
		if c.Is == "has" { // the columns are those of the other side
			names = w.namesOf(c.To)
		}
		w.WriteString(" " + names.Of(c.Params))
	}
	if c.How != "" {
		w.WriteString(", " + c.How)
	}
	fmt.Fprintf(w.Builder, ": estimated %s, true %s", estimate(c.AtMost), count(c.Matches))
	if c.Leads {
		w.WriteString(", leads")
	}
	w.WriteByte('\n')
	for i, part := range c.Parts {
		if i == maxExplained {
			fmt.Fprintf(w.Builder, "%sand %d more\n", indent(depth+1), len(c.Parts)-i)
			break
		}
		w.condition(part, names, depth+1)
	}
	w.arms(c.To, depth+1)
}

func (w explanation) namesOf(arms []store.ExplainedArm) search.Columns {
	types := make([]plan.Type, len(arms))
	for i, arm := range arms {
		types[i] = arm.Type
	}
	return search.NameColumns(w.registry, types...)
}

func indent(depth int) string { return strings.Repeat("  ", depth) }

// estimate and count write numbers that may be unknown.
func estimate(n int64) string {
	if n == store.Unknown {
		return "any number"
	}
	return fmt.Sprintf("at most %d", n)
}

func count(n int64) string {
	if n == store.Unknown {
		return "not counted"
	}
	return fmt.Sprint(n)
}
