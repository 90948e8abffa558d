// Package ucum reads units of measure and compares amounts in them.
//
//	Parse     "mg/dL" → Unit: a factor and a product of base units
//	Unit.Base amount → the same amount in base units
//	table.go  UCUM's units, each as so many of another
//
// Two amounts are comparable when their units have the same Dimension. Units on
// a scale of their own are known (Special); of these only temperatures can be
// brought to base units, and only when they stand alone.
//
// Spec: https://ucum.org/ucum, version 2.1, in the case-sensitive form.
//
//	u, ok := ucum.Parse("mg/dL")
//	grams, ok := u.Base(100) // 1000 g/m3
package ucum

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Unit is a unit in base units. The zero Unit is the dimensionless one times
// zero, and of no use.
type Unit struct {
	factor *big.Rat // how many of the base units one is
	powers powers
	line   *line // a scale in kelvin, instead of factor
	// opaque: a unit on a scale that is not known to be a line.
	opaque bool

	times, over float64 // factor
	dimension   string
}

// powers are the exponents of base units.
type powers map[string]int

// line is kelvin = slope × amount + offset.
type line struct{ slope, offset float64 }

// Dimension is the base units of a unit: the same text for all units whose
// amounts can be compared. It is persisted in index entries.
func (u *Unit) Dimension() string { return u.dimension }

// significantDigits is how exact amounts in base units are: one digit less than
// every float64 holds, so that 0.1 mg and 0.0001 g are the same.
const significantDigits = 14

// Base brings an amount to base units, rounded to 14 digits so that rounding on
// the way does not tell equal amounts apart. It is false for units on scales of
// their own other than temperatures.
func (u *Unit) Base(amount float64) (float64, bool) {
	if u.opaque {
		return 0, false
	}
	if math.IsInf(amount, 0) {
		return amount, true
	}
	base := amount * u.times / u.over
	if u.line != nil {
		base = amount*u.line.slope + u.line.offset
	}
	var room [32]byte
	rounded, err := strconv.ParseFloat(string(strconv.AppendFloat(room[:0], base, 'e', significantDigits-1, 64)), 64)
	return rounded, err == nil
}

// Bounds of a unit's text: its length, how deep parentheses nest, and the
// largest exponent.
const (
	MaxBytes    = 200
	maxDepth    = 16
	maxExponent = 99
)

// Parse reads a unit; false when it is none of UCUM's.
func Parse(code string) (*Unit, bool) { return parse(catalogue(), code) }

func parse(atoms map[string]atom, code string) (*Unit, bool) {
	if code == "" || len(code) > MaxBytes {
		return nil, false
	}
	p := parser{atoms: atoms, rest: code}
	u, ok := p.main()
	if !ok || p.rest != "" {
		return nil, false
	}
	settled := *u // u may be the catalogue's, which all share
	settled.settle()
	return &settled, true
}

// settle makes what Base and Dimension use.
func (u *Unit) settle() {
	u.dimension = u.powers.String()
	times, _ := new(big.Float).SetInt(u.factor.Num()).Float64()
	over, _ := new(big.Float).SetInt(u.factor.Denom()).Float64()
	if math.IsInf(times, 0) || math.IsInf(over, 0) {
		times, _ = u.factor.Float64()
		over = 1
	}
	u.times, u.over = times, over
}

func (p powers) String() string {
	var parts []string
	for base, n := range p {
		if n != 0 {
			parts = append(parts, fmt.Sprintf("%s%+d", base, n))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ".")
}

func number(r *big.Rat) *Unit { return &Unit{factor: r, powers: powers{}} }

// multiply is the product with another unit to the power of n. A scale that does not
// stand alone has no line any more.
func (u *Unit) multiply(by *Unit, n int) (*Unit, bool) {
	product := &Unit{factor: new(big.Rat).Set(u.factor), powers: powers{}, opaque: u.opaque || by.opaque}
	if u.line != nil || by.line != nil {
		product.opaque = true
	}
	for base, m := range u.powers {
		product.powers[base] += m
	}
	for base, m := range by.powers {
		product.powers[base] += m * n
	}
	power, ok := raise(by.factor, n)
	if !ok {
		return nil, false
	}
	product.factor.Mul(product.factor, power)
	return product, product.inBounds()
}

// raise is r to the power of n.
func raise(r *big.Rat, n int) (*big.Rat, bool) {
	if r.Sign() == 0 {
		return nil, false
	}
	if n < 0 {
		r, n = new(big.Rat).Inv(r), -n
	}
	result := big.NewRat(1, 1)
	for range n {
		if result.Mul(result, r); tooLong(result) {
			return nil, false
		}
	}
	return result, true
}

// maxBits bounds numerators and denominators.
const maxBits = 4096

func tooLong(r *big.Rat) bool { return r.Num().BitLen() > maxBits || r.Denom().BitLen() > maxBits }

func (u *Unit) inBounds() bool {
	f, _ := u.factor.Float64()
	return !tooLong(u.factor) && f != 0 && !math.IsInf(f, 0)
}

// parser reads UCUM's grammar (2.2):
//
//	main       = [ "/" ] term
//	term       = component { ( "." | "/" ) component }
//	component  = "(" term ")" | number | annotation | simple [ exponent ] [ annotation ]
type parser struct {
	atoms map[string]atom
	rest  string
	depth int
}

func (p *parser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) main() (*Unit, bool) {
	one := number(big.NewRat(1, 1))
	if p.take('/') {
		return p.term(one, -1)
	}
	return p.term(nil, 1)
}

// term goes on from what stands before; sign is -1 behind a slash.
func (p *parser) term(before *Unit, sign int) (*Unit, bool) {
	for {
		next, ok := p.component()
		if !ok {
			return nil, false
		}
		if before == nil {
			before = next
		} else if before, ok = before.multiply(next, sign); !ok {
			return nil, false
		}
		switch {
		case p.take('.'):
			sign = 1
		case p.take('/'):
			sign = -1
		default:
			return before, true
		}
	}
}

func (p *parser) component() (*Unit, bool) {
	switch {
	case p.rest == "":
		return nil, false
	case p.take('('):
		if p.depth++; p.depth > maxDepth {
			return nil, false
		}
		u, ok := p.main()
		p.depth--
		return u, ok && p.take(')')
	case p.rest[0] == '{':
		return number(big.NewRat(1, 1)), p.annotation()
	}
	u, ok := p.simple()
	if ok && p.rest != "" && p.rest[0] == '{' {
		ok = p.annotation()
	}
	return u, ok
}

// annotation passes over text in braces, which means nothing (2.2, 12).
func (p *parser) annotation() bool {
	end := strings.IndexByte(p.rest, '}')
	if end < 0 || strings.IndexByte(p.rest[1:end], '{') >= 0 {
		return false
	}
	for _, c := range []byte(p.rest[:end]) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	p.rest = p.rest[end+1:]
	return true
}

// simple is a number, or a unit with its exponent.
func (p *parser) simple() (*Unit, bool) {
	name := p.name()
	if name == "" {
		return p.number()
	}
	u, ok := p.lookup(name)
	if !ok {
		return nil, false
	}
	n, ok := p.exponent()
	if !ok || n == 1 {
		return u, ok
	}
	if u.line != nil {
		u = &Unit{factor: u.factor, powers: u.powers, opaque: true}
	}
	return number(big.NewRat(1, 1)).multiply(u, n)
}

// name takes the letters of a unit: up to an exponent or an operator, brackets
// whole.
func (p *parser) name() string {
	if strings.HasPrefix(p.rest, "10*") || strings.HasPrefix(p.rest, "10^") {
		name := p.rest[:3]
		p.rest = p.rest[3:]
		return name
	}
	i, inside := 0, false
	for ; i < len(p.rest); i++ {
		c := p.rest[i]
		if !inside && strings.IndexByte("0123456789+-./(){}", c) >= 0 {
			break
		}
		inside = c == '[' || inside && c != ']'
	}
	name := p.rest[:i]
	p.rest = p.rest[i:]
	return name
}

func (p *parser) digits() string {
	i := 0
	for i < len(p.rest) && '0' <= p.rest[i] && p.rest[i] <= '9' {
		i++
	}
	digits := p.rest[:i]
	p.rest = p.rest[i:]
	return digits
}

func (p *parser) number() (*Unit, bool) {
	n, ok := new(big.Rat).SetString(p.digits())
	if !ok || n.Sign() == 0 || tooLong(n) || p.rest != "" && strings.IndexByte("./){", p.rest[0]) < 0 {
		return nil, false // what follows a number is an operator
	}
	return number(n), true
}

// exponent reads [+-]digits; without it is 1.
func (p *parser) exponent() (int, bool) {
	sign, signed := 1, false
	switch {
	case p.take('-'):
		sign, signed = -1, true
	case p.take('+'):
		signed = true
	}
	digits := p.digits()
	if digits == "" {
		return 1, !signed
	}
	n, err := strconv.Atoi(digits)
	return sign * n, err == nil && n <= maxExponent
}

// lookup finds a unit by its name, with or without prefix.
func (p *parser) lookup(name string) (*Unit, bool) {
	if a, ok := p.atoms[name]; ok {
		return a.unit, true
	}
	for n := 1; n <= longestPrefix && n < len(name); n++ {
		factor, isPrefix := prefixes[name[:n]]
		a, ok := p.atoms[name[n:]]
		if !isPrefix || !ok || !a.metric {
			continue
		}
		u := &Unit{factor: new(big.Rat).Mul(a.unit.factor, factor), powers: a.unit.powers, opaque: a.unit.opaque}
		if l := a.unit.line; l != nil {
			f, _ := factor.Float64()
			u.line = &line{l.slope * f, l.offset}
		}
		return u, true
	}
	return nil, false
}

// longestPrefix is the length of "da" and "Ki".
const longestPrefix = 2
