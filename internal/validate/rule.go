package validate

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// Constraints compiles the FHIRPath of invariants.
type Constraints interface {
	Compile(expression string) (Constraint, error)
}

// Constraint is one compiled invariant. It must be safe for concurrent use.
type Constraint interface {
	// Broken reports whether the constraint is definitely not met. FHIRPath's
	// empty result is not: R4's expressions leave it wherever an operand is
	// absent (ref-1 of a Reference without reference).
	Broken(on Focus) (bool, error)
}

// Focus is what a constraint is evaluated on.
type Focus struct {
	Value    fhir.Node // the value the constraint is stated for
	Type     string    // its FHIR type
	Resource fhir.Node // %resource: the innermost resource around it
	Root     fhir.Node // %rootResource: the resource that contains that one, or the same
}

// rule is an invariant on a shape or slot.
type rule struct {
	invariant  r4.Invariant
	formula    *formula   // what member presence says; nil when nothing
	constraint Constraint // nil when the formula is complete
	err        error      // why there is no constraint
}

// inCode are the invariants that the walk holds in code: those that need the
// whole resource, and those that nearly every resource meets.
var inCode = map[string]bool{
	"ele-1": true,                                              // walk.go
	"dom-2": true, "dom-3": true, "dom-4": true, "dom-5": true, // contained.go
	"ref-1": true,                // contained.go
	"txt-1": true, "txt-2": true, // narrative.go
	"per-1": true, // below
}

// bestPractice are the invariants marked with the extension
// elementdefinition-bestpractice in R4.
var bestPractice = map[string]bool{"dom-6": true, "con-3": true}

// rulesOf compiles invariants; s is the shape whose members their expressions
// name, nil for those of one element.
func (v *Validator) rulesOf(s *shape, invariants []r4.Invariant) []rule {
	var rules []rule
	for _, i := range invariants {
		if inCode[i.Key] || bestPractice[i.Key] && !v.options.BestPractice {
			continue
		}
		r := rule{invariant: i}
		if s != nil {
			r.formula = parseFormula(s, i.Expression)
		}
		if !r.formula.complete() {
			r.constraint, r.err = v.options.Constraints.Compile(i.Expression)
		}
		rules = append(rules, r)
	}
	return rules
}

// apply holds a well-formed object against the invariants of its type.
func (w *walk) apply(s *shape, seen uint64, n fhir.Node) {
	if s.period {
		w.period(n)
	}
	if len(s.rules) > 0 {
		w.applyRules(s.rules, s.name, seen, n)
	}
}

func (w *walk) applyRules(rules []rule, typeName string, seen uint64, n fhir.Node) {
	for i := range rules {
		r := &rules[i]
		switch r.formula.eval(seen, n) {
		case yes:
		case no:
			w.broken(r, n)
		default:
			w.evaluate(r, typeName, n)
		}
	}
}

// evaluate asks FHIRPath. An evaluation that fails says nothing about the
// resource and is no reason to refuse it, but it is told.
func (w *walk) evaluate(r *rule, typeName string, n fhir.Node) {
	if r.constraint == nil && r.err == nil {
		return
	}
	broken, err := false, r.err
	if err == nil {
		broken, err = r.constraint.Broken(Focus{Value: n, Type: typeName, Resource: w.scope.resource, Root: w.scope.root})
	}
	switch {
	case err != nil:
		w.note(fault.SeverityInformation, n, codeInform, "Rule %s could not be evaluated", r.invariant.Key)
	case broken:
		w.broken(r, n)
	}
}

func (w *walk) broken(r *rule, n fhir.Node) {
	severity := fault.SeverityError
	if r.invariant.Warning {
		severity = fault.SeverityWarning
	}
	w.note(severity, n, codeInvariant, "Rule %s: '%s' Failed", r.invariant.Key, r.invariant.Human)
}

var (
	nameStart = fhir.Intern("start")
	nameEnd   = fhir.Intern("end")
)

// period is per-1.
func (w *walk) period(n fhir.Node) {
	start, end := n.GetName(nameStart), n.GetName(nameEnd)
	if !start.Exists() || !end.Exists() {
		return
	}
	from, to := moment{rest: start.TextBytes()}, moment{rest: end.TextBytes()}
	if from.dateTime() && to.dateTime() && from.after(&to) {
		w.fail(n, codeInvariant, "Rule per-1: 'If present, start SHALL have a lower value than end' Failed")
	}
}

// baseProfiles is where R4's own profiles live.
const baseProfiles = "http://hl7.org/fhir/StructureDefinition/"

// profiles names each profile a resource claims that is not its base type.
func (w *walk) profiles(s *shape, n fhir.Node) {
	list := n.GetName(nameMeta).GetName(nameProfile)
	next := list.Ref() + 1
	for range list.Len() {
		profile := w.doc.At(next)
		next = w.skip(profile)
		if profile.Kind() != fhir.String {
			continue
		}
		url, _, _ := strings.Cut(profile.Text(), "|")
		if name, base := strings.CutPrefix(url, baseProfiles); base && r4.IsA(s.name, name) {
			continue
		}
		w.note(fault.SeverityInformation, profile, codeInform, "Profile %s is not loaded; the resource was checked against base R4", quote(profile.TextBytes()))
	}
}
