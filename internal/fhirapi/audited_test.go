package fhirapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/smart"
)

// An access kept as AuditEvents: each is valid, names the patients whose record
// the versions are in, and shows to nobody else.
func TestAuditEventsInTheStore(t *testing.T) {
	s := leaky(t, true)
	s.must(t, "PUT", "/Observation/moved", about("moved", "b", "SECRET"))
	s.must(t, "PUT", "/Observation/moved", about("moved", "a", "open"))
	s.touched, s.check = nil, true
	before := s.must(t, "GET", "/AuditEvent?_summary=count", "").text("total")
	event := audit.Event{
		Time: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), RequestID: "the-request", Plane: "data", Action: "SearchWithGet", Query: "Observation?patient=a,b",
		Principal: "arn:aws:iam::111122223333:user/nurse", AccessKey: "AKIANURSE00000000001", Source: "192.0.2.7", Status: 200,
	}
	for _, of := range []string{"Observation/o-a 1", "Observation/o-b 1", "Observation/gone-b 2", "Binary/b-a 1", "Device/v-b 1", "Organization/org 1", "Observation/moved 1", "Patient/b 2", "Observation/purged 7", "Provenance/tie 1", "Observation/o-a 1"} {
		var to audit.Target
		where, version, _ := strings.Cut(of, " ")
		to.Type, to.ID, _ = strings.Cut(where, "/")
		fmt.Sscan(version, &to.Version)
		event.Resources = append(event.Resources, to)
	}
	session := *s.session()
	session.Touched = nil
	if err := session.WriteAudit(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	if s.touched != nil {
		t.Errorf("the record of an access is one itself: %v", s.touched)
	}
	found := func(query string) (entities []string) {
		for e := range s.must(t, "GET", "/AuditEvent?_count=100&outcome=0&"+query, "").root.Get("entry").Items() {
			var refs []string
			for entity := range e.Get("resource").Get("entity").Items() {
				if ref := entity.Get("what").Get("reference").Text(); ref != "" {
					refs = append(refs, ref)
				}
			}
			entities = append(entities, strings.Join(refs, " "))
		}
		return entities
	}
	for query, want := range map[string]string{
		"patient=a":                           "Patient/a Observation/o-a/_history/1 Binary/b-a/_history/1 Provenance/tie/_history/1",
		"patient=b":                           "Patient/b Observation/o-b/_history/1 Observation/gone-b/_history/2 Device/v-b/_history/1 Observation/moved/_history/1 Patient/b/_history/2",
		"entity=Organization/org/_history/1":  "Organization/org/_history/1 Observation/purged/_history/7",
		"patient:missing=true&entity-role=24": "",
	} {
		if got := found(query); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	if got := s.must(t, "GET", "/AuditEvent?_summary=count", "").text("total"); before != "2" || got != "6" {
		t.Errorf("%s events before, %s after; want 2 and 6", before, got)
	}
	for name, launch := range map[string]smart.Launch{"patient/*.read": {Patient: "a"}, "user/*.read": {FineGrained: true, FHIRUser: "Practitioner/p"}} {
		scopes, err := smart.ParseScopes(name, smart.Features{})
		if err != nil {
			t.Fatal(err)
		}
		auth := &smart.Authorization{Claims: smart.Claims{Scope: name}, Scopes: scopes, Launch: launch}
		got := s.authorized(t, auth, ask{"GET", "/AuditEvent?outcome=0", "", ""})
		if !strings.Contains(got, `"total":1,`) || !strings.Contains(got, "Observation/o-a") || strings.Contains(got, "o-b") || strings.Contains(got, "Patient/b") || strings.Contains(got, `"query"`) {
			t.Errorf("%s shows %s", name, got)
		}
	}
}
