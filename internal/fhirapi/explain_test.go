package fhirapi_test

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/interaction"
)

// explanation is the text of a searchset's outcome that explains it.
func explanation(t *testing.T, body string) string {
	t.Helper()
	var b struct {
		Entry []struct {
			Search   struct{ Mode string }
			Resource struct {
				ResourceType string
				Issue        []struct{ Severity, Code, Diagnostics string }
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatal(err)
	}
	for _, e := range b.Entry {
		if e.Search.Mode == "outcome" && e.Resource.ResourceType == "OperationOutcome" && e.Resource.Issue[0].Severity == "information" {
			return e.Resource.Issue[0].Diagnostics
		}
	}
	t.Fatalf("no outcome explains %s", body)
	return ""
}

// TestExplain: both engines tell what was understood and the true counts; the
// embedded one its estimates, what leads, and the rows it looked at; and none a
// value.
func TestExplain(t *testing.T) {
	for name, s := range map[string]*server{"memory": newServer(t), "embedded": onDisk(t)} {
		t.Run(name, func(t *testing.T) {
			for i, code := range []string{"secret", "secret", "other"} {
				s.must(t, "POST", "/Observation", `{"resourceType":"Observation","status":"final","code":{"coding":[{"code":"`+code+`"}]},"effectiveDateTime":"202`+string(rune('0'+i))+`"}`)
			}
			got := explanation(t, string(s.must(t, "GET", "/Observation?code=secret&date=ge2021&_explain=true", "").body))
			for _, want := range []string{"understood Observation?code&date(ge)\n", "Observation: estimated ", "range code", ", true 2", "\ntrue 1, rows looked at "} {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in\n%s", want, got)
				}
			}
			if strings.Contains(got, "secret") || strings.Contains(got, "2021") {
				t.Errorf("a value is in\n%s", got)
			}
			if embedded := strings.Contains(got, "leads"); embedded != (name == "embedded") {
				t.Errorf("leads: %t in\n%s", embedded, got)
			}
		})
	}
}

// TestSearchLimits: what reaches a limit is refused as too costly, with a hint.
func TestSearchLimits(t *testing.T) {
	s := onDisk(t)
	for range 3 {
		s.must(t, "POST", "/Patient", `{"resourceType":"Patient","name":[{"family":"x"}]}`)
	}
	for name, limits := range map[string]interaction.SearchLimits{"rows": {Rows: 1}, "time": {Time: time.Nanosecond}} {
		s.limits = limits
		r := s.do(t, "GET", "/Patient?name:contains=x", "")
		if r.status != 422 || !strings.Contains(string(r.body), `"too-costly"`) || !strings.Contains(string(r.body), "a more selective parameter") {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	s.limits = interaction.SearchLimits{Time: time.Minute}
	s.must(t, "GET", "/Patient?name:contains=x", "")
}

// TestSlowSearchesAreTold: by shape, without values, from the threshold on.
func TestSlowSearchesAreTold(t *testing.T) {
	s := newServer(t)
	var clock atomic.Int64
	s.clock = func() time.Time { return time.UnixMilli(clock.Add(20)) }
	var told []interaction.SlowSearch
	s.slow = func(slow interaction.SlowSearch) { told = append(told, slow) }
	s.must(t, "GET", "/Patient?name=secret", "")
	if len(told) != 0 {
		t.Fatalf("told of %+v, which took less", told)
	}
	clock.Store(0)
	s.clock = func() time.Time { return time.UnixMilli(clock.Add(200)) }
	s.must(t, "GET", "/Patient?name=secret", "")
	if len(told) != 1 || told[0].Shape != "Patient?name" || told[0].Took < slowFrom || told[0].Refused != "" {
		t.Errorf("told of %+v", told)
	}
}
