package fhirapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// jobsByHand is a queue whose work is done by hand.
type jobsByHand struct{ ids []string }

func (q *jobsByHand) Submit(_ context.Context, _ interaction.BulkKind, id string) error {
	q.ids = append(q.ids, id)
	return nil
}

func withJobs(s *server) (*server, *jobsByHand) {
	q := &jobsByHand{}
	s.jobs, s.check = q, true
	return s, q
}

// start begins a job and gives where it is asked about.
func (s *server) start(t *testing.T, target, body string) string {
	t.Helper()
	a := s.do(t, "POST", target, body)
	poll := a.header.Get("Content-Location")
	if a.status != 202 || !strings.HasPrefix(poll, base+"/$") {
		t.Fatalf("POST %s: %d %q %s", target, a.status, poll, a.body)
	}
	return strings.TrimPrefix(poll, base)
}

// finish runs the job and gives its status.
func (s *server) finish(t *testing.T, q *jobsByHand, poll string) answer {
	t.Helper()
	if err := s.session().RunBulk(t.Context(), q.ids[len(q.ids)-1], nil); err != nil {
		t.Fatal(err)
	}
	return s.must(t, "GET", poll, "")
}

func eachEngine(t *testing.T, test func(t *testing.T, s *server, q *jobsByHand)) {
	for name, open := range map[string]func(testing.TB) *server{"memory": newServer, "disk": onDisk} {
		t.Run(name, func(t *testing.T) {
			s, q := withJobs(open(t))
			test(t, s, q)
		})
	}
}

// everFound reports whether anything of a resource is there: current, old, or in
// any answer at any moment.
func everFound(t *testing.T, s *server, typ, id string) bool {
	t.Helper()
	view, err := s.store.View(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	number, _ := r4.TypeByName(typ)
	page, err := view.History(t.Context(), store.HistoryQuery{Types: []plan.Type{number}})
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range page.Records {
		if rec.Key.ID == id {
			return true
		}
	}
	return s.do(t, "GET", "/"+typ+"/"+id, "").status != 404
}

func observationOf(id, patient string) string {
	return `{"resourceType":"Observation","id":"` + id + `","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/` + patient + `"}}`
}

func auditEvent(id, what string) string {
	return `{"resourceType":"AuditEvent","id":"` + id + `","type":{"code":"rest"},"recorded":"2026-01-01T00:00:00Z",
		"agent":[{"requestor":true}],"source":{"observer":{"display":"x"}},"entity":[{"what":{"reference":"` + what + `"}}]}`
}

// $bulk-delete deletes what was there when it was sent, softly or for good, and
// the AuditEvents about it (healthlake.md 2.7).
func TestBulkDelete(t *testing.T) {
	for _, hard := range []bool{false, true} {
		eachEngine(t, func(t *testing.T, s *server, q *jobsByHand) {
			for i := range 3 {
				s.must(t, "PUT", fmt.Sprintf("/Observation/o%d", i), observationOf(fmt.Sprintf("o%d", i), "p"))
			}
			s.must(t, "PUT", "/Observation/old", observationOf("old", "p"))
			s.must(t, "DELETE", "/Observation/old", "")
			s.must(t, "PUT", "/Patient/p", `{"resourceType":"Patient","id":"p"}`)
			s.must(t, "POST", "/AuditEvent", auditEvent("a", "Observation/o1"))
			s.must(t, "POST", "/AuditEvent", auditEvent("b", "Patient/p"))
			poll := s.start(t, fmt.Sprintf("/Observation/$bulk-delete?isHardDelete=%t", hard), "")
			if a := s.must(t, "GET", poll, ""); a.text("status") != "SUBMITTED" || a.text("datastoreId") != "d" || a.text("submittedTime") == "" {
				t.Errorf("%s", a.body)
			}
			s.must(t, "PUT", "/Observation/o2", observationOf("o2", "q")) // since then
			s.must(t, "PUT", "/Observation/o3", observationOf("o3", "p"))
			a := s.finish(t, q, poll)
			want := map[bool]string{false: "2", true: "3"}[hard]
			if a.text("status") != "COMPLETED" || a.text("deleted.resources") != want || a.text("deleted.auditEvents") != "1" || a.text("deleted.skipped") != "1" {
				t.Errorf("%s", a.body)
			}
			if ids := s.must(t, "GET", "/Observation", "").ids("match"); len(ids) != 2 {
				t.Errorf("left: %v", ids)
			}
			for _, id := range []string{"o0", "o1", "old"} {
				if everFound(t, s, "Observation", id) == hard {
					t.Errorf("hard %t: %s was found: %t", hard, id, !hard)
				}
			}
			if n := s.must(t, "GET", "/AuditEvent", "").text("total"); n != "1" {
				t.Errorf("%s AuditEvents", n)
			}
		})
	}
}

// Only what was last changed in the time asked for is deleted, and AuditEvents
// stay when they shall.
func TestBulkDeleteInTime(t *testing.T) {
	s, q := withJobs(newServer(t)) // the clock goes a second with each commit
	for _, id := range []string{"a", "b", "c"} {
		s.must(t, "PUT", "/Basic/"+id, `{"resourceType":"Basic","id":"`+id+`","code":{"text":"x"}}`)
	}
	s.must(t, "POST", "/AuditEvent", auditEvent("e", "Basic/b"))
	at := s.must(t, "GET", "/Basic/b", "").text("meta.lastUpdated")
	poll := s.start(t, "/Basic/$bulk-delete", `{"resourceType":"Parameters","parameter":[{"name":"start","valueInstant":"`+at+`"},
		{"name":"end","valueInstant":"`+at+`"},{"name":"deleteAuditEvent","valueBoolean":false}]}`)
	s.finish(t, q, poll)
	if ids := s.must(t, "GET", "/Basic?_sort=_id", "").ids("match"); strings.Join(ids, " ") != "a c" {
		t.Errorf("left: %v", ids)
	}
	if n := s.must(t, "GET", "/AuditEvent", "").text("total"); n != "1" {
		t.Errorf("%s AuditEvents", n)
	}
	for query, status := range map[string]int{
		"?_since=2026&start=2026": 400, "?_since=2026&end=2027": 400, "?start=2027&end=2026": 400, "?_since=soon": 400,
		"?isHardDelete=yes": 400, "?code=x": 400,
	} {
		if a := s.do(t, "POST", "/Basic/$bulk-delete"+query, ""); a.status != status {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	for target, status := range map[string]int{"/AuditEvent/$bulk-delete?deleteAuditEvent=false": 400, "/Nothing/$bulk-delete": 404, "/$bulk-delete": 404} {
		if a := s.do(t, "POST", target, ""); a.status != status {
			t.Errorf("%s: %d %s", target, a.status, a.body)
		}
	}
	if a := s.do(t, "GET", "/Basic/$bulk-delete", ""); a.status != 405 {
		t.Errorf("GET: %d", a.status)
	}
}

// $erase leaves nothing of one resource, deleted or not.
func TestErase(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server, q *jobsByHand) {
		s.must(t, "PUT", "/Patient/p", `{"resourceType":"Patient","id":"p","name":[{"family":"Secret"}]}`)
		s.must(t, "PUT", "/Patient/p", `{"resourceType":"Patient","id":"p","name":[{"family":"Other"}]}`)
		s.must(t, "DELETE", "/Patient/p", "")
		s.must(t, "PUT", "/Patient/stays", `{"resourceType":"Patient","id":"stays"}`)
		s.must(t, "POST", "/AuditEvent", auditEvent("a", "Patient/p"))
		if a := s.finish(t, q, s.start(t, "/Patient/p/$erase", "")); a.text("status") != "COMPLETED" || a.text("deleted.resources") != "1" {
			t.Errorf("%s", a.body)
		}
		if everFound(t, s, "Patient", "p") || !everFound(t, s, "Patient", "stays") {
			t.Error("the wrong thing was erased")
		}
		if a := s.must(t, "GET", "/AuditEvent", ""); a.text("total") != "1" {
			t.Errorf("AuditEvents go only when asked: %s", a.body)
		}
		if a := s.do(t, "POST", "/Patient/p/$erase", ""); a.status != 404 {
			t.Errorf("%d", a.status)
		}
		if a := s.do(t, "POST", "/Patient/stays/$erase?_since=2020", ""); a.status != 400 {
			t.Errorf("%d", a.status)
		}
		s.finish(t, q, s.start(t, "/Patient/stays/$erase?deleteAuditEvent=true", ""))
		// The id is free again, from version 1.
		if a := s.must(t, "PUT", "/Patient/p", `{"resourceType":"Patient","id":"p"}`); a.status != 201 || a.text("meta.versionId") != "1" {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

// $purge takes a patient's compartment, deleted resources included, and what
// comes into it while it runs.
func TestPurge(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server, q *jobsByHand) {
		for _, id := range []string{"p", "q"} {
			s.must(t, "PUT", "/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`"}`)
			s.must(t, "PUT", "/Observation/o-"+id, observationOf("o-"+id, id))
			s.must(t, "PUT", "/Observation/gone-"+id, observationOf("gone-"+id, id))
			s.must(t, "DELETE", "/Observation/gone-"+id, "")
		}
		s.must(t, "PUT", "/Observation/moved", observationOf("moved", "p"))
		s.must(t, "PUT", "/Observation/moved", observationOf("moved", "q"))
		s.must(t, "PUT", "/Organization/org", `{"resourceType":"Organization","id":"org","name":"x"}`)
		a := s.must(t, "POST", "/Patient/p/$purge", "")
		if a.status != 202 || a.text("resourceType") != "OperationOutcome" || !strings.Contains(a.text("issue[0].diagnostics"), q.ids[0]) {
			t.Fatalf("%d %s", a.status, a.body)
		}
		s.must(t, "PUT", "/Observation/late", observationOf("late", "p"))
		if a := s.finish(t, q, "/$purge/"+q.ids[0]); a.text("status") != "COMPLETED" || a.text("deleted.resources") != "4" {
			t.Errorf("%s", a.body)
		}
		for key, stays := range map[string]bool{
			"Patient/p": false, "Observation/o-p": false, "Observation/gone-p": false, "Observation/late": false,
			"Patient/q": true, "Observation/o-q": true, "Observation/gone-q": true, "Observation/moved": true, "Organization/org": true,
		} {
			typ, id, _ := strings.Cut(key, "/")
			if got := everFound(t, s, typ, id); got != stays {
				t.Errorf("%s is there: %t", key, got)
			}
		}
	})
}

// An answer that is kept for an asynchronous transaction is a copy too.
func TestHardDeletionTakesKeptAnswers(t *testing.T) {
	s, q := withJobs(newServer(t))
	later := &waiting{}
	s.later = later
	s.must(t, "PUT", "/Patient/p", `{"resourceType":"Patient","id":"p","name":[{"family":"Secret"}]}`)
	bundle := `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"GET","url":"Patient?_id=p"}}]}`
	poll := submit(t, s, bundle)
	other := submit(t, s, strings.ReplaceAll(bundle, "_id=p", "_id=q"))
	for _, id := range later.ids {
		if err := s.session().RunTransaction(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if a := s.must(t, "GET", poll, ""); !strings.Contains(string(a.body), "Secret") {
		t.Fatalf("%s", a.body)
	}
	s.finish(t, q, s.start(t, "/Patient/p/$erase", ""))
	if a := s.do(t, "GET", poll, ""); a.status != 404 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := s.do(t, "GET", other, ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// $bulk-patch patches what it fits, and tells of the rest.
func TestBulkPatch(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server, q *jobsByHand) {
		for _, id := range []string{"a", "b", "c", "d"} {
			s.must(t, "PUT", "/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`","gender":"male"}`)
		}
		s.must(t, "PUT", "/Patient/none", `{"resourceType":"Patient","id":"none"}`)
		body := `{"resourceType":"Patient","operations":[{"op":"replace","path":"/gender","value":"female"}],"clientToken":"once"}`
		poll := s.start(t, "/$bulk-patch", body)
		if again := s.start(t, "/$bulk-patch", body); again != poll {
			t.Errorf("%s and %s", poll, again)
		}
		s.must(t, "PUT", "/Patient/c", `{"resourceType":"Patient","id":"c","gender":"other"}`)
		a := s.finish(t, q, poll)
		if a.text("status") != "COMPLETED_WITH_ERRORS" || a.text("summary.succeeded") != "3" || a.text("summary.skipped") != "1" ||
			a.text("summary.failedWithCustomerError") != "1" || a.text("summary.totalResourcesProcessed") != "5" || a.text("summary.estimatedResourceCount") != "5" {
			t.Errorf("%s", a.body)
		}
		if a.text("failedResources[0].resourceId") != "Patient/none" || a.text("skippedResources[0].resourceId") != "Patient/c" || a.text("failedResourcesTruncated") != "false" {
			t.Errorf("%s", a.body)
		}
		if n := s.must(t, "GET", "/Patient?gender=female", "").text("total"); n != "3" {
			t.Errorf("%s are patched", n)
		}
	})
}

func TestBulkPatchByIDs(t *testing.T) {
	s, q := withJobs(newServer(t))
	for _, id := range []string{"a", "b", "c"} {
		s.must(t, "PUT", "/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`","gender":"male"}`)
	}
	poll := s.start(t, "/$bulk-patch", `{"resourceType":"Patient","resourceIds":["Patient/a","b","lost"],"validationLevel":"structure-only",
		"operations":{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"replace"},
		{"name":"path","valueString":"Patient.gender"},{"name":"value","valueCode":"unknown"}]}]}}`)
	a := s.finish(t, q, poll)
	if a.text("summary.succeeded") != "2" || a.text("failedResources[0].resourceId") != "Patient/lost" {
		t.Errorf("%s", a.body)
	}
	if ids := s.must(t, "GET", "/Patient?gender=unknown&_sort=_id", "").ids("match"); strings.Join(ids, " ") != "a b" {
		t.Errorf("%v", ids)
	}
	for body, status := range map[string]int{
		`{}`:                         400,
		`{"resourceType":"Patient"}`: 400,
		`{"resourceType":"AuditEvent","operations":[]}`:                              405,
		`{"resourceType":"Patient","operations":[{"op":"fly"}]}`:                     400,
		`{"resourceType":"Patient","operations":[],"resourceIds":[]}`:                400,
		`{"resourceType":"Patient","operations":[],"resourceIds":["a","Patient/a"]}`: 400,
		`{"resourceType":"Patient","operations":[],"resourceIds":["Observation/a"]}`: 400,
		`{"resourceType":"Patient","operations":[],"validationLevel":"none"}`:        400,
		`[]`: 400,
	} {
		if a := s.do(t, "POST", "/$bulk-patch", body); a.status != status {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
}

// Wherever the server dies, each resource is taken or patched once, and the
// counts are the truth.
func TestBulkJobsSurvive(t *testing.T) {
	jobs := map[string]func(*testing.T, *server) string{
		"delete": func(t *testing.T, s *server) string { return s.start(t, "/Patient/$bulk-delete", "") },
		"hard":   func(t *testing.T, s *server) string { return s.start(t, "/Patient/$bulk-delete?isHardDelete=true", "") },
		"patch": func(t *testing.T, s *server) string {
			return s.start(t, "/$bulk-patch", `{"resourceType":"Patient","operations":[{"op":"add","path":"/active","value":true}]}`)
		},
	}
	for name, begin := range jobs {
		t.Run(name, func(t *testing.T) {
			for after := range 5 {
				for _, behind := range []bool{false, true} {
					s, q := withJobs(newServer(t))
					for i := range 3 {
						s.must(t, "PUT", fmt.Sprintf("/Patient/p%d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, i))
						s.must(t, "POST", "/AuditEvent", auditEvent("a", fmt.Sprintf("Patient/p%d", i)))
					}
					poll := begin(t, s)
					dying := s.session()
					dying.Store = &breaking{s.store, after, behind}
					if err := dying.RunBulk(t.Context(), q.ids[0], nil); err != nil && !fault.Is(err, fault.Unavailable) {
						t.Fatal(err)
					}
					a := s.finish(t, q, poll)
					done, audit := a.text("deleted.resources"), a.text("deleted.auditEvents")
					if name == "patch" {
						done, audit = a.text("summary.succeeded"), "3"
					}
					if a.text("status") != "COMPLETED" || done != "3" || audit != "3" {
						t.Errorf("after %d, behind %t: %s", after, behind, a.body)
					}
					if name == "patch" && s.must(t, "GET", "/Patient/p0", "").text("meta.versionId") != "2" {
						t.Error("patched more than once")
					}
				}
			}
		})
	}
}

// A job that is given up says so; one of another kind is not there.
func TestBulkJobFails(t *testing.T) {
	s, q := withJobs(newServer(t))
	poll := s.start(t, "/Patient/$bulk-delete", "")
	if err := s.session().FailBulk(t.Context(), q.ids[0], fault.New(fault.Full, "test", "the disk is full")); err != nil {
		t.Fatal(err)
	}
	if a := s.must(t, "GET", poll, ""); a.text("status") != "FAILED" || !strings.Contains(a.text("message"), "full") {
		t.Errorf("%s", a.body)
	}
	for _, target := range []string{"/$purge/" + q.ids[0], "/$bulk-delete/none", "/$bulk-delete/" + strings.Repeat("0", 32)} {
		if a := s.do(t, "GET", target, ""); a.status != 404 {
			t.Errorf("%s: %d", target, a.status)
		}
	}
}

// Whoever sees only a part may not touch all, nor ask about it.
func TestBulkJobsAskForTheWholeType(t *testing.T) {
	s, q := withJobs(newServer(t))
	s.must(t, "PUT", "/Patient/mine", `{"resourceType":"Patient","id":"mine"}`)
	poll := s.start(t, "/Patient/$bulk-delete", "")
	s.grant = compartmentGrant(s, search.AllAccess)
	for _, target := range []string{"/Patient/$bulk-delete?deleteAuditEvent=false", "/Patient/mine/$erase", "/Patient/mine/$purge", "/Basic/$bulk-delete"} {
		if a := s.do(t, "POST", target, ""); a.status != 403 {
			t.Errorf("%s: %d %s", target, a.status, a.body)
		}
	}
	if a := s.do(t, "POST", "/$bulk-patch", `{"resourceType":"Patient","operations":[]}`); a.status != 403 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := s.do(t, "GET", poll, ""); a.status != 404 {
		t.Errorf("%d", a.status)
	}
	// All of one type is enough for it, but not for its AuditEvents.
	if a := s.do(t, "POST", "/Organization/$bulk-delete", ""); a.status != 403 {
		t.Errorf("%d %s", a.status, a.body)
	}
	s.start(t, "/Organization/$bulk-delete?deleteAuditEvent=false", "")
	if len(q.ids) != 2 {
		t.Errorf("%d jobs", len(q.ids))
	}
}

// After a hard deletion, not even the store's own key finds a byte of what was
// purged in the files.
func TestHardDeletionLeavesNoBytes(t *testing.T) {
	root := t.TempDir()
	s, q := withJobs(embeddedIn(t, root, ticking()))
	for _, version := range [][2]string{{"gone", "Ulmenhain"}, {"gone", "Birkenau"}, {"kept", "Zypressental"}} {
		s.must(t, "PUT", "/Patient/"+version[0], `{"resourceType":"Patient","id":"`+version[0]+`","name":[{"family":"`+version[1]+`"}]}`)
	}
	s.finish(t, q, s.start(t, "/Patient/gone/$erase", ""))
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	key, err := seal.DataKeyFrom(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	sealed := seal.NewFS(vfs.Default, key)
	folder := filepath.Join(root, "d", "db")
	names, err := sealed.List(folder)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, name := range names {
		f, err := sealed.Open(filepath.Join(folder, name))
		if err != nil {
			continue // not a sealed file: the lock
		}
		content := make([]byte, 4<<20)
		n, err := f.ReadAt(content, 0)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		for _, word := range []string{"lmenhain", "irkenau", "ypressental"} {
			found[word] = found[word] || bytes.Contains(bytes.ToLower(content[:n]), []byte(word))
		}
		f.Close()
	}
	if found["lmenhain"] || found["irkenau"] || !found["ypressental"] {
		t.Errorf("found: %v", found)
	}
}
