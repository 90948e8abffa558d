// Package validate checks resources against base R4 (4.0.1) when they are
// written.
//
// Its physical shape: for each type a compact table, made at the type's first
// use from the tables of internal/fhir/r4 and kept for ever. A table has a slot
// for every member that JSON may hold, found by the interned name's number,
// and a bit for every element, so that one pass over the document's tape finds
// what is unknown, wrong, missing or given twice. A resource without fault is
// checked without allocating.
//
// The verbs: New makes a Validator, Validate gives all issues of a resource,
// Refused tells whether they forbid to store it, and Refusal makes them an error.
//
//	v := validate.New(validate.Options{})
//	issues := v.Validate(ctx, doc.Root(), validate.StructureOnly)
//	if validate.Refused(issues) {
//		return validate.Refusal("interaction.Create", issues)
//	}
//
// DESIGN.md lists every rule and says where it is looser or tighter than R4's
// text, and why.
package validate

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// MaxIssues bounds the issues of one resource, the last one included that says
// that there are more. Finding an issue's line costs a pass over the text, and
// nobody reads a longer list.
const MaxIssues = 100

// Level is how much is asked of a resource. The zero Level is Strict, as
// HealthLake validates when nothing is said.
type Level uint8

// The levels of HealthLake (developer guide, "FHIR resource validation").
const (
	// Minimal stores whatever has a known type and an id: every other finding
	// is a warning, and invariants are not evaluated.
	Minimal Level = iota + 1
	// StructureOnly checks base R4: structure, formats, required bindings,
	// targets of references and invariants.
	StructureOnly
	// Strict is StructureOnly, and names each profile of meta.profile that is
	// not loaded in an information issue.
	Strict
)

var levelNames = map[string]Level{"minimal": Minimal, "structure-only": StructureOnly, "strict": Strict}

// ParseLevel reads the words of HealthLake's validation level; "" is Strict.
// The error is Invalid.
func ParseLevel(word string) (Level, error) {
	if word == "" {
		return Strict, nil
	}
	if level, ok := levelNames[word]; ok {
		return level, nil
	}
	return 0, &fault.Error{
		Kind: fault.Invalid, Op: "validate.ParseLevel", Subject: "validation level", Detail: "no such level",
		Hint: "use strict, structure-only or minimal",
	}
}

func (l Level) String() string {
	switch l {
	case Minimal:
		return "minimal"
	case StructureOnly:
		return "structure-only"
	}
	return "strict"
}

// Options choose what a Validator checks.
type Options struct {
	// Constraints compiles the invariants whose truth does not follow from which
	// members are there; nil is FHIRPath.
	Constraints Constraints
	// BestPractice also evaluates the invariants that R4 calls best practice,
	// such as dom-6 (a narrative should be there); they give warnings.
	BestPractice bool
}

// Validator checks resources. It is safe for concurrent use.
type Validator struct {
	options Options
	tables  atomic.Pointer[[]*shape] // resource types by r4.TypeID, nil until used
	compile sync.Mutex
	shapes  map[string]*shape // every compiled type by name; guarded by compile
	codes   map[string]codeSet
}

// New makes a Validator. Types are compiled at their first use: about a
// millisecond for the first one, which brings the data types with it.
func New(options Options) *Validator {
	if options.Constraints == nil {
		options.Constraints = FHIRPath()
	}
	v := &Validator{
		options: options,
		shapes:  map[string]*shape{},
		codes:   map[string]codeSet{},
	}
	types := r4.ResourceTypes()
	tables := make([]*shape, int(types[len(types)-1])+1)
	v.tables.Store(&tables)
	return v
}

// Validate gives every issue of a resource in document order, at most
// MaxIssues; nil when there is none. root is a whole resource: the root of a
// document, or one inside a Bundle. Issues carry severity, Code (R4
// issue-type), Expression and the place in the document root is of.
//
// Canceling ctx ends the walk at the next resource inside the resource, with
// an issue of kind Canceled.
func (v *Validator) Validate(ctx context.Context, root fhir.Node, level Level) []fault.Issue {
	w := walk{v: v, ctx: ctx, doc: root.Document(), level: level}
	if !root.Exists() {
		w.refuse(root, "structure", "A resource must be an object")
		return w.issues
	}
	w.resource(root, rootPlace)
	return w.issues
}

// Refused reports whether any of the issues is an error.
func Refused(issues []fault.Issue) bool {
	for i := range issues {
		if issues[i].Severity <= fault.SeverityFatal {
			return true
		}
	}
	return false
}

// Refusal is the error for issues that Refused, with all of them in Place; nil
// when they are no errors.
func Refusal(op string, issues []fault.Issue) error {
	if !Refused(issues) {
		return nil
	}
	return &fault.Error{
		Kind: fault.Invalid, Op: op, Place: issues,
		Detail: "FHIR resource in payload failed FHIR validation rules.",
	}
}
