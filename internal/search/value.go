package search

import (
	"fmt"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Prefix is how an ordered value compares (R4 3.1.1.4.5).
type Prefix uint8

// The prefixes.
const (
	Eq Prefix = iota
	Ne
	Gt
	Lt
	Ge
	Le
	Sa
	Eb
	Ap
	// Overlaps is no prefix, but an operator of _filter (po).
	Overlaps
)

var prefixNames = [...]string{"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap", "po"}

func (p Prefix) String() string { return prefixNames[p] }

// cutPrefix takes a prefix off a value; without one it is Eq.
func cutPrefix(s string) (Prefix, string) {
	if len(s) > 2 {
		for i, name := range prefixNames[:Overlaps] {
			if s[:2] == name {
				return Prefix(i), s[2:]
			}
		}
	}
	return Eq, s
}

// Value is one alternative of a parameter's value, typed: TokenValue,
// ReferenceValue, StringValue, DateValue, NumberValue, QuantityValue, URIValue,
// OfTypeValue, PositionValue, WordsValue or CompositeValue.
type Value interface{ value() }

// TokenValue is [system|]code. Any is true without a bar: every system, and
// none. An empty Code with a System is every code of it.
type TokenValue struct {
	Any          bool
	System, Code string
}

// OfTypeValue is system|code|value of :of-type.
type OfTypeValue struct{ System, Code, Value string }

// ReferenceValue is a reference: to resources of this store (Keys, one per type
// that may be meant), to one version of one (Version not empty), or by URL.
// None of them: what the modifier :[type] excludes.
type ReferenceValue struct {
	Keys    []plan.Key
	Version string
	URL     string
}

// StringValue is text as it was sent.
type StringValue string

// URIValue is a uri as it was sent.
type URIValue string

// Interval is Low ≤ t < High in milliseconds since 1970 UTC; the ends are
// fhir.MinTime and fhir.MaxTime where they are open.
type Interval = fhir.Interval

// Stretch is an Interval with all digits of its ends.
type Stretch = fhir.Stretch

// DateValue is a prefixed date as the interval that its precision gives. Exact,
// when not nil, is what it is exactly: a stretch within the one millisecond of the
// interval, for a fraction of more than three digits.
type DateValue struct {
	Prefix Prefix
	Interval
	Exact *Stretch
}

// NumberValue is a prefixed number. Low ≤ x < High is what its precision means
// (R4 3.1.1.4.6), ApproxLow ≤ x ≤ ApproxHigh is ten percent around it.
type NumberValue struct {
	Prefix                Prefix
	Value                 float64
	Low, High             float64
	ApproxLow, ApproxHigh float64
	Text                  string // the number as sent, without prefix
}

// QuantityValue is [prefix]number[|system|code]. Without bars Unit is false.
// With an empty System, Code is a code or a unit of any system; with an empty
// Code, every code of System is meant.
type QuantityValue struct {
	NumberValue
	Unit         bool
	System, Code string
}

// CompositeValue is the parts of a composite, one per component.
type CompositeValue []Value

func (TokenValue) value()     {}
func (OfTypeValue) value()    {}
func (ReferenceValue) value() {}
func (StringValue) value()    {}
func (URIValue) value()       {}
func (DateValue) value()      {}
func (NumberValue) value()    {}
func (QuantityValue) value()  {}
func (CompositeValue) value() {}

// split cuts s at separators that no backslash precedes and leaves escapes as
// they are (R4 3.1.1.4.19).
func split(s string, sep byte) []string {
	if strings.IndexByte(s, sep) < 0 {
		return []string{s}
	}
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// unescape takes the backslashes off \, \| \$ and \\. R4 calls other uses
// illegal; they are read as written.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`,|$\`, s[i+1]) >= 0 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// strayEscape reports a backslash before what needs none, which is illegal (R4
// 3.1.1.4.19).
func strayEscape(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		if i++; i == len(s) || strings.IndexByte(`,|$\`, s[i]) < 0 {
			return true
		}
	}
	return false
}

// Escape writes text so that it is one literal inside a search value.
func Escape(s string) string {
	return escaper.Replace(s)
}

var escaper = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`)

// parseToken reads [system|]code.
func parseToken(s string) (TokenValue, string) {
	parts := split(s, '|')
	switch len(parts) {
	case 1:
		code := unescape(parts[0])
		if code == "" {
			return TokenValue{}, "is empty"
		}
		return TokenValue{Any: true, Code: code}, ""
	case 2:
		v := TokenValue{System: unescape(parts[0]), Code: unescape(parts[1])}
		if v == (TokenValue{}) {
			return v, "has neither system nor code"
		}
		return v, ""
	}
	return TokenValue{}, `has more than one bar; write \| for a bar inside a code`
}

// parseStart reads the beginning of a string, of a uri or of a code.
func parseStart(param *Param, text string) (Value, string) {
	switch param.Kind {
	case KindURI:
		return URIValue(unescape(text)), ""
	case KindString:
		return StringValue(unescape(text)), ""
	}
	v, wrong := parseToken(text)
	switch {
	case wrong == "" && !v.Any:
		return v, "has a system, but sw looks at codes alone"
	case len(v.Code) > maxCodeBytes:
		return v, fmt.Sprintf("is longer than the %d bytes that sw looks at", maxCodeBytes)
	}
	return v, wrong
}

func parseOfType(s string) (OfTypeValue, string) {
	parts := split(s, '|')
	if len(parts) != 3 {
		return OfTypeValue{}, "is not type-system|type-code|value"
	}
	v := OfTypeValue{unescape(parts[0]), unescape(parts[1]), unescape(parts[2])}
	if v.System == "" || v.Code == "" || v.Value == "" {
		return v, "needs all of type-system|type-code|value"
	}
	return v, ""
}

func parseQuantity(s string) (QuantityValue, string) {
	parts := split(s, '|')
	number, wrong := parseNumber(parts[0])
	q := QuantityValue{NumberValue: number}
	switch {
	case wrong != "":
		return q, wrong
	case len(parts) > 3:
		return q, "is not [prefix]number|system|code"
	case len(parts) == 3:
		q.System, q.Code = unescape(parts[1]), unescape(parts[2])
	case len(parts) == 2:
		q.System = unescape(parts[1])
	}
	q.Unit = q.System != "" || q.Code != ""
	return q, ""
}

func parseDateValue(s string) (DateValue, string) {
	prefix, text := cutPrefix(unescape(s))
	stretch, fine, err := fhir.ParseSearchStretch(text)
	if err != nil {
		return DateValue{}, "is not a date; use YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss[.fff]][Z|+hh:mm]"
	}
	v := DateValue{Prefix: prefix, Interval: stretch.Interval()}
	if fine {
		v.Exact = &stretch
	}
	return v, ""
}

// approximately widens the interval by a tenth of its distance to now (R4
// 3.1.1.4.5, ap).
func (v DateValue) approximately(now time.Time) Interval {
	at := now.UnixMilli()
	return Interval{Low: v.Low - distance(at, v.Low)/10, High: v.High + distance(at, v.High)/10}
}

func distance(a, b int64) int64 {
	if a < b {
		a, b = b, a
	}
	return a - b
}
