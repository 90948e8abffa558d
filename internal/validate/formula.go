package validate

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// truth is FHIRPath's three-valued logic; unknown stands both for its empty
// collection and for what a formula cannot say.
type truth uint8

const (
	unknown truth = iota
	yes
	no
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// formula is as much of an invariant as follows from which members are there:
//
//	code.empty() or system.exists()
//	value.empty() or component.code.where(…).empty()
//
// Most of R4's invariants are such sentences altogether, and most of the others
// are settled by one side: a Quantity without code meets qty-3 whatever else it
// holds. The bits of the members are at hand when the walk has gone through an
// object, so the answer costs a few instructions. What it leaves unknown is
// FHIRPath's to say.
type formula struct {
	op      operator
	bit     uint8     // exists, path
	absent  truth     // path: what it is when the first step is not there
	literal string    // equals
	name    fhir.Name // equals, hasValue
	a, b    *formula
}

type operator uint8

const (
	opOpaque   operator = iota // FHIRPath's alone
	opExists                   // name.exists()
	opPath                     // name.….exists() and .empty(): known while name is absent
	opHasValue                 // name.hasValue()
	opEquals                   // name = 'literal', name = true
	opNot
	opAnd
	opOr
	opXor
	opImplies
	opSame // a = b of truths
)

var opaque = &formula{op: opOpaque}

// complete reports whether a formula is the whole invariant, so that FHIRPath
// is never asked. A nil formula says nothing. Equality is left out: it is
// unknown of an absent member, where FHIRPath is empty; both are met.
func (f *formula) complete() bool {
	if f == nil {
		return false
	}
	switch f.op {
	case opOpaque, opPath:
		return false
	case opExists, opHasValue, opEquals:
		return true
	}
	return f.a.complete() && (f.b == nil || f.b.complete())
}

// eval gives the truth of an object with these members; nil is unknown.
func (f *formula) eval(seen uint64, n fhir.Node) truth {
	if f == nil {
		return unknown
	}
	switch f.op {
	case opExists:
		return truthOf(seen&(1<<f.bit) != 0)
	case opPath:
		if seen&(1<<f.bit) == 0 {
			return f.absent
		}
		return unknown
	case opHasValue:
		return truthOf(n.GetName(f.name).Exists())
	case opEquals:
		return f.equals(n.GetName(f.name))
	case opOpaque:
		return unknown
	case opNot:
		return f.a.eval(seen, n).not()
	}
	return f.join(seen, n)
}

func (f *formula) equals(value fhir.Node) truth {
	switch value.Kind() {
	case fhir.String:
		return truthOf(value.Is(f.literal))
	case fhir.Bool:
		return truthOf(string(value.Raw()) == f.literal)
	}
	return unknown
}

func (t truth) not() truth { return [...]truth{unknown: unknown, yes: no, no: yes}[t] }

// join evaluates the operators with two sides (FHIRPath N1, section 6.5).
func (f *formula) join(seen uint64, n fhir.Node) truth {
	left := f.a.eval(seen, n)
	switch {
	case f.op == opAnd && left == no:
		return no
	case f.op == opOr && left == yes, f.op == opImplies && left == no:
		return yes
	}
	right := f.b.eval(seen, n)
	switch f.op {
	case opAnd:
		return and(left, right)
	case opOr:
		return and(left.not(), right.not()).not()
	case opImplies:
		return and(left, right.not()).not()
	case opXor:
		return same(left, right).not()
	}
	return same(left, right)
}

func and(a, b truth) truth {
	switch {
	case a == no || b == no:
		return no
	case a == yes && b == yes:
		return yes
	}
	return unknown
}

func same(a, b truth) truth {
	if a == unknown || b == unknown {
		return unknown
	}
	return truthOf(a == b)
}

// parseFormula reads the expression of an invariant of a shape. Whatever it
// does not know is opaque, so it has no errors.
func parseFormula(s *shape, expression string) *formula {
	return formulaParser{s}.parse(strings.Join(strings.Fields(expression), " "))
}

type formulaParser struct{ shape *shape }

// levels are the operators between truths, the loosest first (FHIRPath N1,
// section 6.8).
var levels = []map[string]operator{
	{"implies": opImplies}, {"or": opOr, "xor": opXor}, {"and": opAnd},
}

func (p formulaParser) parse(text string) *formula {
	text = strings.TrimSpace(text)
	for _, level := range levels {
		if left, op, right := cutOperator(text, level); op != opOpaque {
			return combine(op, p.parse(left), p.parse(right))
		}
	}
	if _, op, _ := cutOperator(text, map[string]operator{"in": opSame, "contains": opSame}); op != opOpaque {
		return opaque
	}
	if f := p.comparison(text); f != nil {
		return f
	}
	return p.leaf(text)
}

// combine joins two sides; two sides that nothing is known of stay opaque.
func combine(op operator, a, b *formula) *formula {
	if a.op == opOpaque && b.op == opOpaque {
		return opaque
	}
	return &formula{op: op, a: a, b: b}
}

// comparison reads = and !=, nil when there is none.
func (p formulaParser) comparison(text string) *formula {
	at, n := findEquals(text)
	if at < 0 {
		return nil
	}
	left, right := strings.TrimSpace(text[:at]), strings.TrimSpace(text[at+n:])
	f := p.literal(left, right)
	if f == nil {
		a, b := p.parse(left), p.parse(right)
		if a.op == opOpaque || b.op == opOpaque {
			return opaque
		}
		f = &formula{op: opSame, a: a, b: b}
	}
	if n == len("!=") {
		f = &formula{op: opNot, a: f}
	}
	return f
}

// literal reads name = 'text', name = true and name = %ucum of a single
// primitive; nil when the sides are anything else.
func (p formulaParser) literal(left, right string) *formula {
	f := &formula{op: opEquals}
	switch {
	case right == "true" || right == "false":
		f.literal = right
	case right == "%ucum":
		f.literal = "http://unitsofmeasure.org"
	case len(right) > 2 && right[0] == '\'' && strings.IndexByte(right[1:], '\'') == len(right)-2 && !strings.Contains(right, `\`):
		f.literal = right[1 : len(right)-1]
	default:
		return nil
	}
	sl := p.shape.named(p.local(left))
	if sl == nil || sl.form != formPrimitive || sl.array || sl.choice {
		return nil
	}
	f.name = sl.name
	return f
}

// local takes the type's own name off a path: Appointment.status.
func (p formulaParser) local(path string) string { return strings.TrimPrefix(path, p.shape.name+".") }

// leaf reads what stands between operators.
func (p formulaParser) leaf(text string) *formula {
	if inner, ok := unwrap(text); ok {
		return p.parse(inner)
	}
	if inner, ok := strings.CutSuffix(text, ".not()"); ok {
		f := p.leaf(inner)
		if f.op == opOpaque {
			return opaque
		}
		return &formula{op: opNot, a: f}
	}
	path := p.local(text)
	if inner, ok := strings.CutSuffix(path, ".exists()"); ok {
		return p.path(inner, no)
	}
	if inner, ok := strings.CutSuffix(path, ".empty()"); ok {
		return negated(p.path(inner, no))
	}
	if inner, ok := strings.CutSuffix(path, ".hasValue()"); ok {
		if sl := p.shape.named(inner); sl != nil && sl.form == formPrimitive && !sl.array && !sl.choice {
			return &formula{op: opHasValue, name: sl.name}
		}
	}
	return opaque
}

func negated(f *formula) *formula {
	switch f.op {
	case opOpaque:
		return f
	case opPath:
		turned := *f
		turned.absent = f.absent.not()
		return &turned
	}
	return &formula{op: opNot, a: f}
}

// path reads a path whose existence is asked for.
func (p formulaParser) path(path string, absent truth) *formula {
	steps := splitSteps(path)
	bit, ok := p.shape.bitOf(steps[0])
	switch {
	case !ok:
		return opaque
	case len(steps) == 1:
		return &formula{op: opExists, bit: bit}
	}
	for _, step := range steps[1:] {
		if !keepsEmpty(step) {
			return opaque
		}
	}
	return &formula{op: opPath, bit: bit, absent: absent}
}

// bitOf finds an element by the name FHIRPath has for it.
func (s *shape) bitOf(name string) (uint8, bool) {
	for i, e := range s.bits {
		if e.Name == name {
			return uint8(i), true
		}
	}
	return 0, false
}

// emptyFunctions give nothing when asked of nothing, whatever they are given.
var emptyFunctions = []string{"where(", "select(", "first(", "last(", "tail(", "ofType(", "as(", "intersect("}

// keepsEmpty reports whether a step of a path leads from nothing to nothing.
func keepsEmpty(step string) bool {
	if isName(step) {
		return true
	}
	for _, f := range emptyFunctions {
		if strings.HasPrefix(step, f) {
			return true
		}
	}
	return false
}

func isName(step string) bool {
	for i := range len(step) {
		if c := step[i]; !isLetter(c) && !isDigit(c) && c != '_' && c != '`' {
			return false
		}
	}
	return step != ""
}

// outside calls at for each byte that stands in no quotes and no brackets, from
// left to right, until it gives false.
func outside(text string, at func(i int) bool) {
	depth, quote := 0, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			switch c {
			case '\\':
				i++
			case quote:
				quote = 0
			}
		case c == '\'' || c == '`':
			quote = c
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			depth--
		case depth == 0:
			if !at(i) {
				return
			}
		}
	}
}

// cutOperator cuts at the last of the operators, since they bind to the left.
func cutOperator(text string, operators map[string]operator) (left string, op operator, right string) {
	outside(text, func(i int) bool {
		if text[i] != ' ' && text[i] != ')' {
			return true
		}
		word, _, found := strings.Cut(text[i+1:], " ")
		if o, ok := operators[word]; ok && found && text[i] == ' ' {
			left, op, right = text[:i], o, text[i+len(word)+2:]
		}
		return true
	})
	return left, op, right
}

// findEquals gives the place and length of a comparison by = or !=, -1 when
// there is none or when another comparison stands beside it.
func findEquals(text string) (at, n int) {
	at, other := -1, false
	outside(text, func(i int) bool {
		switch c := text[i]; {
		case c == '<' || c == '>' || c == '~' || c == '+' || c == '|' || c == '&':
			other = true
		case c == '=' && i > 0 && text[i-1] == '!':
			at, n = i-1, 2
		case c == '=':
			at, n = i, 1
		}
		return true
	})
	if other {
		return -1, 0
	}
	return at, n
}

// unwrap takes brackets off that stand around the whole text.
func unwrap(text string) (string, bool) {
	if len(text) < 2 || text[0] != '(' || text[len(text)-1] != ')' {
		return text, false
	}
	whole := true
	outside(text, func(int) bool {
		whole = false
		return false
	})
	// Nothing stands outside of brackets, unless two pairs follow each other.
	if !whole || strings.Contains(text, ")(") {
		return text, false
	}
	return text[1 : len(text)-1], true
}

// splitSteps cuts a path at its dots.
func splitSteps(path string) []string {
	var steps []string
	start := 0
	outside(path, func(i int) bool {
		if path[i] == '.' {
			steps = append(steps, path[start:i])
			start = i + 1
		}
		return true
	})
	return append(steps, path[start:])
}
