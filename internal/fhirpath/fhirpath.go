// Package fhirpath is FHIRPath over FHIR R4: http://hl7.org/fhirpath/N1 (2.0.0),
// R4's additions to it (http://hl7.org/fhir/R4/fhirpath.html), and the functions
// of its successor that HL7's R4 tests use.
//
// # Shape
//
// An expression is compiled once, to a tree of closures, and evaluated as often
// as one likes over documents of package fhir:
//
//	text → tokens → tree (String prints it back) → closures
//
// Elements keep their place in the document: a result is a list of Values, each
// an element (Node, its FHIR type) or a value of FHIRPath's own. What is an
// array, a choice or a primitive with a sibling "_name" comes from R4's tables.
//
//	Compile         text → Expr
//	Expr.Eval       the collection an expression gives
//	Expr.Bool       whether it holds, as invariants ask
//	Expr.Check      names, types and counts that cannot be right, found before any data
//
// # Use
//
//	x, err := fhirpath.Compile("Patient.name.where(use = 'official').given")
//	if err != nil {
//		return err // *fault.Error, Kind Syntax, with line and column
//	}
//	values, err := x.Eval(&fhirpath.Env{Now: clock()}, doc.Root())
//
// An Expr may be used by any number of goroutines. Evaluation is bounded in
// steps and items (Limits), so an expression from outside cannot run away.
//
// DESIGN.md says what was decided where the specification leaves room.
package fhirpath

import (
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// Expr is a compiled expression. It does not change.
type Expr struct {
	src  string
	tree node
	run  fn
}

// Compile reads an expression. The error is a *fault.Error: Syntax with one
// Place (line, column) for text outside the grammar, unknown functions and
// types and wrong numbers of arguments; TooLarge for one past the bounds;
// NotSupported for functions of R4 that are not offered (elementDefinition,
// slice).
func Compile(src string) (*Expr, error) {
	tree, err := parse(src)
	if err != nil {
		return nil, err
	}
	c := compiler{src: src}
	run, err := c.compile(tree)
	if err != nil {
		return nil, err
	}
	return &Expr{src: src, tree: tree, run: run}, nil
}

// MustCompile is Compile for expressions in the code; it panics where Compile
// fails.
func MustCompile(src string) *Expr {
	x, err := Compile(src)
	if err != nil {
		panic(err)
	}
	return x
}

// String is the expression in a canonical form, which compiles to the same.
func (x *Expr) String() string { return print(x.tree) }

// Source is the expression as it was given.
func (x *Expr) Source() string { return x.src }

// Env is what an evaluation may know beside its root. The zero Env is fine for
// expressions that need none of it. An Env is only read.
type Env struct {
	// Type is the type of the root when it is no resource: "HumanName",
	// "Observation.component".
	Type string
	// Resource and RootResource are %resource and %rootResource. Left Absent, they
	// are found by going up from the root.
	Resource, RootResource fhir.Node
	// Now is the time of now(), today() and timeOfDay(), in the zone they shall
	// have. Asked for and zero, it is an error.
	Now time.Time
	// Vars are further variables, by name without %.
	Vars map[string][]Value
	// Resolve gives what a reference (a Reference, or a uri or string) points to,
	// false where it cannot. Contained resources are found without it.
	Resolve func(ref Value) (Value, bool)
	// ResolveType gives the type of a reference's target, so that resolve() is
	// Patient needs no target. nil judges by the reference's own text and type.
	ResolveType func(ref fhir.Node) (string, bool)
	// MemberOf answers memberOf(): whether a code, Coding or CodeableConcept is in
	// a value set; known is false for a value set it does not have. nil asks R4's
	// own code lists.
	MemberOf func(v Value, valueSet string) (member, known bool)
	// ConformsTo answers conformsTo(); known is false for a profile it does not
	// have. nil knows R4's base types.
	ConformsTo func(v Value, profile string) (conforms, known bool)
	// Subsumes answers subsumes() and subsumedBy() for two Codings, or two codes,
	// of one system; nil knows equal codes alone.
	Subsumes func(a, b Value) (subsumes, known bool)
	// AsFilters lets as keep the items of a type from any number, like ofType. N1
	// wants an error for more than one item, but R4's own invariants (dom-3) and
	// many search parameters are written for this.
	AsFilters bool
	// Units knows units of measure; nil knows those of common UCUM terms.
	Units Units
	// Trace receives what trace() passes on; nil drops it.
	Trace func(name string, values []Value)
	// Limits bound the evaluation.
	Limits Limits
}

// Limits bound one evaluation. A zero member stands for the default.
type Limits struct {
	MaxSteps int // members visited and functions called
	MaxItems int // items of one collection, and characters a function may build, in hundreds
}

// DefaultLimits hold where Env says nothing. R4's costliest invariants take some
// ten steps for each element of a resource; a large bundle has a million.
var DefaultLimits = Limits{MaxSteps: 20_000_000, MaxItems: 2_000_000}

// Eval gives the collection of an expression over a resource or an element
// (see Env.Type). The error is a *fault.Error: Invalid where the expression
// cannot be applied to this content, TooCostly past Limits.
func (x *Expr) Eval(env *Env, root fhir.Node) ([]Value, error) {
	return x.Append(nil, env, root)
}

// Append is Eval onto a slice.
func (x *Expr) Append(dst []Value, env *Env, root fhir.Node) ([]Value, error) {
	return x.AppendOf(dst, env, Element(root, env.typeName()))
}

// AppendOf is Append over a value of an earlier evaluation.
func (x *Expr) AppendOf(dst []Value, env *Env, root Value) ([]Value, error) {
	e := begin(env, x, root)
	defer e.end()
	out, err := x.run(e, e.base, e.buf())
	if err != nil {
		return dst, err
	}
	dst = append(dst, out...)
	e.free(out)
	return dst, nil
}

// Bool evaluates an expression that holds or does not: true when it gives true
// or one item that is no boolean, false for false and for nothing. Several items
// are an error.
func (x *Expr) Bool(env *Env, root fhir.Node) (bool, error) {
	holds, _, err := x.Truth(env, Element(root, env.typeName()))
	return holds, err
}

// Truth is Bool over a value of an earlier evaluation, and tells false from
// nothing: known is false where the expression gives an empty collection. R4's
// invariants want only what is known to be false reported: ref-1 and bdl-8 are
// empty for every Reference without reference and entry without fullUrl.
func (x *Expr) Truth(env *Env, root Value) (holds, known bool, err error) {
	e := begin(env, x, root)
	defer e.end()
	t, err := e.truth(x.tree.at(), x.run, e.base)
	return t == yes, t != open, err
}

func (env *Env) typeName() string {
	if env == nil {
		return ""
	}
	return env.Type
}

// fail makes an error of an evaluation.
func (e *eval) fail(pos int, format string, args ...any) error {
	return errorAt(fault.Invalid, e.src, pos, format, args...)
}
