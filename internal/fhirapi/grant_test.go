package fhirapi_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/smart"
)

// narrowed is a store with two patients, seen by somebody who may see only one
// of them, what is in that one's compartment, and all organizations.
func narrowed(t *testing.T, access search.Access) *server {
	t.Helper()
	// All versions are of one millisecond: none may stand for another.
	return narrow(t, inMemory(t, stopped), access)
}

func stopped() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// narrow fills the store and puts the grant on.
func narrow(t *testing.T, s *server, access search.Access) *server {
	t.Helper()
	for _, id := range []string{"mine", "theirs"} {
		secret := map[string]string{"mine": "open", "theirs": "SECRET"}[id]
		s.must(t, "PUT", "/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`","name":[{"family":"`+secret+`"}],
			"identifier":[{"value":"`+secret+`"}],"managingOrganization":{"reference":"Organization/org"}}`)
		s.must(t, "PUT", "/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`","active":true,"name":[{"family":"`+secret+`"}],
			"identifier":[{"value":"`+secret+`"}],"managingOrganization":{"reference":"Organization/org"}}`)
		s.must(t, "PUT", "/Observation/o-"+id, `{"resourceType":"Observation","id":"o-`+id+`","code":{"text":"`+secret+`"},
			"subject":{"reference":"Patient/`+id+`"},"focus":[{"reference":"Patient/theirs"}]}`)
		s.must(t, "PUT", "/Observation/gone-"+id, `{"resourceType":"Observation","id":"gone-`+id+`","code":{"text":"`+secret+`"},
			"subject":{"reference":"Patient/`+id+`"}}`)
		s.must(t, "DELETE", "/Observation/gone-"+id, "")
	}
	s.must(t, "PUT", "/Organization/org", `{"resourceType":"Organization","id":"org"}`)
	// The first version was mine, the second is not.
	s.must(t, "PUT", "/Observation/moved", `{"resourceType":"Observation","id":"moved","code":{"text":"open"},"subject":{"reference":"Patient/mine"}}`)
	s.must(t, "PUT", "/Observation/moved", `{"resourceType":"Observation","id":"moved","code":{"text":"SECRET"},"subject":{"reference":"Patient/theirs"}}`)
	s.grant = compartmentGrant(s, access)
	s.touched = nil
	return s
}

func compartmentGrant(s *server, access search.Access) *search.Grant {
	patient, _ := r4.TypeByName("Patient")
	observation, _ := r4.TypeByName("Observation")
	organization, _ := r4.TypeByName("Organization")
	mine := plan.Key{Type: patient, ID: "mine"}
	return search.NewGrant(map[plan.Type][]search.Rule{
		patient:      {{Access: access, Where: plan.IDs{IDs: []string{"mine"}}}},
		observation:  {{Access: access, Where: search.InCompartment(registry, s.store.HashKey(), mine, observation)}},
		organization: {{Access: access}},
	})
}

// A resource outside the grant answers exactly as one that never was: every
// interaction, every header, every byte (design: authorization is in the query).
func TestHiddenAnswersAsAbsent(t *testing.T) {
	patch := "W10=" // []
	requests := []struct{ method, target, body, header string }{
		{"GET", "/Patient/{id}", "", ""},
		{"HEAD", "/Patient/{id}", "", ""},
		{"GET", "/Patient/{id}", "", `If-None-Match: W/"2"`},
		{"GET", "/Patient/{id}/_history", "", ""},
		{"GET", "/Patient/{id}/_history/1", "", ""},
		{"GET", "/Patient/{id}/_history/2", "", ""},
		{"GET", "/Patient/{id}/_history/9", "", ""},
		{"GET", "/Observation/o-{id}", "", ""},
		{"GET", "/Observation/gone-{id}", "", ""},
		{"GET", "/Observation/gone-{id}/_history", "", ""},
		{"GET", "/Observation/gone-{id}/_history/2", "", ""},
		{"GET", "/Patient?_id={id}", "", ""},
		{"GET", "/Patient?_id={id}&_summary=count", "", ""},
		{"GET", "/Patient?_id:not=mine", "", ""},
		{"GET", "/Observation?subject=Patient/{id}", "", ""},
		{"GET", "/Observation?patient={id}&_include=Observation:subject", "", ""},
		{"GET", "/Organization?_has:Patient:organization:_id={id}", "", ""},
		{"GET", "/Patient/{id}/Observation", "", ""},
		{"GET", "/Patient/{id}/*", "", ""},
		{"GET", "/Patient/{id}/$everything", "", ""},
		{"DELETE", "/Patient/{id}", "", ""},
		{"DELETE", "/Patient/{id}", "", `If-Match: W/"1"`},
		{"DELETE", "/Patient/{id}", "", `If-Match: W/"2"`},
		{"DELETE", "/Observation/gone-{id}", "", ""},
		{"DELETE", "/Patient?_id={id}", "", ""},
		{"PUT", "/Patient/{id}", `{"resourceType":"Patient","id":"{id}"}`, ""},
		{"PUT", "/Patient/{id}", `{"resourceType":"Patient","id":"{id}"}`, "If-None-Match: *"},
		{"PATCH", "/Patient/{id}", `[]`, ""},
		{"POST", "/", `{"resourceType":"Bundle","type":"batch","entry":[
			{"request":{"method":"GET","url":"Patient/{id}"}},{"request":{"method":"GET","url":"Patient/{id}/_history"}},
			{"request":{"method":"GET","url":"Observation?subject=Patient/{id}"}},{"request":{"method":"GET","url":"Patient/{id}/Observation"}},
			{"request":{"method":"DELETE","url":"Patient/{id}"}},
			{"request":{"method":"PATCH","url":"Patient/{id}"},"resource":{"resourceType":"Binary","contentType":"application/json-patch+json","data":"` + patch + `"}}]}`, ""},
		{"POST", "/", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"GET","url":"Patient/{id}"}}]}`, ""},
		{"POST", "/", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/{id}"}}]}`, ""},
		{"POST", "/", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/{id}","ifMatch":"W/\"2\""}}]}`, ""},
		{"POST", "/", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient?_id={id}"}}]}`, ""},
		{"POST", "/", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"PUT","url":"Patient/{id}"},"resource":{"resourceType":"Patient","id":"{id}"}}]}`, ""},
	}
	for _, access := range []search.Access{search.AllAccess, search.Read | search.Search, search.Read | search.Search | search.Delete} {
		for _, r := range requests {
			hidden := askAbout(t, narrowed(t, access), r.method, r.target, r.body, r.header, "theirs")
			absent := askAbout(t, narrowed(t, access), r.method, r.target, r.body, r.header, "nobody")
			if hidden != absent {
				t.Errorf("%s %s %s %s (access %b)\nhidden: %s\nabsent: %s", r.method, r.target, r.body, r.header, access, hidden, absent)
			}
		}
	}
}

// askAbout gives the whole answer as text, the id taken out.
func askAbout(t *testing.T, s *server, method, target, body, header, id string) string {
	t.Helper()
	fill := strings.NewReplacer("{id}", id)
	headers := []string{}
	if header != "" {
		headers = append(headers, header)
	}
	a := s.do(t, method, fill.Replace(target), fill.Replace(body), headers...)
	a.header.Del("Content-Length")
	var b strings.Builder
	a.header.Write(&b)
	for _, touched := range s.touched {
		if strings.Contains(touched.ID, "theirs") {
			t.Errorf("%s %s touches %v", method, target, touched)
		}
	}
	text := sealed.ReplaceAllString(b.String()+string(a.body), "page=…")
	return strings.ReplaceAll(http.StatusText(a.status)+"\n"+text, id, "ID")
}

// sealed is a page token, which differs each time.
var sealed = regexp.MustCompile(`page=[A-Za-z0-9_-]+`)

// What looks at many resources shows nothing of the hidden ones, and counts
// none of them.
func TestNothingHiddenIsShown(t *testing.T) {
	t.Run("memory", func(t *testing.T) { nothingHiddenIsShown(t, narrowed(t, search.Read|search.Search)) })
	t.Run("disk", func(t *testing.T) {
		nothingHiddenIsShown(t, narrow(t, embedded(t, stopped), search.Read|search.Search))
	})
}

func nothingHiddenIsShown(t *testing.T, s *server) {
	tests := []struct {
		target  string
		total   string // "" is not asked
		entries int
	}{
		{"/Patient", "1", 1},
		{"/Patient?_summary=count", "1", 0},
		{"/Patient?family=SECRET", "0", 0},
		{"/Observation", "1", 1},
		{"/Observation?_include=Observation:subject", "1", 2},
		{"/Observation?_include=Observation:focus", "1", 1},
		{"/Observation?_include=*", "1", 2},
		{"/Observation?focus.family=SECRET", "0", 0},
		{"/Observation?focus:Patient.family:missing=false", "0", 0},
		{"/Organization?_revinclude=Patient:organization", "1", 2},
		{"/Organization?_revinclude=Patient:organization&_revinclude:iterate=Observation:subject", "1", 3},
		{"/Organization?_has:Patient:organization:family=SECRET", "0", 0},
		{"/Organization?_has:Patient:organization:family=open", "1", 1},
		{"/Patient?_has:Observation:focus:_id=o-theirs", "0", 0},
		{"/Patient?_revinclude=Observation:focus", "1", 1},
		{"/?_type=Patient,Observation", "2", 2},
		{"/Patient/_history", "2", 2},
		{"/Observation/_history", "4", 4}, // o-mine, gone-mine twice, moved's first version
		{"/_history", "7", 7},
		{"/Observation/moved/_history/1", "", 0},
		{"/Patient/mine/Observation", "1", 1},
		{"/Patient/mine/*", "1", 1},
		{"/Patient/mine/$everything", "2", 3},
		{"/Condition", "0", 0},
		{"/Condition/_history", "", 0},
	}
	for _, tt := range tests {
		a := s.must(t, "GET", strings.ReplaceAll(tt.target, " ", "+"), "")
		body := string(a.body)
		if self := a.link("self"); self != "" {
			body = strings.ReplaceAll(body, self, "")
		}
		if strings.Contains(body, "SECRET") {
			t.Errorf("%s shows %s", tt.target, body)
		}
		if tt.total != "" && a.text("total") != tt.total || a.at("entry").Len() != tt.entries {
			t.Errorf("%s: total %s, %d entries, want %s, %d", tt.target, a.text("total"), a.at("entry").Len(), tt.total, tt.entries)
		}
	}
	if a := s.do(t, "GET", "/Observation/moved/_history/2", ""); a.status != 404 {
		t.Errorf("a version outside the grant answers %d", a.status)
	}
	if a := s.do(t, "GET", "/Observation/moved", ""); a.status != 404 {
		t.Errorf("a resource that left the grant answers %d", a.status)
	}
}

// Conditional interactions match nothing hidden, and write nothing beyond the
// grant.
func TestConditionsSeeNothingHidden(t *testing.T) {
	s := narrowed(t, search.AllAccess)
	if a := s.do(t, "POST", "/Organization", `{"resourceType":"Organization"}`, "If-None-Exist: partof.name=x"); a.status != 201 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := s.do(t, "POST", "/", `{"resourceType":"Bundle","type":"transaction","entry":[
		{"request":{"method":"POST","url":"Organization"},"resource":{"resourceType":"Organization","extension":[{"url":"http://x","valueReference":{"reference":"Patient?identifier=SECRET"}}]}}]}`); a.status != 412 {
		t.Errorf("a hidden conditional reference: %d %s", a.status, a.body)
	}
	if a := s.do(t, "PUT", "/Patient?identifier=SECRET", `{"resourceType":"Patient"}`); a.status != 403 {
		t.Errorf("an update that cannot be held against the grant: %d %s", a.status, a.body)
	}
	s.grant = search.Everything()
	if a := s.must(t, "GET", "/Patient/theirs", ""); a.text("meta.versionId") != "2" {
		t.Errorf("the hidden resource changed: %s", a.body)
	}
}

// A scope's condition on time is on when a version came, not on when it is read;
// conditions of each form decide a read as they decide a search.
func TestReadsUnderScopesWithConditions(t *testing.T) {
	s := leaky(t, true) // everything came at 2026-01-01; it is 2026-06-01
	s.must(t, "PUT", "/Observation/o-a", about("o-a", "a", "second"))
	for scope, want := range map[string]bool{
		"system/Observation.rs?_lastUpdated=gt2026-05-01": false, "system/Observation.rs?_lastUpdated=lt2026-05-01": true,
		"system/Observation.rs?createdAt=gt2026-05-01": false, "system/Observation.rs?createdAt=lt2026-05-01": true,
		"system/Observation.rs?status=final": true, "system/Observation.rs?status:not=final": false, "system/Observation.rs?status:not=draft": true,
		"system/Observation.rs?category:missing=true": true, "system/Observation.rs?category:missing=false": false,
		"system/Observation.rs?subject=Patient/a": true, "system/Observation.rs?subject=Patient/b": false,
		"system/Observation.rs?code:text=second": true, "system/Observation.rs?code:text=SECRET": false,
		"system/Observation.rs?_id=o-a&status=final": true, "system/Observation.rs?_id=o-b": false, "system/Observation.rs?_id=o-b,o-a": true,
	} {
		scopes, err := smart.ParseScopes(scope, smart.Features{V2: true, Filters: true})
		if err != nil || len(scopes.Refused) > 0 {
			t.Fatal(scopes.Refused, err)
		}
		auth := &smart.Authorization{Claims: smart.Claims{Scope: scope}, Scopes: scopes}
		read := s.authorized(t, auth, ask{"GET", "/Observation/o-a", "", ""})
		searched := s.authorized(t, auth, ask{"GET", "/Observation?_id=o-a", "", ""})
		if got := strings.HasPrefix(read, "200"); got != want || strings.Contains(searched, `"total":1,`) != want {
			t.Errorf("%s: read %.60s, searched %.400s; want %v", scope, read, searched, want)
		}
	}
}
