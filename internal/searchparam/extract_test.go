package searchparam

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

const ownBase = "https://tarn.example/datastore/d/r4"

func parsed(t *testing.T, json string) (plan.Key, fhir.Node) {
	t.Helper()
	d, err := fhir.Parse([]byte(json))
	if err != nil {
		t.Fatal(err)
	}
	typ, ok := r4.TypeByName(d.ResourceType())
	if !ok {
		t.Fatalf("no type %q", d.ResourceType())
	}
	return plan.Key{Type: typ, ID: "x"}, d.Root()
}

// What is not what its type demands is told, with its place, and the rest is
// extracted all the same; nothing panics.
func TestWarnings(t *testing.T) {
	x := NewExtractor(NewRegistry(), plan.HashKey{}, ownBase)
	for _, c := range []struct{ json, place string }{
		{`{"resourceType":"Patient","gender":"male","birthDate":"12-1980"}`, "Patient.birthDate"},
		{`{"resourceType":"Patient","gender":"male","birthDate":1980}`, ""},
		{`{"resourceType":"Patient","gender":"male","name":"Peter"}`, ""},
		{`{"resourceType":"Patient","gender":"male","name":[null,["x"],{"given":{"a":1}}]}`, ""},
		{`{"resourceType":"Patient","gender":"male","identifier":[{"value":5,"type":[]}],"managingOrganization":[{"reference":7}]}`, ""},
		{`{"resourceType":"Encounter","status":"planned","period":{"start":"2020","end":"2019"}}`, "Encounter.period"},
		{`{"resourceType":"Observation","status":"final","valueQuantity":{"value":1e999}}`, "Observation.value"},
		{`{"resourceType":"Observation","status":"final","valueQuantity":{"value":"1"}}`, ""},
	} {
		key, root := parsed(t, c.json)
		entries, issues, err := x.Inspect(key, root)
		if err != nil || len(entries) == 0 {
			t.Errorf("%s: %d entries, %v", c.json, len(entries), err)
		}
		if c.place == "" && len(issues) > 0 || c.place != "" && len(issues) == 0 {
			t.Errorf("%s: issues %v", c.json, issues)
		}
		for _, issue := range issues {
			if !strings.HasPrefix(issue.Expression, c.place) || issue.Severity != fault.SeverityWarning || issue.Line != 1 {
				t.Errorf("%s: issue %+v", c.json, issue)
			}
		}
	}
}

func TestTargets(t *testing.T) {
	r := NewRegistry()
	x := NewExtractor(r, plan.HashKey{}, ownBase)
	key, root := parsed(t, `{"resourceType":"Observation","subject":{"reference":"Patient/1"},
		"encounter":{"reference":"`+ownBase+`/Encounter/2/_history/3"},
		"performer":[{"reference":"http://elsewhere/Practitioner/1"},{"reference":"#in"},{"reference":"Organization/4"}]}`)
	name := func(k plan.Key) string { return r4.TypeName(k.Type) + "/" + k.ID }
	for code, want := range map[string][]string{
		"subject": {"Patient/1"}, "patient": {"Patient/1"}, "encounter": {"Encounter/2"}, "performer": {"Organization/4"}, "device": nil,
	} {
		p, _ := r.Param(key.Type, code)
		var got []string
		for _, k := range x.Targets(key.Type, p, root) {
			got = append(got, name(k))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s points to %v, want %v", code, got, want)
		}
	}
	if all := x.Targets(key.Type, nil, root); len(all) < 3 {
		t.Errorf("all references: %v", all)
	}
	p, _ := r.Param(key.Type, "performer")
	if urls := x.Canonicals(key.Type, p, root); !slices.Equal(urls, []search.CanonicalURL{{URL: "http://elsewhere/Practitioner/1"}}) {
		t.Errorf("elsewhere: %v", urls)
	}
}

// A resource with more values than the bound is refused, not cut.
func TestTooManyEntries(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"resourceType":"Patient","identifier":[`)
	for i := range MaxEntries + 1 {
		fmt.Fprintf(&b, `{"value":"%d"},`, i)
	}
	key, root := parsed(t, strings.TrimSuffix(b.String(), ",")+`]}`)
	x := NewExtractor(NewRegistry(), plan.HashKey{}, "")
	if _, err := x.Extract(key, root); !fault.Is(err, fault.TooLarge) {
		t.Errorf("got %v", err)
	}
}

// Expressions outside the compiled part of FHIRPath are refused, not misread.
func TestRefusedExpressions(t *testing.T) {
	for _, expression := range []string{
		"", "Observation.code", "Patient.nothing", "Patient.name.first()", "Patient.name.where(use != 'official')",
		"Patient.name.where(family='a' and given='b')", "Patient.name[x]", "Patient.name.where(use='a", "Patient.name.resolve()",
	} {
		if paths, err := compilePaths("Patient", expression); err == nil {
			t.Errorf("%q compiles to %v", expression, paths)
		}
	}
}
