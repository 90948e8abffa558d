package fhirpath

import (
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// Quantity is a number with a unit.
type Quantity struct {
	Value *apd.Decimal // not to be changed
	// Unit is a UCUM code, or, with Calendar, one of year, month, week, day,
	// hour, minute, second, millisecond.
	Unit     string
	Calendar bool
}

// unity is the unit of a number.
const unity = "1"

const ucumSystem = "http://unitsofmeasure.org"

// calendarUnit gives the singular of a calendar unit's name.
func calendarUnit(word string) (string, bool) {
	singular := strings.TrimSuffix(word, "s")
	_, ok := calendarUCUM[singular]
	return singular, ok
}

// calendarUCUM is the UCUM code nearest to a calendar unit. For year and month
// it is only equivalent, not equal (N1 section 2.1.9.1): a UCUM year is 365.25
// days, and a calendar's is what the calendar says.
var calendarUCUM = map[string]string{
	"year": "a", "month": "mo", "week": "wk", "day": "d",
	"hour": "h", "minute": "min", "second": "s", "millisecond": "ms",
}

// calendarOfUCUM is how FHIR's Quantity maps to calendar units
// (http://hl7.org/fhir/R4/fhirpath.html#quantity).
var calendarOfUCUM = map[string]string{
	"a": "year", "mo": "month", "d": "day", "h": "hour", "min": "minute", "s": "second",
}

// String writes the quantity as a literal: 4 days, 10.1 'mg'.
func (q Quantity) String() string {
	if !q.Calendar {
		return formatDecimal(q.Value) + " " + quote(q.Unit, '\'')
	}
	if one := apd.New(1, 0); q.Value.Cmp(one) == 0 {
		return formatDecimal(q.Value) + " " + q.Unit
	}
	return formatDecimal(q.Value) + " " + q.Unit + "s"
}

func (q Quantity) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"value":`...)
	dst = append(dst, formatDecimal(q.Value)...)
	code := q.Unit
	if q.Calendar {
		code = calendarUCUM[q.Unit]
		dst = append(dst, `,"unit":`...)
		dst = fhir.AppendString(dst, q.Unit)
	}
	dst = append(dst, `,"system":"`+ucumSystem+`","code":`...)
	dst = fhir.AppendString(dst, code)
	return append(dst, '}')
}

// Names the engine itself asks for.
var (
	nameValue     = fhir.Intern("value")
	nameUnit      = fhir.Intern("unit")
	nameSystem    = fhir.Intern("system")
	nameCode      = fhir.Intern("code")
	nameID        = fhir.Intern("id")
	nameURL       = fhir.Intern("url")
	nameExtension = fhir.Intern("extension")
	nameReference = fhir.Intern("reference")
	nameType      = fhir.Intern("type")
	nameContained = fhir.Intern("contained")
	nameResource  = fhir.Intern("resourceType")
)

// quantityOfNode reads a FHIR Quantity. One with a code of UCUM has that unit,
// one with another code or only a printed unit has the printed unit, which is
// then equal to itself alone. It is false without a value, and with a
// comparator, because "less than 5" is no number.
func quantityOfNode(n fhir.Node) (Quantity, bool) {
	value := n.GetName(nameValue)
	d, ok := parseDecimal(value.Text())
	if !ok || value.Kind() != fhir.Number || n.Get("comparator").Exists() {
		return Quantity{}, false
	}
	code := n.GetName(nameCode).Text()
	if code != "" && n.GetName(nameSystem).Is(ucumSystem) {
		if word, ok := calendarOfUCUM[code]; ok {
			return Quantity{d, word, true}, true
		}
		return Quantity{Value: d, Unit: code}, true
	}
	for _, unit := range []string{code, n.GetName(nameUnit).Text()} {
		if unit != "" {
			return Quantity{Value: d, Unit: unit}, true
		}
	}
	return Quantity{Value: d, Unit: unity}, true
}

// parseQuantity reads a quantity as toQuantity() does (N1 section 5.5.7): a
// number, alone or with a calendar word or a quoted UCUM code.
func parseQuantity(text string) (Quantity, bool) {
	number, unit, _ := strings.Cut(strings.TrimSpace(text), " ")
	if i := strings.IndexByte(number, '\''); i > 0 {
		number, unit = number[:i], number[i:]+unit
	}
	d, ok := parseDecimal(number)
	if !ok {
		return Quantity{}, false
	}
	unit = strings.TrimSpace(unit)
	if unit == "" {
		return Quantity{Value: d, Unit: unity}, true
	}
	if word, ok := calendarUnit(unit); ok {
		return Quantity{d, word, true}, true
	}
	if len(unit) < 3 || unit[0] != '\'' || unit[len(unit)-1] != '\'' {
		return Quantity{}, false
	}
	return Quantity{Value: d, Unit: unit[1 : len(unit)-1]}, true
}

// inBase is the quantity in a canonical unit, so that two of one dimension can
// be compared: calendar years and months count in months and stay among
// themselves, unless loosely, when they count as UCUM's. A unit that nobody
// knows is its own base.
func (q Quantity) inBase(units Units, loosely bool) (*apd.Decimal, string) {
	unit := q.Unit
	if q.Calendar {
		switch {
		case q.Unit == "year" && !loosely:
			return times(q.Value, apd.New(12, 0)), "month"
		case q.Unit == "month" && !loosely:
			return q.Value, "month"
		}
		unit = calendarUCUM[q.Unit]
	}
	if value, base, ok := units.Canonical(q.Value, unit); ok {
		return value, base
	}
	return q.Value, "\x00" + unit // no canonical unit looks like this
}

func times(a, b *apd.Decimal) *apd.Decimal {
	var r apd.Decimal
	// The factors are in bounds, so the product is finite; it is rounded.
	_, _ = arithmetic.Mul(&r, a, b)
	return &r
}

// comparableWith reports whether two quantities have one dimension.
func (q Quantity) comparableWith(other Quantity, units Units) bool {
	_, a := q.inBase(units, false)
	_, b := other.inBase(units, false)
	return a == b
}

// compareQuantities orders quantities of one dimension; others have no order.
func compareQuantities(a, b Quantity, units Units) order {
	if a.Unit == b.Unit && a.Calendar == b.Calendar {
		return order(a.Value.Cmp(b.Value))
	}
	x, xUnit := a.inBase(units, false)
	y, yUnit := b.inBase(units, false)
	if xUnit != yUnit {
		return unknown
	}
	return order(x.Cmp(y))
}

// equivalentQuantities is ~: the values are rounded to the digits of the less
// precise one, in its unit.
func equivalentQuantities(a, b Quantity, units Units) bool {
	x, xUnit := a.inBase(units, true)
	y, yUnit := b.inBase(units, true)
	if xUnit != yUnit {
		return false
	}
	if a.Unit == b.Unit {
		return equivalentDecimals(a.Value, b.Value)
	}
	scale := min(lastDigit(a, x), lastDigit(b, y))
	return roundTo(x, scale).Cmp(roundTo(y, scale)) == 0
}

// lastDigit is the place of the quantity's last digit when written in the base
// unit: digits behind the point, negative in front of it.
func lastDigit(q Quantity, base *apd.Decimal) int32 {
	if q.Value.IsZero() {
		return -min(q.Value.Exponent, 0)
	}
	var written apd.Decimal
	written.Reduce(q.Value)
	shift := magnitude(base) - magnitude(q.Value)
	return -(min(written.Exponent, 0) + shift)
}

// magnitude is the power of ten of a decimal's first digit.
func magnitude(d *apd.Decimal) int32 { return d.Exponent + int32(d.NumDigits()) - 1 }

// equivalentDecimals rounds to the digits of the less precise one.
func equivalentDecimals(a, b *apd.Decimal) bool {
	places := min(decimals(a, true), decimals(b, true))
	return roundTo(a, places).Cmp(roundTo(b, places)) == 0
}
