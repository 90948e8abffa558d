package fhirapi_test

import (
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/interaction"
)

// A store can be set to HealthLake's limits (healthlake.md 2.5); an
// asynchronous transaction may have more entries than one that is waited for.
func TestEntryLimits(t *testing.T) {
	s, _ := withQueue(newServer(t))
	s.rules = interaction.HealthLakeRules
	tests := []struct {
		kind    string
		entries int
		prefer  string
		want    int
	}{
		{"transaction", 100, "", 200}, {"transaction", 101, "", 422},
		{"transaction", 500, "respond-async", 202}, {"transaction", 501, "respond-async", 422},
		{"batch", 500, "", 200}, {"batch", 501, "", 422},
	}
	for _, tt := range tests {
		entry := `{"request":{"method":"GET","url":"Patient?_summary=count"}}`
		body := `{"resourceType":"Bundle","type":"` + tt.kind + `","entry":[` + strings.Repeat(entry+",", tt.entries-1) + entry + `]}`
		a := s.do(t, "POST", "/", body, "Prefer: "+tt.prefer)
		if a.status != tt.want {
			t.Errorf("%d entries in a %s: %d %.200s", tt.entries, tt.kind, a.status, a.body)
		}
		if a.status == 422 && tt.kind == "transaction" && tt.prefer == "" && !strings.Contains(a.text("issue[0].diagnostics"), "respond-async") {
			t.Errorf("%s", a.body)
		}
	}
}

// The bound on one resource is the session's.
func TestMaxResource(t *testing.T) {
	s := newServer(t)
	s.rules.MaxResource = 100
	if a := s.do(t, "POST", "/Patient", `{"resourceType":"Patient","name":[{"text":"`+strings.Repeat("x", 60)+`"}]}`); a.status != 413 {
		t.Errorf("%d", a.status)
	}
	if a := s.do(t, "POST", "/Binary", strings.Repeat("x", 40), "Content-Type: text/plain"); a.status != 413 {
		t.Errorf("%d", a.status)
	}
	s.must(t, "POST", "/Patient", `{"resourceType":"Patient"}`)
}

// What the entries of a bundle read is bounded together: those of a batch that
// are too many are refused, and a transaction as a whole.
func TestBundleReads(t *testing.T) {
	s := newServer(t)
	s.must(t, "PUT", "/Binary/b", `{"resourceType":"Binary","id":"b","contentType":"text/plain","data":"`+strings.Repeat("AAAA", 1<<20)+`"}`)
	entries := strings.TrimSuffix(strings.Repeat(`{"request":{"method":"GET","url":"Binary/b"}},`, 40), ",")
	statuses := map[string]int{}
	for e := range s.must(t, "POST", "/", `{"resourceType":"Bundle","type":"batch","entry":[`+entries+`]}`).at("entry").Items() {
		status := e.Get("response").Get("status").Text()
		statuses[status]++
		if code := e.Get("response").Get("outcome").Get("issue").Index(0).Get("code").Text(); status[0] == '4' && code != "too-costly" {
			t.Errorf("%s with %s", status, code)
		}
	}
	if statuses["200 OK"] != 31 || statuses["422 Unprocessable Entity"] != 9 {
		t.Errorf("got %v", statuses)
	}
	if a := s.do(t, "POST", "/", `{"resourceType":"Bundle","type":"transaction","entry":[`+entries+`,{"request":{"method":"POST","url":"Patient"},"resource":{"resourceType":"Patient"}}]}`); a.status != 422 {
		t.Errorf("%d %.300s", a.status, a.body)
	}
	if n := s.must(t, "GET", "/Patient", "").text("total"); n != "0" {
		t.Errorf("a refused transaction left %s patients", n)
	}
}
