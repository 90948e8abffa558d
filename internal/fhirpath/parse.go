package fhirpath

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Bounds on an expression. R4's longest invariant has 600 characters and its
// deepest nesting is below 20.
const (
	maxSource  = 32 << 10 // bytes; it also bounds the tree's height, as chains lean left
	maxNesting = 128      // expressions inside each other
	maxArgs    = 16       // arguments of one call
)

// parser is a Pratt parser: each operator has a strength, and an operand
// belongs to the stronger of its neighbours.
type parser struct {
	lexer
	token token
	depth int
}

func parse(src string) (node, error) {
	if len(src) > maxSource {
		return nil, errorAt(fault.TooLarge, src, 0, "the expression is longer than %d bytes", maxSource)
	}
	p := &parser{lexer: lexer{src: src}}
	if err := p.advance(); err != nil {
		return nil, err
	}
	n, err := p.expression(bindNone)
	if err != nil {
		return nil, err
	}
	if p.token.kind != tokenEnd {
		return nil, p.unexpected()
	}
	return n, nil
}

func (p *parser) advance() error {
	t, err := p.next()
	p.token = t
	return err
}

func (p *parser) fail(pos int, format string, args ...any) error {
	return syntax(p.src, pos, format, args...)
}

func (p *parser) unexpected() error {
	if p.token.kind == tokenEnd {
		return p.fail(p.token.pos, "the expression ends too early")
	}
	return p.fail(p.token.pos, "%q does not belong here", p.token.text)
}

func (p *parser) isSymbol(s string) bool { return p.token.kind == tokenSymbol && p.token.text == s }

func (p *parser) expect(symbol string) error {
	if !p.isSymbol(symbol) {
		if p.token.kind == tokenEnd {
			return p.unexpected()
		}
		return p.fail(p.token.pos, "%q where %q was expected", p.token.text, symbol)
	}
	return p.advance()
}

// expression reads an operand and the operators behind it that bind more
// strongly than strength.
func (p *parser) expression(strength int) (node, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxNesting {
		return nil, p.fail(p.token.pos, "nested deeper than %d", maxNesting)
	}
	left, err := p.operand()
	for err == nil {
		own := p.operator()
		if own <= strength {
			return left, nil
		}
		left, err = p.infix(left, own)
	}
	return nil, err
}

// operator is the strength of the token as an operator, bindNone when it is
// none.
func (p *parser) operator() int {
	if p.token.kind == tokenSymbol || p.token.kind == tokenName {
		return strengths[p.token.text]
	}
	return bindNone
}

func (p *parser) infix(left node, own int) (node, error) {
	op, pos := p.token.text, position(p.token.pos)
	if err := p.advance(); err != nil {
		return nil, err
	}
	if own == bindType {
		spec, err := p.typeName()
		return typeTest{pos, op, left, spec}, err
	}
	right, err := p.expression(own)
	return binary{pos, op, left, right}, err
}

// typeName reads a type specifier: Name or Namespace.Name.
func (p *parser) typeName() (typeName, error) {
	first, err := p.name()
	if err != nil || !p.isSymbol(".") {
		return typeName{"", first}, err
	}
	if first != "FHIR" && first != "System" {
		return typeName{"", first}, nil
	}
	if err := p.advance(); err != nil {
		return typeName{}, err
	}
	second, err := p.name()
	return typeName{first, second}, err
}

// name reads an identifier, quoted or not.
func (p *parser) name() (string, error) {
	t := p.token
	if t.kind == tokenQuoted || t.kind == tokenName && !reserved(t.text) {
		return t.text, p.advance()
	}
	return "", p.unexpected()
}

// operand reads a term with the path behind it, or one with a sign in front.
func (p *parser) operand() (node, error) {
	if !p.isSymbol("+") && !p.isSymbol("-") {
		n, err := p.term()
		if err != nil {
			return nil, err
		}
		return p.path(n)
	}
	op, pos := p.token.text, position(p.token.pos)
	if err := p.advance(); err != nil {
		return nil, err
	}
	of, err := p.expression(bindSign)
	return sign{pos, op, of}, err
}

// path reads what follows a term without operator: .name, .name(…), [place].
func (p *parser) path(of node) (node, error) {
	for {
		pos := position(p.token.pos)
		var err error
		switch {
		case p.isSymbol("."):
			if err = p.advance(); err == nil {
				of, err = p.step(of)
			}
		case p.isSymbol("["):
			of, err = p.place(of, pos)
		default:
			return of, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// step reads a member or a call on of; nil stands for $this.
func (p *parser) step(of node) (node, error) {
	pos := position(p.token.pos)
	if p.token.kind == tokenSpecial && of != nil {
		return nil, p.unexpected()
	}
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if !p.isSymbol("(") {
		return member{pos, of, name}, nil
	}
	args, err := p.args(name)
	return call{pos, of, name, args}, err
}

func (p *parser) place(of node, pos position) (node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	at, err := p.expression(bindNone)
	if err != nil {
		return nil, err
	}
	return index{pos, of, at}, p.expect("]")
}

func (p *parser) args(function string) ([]node, error) {
	var args []node
	if err := p.advance(); err != nil {
		return nil, err
	}
	for !p.isSymbol(")") {
		if len(args) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		if len(args) == maxArgs {
			return nil, p.fail(p.token.pos, "more than %d arguments", maxArgs)
		}
		arg, err := p.arg(function)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	return args, p.advance()
}

// arg reads an argument; those of sort may carry a direction.
func (p *parser) arg(function string) (node, error) {
	pos := position(p.token.pos)
	n, err := p.expression(bindNone)
	if err != nil || function != "sort" || p.token.kind != tokenName {
		return n, err
	}
	if p.token.text != "asc" && p.token.text != "desc" {
		return n, nil
	}
	desc := p.token.text == "desc"
	return ordered{pos, n, desc}, p.advance()
}

func (p *parser) term() (node, error) {
	pos := position(p.token.pos)
	switch t := p.token; t.kind {
	case tokenString:
		return literal{pos, String(t.text)}, p.advance()
	case tokenNumber:
		return p.number()
	case tokenTime:
		v, ok := parseTimeLiteral(t.text)
		if !ok {
			return nil, p.fail(t.pos, "@%s is no date or time", t.text)
		}
		return literal{pos, v}, p.advance()
	case tokenSpecial:
		if !slices.Contains([]string{"this", "index", "total"}, t.text) {
			return nil, p.fail(t.pos, "$%s is unknown", t.text)
		}
		return special{pos, t.text}, p.advance()
	case tokenName, tokenQuoted:
		return p.named()
	case tokenSymbol:
		return p.bracketed()
	}
	return nil, p.unexpected()
}

// named reads what begins with a name: true, false, a member or a function.
func (p *parser) named() (node, error) {
	t := p.token
	if t.kind == tokenName && (t.text == "true" || t.text == "false") {
		return literal{position(t.pos), Boolean(t.text == "true")}, p.advance()
	}
	return p.step(nil)
}

// bracketed reads ( … ), {} and %name.
func (p *parser) bracketed() (node, error) {
	pos, open := position(p.token.pos), p.token.text
	if open != "(" && open != "{" && open != "%" {
		return nil, p.unexpected()
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	switch open {
	case "%":
		return p.variable(pos)
	case "{":
		return empty{pos}, p.expect("}")
	}
	n, err := p.expression(bindNone)
	if err != nil {
		return nil, err
	}
	return n, p.expect(")")
}

func (p *parser) variable(pos position) (node, error) {
	if k := p.token.kind; k == tokenString || k == tokenDoubleName {
		return variable{pos, p.token.text}, p.advance()
	}
	name, err := p.name()
	return variable{pos, name}, err
}

// number reads a number and the unit that may make it a quantity.
func (p *parser) number() (node, error) {
	pos, text := position(p.token.pos), p.token.text
	v, ok := parseNumberLiteral(text)
	if !ok {
		return nil, p.fail(int(pos), "the number is too large")
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	unit, calendar := p.token.text, p.token.kind == tokenName
	if calendar {
		if unit, ok = calendarUnit(unit); !ok {
			return literal{pos, v}, nil
		}
	} else if p.token.kind != tokenString {
		return literal{pos, v}, nil
	}
	d, _ := v.Decimal()
	return literal{pos, quantityValue(Quantity{Value: d, Unit: unit, Calendar: calendar})}, p.advance()
}

// parseNumberLiteral gives an Integer, or a Decimal where the text has a point.
func parseNumberLiteral(text string) (Value, bool) {
	if !strings.Contains(text, ".") {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return Integer(i), true
		}
		return Value{}, false
	}
	d, ok := parseDecimal(text)
	return DecimalValue(d), ok
}
