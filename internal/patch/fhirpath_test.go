package patch_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/patch"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

func applyPath(doc, parameters string) (string, error) {
	d, err := fhir.Parse([]byte(doc))
	if err != nil {
		return "", err
	}
	q, err := fhir.Parse([]byte(parameters))
	if err != nil {
		return "", err
	}
	p, err := patch.ParseFHIRPath(q.Root())
	if err != nil {
		return "", err
	}
	out, err := p.Apply(d)
	return string(out), err
}

// HL7's test cases (FHIR/fhir-test-cases, r4/patch), all of them.
func TestFHIRPathSuite(t *testing.T) {
	raw, err := os.ReadFile(testpath.Shared(t, "suites", "fhir-patch-json.json"))
	if err != nil {
		t.Fatal(err)
	}
	var suite struct {
		Cases []struct {
			Name                 string
			Input, Patch, Output json.RawMessage
			Error                any
		}
	}
	if err := json.Unmarshal(raw, &suite); err != nil {
		t.Fatal(err)
	}
	if len(suite.Cases) != 33 {
		t.Fatalf("%d cases", len(suite.Cases))
	}
	for _, c := range suite.Cases {
		t.Run(c.Name, func(t *testing.T) {
			got, err := applyPath(string(c.Input), string(c.Patch))
			if c.Error != nil {
				if !fault.Is(err, fault.Unprocessable) {
					t.Errorf("got %s, %v", got, err)
				}
				return
			}
			var is, want any
			if err != nil || json.Unmarshal(plain([]byte(got)), &is) != nil || json.Unmarshal(plain(c.Output), &want) != nil || !reflect.DeepEqual(is, want) {
				t.Errorf("got %s, %v\nwant %s", got, err, c.Output)
			}
		})
	}
}

// plain undoes what the suite's way from XML to JSON left in one narrative: the
// patch's value has the default namespace and no white space at the end, the
// outcome a prefix "html:" and a new line.
func plain(text []byte) []byte {
	s := strings.NewReplacer("<html:", "<", "</html:", "</", "xmlns:html", "xmlns").Replace(string(text))
	return []byte(strings.ReplaceAll(s, `</div>\n        "`, `</div>"`))
}

// op is one operation, written kind|path|name="valueX":JSON|….
func op(text string) string {
	fields := strings.Split(text, "|")
	parts := []string{`{"name":"type","valueCode":"` + fields[0] + `"}`, `{"name":"path","valueString":"` + fields[1] + `"}`}
	for _, f := range fields[2:] {
		name, value, _ := strings.Cut(f, "=")
		parts = append(parts, `{"name":"`+name+`",`+value+`}`)
	}
	return `{"name":"operation","part":[` + strings.Join(parts, ",") + `]}`
}

func parameters(operations ...string) string {
	var all []string
	for _, o := range operations {
		all = append(all, op(o))
	}
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(all, ",") + `]}`
}

func TestFHIRPathOperations(t *testing.T) {
	tests := []struct{ name, doc, operation, want string }{
		{"decimals and order stay", `{"resourceType":"Observation","valueQuantity":{"value":1.500},"status":"final"}`,
			`replace|Observation.status|value="valueCode":"amended"`,
			`{"resourceType":"Observation","valueQuantity":{"value":1.500},"status":"amended"}`},
		{"a choice is added by the value's type", `{"resourceType":"Patient"}`,
			`add|Patient|name="valueString":"deceased"|value="valueBoolean":true`, `{"resourceType":"Patient","deceasedBoolean":true}`},
		{"a choice changes its type", `{"resourceType":"Observation","valueQuantity":{"value":1}}`,
			`replace|Observation.value|value="valueString":"high"`, `{"resourceType":"Observation","valueString":"high"}`},
		{"a list that is not there yet", `{"resourceType":"Patient"}`,
			`insert|Patient.name|index="valueInteger":0|value="valueHumanName":{"text":"x"}`, `{"resourceType":"Patient","name":[{"text":"x"}]}`},
		{"siblings move along", `{"resourceType":"Patient","name":[{"given":["a",null,"c"],"_given":[null,{"id":"2"},null]}]}`,
			`move|Patient.name.given|source="valueInteger":1|destination="valueInteger":0`,
			`{"resourceType":"Patient","name":[{"given":[null,"a","c"],"_given":[{"id":"2"},null,null]}]}`},
		{"siblings go along", `{"resourceType":"Patient","birthDate":"2000","_birthDate":{"id":"x"},"active":true}`,
			`delete|Patient.birthDate`, `{"resourceType":"Patient","active":true}`},
		{"a value with extensions", `{"resourceType":"Patient"}`,
			`add|Patient|name="valueString":"birthDate"|value="valueDate":"2000","_valueDate":{"id":"x"}`,
			`{"resourceType":"Patient","birthDate":"2000","_birthDate":{"id":"x"}}`},
		{"an extension", `{"resourceType":"Patient"}`,
			`add|Patient|name="valueString":"extension"|value="part":[{"name":"url","valueUri":"http://x"},{"name":"value","valueInteger":1}]`,
			`{"resourceType":"Patient","extension":[{"url":"http://x","valueInteger":1}]}`},
		{"nested parts, repeating", `{"resourceType":"Patient","contact":[{"gender":"male"}]}`,
			`insert|Patient.contact|index="valueInteger":0|value="part":[{"name":"telecom","valueContactPoint":{"value":"1"}},{"name":"telecom","part":[{"name":"value","valueString":"2"}]}]`,
			`{"resourceType":"Patient","contact":[{"telecom":[{"value":"1"},{"value":"2"}]},{"gender":"male"}]}`},
		{"insert among what a filter finds", `{"resourceType":"Patient","identifier":[{"value":"a"},{"use":"old","value":"b"},{"value":"c"}]}`,
			`insert|Patient.identifier.where(use='old')|index="valueInteger":1|value="valueIdentifier":{"value":"d"}`,
			`{"resourceType":"Patient","identifier":[{"value":"a"},{"use":"old","value":"b"},{"value":"d"},{"value":"c"}]}`},
		{"a contained resource", `{"resourceType":"Patient"}`,
			`add|Patient|name="valueString":"contained"|value="resource":{"resourceType":"Organization","id":"o"}`,
			`{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o"}]}`},
		{"nothing to delete", `{"resourceType":"Patient"}`, `delete|Patient.birthDate`, `{"resourceType":"Patient"}`},
		{"emptied objects go", `{"resourceType":"Patient","contact":[{"name":{"text":"x"}}],"active":true}`,
			`delete|Patient.contact.name.text`, `{"resourceType":"Patient","active":true}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := applyPath(tt.doc, parameters(tt.operation))
			if err != nil || got != tt.want {
				t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

func TestFHIRPathRefusals(t *testing.T) {
	doc := `{"resourceType":"Patient","active":true,"deceasedBoolean":false,"name":[{"given":["a","b"]},{"given":["c"]}],"birthDate":"2000"}`
	tests := []struct {
		name, operation string
		kind            fault.Kind
	}{
		{"no such kind", `grow|Patient`, fault.Invalid},
		{"no value", `replace|Patient.active`, fault.Invalid},
		{"no name", `add|Patient|value="valueString":"x"`, fault.Invalid},
		{"an index that is none", `insert|Patient.name|index="valueInteger":-1|value="valueHumanName":{}`, fault.Invalid},
		{"a path that is none", `delete|Patient..name`, fault.Syntax},
		{"several elements", `delete|Patient.name`, fault.Unprocessable},
		{"nothing there", `replace|Patient.gender|value="valueCode":"male"`, fault.Unprocessable},
		{"there already", `add|Patient|name="valueString":"birthDate"|value="valueDate":"2001"`, fault.Unprocessable},
		{"there already as another type", `add|Patient|name="valueString":"deceased"|value="valueDateTime":"2001"`, fault.Unprocessable},
		{"no such element", `add|Patient|name="valueString":"shoeSize"|value="valueInteger":43`, fault.Unprocessable},
		{"not a type of this choice", `add|Patient|name="valueString":"multipleBirth"|value="valueString":"x"`, fault.Unprocessable},
		{"a primitive has no members", `add|Patient.birthDate|name="valueString":"x"|value="valueString":"x"`, fault.Unprocessable},
		{"a computed value", `replace|Patient.active.not()|value="valueBoolean":true`, fault.Unprocessable},
		{"a computed list", `insert|Patient.name.count()|index="valueInteger":0|value="valueString":"x"`, fault.Unprocessable},
		{"the whole resource", `delete|Patient`, fault.Unprocessable},
		{"no list", `insert|Patient.birthDate|index="valueInteger":0|value="valueDate":"2001"`, fault.Unprocessable},
		{"two lists", `insert|Patient.name.given|index="valueInteger":0|value="valueString":"x"`, fault.Unprocessable},
		{"behind the end", `insert|Patient.name[0].given|index="valueInteger":3|value="valueString":"x"`, fault.Unprocessable},
		{"moved from nowhere", `move|Patient.name|source="valueInteger":2|destination="valueInteger":0`, fault.Unprocessable},
		{"moved in nothing", `move|Patient.link|source="valueInteger":0|destination="valueInteger":0`, fault.Unprocessable},
		{"inserted far into nothing", `insert|Patient.link|index="valueInteger":1|value="part":[]`, fault.Unprocessable},
		{"no content", `replace|Patient.active|value="id":"x"`, fault.Unprocessable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := applyPath(doc, parameters(tt.operation))
			if !fault.Is(err, tt.kind) {
				t.Fatalf("got %s, %v", got, err)
			}
			if !strings.Contains(err.Error(), "operation 1") {
				t.Errorf("it does not say which operation: %v", err)
			}
		})
	}
	if _, err := applyPath(doc, `{"resourceType":"Parameters","parameter":[{"name":"x"}]}`); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

// Whatever a patch does, its result parses.
func FuzzFHIRPath(f *testing.F) {
	f.Add(`{"resourceType":"Patient","name":[{"given":["a",null],"_given":[null,{"id":"1"}]}]}`, parameters(`move|Patient.name.given|source="valueInteger":1|destination="valueInteger":0`))
	f.Add(`{"resourceType":"Observation","valueQuantity":{"value":1}}`, parameters(`replace|Observation.value|value="valueString":"high"`))
	f.Add(`{"resourceType":"Patient"}`, parameters(`insert|Patient.contact|index="valueInteger":0|value="part":[{"name":"gender","valueCode":"male"}]`, `delete|Patient.contact.gender`))
	f.Fuzz(func(t *testing.T, doc, patch string) {
		got, err := applyPath(doc, patch)
		if err != nil {
			return
		}
		if _, err := fhir.Parse([]byte(got)); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	})
}
