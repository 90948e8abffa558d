package audit_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/audit"
)

const storeBase = "https://tarn.example/datastore/0b7c/r4"

// fhirEvents are an event's AuditEvents, parsed.
func fhirEvents(t *testing.T, e audit.Event, about ...audit.Disclosure) []map[string]any {
	t.Helper()
	raw, err := audit.FHIREvents(e, storeBase, about)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]map[string]any, len(raw))
	for i, text := range raw {
		if err := json.Unmarshal(text, &all[i]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func target(ref string) audit.Target {
	typ, id, _ := strings.Cut(ref, "/")
	return audit.Target{Type: typ, ID: id, Version: 1}
}

// One event as it is written, whole.
func TestFHIREvent(t *testing.T) {
	raw, err := audit.FHIREvents(audit.Event{
		Time: time.Date(2026, 11, 23, 11, 0, 0, 5e6, time.FixedZone("", 3600)), RequestID: "r-1", Plane: "data", Action: "ReadResource", Status: 200,
		Source: "192.0.2.7", App: &audit.App{Issuer: "https://idp.example", Client: "app-1", Subject: "s-1", User: "Practitioner/p", Patient: "a"},
	}, storeBase, []audit.Disclosure{{Patient: "a", Resources: []audit.Target{{Type: "Observation", ID: "o", Version: 3}}}})
	want := `{"resourceType":"AuditEvent","meta":{"profile":["https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"]},` +
		`"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-event-type","code":"rest","display":"RESTful Operation"},` +
		`"subtype":[{"system":"http://hl7.org/fhir/restful-interaction","code":"read"},{"system":"urn:tarn:iam-action","code":"healthlake:ReadResource"}],` +
		`"action":"R","recorded":"2026-11-23T10:00:00.005Z","outcome":"0","agent":[` +
		`{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110152","display":"Destination Role ID"}]},"who":{"identifier":{"system":"https://idp.example","value":"app-1"}},"requestor":false,"network":{"address":"192.0.2.7","type":"2"}},` +
		`{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110153","display":"Source Role ID"}]},"who":{"identifier":{"value":"` + storeBase + `"},"display":"Tarn"},"requestor":false,"network":{"address":"https://tarn.example","type":"5"}},` +
		`{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP","display":"information recipient"}]},"who":{"reference":"Practitioner/p"},"requestor":true}],` +
		`"source":{"observer":{"identifier":{"value":"` + storeBase + `"},"display":"Tarn"},"type":[{"system":"http://terminology.hl7.org/CodeSystem/security-source-type","code":"4","display":"Application Server"}]},` +
		`"entity":[{"what":{"identifier":{"value":"r-1"}},"type":{"system":"https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType","code":"XrequestId"}},` +
		`{"what":{"reference":"Patient/a"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"1","display":"Person"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"1","display":"Patient"}},` +
		`{"what":{"reference":"Observation/o/_history/3"},"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2","display":"System Object"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"4","display":"Domain Resource"}}]}`
	if err != nil || len(raw) != 1 || string(raw[0]) != want {
		t.Errorf("got  %s\nwant %s\n%v", raw, want, err)
	}
}

// What is told of each interaction: its code, action, outcome, and BALP's pattern
// where the event is whole of it.
func TestFHIREventOfInteractions(t *testing.T) {
	one, two := []audit.Target{target("Observation/o")}, []audit.Target{target("Observation/o"), target("Observation/p")}
	for _, c := range []struct {
		action, query, patient string
		resources              []audit.Target
		status                 int
		want                   string
	}{
		{"ReadResource", "", "", one, 200, "read R 0 Read"},
		{"ReadResource", "", "a", two, 200, "read R 0"},
		{"ReadResource", "", "", nil, 404, "read R 4"},
		{"VersionReadResource", "", "a", one, 200, "vread R 0 PatientRead"},
		{"CreateResource", "", "a", one, 201, "create C 0 PatientCreate"},
		{"UpdateResource", "", "", one, 200, "update U 0 Update"},
		{"PatchResource", "", "a", one, 200, "patch U 0 PatientUpdate"},
		{"DeleteResource", "", "a", one, 204, "delete D 0 PatientDelete"},
		{"DeleteResource", "", "", nil, 403, "delete D 4"},
		{"GetFullHistory", "", "a", two, 200, "history R 0"},
		{"SearchWithGet", "", "a", two, 200, "search E 0"},
		{"SearchWithPost", "Patient?name=x", "", nil, 200, "search E 0 Query"},
		{"SearchWithGet", "Patient?name=x", "", nil, 500, "search E 8"},
		{"SearchEverything", "", "a", two, 200, "operation E 0"},
		{"ProcessBundle", "", "a", two, 200, "healthlake:ProcessBundle E 0"},
	} {
		var about []audit.Disclosure
		if c.resources != nil {
			about = append(about, audit.Disclosure{Patient: c.patient, Resources: c.resources})
		}
		e := fhirEvents(t, audit.Event{Plane: "data", Action: c.action, Query: c.query, Status: c.status, Principal: "arn:aws:iam::1:user/u"}, about...)[0]
		got := fmt.Sprint(e["subtype"].([]any)[0].(map[string]any)["code"], " ", e["action"], " ", e["outcome"])
		if meta, ok := e["meta"].(map[string]any); ok {
			got += " " + strings.TrimPrefix(meta["profile"].([]any)[0].(string), "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.")
		}
		if got != c.want {
			t.Errorf("%s %d: %s, want %s", c.action, c.status, got, c.want)
		}
	}
}

// Whoever reads one patient's events learns of no other patient, and not what was
// asked: each patient has an event, and a search's question another.
func TestFHIREventsKeepPatientsApart(t *testing.T) {
	all := fhirEvents(t, audit.Event{Plane: "data", Action: "SearchWithGet", Query: "Observation?patient=a,b", Status: 200, Principal: "arn:aws:iam::1:user/u"},
		audit.Disclosure{Patient: "a", Resources: []audit.Target{target("Observation/o-a")}}, audit.Disclosure{Patient: "b", Resources: []audit.Target{target("Observation/o-b")}},
		audit.Disclosure{Resources: []audit.Target{target("Organization/org")}})
	if len(all) != 4 {
		t.Fatalf("%d events", len(all))
	}
	for i, has := range []string{"T2JzZXJ2YXRpb24/cGF0aWVudD1hLGI=", "Patient/a", "Patient/b", "Organization/org"} {
		text, _ := json.Marshal(all[i])
		for _, other := range []string{"T2JzZXJ2YXRpb24/cGF0aWVudD1hLGI=", "Patient/a", "Observation/o-a", "Patient/b", "Observation/o-b", "Organization/org"} {
			mine := other == has || strings.HasSuffix(other, "o-"+has[len(has)-1:]) && strings.HasPrefix(has, "Patient")
			if strings.Contains(string(text), other) != mine {
				t.Errorf("event %d has %s: %v", i, other, !mine)
			}
		}
	}
}

// Many resources make several events.
func TestFHIREventsAreBounded(t *testing.T) {
	resources := make([]audit.Target, 1001)
	for i := range resources {
		resources[i] = audit.Target{Type: "Observation", ID: fmt.Sprint(i)}
	}
	if all := fhirEvents(t, audit.Event{Plane: "data", Action: "ReadResource"}, audit.Disclosure{Patient: "a", Resources: resources}); len(all) != 3 {
		t.Errorf("%d events", len(all))
	}
}

// Who is told as a reference, as an identifier, or not at all.
func TestFHIREventAgents(t *testing.T) {
	for name, c := range map[string]struct {
		event audit.Event
		want  string
	}{
		"a key":           {audit.Event{Principal: "arn:aws:iam::1:user/u", AccessKey: "AKIA"}, `[{"identifier":{"value":"AKIA"}},{"identifier":{"value":"arn:aws:iam::1:user/u"}}]`},
		"a patient":       {audit.Event{App: &audit.App{User: "Patient/a"}}, `[{"identifier":{"value":"unknown"}},{"reference":"Patient/a"}]`},
		"below the base":  {audit.Event{App: &audit.App{User: storeBase + "/Patient/a"}}, `[{"identifier":{"value":"unknown"}},{"reference":"Patient/a"}]`},
		"somebody else's": {audit.Event{App: &audit.App{User: "https://x/Patient/a", Client: "c"}}, `[{"identifier":{"value":"c"}},{"identifier":{"value":"https://x/Patient/a"}}]`},
		"no type for who": {audit.Event{App: &audit.App{User: "Group/g"}}, `[{"identifier":{"value":"unknown"}},{"identifier":{"value":"Group/g"}}]`},
		"no id":           {audit.Event{App: &audit.App{User: "Patient/a b"}}, `[{"identifier":{"value":"unknown"}},{"identifier":{"value":"Patient/a b"}}]`},
		"a subject":       {audit.Event{App: &audit.App{Issuer: "https://i", Subject: "s"}}, `[{"identifier":{"system":"https://i","value":"unknown"}},{"identifier":{"system":"https://i","value":"s"}}]`},
		"an app alone":    {audit.Event{App: &audit.App{Issuer: "not a uri", Client: "c"}}, `[{"identifier":{"value":"c"}}]`},
	} {
		c.event.Plane = "data"
		agents := fhirEvents(t, c.event)[0]["agent"].([]any)
		var who []any
		for i, agent := range agents {
			if i != 1 { // the server
				who = append(who, agent.(map[string]any)["who"])
			}
		}
		if got, _ := json.Marshal(who); string(got) != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		requestors := 0
		for _, agent := range agents {
			if agent.(map[string]any)["requestor"] == true {
				requestors++
			}
		}
		if requestors != 1 {
			t.Errorf("%s: %d requestors", name, requestors)
		}
	}
}
