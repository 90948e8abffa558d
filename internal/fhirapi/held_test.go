package fhirapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// about is an Observation about a patient.
func about(id, patient, code string) string {
	member := ""
	if id != "" {
		member = `"id":"` + id + `",`
	}
	return `{"resourceType":"Observation",` + member + `"status":"final","code":{"text":"` + code + `"},"subject":{"reference":"Patient/` + patient + `"}}`
}

func entryOf(method, url, resource string) string {
	if resource != "" {
		resource = `,"resource":` + resource
	}
	return `{"request":{"method":"` + method + `","url":"` + url + `"}` + resource + `}`
}

func bundleOf(kind string, entries ...string) string {
	return `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`
}

// What is written must be within the grant before and after.
func TestWritesStayWithinTheGrant(t *testing.T) {
	patch := func(op string) string { return `[` + op + `]` }
	tests := []struct {
		name, method, target, body, header string
		status                             int
	}{
		{"create", "POST", "/Observation", about("", "mine", "x"), "", 201},
		{"create elsewhere", "POST", "/Observation", about("", "theirs", "x"), "", 403},
		{"create nowhere", "POST", "/Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"}}`, "", 403},
		{"create a patient", "POST", "/Patient", `{"resourceType":"Patient"}`, "", 403},
		{"create of a type without rules", "POST", "/Condition", `{"resourceType":"Condition","subject":{"reference":"Patient/mine"}}`, "", 403},
		{"create where a hidden one matches", "POST", "/Observation", about("", "mine", "x"), "If-None-Exist: code:text=SECRET", 201},
		{"create where one's own matches", "POST", "/Observation", about("", "mine", "x"), "If-None-Exist: _id=o-mine", 200},
		{"update", "PUT", "/Observation/o-mine", about("o-mine", "mine", "x"), "", 200},
		{"update that gives away", "PUT", "/Observation/o-mine", about("o-mine", "theirs", "x"), "", 403},
		{"update that takes", "PUT", "/Observation/o-theirs", about("o-theirs", "mine", "x"), "", 403},
		{"update as create", "PUT", "/Observation/fresh", about("fresh", "mine", "x"), "", 403},
		{"update of what was deleted", "PUT", "/Observation/gone-mine", about("gone-mine", "mine", "x"), "", 403},
		{"update of the patient", "PUT", "/Patient/mine", `{"resourceType":"Patient","id":"mine"}`, "", 200},
		{"update by criteria", "PUT", "/Observation?_id=o-mine", about("", "mine", "x"), "", 200},
		{"update by criteria, hidden", "PUT", "/Observation?_id=o-theirs", about("", "mine", "x"), "", 403},
		{"update by criteria, none", "PUT", "/Observation?code=nothing", about("", "mine", "x"), "", 201},
		{"update by criteria, none, elsewhere", "PUT", "/Observation?code=nothing", about("", "theirs", "x"), "", 403},
		{"update by criteria, id chosen", "PUT", "/Observation?code=nothing", about("fresh", "mine", "x"), "", 403},
		{"update by criteria, id taken", "PUT", "/Observation?code=nothing", about("o-theirs", "mine", "x"), "", 403},
		{"patch", "PATCH", "/Observation/o-mine", patch(`{"op":"replace","path":"/code/text","value":"y"}`), "", 200},
		{"patch that gives away", "PATCH", "/Observation/o-mine", patch(`{"op":"replace","path":"/subject/reference","value":"Patient/theirs"}`), "", 403},
		{"patch of what is hidden", "PATCH", "/Observation/o-theirs", patch(`{"op":"replace","path":"/code/text","value":"y"}`), "", 404},
		{"patch by criteria", "PATCH", "/Observation?_id=o-mine", patch(`{"op":"replace","path":"/code/text","value":"y"}`), "", 200},
		{"patch by criteria, hidden", "PATCH", "/Observation?_id=o-theirs", patch(``), "", 404},
		{"delete", "DELETE", "/Observation/o-mine", "", "", 204},
		{"delete of what is hidden", "DELETE", "/Observation/o-theirs", "", "", 404},
		{"delete by criteria, hidden", "DELETE", "/Observation?code:text=SECRET", "", "", 404},
		{"meta", "POST", "/Observation/o-mine/$meta-add", `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"code":"t"}]}}]}`, "", 200},
		{"meta of what is hidden", "POST", "/Observation/o-theirs/$meta-add", `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"code":"t"}]}}]}`, "", 404},
		{"transaction", "POST", "/", bundleOf("transaction", entryOf("POST", "Observation", about("", "mine", "x")), entryOf("PUT", "Observation/o-mine", about("o-mine", "mine", "x")),
			entryOf("PUT", "Observation?code=nothing", about("", "mine", "x"))), "", 200},
		{"transaction, create elsewhere", "POST", "/", bundleOf("transaction", entryOf("PUT", "Observation/o-mine", about("o-mine", "mine", "x")), entryOf("POST", "Observation", about("", "theirs", "x"))), "", 403},
		{"transaction, update as create", "POST", "/", bundleOf("transaction", entryOf("PUT", "Observation/fresh", about("fresh", "mine", "x"))), "", 403},
		{"transaction, update of what is hidden", "POST", "/", bundleOf("transaction", entryOf("PUT", "Observation/o-theirs", about("o-theirs", "mine", "x"))), "", 403},
		{"transaction, id taken", "POST", "/", bundleOf("transaction", entryOf("PUT", "Observation?code=nothing", about("o-theirs", "mine", "x"))), "", 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := narrowed(t, search.AllAccess)
			var headers []string
			if tt.header != "" {
				headers = append(headers, tt.header)
			}
			before := everythingIn(t, s)
			got := s.do(t, tt.method, tt.target, tt.body, headers...)
			if got.status != tt.status {
				t.Errorf("%d, want %d: %s", got.status, tt.status, got.body)
			}
			after := everythingIn(t, s)
			if tt.status >= 400 && after != before {
				t.Errorf("refused, and changed all the same:\n%s\n%s", before, after)
			}
			if tt.status < 300 && tt.status != 200 && after == before {
				t.Error("nothing changed")
			}
		})
	}
}

// everythingIn is the whole history, seen without bounds.
func everythingIn(t *testing.T, s *server) string {
	t.Helper()
	kept := s.grant
	s.grant = search.Everything()
	defer func() { s.grant = kept }()
	return string(s.must(t, "GET", "/_history?_count=1000", "").body)
}

// A grant by way of another resource (fine-grained authorization): what is
// written must refer to a resource within, also to one of the same transaction.
func TestWritesUnderAChain(t *testing.T) {
	s := narrowed(t, search.AllAccess)
	patient, _ := registry.Type("Patient")
	observation, _ := registry.Type("Observation")
	ours := func(t plan.Type, code, id string) plan.Node {
		param, _ := registry.Param(t, code)
		to, _ := registry.Type("Organization")
		return search.PointingTo(s.store.HashKey(), []*search.Param{param}, []plan.Key{{Type: to, ID: id}})
	}
	subject, _ := registry.Param(observation, "subject")
	where := ours(patient, "organization", "org")
	s.grant = search.NewGrant(map[plan.Type][]search.Rule{
		patient:     {{Access: search.AllAccess, Where: where}},
		observation: {{Access: search.AllAccess, Where: plan.Chain{Params: subject.Columns(search.Main), To: []plan.Arm{{Type: patient, Where: where}}}}},
	})
	member := func(organization string) string {
		return `{"resourceType":"Patient","managingOrganization":{"reference":"Organization/` + organization + `"}}`
	}
	withURL := func(entry string) string {
		return `{"fullUrl":"urn:uuid:6f1ad3f4-3d06-4c4d-93b7-aa4d4a4e5ef1",` + entry[1:]
	}
	newcomer := `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"urn:uuid:6f1ad3f4-3d06-4c4d-93b7-aa4d4a4e5ef1"}}`
	for _, tt := range []struct {
		name, method, target, body string
		status                     int
	}{
		{"to one of ours", "POST", "/Observation", about("", "mine", "x"), 201},
		{"to nobody", "POST", "/Observation", about("", "nobody", "x"), 403},
		{"to another's", "POST", "/Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Group/g"}}`, 403},
		{"a new one of ours", "POST", "/Patient", member("org"), 201},
		{"a new one of another's", "POST", "/Patient", member("other"), 403},
		{"together", "POST", "/", bundleOf("transaction", withURL(entryOf("POST", "Patient", member("org"))), entryOf("POST", "Observation", newcomer)), 200},
		{"together, of another's", "POST", "/", bundleOf("transaction", withURL(entryOf("POST", "Patient", member("other"))), entryOf("POST", "Observation", newcomer)), 403},
		{"to one that goes", "POST", "/", bundleOf("transaction", entryOf("DELETE", "Patient/mine", ""), entryOf("POST", "Observation", about("", "mine", "x"))), 403},
	} {
		if got := s.do(t, tt.method, tt.target, tt.body); got.status != tt.status {
			t.Errorf("%s: %d, want %d: %s", tt.name, got.status, tt.status, got.body)
		}
	}
}

// No race leads a write outside: what somebody else takes out of the grant in
// between is not written over.
func TestRacesDoNotLeaveTheGrant(t *testing.T) {
	const rounds = 40
	s := narrowed(t, search.AllAccess)
	narrow := *s.session()
	s.grant = search.Everything()
	for round := range rounds {
		id := fmt.Sprintf("race-%d", round)
		s.must(t, "PUT", "/Observation/"+id, about(id, "mine", "first"))
		var both sync.WaitGroup
		both.Add(2)
		var taken, written error
		go func() {
			defer both.Done()
			session := *s.session()
			_, taken = session.Update(t.Context(), "Observation", id, []byte(about(id, "theirs", "SECRET")), interaction.Match{})
		}()
		go func() {
			defer both.Done()
			session := narrow
			_, written = session.Update(t.Context(), "Observation", id, []byte(about(id, "mine", "again")), interaction.Match{})
		}()
		both.Wait()
		if taken != nil {
			t.Fatal(taken)
		}
		if got := s.must(t, "GET", "/Observation/"+id, ""); got.text("subject.reference") != "Patient/theirs" {
			t.Fatalf("%s was taken back (%v): %s", id, written, got.body)
		}
	}
	if got := s.do(t, "GET", "/Observation?_summary=count", ""); got.status != http.StatusOK {
		t.Errorf("%d", got.status)
	}
}
