package fhirpath

import "strings"

// node is an expression as parsed. Brackets are gone: the tree says what they
// said, and String puts them back where they are needed.
type node interface {
	// write prints the node; strength is how strongly the surroundings bind.
	write(b *strings.Builder, strength int)
	at() int // byte offset in the source
}

// The strengths of binding, weakest first (N1 section 8, "Operator Precedence").
const (
	bindNone = iota
	bindImplies
	bindOr
	bindAnd
	bindMembership
	bindEquality
	bindInequality
	bindUnion
	bindType
	bindAdditive
	bindMultiplicative
	bindSign
	bindPath
)

var strengths = map[string]int{
	"implies": bindImplies, "or": bindOr, "xor": bindOr, "and": bindAnd,
	"in": bindMembership, "contains": bindMembership,
	"=": bindEquality, "~": bindEquality, "!=": bindEquality, "!~": bindEquality,
	"<": bindInequality, "<=": bindInequality, ">": bindInequality, ">=": bindInequality,
	"|": bindUnion, "is": bindType, "as": bindType,
	"+": bindAdditive, "-": bindAdditive, "&": bindAdditive,
	"*": bindMultiplicative, "/": bindMultiplicative, "div": bindMultiplicative, "mod": bindMultiplicative,
}

type position int

func (p position) at() int { return int(p) }

type (
	// literal is a constant.
	literal struct {
		position
		value Value
	}
	// empty is {}.
	empty struct{ position }
	// special is $this, $index or $total.
	special struct {
		position
		name string
	}
	// variable is %name.
	variable struct {
		position
		name string
	}
	// member is a name: of an element, of $this when of is nil.
	member struct {
		position
		of   node
		name string
	}
	// call is a function; of is its input, nil for $this.
	call struct {
		position
		of   node
		name string
		args []node
	}
	// index is of[at].
	index struct {
		position
		of, place node
	}
	// sign is + or - in front.
	sign struct {
		position
		op string
		of node
	}
	// binary is an operator between two expressions.
	binary struct {
		position
		op          string
		left, right node
	}
	// typeTest is `of is type` or `of as type`.
	typeTest struct {
		position
		op   string
		of   node
		spec typeName
	}
	// ordered is a sort key with its direction.
	ordered struct {
		position
		of   node
		desc bool
	}
)

// typeName is a type specifier: FHIR.Patient or Patient.
type typeName struct{ space, name string }

func (t typeName) String() string {
	if t.space == "" {
		return quoteName(t.name)
	}
	return quoteName(t.space) + "." + quoteName(t.name)
}

func (n literal) write(b *strings.Builder, _ int) { b.WriteString(n.value.literalText()) }

func (n empty) write(b *strings.Builder, _ int)   { b.WriteString("{}") }
func (n special) write(b *strings.Builder, _ int) { b.WriteString("$" + n.name) }
func (n variable) write(b *strings.Builder, _ int) {
	b.WriteString("%" + quoteName(n.name))
}

func (n member) write(b *strings.Builder, _ int) {
	writeOf(b, n.of)
	b.WriteString(quoteName(n.name))
}

func (n call) write(b *strings.Builder, _ int) {
	writeOf(b, n.of)
	b.WriteString(quoteName(n.name) + "(")
	for i, a := range n.args {
		if i > 0 {
			b.WriteString(", ")
		}
		a.write(b, bindNone)
	}
	b.WriteByte(')')
}

func writeOf(b *strings.Builder, of node) {
	if of != nil {
		of.write(b, bindPath)
		b.WriteByte('.')
	}
}

func (n index) write(b *strings.Builder, _ int) {
	n.of.write(b, bindPath)
	b.WriteByte('[')
	n.place.write(b, bindNone)
	b.WriteByte(']')
}

func (n sign) write(b *strings.Builder, strength int) {
	bracket(b, bindSign < strength, func() {
		b.WriteString(n.op)
		n.of.write(b, bindSign)
	})
}

func (n binary) write(b *strings.Builder, strength int) {
	own := strengths[n.op]
	bracket(b, own < strength, func() {
		n.left.write(b, own)
		b.WriteString(" " + n.op + " ")
		n.right.write(b, own+1)
	})
}

func (n typeTest) write(b *strings.Builder, strength int) {
	bracket(b, bindType < strength, func() {
		n.of.write(b, bindType)
		b.WriteString(" " + n.op + " " + n.spec.String())
	})
}

func (n ordered) write(b *strings.Builder, _ int) {
	n.of.write(b, bindNone)
	if n.desc {
		b.WriteString(" desc")
	} else {
		b.WriteString(" asc")
	}
}

func bracket(b *strings.Builder, needed bool, inner func()) {
	if needed {
		b.WriteByte('(')
	}
	inner()
	if needed {
		b.WriteByte(')')
	}
}

// print gives the canonical text of a tree.
func print(n node) string {
	var b strings.Builder
	n.write(&b, bindNone)
	return b.String()
}

// quoteName writes a name, in back quotes where the grammar would read it as
// something else.
func quoteName(name string) string {
	if isIdentifier(name) && !reserved(name) {
		return name
	}
	return quote(name, '`')
}

// reserved names are keywords that cannot stand as identifiers; as, is, in,
// contains may.
func reserved(name string) bool {
	switch name {
	case "true", "false", "and", "or", "xor", "implies", "div", "mod":
		return true
	}
	return false
}

// quote writes text between quotes with the escapes of the grammar.
func quote(text string, mark byte) string {
	var b strings.Builder
	b.WriteByte(mark)
	for i := range len(text) {
		switch c := text[i]; c {
		case mark, '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\f':
			b.WriteString(`\f`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte(mark)
	return b.String()
}
