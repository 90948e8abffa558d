package fhirpath

import (
	"strconv"

	"github.com/cockroachdb/apd/v3"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// Value is one item of a collection: an element of a resource, or a value of
// FHIRPath's own (a literal or the result of a function). It is immutable. The
// zero Value is an element that is not there.
type Value struct {
	kind systemKind
	bare bool // an element without value: node is the sibling that holds its extensions
	// sibling is the Ref of the element that holds id and extensions of a
	// primitive, 0 for none (0 is the root, which is no sibling).
	sibling int32
	node    fhir.Node
	typ     *elementType
	num     int64 // Boolean, Integer
	ref     any   // string, *apd.Decimal, *moment, *Quantity, typeInfo
}

// typeInfo is what type() gives.
type typeInfo struct{ space, name string }

// Element makes a Value of an element. typeName is its FHIR type; "" lets the
// element say it (a resource) or leaves it open.
func Element(n fhir.Node, typeName string) Value {
	t := typeByName(typeName)
	if t == nil || typeName == "Resource" || typeName == "DomainResource" {
		t = typeOfNode(n)
	}
	v := Value{node: n, typ: t}
	if t.primitive != 0 && n.IsMember() {
		v.sibling = max(n.Parent().Get("_"+n.Name()).Ref(), 0)
	}
	return v
}

// Boolean makes a System.Boolean.
func Boolean(b bool) Value {
	if b {
		return Value{kind: kindBoolean, num: 1}
	}
	return Value{kind: kindBoolean}
}

// Integer makes a System.Integer.
func Integer(i int64) Value { return Value{kind: kindInteger, num: i} }

// String makes a System.String.
func String(s string) Value { return Value{kind: kindString, ref: s} }

// DecimalValue makes a System.Decimal; d must not be changed afterwards.
func DecimalValue(d *apd.Decimal) Value { return Value{kind: kindDecimal, ref: d} }

func quantityValue(q Quantity) Value { return Value{kind: kindQuantity, ref: &q} }

// Node is the element in its resource; false for values of FHIRPath's own. Of a
// primitive that has extensions and no value, it is the object that holds them.
func (v Value) Node() (fhir.Node, bool) { return v.node, v.kind == kindNode && v.node.Exists() }

// TypeName is the name of the type in its namespace: "CodeableConcept",
// "string" and "Observation.component" in FHIR, "String" in System.
func (v Value) TypeName() string {
	if v.kind != kindNode {
		return v.kind.String()
	}
	if v.typ == nil {
		return untyped.name
	}
	return v.typ.name
}

// Namespace is "FHIR" for elements, else "System".
func (v Value) Namespace() string {
	if v.kind == kindNode {
		return "FHIR"
	}
	return "System"
}

// Bool is the value of a boolean.
func (v Value) Bool() (value, ok bool) {
	s := v.system()
	return s.num != 0, s.kind == kindBoolean
}

// Integer is the value of an integer.
func (v Value) Integer() (int64, bool) {
	s := v.system()
	return s.num, s.kind == kindInteger
}

// Decimal is the value of a decimal or an integer. It must not be changed.
func (v Value) Decimal() (*apd.Decimal, bool) {
	switch s := v.system(); s.kind {
	case kindInteger:
		return apd.New(s.num, 0), true
	case kindDecimal:
		return s.ref.(*apd.Decimal), true
	}
	return nil, false
}

// Text is the content of everything that FHIR writes as a string, dates and
// times included; not of numbers and booleans.
func (v Value) Text() (string, bool) {
	switch v.kind {
	case kindNode:
		if !v.bare && v.node.Kind() == fhir.String {
			return v.node.Text(), true
		}
	case kindString:
		return v.ref.(string), true
	case kindDate, kindDateTime, kindTime:
		return v.ref.(*moment).String(), true
	}
	return "", false
}

// Interval is the stretch of time that a date or dateTime leaves open; without
// a zone it counts as UTC.
func (v Value) Interval() (fhir.Interval, bool) {
	s := v.system()
	if s.kind != kindDate && s.kind != kindDateTime {
		return fhir.Interval{}, false
	}
	return s.ref.(*moment).interval(), true
}

// Quantity is the value of a quantity, or of a number as a quantity without
// unit.
func (v Value) Quantity() (Quantity, bool) {
	s := v.comparable()
	if s.kind == kindQuantity {
		return *s.ref.(*Quantity), true
	}
	if d, ok := s.Decimal(); ok {
		return Quantity{Value: d, Unit: unity}, true
	}
	return Quantity{}, false
}

// String is the value as toString() writes it; an element without such a form
// is its JSON.
func (v Value) String() string {
	if text, ok := v.display(); ok {
		return text
	}
	return string(v.node.Raw())
}

// display is what toString() gives, if anything.
func (v Value) display() (string, bool) {
	switch s := v.comparable(); s.kind {
	case kindBoolean:
		return strconv.FormatBool(s.num != 0), true
	case kindInteger:
		return strconv.FormatInt(s.num, 10), true
	case kindString:
		return s.ref.(string), true
	case kindDecimal:
		return formatDecimal(s.ref.(*apd.Decimal)), true
	case kindDate, kindDateTime, kindTime:
		return s.ref.(*moment).String(), true
	case kindQuantity:
		return s.ref.(*Quantity).String(), true
	case kindType:
		t := s.ref.(typeInfo)
		return t.space + "." + t.name, true
	}
	return "", false
}

// AppendJSON appends the value as FHIR writes it in JSON: an element as it
// stands, a quantity as an object.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case kindNode:
		return append(dst, v.node.Raw()...)
	case kindBoolean, kindInteger, kindDecimal:
		return append(dst, v.String()...)
	case kindQuantity:
		return v.ref.(*Quantity).appendJSON(dst)
	}
	return fhir.AppendString(dst, v.String())
}

// literalText prints a value as the language writes it.
func (v Value) literalText() string {
	switch v.kind {
	case kindString:
		return quote(v.ref.(string), '\'')
	case kindDate:
		return "@" + v.String()
	case kindDateTime:
		m := v.ref.(*moment)
		if m.precision <= precisionDay {
			return "@" + m.String() + "T"
		}
		return "@" + m.String()
	case kindTime:
		return "@T" + v.String()
	}
	return v.String()
}

// isPrimitive reports whether the value has a System form by itself.
func (v *Value) isPrimitive() bool { return v.kind != kindNode || v.typ.primitive != 0 }

// isComplex reports whether the value is an element with members.
func (v *Value) isComplex() bool {
	return v.kind == kindNode && !v.bare && v.node.Kind() == fhir.Object
}

// hasValue reports whether a primitive has a value, not only extensions.
func (v *Value) hasValue() bool {
	if v.kind != kindNode {
		return true
	}
	k := v.node.Kind()
	return !v.bare && (k == fhir.String || k == fhir.Number || k == fhir.Bool)
}

// system turns a primitive element into a value of the System namespace; every
// other value stays what it is. Content that is not in the form of its type
// counts as what it is in JSON.
func (v Value) system() Value {
	if v.kind != kindNode || v.bare {
		return v
	}
	switch v.node.Kind() {
	case fhir.Bool:
		return Boolean(v.node.Bool())
	case fhir.Number:
		return numberValue(v.node, v.typ)
	case fhir.String:
		return stringValue(v.node.Text(), v.typ)
	}
	return v
}

func numberValue(n fhir.Node, t *elementType) Value {
	if i, ok := n.Int(); ok && (t == nil || t.primitive != kindDecimal) {
		return Integer(i)
	}
	if d, ok := parseDecimal(n.Text()); ok {
		return DecimalValue(d)
	}
	return String(n.Text())
}

func stringValue(text string, t *elementType) Value {
	if t == nil {
		return String(text)
	}
	switch t.primitive {
	case kindDate, kindDateTime, kindTime:
		if m, ok := parseMoment(t.primitive, text); ok {
			return Value{kind: t.primitive, ref: m}
		}
	}
	return String(text)
}

// comparable is system, and also turns a FHIR Quantity into a System one.
func (v Value) comparable() Value {
	if v.kind != kindNode {
		return v
	}
	if v.typ != nil && v.typ.quantity {
		if q, ok := quantityOfNode(v.node); ok {
			return quantityValue(q)
		}
		return v
	}
	return v.system()
}
