package fhirpath

import (
	"sync/atomic"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// step is one name in a path: it gives the members of that name.
type step struct {
	name string
	// head: the name begins a path, so it may also be the type of what it is
	// asked of (Patient.name).
	head bool
	// seen remembers the member for the type last met: paths mostly meet one.
	seen atomic.Pointer[stepCache]
}

type stepCache struct {
	typ    *elementType
	member *elementMember // nil: the type has none of this name
	itself bool           // the name is the type's own
}

func newStep(name string, head bool) *step {
	return &step{name: name, head: head}
}

// refresh is how often, in steps, a type that is not the remembered one takes
// its place: seldom enough where types alternate, as in descendants().
const refresh = 64

func (s *step) lookup(t *elementType, steps int) (m *elementMember, itself bool) {
	c := s.seen.Load()
	if c != nil && c.typ == t {
		return c.member, c.itself
	}
	m, itself = t.members[s.name], s.head && isTypeOf(t, s.name)
	if c == nil || steps%refresh == 0 {
		s.seen.Store(&stepCache{t, m, itself})
	}
	return m, itself
}

// isTypeOf reports whether a name that begins a path names the type itself.
func isTypeOf(t *elementType, name string) bool {
	if name == "" || name[0] < 'A' || name[0] > 'Z' {
		return false
	}
	named := typeByName(name)
	return named != nil && matcher{name: name, fhir: named}.is(&Value{typ: t})
}

// from appends the members of v that have the step's name.
func (s *step) from(e *eval, v *Value, out []Value) ([]Value, error) {
	if err := e.tick(); err != nil {
		return out, err
	}
	if v.kind != kindNode {
		return s.fromSystem(v, out), nil
	}
	m, itself := s.lookup(v.typ, e.steps)
	switch {
	case itself:
		return append(out, *v), nil
	case v.typ.primitive != 0:
		return s.fromPrimitive(e, v, out)
	case m != nil:
		return m.collect(e, v.node, out)
	case v.typ == untyped:
		return s.fromUntyped(e, v, out)
	}
	return out, nil
}

// fromSystem: only what type() gives has members.
func (s *step) fromSystem(v *Value, out []Value) []Value {
	if v.kind != kindType {
		return out
	}
	switch t := v.ref.(typeInfo); s.name {
	case "namespace":
		return append(out, String(t.space))
	case "name":
		return append(out, String(t.name))
	}
	return out
}

// fromPrimitive: id and extension stand in the sibling, value is the value.
func (s *step) fromPrimitive(e *eval, v *Value, out []Value) ([]Value, error) {
	if s.name == "value" {
		if v.hasValue() {
			out = append(out, v.system())
		}
		return out, nil
	}
	if m := v.typ.members[s.name]; m != nil {
		return m.collect(e, v.holder(), out)
	}
	return out, nil
}

// holder is the object with a primitive's id and extensions, Absent when it has
// none.
func (v *Value) holder() fhir.Node {
	if v.bare {
		return v.node
	}
	if v.sibling == 0 {
		return fhir.Node{}
	}
	return v.node.Document().At(v.sibling)
}

// fromUntyped follows the JSON alone.
func (s *step) fromUntyped(e *eval, v *Value, out []Value) ([]Value, error) {
	if s.name == "resourceType" {
		return out, nil
	}
	return collectTyped(e, v.node.Get(s.name), fhir.Node{}, nil, out)
}

// collect appends the items of the member in an object.
func (m *elementMember) collect(e *eval, object fhir.Node, out []Value) ([]Value, error) {
	if m.choices != nil {
		return m.collectChoice(e, object, out)
	}
	n := object.GetName(m.json)
	var sibling fhir.Node
	if m.sibling != 0 {
		sibling = object.GetName(m.sibling)
	}
	return collectTyped(e, n, sibling, m.contentType(), out)
}

// collectChoice finds the member that stands for the choice.
func (m *elementMember) collectChoice(e *eval, object fhir.Node, out []Value) ([]Value, error) {
	if object.Kind() != fhir.Object {
		return out, nil
	}
	members, mark := e.list(object)
	defer e.drop(mark)
	var err error
	for _, c := range members {
		id := nameOf(c)
		x := m.choices[id]
		switch {
		case x == nil:
		case id == x.json:
			out, err = collectTyped(e, c, object.GetName(x.sibling), x.contentType(), out)
		case !object.GetName(x.json).Exists():
			out, err = collectTyped(e, fhir.Node{}, c, x.contentType(), out)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// nameOf is the interned name of a member, also when the name was interned
// after the document was parsed.
func nameOf(c fhir.Node) fhir.Name {
	if id := c.NameID(); id != 0 {
		return id
	}
	return fhir.LookupName(c.Name())
}

// collectTyped appends the items of n, a member's value; sibling is the value
// of the member with an underscore in front. t is nil where the content says
// its type.
func collectTyped(e *eval, n, sibling fhir.Node, t *elementType, out []Value) ([]Value, error) {
	if n.Kind() == fhir.Array || sibling.Kind() == fhir.Array {
		return collectItems(e, n, sibling, t, out)
	}
	if v, ok := item(n, sibling, t); ok {
		return e.grow(append(out, v))
	}
	return out, nil
}

// collectItems goes through two arrays side by side; the shorter one is filled
// up with nothing.
func collectItems(e *eval, n, sibling fhir.Node, t *elementType, out []Value) ([]Value, error) {
	items, mark := e.list(arrayOnly(n))
	siblings, _ := e.list(arrayOnly(sibling))
	for place := range max(len(items), len(siblings)) {
		var value, beside fhir.Node
		if place < len(items) {
			value = items[place]
		}
		if place < len(siblings) {
			beside = siblings[place]
		}
		if v, ok := item(value, beside, t); ok {
			out = append(out, v)
		}
	}
	e.drop(mark)
	return e.grow(out)
}

// arrayOnly is n if it is an array: a value beside an array counts for nothing.
func arrayOnly(n fhir.Node) fhir.Node {
	if n.Kind() != fhir.Array {
		return fhir.Node{}
	}
	return n
}

// item makes the Value of one item and what stands beside it.
func item(n, sibling fhir.Node, t *elementType) (Value, bool) {
	missing := n.Kind() == fhir.Absent || n.Kind() == fhir.Null
	if missing {
		if sibling.Kind() != fhir.Object {
			return Value{}, false
		}
		n, sibling = sibling, fhir.Node{}
	}
	if t == nil {
		t = typeOfNode(n)
	}
	v := Value{node: n, typ: t, bare: missing}
	if sibling.Kind() == fhir.Object {
		v.sibling = sibling.Ref()
	}
	return v, true
}

// children appends all members of v, in the order of the JSON.
func children(e *eval, v *Value, out []Value) ([]Value, error) {
	if err := e.tick(); err != nil || v.kind != kindNode {
		return out, err
	}
	object, t := v.node, v.typ
	if t.primitive != 0 {
		object = v.holder()
	}
	if object.Kind() != fhir.Object {
		return out, nil
	}
	members, mark := e.list(object)
	defer e.drop(mark)
	var err error
	for _, c := range members {
		if out, err = childrenNamed(e, object, c, t, out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// childrenNamed appends the items of one member; the sibling of a primitive
// counts where the primitive itself is missing.
func childrenNamed(e *eval, object, c fhir.Node, t *elementType, out []Value) ([]Value, error) {
	id := nameOf(c)
	m := t.inJSON[id]
	switch {
	case m == nil && t == untyped && id != nameResource:
		return collectTyped(e, c, fhir.Node{}, nil, out)
	case m == nil:
		return out, nil
	case id == m.json:
		return collectTyped(e, c, object.GetName(m.sibling), m.contentType(), out)
	case object.GetName(m.json).Exists():
		return out, nil
	}
	return collectTyped(e, fhir.Node{}, c, m.contentType(), out)
}

// descendants appends everything below v, parents before their children.
func descendants(e *eval, v *Value, out []Value) ([]Value, error) {
	first := len(out)
	out, err := children(e, v, out)
	for i := first; i < len(out) && err == nil; i++ {
		parent := out[i]
		out, err = children(e, &parent, out)
	}
	return out, err
}
