package r4_test

import (
	"slices"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

func typeID(t testing.TB, name string) r4.TypeID {
	t.Helper()
	id, ok := r4.TypeByName(name)
	if !ok {
		t.Fatalf("no type %s", name)
	}
	return id
}

// The counts are those of the published definitions, counted apart from the
// generator: 146 resource types (https://hl7.org/fhir/R4/resourcelist.html has
// 148 with the two abstract ones), 20 primitives with xhtml.
func TestCounts(t *testing.T) {
	kinds := map[r4.Kind]int{}
	for _, name := range r4.StructureNames() {
		s, _ := r4.StructureOf(name)
		kinds[s.Kind]++
	}
	// Complex: 39 types, Element, BackboneElement, and two Quantity profiles.
	want := map[r4.Kind]int{r4.KindPrimitive: 20, r4.KindComplex: 43, r4.KindBackbone: 473, r4.KindResource: 148}
	for k, n := range want {
		if kinds[k] != n {
			t.Errorf("kind %d: %d structures, want %d", k, kinds[k], n)
		}
	}
	if n := len(r4.ResourceTypes()); n != 146 {
		t.Errorf("%d resource types, want 146", n)
	}
}

func TestSearchParameterCounts(t *testing.T) {
	// 1,721 published pairs of base and code, less three examples, and three in
	// prose: _has, _list, _type.
	want := map[r4.ParamType]int{r4.ParamNumber: 7, r4.ParamDate: 140, r4.ParamString: 206, r4.ParamToken: 676, r4.ParamReference: 519,
		r4.ParamComposite: 72, r4.ParamQuantity: 40, r4.ParamURI: 57, r4.ParamSpecial: 4}
	got := map[r4.ParamType]int{}
	urls := map[string]bool{}
	for _, p := range r4.AllParams() {
		got[p.Type]++
		urls[p.URL] = true
	}
	for k, n := range want {
		if got[k] != n {
			t.Errorf("%s: %d parameters, want %d", k, got[k], n)
		}
	}
	if n := len(r4.AllParams()); n != 1721 {
		t.Errorf("%d parameters, want 1721", n)
	}
	// 1,400 definitions, less three examples and ten without a base; and "".
	if n := len(urls); n != 1388 {
		t.Errorf("%d definitions, want 1388", n)
	}
}

func TestTypeNumbers(t *testing.T) {
	if id := typeID(t, "Account"); id != 1 {
		t.Errorf("Account is %d: numbers are frozen", id)
	}
	if id := typeID(t, "VisionPrescription"); id != 146 {
		t.Errorf("VisionPrescription is %d: numbers are frozen", id)
	}
	for _, id := range r4.ResourceTypes() {
		if back := typeID(t, r4.TypeName(id)); back != id {
			t.Errorf("%d is %s is %d", id, r4.TypeName(id), back)
		}
	}
	for _, name := range []string{"", "patient", "Resource", "DomainResource", "HumanName"} {
		if id, ok := r4.TypeByName(name); ok {
			t.Errorf("%q is resource type %d", name, id)
		}
	}
	for _, id := range []r4.TypeID{0, 147, plan.SystemTypes, 0xffff} {
		if name := r4.TypeName(id); name != "" {
			t.Errorf("%d is %s", id, name)
		}
		if r4.Params(id) != nil {
			t.Errorf("%d has parameters", id)
		}
		if _, ok := r4.Param(id, "_id"); ok {
			t.Errorf("%d has _id", id)
		}
	}
}

func TestParam(t *testing.T) {
	tests := []struct {
		on, code   string
		number     uint16
		kind       r4.ParamType
		expression string
	}{
		{"Patient", "birthdate", 1222, r4.ParamDate, "Patient.birthDate"},
		{"Patient", "family", 1226, r4.ParamString, "Patient.name.family"},
		{"Patient", "deceased", 1224, r4.ParamToken, "Patient.deceased.exists() and Patient.deceased != false"},
		{"Patient", "email", 1225, r4.ParamToken, "Patient.telecom.where(system='email')"},
		{"Observation", "patient", 1155, r4.ParamReference, "Observation.subject.where(resolve() is Patient)"},
		{"Observation", "value-quantity", 1162, r4.ParamQuantity, "Observation.value.ofType(Quantity) | Observation.value.ofType(SampledData)"},
		{"Observation", "value-string", 1163, r4.ParamString, "Observation.value.ofType(string) | Observation.value.ofType(CodeableConcept).text"},
		{"Observation", "date", 1142, r4.ParamDate, "Observation.effective"},
		{"Condition", "abatement-age", 0, r4.ParamQuantity, "Condition.abatement.ofType(Age) | Condition.abatement.ofType(Range)"},
		{"InsurancePlan", "name", 0, r4.ParamString, "InsurancePlan.name | InsurancePlan.alias"},
		{"Location", "near", 0, r4.ParamSpecial, "Location.position"},
		{"Bundle", "_tag", 11, r4.ParamToken, "Resource.meta.tag"},
		{"Patient", "_tag", 11, r4.ParamToken, "Resource.meta.tag"},
		{"Patient", "_lastUpdated", 5, r4.ParamDate, "Resource.meta.lastUpdated"},
		{"Patient", "_text", 13, r4.ParamString, ""},
		{"Patient", "_has", 3, r4.ParamSpecial, ""},
		{"Patient", "_type", 12, r4.ParamToken, ""},
	}
	for _, test := range tests {
		p, ok := r4.Param(typeID(t, test.on), test.code)
		if !ok {
			t.Errorf("%s has no %s", test.on, test.code)
			continue
		}
		if p.Type != test.kind || p.Expression != test.expression || p.Code != test.code {
			t.Errorf("%s %s is %s %q, want %s %q", test.on, test.code, p.Type, p.Expression, test.kind, test.expression)
		}
		if test.number != 0 && p.Number != test.number {
			t.Errorf("%s %s is number %d, want %d: numbers are frozen", test.on, test.code, p.Number, test.number)
		}
		if q, ok := r4.ParamByNumber(p.Number); !ok || q != p {
			t.Errorf("number %d is not %s %s", p.Number, test.on, test.code)
		}
	}
}

func TestParamAbsent(t *testing.T) {
	// Bundle, Binary and Parameters are no DomainResources and have no text.
	for _, name := range []string{"Bundle", "Binary", "Parameters"} {
		if _, ok := r4.Param(typeID(t, name), "_text"); ok {
			t.Errorf("%s has _text", name)
		}
	}
	if _, ok := r4.Param(typeID(t, "Patient"), "code"); ok {
		t.Error("Patient has code")
	}
	if _, ok := r4.ParamByNumber(r4.UserParams); ok {
		t.Error("a number of users' parameters is taken")
	}
	if _, ok := r4.ParamByURL(typeID(t, "Patient"), ""); ok {
		t.Error("a parameter was found by no URL")
	}
}

func TestParamTargets(t *testing.T) {
	tests := []struct {
		on, code string
		want     []string
	}{
		{"Observation", "patient", []string{"Patient"}},
		{"Observation", "encounter", []string{"Encounter"}},
		{"DocumentReference", "encounter", []string{"Encounter", "EpisodeOfCare"}},
		{"Observation", "subject", []string{"Device", "Group", "Location", "Patient"}},
		{"Patient", "link", []string{"Patient", "RelatedPerson"}},
		{"Patient", "birthdate", nil},
	}
	for _, test := range tests {
		p, ok := r4.Param(typeID(t, test.on), test.code)
		if !ok {
			t.Errorf("%s has no %s", test.on, test.code)
			continue
		}
		var got []string
		for _, id := range p.Targets {
			got = append(got, r4.TypeName(id))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s %s refers to %v, want %v", test.on, test.code, got, test.want)
		}
	}
}

func TestComponents(t *testing.T) {
	tests := []struct {
		on, code, over string
		parts          []string // code, expression
	}{
		{"Observation", "code-value-quantity", "Observation",
			[]string{"code", "code", "value-quantity", "value.ofType(Quantity)"}},
		{"Observation", "combo-code-value-quantity", "Observation | Observation.component",
			[]string{"combo-code", "code", "combo-value-quantity", "value.ofType(Quantity)"}},
		{"Observation", "code-value-date", "Observation",
			[]string{"code", "code", "value-date", "value.ofType(dateTime) | value.ofType(Period)"}},
		{"DocumentReference", "relationship", "DocumentReference.relatesTo",
			[]string{"relatesto", "target", "relation", "code"}},
		{"ValueSet", "context-type-value", "ValueSet.useContext",
			[]string{"context-type", "code", "context", "value.ofType(CodeableConcept)"}},
	}
	for _, test := range tests {
		p, ok := r4.Param(typeID(t, test.on), test.code)
		if !ok || p.Type != r4.ParamComposite || p.Expression != test.over {
			t.Errorf("%s %s is %+v", test.on, test.code, p)
			continue
		}
		var got []string
		for _, c := range p.Components {
			got = append(got, c.Param.Code, c.Expression)
			if q, ok := r4.ParamByURL(typeID(t, test.on), c.URL); !ok || q != c.Param {
				t.Errorf("%s is not the component's parameter on %s", c.URL, test.on)
			}
		}
		if !slices.Equal(got, test.parts) {
			t.Errorf("%s %s has components %q, want %q", test.on, test.code, got, test.parts)
		}
	}
}

func TestEveryCompositeHasItsParts(t *testing.T) {
	for _, p := range r4.AllParams() {
		if (p.Type == r4.ParamComposite) != (len(p.Components) > 0) {
			t.Errorf("%s %s: %s with %d components", p.Base, p.Code, p.Type, len(p.Components))
		}
		for _, c := range p.Components {
			if c.Param == nil || c.Param.Type == r4.ParamComposite {
				t.Errorf("%s %s: component %s is %v", p.Base, p.Code, c.URL, c.Param)
			}
		}
	}
}

func TestCommonParams(t *testing.T) {
	var codes []string
	for _, p := range r4.CommonParams() {
		codes = append(codes, p.Code)
	}
	want := []string{"_content", "_filter", "_has", "_id", "_lastUpdated", "_list", "_profile", "_query", "_security", "_source", "_tag", "_type"}
	if !slices.Equal(codes, want) {
		t.Errorf("common parameters %v, want %v", codes, want)
	}
	for _, id := range r4.ResourceTypes() {
		if !slices.IsSortedFunc(r4.Params(id), func(a, b *r4.SearchParam) int { return compare(a.Code, b.Code) }) {
			t.Errorf("parameters of %s are not sorted by code", r4.TypeName(id))
		}
	}
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func TestCompartment(t *testing.T) {
	tests := []struct {
		compartment, of string
		codes           []string
		member          bool
	}{
		{"Patient", "Observation", []string{"subject", "performer"}, true},
		{"Patient", "Patient", []string{"link"}, true},
		{"Patient", "Location", nil, false},
		{"Encounter", "Encounter", nil, true},
		{"Encounter", "Observation", []string{"encounter"}, true},
		{"Practitioner", "Encounter", []string{"practitioner", "participant"}, true},
		{"Group", "Observation", nil, false},
		{"", "Observation", nil, false},
	}
	for _, test := range tests {
		codes, member := r4.Compartment(test.compartment, typeID(t, test.of))
		if member != test.member || !slices.Equal(codes, test.codes) {
			t.Errorf("%s in the compartment %s: %v %v, want %v %v", test.of, test.compartment, codes, member, test.codes, test.member)
		}
	}
	if got := r4.Compartments(); !slices.Equal(got, []string{"Device", "Encounter", "Patient", "Practitioner", "RelatedPerson"}) {
		t.Errorf("compartments %v", got)
	}
	if url := r4.CompartmentURL("Patient"); url != "http://hl7.org/fhir/CompartmentDefinition/patient" {
		t.Errorf("the Patient compartment is %s", url)
	}
}

func TestEveryCompartmentCodeIsAReference(t *testing.T) {
	for _, name := range r4.Compartments() {
		for _, id := range r4.ResourceTypes() {
			codes, _ := r4.Compartment(name, id)
			for _, code := range codes {
				if p, ok := r4.Param(id, code); !ok || p.Type != r4.ParamReference {
					t.Errorf("%s compartment: %s %s is no reference parameter", name, r4.TypeName(id), code)
				}
			}
		}
	}
}

func TestValueSets(t *testing.T) {
	status, ok := r4.ValueSetByURL("http://hl7.org/fhir/ValueSet/observation-status|4.0.1")
	if !ok || !status.HasCode("final") || status.HasCode("Final") || status.HasCode("") {
		t.Errorf("observation-status is %+v", status)
	}
	if !status.Has("http://hl7.org/fhir/observation-status", "final") || status.Has("http://loinc.org", "final") {
		t.Errorf("observation-status takes the wrong system: %+v", status)
	}
	mime, ok := r4.ValueSetByURL("http://hl7.org/fhir/ValueSet/mimetypes")
	if !ok || !mime.HasCode("text/plain") || !slices.Equal(mime.Open, []string{"urn:ietf:bcp:13"}) {
		t.Errorf("mimetypes is %+v", mime)
	}
	units, ok := r4.ValueSetByURL("http://hl7.org/fhir/ValueSet/units-of-time")
	if !ok || !units.HasCode("wk") || units.HasCode("mg") {
		t.Errorf("units-of-time is %+v", units)
	}
	if _, ok := r4.ValueSetByURL("http://loinc.org/vs/LL379-9"); ok {
		t.Error("a value set of LOINC's is held")
	}
}

// Only HL7's own systems are listed, with the one exception PROVENANCE.md names.
func TestValueSetsHoldNoOthersCodes(t *testing.T) {
	seen := 0
	for _, name := range r4.StructureNames() {
		for _, e := range r4.Elements(name) {
			if e.Binding.Strength != r4.BindRequired {
				continue
			}
			v, ok := r4.ValueSetByURL(e.Binding.ValueSet)
			if !ok {
				if e.Path != "MolecularSequence.structureVariant.variantType" {
					t.Errorf("%s: no value set %s", e.Path, e.Binding.ValueSet)
				}
				continue
			}
			for _, s := range v.Systems {
				seen += len(s.Codes)
				if !ownSystem(s.System) && v.URL != "http://hl7.org/fhir/ValueSet/units-of-time" {
					t.Errorf("%s lists codes of %s", v.URL, s.System)
				}
				if len(s.Codes) == 0 || !slices.IsSorted(s.Codes) {
					t.Errorf("%s: codes of %s are none or not sorted", v.URL, s.System)
				}
			}
			if len(v.Systems)+len(v.Open) == 0 {
				t.Errorf("%s is empty", v.URL)
			}
		}
	}
	if seen == 0 {
		t.Error("no code was seen")
	}
}

func ownSystem(url string) bool {
	return slices.ContainsFunc([]string{"http://hl7.org/fhir/", "http://terminology.hl7.org/"}, func(own string) bool {
		return len(url) > len(own) && url[:len(own)] == own
	})
}
