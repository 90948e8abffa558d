package fhirpath_test

import (
	"os"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
)

func TestLanguage(t *testing.T) {
	patient, err := os.ReadFile("testdata/patient.json")
	if err != nil {
		t.Fatal(err)
	}
	cases, err := os.ReadFile("testdata/language.txt")
	if err != nil {
		t.Fatal(err)
	}
	root := mustParse(t, string(patient)).Root()
	env := &fhirpath.Env{
		Now:  suiteNow,
		Vars: map[string][]fhirpath.Value{"given": {fhirpath.Integer(1), {}, fhirpath.Integer(2)}},
	}
	number := 0
	for line := range strings.Lines(string(cases)) {
		number++
		src, want, ok := strings.Cut(strings.TrimRight(line, "\n"), " =>")
		if !ok || strings.HasPrefix(line, "#") {
			continue // headings and comments
		}
		want = strings.TrimSpace(want)
		got, err := evaluate(src, env, root)
		switch part, wrong := strings.CutPrefix(want, "!"); {
		case wrong && err == nil:
			t.Errorf("line %d: %s should fail, and gives %q", number, src, texts(got))
		case wrong && !strings.Contains(fault.From(err).Detail, part):
			t.Errorf("line %d: %s fails with %v, not %q", number, src, err, part)
		case wrong:
		case err != nil:
			t.Errorf("line %d: %s: %v", number, src, err)
		case texts(got) != want:
			t.Errorf("line %d: %s gives %q, want %q", number, src, texts(got), want)
		}
	}
}

// texts joins values; an element without value is nothing between its
// neighbours.
func texts(values []fhirpath.Value) string {
	var all []string
	for _, v := range values {
		text := v.String()
		if strings.HasPrefix(text, "{") && v.TypeName() == "string" {
			text = ""
		}
		all = append(all, text)
	}
	return strings.TrimSpace(strings.Join(all, " ; "))
}
