package fhirpath

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// Units knows units of measure.
type Units interface {
	// Canonical gives a value in the base units of its unit's dimension, with a
	// text that is the same for all units of that dimension; false for a unit it
	// does not know.
	Canonical(value *apd.Decimal, unit string) (inBase *apd.Decimal, base string, ok bool)
}

// commonUnits is what the engine knows without help: the terms of UCUM
// (https://ucum.org/ucum, version 2.1) over the units below. Temperatures in
// Celsius or Fahrenheit and logarithmic units are not ratios and are left to
// others.
type commonUnits struct{}

// Canonical implements Units.
func (commonUnits) Canonical(value *apd.Decimal, unit string) (*apd.Decimal, string, bool) {
	if len(unit) > maxUnitText {
		return nil, "", false
	}
	r := unitReader{rest: unit}
	m, ok := r.term(0)
	if !ok || r.rest != "" {
		return nil, "", false
	}
	var in apd.Decimal
	c, err := arithmetic.Quo(&in, times(value, m.times), m.over)
	if err != nil || c.DivisionByZero() || !inBounds(&in) {
		return nil, "", false
	}
	in.Reduce(&in)
	return &in, m.base(), true
}

// Bounds on a unit's text.
const (
	maxUnitText  = 64
	maxUnitDepth = 8  // brackets
	maxExponent  = 12 // of one unit
)

// measure is a unit as a factor and a product of base units.
type measure struct {
	times, over *apd.Decimal
	powers      map[string]int
}

func scalar(factor *apd.Decimal) measure { return measure{factor, apd.New(1, 0), nil} }

// base prints the dimension: "g1.m-3".
func (m measure) base() string {
	var b strings.Builder
	for _, unit := range slices.Sorted(maps.Keys(m.powers)) {
		if p := m.powers[unit]; p != 0 {
			b.WriteString("." + unit + strconv.Itoa(p))
		}
	}
	if b.Len() == 0 {
		return unity
	}
	return b.String()[1:]
}

// raised is the measure to a power; negative ones turn it over.
func (m measure) raised(power int) measure {
	if power < 0 {
		m.times, m.over = m.over, m.times
	}
	r := scalar(apd.New(1, 0))
	for range max(power, -power) {
		r.times, r.over = times(r.times, m.times), times(r.over, m.over)
	}
	r.powers = map[string]int{}
	for unit, p := range m.powers {
		r.powers[unit] = p * power
	}
	return r
}

func (m measure) multiplied(by measure) measure {
	powers := map[string]int{}
	for _, side := range []map[string]int{m.powers, by.powers} {
		for unit, p := range side {
			powers[unit] += p
		}
	}
	return measure{times(m.times, by.times), times(m.over, by.over), powers}
}

// unitReader reads UCUM's grammar: components joined by . and /, from left to
// right, each an atom with prefix and exponent, a number, or a bracketed term;
// {annotations} count as 1.
type unitReader struct{ rest string }

func (r *unitReader) take(c byte) bool {
	if r.rest == "" || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

func (r *unitReader) term(depth int) (measure, bool) {
	if depth > maxUnitDepth {
		return measure{}, false
	}
	m, power := scalar(apd.New(1, 0)), 1
	if r.take('/') {
		power = -1
	}
	for {
		c, ok := r.component(depth)
		if !ok {
			return measure{}, false
		}
		m = m.multiplied(c.raised(power))
		switch {
		case r.take('.'):
			power = 1
		case r.take('/'):
			power = -1
		default:
			return m, true
		}
	}
}

func (r *unitReader) component(depth int) (measure, bool) {
	if r.take('(') {
		m, ok := r.term(depth + 1)
		return m, ok && r.take(')')
	}
	if strings.HasPrefix(r.rest, "{") {
		return scalar(apd.New(1, 0)), r.annotation()
	}
	symbol := r.symbol()
	if symbol == "" {
		return measure{}, false
	}
	m, ok := number(symbol)
	if !ok {
		if m, ok = prefixed(symbol); !ok {
			return measure{}, false
		}
		power, ok := r.exponent()
		if !ok {
			return measure{}, false
		}
		m = m.raised(power)
	}
	return m, r.annotation()
}

// annotation skips {text}, if there is one; false when it does not end.
func (r *unitReader) annotation() bool {
	if !strings.HasPrefix(r.rest, "{") {
		return true
	}
	_, rest, ok := strings.Cut(r.rest, "}")
	r.rest = rest
	return ok
}

// symbol takes a number, or letters and [brackets].
func (r *unitReader) symbol() string {
	if r.rest != "" && isDigit(r.rest[0]) {
		return r.cut(len(r.rest) - len(afterNumber(r.rest)))
	}
	inside := false
	return r.cut(strings.IndexFunc(r.rest, func(c rune) bool {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case inside:
		default:
			return !('a' <= c|0x20 && c|0x20 <= 'z' || c == '%' || c == '\'' || c == '"' || c == '_')
		}
		return false
	}))
}

// afterNumber is what follows digits, and the sign of 10* and 10^.
func afterNumber(s string) string {
	rest, _ := cutDigits(s)
	if rest != "" && (rest[0] == '*' || rest[0] == '^') {
		rest = rest[1:]
	}
	return rest
}

func (r *unitReader) cut(at int) string {
	if at < 0 {
		at = len(r.rest)
	}
	head := r.rest[:at]
	r.rest = r.rest[at:]
	return head
}

// exponent reads a signed number, 1 when there is none.
func (r *unitReader) exponent() (int, bool) {
	signed := strings.HasPrefix(r.rest, "+") || strings.HasPrefix(r.rest, "-")
	digits := r.rest
	if signed {
		digits = digits[1:]
	}
	n := 0
	for n < len(digits) && isDigit(digits[n]) {
		n++
	}
	if n == 0 {
		return 1, !signed
	}
	power, err := strconv.Atoi(strings.TrimPrefix(r.rest[:len(r.rest)-len(digits)+n], "+"))
	r.rest = digits[n:]
	return power, err == nil && -maxExponent <= power && power <= maxExponent
}

// number reads a factor; 10* and 10^ are tens that an exponent follows, which
// prefixed knows as atoms.
func number(symbol string) (measure, bool) {
	d, ok := parseDecimal(symbol)
	if !ok || d.IsZero() {
		return measure{}, false
	}
	return scalar(d), true
}

// prefixed finds a unit, with or without a prefix.
func prefixed(symbol string) (measure, bool) {
	if a, ok := unitAtoms[symbol]; ok {
		return a.measure(), true
	}
	for _, length := range []int{2, 1} {
		if len(symbol) <= length {
			continue
		}
		power, known := unitPrefixes[symbol[:length]]
		a, ok := unitAtoms[symbol[length:]]
		if known && ok && a.metric {
			return scalar(apd.New(1, power)).multiplied(a.measure()), true
		}
	}
	return measure{}, false
}

// unitPrefixes are UCUM's metric prefixes (section 3, table 1) as powers of ten.
var unitPrefixes = map[string]int32{
	"Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1,
	"d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24,
}

// unitAtom is a unit: a factor and the term it is a multiple of; a base unit
// names itself.
type unitAtom struct {
	factor string
	of     string
	metric bool
}

func (a unitAtom) measure() measure {
	d, _ := parseDecimal(a.factor)
	m := scalar(d)
	if base, ok := strings.CutPrefix(a.of, "="); ok {
		m.powers = map[string]int{base: 1}
		return m
	}
	r := unitReader{rest: a.of}
	of, _ := r.term(0)
	return m.multiplied(of)
}

// unitAtoms are the units of UCUM (section 4) that quantities of health care
// mostly have. The mole is 6.0221367e23 there, and the international unit a
// base of its own.
var unitAtoms = map[string]unitAtom{
	"m": {"1", "=m", true}, "s": {"1", "=s", true}, "g": {"1", "=g", true}, "rad": {"1", "=rad", true},
	"K": {"1", "=K", true}, "C": {"1", "=C", true}, "cd": {"1", "=cd", true},
	"10*": {"10", "1", false}, "10^": {"10", "1", false}, "%": {"0.01", "1", false},
	"[ppm]": {"1e-6", "1", false}, "[ppb]": {"1e-9", "1", false},
	"mol": {"6.0221367e23", "1", true}, "eq": {"1", "mol", true}, "osm": {"1", "mol", true},
	"L": {"1", "dm3", true}, "l": {"1", "dm3", true}, "t": {"1e3", "kg", true}, "ar": {"100", "m2", true},
	"min": {"60", "s", false}, "h": {"60", "min", false}, "d": {"24", "h", false}, "wk": {"7", "d", false},
	"a": {"365.25", "d", false}, "mo": {"30.4375", "d", false},
	"Hz": {"1", "s-1", true}, "N": {"1", "kg.m/s2", true}, "Pa": {"1", "N/m2", true}, "J": {"1", "N.m", true},
	"W": {"1", "J/s", true}, "A": {"1", "C/s", true}, "V": {"1", "J/C", true}, "Ohm": {"1", "V/A", true},
	"bar": {"1e5", "Pa", true}, "m[Hg]": {"133.3220", "kPa", true}, "m[H2O]": {"9.80665", "kPa", true},
	"atm": {"101325", "Pa", false}, "cal": {"4.184", "J", true}, "[Cal]": {"1", "kcal", false},
	"kat": {"1", "mol/s", true}, "U": {"1", "umol/min", true},
	"[iU]": {"1", "=[iU]", true}, "[IU]": {"1", "[iU]", true}, "[arb'U]": {"1", "=[arb'U]", false},
	"[in_i]": {"2.54", "cm", false}, "[ft_i]": {"12", "[in_i]", false}, "[yd_i]": {"3", "[ft_i]", false},
	"[mi_i]": {"5280", "[ft_i]", false},
	"[gr]":   {"64.79891", "mg", false}, "[lb_av]": {"7000", "[gr]", false}, "[oz_av]": {"437.5", "[gr]", false},
	"[stone_av]": {"14", "[lb_av]", false},
	"[gal_us]":   {"231", "[in_i]3", false}, "[qt_us]": {"57.75", "[in_i]3", false},
	"[pt_us]": {"28.875", "[in_i]3", false}, "[cup_us]": {"14.4375", "[in_i]3", false},
	"[foz_us]": {"1.8046875", "[in_i]3", false}, "[tbs_us]": {"0.90234375", "[in_i]3", false},
	"[tsp_us]": {"0.30078125", "[in_i]3", false},
	"deg":      {"0.01745329251994329576923690768488613", "rad", false},
	"[pH]":     {"1", "=[pH]", false}, "Cel": {"1", "=Cel", true}, "[degF]": {"1", "=[degF]", false},
	"[drp]": {"0.05", "ml", false}, "Bq": {"1", "s-1", true}, "Gy": {"1", "J/kg", true}, "Sv": {"1", "J/kg", true},
	"Ci": {"3.7e10", "Bq", true}, "lm": {"1", "cd.sr", true}, "sr": {"1", "rad2", true}, "lx": {"1", "lm/m2", true},
	"Wb": {"1", "V.s", true}, "T": {"1", "Wb/m2", true}, "F": {"1", "C/V", true}, "S": {"1", "Ohm-1", true},
	"bit": {"1", "=bit", true}, "By": {"8", "bit", true}, "u": {"1.6605402e-24", "g", true},
}
