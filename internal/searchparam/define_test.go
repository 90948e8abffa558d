package searchparam

import (
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

func defined1(t *testing.T, json string) Definition {
	t.Helper()
	_, root := parsed(t, json)
	d, used := ReadDefinition(root)
	if !used {
		t.Fatalf("not used: %s", json)
	}
	return d
}

func definedJSON(code, kind, base, expression, more string) string {
	return `{"resourceType":"SearchParameter","id":"` + code + `","url":"http://example.org/` + code + `","name":"X","description":"x","status":"active","code":"` + code +
		`","base":["` + strings.ReplaceAll(base, ",", `","`) + `"],"type":"` + kind + `","expression":"` + expression + `"` + more + `}`
}

// What users define is found as R4's own parameters are.
func TestDefined(t *testing.T) {
	const patient = `{"resourceType":"Patient","gender":"male","multipleBirthInteger":3,"birthDate":"1980-02-03",
		"name":[{"use":"official","family":"Noor","given":["A"]},{"use":"nickname","given":["Bee"]}],
		"generalPractitioner":[{"reference":"Practitioner/1"}],
		"extension":[{"url":"http://e/x","valueCode":"deep"}]}`
	for _, c := range []struct{ json, query, misses string }{
		{definedJSON("births", "number", "Patient", "(Patient.multipleBirth as integer)", ""), "births=3", "births=4"},
		{definedJSON("births", "number", "Patient", "Patient.multipleBirth.ofType(integer)", ""), "births=gt2", "births:missing=true"},
		{definedJSON("name-use", "token", "Patient,Practitioner", "Patient.name.use | Practitioner.name.use", ""), "name-use=nickname", "name-use=old"},
		{definedJSON("nick", "string", "Patient", "Patient.name.where(use = 'nickname' and given.exists()).given", ""), "nick=be", "nick=a"},
		{definedJSON("named", "token", "Patient", "Patient.name.exists()", ""), "named=true", "named=false"},
		{definedJSON("names", "number", "Patient", "Patient.name.count()", ""), "names=2", "names=1"},
		{definedJSON("first-gp", "reference", "Patient", "Patient.generalPractitioner.first()", `,"target":["Practitioner"]`), "first-gp=Practitioner/1", "first-gp=Practitioner/2"},
		{definedJSON("born", "date", "DomainResource", "Patient.birthDate.first()", ""), "born=1980-02", "born=1981"},
		{definedJSON("x", "token", "Patient", "Patient.extension('http://e/x').value", ""), "x=deep", "x=shallow"},
		{definedJSON("both", "composite", "Patient", "Patient", `,"component":[
			{"definition":"http://hl7.org/fhir/SearchParameter/individual-gender","expression":"gender"},
			{"definition":"http://hl7.org/fhir/SearchParameter/individual-birthdate","expression":"birthDate"}]`), "both=male$1980-02-03", "both=female$1980-02-03"},
	} {
		d := defined1(t, c.json)
		if issues := d.Check(nil); len(issues) > 0 {
			t.Errorf("%s: %v", c.json, issues)
			continue
		}
		r := NewRegistry().With([]Defined{{Definition: d}})
		if !findDefined(t, r, patient, c.query) || findDefined(t, r, patient, c.misses) {
			t.Errorf("%s: %s finds %t, %s finds %t", d.Expression, c.query, findDefined(t, r, patient, c.query), c.misses, findDefined(t, r, patient, c.misses))
		}
	}
}

// What users define is written as other servers' users write it: down to an
// extension instead of its value, of a resource inside a Bundle, with the model's
// name before a type's, over what only FHIRPath can say.
func TestDefinedAsElsewhere(t *testing.T) {
	const patient = `{"resourceType":"Patient","active":true,"identifier":[{"system":"urn:ssn","value":"12 34"}],
		"name":[{"family":"Noor","given":["Amal","Bee"]}],"extension":[
		{"url":"http://e/colour","valueCode":"blue"}, {"url":"http://e/visits","valueInteger":2},
		{"url":"http://e/doctor","valueReference":{"reference":"Practitioner/1"}}, {"url":"http://e/weight","valueQuantity":{"value":5.4}},
		{"url":"http://e/outer","extension":[{"url":"inner","valueDate":"2012-01-02"}]}]}`
	const document = `{"resourceType":"Bundle","type":"document","entry":[
		{"resource":{"resourceType":"Composition","id":"c","title":"Letter","encounter":{"reference":"Encounter/1"}}},
		{"resource":{"resourceType":"Encounter","id":"e"}}]}`
	const observation = `{"resourceType":"Observation","subject":{"reference":"Patient/1"},"specimen":{"reference":"#s"},
		"contained":[{"resourceType":"Specimen","id":"s","receivedTime":"2011-01-01"}]}`
	for _, c := range []struct{ json, resource, query, misses string }{
		{definedJSON("x", "token", "Patient", "Patient.extension('http://e/colour')", ""), patient, "x=blue", "x=2"},
		{definedJSON("x", "number", "Patient", "Patient.extension.where(url = 'http://e/visits')", ""), patient, "x=2", "x=gt2"},
		{definedJSON("x", "reference", "Patient", "Patient.extension('http://e/doctor')", ""), patient, "x=Practitioner/1", "x=Practitioner/2"},
		{definedJSON("x", "date", "Patient", "Patient.extension('http://e/outer').extension('inner')", ""), patient, "x=2012-01-02", "x=2013"},
		{definedJSON("x", "token", "Patient", "Patient.extension('http://e/outer')", ""), patient, "x:missing=true", "x:missing=false"},
		{definedJSON("x", "token", "Patient", "Patient.extension.where(url.endsWith('colour') and value.exists())", ""), patient, "x=blue", "x=2"},
		{definedJSON("x", "token", "Patient", "Patient.extension.where(url.endsWith('outer') and extension.exists())", ""), patient, "x:missing=true", "x:missing=false"},
		{definedJSON("x", "composite", "Patient", "Patient", `,"component":[
			{"definition":"http://hl7.org/fhir/SearchParameter/Patient-active","expression":"active"},
			{"definition":"http://hl7.org/fhir/SearchParameter/individual-gender","expression":"extension('http://e/colour')"}]`), patient, "x=true$blue", "x=true$2"},
		{definedJSON("x", "quantity", "Patient", "Patient.extension('http://e/weight').value.ofType(FHIR.Quantity)", ""), patient, "x=5.4", "x=5.5"},
		{definedJSON("x", "string", "Patient", "Patient.identifier.where(system = 'urn:ssn').select(value.replace(' ', ''))", ""), patient, "x=1234", "x=34"},
		{definedJSON("x", "string", "Patient", "Patient.name.given.first() + ' ' + Patient.name.family", ""), patient, "x=amal noor", "x=noor"},
		{definedJSON("x", "token", "Patient", "iif(Patient.active, 'on', 'off')", ""), patient, "x=on", "x=off"},
		{definedJSON("x", "reference", "Bundle", "Bundle.entry[0].resource.as(Composition).encounter", ""), document, "x=Encounter/1", "x=Encounter/2"},
		{definedJSON("x", "string", "Bundle", "Bundle.entry.resource.ofType(Composition).title", ""), document, "x=letter", "x=better"},
		{definedJSON("x", "token", "Bundle", "Bundle.entry.resource.ofType(Encounter).id", ""), document, "x=e", "x=c"},
		{definedJSON("x", "token", "Bundle", "Bundle.entry.resource.as(MessageHeader).id", ""), document, "x:missing=true", "x=c"},
		{definedJSON("x", "reference", "Observation", "Observation.subject.where(resolve() is FHIR.Patient)", ""), observation, "x=Patient/1", "x=Group/1"},
		{definedJSON("x", "reference", "Observation", "Observation.subject.where(resolve() is FHIR.Group)", ""), observation, "x:missing=true", "x=Patient/1"},
		{definedJSON("x", "date", "Observation", "Observation.specimen.resolve().receivedTime", ""), observation, "x=2011-01-01", "x=2012"},
	} {
		d := defined1(t, c.json)
		if issues := d.Check(nil); len(issues) > 0 {
			t.Errorf("%s: %v", d.Expression, issues)
			continue
		}
		r := NewRegistry().With([]Defined{{Definition: d}})
		if !findDefined(t, r, c.resource, c.query) || findDefined(t, r, c.resource, c.misses) {
			t.Errorf("%s: %s finds %t, %s finds %t", d.Expression, c.query, findDefined(t, r, c.resource, c.query), c.misses, findDefined(t, r, c.resource, c.misses))
		}
	}
}

// Extensions are followed to what they point to, as includes and chains need it.
func TestTargetsOfExtensions(t *testing.T) {
	for _, expression := range []string{"Patient.extension('http://e/doctor')", "Patient.extension.where(url.endsWith('doctor') and value.exists())"} {
		d := defined1(t, definedJSON("doctor", "reference", "Patient", expression, `,"target":["Practitioner"]`))
		r := NewRegistry().With([]Defined{{Definition: d}})
		key, root := parsed(t, `{"resourceType":"Patient","extension":[{"url":"http://e/doctor","valueReference":{"reference":"Practitioner/1"}}]}`)
		p, _ := r.Param(key.Type, "doctor")
		if to := NewExtractor(r, plan.HashKey{}, ownBase).Targets(key.Type, p, root); len(to) != 1 || to[0].ID != "1" {
			t.Errorf("%s points to %v", expression, to)
		}
	}
}

func findDefined(t *testing.T, r *Registry, resource, query string) bool {
	t.Helper()
	key, root := parsed(t, resource)
	entries, err := NewExtractor(r, plan.HashKey{}, ownBase).Extract(key, root)
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := search.ParsePairs(query)
	if err != nil {
		t.Fatal(err)
	}
	q, err := search.Parse(r, []plan.Type{key.Type}, pairs, search.Options{})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	p, err := q.Compile(search.Env{Registry: r, Grant: search.Everything()})
	if err != nil {
		t.Fatal(err)
	}
	one := memory.Candidate{Key: key, Entries: entries}
	return memory.NewWorld(plan.HashKey{}, []memory.Candidate{one}).Matches(p.Arms, one)
}

// Implementation guides define again what R4 has.
func TestR4DefinedAgain(t *testing.T) {
	for _, c := range []struct {
		json string
		same bool
	}{
		{definedJSON("name", "string", "Patient", "Patient.name", ""), true},
		{definedJSON("_id", "token", "Patient", "Patient.id", ""), true},
		{definedJSON("patient", "reference", "AllergyIntolerance", "AllergyIntolerance.patient", ""), true},
		{definedJSON("patient", "reference", "Condition", "Condition.subject", ""), true},
		{definedJSON("patient", "reference", "Condition", "Condition.asserter", ""), false},
		{definedJSON("date", "date", "Observation", "Observation.effective", ""), true},
		{definedJSON("value-concept", "token", "Observation", "Observation.value.ofType(CodeableConcept)", ""), true},
		{definedJSON("value-concept", "token", "Observation", "(Observation.value as CodeableConcept)", ""), true},
		{definedJSON("onset-date", "date", "Condition", "Condition.onset.as(Period)|Condition.onset.as(dateTime)", ""), true},
		{definedJSON("onset-date", "date", "Condition", "Condition.onset.as(dateTime)", ""), false},
		{definedJSON("name", "token", "Patient", "Patient.name", ""), false},
		{definedJSON("name", "string", "Patient", "Patient.contact.name", ""), false},
		{definedJSON("name", "string", "Practitioner", "Patient.name", ""), false},
		{definedJSON("_text", "string", "Patient", "Patient.text", ""), false},
		{definedJSON("nickname", "string", "Patient", "Patient.name", ""), false},
		{definedJSON("code-value-concept", "composite", "Observation", "Observation", `,"component":[{"definition":"http://nowhere","expression":"code"}]`), false},
	} {
		_, root := parsed(t, c.json)
		d, used := ReadDefinition(root)
		if used == c.same {
			t.Errorf("%s %s %s: used %t", d.Code, d.Kind, d.Expression, used)
		}
	}
}

func TestDefinitionsRefused(t *testing.T) {
	other := defined1(t, definedJSON("taken", "token", "Patient", "Patient.active", ""))
	other.ID = "other"
	for _, c := range []struct{ json, place, says string }{
		{definedJSON("a.b", "token", "Patient", "Patient.active", ""), "code", "letters"},
		{definedJSON("_mine", "token", "Patient", "Patient.active", ""), "code", "begin with _"},
		{definedJSON("gender", "token", "Patient", "Patient.active", ""), "code", "of R4 already"},
		{definedJSON("security-context", "reference", "Binary", "Binary.securityContext", ""), "code", "of the server's own"},
		{definedJSON("taken", "token", "Patient", "Patient.active", ""), "code", "SearchParameter/other"},
		{definedJSON("x", "token", "Patientt", "Patient.active", ""), "base[0]", "no resource type"},
		{definedJSON("x", "special", "Patient", "Patient.active", ""), "type", "special"},
		{definedJSON("x", "nothing", "Patient", "Patient.active", ""), "type", "no type"},
		{definedJSON("x", "token", "Patient", "", ""), "expression", "without"},
		{definedJSON("x", "token", "Patient", "Patient.activ", ""), "expression", "activ"},
		{definedJSON("x", "token", "Patient", "Patient.where(", ""), "expression", "fit"},
		{definedJSON("x", "token", "Patient", "Observation.code", ""), "expression", ""},
		{definedJSON("x", "composite", "Patient", "Patient", ""), "component", "components"},
		{definedJSON("x", "composite", "Patient", "Patient", `,"component":[{"definition":"http://nowhere","expression":"active"}]`), "component", "nowhere"},
		{definedJSON("x", "reference", "Patient", "Patient.link.other", `,"target":["Pat"]`), "target[0]", "Pat"},
	} {
		_, root := parsed(t, c.json)
		d, _ := ReadDefinition(root)
		issues := d.Check([]Definition{other})
		if len(issues) == 0 || !strings.HasSuffix(issues[0].Expression, "."+c.place) || !strings.Contains(issues[0].Detail, c.says) {
			t.Errorf("%s: %v", c.json, issues)
		}
	}
	_, root := parsed(t, `{"resourceType":"SearchParameter","url":"http://hl7.org/fhir/SearchParameter/individual-gender","code":"gender","base":["Patient"],"status":"active"}`)
	if _, used := ReadDefinition(root); used {
		t.Error("R4's own definition is used twice")
	}
}

// What is pending is told, and not searched by.
func TestPending(t *testing.T) {
	d := defined1(t, definedJSON("births", "number", "Patient", "Patient.multipleBirth.ofType(integer)", ""))
	r := NewRegistry().With([]Defined{{Definition: d, Pending: func() string { return "half done" }}})
	key, _ := parsed(t, `{"resourceType":"Patient"}`)
	for _, pair := range []search.Pair{{Name: "births", Value: "3"}, {Name: "_sort", Value: "births"}, {Name: "births:missing", Value: "true"}} {
		_, err := search.Parse(r, []plan.Type{key.Type}, []search.Pair{pair}, search.Options{Lenient: true})
		if !fault.Is(err, fault.NotSupported) || !strings.Contains(err.Error(), "half done") {
			t.Errorf("%v: %v", pair, err)
		}
	}
	if _, ok := NewRegistry().Param(key.Type, "births"); ok {
		t.Error("the registry below knows it too")
	}
}
