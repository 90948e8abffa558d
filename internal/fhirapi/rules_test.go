package fhirapi_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/tarn-fhir/tarn/internal/interaction"
)

// A store may let a conditional delete remove all that match, and its statement
// says so (R4 http.html#3.1.0.7.1).
func TestMultipleConditionalDelete(t *testing.T) {
	s := newServer(t)
	for i := range 5 {
		s.must(t, "PUT", fmt.Sprintf("/Patient/p%d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","active":%t}`, i, i < 3))
	}
	stated := func() string { return s.must(t, "GET", "/metadata", "").text("rest[0].resource[0].conditionalDelete") }
	if a := s.do(t, "DELETE", "/Patient?active=true", ""); a.status != http.StatusPreconditionFailed || stated() != "single" {
		t.Errorf("by default: %d, stated %s", a.status, stated())
	}
	s.rules.MultipleDelete = true
	if a := s.do(t, "DELETE", "/Patient?active=true", "", `If-Match: W/"1"`); a.status != http.StatusPreconditionFailed {
		t.Errorf("one version of several: %d", a.status)
	}
	a := s.do(t, "DELETE", "/Patient?active=true", "")
	if a.status != http.StatusNoContent || a.header.Get("ETag") != "" || stated() != "multiple" {
		t.Errorf("%d %v, stated %s", a.status, a.header, stated())
	}
	for i := range 5 {
		want := map[bool]int{true: http.StatusGone, false: http.StatusOK}[i < 3]
		if a := s.do(t, "GET", fmt.Sprintf("/Patient/p%d", i), ""); a.status != want {
			t.Errorf("p%d: %d, want %d", i, a.status, want)
		}
	}
	s.must(t, "PUT", "/Patient/p0", `{"resourceType":"Patient","id":"p0"}`)
	b := s.must(t, "POST", "/", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"DELETE","url":"Patient?_id=p0,p3,p4"}}]}`)
	if got := b.text("entry[0].response.status"); got != "204 No Content" {
		t.Errorf("in a batch: %s", b.body)
	}
	if a := s.must(t, "GET", "/Patient?_summary=count", ""); a.text("total") != "0" {
		t.Errorf("%s are left", a.text("total"))
	}
	if a := s.do(t, "DELETE", "/Patient?active=true", ""); a.status != http.StatusNotFound {
		t.Errorf("nothing to delete: %d", a.status)
	}
}

// What a store does with unknown parameters and large pages is its operator's
// choice; handling=strict rules over it.
func TestSearchRules(t *testing.T) {
	tests := []struct {
		name   string
		rules  interaction.Rules
		target string
		prefer string
		want   int
	}{
		{"unknown", interaction.Rules{}, "/Patient?shoe=9", "", 400},
		{"unknown, lenient", interaction.Rules{}, "/Patient?shoe=9", "handling=lenient", 200},
		{"passed over", interaction.Rules{PassUnknown: true}, "/Patient?shoe=9", "", 200},
		{"passed over, strict", interaction.Rules{PassUnknown: true}, "/Patient?shoe=9", "handling=strict", 400},
		{"strict before lenient", interaction.Rules{PassUnknown: true}, "/Patient?shoe=9", "handling=strict, handling=lenient", 400},
		{"cut", interaction.Rules{MaxCount: 100}, "/Patient?_count=101", "", 200},
		{"refused", interaction.HealthLakeRules, "/Patient?_count=101", "", 400},
		{"zero refused", interaction.HealthLakeRules, "/Patient?_count=0", "", 400},
		{"large enough", interaction.HealthLakeRules, "/Patient?_count=100", "", 200},
		{"history cut", interaction.HealthLakeRules, "/_history?_count=101", "", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.rules = tt.rules
			if a := s.do(t, "GET", tt.target, "", "Prefer: "+tt.prefer); a.status != tt.want {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}
