package iam

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// set is how an operator treats the values of a key.
type set uint8

const (
	single set = iota
	anyValue
	allValues
)

// The prefixes and the suffix of operators.
const (
	prefixAny      = "ForAnyValue:"
	prefixAll      = "ForAllValues:"
	suffixIfExists = "IfExists"
)

// operator is a condition operator taken apart.
type operator struct {
	*test
	name     string // as AWS writes it, with prefix and suffix
	set      set
	ifExists bool
}

// test is what an operator compares. Each operand, one value of the policy, is
// compiled once.
type test struct {
	name    string
	on      []keyType // key types it takes; nil is all
	negated bool      // holds where no operand matches
	null    bool      // asks only whether the key is there
	compile func(text string, l language) (operand, error)
}

// operand is one value of a policy's condition, compiled.
type operand interface {
	// matches compares with one value of the request; resolved is false where a
	// policy variable has no value, so that nothing can be said.
	matches(value string, e *environment) (match, resolved bool)
}

// Which keys the typed operators take.
var (
	onARN     = []keyType{keyARN, keyTag}
	onNumber  = []keyType{keyEpoch, keyTag}
	onDate    = []keyType{keyDate, keyEpoch, keyTag}
	onBool    = []keyType{keyBool, keyTag}
	onAddress = []keyType{keyAddress, keyTag}
)

// Whether a comparison's result, below, equal or above zero, satisfies an
// operator.
func isEqual(c int) bool   { return c == 0 }
func isLess(c int) bool    { return c < 0 }
func isAtMost(c int) bool  { return c <= 0 }
func isMore(c int) bool    { return c > 0 }
func isAtLeast(c int) bool { return c >= 0 }

// tests are the operators (IAM User Guide, "IAM JSON policy elements: Condition
// operators"), except BinaryEquals, which no key of this server is fit for.
var tests = []test{
	{name: "StringEquals", compile: text(false)},
	{name: "StringNotEquals", negated: true, compile: text(false)},
	{name: "StringEqualsIgnoreCase", compile: textIgnoringCase},
	{name: "StringNotEqualsIgnoreCase", negated: true, compile: textIgnoringCase},
	{name: "StringLike", compile: text(true)},
	{name: "StringNotLike", negated: true, compile: text(true)},
	{name: "NumericEquals", on: onNumber, compile: number(isEqual)},
	{name: "NumericNotEquals", on: onNumber, negated: true, compile: number(isEqual)},
	{name: "NumericLessThan", on: onNumber, compile: number(isLess)},
	{name: "NumericLessThanEquals", on: onNumber, compile: number(isAtMost)},
	{name: "NumericGreaterThan", on: onNumber, compile: number(isMore)},
	{name: "NumericGreaterThanEquals", on: onNumber, compile: number(isAtLeast)},
	{name: "DateEquals", on: onDate, compile: date(isEqual)},
	{name: "DateNotEquals", on: onDate, negated: true, compile: date(isEqual)},
	{name: "DateLessThan", on: onDate, compile: date(isLess)},
	{name: "DateLessThanEquals", on: onDate, compile: date(isAtMost)},
	{name: "DateGreaterThan", on: onDate, compile: date(isMore)},
	{name: "DateGreaterThanEquals", on: onDate, compile: date(isAtLeast)},
	{name: "Bool", on: onBool, compile: boolean},
	{name: "IpAddress", on: onAddress, compile: address},
	{name: "NotIpAddress", on: onAddress, negated: true, compile: address},
	{name: "ArnEquals", on: onARN, compile: arnPattern},
	{name: "ArnLike", on: onARN, compile: arnPattern},
	{name: "ArnNotEquals", on: onARN, negated: true, compile: arnPattern},
	{name: "ArnNotLike", on: onARN, negated: true, compile: arnPattern},
	{name: "Null", null: true, compile: boolean},
}

// operatorNames lists the operators for a message.
func operatorNames() string {
	names := make([]string, len(tests))
	for i := range tests {
		names[i] = tests[i].name
	}
	return strings.Join(names, ", ")
}

// findOperator takes an operator's name apart.
func findOperator(written string) (operator, error) {
	var op operator
	name := written
	switch {
	case hasPrefixFold(name, prefixAny):
		op.set, name = anyValue, name[len(prefixAny):]
	case hasPrefixFold(name, prefixAll):
		op.set, name = allValues, name[len(prefixAll):]
	}
	if at := len(name) - len(suffixIfExists); at > 0 && strings.EqualFold(name[at:], suffixIfExists) {
		op.ifExists, name = true, name[:at]
	}
	for i := range tests {
		if strings.EqualFold(tests[i].name, name) {
			op.test = &tests[i]
		}
	}
	switch {
	case op.test == nil:
		return op, fmt.Errorf("the operator %q is not known; known are %s, with the prefixes %s and %s and the suffix %s",
			written, operatorNames(), prefixAny, prefixAll, suffixIfExists)
	case op.null && (op.ifExists || op.set != single):
		return op, errors.New("the operator Null takes no prefix and no IfExists")
	}
	op.name = written
	return op, nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// takes reports whether an operator may look at keys of this type.
func (t *test) takes(k keyType) bool {
	return t.on == nil || slices.Contains(t.on, k)
}

// textOperand compares texts and ARNs.
type textOperand struct {
	template
	prepare func(string) string // what is done to the request's value; nil is nothing
	fits    func(string) bool   // what the request's value must be; nil is anything
}

func (o textOperand) matches(value string, e *environment) (match, resolved bool) {
	pattern, ok := o.expand(e)
	if !ok {
		return false, false
	}
	if o.fits != nil && !o.fits(value) {
		return false, true
	}
	if o.prepare != nil {
		value = o.prepare(value)
	}
	return pattern.match(value), true
}

// text compiles the operands of the string operators.
func text(wildcards bool) func(string, language) (operand, error) {
	return func(s string, l language) (operand, error) {
		l.wildcards, l.shape = wildcards, asIs
		t, err := newTemplate(s, l)
		return textOperand{template: t}, err
	}
}

func textIgnoringCase(s string, l language) (operand, error) {
	l.wildcards, l.shape = false, folded
	t, err := newTemplate(s, l)
	return textOperand{template: t, prepare: foldText}, err
}

// arnPattern compiles the operands of the ARN operators, which all read
// wildcards, field by field.
func arnPattern(s string, l language) (operand, error) {
	l.wildcards, l.shape = true, comparedARN
	if s != "*" && strings.Count(s, ":") < arnColons {
		return nil, fmt.Errorf("%q is not an ARN: arn:partition:service:region:account:resource, each with * and ? where wanted", s)
	}
	t, err := newTemplate(s, l)
	return textOperand{template: t, fits: looksLikeARN}, err
}

func looksLikeARN(s string) bool {
	return strings.HasPrefix(s, "arn:") && strings.Count(s, ":") >= arnColons
}

// numberOperand compares decimals exactly.
type numberOperand struct {
	than *big.Rat
	is   func(int) bool
}

func (o numberOperand) matches(value string, _ *environment) (match, resolved bool) {
	n, ok := parseNumber(value)
	return ok && o.is(n.Cmp(o.than)), true
}

func number(is func(int) bool) func(string, language) (operand, error) {
	return func(s string, _ language) (operand, error) {
		n, ok := parseNumber(s)
		if !ok {
			return nil, fmt.Errorf("%q is not a number", s)
		}
		return numberOperand{n, is}, nil
	}
}

// numberBytesMax bounds a number; exponents are not read, so that the length
// bounds the work.
const numberBytesMax = 64

func parseNumber(s string) (*big.Rat, bool) {
	digits := strings.TrimLeft(s, "+-")
	if len(s) > numberBytesMax || len(s)-len(digits) > 1 || strings.Trim(digits, "0123456789.") != "" {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// dateOperand compares moments.
type dateOperand struct {
	than time.Time
	is   func(int) bool
}

func (o dateOperand) matches(value string, _ *environment) (match, resolved bool) {
	t, ok := parseDate(value)
	return ok && o.is(t.Compare(o.than)), true
}

func date(is func(int) bool) func(string, language) (operand, error) {
	return func(s string, _ language) (operand, error) {
		t, ok := parseDate(s)
		if !ok {
			return nil, fmt.Errorf("%q is not a date: 2026-01-31T12:00:00Z, or seconds since 1970", s)
		}
		return dateOperand{t, is}, nil
	}
}

// dateLayouts are the W3C profile of ISO 8601 that IAM names; without a zone
// none is right but UTC.
var dateLayouts = []string{
	"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02", "2006-01", "2006",
}

// epochDigits is from how many digits on a number is seconds and not a year.
const epochDigits = 5

func parseDate(s string) (time.Time, bool) {
	if len(s) >= epochDigits {
		if seconds, err := strconv.ParseInt(s, 10, 64); err == nil {
			return time.Unix(seconds, 0), true
		}
	}
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

type boolOperand bool

func (o boolOperand) matches(value string, _ *environment) (match, resolved bool) {
	b, ok := parseBool(value)
	return ok && b == bool(o), true
}

func boolean(s string, _ language) (operand, error) {
	b, ok := parseBool(s)
	if !ok {
		return nil, fmt.Errorf("%q is neither true nor false", s)
	}
	return boolOperand(b), nil
}

func parseBool(s string) (b, ok bool) {
	return strings.EqualFold(s, "true"), strings.EqualFold(s, "true") || strings.EqualFold(s, "false")
}

type addressOperand struct{ netip.Prefix }

func (o addressOperand) matches(value string, _ *environment) (match, resolved bool) {
	a, err := netip.ParseAddr(value)
	return err == nil && o.Contains(a.Unmap()), true
}

// address reads an IPv4 or IPv6 address, or a range in CIDR notation.
func address(s string, _ language) (operand, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return addressOperand{netip.PrefixFrom(a, a.BitLen())}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return nil, fmt.Errorf("%q is not an address or a range such as 203.0.113.0/24 or 2001:db8::/32", s)
	}
	return addressOperand{p.Masked()}, nil
}
