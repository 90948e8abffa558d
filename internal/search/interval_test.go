package search

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

var testNow = time.UnixMilli(1000)

// holds evaluates an Or of Ranges over entries.
func holds(n plan.Node, entries []plan.Entry) bool {
	any, ok := n.(plan.Or)
	if !ok {
		any = plan.Or{n}
	}
	return slices.ContainsFunc(any, func(n plan.Node) bool {
		return slices.ContainsFunc(entries, func(e plan.Entry) bool {
			r := n.(plan.Range)
			return r.Param == e.Param && r.Holds(e.Value)
		})
	})
}

// dateMeaning is R4 3.1.1.4.5 for a value [pl, ph) and a resource's [low, high),
// as the specification words it.
func dateMeaning(p Prefix, value, resource Interval) bool {
	contains := value.Low <= resource.Low && resource.High <= value.High
	above := resource.High > value.High // the range above the value's overlaps the resource's
	below := resource.Low < value.Low
	switch p {
	case Ne:
		return !contains
	case Gt:
		return above
	case Lt:
		return below
	case Ge:
		return above || contains
	case Le:
		return below || contains
	case Sa:
		return resource.Low >= value.High
	case Eb:
		return resource.High <= value.Low
	case Ap:
		wide := DateValue{Interval: value}.approximately(testNow)
		return wide.Overlaps(resource)
	case Overlaps:
		return value.Overlaps(resource)
	}
	return contains
}

// The same in parts of a millisecond, where entries of a body decide, and those
// that are stored leave none out.
func TestFineDatePrefixes(t *testing.T) {
	p := &Param{Number: 7, Kind: KindDate}
	at := func(fourths int64) fhir.Moment {
		milli := fourths >> 2
		return fhir.Moment{Milli: milli, Beyond: uint64(fourths-milli<<2) * 2_500_000_000_000_000_000}
	}
	for prefix := Eq; prefix <= Overlaps; prefix++ {
		if prefix == Ap {
			continue
		}
		for _, value := range smallIntervals(0, 4) {
			exact := Stretch{Low: at(value.Low), High: at(value.High)}
			v := DateValue{Prefix: prefix, Interval: exact.Interval(), Exact: &exact}
			certain, open := v.fineSpans()
			decided, doubtful := onAll(certain, p.At(Main), p.At(End), nil), onAll(open, p.At(Main), p.At(End), nil)
			rough := onAll(v.roughly().spans(testNow), p.At(Main), p.At(End), nil)
			for _, resource := range smallIntervals(-9, 9) {
				is, e, body := Stretch{Low: at(resource.Low), High: at(resource.High)}, NewEntries(plan.HashKey{}), NewWhole(plan.HashKey{})
				e.Interval(p, is)
				body.Interval(p, is)
				stored, want := e.Done(), dateMeaning(prefix, value, resource)
				if got := holds(onAll(v.exactSpans(), p.At(Exact), p.At(Exact), nil), body.Done()); got != want {
					t.Errorf("%s%v on %v: %t, want %t", prefix, value, resource, got, want)
				}
				if want && !holds(rough, stored) || want && !holds(decided, stored) && !holds(doubtful, stored) || !want && holds(decided, stored) {
					t.Errorf("%s%v on %v: stored entries say otherwise", prefix, value, resource)
				}
			}
		}
	}
}

// Every prefix over every small interval on both sides means what R4 says.
func TestDatePrefixes(t *testing.T) {
	p := &Param{Number: 7, Kind: KindDate}
	intervals := smallIntervals(-3, 4)
	for prefix := Eq; prefix <= Ap; prefix++ {
		for _, value := range intervals {
			node := onAll(DateValue{Prefix: prefix, Interval: value}.spans(testNow), p.At(Main), p.At(End), nil)
			for _, resource := range intervals {
				e := NewEntries(plan.HashKey{})
				e.Interval(p, resource.Stretch())
				if got, want := holds(node, e.Done()), dateMeaning(prefix, value, resource); got != want {
					t.Errorf("%s%v on %v: %t, want %t", prefix, value, resource, got, want)
				}
			}
		}
	}
}

func smallIntervals(from, to int64) []Interval {
	var all []Interval
	for low := from; low < to; low++ {
		for high := low + 1; high <= to; high++ {
			all = append(all, Interval{Low: low, High: high})
		}
	}
	return all
}

// numberMeaning is the same for a number: the value's range is [Low, High) for
// eq and ne, its exact point for the others; the resource's is closed.
func numberMeaning(v NumberValue, low, high float64) bool {
	contained := v.Low <= low && high < v.High
	same := low == v.Value && high == v.Value
	switch v.Prefix {
	case Ne:
		return !contained
	case Gt:
		return high > v.Value
	case Lt:
		return low < v.Value
	case Ge:
		return high > v.Value || same
	case Le:
		return low < v.Value || same
	case Sa:
		return low > v.Value
	case Eb:
		return high < v.Value
	case Ap:
		return low <= v.ApproxHigh && high >= v.ApproxLow
	}
	return contained
}

func TestNumberPrefixes(t *testing.T) {
	p := &Param{Number: 7, Kind: KindQuantity}
	points := []float64{MinAmount, -1.5, -1, -0.5, 0, 0.4, 0.5, 0.9, 1, 1.1, 1.5, 2, MaxAmount}
	for prefix := Eq; prefix <= Ap; prefix++ {
		for _, text := range []string{"-1", "0", "1", "1.0", "0.5", "1e1"} {
			v, wrong := parseNumber(prefix.String() + text)
			if wrong != "" {
				t.Fatal(text, wrong)
			}
			q := QuantityValue{NumberValue: v, Unit: true, System: "s", Code: "c"}
			for i, low := range points {
				for _, high := range points[i:] {
					e := NewEntries(plan.HashKey{})
					e.Quantity(p, Amount{Low: low, High: high, System: "s", Code: "c"})
					want := numberMeaning(v, low, high)
					c := &compiler{}
					if got := holds(c.quantity(p, q), e.Done()); got != want {
						t.Errorf("%s%s|s|c on [%v, %v]: %t, want %t", prefix, text, low, high, got, want)
					}
					q := q
					q.Unit = false
					if got := holds(c.quantity(p, q), e.Done()); got != want {
						t.Errorf("%s%s on [%v, %v]: %t, want %t", prefix, text, low, high, got, want)
					}
				}
			}
		}
	}
}

func TestImpliedPrecision(t *testing.T) {
	for text, want := range map[string][2]float64{
		"100":     {99.5, 100.5}, // R4 3.1.1.4.6
		"100.00":  {99.995, 100.005},
		"1e2":     {95, 105},
		"5.4":     {5.35, 5.45},
		"5.40e-3": {0.005395, 0.005405},
		"-5.4":    {-5.45, -5.35},
		"0":       {-0.5, 0.5},
		".5":      {0.45, 0.55},
	} {
		v, wrong := parseNumber(text)
		if wrong != "" || v.Low != want[0] || v.High != want[1] {
			t.Errorf("%s: [%v, %v) %s, want %v", text, v.Low, v.High, wrong, want)
		}
	}
	for _, text := range []string{"", "1.", "e1", "1e", "1e999", "--1", "1,5", "0x1", "NaN", "Inf", "1 "} {
		if v, wrong := parseNumber(text); wrong == "" {
			t.Errorf("%q is read as %v", text, v)
		}
	}
}

// The order of bytes is the order of values.
func TestOrder(t *testing.T) {
	floats := []float64{MinAmount, -1e300, -1, -1e-300, 0, 1e-300, 0.1, 1, 2, 1e300, MaxAmount}
	for i := 1; i < len(floats); i++ {
		if string(double(floats[i-1])) >= string(double(floats[i])) {
			t.Errorf("%v is not before %v", floats[i-1], floats[i])
		}
	}
	instants := []int64{-1 << 63, -1, 0, 1, 1<<63 - 1}
	for i := 1; i < len(instants); i++ {
		if string(instant(instants[i-1])) >= string(instant(instants[i])) {
			t.Errorf("%v is not before %v", instants[i-1], instants[i])
		}
	}
	minusZero := 1 / MinAmount
	if string(double(minusZero)) != string(double(0)) {
		t.Error("minus zero is not zero")
	}
}

func TestSimplify(t *testing.T) {
	a, b := plan.Term{Param: 1}, plan.Term{Param: 2}
	for i, c := range []struct{ from, want plan.Node }{
		{plan.And{}, nil},
		{plan.Or{}, never},
		{plan.And{nil, a, nil}, a},
		{plan.Or{a, nil}, nil},
		{plan.And{a, plan.Or{}}, never},
		{plan.Not{}, never},
		{plan.Not{Of: plan.Or{}}, nil},
		{plan.Not{Of: plan.Not{Of: a}}, a},
		{plan.Chain{}, never},
		{plan.Has{}, never},
		{plan.IDs{}, never},
		{plan.And{plan.And{a}, plan.Or{b}}, plan.And{a, b}},
		{plan.Or{plan.Or{a, b}, plan.And{a}}, plan.Or{a, b, a}},
	} {
		got := Simplify(c.from)
		if !equalNodes(got, c.want) {
			t.Errorf("%d: %#v becomes %#v, want %#v", i, c.from, got, c.want)
		}
	}
}

func equalNodes(a, b plan.Node) bool {
	if isFalse(a) || isFalse(b) {
		return isFalse(a) && isFalse(b)
	}
	switch a := a.(type) {
	case plan.And:
		b, ok := b.(plan.And)
		return ok && slices.EqualFunc(a, b, equalNodes)
	case plan.Or:
		b, ok := b.(plan.Or)
		return ok && slices.EqualFunc(a, b, equalNodes)
	case plan.Term:
		b, ok := b.(plan.Term)
		return ok && a.Param == b.Param
	}
	return a == nil && b == nil
}

// The same where intervals are shorter and longer than LongInterval, which
// decides where their ends are found, and where ends are open.
func TestDatePrefixesOverLongIntervals(t *testing.T) {
	p := &Param{Number: 7, Kind: KindDate}
	const half = LongInterval / 2
	var intervals []Interval
	for _, low := range []int64{fhir.MinTime, -3 * half, -1, 0, 1, half} {
		for _, high := range []int64{-3*half + 1, 0, 1, 2, half, 2 * half, 2*half + 1, 5 * half, fhir.MaxTime} {
			if low < high {
				intervals = append(intervals, Interval{Low: low, High: high})
			}
		}
	}
	ends := 0
	for _, resource := range intervals {
		e := NewEntries(plan.HashKey{})
		e.Interval(p, resource.Stretch())
		entries := e.Done()
		ends += len(entries) - 1
		for prefix := Eq; prefix <= Ap; prefix++ {
			for _, value := range intervals {
				if value.Low == fhir.MinTime || value.High == fhir.MaxTime {
					continue // no value has open ends
				}
				node := onAll(DateValue{Prefix: prefix, Interval: value}.spans(testNow), p.At(Main), p.At(End), nil)
				if got, want := holds(node, entries), dateMeaning(prefix, value, resource); got != want {
					t.Errorf("%s%v on %v: %t, want %t", prefix, value, resource, got, want)
				}
			}
		}
	}
	if ends == 0 || ends == len(intervals) {
		t.Errorf("%d of %d intervals have an end", ends, len(intervals))
	}
}

// What Done gave does not change when the next resource begins.
func TestEntriesOutliveReset(t *testing.T) {
	e, p := NewEntries(plan.HashKey{}), &Param{Number: 1, Kind: KindString}
	for _, text := range []string{"c", "a", "b", "a"} {
		e.String(p, text)
	}
	first := e.Done()
	e.Reset()
	e.String(p, "zzz")
	e.Done()
	var kept []string
	for _, entry := range first {
		text, _, _ := strings.Cut(string(entry.Value), "\x00")
		kept = append(kept, text)
	}
	if !slices.Equal(kept, []string{"a", "b", "c"}) {
		t.Errorf("kept %v", kept)
	}
}

// No two codes are written alike, and none is the beginning of another's entry.
func TestTermsAreApart(t *testing.T) {
	long := strings.Repeat("x", maxCodeBytes)
	codes := []string{"", "a", "a\x00", "a\x00b", "a\x01", "a\x01b", "\x00", "\x01", "ab", long, long + "y", long + "z", "é", "e"}
	for i, a := range codes {
		for j, b := range codes {
			x, y := appendTerm(nil, plan.HashKey{}, a), appendTerm(nil, plan.HashKey{}, b)
			if i != j && bytes.HasPrefix(x, y) {
				t.Errorf("%q begins with %q: %q, %q", a, b, x, y)
			}
		}
	}
	if !bytes.Equal(appendTerm(nil, plan.HashKey{}, "ÀB"), appendTerm(nil, plan.HashKey{}, "àb")) {
		t.Error("case counts")
	}
}
