package fhirpath

import (
	"strings"

	"github.com/cockroachdb/apd/v3"
)

var operators = map[string]operator{
	"=":        equality(false),
	"!=":       equality(true),
	"~":        equivalence(false),
	"!~":       equivalence(true),
	"<":        inequality(func(o order) bool { return o == less }),
	"<=":       inequality(func(o order) bool { return o == less || o == same }),
	">":        inequality(func(o order) bool { return o == more }),
	">=":       inequality(func(o order) bool { return o == more || o == same }),
	"|":        union,
	"in":       membership,
	"contains": func(e *eval, pos int, l, r, out []Value) ([]Value, error) { return membership(e, pos, r, l, out) },
	"&":        concatenate,
	"+":        calculation("+"),
	"-":        calculation("-"),
	"*":        calculation("*"),
	"/":        calculation("/"),
	"div":      calculation("div"),
	"mod":      calculation("mod"),
}

func equality(negate bool) operator {
	return func(e *eval, _ int, left, right, out []Value) ([]Value, error) {
		t, err := e.equal(left, right)
		if negate {
			t = t.not()
		}
		return t.appendTo(out), err
	}
}

func equivalence(negate bool) operator {
	return func(e *eval, _ int, left, right, out []Value) ([]Value, error) {
		same, err := e.equivalent(left, right)
		return append(out, Boolean(same != negate)), err
	}
}

// inequality compares two items of one kind; what has no order is empty.
func inequality(holds func(order) bool) operator {
	return func(e *eval, pos int, left, right, out []Value) ([]Value, error) {
		a, okA, err := e.single(pos, left)
		if err != nil {
			return out, err
		}
		b, okB, err := e.single(pos, right)
		if err != nil || !okA || !okB {
			return out, err
		}
		o, err := e.compare(pos, a, b)
		if err != nil || o == unknown {
			return out, err
		}
		return append(out, Boolean(holds(o))), nil
	}
}

// compare orders two values (N1 section 6.2). Values of kinds that have no
// order among each other are an error.
func (e *eval) compare(pos int, a, b Value) (order, error) {
	x, y := a.comparable(), b.comparable()
	if x.kind == y.kind {
		switch x.kind {
		case kindString:
			return order(strings.Compare(x.ref.(string), y.ref.(string))), nil
		case kindDate, kindDateTime, kindTime:
			return compareMoments(x.ref.(*moment), y.ref.(*moment)), nil
		}
	}
	if isDay(x.kind) && isDay(y.kind) {
		return compareMoments(x.ref.(*moment), y.ref.(*moment)), nil
	}
	if o, ok := e.compareNumbers(x, y); ok {
		return o, nil
	}
	if x.kind == kindNode && x.bare || y.kind == kindNode && y.bare {
		return unknown, nil // an element without value
	}
	return unknown, e.fail(pos, "a %s and a %s have no order", a.TypeName(), b.TypeName())
}

func isDay(k systemKind) bool { return k == kindDate || k == kindDateTime }

// compareNumbers orders integers, decimals and quantities; ok is false for
// anything else.
func (e *eval) compareNumbers(x, y Value) (o order, ok bool) {
	if x.kind == kindInteger && y.kind == kindInteger {
		switch {
		case x.num < y.num:
			return less, true
		case x.num > y.num:
			return more, true
		}
		return same, true
	}
	if x.kind == kindQuantity || y.kind == kindQuantity {
		a, okA := x.Quantity()
		b, okB := y.Quantity()
		if !okA || !okB {
			return unknown, false
		}
		return compareQuantities(a, b, e.units), true
	}
	a, okA := x.Decimal()
	b, okB := y.Decimal()
	if !okA || !okB {
		return unknown, false
	}
	return order(a.Cmp(b)), true
}

// membership is `item in list`: by equality; without item it is empty.
func membership(e *eval, pos int, item, list, out []Value) ([]Value, error) {
	v, ok, err := e.single(pos, item)
	if err != nil || !ok {
		return out, err
	}
	found, err := e.has(list, v)
	return append(out, Boolean(found)), err
}

// has reports whether a list has an item equal to v.
func (e *eval) has(list []Value, v Value) (bool, error) {
	if err := e.cost(len(list)); err != nil {
		return false, err
	}
	for i := range list {
		t, err := e.equalItems(&list[i], &v, 0)
		if err != nil || t == yes {
			return t == yes, err
		}
	}
	return false, nil
}

// concatenate is &: what is empty counts as "".
func concatenate(e *eval, pos int, left, right, out []Value) ([]Value, error) {
	a, err := e.textOrEmpty(pos, left)
	if err != nil {
		return out, err
	}
	b, err := e.textOrEmpty(pos, right)
	if err != nil {
		return out, err
	}
	return append(out, String(a+b)), e.sized(a + b)
}

func (e *eval) textOrEmpty(pos int, items []Value) (string, error) {
	v, ok, err := e.single(pos, items)
	if err != nil || !ok {
		return "", err
	}
	text, ok := v.Text()
	if !ok && v.hasValue() {
		return "", e.fail(pos, "a string was expected, not a %s", v.TypeName())
	}
	return text, nil
}

// calculation is an operator of arithmetic: empty where an operand is.
func calculation(op string) operator {
	return func(e *eval, pos int, left, right, out []Value) ([]Value, error) {
		a, okA, err := e.single(pos, left)
		if err != nil {
			return out, err
		}
		b, okB, err := e.single(pos, right)
		if err != nil || !okA || !okB {
			return out, err
		}
		v, ok, err := e.calculate(pos, op, a.comparable(), b.comparable())
		if err != nil || !ok {
			return out, err
		}
		return append(out, v), nil
	}
}

// calculate applies an operator; ok is false where there is no result: division
// by zero, overflow, a date out of the calendar.
func (e *eval) calculate(pos int, op string, a, b Value) (v Value, ok bool, err error) {
	switch {
	case op == "+" && a.kind == kindString && b.kind == kindString:
		text := a.ref.(string) + b.ref.(string)
		return String(text), true, e.sized(text)
	case isMoment(a.kind) && b.kind == kindQuantity && (op == "+" || op == "-"):
		return e.move(pos, a, *b.ref.(*Quantity), op == "-")
	case a.kind == kindInteger && b.kind == kindInteger && op != "/":
		v, ok = calculateIntegers(op, a.num, b.num)
		return v, ok, nil
	case a.kind == kindQuantity || b.kind == kindQuantity:
		x, okX := a.Quantity()
		y, okY := b.Quantity()
		if okX && okY {
			return e.calculateQuantities(pos, op, x, y)
		}
	default:
		x, okX := a.Decimal()
		y, okY := b.Decimal()
		if okX && okY {
			v, ok = calculateDecimals(op, x, y)
			return v, ok, nil
		}
	}
	return Value{}, false, e.fail(pos, "%s cannot be applied to a %s and a %s", op, a.TypeName(), b.TypeName())
}

func isMoment(k systemKind) bool { return isDay(k) || k == kindTime }

func calculateIntegers(op string, a, b int64) (Value, bool) {
	switch op {
	case "+":
		r := a + b
		return Integer(r), (r > a) == (b > 0)
	case "-":
		r := a - b
		return Integer(r), (r < a) == (b > 0)
	case "*":
		r := a * b
		return Integer(r), a == 0 || (r/a == b && !(a == -1 && b == minInteger))
	case "div":
		if b == 0 || a == minInteger && b == -1 {
			return Value{}, false
		}
		return Integer(a / b), true
	case "mod":
		if b == 0 || b == -1 {
			return Integer(0), b != 0
		}
		return Integer(a % b), true
	}
	return Value{}, false
}

const minInteger = -1 << 63

func calculateDecimals(op string, a, b *apd.Decimal) (Value, bool) {
	var r apd.Decimal
	var c apd.Condition
	// Conditions say what went wrong; nothing traps, so there is no error.
	switch op {
	case "+":
		c, _ = arithmetic.Add(&r, a, b)
	case "-":
		c, _ = arithmetic.Sub(&r, a, b)
	case "*":
		c, _ = arithmetic.Mul(&r, a, b)
	case "/":
		if c, _ = arithmetic.Quo(&r, a, b); r.Form == apd.Finite {
			r = *tidy(&r, max(decimals(a, false)-decimals(b, false), 0))
		}
	case "div":
		c, _ = arithmetic.QuoInteger(&r, a, b)
		return integerResult(&r, c)
	case "mod":
		c, _ = arithmetic.Rem(&r, a, b)
	}
	return decimalResult(&r, c)
}

// integerResult makes an Integer of a whole decimal.
func integerResult(d *apd.Decimal, c apd.Condition) (Value, bool) {
	if _, ok := decimalResult(d, c); !ok {
		return Value{}, false
	}
	i, err := roundTo(d, 0).Int64()
	return Integer(i), err == nil
}

// calculateQuantities: sums need one dimension, products make a new unit.
func (e *eval) calculateQuantities(pos int, op string, a, b Quantity) (Value, bool, error) {
	switch op {
	case "+", "-":
		return e.sum(pos, op, a, b)
	case "*", "/":
		v, ok := calculateDecimals(op, a.Value, b.Value)
		if !ok {
			return v, false, nil
		}
		return quantityValue(Quantity{Value: v.ref.(*apd.Decimal), Unit: joinUnits(op, a.code(), b.code())}), true, nil
	}
	return Value{}, false, e.fail(pos, "%s cannot be applied to quantities", op)
}

func (e *eval) sum(pos int, op string, a, b Quantity) (Value, bool, error) {
	x, y := a.Value, b.Value
	if a.Unit != b.Unit || a.Calendar != b.Calendar {
		_, xUnit := a.inBase(e.units, false)
		base, yUnit := b.inBase(e.units, false)
		if xUnit != yUnit {
			return Value{}, false, e.fail(pos, "%s and %s are not of one dimension", a, b)
		}
		one, _ := Quantity{apd.New(1, 0), a.Unit, a.Calendar}.inBase(e.units, false)
		v, ok := calculateDecimals("/", base, one)
		if !ok {
			return v, false, nil
		}
		y = v.ref.(*apd.Decimal)
	}
	v, ok := calculateDecimals(op, x, y)
	if !ok {
		return v, false, nil
	}
	return quantityValue(Quantity{v.ref.(*apd.Decimal), a.Unit, a.Calendar}), true, nil
}

// code is the quantity's unit in UCUM.
func (q Quantity) code() string {
	if q.Calendar {
		return calendarUCUM[q.Unit]
	}
	return q.Unit
}

// joinUnits writes the unit of a product or quotient in UCUM.
func joinUnits(op, a, b string) string {
	switch {
	case b == unity:
		return a
	case op == "*" && a == unity:
		return b
	case op == "*":
		return a + "." + bracketed(b)
	case a == b:
		return unity
	}
	return a + "/" + bracketed(b)
}

func bracketed(unit string) string {
	if strings.ContainsAny(unit, "./") {
		return "(" + unit + ")"
	}
	return unit
}

// calendarPrecision says what part of a moment a unit counts, and how many of
// that part one unit is.
var calendarPrecision = map[string]shift{
	"year": {1, precisionYear}, "month": {1, precisionMonth}, "week": {7, precisionDay}, "day": {1, precisionDay},
	"hour": {1, precisionHour}, "minute": {1, precisionMinute}, "second": {1, precisionSecond},
	"millisecond": {1, precisionMilli},
}

// exactUCUM are UCUM's units that may be added to a moment: those a calendar
// agrees with (N1 section 6.6.7). A UCUM year or month is none.
var exactUCUM = map[string]string{
	"wk": "week", "d": "day", "h": "hour", "min": "minute", "s": "second", "ms": "millisecond",
}

// move adds a stretch of time to a moment. Fractions of units above the second
// are cut off.
func (e *eval) move(pos int, a Value, by Quantity, back bool) (Value, bool, error) {
	word := by.Unit
	if !by.Calendar {
		ok := false
		if word, ok = exactUCUM[by.Unit]; !ok {
			// HL7's tests also put calendar words between quotes.
			if word, ok = calendarUnit(by.Unit); !ok {
				return Value{}, false, e.fail(pos, "%s cannot be added to a date or time", by)
			}
		}
	}
	unit := calendarPrecision[word]
	value := by.Value
	if word == "second" && value.Exponent < 0 {
		value, unit = times(value, apd.New(1000, 0)), calendarPrecision["millisecond"]
	}
	n, err := quantized(value, 0, apd.RoundDown).Int64()
	if err != nil || n > maxMove || n < -maxMove {
		return Value{}, false, nil //nolint:nilerr // more than any int64 is too far, as maxMove is: no date, not a failure
	}
	if back {
		n = -n
	}
	m := a.ref.(*moment)
	if m.kind == kindTime && unit.unit < precisionHour {
		return Value{}, false, e.fail(pos, "%s cannot be added to a time", by)
	}
	moved, ok := m.add(shift{n * unit.n, unit.unit})
	return Value{kind: a.kind, ref: moved}, ok, nil
}

// negated turns a number's sign.
func negated(v Value) Value {
	switch v.kind {
	case kindInteger:
		return Integer(-v.num)
	case kindDecimal:
		return DecimalValue(new(apd.Decimal).Neg(v.ref.(*apd.Decimal)))
	}
	q := *v.ref.(*Quantity)
	q.Value = new(apd.Decimal).Neg(q.Value)
	return quantityValue(q)
}
