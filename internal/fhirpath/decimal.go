package fhirpath

import (
	"math"

	"github.com/cockroachdb/apd/v3"
)

// Bounds on decimals. N1 asks for 28 digits and 8 behind the point at least;
// FHIR promises 18. The bound on the magnitude keeps sums of very different
// numbers from growing out of all proportion.
const (
	decimalDigits   = 34  // significant digits of a result
	maxDecimalText  = 400 // characters of a number that is read
	maxDecimalScale = 400 // powers of ten a number may be away from 1
	guardDigits     = 6   // digits computed beyond those kept, for ln, exp and powers
)

// arithmetic rounds as N1 examples do: half up.
var arithmetic = apd.Context{
	Precision:   decimalDigits,
	MaxExponent: 4 * maxDecimalScale,
	MinExponent: -4 * maxDecimalScale,
	Rounding:    apd.RoundHalfUp,
}

// parseDecimal reads a number in JSON's grammar or FHIRPath's; it keeps the
// digits as written. It is false for other text and for numbers out of bounds.
func parseDecimal(text string) (*apd.Decimal, bool) {
	if !isNumber(text) || len(text) > maxDecimalText {
		return nil, false
	}
	d, _, err := apd.NewFromString(text)
	if err != nil || d.Form != apd.Finite || !inBounds(d) {
		return nil, false
	}
	return d, true
}

func inBounds(d *apd.Decimal) bool {
	if d.Form != apd.Finite || d.Exponent < -maxDecimalScale || d.Exponent > maxDecimalScale {
		return false
	}
	return int64(d.Exponent)+d.NumDigits() <= maxDecimalScale
}

// isNumber accepts an optional sign, digits, an optional fraction and an
// optional exponent.
func isNumber(s string) bool {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	var ok bool
	if s, ok = cutDigits(s); !ok {
		return false
	}
	if s != "" && s[0] == '.' {
		if s, ok = cutDigits(s[1:]); !ok {
			return false
		}
	}
	if s != "" && s[0]|0x20 == 'e' {
		if s = s[1:]; s != "" && (s[0] == '-' || s[0] == '+') {
			s = s[1:]
		}
		if s, ok = cutDigits(s); !ok {
			return false
		}
	}
	return s == ""
}

func cutDigits(s string) (rest string, ok bool) {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return s[n:], n > 0
}

// formatDecimal writes a decimal without exponent, its trailing zeros kept.
func formatDecimal(d *apd.Decimal) string { return d.Text('f') }

// decimalResult makes a Value of what a calculation gave; false when it has no
// finite result.
func decimalResult(d *apd.Decimal, c apd.Condition) (Value, bool) {
	const failed = apd.Overflow | apd.DivisionByZero | apd.InvalidOperation | apd.DivisionUndefined | apd.DivisionImpossible
	if c&failed != 0 || !inBounds(d) {
		return Value{}, false
	}
	return DecimalValue(d), true
}

// decimals is the number of digits behind the point, trailing zeros not
// counted when significant is set.
func decimals(d *apd.Decimal, significant bool) int32 {
	if significant {
		var r apd.Decimal
		r.Reduce(d)
		d = &r
	}
	return max(0, -d.Exponent)
}

// roundTo rounds half up to a number of digits behind the point.
func roundTo(d *apd.Decimal, places int32) *apd.Decimal {
	return quantized(d, places, apd.RoundHalfUp)
}

func quantized(d *apd.Decimal, places int32, how apd.Rounder) *apd.Decimal {
	wide := apd.Context{
		Precision: 4 * maxDecimalScale, MaxExponent: math.MaxInt16, MinExponent: math.MinInt16, Rounding: how,
	}
	var r apd.Decimal
	// Precision and exponents hold every number in bounds: no condition but inexact.
	_, _ = wide.Quantize(&r, d, -places)
	return &r
}

// tidy takes the zeros off the end of a quotient that the division put there,
// down to the digits behind the point that the operands have.
func tidy(d *apd.Decimal, least int32) *apd.Decimal {
	var r apd.Decimal
	r.Reduce(d)
	if -r.Exponent < least {
		return quantized(&r, least, apd.RoundDown)
	}
	return &r
}
