package search

import (
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Entries hold milliseconds. Of a search with more digits they decide all but those
// resources that begin or end in the very millisecond; of these the body does, where
// the digits stand.

// date compares with a date, exactly.
func (c *compiler) date(p *Param, v DateValue) plan.Node {
	bodies := c.env.Bodies
	if v.Exact == nil || v.Prefix == Ap || bodies == nil {
		return onAll(v.spans(c.env.Now), p.At(Main), p.At(End), nil)
	}
	certain, open := v.fineSpans()
	node := onAll(certain, p.At(Main), p.At(End), nil)
	if len(open) == 0 {
		return node
	}
	return append(node, plan.And{onAll(open, p.At(Main), p.At(End), nil), plan.Test{Name: p.Code + " beyond milliseconds", Holds: func(key plan.Key, body []byte) bool {
		return slices.ContainsFunc(bodies.Dates(key, body, p), v.meets)
	}}})
}

// fineSpans are, of a value within one millisecond, the entries that surely meet
// it, and those of which the digits behind the millisecond decide. In terms of
// spans' sheet, with pl and ph inside of the millisecond m: what begins before or
// behind m, or ends so, is decided.
func (v DateValue) fineSpans() (certain, open []span) {
	m, next := instant(v.Low), instant(v.High)
	whole := DateValue{Prefix: v.Prefix, Interval: v.Interval}
	begins := span{low: m, high: next}
	same := span{low: m, high: next, tailLow: next, tailHigh: after(next)}
	ends := []span{{low: back(v.High), tailLow: next, tailHigh: after(next)}, {end: true, low: next, high: after(next)}}
	atStart := v.Exact.Low.Beyond == 0 // nothing in m begins before the value
	switch v.Prefix {
	case Gt, Ge:
		whole.Prefix, open = Gt, ends
	case Lt:
		if !atStart {
			open = []span{begins}
		}
	case Le:
		if whole.Prefix, open = Lt, []span{begins}; atStart {
			open = []span{same}
		}
	case Sa:
		open = []span{begins}
	case Eb:
		if !atStart {
			open = ends
		}
	case Ne:
		open = []span{same}
	case Overlaps:
		return nil, whole.spans(time.Time{})
	default:
		return nil, []span{same}
	}
	return whole.spans(time.Time{}), open
}

// meets is spans' sheet for a stretch with all its digits.
func (v DateValue) meets(is Stretch) bool {
	pl, ph := v.Exact.Low, v.Exact.High
	contained := !is.Low.Before(pl) && !ph.Before(is.High)
	above, below := ph.Before(is.High), is.Low.Before(pl)
	switch v.Prefix {
	case Ne:
		return !contained
	case Gt:
		return above
	case Lt:
		return below
	case Ge:
		return above || !below
	case Le:
		return below || contained
	case Sa:
		return !is.Low.Before(ph)
	case Eb:
		return !pl.Before(is.High)
	case Overlaps:
		return is.Low.Before(ph) && pl.Before(is.High)
	}
	return contained
}
