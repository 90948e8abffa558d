package r4_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// A pathWalk follows the expression of a search parameter through the tables and
// gives the types it can end at. It knows just the FHIRPath that R4's search
// parameters use, and fails on a member, type or function it does not know.
type pathWalk struct {
	rest  string
	scope []string // types that this stands for
	root  string
	err   error
}

// walkTypes gives the types that an expression over scope yields.
func walkTypes(expression, root string, scope []string) ([]string, error) {
	w := &pathWalk{rest: expression, root: root, scope: scope}
	types := w.union()
	if w.err == nil && w.rest != "" {
		w.fail("left over: %s", w.rest)
	}
	return types, w.err
}

func (w *pathWalk) fail(format string, args ...any) []string {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
	w.rest = ""
	return nil
}

func (w *pathWalk) eat(token string) bool {
	w.rest = strings.TrimLeft(w.rest, " ")
	rest, ok := strings.CutPrefix(w.rest, token)
	if ok {
		w.rest = rest
	}
	return ok
}

func (w *pathWalk) expect(token string) {
	if !w.eat(token) {
		w.fail("expected %q before %q", token, w.rest)
	}
}

func (w *pathWalk) name() string {
	w.rest = strings.TrimLeft(w.rest, " ")
	end := strings.IndexFunc(w.rest, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') })
	if end < 0 {
		end = len(w.rest)
	}
	name := w.rest[:end]
	w.rest = w.rest[end:]
	return name
}

func (w *pathWalk) literal() string {
	w.expect("'")
	text, rest, _ := strings.Cut(w.rest, "'")
	w.rest = rest
	return text
}

func (w *pathWalk) union() []string {
	types := w.compare()
	for w.eat("|") {
		types = append(types, w.compare()...)
	}
	return types
}

// compare reads a path and what may follow it: comparison, is, and.
func (w *pathWalk) compare() []string {
	types := w.path()
	switch {
	case w.eat("="), w.eat("!="):
		if !w.eat("false") {
			w.literal()
		}
		types = []string{"boolean"}
	case w.eat("is "):
		if name := w.name(); !known(name) {
			return w.fail("no type %q", name)
		}
		types = []string{"boolean"}
	}
	if w.eat("and ") {
		return w.compare()
	}
	return types
}

func known(name string) bool {
	_, ok := r4.StructureOf(name)
	return ok
}

func (w *pathWalk) path() []string {
	var types []string
	switch {
	case w.eat("("):
		types = w.union()
		w.expect(")")
	case w.eat("%resource"):
		types = []string{w.root}
	default:
		types = w.first()
	}
	for w.err == nil {
		switch {
		case w.eat("."):
			types = w.step(types, w.name())
		case w.eat("["):
			w.rest = strings.TrimLeft(w.rest, "0123456789")
			w.expect("]")
		default:
			return types
		}
	}
	return nil
}

// first reads the first name of a path: the root's type, or a member of scope.
func (w *pathWalk) first() []string {
	name := w.name()
	if r4.IsA(w.root, name) && name != "" {
		return []string{w.root}
	}
	return w.step(w.scope, name)
}

func (w *pathWalk) step(types []string, name string) []string {
	if w.eat("(") {
		defer w.expect(")")
		return w.call(types, name)
	}
	var to []string
	for _, t := range types {
		e, ok := r4.Element(t, name)
		if !ok {
			return w.fail("%s has no %q", t, name)
		}
		for _, x := range e.Types {
			to = append(to, x.Name)
		}
	}
	return to
}

func (w *pathWalk) call(types []string, name string) []string {
	switch name {
	case "resolve":
		return []string{"Resource"}
	case "exists":
		return []string{"boolean"}
	case "extension", "hasExtension":
		w.literal()
		return []string{"Extension"}
	case "ofType":
		t := w.name()
		if !slices.Contains(types, t) {
			return w.fail("%q is none of %v", t, types)
		}
		return []string{t}
	case "where":
		inner := &pathWalk{rest: w.rest, root: w.root, scope: types}
		inner.compare()
		w.rest = inner.rest
		if inner.err != nil {
			return w.fail("%w", inner.err)
		}
		return types
	}
	return w.fail("no function %q", name)
}

// indexable are the types a parameter of each type can be searched on
// (https://hl7.org/fhir/R4/search.html#ptypes), as far as R4's own parameters
// go.
var indexable = map[r4.ParamType][]string{
	r4.ParamNumber:    {"integer", "decimal", "unsignedInt", "positiveInt", "Range"},
	r4.ParamDate:      {"date", "dateTime", "instant", "Period", "Timing"},
	r4.ParamString:    {"string", "markdown", "HumanName", "Address", "CodeableConcept"},
	r4.ParamToken:     {"code", "boolean", "id", "string", "uri", "Coding", "CodeableConcept", "Identifier", "ContactPoint"},
	r4.ParamReference: {"Reference", "canonical", "uri", "Resource"},
	r4.ParamQuantity:  {"Quantity", "Money", "Age", "Duration", "Range", "SampledData"},
	r4.ParamURI:       {"uri", "url", "canonical", "oid"},
	r4.ParamSpecial:   {"Location.position"},
}

func TestEveryExpressionNamesWhatIsThere(t *testing.T) {
	for _, p := range r4.AllParams() {
		if p.Expression == "" {
			continue
		}
		types, err := walkTypes(p.Expression, p.Base, []string{p.Base})
		if err != nil {
			t.Errorf("%s %s: %s: %v", p.Base, p.Code, p.Expression, err)
			continue
		}
		checkEnds(t, p, types)
		for _, c := range p.Components {
			ends, err := walkTypes(c.Expression, p.Base, types)
			if err != nil {
				t.Errorf("%s %s: component %s over %v: %v", p.Base, p.Code, c.Expression, types, err)
				continue
			}
			checkEnds(t, c.Param, ends)
		}
	}
}

// unsearched are choices whose other types a parameter ranges over, and types of
// which it is not searched: R4 does not narrow these expressions, so extraction
// passes over such values.
var unsearched = map[string][]string{
	"CarePlan activity-date":   {"string"},
	"Consent source-reference": {"Attachment"},
	"Group value":              {"Quantity", "Range", "Reference"}, // as a component
	"Immunization date":        {"string"},
	"Procedure date":           {"string", "Age", "Range"},
}

func checkEnds(t *testing.T, p *r4.SearchParam, types []string) {
	t.Helper()
	if p.Type == r4.ParamComposite {
		return
	}
	passed := unsearched[p.Base+" "+p.Code]
	for _, name := range types {
		if !slices.Contains(indexable[p.Type], name) && !slices.Contains(passed, name) {
			t.Errorf("%s %s: %s parameter ends at %s: %s", p.Base, p.Code, p.Type, name, p.Expression)
		}
	}
}
