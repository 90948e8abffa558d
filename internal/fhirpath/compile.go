package fhirpath

import (
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// compiler turns a tree into closures. What can be decided once is decided
// here: names to steps, type names to types, functions to code, constant
// patterns to automata.
type compiler struct{ src string }

func (c *compiler) fail(pos int, format string, args ...any) error {
	return syntax(c.src, pos, format, args...)
}

func (c *compiler) compile(n node) (fn, error) {
	switch n := n.(type) {
	case literal:
		return constant(n.value), nil
	case empty:
		return nothing, nil
	case special:
		return specials[n.name], nil
	case variable:
		return readVariable(n), nil
	case member:
		return c.path(n)
	case call:
		return c.call(n)
	case index:
		return c.index(n)
	case sign:
		return c.sign(n)
	case binary:
		return c.binary(n)
	case typeTest:
		return c.typeTest(n)
	case ordered:
		return c.compile(n.of)
	}
	return nil, c.fail(n.at(), "cannot compile this")
}

func constant(v Value) fn {
	return func(_ *eval, _ *frame, out []Value) ([]Value, error) { return append(out, v), nil }
}

func nothing(_ *eval, _ *frame, out []Value) ([]Value, error) { return out, nil }

func this(_ *eval, f *frame, out []Value) ([]Value, error) { return append(out, f.this...), nil }

var specials = map[string]fn{
	"this": this,
	"index": func(_ *eval, f *frame, out []Value) ([]Value, error) {
		if f.index < 0 {
			return out, nil
		}
		return append(out, Integer(f.index)), nil
	},
	"total": func(_ *eval, f *frame, out []Value) ([]Value, error) { return append(out, f.total...), nil },
}

// input compiles what a step works on; nil is $this.
func (c *compiler) input(of node) (fn, error) {
	if of == nil {
		return this, nil
	}
	return c.compile(of)
}

// path compiles a chain of names into one loop over steps.
func (c *compiler) path(last member) (fn, error) {
	var steps []*step
	var of node = last
	for {
		m, ok := of.(member)
		if !ok {
			break
		}
		steps = append(steps, newStep(m.name, m.of == nil))
		of = m.of
	}
	slices.Reverse(steps)
	if of == nil {
		return walkThis(steps), nil
	}
	in, err := c.compile(of)
	return walkFrom(in, steps), err
}

func walkThis(steps []*step) fn {
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		if len(f.this) == 0 {
			return out, nil
		}
		if len(steps) == 1 {
			return steps[0].from(e, &f.this[0], out)
		}
		first, err := steps[0].from(e, &f.this[0], e.buf())
		if err != nil {
			return out, err
		}
		return walk(e, first, steps[1:], out)
	}
}

func walkFrom(in fn, steps []*step) fn {
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		first, err := in(e, f, e.buf())
		if err != nil {
			return out, err
		}
		return walk(e, first, steps, out)
	}
}

// walk follows steps from items, which it frees, and appends where they end.
func walk(e *eval, items []Value, steps []*step, out []Value) ([]Value, error) {
	var err error
	for k, s := range steps {
		last := k == len(steps)-1
		into := out
		if !last {
			into = e.buf()
		}
		for i := range items {
			if into, err = s.from(e, &items[i], into); err != nil {
				return out, err
			}
		}
		e.free(items)
		if last {
			return into, nil
		}
		items = into
	}
	out = append(out, items...)
	e.free(items)
	return out, nil
}

func (c *compiler) index(n index) (fn, error) {
	in, err := c.compile(n.of)
	if err != nil {
		return nil, err
	}
	place, err := c.compile(n.place)
	if err != nil {
		return nil, err
	}
	pos := n.at()
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		at, ok, err := e.integer(pos, place, f)
		if err != nil || !ok {
			return out, err
		}
		items, err := in(e, f, e.buf())
		if err != nil {
			return out, err
		}
		if 0 <= at && at < int64(len(items)) {
			out = append(out, items[at])
		}
		e.free(items)
		return out, nil
	}, nil
}

// integer evaluates an expression that must give one integer or nothing.
func (e *eval) integer(pos int, x fn, f *frame) (int64, bool, error) {
	v, ok, err := e.one(pos, x, f)
	if err != nil || !ok {
		return 0, false, err
	}
	i, ok := v.Integer()
	if !ok {
		return 0, false, e.fail(pos, "an integer was expected, not a %s", v.TypeName())
	}
	return i, true, nil
}

func (c *compiler) sign(n sign) (fn, error) {
	of, err := c.compile(n.of)
	if err != nil {
		return nil, err
	}
	pos, minus := n.at(), n.op == "-"
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		v, ok, err := e.one(pos, of, f)
		if err != nil || !ok {
			return out, err
		}
		s := v.comparable()
		if s.kind != kindInteger && s.kind != kindDecimal && s.kind != kindQuantity {
			return out, e.fail(pos, "a sign in front of a %s", v.TypeName())
		}
		if minus {
			s = negated(s)
		}
		return append(out, s), nil
	}, nil
}

// operator works on two collections.
type operator func(e *eval, pos int, left, right, out []Value) ([]Value, error)

func (c *compiler) binary(n binary) (fn, error) {
	left, err := c.compile(n.left)
	if err != nil {
		return nil, err
	}
	right, err := c.compile(n.right)
	if err != nil {
		return nil, err
	}
	if logic := logicOperators[n.op]; logic != nil {
		return logical(n, logic, left, right), nil
	}
	return operation(n.at(), operators[n.op], left, right), nil
}

func operation(pos int, do operator, left, right fn) fn {
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		if err := e.tick(); err != nil {
			return out, err
		}
		a, err := left(e, f, e.buf())
		if err != nil {
			return out, err
		}
		b, err := right(e, f, e.buf())
		if err != nil {
			return out, err
		}
		if out, err = do(e, pos, a, b, out); err != nil {
			return out, err
		}
		e.free(b)
		e.free(a)
		return e.grow(out)
	}
}

// logic is a three-valued operator. settled is the value of the left operand
// with which the right one does not matter, open when there is none.
type logic struct {
	settled tri
	result  tri
	apply   func(a, b tri) tri
}

var logicOperators = map[string]*logic{
	"and":     {no, no, min3},
	"or":      {yes, yes, func(a, b tri) tri { return min3(a.not(), b.not()).not() }},
	"implies": {no, yes, func(a, b tri) tri { return min3(a, b.not()).not() }},
	"xor": {open, open, func(a, b tri) tri {
		if a == open || b == open {
			return open
		}
		return triOf(a != b)
	}},
}

// min3 is Kleene's and: no wins, then what is open.
func min3(a, b tri) tri {
	switch {
	case a == no || b == no:
		return no
	case a == open || b == open:
		return open
	}
	return yes
}

func logical(n binary, op *logic, left, right fn) fn {
	leftAt, rightAt := n.left.at(), n.right.at()
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		a, err := e.truth(leftAt, left, f)
		if err != nil {
			return out, err
		}
		if op.settled != open && a == op.settled {
			return op.result.appendTo(out), nil
		}
		b, err := e.truth(rightAt, right, f)
		if err != nil {
			return out, err
		}
		return op.apply(a, b).appendTo(out), nil
	}
}

func (c *compiler) typeTest(n typeTest) (fn, error) {
	if inner, ok := n.of.(call); ok && n.op == "is" && isResolve(inner) {
		return c.resolvesTo(inner, n.spec, n.at())
	}
	of, err := c.compile(n.of)
	if err != nil {
		return nil, err
	}
	m, err := c.matcher(n.spec, n.at())
	if err != nil {
		return nil, err
	}
	return typeFunctions[n.op](n.at(), of, m), nil
}

func isResolve(n call) bool { return n.name == "resolve" && len(n.args) == 0 }

func (c *compiler) matcher(spec typeName, pos int) (matcher, error) {
	m, ok := resolveType(spec)
	if !ok {
		return m, c.fail(pos, "the type %s is unknown", spec)
	}
	return m, nil
}

// typeSpec reads the argument of is(), as(), ofType() as a type's name.
func (c *compiler) typeSpec(arg node) (typeName, error) {
	m, ok := arg.(member)
	if !ok {
		return typeName{}, c.fail(arg.at(), "the name of a type was expected")
	}
	if m.of == nil {
		return typeName{"", m.name}, nil
	}
	if space, ok := m.of.(member); ok && space.of == nil {
		return typeName{space.name, m.name}, nil
	}
	return typeName{}, c.fail(arg.at(), "the name of a type was expected")
}

// typeFunctions are is and as, operator and function alike, and ofType.
var typeFunctions = map[string]func(pos int, of fn, m matcher) fn{
	"is": func(pos int, of fn, m matcher) fn {
		return func(e *eval, f *frame, out []Value) ([]Value, error) {
			v, ok, err := e.one(pos, of, f)
			if err != nil || !ok {
				return out, err
			}
			return append(out, Boolean(m.is(&v))), nil
		}
	},
	"as": func(pos int, of fn, m matcher) fn {
		return ofType(of, m, func(e *eval, items []Value) error {
			if len(items) > 1 && !e.env.AsFilters {
				return e.fail(pos, "one item was expected, there are %d", len(items))
			}
			return nil
		})
	},
	"ofType": func(_ int, of fn, m matcher) fn {
		return ofType(of, m, func(*eval, []Value) error { return nil })
	},
}

// ofType keeps the items of a type, if the input is allowed.
func ofType(of fn, m matcher, allowed func(*eval, []Value) error) fn {
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		items, err := of(e, f, e.buf())
		if err != nil {
			return out, err
		}
		if err := allowed(e, items); err != nil {
			return out, err
		}
		for i := range items {
			if m.selects(&items[i]) {
				out = append(out, items[i])
			}
		}
		e.free(items)
		return out, e.cost(len(items))
	}
}

// call compiles a function.
func (c *compiler) call(n call) (fn, error) {
	if unsupported[n.name] {
		return nil, errorAt(fault.NotSupported, c.src, n.at(), "the function %s is not offered", n.name)
	}
	spec, ok := functions[n.name]
	if !ok {
		return nil, c.fail(n.at(), "the function %s is unknown", n.name)
	}
	if len(n.args) < spec.min || len(n.args) > spec.max {
		return nil, c.fail(n.at(), "%s takes %s, not %d", n.name, spec.arity(), len(n.args))
	}
	in, err := c.input(n.of)
	if err != nil {
		return nil, err
	}
	return spec.make(c, n, in)
}

// unsupported are functions of R4 that look into profiles, which the engine
// does not.
var unsupported = map[string]bool{"elementDefinition": true, "slice": true}
