package fhirpath_test

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// compiled compiles each expression once.
type compiled map[string]*fhirpath.Expr

func (c compiled) get(t testing.TB, src string) *fhirpath.Expr {
	if x := c[src]; x != nil {
		return x
	}
	x, err := fhirpath.Compile(src)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	again, err := fhirpath.Compile(x.String())
	if err != nil {
		t.Fatalf("%s is printed as %s: %v", src, x, err)
	}
	if again.String() != x.String() {
		t.Errorf("%s is printed as %s, and that as %s", src, x, again)
	}
	c[src] = x
	return x
}

// examples are HL7's example resources for R4.
func examples(t testing.TB) map[string]*fhir.Document {
	t.Helper()
	docs := map[string]*fhir.Document{}
	for name, src := range testpath.Files(t, "suites", "hl7-r4-examples-half.tar.xz") {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		d, err := fhir.Parse(src)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, ok := r4.StructureOf(d.ResourceType()); ok {
			docs[path.Base(name)] = d
		}
	}
	return docs
}

// leastParams and leastInvariants are what R4 has; fewer would mean that a test
// tests nothing.
const (
	leastParams     = 1300
	leastInvariants = 190
)

// Every search parameter's expression compiles, fits its base type, and can be
// evaluated on every example.
func TestSearchParameters(t *testing.T) {
	all := compiled{}
	n := 0
	for _, p := range r4.AllParams() {
		if p.Expression == "" {
			continue
		}
		n++
		if err := all.get(t, p.Expression).Check(p.Base); err != nil {
			t.Errorf("%s.%s: %v", p.Base, p.Code, err)
		}
	}
	if n < leastParams {
		t.Errorf("%d search parameters have an expression, want %d", n, leastParams)
	}
	hits := 0
	for name, d := range examples(t) {
		id, _ := r4.TypeByName(d.ResourceType())
		for _, p := range r4.Params(id) {
			if p.Expression == "" {
				continue
			}
			values, err := all.get(t, p.Expression).Eval(nil, d.Root())
			if err != nil {
				t.Errorf("%s, %s: %v", name, p.Code, err)
			}
			hits += len(values)
			checkComponents(t, all, p, values)
		}
	}
	if hits < leastParams {
		t.Errorf("only %d values found", hits)
	}
}

func checkComponents(t *testing.T, all compiled, p *r4.SearchParam, items []fhirpath.Value) {
	t.Helper()
	for _, c := range p.Components {
		for _, item := range items {
			if _, err := all.get(t, c.Expression).AppendOf(nil, nil, item); err != nil {
				t.Errorf("%s: %v", p.Code, err)
			}
		}
	}
}

// knownBroken are invariants that examples of HL7's own break.
var knownBroken = map[string]string{
	"txt-1": "ActivityDefinition-blood-tubes-supply and Questionnaire-zika-virus-exposure-assessment have a blank narrative",
	"txt-2": "the same",
}

// Every invariant of R4 compiles and can be evaluated wherever it is stated; on
// HL7's examples those of severity error hold.
func TestInvariants(t *testing.T) {
	w := invariantWalk{t: t, all: compiled{}, stated: map[string]bool{}, broken: map[string][]string{}}
	for _, name := range r4.StructureNames() {
		s, _ := r4.StructureOf(name)
		w.compile(s.Invariants)
		for _, e := range s.Elements {
			w.compile(e.Invariants)
		}
	}
	if len(w.stated) < leastInvariants {
		t.Errorf("R4 has %d invariants, want %d", len(w.stated), leastInvariants)
	}
	for name, d := range examples(t) {
		w.name = name
		w.element(fhirpath.Element(d.Root(), ""))
	}
	for key, names := range w.broken {
		slices.Sort(names)
		if knownBroken[key] == "" {
			t.Errorf("%s is broken by %s", key, strings.Join(slices.Compact(names), ", "))
		}
	}
	for key := range knownBroken {
		if w.broken[key] == nil {
			t.Errorf("no example breaks %s", key)
		}
	}
}

// invariantWalk goes through a resource and evaluates what is stated for each
// element.
type invariantWalk struct {
	t      *testing.T
	all    compiled
	stated map[string]bool
	broken map[string][]string
	name   string
}

func (w *invariantWalk) compile(list []r4.Invariant) {
	for _, i := range list {
		w.all.get(w.t, i.Expression)
		w.stated[i.Expression] = true
	}
}

func (w *invariantWalk) check(v fhirpath.Value, list []r4.Invariant) {
	n, _ := v.Node()
	for _, i := range list {
		holds, known, err := w.all.get(w.t, i.Expression).Truth(&fhirpath.Env{Now: suiteNow, AsFilters: true}, v)
		if err != nil {
			w.t.Errorf("%s, %s at %s: %v", w.name, i.Key, n.Path(), err)
		} else if known && !holds && !i.Warning {
			w.broken[i.Key] = append(w.broken[i.Key], w.name+" "+n.Path())
		}
	}
}

func (w *invariantWalk) element(v fhirpath.Value) {
	s, ok := r4.StructureOf(v.TypeName())
	if !ok {
		return
	}
	w.check(v, s.Invariants)
	for _, e := range s.Elements {
		if strings.HasPrefix(e.Type, "System.") {
			continue
		}
		children, err := w.all.get(w.t, "$this.`"+e.Name+"`").AppendOf(nil, nil, v)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, c := range children {
			w.check(c, e.Invariants)
			w.element(c)
		}
	}
}
