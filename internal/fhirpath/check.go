package fhirpath

import (
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// Check looks for what cannot be right whatever the data, when the root is of a
// FHIR type: members that the types on the way do not have, a path that begins
// with another type, and functions that ask children() for an order it does not
// have. What depends on data passes. The error is a *fault.Error, Invalid, with
// one Place. An unknown type, and "", check nothing.
func (x *Expr) Check(typeName string) error {
	c := checker{src: x.src, root: shapeOf(typeName)}
	_, err := c.check(x.tree, c.root)
	return err
}

// shape is what is known of a collection before there is data: the FHIR types
// its items may have. Without types, anything may be in it.
type shape struct {
	types     []*elementType
	unordered bool
}

func shapeOf(typeName string) shape {
	t := typeByName(typeName)
	if t == nil || typeName == "Resource" || typeName == "DomainResource" {
		return shape{}
	}
	return shape{types: []*elementType{t}}
}

type checker struct {
	src  string
	root shape
}

func (c *checker) fail(pos int, format string, args ...any) error {
	return errorAt(fault.Invalid, c.src, pos, format, args...)
}

// check gives the shape of an expression where $this has a shape.
func (c *checker) check(n node, this shape) (shape, error) {
	switch n := n.(type) {
	case special:
		if n.name == "this" {
			return this, nil
		}
	case variable:
		if n.name == "context" {
			return c.root, nil
		}
	case member:
		return c.member(n, this)
	case call:
		return c.call(n, this)
	case index:
		in, err := c.check(n.of, this)
		if err == nil {
			err = c.ordered(in, n.at())
		}
		if err == nil {
			_, err = c.check(n.place, this)
		}
		return in, err
	case sign:
		_, err := c.check(n.of, this)
		return shape{}, err
	case ordered:
		return c.check(n.of, this)
	case binary:
		return c.binary(n, this)
	case typeTest:
		_, err := c.check(n.of, this)
		if n.op == "as" {
			return shapeOf(n.spec.name), err
		}
		return shape{}, err
	}
	return shape{}, nil
}

func (c *checker) binary(n binary, this shape) (shape, error) {
	left, err := c.check(n.left, this)
	if err != nil {
		return shape{}, err
	}
	right, err := c.check(n.right, this)
	if err != nil || n.op != "|" || len(left.types) == 0 || len(right.types) == 0 {
		return shape{}, err
	}
	return shape{types: append(slices.Clone(left.types), right.types...)}, nil
}

func (c *checker) member(n member, this shape) (shape, error) {
	in := this
	if n.of != nil {
		var err error
		if in, err = c.check(n.of, this); err != nil {
			return shape{}, err
		}
	}
	if len(in.types) == 0 {
		return shape{}, nil
	}
	if n.of == nil {
		if named := typeByName(n.name); named != nil && named.resource {
			return c.itself(n, in)
		}
	}
	return c.members(n, in)
}

// itself checks a path's first name against the type it begins at.
func (c *checker) itself(n member, in shape) (shape, error) {
	for _, t := range in.types {
		if isTypeOf(t, n.name) {
			return in, nil
		}
	}
	return shape{}, c.fail(n.at(), "the path begins at a %s, not at a %s", in.types[0].name, n.name)
}

func (c *checker) members(n member, in shape) (shape, error) {
	var out shape
	found, all := false, true
	for _, t := range in.types {
		m := t.members[n.name]
		if m == nil {
			all = all && t != untyped && (t.primitive == 0 || n.name != "value")
			continue
		}
		found = true
		out.types = append(out.types, m.contentTypes()...)
	}
	if !found && all {
		return shape{}, c.fail(n.at(), "%s has no element %s", in.types[0].name, n.name)
	}
	if slices.Contains(out.types, nil) {
		return shape{}, nil
	}
	return out, nil
}

// contentTypes are the types the member may have, nil among them where only the
// content tells.
func (m *elementMember) contentTypes() []*elementType {
	if m.choices == nil {
		return []*elementType{m.contentType()}
	}
	var types []*elementType
	for id, x := range m.choices {
		if id == x.json {
			types = append(types, x.contentType())
		}
	}
	return types
}

// Functions by what they give: their input or a part of it; what their argument
// gives for each item.
var (
	givesInput = []string{"where", "distinct", "first", "last", "tail", "skip", "take", "single", "trace", "checkModifiers",
		"sort", "intersect", "exclude"}
	givesBody    = []string{"select"}
	asksForOrder = []string{"first", "last", "tail", "skip", "take"}
	perItemArgs  = []string{"where", "select", "all", "exists", "sort", "iif"}
	laterArgs    = []string{"repeat", "aggregate"} // their arguments also see what they gave
)

func (c *checker) call(n call, this shape) (shape, error) {
	in, err := c.inputShape(n, this)
	if err != nil {
		return shape{}, err
	}
	if slices.Contains(asksForOrder, n.name) {
		if err := c.ordered(in, n.at()); err != nil {
			return shape{}, err
		}
	}
	switch n.name {
	case "is":
		return shape{}, nil
	case "as", "ofType":
		return c.asType(n, in)
	case "children", "descendants":
		return shape{unordered: true}, nil
	case "extension":
		return shapeOf("Extension"), nil
	}
	body, err := c.args(n, in, this)
	switch {
	case err != nil:
		return shape{}, err
	case slices.Contains(givesInput, n.name):
		return in, nil
	case slices.Contains(givesBody, n.name):
		return body, nil
	}
	return shape{}, nil
}

func (c *checker) inputShape(n call, this shape) (shape, error) {
	if n.of == nil {
		return this, nil
	}
	return c.check(n.of, this)
}

// args checks the arguments and gives the shape of the first.
func (c *checker) args(n call, in, this shape) (shape, error) {
	inner := this
	switch {
	case slices.Contains(perItemArgs, n.name), n.name == "trace":
		inner = in
	case slices.Contains(laterArgs, n.name):
		inner = shape{}
	}
	var first shape
	for i, a := range n.args {
		s, err := c.check(a, inner)
		if err != nil {
			return shape{}, err
		}
		if i == 0 {
			first = s
		}
	}
	return first, nil
}

// asType narrows a shape to a type.
func (c *checker) asType(n call, in shape) (shape, error) {
	spec, err := (&compiler{src: c.src}).typeSpec(n.args[0])
	if err != nil {
		return shape{}, err
	}
	out := shapeOf(spec.name)
	for _, t := range in.types {
		if len(out.types) > 0 && r4.IsA(t.name, out.types[0].name) {
			return shape{types: []*elementType{t}}, nil // the more special one
		}
	}
	return out, nil
}

func (c *checker) ordered(s shape, pos int) error {
	if s.unordered {
		return c.fail(pos, "children have no order to count by")
	}
	return nil
}
