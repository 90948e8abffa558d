package fhirpath

import (
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// conversion gives a value in another type, or false.
type conversion func(v Value) (Value, bool)

// to makes toX(): the converted item, or nothing.
func to(convert conversion) function {
	return eager(0, 0, func(e *eval, pos int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		v, ok, err := e.single(pos, in)
		if err != nil || !ok {
			return out, err
		}
		if r, ok := convert(v.comparable()); ok {
			out = append(out, r)
		}
		return out, nil
	})
}

// convertsTo makes convertsToX(): whether toX() gives anything.
func convertsTo(convert conversion) function {
	return eager(0, 0, func(e *eval, pos int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		v, ok, err := e.single(pos, in)
		if err != nil || !ok {
			return out, err
		}
		_, ok = convert(v.comparable())
		return append(out, Boolean(ok)), nil
	})
}

// conversionFunctions are those of N1 section 5.5.
var conversionFunctions = map[string]function{
	"toBoolean": to(toBoolean), "convertsToBoolean": convertsTo(toBoolean),
	"toInteger": to(toInteger), "convertsToInteger": convertsTo(toInteger),
	"toDecimal": to(toDecimal), "convertsToDecimal": convertsTo(toDecimal),
	"toString": to(toText), "convertsToString": convertsTo(toText),
	"toDate": to(toMoment(kindDate)), "convertsToDate": convertsTo(toMoment(kindDate)),
	"toDateTime": to(toMoment(kindDateTime)), "convertsToDateTime": convertsTo(toMoment(kindDateTime)),
	"toTime": to(toMoment(kindTime)), "convertsToTime": convertsTo(toMoment(kindTime)),
	"toQuantity":         eager(0, 1, quantityIn(false)),
	"convertsToQuantity": eager(0, 1, quantityIn(true)),
}

func toBoolean(v Value) (Value, bool) {
	switch v.kind {
	case kindBoolean:
		return v, true
	case kindInteger:
		return Boolean(v.num == 1), v.num == 0 || v.num == 1
	case kindDecimal:
		one := v.ref.(*apd.Decimal).Cmp(apd.New(1, 0)) == 0
		return Boolean(one), one || v.ref.(*apd.Decimal).IsZero()
	case kindString:
		switch strings.ToLower(v.ref.(string)) {
		case "true", "t", "yes", "y", "1", "1.0":
			return Boolean(true), true
		case "false", "f", "no", "n", "0", "0.0":
			return Boolean(false), true
		}
	}
	return Value{}, false
}

func toInteger(v Value) (Value, bool) {
	switch v.kind {
	case kindInteger:
		return v, true
	case kindBoolean:
		return Integer(v.num), true
	case kindString:
		i, err := strconv.ParseInt(v.ref.(string), 10, 64)
		return Integer(i), err == nil
	}
	return Value{}, false
}

func toDecimal(v Value) (Value, bool) {
	switch v.kind {
	case kindDecimal:
		return v, true
	case kindInteger, kindBoolean:
		return DecimalValue(apd.New(v.num, 0)), true
	case kindString:
		if text := v.ref.(string); !strings.ContainsAny(text, "eE") {
			d, ok := parseDecimal(text)
			return DecimalValue(d), ok
		}
	}
	return Value{}, false
}

func toText(v Value) (Value, bool) {
	text, ok := v.display()
	return String(text), ok && v.kind != kindType
}

// toMoment converts strings, and dates and dateTimes to one another.
func toMoment(kind systemKind) conversion {
	return func(v Value) (Value, bool) {
		switch {
		case v.kind == kind:
			return v, true
		case v.kind == kindString:
			m, ok := parseMoment(kind, v.ref.(string))
			return Value{kind: kind, ref: m}, ok
		case isDay(v.kind) && isDay(kind):
			m := *v.ref.(*moment)
			m.kind = kind
			if kind == kindDate && m.precision > precisionDay {
				m.precision, m.zoned, m.offset, m.fraction = precisionDay, false, 0, 0
				m.wall = cutTo(m.wall, precisionDay)
			}
			return Value{kind: kind, ref: &m}, true
		}
		return Value{}, false
	}
}

func toQuantity(v Value) (Quantity, bool) {
	switch v.kind {
	case kindString:
		return parseQuantity(v.ref.(string))
	case kindBoolean:
		return Quantity{Value: apd.New(v.num, 0), Unit: unity}, true
	}
	return v.Quantity()
}

// quantityIn makes toQuantity(unit) and convertsToQuantity(unit): with a unit,
// the quantity is converted to it.
func quantityIn(only bool) plain {
	return func(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		v, ok, err := e.single(pos, in)
		if err != nil || !ok {
			return out, err
		}
		q, converts := toQuantity(v.comparable())
		if converts && len(args) == 1 {
			unit, ok, err := e.text(pos, args[0])
			if err != nil || !ok {
				return out, err
			}
			q, converts = q.in(unit, e.units)
		}
		switch {
		case only:
			out = append(out, Boolean(converts))
		case converts:
			out = append(out, quantityValue(q))
		}
		return out, nil
	}
}

// in is the quantity in another unit of its dimension.
func (q Quantity) in(unit string, units Units) (Quantity, bool) {
	target := Quantity{Value: apd.New(1, 0), Unit: unit}
	if word, ok := calendarUnit(unit); ok {
		target.Unit, target.Calendar = word, true
	}
	if q.Unit == target.Unit && q.Calendar == target.Calendar {
		return q, true
	}
	value, base := q.inBase(units, false)
	one, targetBase := target.inBase(units, false)
	if base != targetBase {
		return q, false
	}
	v, ok := calculateDecimals("/", value, one)
	if !ok {
		return q, false
	}
	target.Value = v.ref.(*apd.Decimal)
	return target, true
}
