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
