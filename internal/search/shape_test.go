package search_test

import (
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// secret stands in every value: no shape may show it.
const secret = "9731"

func TestShape(t *testing.T) {
	for query, want := range map[string]string{
		"Patient?name=" + secret: "Patient?name",
		"Patient?name:contains=" + secret + ",b&birthdate=ge" + secret: "Patient?name:contains(2)&birthdate(ge)",
		"Patient?_id=" + secret + "&gender:missing=true":               "Patient?_id&gender:missing(true)",
		"Patient?_id:not=" + secret + ",1,2":                           "Patient?_id:not(3)",
		"Patient?_lastUpdated=gt" + secret + "-01-01":                  "Patient?_lastUpdated(gt)",
		"Observation?value-quantity=lt" + secret + ",gt5||mg":          "Observation?value-quantity(lt,gt)",
		"Observation?patient.name=" + secret:                           "Observation?patient:Patient.name",
		"Patient?_has:Observation:patient:code=x|" + secret:            "Patient?_has:Observation:patient:code",
		"Patient/" + secret + "/Observation?code=1":                    "Observation?in Patient&code",
		"Patient?_sort=-birthdate,_id&_include=Patient:organization":   "Patient?_sort=-birthdate&_sort=_id&_include=Patient:organization",
		"Patient?_total=none&_revinclude:iterate=*&_summary=data":      "Patient?_revinclude:iterate=*:*&_summary=data&_total=none",
		"?_id=" + secret + "&_type=Patient,Group":                      "Patient,Group?_id",
		"?_id=" + secret: "146 types?_id",
		"Patient?identifier:of-type=a|b|" + secret:                              "Patient?identifier:of-type",
		"Patient?_filter=name ew " + secret + " or not (gender eq male)":        "Patient?(name ew or not (gender))",
		"Patient?_filter=birthdate po 2000 and birthdate ne " + secret:          "Patient?(birthdate(po) and birthdate(ne))",
		"Patient?_filter=organization[active eq true].name eq " + secret:        "Patient?organization:Organization.(active and name eq)",
		"Patient?_has:Observation:subject:_filter=status eq \"" + secret + "\"": "Patient?_has:Observation:subject:status",
	} {
		q, err := parse(query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		got := q.Shape(registry)
		if got != want || strings.Contains(got, secret) {
			t.Errorf("%s has the shape %s, want %s", query, got, want)
		}
	}
}

func TestPartsAreTheClauses(t *testing.T) {
	q, err := parse("Patient/" + secret + "/Observation?code=" + secret + "&date=ge2010&_sort=date")
	if err != nil {
		t.Fatal(err)
	}
	parts, err := q.Parts(search.Env{Registry: registry, Key: hashKey, Grant: search.Everything(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	var shapes []string
	for _, p := range parts {
		shapes = append(shapes, p.Shape)
		if len(p.Arms) != 1 || p.Arms[0].Where == nil {
			t.Errorf("%s has the arms %v", p.Shape, p.Arms)
		}
	}
	if got := strings.Join(shapes, " "); got != "code date(ge) in Patient" {
		t.Errorf("the parts are %q", got)
	}
	observation, _ := registry.Type("Observation")
	code, _ := registry.Param(observation, "code")
	names := search.NameColumns(registry, observation)
	if got := names.Of([]plan.Param{code.At(search.Main), code.At(search.Text), 7 << 20}); got != "code, code(text), parameter 28672" {
		t.Errorf("the columns are %q", got)
	}
}
