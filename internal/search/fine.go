package search

import (
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Entries hold milliseconds. Of a search with more digits they decide all but those
// resources that begin or end in the very millisecond; of these the body does, where
// the digits stand.

// fine reports a value with more digits than entries have.
func (v DateValue) fine() bool { return v.Exact != nil && v.Prefix != Ap }

// date compares with a date, exactly.
func (c *compiler) date(p *Param, v DateValue) plan.Node {
	switch {
	case v.fine() && c.whole():
		return onAll(v.exactSpans(), p.At(Exact), p.At(Exact), nil)
	case !v.fine() || c.env.Bodies == nil:
		return onAll(v.spans(c.env.Now), p.At(Main), p.At(End), nil)
	}
	certain, open := v.fineSpans()
	node := onAll(certain, p.At(Main), p.At(End), nil)
	if len(open) == 0 {
		return node
	}
	return append(node, plan.And{onAll(open, p.At(Main), p.At(End), nil),
		c.testBody(p.Code+" beyond milliseconds", Simplify(c.onBodies().date(p, v)))})
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

// exactSpans is spans' sheet over entries with all digits, which have no ends.
func (v DateValue) exactSpans() []span {
	pl, ph := moment(v.Exact.Low), moment(v.Exact.High)
	spans := []span{{low: pl, high: ph, tailHigh: after(ph)}}
	switch v.Prefix {
	case Ne:
		spans = []span{{high: pl}, {low: pl, tailLow: after(ph)}}
	case Gt:
		spans = []span{{tailLow: after(ph)}}
	case Lt:
		spans = []span{{high: pl}}
	case Ge:
		spans = []span{{low: pl}, {high: pl, tailLow: after(ph)}}
	case Le:
		spans = []span{{high: pl}, {low: pl, high: ph, tailHigh: after(ph)}}
	case Sa:
		spans = []span{{low: ph}}
	case Eb:
		spans = []span{{high: pl, tailHigh: after(pl)}}
	case Overlaps:
		spans = []span{{high: ph, tailLow: after(pl)}}
	}
	for i := range spans {
		spans[i].exact = true
	}
	return spans
}

// roughly is a value of whole milliseconds that whatever meets v meets too.
func (v DateValue) roughly() DateValue {
	within := v.Interval // the millisecond
	before, behind := Interval{Low: within.Low - 1, High: within.Low}, Interval{Low: within.High, High: within.High + 1}
	switch v.Prefix {
	case Gt, Ge:
		return DateValue{Prefix: Gt, Interval: before}
	case Lt, Le:
		return DateValue{Prefix: Lt, Interval: behind}
	case Sa:
		return DateValue{Prefix: Sa, Interval: before}
	case Eb:
		return DateValue{Prefix: Eb, Interval: behind}
	case Ne:
		return DateValue{Prefix: Ge, Interval: Interval{Low: fhir.MinTime, High: fhir.MinTime + 1}} // any
	}
	return DateValue{Prefix: v.Prefix, Interval: within}
}
