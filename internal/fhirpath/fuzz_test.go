package fhirpath_test

import (
	"os"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
)

// addSeeds gives expressions of every kind to a fuzz target.
func addSeeds(f *testing.F, add func(src string)) {
	f.Helper()
	cases, err := os.ReadFile("testdata/language.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(cases)) {
		if src, _, ok := strings.Cut(line, " =>"); ok {
			add(src)
		}
	}
	for _, name := range []string{"Bundle", "ElementDefinition", "Questionnaire", "Patient"} {
		s, _ := r4.StructureOf(name)
		for _, i := range s.Invariants {
			add(i.Expression)
		}
	}
}

// FuzzCompile: no text brings the compiler down, errors have a kind and a place,
// and what is printed compiles to the same.
func FuzzCompile(f *testing.F) {
	addSeeds(f, func(src string) { f.Add(src) })
	f.Fuzz(func(t *testing.T, src string) {
		x, err := fhirpath.Compile(src)
		if err != nil {
			if e := fault.From(err); e.Kind == fault.Internal || len(e.Place) != 1 {
				t.Fatalf("%q: %v", src, err)
			}
			return
		}
		again, err := fhirpath.Compile(x.String())
		if err != nil {
			t.Fatalf("%q is printed as %q: %v", src, x, err)
		}
		if again.String() != x.String() {
			t.Fatalf("%q is printed as %q, and that as %q", src, x, again)
		}
		_ = x.Check("Patient")
	})
}

// FuzzEval: no expression on no resource brings the evaluation down or passes
// the limits, the result does not depend on what was evaluated before, and the
// printed expression gives the same.
func FuzzEval(f *testing.F) {
	patient, err := os.ReadFile("testdata/patient.json")
	if err != nil {
		f.Fatal(err)
	}
	addSeeds(f, func(src string) { f.Add(src, patient) })
	f.Add("entry.resource", []byte(bundle))
	f.Fuzz(func(t *testing.T, src string, resource []byte) {
		x, err := fhirpath.Compile(src)
		if err != nil {
			return
		}
		d, err := fhir.Parse(resource)
		if err != nil {
			return
		}
		env := &fhirpath.Env{Now: suiteNow, Limits: fhirpath.Limits{MaxSteps: 20_000, MaxItems: 2000}}
		first, err := x.Eval(env, d.Root())
		if err != nil {
			if fault.From(err).Kind == fault.Internal {
				t.Fatalf("%q: %v", src, err)
			}
			return
		}
		second, err := fhirpath.MustCompile(x.String()).Eval(env, d.Root())
		if err != nil || show(first) != show(second) {
			t.Fatalf("%q gives %s, printed as %q %s, %v", src, show(first), x, show(second), err)
		}
	})
}
