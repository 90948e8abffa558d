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
