package patch

import (
	"strconv"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// equal is RFC 6902 section 4.6: numbers by value, strings by characters,
// objects without regard to order.
func equal(a, b *value) bool {
	if a.kind != b.kind || len(a.kids) != len(b.kids) {
		return false
	}
	switch a.kind {
	case fhir.Number:
		return decimal(string(a.raw)) == decimal(string(b.raw))
	case fhir.Object:
		for i, name := range a.names {
			if other := b.step(name); other == nil || !equal(a.kids[i], other) {
				return false
			}
		}
		return true
	case fhir.Array:
		for i := range a.kids {
			if !equal(a.kids[i], b.kids[i]) {
				return false
			}
		}
		return true
	}
	return a.text == b.text // booleans as written; null has none
}

// number is a decimal in the one form that equal numbers share: its digits
// without zeros at either end, and the power of ten of the last one.
type number struct {
	negative bool
	digits   string
	exponent int
	huge     string // the exponent's text when it is beyond int
}

// decimal reads a JSON number without ever expanding its exponent.
func decimal(text string) number {
	text, negative := strings.CutPrefix(text, "-")
	mantissa, power := text, ""
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		mantissa, power = text[:at], text[at+1:]
	}
	n := number{negative: negative}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if power != "" {
		exponent, err := strconv.ParseInt(power, 10, 32)
		if err != nil {
			n.huge = power
		}
		n.exponent = int(exponent)
	}
	n.exponent -= len(fraction)
	n.digits = strings.TrimLeft(whole+fraction, "0")
	trimmed := strings.TrimRight(n.digits, "0")
	n.exponent += len(n.digits) - len(trimmed)
	if n.digits = trimmed; trimmed == "" {
		return number{} // zero, whatever its sign and exponent
	}
	return n
}
