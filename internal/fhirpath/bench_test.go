package fhirpath_test

import (
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
)

const benchPatient = `{"resourceType":"Patient","id":"example","active":true,
"identifier":[{"use":"usual","system":"urn:oid:1.2.36.146.595.217.0.1","value":"12345","period":{"start":"2001-05-06"}}],
"name":[{"use":"official","family":"Chalmers","given":["Peter","James"]},{"use":"usual","given":["Jim"]},
{"use":"maiden","family":"Windsor","given":["Peter","James"],"period":{"end":"2002"}}],
"telecom":[{"system":"phone","value":"(03) 5555 6473","use":"work","rank":1},{"system":"phone","value":"(03) 3410 5613","use":"mobile"}],
"gender":"male","birthDate":"1974-12-25","deceasedBoolean":false,
"generalPractitioner":[{"reference":"Practitioner/1"},{"reference":"Organization/2"}]}`

func BenchmarkEval(b *testing.B) {
	fhirpath.Prepare()
	d := mustParse(b, benchPatient)
	for _, src := range []string{
		"Patient.birthDate",
		"Patient.name.given",
		"Patient.name.where(use = 'official').given",
		"Patient.deceased.exists() and Patient.deceased != false",
		"Patient.telecom.where(system='phone')",
		"Patient.generalPractitioner.where(resolve() is Practitioner)",
		"contained.where((('#'+id in (%resource.descendants().reference | %resource.descendants().ofType(canonical))) or " +
			"descendants().where(reference = '#').exists()).not()).empty()",
		"Patient.descendants().count()",
	} {
		x := fhirpath.MustCompile(src)
		b.Run(src[:min(len(src), 40)], func(b *testing.B) {
			var out []fhirpath.Value
			env := &fhirpath.Env{}
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if out, err = x.Append(out[:0], env, d.Root()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fhirpath.Compile("Patient.name.where(use = 'official' and period.exists().not()).given"); err != nil {
			b.Fatal(err)
		}
	}
}

func mustParse(t testing.TB, src string) *fhir.Document {
	t.Helper()
	d, err := fhir.Parse([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return d
}
