package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// The committed tables are what the committed generator makes of HL7's package.
func TestCommittedTablesAreCurrent(t *testing.T) {
	source := testpath.Shared(t, "data", "hl7-r4-core-4.0.1.tar.xz")
	if _, err := exec.LookPath("xz"); err != nil {
		if os.Getenv("TARN_REQUIRE_SUITES") == "1" {
			t.Fatal("xz is not installed")
		}
		t.Skip("xz is not installed")
	}
	lock, err := os.ReadFile(filepath.Join("..", lockFile))
	if err != nil {
		t.Fatal(err)
	}
	tables, numbers, err := generate(t.Context(), source, lock)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(numbers, lock) {
		t.Error("numbers.lock is not current: run go generate")
	}
	made, err := r4.Encode(tables)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile(filepath.Join("..", tablesFile))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(sectionsOf(t, made), sectionsOf(t, committed)) {
		t.Error("r4.tables is not current: run go generate")
	}
}

func sectionsOf(t *testing.T, file []byte) [][]byte {
	t.Helper()
	all, err := r4.Sections(file)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A package of one resource type with one parameter, enough to run the whole
// generator over.
var small = map[string]string{
	"StructureDefinition-Resource.json": `{"resourceType":"StructureDefinition","url":"http://hl7.org/fhir/StructureDefinition/Resource","name":"Resource","kind":"resource","abstract":true,"type":"Resource",
		"snapshot":{"element":[{"path":"Resource","min":0,"max":"*"}]}}`,
	"StructureDefinition-Thing.json": `{"resourceType":"StructureDefinition","url":"http://hl7.org/fhir/StructureDefinition/Thing","name":"Thing","kind":"resource","type":"Thing","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Resource","derivation":"specialization",
		"snapshot":{"element":[{"path":"Thing","min":0,"max":"*"},{"path":"Thing.part","min":0,"max":"*","type":[{"code":"Resource"}]}]}}`,
	"SearchParameter-Thing-part.json": `{"resourceType":"SearchParameter","url":"http://example.org/part","code":"part","base":["Thing"],"type":"token","expression":"Thing.part"}`,
	"Patient-example.json":            `not even JSON, and not looked at`,
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const smallLock = `type 1 Thing
param 1 Resource _has
param 2 Resource _list
param 3 Resource _type
param 4 Thing part
`

func TestGenerateNumbers(t *testing.T) {
	source := folder(t, small)
	tests := []struct {
		name, lock, want, refused string
	}{
		{"none yet", "", smallLock, ""},
		{"all given", smallLock, smallLock, ""},
		{"given in another order", "param 9 Thing part\ntype 7 Thing\n",
			"param 9 Thing part\ntype 7 Thing\nparam 10 Resource _has\nparam 11 Resource _list\nparam 12 Resource _type\n", ""},
		{"one retired", "retired param 4 Thing whole\n",
			"retired param 4 Thing whole\ntype 1 Thing\nparam 5 Resource _has\nparam 6 Resource _list\nparam 7 Resource _type\nparam 8 Thing part\n", ""},
		{"one without definition", smallLock + "param 5 Thing whole\n", "", `"param Thing whole" has a number but no definition`},
		{"one number twice", "type 1 Thing\ntype 1 Other\n", "", `numbers.lock:2: "type 1" is given twice`},
		{"a retired number again", "retired type 1 Other\ntype 1 Thing\n", "", `numbers.lock:2: "type 1" is given twice`},
		{"one thing twice", "type 1 Thing\ntype 2 Thing\n", "", `numbers.lock:2: "type Thing" has two numbers`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, numbers, err := generate(t.Context(), source, []byte(test.lock))
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Fatalf("refused with %v, want %s", err, test.refused)
				}
				return
			}
			if err != nil || string(numbers) != test.want {
				t.Errorf("%v\n%s\nwant\n%s", err, numbers, test.want)
			}
		})
	}
}

func TestRunWritesWhatItRead(t *testing.T) {
	source, out := folder(t, small), t.TempDir()
	if err := run(t.Context(), source, out); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(out, tablesFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), source, out); err != nil {
		t.Fatal(err)
	}
	second, _ := os.ReadFile(filepath.Join(out, tablesFile))
	lock, _ := os.ReadFile(filepath.Join(out, lockFile))
	if !bytes.Equal(first, second) || string(lock) != smallLock {
		t.Errorf("a second run changed the tables or the lock:\n%s", lock)
	}
}

func TestGenerateRefuses(t *testing.T) {
	tests := []struct{ name, file, text, refused string }{
		{"an empty definition", "StructureDefinition-Empty.json", `{"url":"u","name":"Empty","kind":"resource","derivation":"specialization"}`, "no snapshot"},
		{"broken JSON", "SearchParameter-x.json", `{`, "SearchParameter-x.json"},
		{"another base", "SearchParameter-x.json", `{"url":"x","code":"x","base":["Thing"],"type":"token","expression":"Other.part"}`, "begins at none of the bases"},
		{"nothing for a base", "SearchParameter-x.json", `{"url":"x","code":"x","base":["Thing","Other"],"type":"token","expression":"Thing.part"}`, "is for it"},
		{"an unknown type", "SearchParameter-x.json", `{"url":"x","code":"x","base":["Thing"],"type":"colour"}`, `unknown type "colour"`},
		{"an unknown target", "SearchParameter-x.json", `{"url":"x","code":"x","base":["Thing"],"type":"reference","target":["Other"]}`, `unknown target "Other"`},
		{"a second definition", "SearchParameter-x.json", `{"url":"x","code":"part","base":["Thing"],"type":"token"}`, "a second definition"},
		{"a part that is not there", "SearchParameter-x.json", `{"url":"x","code":"x","base":["Thing"],"type":"composite","component":[{"definition":"y"}]}`, "no component y"},
		{"a changed expression", "SearchParameter-x.json", `{"url":"http://hl7.org/fhir/SearchParameter/InsurancePlan-name","code":"x","base":["Thing"],"type":"string","expression":"Thing.name"}`, "published as"},
		{"a compartment by nothing", "CompartmentDefinition-x.json", `{"url":"x","code":"Thing","resource":[{"code":"Thing","param":["whole"]}]}`, "no search parameter whole"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source := folder(t, small)
			if err := os.WriteFile(filepath.Join(source, test.file), []byte(test.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, _, err := generate(t.Context(), source, nil); err == nil || !strings.Contains(err.Error(), test.refused) {
				t.Errorf("refused with %v, want %s", err, test.refused)
			}
		})
	}
	if _, _, err := generate(t.Context(), t.TempDir(), nil); err == nil {
		t.Error("an empty folder gave tables")
	}
}

func TestAlternatives(t *testing.T) {
	tests := []struct {
		expression string
		want       []string
	}{
		{"Patient.name", []string{"Patient.name"}},
		{"A.b | B.c", []string{"A.b", "B.c"}},
		{"(A.b as Quantity)|(A.b as Range)", []string{"(A.b as Quantity)", "(A.b as Range)"}},
		{"A.where(x | y).z | B", []string{"A.where(x | y).z", "B"}},
		{"A.where(x='|') | B[0]", []string{"A.where(x='|')", "B[0]"}},
		{`A.where(x='\'|') | B`, []string{`A.where(x='\'|')`, "B"}},
		{"", []string{""}},
	}
	for _, test := range tests {
		if got := alternatives(test.expression); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.expression, got, test.want)
		}
	}
}

func TestRootName(t *testing.T) {
	for expression, want := range map[string]string{"Patient.name": "Patient", "(Patient.name as x)": "Patient", "Observation": "Observation",
		"( A as b)": "A", "(A)": "A", "": ""} {
		if got := rootName(expression); got != want {
			t.Errorf("%q begins at %q, want %q", expression, got, want)
		}
	}
}

func TestMend(t *testing.T) {
	for expression, want := range map[string]string{
		"(A.b as Quantity)":                        "A.b.ofType(Quantity)",
		"(A.b as CodeableConcept).text":            "A.b.ofType(CodeableConcept).text",
		"value.as(DateTime) | value.as(Period)":    "value.ofType(dateTime) | value.ofType(Period)",
		"A.b.where(resolve() is Patient)":          "A.b.where(resolve() is Patient)",
		"A.b.exists() and A.b != false":            "A.b.exists() and A.b != false",
		"A.answer.value.ofType(Reference)":         "A.answer.value.ofType(Reference)",
		"A.extension('http://x/as(y)').value":      "A.extension('http://x/as(y)').value",
		"(A.b as Quantity) | (A.c as SampledData)": "A.b.ofType(Quantity) | A.c.ofType(SampledData)",
	} {
		if got := mend(expression); got != want {
			t.Errorf("%s becomes %s, want %s", expression, got, want)
		}
	}
}

func FuzzLock(f *testing.F) {
	f.Add(smallLock)
	f.Add("retired param 4 Thing whole\ntype 32767 Thing\n")
	f.Add("type 0 A\nparam 70000 A b\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parseLock(strings.NewReader(text))
		if err != nil {
			return
		}
		n, err := l.number("type", "New")
		if err != nil {
			return
		}
		again, err := parseLock(bytes.NewReader(l.format()))
		if err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, l.format())
		}
		if m, err := again.number("type", "New"); m != n || err != nil {
			t.Errorf("New was %d and became %d (%v)", n, m, err)
		}
	})
}

func FuzzAlternatives(f *testing.F) {
	f.Add("A.where(x='|') | (B.c as D)")
	f.Add("'\\")
	f.Fuzz(func(t *testing.T, expression string) {
		parts := alternatives(expression)
		squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
		if squeeze(strings.Join(parts, "|")) != squeeze(expression) {
			t.Errorf("%q split to %q", expression, parts)
		}
		_ = rootName(expression)
	})
}
