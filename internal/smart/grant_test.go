package smart

import (
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

const (
	aCompartment = "Appointment/app-a Basic/basic-a Condition/c-a Coverage/cov-a Encounter/e-a Observation/lab-a Observation/vital-a Patient/a RelatedPerson/rel-a"
	openOnes     = "Location/loc Medication/med Organization/org Practitioner/doc Practitioner/other PractitionerRole/role"
)

// What scopes show of two patients' worlds.
func TestGrantOfTwoWorlds(t *testing.T) {
	everything := strings.Join(twoWorlds(t).shown(search.Everything(), search.Read), " ")
	a := Launch{Patient: "a"}
	tests := []struct {
		scopes string
		launch Launch
		read   string
	}{
		{"patient/*.read", a, aCompartment + " Binary/bin-a Device/dev-a " + openOnes},
		{"patient/*.*", Launch{Patient: "Patient/a"}, aCompartment + " Binary/bin-a Device/dev-a " + openOnes},
		{"patient/*.rs", a, aCompartment + " Binary/bin-a Device/dev-a " + openOnes},
		{"patient/*.write", a, ""},
		{"patient/*.read", Launch{}, ""},
		{"patient/*.read", Launch{Patient: "a/b"}, ""},
		{"patient/*.read", Launch{Patient: "Practitioner/a"}, ""},
		{"patient/*.read", Launch{Patient: testBase + "Patient/a"}, ""},
		{"patient/*.read", Launch{Patient: "nobody"}, openOnes},
		{"patient/Observation.read", a, "Observation/lab-a Observation/vital-a"},
		{"patient/Patient.r", a, "Patient/a"},
		{"patient/Patient.s", a, ""}, // searched, not read
		{"patient/Organization.cruds", a, "Organization/org"},
		{"patient/Group.read patient/ResearchStudy.read patient/Endpoint.read patient/Task.read", a, ""},
		{"patient/Binary.*", a, "Binary/bin-a"},
		{"patient/NoSuch.read", a, ""},
		{"patient/Observation.read patient/Condition.r", a, "Condition/c-a Observation/lab-a Observation/vital-a"},

		{"patient/Observation.rs?category=laboratory", a, "Observation/lab-a"},
		{"patient/Observation.rs?category=http://c|laboratory", a, "Observation/lab-a"},
		{"patient/Observation.rs?category=laboratory&status=preliminary", a, ""},
		{"patient/Observation.rs?category:not=laboratory", a, "Observation/vital-a"},
		{"patient/Observation.rs?value-quantity=gt4", a, "Observation/lab-a"},
		{"patient/Observation.rs?category=laboratory patient/Observation.rs?status=preliminary", a, "Observation/lab-a Observation/vital-a"},
		{"patient/Observation.rs?category=laboratory patient/Observation.rs", a, "Observation/lab-a Observation/vital-a"},
		{"patient/Observation.rs?category=laboratory patient/*.r", Launch{Patient: "b"}, strings.ReplaceAll(strings.ReplaceAll(aCompartment, "-a", "-b"), "Patient/a", "Patient/b") + " Binary/bin-b Device/dev-b " + openOnes},
		{"patient/Observation.rs?_id=lab-b,vital-a", a, "Observation/vital-a"},
		{"patient/Observation.rs?subject=Patient/b", a, ""},
		{"patient/Organization.rs?_id=none", a, ""},
		{"patient/Observation.rs?nonsense=1", a, ""},
		{"patient/Observation.rs?subject.active=true", a, ""},
		{"patient/Observation.rs?_has:Provenance:target:_id=x", a, ""},
		{"patient/Observation.rs?code-value-quantity=x$5", a, ""},
		{"patient/Observation.rs?_include=Observation:subject", a, ""},
		{"patient/Observation.rs?_count=5", a, ""},
		{"patient/Observation.rs?_type=Patient", a, ""},
		{"patient/Observation.rs?category=laboratory&_format=json", a, ""},
		{"system/Observation.rs?category=laboratory", Launch{}, "Observation/lab-a Observation/lab-b"},

		{"system/*.read", Launch{}, everything},
		{"user/*.cruds", Launch{FHIRUser: "Practitioner/doc"}, everything}, // off means off
		{"user/*.cruds", Launch{}, everything},
		{"system/Condition.read", Launch{}, "Condition/c-a Condition/c-b"},
		{"user/Condition.read patient/Encounter.read", a, "Condition/c-a Condition/c-b Encounter/e-a"},

		{"user/*.read", Launch{FineGrained: true, FHIRUser: "Practitioner/doc"}, aCompartment + " Binary/bin-a Device/dev-a " + openOnes},
		{"user/*.cruds", Launch{FineGrained: true, FHIRUser: testBase + "Practitioner/doc"}, aCompartment + " Binary/bin-a Device/dev-a " + openOnes},
		{"user/Observation.rs?category=laboratory", Launch{FineGrained: true, FHIRUser: "Practitioner/doc"}, "Observation/lab-a"},
		{"user/*.read", Launch{FineGrained: true, FHIRUser: "Practitioner/nobody"}, openOnes},
		{"user/*.read", Launch{FineGrained: true, FHIRUser: "https://other.example/r4/Practitioner/doc"}, ""},
		{"user/*.read", Launch{FineGrained: true, FHIRUser: "Organization/org"}, ""},
		{"user/*.read", Launch{FineGrained: true, FHIRUser: "PractitionerRole/role"}, ""},
		{"user/*.read", Launch{FineGrained: true}, ""},
		{"user/*.read", Launch{FineGrained: true, FHIRUser: "Patient/a"}, aCompartment + " Binary/bin-a Device/dev-a " + openOnes},
		{"user/*.read", Launch{FineGrained: true, FHIRUser: "RelatedPerson/rel-b"}, "RelatedPerson/rel-b " + openOnes},
		{"user/*.read system/Condition.read", Launch{FineGrained: true, FHIRUser: "?"}, "Condition/c-a Condition/c-b"},
		{"", a, ""},
	}
	w := twoWorlds(t)
	for _, tt := range tests {
		g, _ := granted(t, tt.scopes, tt.launch)
		want := strings.Fields(tt.read)
		slices.Sort(want)
		if got := w.shown(g, search.Read); !slices.Equal(got, want) {
			t.Errorf("%s with %+v\nshows %v\nwant  %v", tt.scopes, tt.launch, got, want)
		}
	}
}

// Scopes that grant nothing in the end are named, with the reason.
func TestRefusedByGrant(t *testing.T) {
	tests := []struct {
		scopes string
		launch Launch
		reason string
	}{
		{"patient/Observation.read", Launch{}, "names no patient"},
		{"user/Observation.read", Launch{FineGrained: true}, "fhirUser is missing"},
		{"user/Observation.read", Launch{FineGrained: true, FHIRUser: "Person/x"}, "Practitioner, Patient or RelatedPerson"},
		{"system/NoSuch.read", Launch{}, "no such resource type"},
		{"system/Observation.rs?nonsense=1", Launch{}, "InvalidScope: nonsense"},
		{"system/Observation.rs?subject.active=true", Launch{}, "InvalidScope"},
		{"system/Observation.rs?code-value-quantity=x$5", Launch{}, "composite"},
		{"system/Observation.rs?_type=Patient&status=final", Launch{}, "InvalidScope"},
		{"system/Observation.rs?_sort=date", Launch{}, "InvalidScope"},
	}
	for _, tt := range tests {
		_, refused := granted(t, tt.scopes, tt.launch)
		if len(refused) != 1 || refused[0].Scope != tt.scopes || !strings.Contains(refused[0].Reason, tt.reason) {
			t.Errorf("%s: refused %v, want %s", tt.scopes, refused, tt.reason)
		}
	}
}

// linked are patients who are connected by Patient.link.
func linked(t testing.TB) *resources {
	return load(t,
		`{"resourceType":"Patient","id":"me"}`,
		`{"resourceType":"Patient","id":"child","link":[{"other":{"reference":"Patient/me"},"type":"seealso"}]}`,
		`{"resourceType":"Patient","id":"ward","link":[{"other":{"reference":"RelatedPerson/guardian"},"type":"seealso"}]}`,
		`{"resourceType":"Patient","id":"grandchild","link":[{"other":{"reference":"Patient/child"},"type":"seealso"}]}`,
		`{"resourceType":"Patient","id":"parent"}`,
		`{"resourceType":"RelatedPerson","id":"guardian","patient":{"reference":"Patient/parent"}}`,
		`{"resourceType":"Condition","id":"c-me","subject":{"reference":"Patient/me"}}`,
		`{"resourceType":"Condition","id":"c-child","subject":{"reference":"Patient/child"}}`,
		`{"resourceType":"Condition","id":"c-ward","subject":{"reference":"Patient/ward"}}`,
		`{"resourceType":"Condition","id":"c-grandchild","subject":{"reference":"Patient/grandchild"}}`,
		`{"resourceType":"Condition","id":"c-parent","subject":{"reference":"Patient/parent"}}`,
	)
}

// Links are followed one step, towards the user, and by fine-grained users only:
// a patient/ scope reads the linked Patient, as the compartment has it, and
// nothing of theirs.
func TestLinks(t *testing.T) {
	tests := []struct {
		scopes      string
		launch      Launch
		read, write string
	}{
		{"user/*.*", Launch{FineGrained: true, FHIRUser: "Patient/me"},
			"Condition/c-child Condition/c-me Patient/child Patient/me", "Condition/c-child Condition/c-me Patient/child Patient/me"},
		{"user/*.*", Launch{FineGrained: true, FHIRUser: "RelatedPerson/guardian"},
			"Condition/c-ward Patient/ward RelatedPerson/guardian", "Condition/c-ward Patient/ward"},
		{"patient/*.*", Launch{Patient: "me"}, "Condition/c-me Patient/child Patient/me", "Condition/c-me Patient/me"},
		{"patient/*.*", Launch{Patient: "child"}, "Condition/c-child Patient/child Patient/grandchild", "Condition/c-child Patient/child"},
	}
	w := linked(t)
	for _, tt := range tests {
		g, _ := granted(t, tt.scopes, tt.launch)
		if got := strings.Join(w.shown(g, search.Read), " "); got != tt.read {
			t.Errorf("%+v reads %s, want %s", tt.launch, got, tt.read)
		}
		if got := strings.Join(w.shown(g, search.Update), " "); got != tt.write {
			t.Errorf("%+v writes %s, want %s", tt.launch, got, tt.write)
		}
	}
}

// What may be written lies in the record of one's own patients, wherever else
// they stand in it; nothing beyond the compartment may.
func TestWritesStayInOwnRecord(t *testing.T) {
	w := twoWorlds(t)
	world := memory.NewWorld(testWorld.Key, w.all)
	tests := []struct {
		json string
		ok   bool
	}{
		{`{"resourceType":"Observation","id":"n","subject":{"reference":"Patient/a"}}`, true},
		{`{"resourceType":"Observation","id":"n","subject":{"reference":"Patient/b"}}`, false},
		{`{"resourceType":"Observation","id":"n","subject":{"reference":"Patient/b"},"performer":[{"reference":"Patient/a"}]}`, false},
		{`{"resourceType":"Observation","id":"n","subject":{"reference":"https://other.example/Patient/b"},"performer":[{"reference":"Patient/a"}]}`, false},
		{`{"resourceType":"Observation","id":"n","performer":[{"reference":"Patient/a"}]}`, true},
		{`{"resourceType":"Observation","id":"n","subject":{"reference":"Patient/a"},"performer":[{"reference":"Patient/b"}]}`, true},
		{`{"resourceType":"Observation","id":"n"}`, false},
		{`{"resourceType":"Coverage","id":"n","beneficiary":{"reference":"Patient/b"},"payor":[{"reference":"Patient/a"}]}`, false},
		{`{"resourceType":"Coverage","id":"n","beneficiary":{"reference":"Patient/a"}}`, true},
		{`{"resourceType":"Communication","id":"n","subject":{"reference":"Patient/b"},"sender":{"reference":"Patient/a"}}`, false},
		{`{"resourceType":"Communication","id":"n","sender":{"reference":"Patient/a"}}`, true},
		{`{"resourceType":"Appointment","id":"n","participant":[{"actor":{"reference":"Patient/a"}}]}`, true},
		{`{"resourceType":"Appointment","id":"n","participant":[{"actor":{"reference":"Patient/b"}}]}`, false},
		{`{"resourceType":"Patient","id":"n"}`, false},
		{`{"resourceType":"Patient","id":"a"}`, true},
		{`{"resourceType":"Patient","id":"b"}`, false},
		{`{"resourceType":"Practitioner","id":"n"}`, false},
		{`{"resourceType":"Organization","id":"n"}`, false},
		{`{"resourceType":"Device","id":"n","patient":{"reference":"Patient/a"}}`, false},
		{`{"resourceType":"Group","id":"n","member":[{"entity":{"reference":"Patient/a"}}]}`, false},
		{`{"resourceType":"Task","id":"n","for":{"reference":"Patient/a"}}`, false},
		{`{"resourceType":"Binary","id":"n","contentType":"x/y","securityContext":{"reference":"Patient/a"}}`, false},
	}
	for _, l := range []struct {
		scopes string
		launch Launch
	}{{"patient/*.*", Launch{Patient: "a"}}, {"user/*.cud", Launch{FineGrained: true, FHIRUser: "Patient/a"}}} {
		g, _ := granted(t, l.scopes, l.launch)
		for _, tt := range tests {
			for _, access := range []search.Access{search.Create, search.Update, search.Delete} {
				if got := allows(world, g, w.candidate(t, tt.json), access); got != tt.ok {
					t.Errorf("%s may %s %s: %v", l.scopes, letters(access), tt.json, got)
				}
			}
		}
	}
	g, _ := granted(t, "patient/*.*", Launch{Patient: "a"})
	link := w.candidate(t, `{"resourceType":"Patient","id":"n","link":[{"other":{"reference":"Patient/a"},"type":"seealso"}]}`)
	if allows(world, g, link, search.Create) || allows(world, g, link, search.Update) {
		t.Error("a patient/ scope may write further patients")
	}
}

// Every type of R4 is either of the Patient compartment, in a table, or shut:
// nothing is open by oversight.
func TestEveryTypeIsDecided(t *testing.T) {
	g, _ := granted(t, "patient/*.*", Launch{Patient: "a"})
	for _, typ := range r4.ResourceTypes() {
		name := r4.TypeName(typ)
		params, member := r4.Compartment("Patient", typ)
		_, bound := boundTypes[name]
		where, readable := g.Where(typ, search.Read)
		switch {
		case slices.Contains(openTypes, name):
			if !readable || where != nil || member && len(params) > 0 {
				t.Errorf("%s is open: %v under %v; compartment %v", name, readable, where, params)
			}
		case shutTypes[name]:
			if readable {
				t.Errorf("%s is shut and may be read", name)
			}
		case member || bound:
			if !readable || where == nil {
				t.Errorf("%s of the compartment: %v under %v", name, readable, where)
			}
		default:
			if readable {
				t.Errorf("%s is in no table and may be read", name)
			}
		}
		where, writable := g.Where(typ, search.Update)
		if inside := member && !shutTypes[name]; writable != inside || writable && where == nil {
			t.Errorf("%s may be written: %v under %v", name, writable, where)
		}
	}
}

// A Binary's security context decides: the patient, or what is in the patient's
// compartment. One without is nobody's.
func TestBinaryBySecurityContext(t *testing.T) {
	w := twoWorlds(t)
	for id, context := range map[string]string{
		"p-a": "Patient/a", "p-b": "Patient/b", "o-a": "Observation/lab-a", "o-b": "Observation/lab-b", "org": "Organization/org",
		"own-base": testBase + "Patient/a", "version": "Patient/a/_history/1", "elsewhere": "https://other.example/Patient/a",
	} {
		w.all = append(w.all, w.candidate(t, `{"resourceType":"Binary","id":"`+id+`","contentType":"x/y","securityContext":{"reference":"`+context+`"}}`))
	}
	w.all = append(w.all, w.candidate(t, `{"resourceType":"Binary","id":"none","contentType":"x/y"}`))
	for _, l := range []struct {
		scope string
		Launch
	}{{"patient/Binary.*", Launch{Patient: "a"}}, {"user/Binary.*", Launch{FineGrained: true, FHIRUser: "Practitioner/doc"}}} {
		g, _ := granted(t, l.scope, l.Launch)
		if got := strings.Join(w.shown(g, search.Read), " "); got != "Binary/bin-a Binary/o-a Binary/own-base Binary/p-a Binary/version" {
			t.Errorf("%s shows %s", l.scope, got)
		}
		if got := w.shown(g, search.Update); len(got) != 0 {
			t.Errorf("%s changes %s", l.scope, got)
		}
	}
}

// A grant for all of everything is the unbounded one, which costs nothing.
func TestUnboundedGrant(t *testing.T) {
	for scopes, want := range map[string]bool{
		"system/*.*": true, "user/*.cruds": true, "system/*.read system/*.cud": true,
		"system/*.read": false, "patient/*.*": false, "system/*.crud": false,
	} {
		if g, _ := granted(t, scopes, Launch{Patient: "a"}); g.Unbounded() != want {
			t.Errorf("%s: unbounded %v", scopes, g.Unbounded())
		}
	}
	if g, _ := granted(t, "user/*.*", Launch{FineGrained: true, FHIRUser: "Patient/a"}); g.Unbounded() {
		t.Error("fine-grained user/*.* is unbounded")
	}
}

func BenchmarkNewGrant(b *testing.B) {
	for name, tt := range map[string]struct {
		scopes string
		launch Launch
	}{
		"patient": {"patient/*.read", Launch{Patient: "a"}},
		"write":   {"patient/*.*", Launch{Patient: "a"}},
		"user":    {"user/*.cruds", Launch{FineGrained: true, FHIRUser: "Practitioner/doc"}},
		"filter":  {"patient/Observation.rs?category=laboratory", Launch{Patient: "a"}},
	} {
		b.Run(name, func(b *testing.B) {
			scopes, err := ParseScopes(tt.scopes, Features{V2: true, Filters: true})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				NewGrant(testWorld, scopes.Resources, tt.launch)
			}
		})
	}
}
