package r4_test

import (
	"slices"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

func TestElement(t *testing.T) {
	tests := []struct {
		in, member string
		path       string
		kind       string
		choice     string
		array      bool
	}{
		{"Patient", "birthDate", "Patient.birthDate", "date", "", false},
		{"Patient", "name", "Patient.name", "HumanName", "", true},
		{"Patient", "id", "Patient.id", "id", "", false},
		{"Patient", "contained", "Patient.contained", "Resource", "", true},
		{"Patient", "deceasedBoolean", "Patient.deceased[x]", "boolean", "deceased", false},
		{"Patient", "deceasedDateTime", "Patient.deceased[x]", "dateTime", "deceased", false},
		{"Patient", "contact", "Patient.contact", "Patient.contact", "", true},
		{"Patient.contact", "gender", "Patient.contact.gender", "code", "", false},
		{"Observation", "valueQuantity", "Observation.value[x]", "Quantity", "value", false},
		{"Observation", "value", "Observation.value[x]", "", "value", false},
		{"Observation.component", "referenceRange", "Observation.component.referenceRange", "Observation.referenceRange", "", true},
		{"Questionnaire.item", "item", "Questionnaire.item.item", "Questionnaire.item", "", true},
		{"Bundle.entry", "resource", "Bundle.entry.resource", "Resource", "", false},
		{"Extension", "valueBase64Binary", "Extension.value[x]", "base64Binary", "value", false},
		{"Extension", "valueMeta", "Extension.value[x]", "Meta", "value", false},
		{"Extension", "url", "Extension.url", "uri", "", false},
		{"HumanName", "id", "HumanName.id", "string", "", false},
		{"Timing.repeat", "boundsPeriod", "Timing.repeat.bounds[x]", "Period", "bounds", false},
		{"Age", "value", "Age.value", "decimal", "", false},
		{"boolean", "value", "boolean.value", "System.Boolean", "", false},
		{"Narrative", "div", "Narrative.div", "xhtml", "", false},
	}
	for _, test := range tests {
		e, ok := r4.Element(test.in, test.member)
		if !ok {
			t.Errorf("%s has no %s", test.in, test.member)
			continue
		}
		if e.Name != test.member || e.Path != test.path || e.Type != test.kind || e.Choice != test.choice || e.IsArray() != test.array {
			t.Errorf("%s %s is %+v", test.in, test.member, e)
		}
		if e.IsChoice() != (test.kind == "") || !e.IsChoice() && (len(e.Types) != 1 || e.Types[0].Name != e.Type) {
			t.Errorf("%s %s has types %v", test.in, test.member, e.Types)
		}
	}
}

func TestElementAbsent(t *testing.T) {
	for _, at := range [][2]string{{"Patient", "value"}, {"Patient", "deceasedString"}, {"Patient", "value[x]"}, {"Observation", "valueAge"},
		{"Observation", "valuequantity"}, {"Patient", ""}, {"", "id"}, {"patient", "id"}, {"Patient.name", "family"}} {
		if e, ok := r4.Element(at[0], at[1]); ok {
			t.Errorf("%s has %q: %+v", at[0], at[1], e)
		}
	}
	if r4.Elements("Nothing") != nil {
		t.Error("an unknown type has elements")
	}
}

func TestElementDetails(t *testing.T) {
	status, _ := r4.Element("Observation", "status")
	want := r4.Binding{Strength: r4.BindRequired, ValueSet: "http://hl7.org/fhir/ValueSet/observation-status|4.0.1"}
	if status.Binding != want || status.Min != 1 || status.Max != 1 || !status.Modifier || !status.Summary {
		t.Errorf("Observation.status is %+v", status)
	}
	language, _ := r4.Element("Patient", "language")
	if language.Binding.Max != "http://hl7.org/fhir/ValueSet/all-languages" || language.Binding.Strength != r4.BindPreferred || language.Summary {
		t.Errorf("Patient.language is %+v", language)
	}
	subject, _ := r4.Element("Observation", "subject")
	if got := subject.Types[0].Targets; !slices.Equal(got, []string{"Patient", "Group", "Device", "Location"}) {
		t.Errorf("Observation.subject refers to %v", got)
	}
	low, _ := r4.Element("Observation.referenceRange", "low")
	if got := low.Types[0].Profiles; !slices.Equal(got, []string{"SimpleQuantity"}) {
		t.Errorf("Observation.referenceRange.low has profiles %v", got)
	}
	given, _ := r4.Element("HumanName", "given")
	if given.Max != r4.Unbounded {
		t.Errorf("HumanName.given has at most %d", given.Max)
	}
	url, _ := r4.Element("Extension", "url")
	if !url.XMLAttr {
		t.Error("Extension.url is no attribute in XML")
	}
}

func TestPrimitives(t *testing.T) {
	tests := []struct {
		name, system, base string
		hasRegex           bool
	}{
		{"boolean", "Boolean", "Element", true},
		{"string", "String", "Element", true},
		{"code", "String", "string", true},
		{"positiveInt", "Integer", "integer", true},
		{"decimal", "Decimal", "Element", true},
		{"instant", "DateTime", "Element", true},
		{"date", "Date", "Element", true},
		{"xhtml", "String", "Element", false},
	}
	for _, test := range tests {
		s, ok := r4.StructureOf(test.name)
		if !ok || s.Kind != r4.KindPrimitive || s.System != test.system || s.Base != test.base || (s.Regex != "") != test.hasRegex {
			t.Errorf("%s is %+v", test.name, s)
		}
	}
	integer, _ := r4.StructureOf("integer")
	if integer.MinValue != -1<<31 || integer.MaxValue != 1<<31-1 {
		t.Errorf("integer runs from %d to %d", integer.MinValue, integer.MaxValue)
	}
	text, _ := r4.StructureOf("string")
	if text.MaxLength != 1<<20 {
		t.Errorf("string has at most %d", text.MaxLength)
	}
}

func keys(list []r4.Invariant) []string {
	var all []string
	for _, v := range list {
		all = append(all, v.Key)
	}
	return all
}

func TestInvariants(t *testing.T) {
	observation, _ := r4.StructureOf("Observation")
	if got := keys(observation.Invariants); !slices.Equal(got, []string{"dom-2", "dom-3", "dom-4", "dom-5", "dom-6", "obs-6", "obs-7"}) {
		t.Errorf("Observation has %v", got)
	}
	if v := observation.Invariants[4]; v.Key != "dom-6" || !v.Warning || v.Expression != "text.`div`.exists()" {
		t.Errorf("dom-6 is %+v", v)
	}
	contact, _ := r4.StructureOf("Patient.contact")
	if got := keys(contact.Invariants); !slices.Equal(got, []string{"ele-1", "pat-1"}) {
		t.Errorf("Patient.contact has %v", got)
	}
	at, _ := r4.Element("Patient", "contact")
	if len(at.Invariants) != 0 {
		t.Errorf("the element Patient.contact repeats %v", keys(at.Invariants))
	}
	// Stated for a place, not for the type.
	telecom, _ := r4.Element("Organization", "telecom")
	if got := keys(telecom.Invariants); !slices.Equal(got, []string{"org-3"}) {
		t.Errorf("Organization.telecom has %v", got)
	}
	simple, _ := r4.StructureOf("SimpleQuantity")
	if got := keys(simple.Invariants); !slices.Contains(got, "sqty-1") || simple.Base != "Quantity" {
		t.Errorf("SimpleQuantity has %v", got)
	}
}

func TestIsA(t *testing.T) {
	tests := []struct {
		name, ancestor string
		want           bool
	}{
		{"Patient", "Patient", true},
		{"Patient", "DomainResource", true},
		{"Patient", "Resource", true},
		{"Bundle", "DomainResource", false},
		{"Age", "Quantity", true},
		{"Quantity", "Age", false},
		{"code", "string", true},
		{"url", "uri", true},
		{"Observation.component", "BackboneElement", true},
		{"Observation.component", "Element", true},
		{"Timing.repeat", "BackboneElement", false},
		{"Patient", "", false},
		{"Nothing", "Element", false},
	}
	for _, test := range tests {
		if got := r4.IsA(test.name, test.ancestor); got != test.want {
			t.Errorf("%s is a %s: %v", test.name, test.ancestor, got)
		}
	}
}

func TestSummaryElements(t *testing.T) {
	var got []string
	for _, e := range r4.SummaryElements(typeID(t, "Patient")) {
		got = append(got, e.Name)
	}
	// https://hl7.org/fhir/R4/patient.html, the Σ marks of the root's members.
	want := []string{"id", "meta", "implicitRules", "identifier", "active", "name", "telecom", "gender", "birthDate", "deceased",
		"address", "managingOrganization", "link"}
	if !slices.Equal(got, want) {
		t.Errorf("summary of Patient: %v, want %v", got, want)
	}
	if r4.SummaryElements(0) != nil {
		t.Error("no type has a summary")
	}
}

// Members of every type are found under the name they have, and the expansions
// of a choice never hide another member.
func TestEveryMemberIsFound(t *testing.T) {
	for _, name := range r4.StructureNames() {
		s, ok := r4.StructureOf(name)
		if !ok || s.Name != name {
			t.Fatalf("%s is not found", name)
		}
		names := map[string]bool{}
		for _, e := range s.Elements {
			members := []string{e.Name}
			if e.IsChoice() {
				for _, typ := range e.Types {
					members = append(members, e.Choice+upper(typ.Name))
				}
			}
			for _, m := range members {
				if found, ok := s.Element(m); !ok || found.Path != e.Path || found.Name != m {
					t.Errorf("%s %s is %+v", name, m, found)
				}
				if names[m] {
					t.Errorf("%s %s is two members", name, m)
				}
				names[m] = true
			}
		}
	}
}

func upper(s string) string {
	if s[0] >= 'a' && s[0] <= 'z' {
		return string(s[0]-32) + s[1:]
	}
	return s
}
