package lsm

import (
	"context"
	"fmt"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Explain implements store.Explainer: a tree of conditions with their bounds,
// the one that leads each conjunction first, then the number of matches. Values
// are left out.
func (v *View) Explain(ctx context.Context, p *plan.Plan) (string, error) {
	const op = "lsm.Explain"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return "", err
	}
	defer leave()
	if err := store.CheckPlan(op, p); err != nil {
		return "", err
	}
	q := newQuery(ctx, &v.reader, p.Work)
	text, err := q.explain(p)
	return text, fault.Wrap(fault.Internal, op, q.close(err))
}

func (q *query) explain(p *plan.Plan) (string, error) {
	a, err := q.arms(p.Arms)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "order %c, limit %d\n", orderOf(p.Sort), p.Limit)
	for _, one := range a.list {
		if err := one.settle(); err != nil {
			return "", err
		}
		n, err := one.bound()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "type %d: at most %d\n", one.typ, n)
		if err := explainCond(&b, one.where, 1); err != nil {
			return "", err
		}
	}
	n, err := q.count(p.Arms)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "matches %d, rows looked at %d\n", n, q.looked)
	return b.String(), nil
}

func explainCond(b *strings.Builder, c cond, depth int) error {
	n, err := c.bound()
	if err != nil {
		return err
	}
	bound := fmt.Sprintf("at most %d", n)
	if n == many {
		bound = "any number"
	}
	name, parts := describe(c)
	fmt.Fprintf(b, "%s%s: %s\n", strings.Repeat("  ", depth), name, bound)
	for _, part := range parts {
		if err := explainCond(b, part, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// describe names a condition and how it is carried out.
func describe(c cond) (name string, parts []cond) {
	switch c := c.(type) {
	case *term:
		return "term", nil
	case *scan:
		if c.rows != nil {
			return "range, by row", nil
		}
		return "range, by index", nil
	case *span:
		return "rows between times", nil
	case *byRow:
		return "test by row", nil
	case *listed:
		return "list", nil
	case *join:
		if c.rows != nil || c.rowwise {
			return "join, by row", nil
		}
		return "join, from the other end", nil
	case *negation:
		return "not", []cond{c.of}
	case *all:
		return "all of", c.parts
	case *anyOf:
		return "any of", c.parts
	default:
		return "everything", nil
	}
}
