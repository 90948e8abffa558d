package search

import (
	"math/big"
	"strconv"
)

// Bounds of numbers in values: the longest text, and the largest exponent, that
// exact arithmetic is asked to bear. A float64 ends before 10^309.
const (
	maxNumberBytes    = 100
	maxNumberExponent = 400
)

// parseNumber reads [prefix]number with its implied precision.
func parseNumber(s string) (NumberValue, string) {
	prefix, text := cutPrefix(unescape(s))
	d, ok := scanDecimal(text)
	if !ok {
		return NumberValue{}, "is not a number; write [prefix]number, as in ge5.4 (prefixes: eq ne gt lt ge le sa eb ap)"
	}
	exact := d.rat()
	half := new(big.Rat).Mul(pow10(d.ulp()), big.NewRat(1, 2))
	tenth := new(big.Rat).Mul(new(big.Rat).Abs(exact), big.NewRat(1, 10))
	v := NumberValue{Prefix: prefix, Text: text}
	v.Value = float(exact)
	v.Low, v.High = float(new(big.Rat).Sub(exact, half)), float(new(big.Rat).Add(exact, half))
	v.ApproxLow, v.ApproxHigh = float(new(big.Rat).Sub(exact, tenth)), float(new(big.Rat).Add(exact, tenth))
	return v, ""
}

func float(r *big.Rat) float64 {
	f, _ := r.Float64()
	return f
}

// decimal is a number's text in parts.
type decimal struct {
	negative bool
	digits   string // without the point
	fraction int    // digits behind the point
	exponent int
	text     string
	hasExp   bool
}

func scanDecimal(s string) (decimal, bool) {
	d := decimal{text: s}
	if len(s) == 0 || len(s) > maxNumberBytes {
		return d, false
	}
	i := 0
	if s[0] == '-' || s[0] == '+' {
		d.negative = s[0] == '-'
		i++
	}
	whole := digitsAt(s, i)
	d.digits = s[i : i+whole]
	i += whole
	if i < len(s) && s[i] == '.' {
		d.fraction = digitsAt(s, i+1)
		d.digits += s[i+1 : i+1+d.fraction]
		i += 1 + d.fraction
		if d.fraction == 0 {
			return d, false
		}
	}
	if d.digits == "" {
		return d, false
	}
	return d.scanExponent(s[i:])
}

func (d decimal) scanExponent(s string) (decimal, bool) {
	if s == "" {
		return d, true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return d, false
	}
	e, err := strconv.Atoi(s[1:])
	d.exponent, d.hasExp = e, true
	return d, err == nil && -maxNumberExponent <= e && e <= maxNumberExponent
}

func digitsAt(s string, i int) int {
	n := 0
	for i+n < len(s) && '0' <= s[i+n] && s[i+n] <= '9' {
		n++
	}
	return n
}

func (d decimal) rat() *big.Rat {
	n, _ := new(big.Int).SetString(d.digits, 10)
	if d.negative {
		n.Neg(n)
	}
	return new(big.Rat).Mul(new(big.Rat).SetInt(n), pow10(d.exponent-d.fraction))
}

// ulp is the power of ten of the last digit that the text states. R4 reads 1e2
// as 95 to 105 (3.1.1.4.6): a whole number with an exponent states one digit
// more than it writes.
func (d decimal) ulp() int {
	last := d.exponent - d.fraction
	if d.hasExp && d.fraction == 0 && d.exponent > 0 {
		last--
	}
	return last
}

func pow10(e int) *big.Rat {
	n := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(e, -e))), nil)
	if e < 0 {
		return new(big.Rat).SetFrac(big.NewInt(1), n)
	}
	return new(big.Rat).SetInt(n)
}
