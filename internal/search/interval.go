package search

import (
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// span is a range over entries of an interval: over low|high, or with end set
// over high|low. low and high bound the first eight bytes and what follows;
// tailLow and tailHigh the second eight. nil is open.
type span struct {
	end               bool
	low, high         []byte
	tailLow, tailHigh []byte
	exact             bool // ends have all digits, in twice the bytes
}

// on puts the spans on a parameter: main holds low|high, end holds high|low,
// both behind lead.
func (s span) on(main, end plan.Param, lead []byte) plan.Range {
	r := plan.Range{Param: main}
	if s.end {
		r.Param = end
	}
	r.Low, r.High = s.bounds(lead)
	if s.tailLow != nil || s.tailHigh != nil {
		r.Tail = &plan.Tail{At: len(lead) + 8, Low: s.tailLow, High: s.tailHigh}
		if s.exact {
			r.Tail.At += 8
		}
	}
	return r
}

// bounds are the span's bounds behind lead.
func (s span) bounds(lead []byte) (low, high []byte) {
	if len(lead) == 0 {
		return s.low, s.high
	}
	low = join(lead, s.low)
	if s.high == nil {
		return low, plan.Successor(lead)
	}
	return low, join(lead, s.high)
}

func join(a, b []byte) []byte { return append(append(make([]byte, 0, len(a)+len(b)), a...), b...) }

// onAll is any of the spans.
func onAll(spans []span, main, end plan.Param, lead []byte) plan.Or {
	any := make(plan.Or, len(spans))
	for i, s := range spans {
		any[i] = s.on(main, end, lead)
	}
	return any
}

// LongInterval is how long, in milliseconds, a date may be without an entry of
// its end: a day, so that only months, years and longer periods have one. What
// ends behind a moment but begins before is looked for among those that begin at
// most so much earlier, and among the ends of the longer ones. Persisted: it
// decides which entries there are.
const LongInterval = 24 * 60 * 60 * 1000

// long reports whether an interval is longer than LongInterval. The difference
// of open ends is right without sign.
func long(i Interval) bool { return uint64(i.High)-uint64(i.Low) > LongInterval }

// back is LongInterval before a moment.
func back(ms int64) []byte { return instant(max(ms, fhir.MinTime+LongInterval) - LongInterval) }

// spans says each prefix for dates, where the resource's [low, high) and the
// value's [pl, ph) are half-open (R4 3.1.1.4.5):
//
//	eq  pl ≤ low and high ≤ ph   the value's range contains the resource's
//	ne  low < pl or high > ph    it does not
//	gt  high > ph                the range above the value's overlaps
//	lt  low < pl                 the range below overlaps
//	ge  gt or eq                 = low ≥ pl or high > ph
//	le  lt or eq                 = low < pl or high ≤ ph
//	sa  low ≥ ph                 wholly above
//	eb  high ≤ pl                wholly below
//	ap  low < ph' and high > pl' the widened value's range overlaps
//	po  low < ph and high > pl   the value's range overlaps
//
// low < high and pl < ph, so that high ≤ x means low < x too.
func (v DateValue) spans(now time.Time) []span {
	pl, ph := instant(v.Low), instant(v.High)
	switch v.Prefix {
	case Ne:
		return []span{{high: pl}, {low: pl, tailLow: after(ph)}}
	case Gt:
		return []span{{low: back(v.High), tailLow: after(ph)}, {end: true, low: after(ph)}}
	case Lt:
		return []span{{high: pl}}
	case Ge:
		return []span{{low: pl}, {low: back(v.Low), high: pl, tailLow: after(ph)}, {end: true, low: after(ph), tailHigh: pl}}
	case Le:
		return []span{{high: pl}, {low: pl, high: ph, tailHigh: after(ph)}}
	case Sa:
		return []span{{low: ph}}
	case Eb:
		return []span{{high: pl, tailHigh: after(pl)}}
	case Ap:
		return overlapping(v.approximately(now))
	case Overlaps:
		return overlapping(v.Interval)
	}
	return []span{{low: pl, high: ph, tailHigh: after(ph)}}
}

// overlapping is low < i.High and high > i.Low.
func overlapping(i Interval) []span {
	low, high := after(instant(i.Low)), instant(i.High)
	return []span{{low: back(i.Low), high: high, tailLow: low}, {end: true, low: low, tailHigh: high}}
}

// spans says each prefix for numbers, where the resource's [low, high] is
// closed, mostly a point, and stands in high|low only when it is none. Only eq,
// ne and ap look at a range of the value; the others take it exactly (R4
// 3.1.1.4.6).
func (v NumberValue) spans() []span {
	at := double(v.Value)
	pl, ph := double(v.Low), double(v.High)
	switch v.Prefix {
	case Ne:
		return []span{{high: pl}, {low: ph}, {end: true, low: ph}}
	case Gt:
		return []span{{low: after(at)}, {end: true, low: after(at)}}
	case Lt:
		return []span{{high: at}}
	case Ge:
		return []span{{low: at}, {end: true, low: after(at)}}
	case Le:
		return []span{{high: after(join(at, at))}}
	case Sa:
		return []span{{low: after(at)}}
	case Eb:
		return []span{{high: at, tailHigh: at}}
	case Ap:
		al, ah := double(v.ApproxLow), after(double(v.ApproxHigh))
		return []span{{low: al, high: ah}, {end: true, low: al, tailHigh: ah}}
	}
	return []span{{low: pl, high: ph, tailHigh: ph}}
}

func instant(ms int64) []byte   { return appendInstant(nil, ms) }
func double(f float64) []byte   { return appendFloat(nil, f) }
func after(value []byte) []byte { return plan.Successor(value) }

func moment(m fhir.Moment) []byte { return appendMoment(nil, m) }

// updatedSpans says each prefix for an instant t of whole milliseconds: of a finer
// value those that lie within it.
func (v DateValue) updatedSpans(now time.Time) []Interval {
	const low, high = fhir.MinTime, fhir.MaxTime
	if v.Exact != nil && v.Exact.Low.Beyond > 0 && v.Prefix != Ap {
		v.Low = v.High // no whole millisecond does
	}
	switch v.Prefix {
	case Ne:
		return []Interval{{Low: low, High: v.Low}, {Low: v.High, High: high}}
	case Gt, Sa:
		return []Interval{{Low: v.High, High: high}}
	case Lt, Eb:
		return []Interval{{Low: low, High: v.Low}}
	case Ge:
		return []Interval{{Low: v.Low, High: high}}
	case Le:
		return []Interval{{Low: low, High: v.High}}
	case Ap:
		return []Interval{v.approximately(now)}
	}
	return []Interval{v.Interval}
}

// times are the interval's ends as plan.Updated wants them: zero is open.
func times(i Interval) (low, high time.Time) {
	if i.Low != fhir.MinTime {
		low = time.UnixMilli(i.Low).UTC()
	}
	if i.High != fhir.MaxTime {
		high = time.UnixMilli(i.High).UTC()
	}
	if i.High != fhir.MaxTime && high.IsZero() { // the first moment of year 1 would be open: nothing is as old
		high = high.Add(-time.Millisecond)
	}
	return low, high
}
