package fhirapi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// waiting is a queue whose work is done by hand.
type waiting struct {
	ids  []string
	full bool
}

func (q *waiting) Submit(_ context.Context, id string) error {
	if q.full {
		return fault.New(fault.Throttled, "test", "too many wait")
	}
	q.ids = append(q.ids, id)
	return nil
}

func withQueue(s *server) (*server, *waiting) {
	q := &waiting{}
	s.later, s.check = q, true
	return s, q
}

const asyncBundle = `{"resourceType":"Bundle","type":"transaction","entry":[
 {"fullUrl":"urn:uuid:11111111-1111-4111-8111-111111111111","resource":{"resourceType":"Patient","identifier":[{"value":"1"}]},"request":{"method":"POST","url":"Patient"}},
 {"resource":{"resourceType":"Basic","id":"b","code":{"text":"x"},"subject":{"reference":"urn:uuid:11111111-1111-4111-8111-111111111111"}},"request":{"method":"PUT","url":"Basic/b"}},
 {"request":{"method":"DELETE","url":"Patient/old"}},
 {"request":{"method":"DELETE","url":"Patient/never"}},
 {"request":{"method":"GET","url":"Basic/b"}}]}`

// submit sends the bundle and gives where to ask.
func submit(t *testing.T, s *server, bundle string) string {
	t.Helper()
	a := s.do(t, "POST", "/", bundle, "Prefer: respond-async")
	poll := a.header.Get("Content-Location")
	if a.status != 202 || !strings.HasPrefix(poll, base+"/Transaction/") || a.text("issue[0].severity") != "information" ||
		a.text("issue[0].diagnostics") != "Submitted Asynchronous Bundle Transaction" || a.text("issue[0].location[0]") != poll {
		t.Fatalf("%d %s %s", a.status, poll, a.body)
	}
	return strings.TrimPrefix(poll, base)
}

// An asynchronous transaction is told of, carried out once, and answered
// (healthlake.md 2.5, R4 async.html).
func TestAsyncTransaction(t *testing.T) {
	for name, open := range map[string]func(testing.TB) *server{"memory": newServer, "disk": onDisk} {
		t.Run(name, func(t *testing.T) {
			s, q := withQueue(open(t))
			s.must(t, "PUT", "/Patient/old", `{"resourceType":"Patient","id":"old"}`)
			poll := submit(t, s, asyncBundle)
			if a := s.do(t, "GET", poll, ""); a.status != 202 || a.text("issue[0].diagnostics") != "SUBMITTED" {
				t.Errorf("%d %s", a.status, a.body)
			}
			for range 2 { // the second call finds that it is done
				if err := s.session().RunTransaction(t.Context(), q.ids[0]); err != nil {
					t.Fatal(err)
				}
			}
			wantDone(t, s, poll)
		})
	}
}

func wantDone(t *testing.T, s *server, poll string) {
	t.Helper()
	a := s.do(t, "GET", poll, "")
	if a.status != 200 || a.text("type") != "transaction-response" || a.at("entry").Len() != 5 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for i, want := range []string{"201 Created", "201 Created", "204 No Content", "204 No Content", "200 OK"} {
		if got := a.at("entry").Index(i).Get("response").Get("status").Text(); got != want {
			t.Errorf("entry %d: %s, want %s", i, got, want)
		}
	}
	location := a.text("entry[0].response.location")
	if !strings.HasPrefix(location, "Patient/") || !strings.HasSuffix(location, "/_history/1") || a.text("entry[4].resource.id") != "b" {
		t.Errorf("%s", a.body)
	}
	if n := s.must(t, "GET", "/Patient?identifier=1", "").text("total"); n != "1" {
		t.Errorf("%s patients were made", n)
	}
	if n := s.must(t, "GET", "/_history", "").text("total"); n != "4" {
		t.Errorf("%s versions", n)
	}
}

// breaking is a store that goes away at one of its commits.
type breaking struct {
	store.Store
	after  int  // commits that still succeed
	behind bool // the one that fails is carried out, and nobody is told
}

func (b *breaking) Commit(ctx context.Context, ops []store.Op) ([]store.Outcome, error) {
	if b.after--; b.after >= 0 {
		return b.Store.Commit(ctx, ops)
	}
	if b.behind {
		if _, err := b.Store.Commit(ctx, ops); err != nil {
			return nil, err
		}
	}
	return nil, fault.New(fault.Unavailable, "test", "the server dies")
}

// Wherever the server dies, the transaction is carried out once.
func TestAsyncTransactionSurvives(t *testing.T) {
	for after := range 3 {
		for _, behind := range []bool{false, true} {
			s, q := withQueue(newServer(t))
			s.must(t, "PUT", "/Patient/old", `{"resourceType":"Patient","id":"old"}`)
			poll := submit(t, s, asyncBundle)
			dying := s.session()
			dying.Store = &breaking{s.store, after, behind}
			if err := dying.RunTransaction(t.Context(), q.ids[0]); !fault.Is(err, fault.Unavailable) {
				t.Fatal(err)
			}
			if a := s.do(t, "GET", poll, ""); !(after == 2 && behind) && a.status != 202 {
				t.Errorf("%d %s", a.status, a.body)
			}
			if err := s.session().RunTransaction(t.Context(), q.ids[0]); err != nil {
				t.Fatal(after, behind, err)
			}
			wantDone(t, s, poll)
		}
	}
}

// What fails later is told by the poll; what can be refused at once is.
func TestAsyncTransactionFails(t *testing.T) {
	s, q := withQueue(newServer(t))
	poll := submit(t, s, `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Patient","id":"a"},"request":{"method":"PUT","url":"Patient/a","ifMatch":"W/\"3\""}}]}`)
	if err := s.session().RunTransaction(t.Context(), q.ids[0]); err != nil {
		t.Fatal(err)
	}
	if a := s.do(t, "GET", poll, ""); a.status != 412 || a.text("issue[0].expression[0]") != "Bundle.entry[0]" {
		t.Errorf("%d %s", a.status, a.body)
	}
	given := submit(t, s, asyncBundle)
	if err := s.session().FailTransaction(t.Context(), q.ids[1], fault.New(fault.Unavailable, "test", "given up")); err != nil {
		t.Fatal(err)
	}
	if a := s.do(t, "GET", given, ""); a.status != 503 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for body, status := range map[string]int{
		`{"resourceType":"Bundle","type":"batch","entry":[]}`:                                                                                                           400,
		`{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"BREW","url":"x"}}]}`:                                                              400,
		`{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Patient","gender":"alien"},"request":{"method":"POST","url":"Patient"}}]}`: 400,
	} {
		if a := s.do(t, "POST", "/", body, "Prefer: respond-async"); a.status != status {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := s.do(t, "GET", "/Transaction/none", ""); a.status != 404 {
		t.Errorf("%d", a.status)
	}
	q.full = true
	if a := s.do(t, "POST", "/", asyncBundle, "Prefer: respond-async"); a.status != 429 {
		t.Errorf("%d", a.status)
	}
	s.grant = compartmentGrant(s, search.Read)
	if a := s.do(t, "POST", "/", asyncBundle, "Prefer: respond-async"); a.status != 403 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := s.do(t, "GET", poll, ""); a.status != 404 {
		t.Errorf("%d", a.status)
	}
}

// What was sent goes when the transaction ended; the answer when it is old.
func TestAsyncTransactionIsForgotten(t *testing.T) {
	s, q := withQueue(newServer(t))
	poll := submit(t, s, asyncBundle)
	stays := submit(t, s, asyncBundle)
	bundle := plan.Key{Type: interaction.TypeTransactionBundle, ID: q.ids[0]}
	kept := func() bool {
		view, err := s.store.View(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		_, err = view.Get(t.Context(), bundle)
		return err == nil
	}
	if !kept() {
		t.Fatal("the bundle is not kept")
	}
	if err := s.session().RunTransaction(t.Context(), q.ids[0]); err != nil {
		t.Fatal(err)
	}
	if kept() {
		t.Error("the bundle stays behind")
	}
	for _, tt := range []struct {
		before time.Time
		want   int
	}{{time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), 200}, {time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), 404}} {
		if err := s.session().ForgetTransactions(t.Context(), tt.before); err != nil {
			t.Fatal(err)
		}
		if a := s.do(t, "GET", poll, ""); a.status != tt.want {
			t.Errorf("before %s: %d", tt.before, a.status)
		}
	}
	if a := s.do(t, "GET", stays, ""); a.status != 202 {
		t.Errorf("what still waits was dropped: %d", a.status)
	}
}
