package fhirpath

import (
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Digits of a boundary when the call names none, and the most there may be
// (FHIRPath 3.0, lowBoundary and highBoundary).
const (
	defaultDecimalPlaces = 8
	maxDecimalPlaces     = 31
)

// boundary makes lowBoundary, or highBoundary: the least and the greatest value
// that what is written may stand for, to a precision.
func boundary(high bool) plain {
	return func(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		v, ok, err := e.single(pos, in)
		if err != nil || !ok {
			return out, err
		}
		digits, given := int64(0), len(args) == 1
		if given {
			if digits, ok, err = e.integerOf(pos, args[0]); err != nil || !ok {
				return out, err
			}
		}
		s := v.comparable()
		r, ok := boundaryOf(s, digits, given, high)
		if !ok && s.kind != kindDecimal && s.kind != kindInteger && s.kind != kindQuantity && !isMoment(s.kind) && v.hasValue() {
			return out, e.fail(pos, "a %s has no boundaries", v.TypeName())
		}
		if ok {
			out = append(out, r)
		}
		return out, nil
	}
}

func boundaryOf(v Value, digits int64, given, high bool) (Value, bool) {
	if isMoment(v.kind) {
		m := v.ref.(*moment)
		if !given {
			digits = int64(m.finest())
		}
		r, ok := m.boundary(digits, high)
		return Value{kind: v.kind, ref: r}, ok
	}
	q, ok := v.Quantity()
	if !given {
		digits = defaultDecimalPlaces
	}
	if !ok || digits < 0 || digits > maxDecimalPlaces {
		return Value{}, false
	}
	q.Value = decimalBoundary(q.Value, int32(digits), high)
	if v.kind == kindQuantity {
		return quantityValue(q), true
	}
	return DecimalValue(q.Value), true
}

// decimalBoundary is half a unit of the last digit away. What does not fit the
// places is rounded as HL7's tests have it: the boundary nearer to zero is cut
// off, the other rounded half up.
func decimalBoundary(d *apd.Decimal, places int32, high bool) *apd.Decimal {
	half := apd.New(5, min(d.Exponent, 0)-1)
	outward := d.Negative != high
	how := apd.RoundHalfUp
	if !outward {
		half.Negative = true
		how = apd.RoundDown
	}
	half.Negative = half.Negative != d.Negative
	wide := precise
	wide.Precision = 4 * maxDecimalScale
	var r apd.Decimal
	// Two numbers in bounds: their sum is exact in this precision.
	_, _ = wide.Add(&r, d, half)
	return quantized(&r, places, how)
}

// finest is the precision a moment's boundary has when none is asked for.
func (m *moment) finest() precision {
	switch m.kind {
	case kindDate:
		return precisionDay
	case kindTime:
		return precisionMilli - precisionDay
	}
	return precisionMilli
}

// boundary is the first or last instant within the moment, written to a number
// of digits. Without a zone it takes the one that is farthest that way.
func (m *moment) boundary(digits int64, high bool) (*moment, bool) {
	p := precision(digits)
	if m.kind == kindTime {
		p += precisionDay
	}
	if _, ok := unitMillis[p]; !ok || m.kind == kindDate && p > precisionDay || m.kind == kindTime && p <= precisionDay {
		return nil, false
	}
	r := *m
	if high {
		r.wall = m.step(m.wall, 1).Add(-time.Millisecond)
	}
	if r.precision = p; p > precisionDay && m.kind == kindDateTime && !m.zoned {
		r.zoned, r.offset = true, int(easternmost.Minutes())
		if high {
			r.offset = -int(westernmost.Minutes())
		}
	}
	if p <= precisionDay {
		r.zoned, r.offset = false, 0
	}
	r.fraction = 0
	if p == precisionMilli {
		r.fraction = 3
	}
	r.wall = cutTo(r.wall, p)
	return &r, r.wall.Year() <= 9999
}

// precisionOf counts digits: those behind the point of a decimal, those of the
// parts of a date or time.
func precisionOf(e *eval, pos int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
	v, ok, err := e.single(pos, in)
	if err != nil || !ok || !v.hasValue() {
		return out, err
	}
	s := v.comparable()
	switch {
	case isMoment(s.kind):
		m := s.ref.(*moment)
		p := m.precision
		if m.kind == kindTime {
			p -= precisionDay
		}
		return append(out, Integer(int64(p))), nil
	case s.kind == kindQuantity:
		return append(out, Integer(int64(decimals(s.ref.(*Quantity).Value, false)))), nil
	}
	d, ok := s.Decimal()
	if !ok {
		return out, e.fail(pos, "a %s has no precision", v.TypeName())
	}
	return append(out, Integer(int64(decimals(d, false)))), nil
}
