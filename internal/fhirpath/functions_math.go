package fhirpath

import (
	"github.com/cockroachdb/apd/v3"
)

// numberFunction makes a function on one number; it is empty where the number
// or an argument is, and where there is no result. cost counts its steps.
func numberFunction(min, max, cost int, do func(d *apd.Decimal, args []*apd.Decimal) (Value, bool)) function {
	return eager(min, max, func(e *eval, pos int, in []Value, lists [][]Value, out []Value) ([]Value, error) {
		d, ok, err := e.decimal(pos, in)
		if err != nil || !ok {
			return out, err
		}
		var args []*apd.Decimal
		for _, list := range lists {
			arg, ok, err := e.decimal(pos, list)
			if err != nil || !ok {
				return out, err
			}
			args = append(args, arg)
		}
		if err := e.cost(cost); err != nil {
			return out, err
		}
		if v, ok := do(d, args); ok {
			out = append(out, v)
		}
		return out, nil
	})
}

// What functions on numbers count: rounding takes well below a microsecond,
// series some hundred, a power of a large number thousands.
const (
	roundingCost = 2
	seriesCost   = 2000
	powerCost    = 10_000
)

func (e *eval) decimal(pos int, items []Value) (*apd.Decimal, bool, error) {
	v, ok, err := e.single(pos, items)
	if err != nil || !ok || !v.hasValue() {
		return nil, false, err
	}
	d, ok := v.Decimal()
	if !ok {
		return nil, false, e.fail(pos, "a number was expected, not a %s", v.TypeName())
	}
	return d, true, nil
}

// whole makes a function that rounds to an integer.
func whole(how apd.Rounder) function {
	return numberFunction(0, 0, roundingCost, func(d *apd.Decimal, _ []*apd.Decimal) (Value, bool) {
		return integerResult(quantized(d, 0, how), 0)
	})
}

// mathFunctions are those of N1 section 5.7.
var mathFunctions = map[string]function{
	"abs": eager(0, 0, func(e *eval, pos int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		v, ok, err := e.single(pos, in)
		if err != nil || !ok {
			return out, err
		}
		s := v.comparable()
		q, ok := s.Quantity()
		if !ok {
			return out, e.fail(pos, "a number was expected, not a %s", v.TypeName())
		}
		if q.Value.Sign() < 0 {
			s = negated(s)
		}
		return append(out, s), nil
	}),
	"ceiling":  whole(apd.RoundCeiling),
	"floor":    whole(apd.RoundFloor),
	"truncate": whole(apd.RoundDown),
	"round":    numberFunction(0, 1, roundingCost, round),
	"exp":      numberFunction(0, 0, seriesCost, exponential),
	"ln":       numberFunction(0, 0, seriesCost, func(d *apd.Decimal, _ []*apd.Decimal) (Value, bool) { return logarithm(d, nil) }),
	"log":      numberFunction(1, 1, seriesCost, func(d *apd.Decimal, a []*apd.Decimal) (Value, bool) { return logarithm(d, a[0]) }),
	"power":    numberFunction(1, 1, powerCost, func(d *apd.Decimal, a []*apd.Decimal) (Value, bool) { return power(d, a[0]) }),
	"sqrt":     numberFunction(0, 0, seriesCost, squareRoot),
}

func round(d *apd.Decimal, args []*apd.Decimal) (Value, bool) {
	places := int64(0)
	if len(args) == 1 {
		var err error
		if places, err = args[0].Int64(); err != nil || places < 0 || places > maxDecimalScale {
			return Value{}, false
		}
	}
	return DecimalValue(roundTo(d, int32(places))), true
}

// precise computes with guard digits, to be rounded by settle.
var precise = apd.Context{
	Precision:   decimalDigits + guardDigits,
	MaxExponent: 4 * maxDecimalScale,
	MinExponent: -4 * maxDecimalScale,
	Rounding:    apd.RoundHalfUp,
}

// shortened is a number with no more digits than a result has: the time of a
// series grows with them.
func shortened(d *apd.Decimal) *apd.Decimal {
	var r apd.Decimal
	_, _ = precise.Round(&r, d) // a number in bounds stays in bounds
	return &r
}

// settle rounds what precise computed, so that ln and powers that are whole
// come out whole.
func settle(d *apd.Decimal, c apd.Condition) (Value, bool) {
	if _, ok := decimalResult(d, c); !ok {
		return Value{}, false
	}
	var r apd.Decimal
	c, _ = arithmetic.Round(&r, d)
	r.Reduce(&r)
	if r.Exponent > 0 {
		r = *roundTo(&r, 0)
	}
	return decimalResult(&r, c)
}

// maxExponentArg bounds the argument of exp(): e to this is near the largest
// decimal in bounds.
const maxExponentArg = 900

func exponential(d *apd.Decimal, _ []*apd.Decimal) (Value, bool) {
	if d.Cmp(apd.New(maxExponentArg, 0)) > 0 || d.Cmp(apd.New(-maxExponentArg, 0)) < 0 {
		return Value{}, false
	}
	var r apd.Decimal
	c, _ := precise.Exp(&r, shortened(d))
	return settle(&r, c)
}

// logarithm is natural without a base.
func logarithm(d, base *apd.Decimal) (Value, bool) {
	if d.Sign() <= 0 || base != nil && base.Sign() <= 0 {
		return Value{}, false
	}
	var r apd.Decimal
	c, _ := precise.Ln(&r, shortened(d))
	if base != nil {
		var b apd.Decimal
		more, _ := precise.Ln(&b, shortened(base))
		c |= more
		if b.IsZero() {
			return Value{}, false
		}
		more, _ = precise.Quo(&r, &r, &b)
		c |= more
	}
	return settle(&r, c)
}

// power is empty for what is no real number or out of bounds.
func power(d, exponent *apd.Decimal) (Value, bool) {
	if d.IsZero() && exponent.Sign() <= 0 {
		return Integer(1), exponent.IsZero()
	}
	if size := magnitude(d); !d.IsZero() {
		reach := times(exponent, apd.New(int64(max(size+1, -size, 1)), 0))
		if reach.Abs(reach).Cmp(apd.New(maxDecimalScale, 0)) > 0 {
			return Value{}, false
		}
	}
	var r apd.Decimal
	c, err := precise.Pow(&r, shortened(d), shortened(exponent))
	if err != nil {
		return Value{}, false
	}
	return settle(&r, c)
}

func squareRoot(d *apd.Decimal, _ []*apd.Decimal) (Value, bool) {
	if d.Sign() < 0 {
		return Value{}, false
	}
	var r apd.Decimal
	c, _ := precise.Sqrt(&r, shortened(d))
	return settle(&r, c)
}
