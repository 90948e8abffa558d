//go:build unix

package fhirapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/synthea"
)

// BenchmarkSyntheaSearches is the kinds of search of the latency table, through
// the wire's handlers, over the patients that a preload gives; "cpu-µs/op" is the
// process's. What a page of 20 costs more than the same page's bytes, written by
// a handler that does nothing else, is what search costs ("bare").
func BenchmarkSyntheaSearches(b *testing.B) {
	s := onDisk(b)
	s.loadSynthea(b)
	patients := s.idsOf(b, "/Patient?_count=64")
	for _, kind := range []struct{ name, query string }{
		{"token", "/Observation?code=http://loinc.org|8302-2&_count=20"},
		{"token/untold", "/Observation?code=http://loinc.org|8302-2&_count=20&_total=none"},
		{"patient+token", "/Observation?patient={patient}&code=http://loinc.org|8302-2&_count=20"},
		{"token+date+quantity", "/Observation?code=http://loinc.org|8302-2&date=ge2015&value-quantity=gt150||cm&_count=20"},
		{"name", "/Patient?name=mar&_count=20"},
		{"chain", "/Observation?patient.name=mar&_count=20"},
		{"chain+token", "/Observation?code=http://loinc.org|8302-2&patient.gender=female&_count=20"},
		{"has", "/Patient?_has:Observation:patient:code=http://loinc.org|8302-2&_count=20"},
		{"sort", "/Observation?patient={patient}&_sort=-date&_count=20"},
		{"sort/token", "/Observation?code=http://loinc.org|8302-2&_sort=-date&_count=20"},
		{"total", "/Observation?status=final&_total=accurate&_count=20"},
		{"total/count", "/Observation?status=final&_summary=count"},
	} {
		b.Run(kind.name, func(b *testing.B) {
			targets := make([]string, len(patients))
			for i, id := range patients {
				targets[i] = "/r4" + strings.NewReplacer("{patient}", "Patient/"+id, "|", "%7C").Replace(kind.query)
			}
			b.ReportAllocs()
			b.ResetTimer()
			cpu := cpuTime(b)
			size := 0
			for n := range b.N {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, targets[n%len(targets)], nil))
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
				size += w.Body.Len()
			}
			b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(size)/float64(b.N), "bytes/op")
		})
	}
}

// loadSynthea fills the store with the built-in patients.
func (s *server) loadSynthea(b *testing.B) {
	b.Helper()
	parts, err := synthea.Embedded().Parts(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var streams []bulk.Stream
	for _, p := range parts {
		streams = append(streams, bulk.Stream{Name: p.Name, Resources: int64(p.Resources), Open: p.Open})
	}
	loader := bulk.Loader{Store: s.store, Types: registry, Extractor: searchparam.NewExtractor(registry, s.store.HashKey(), base+"/"), Workers: 2}
	if err := loader.Load(b.Context(), "preload", streams); err != nil {
		b.Fatal(err)
	}
}

func (s *server) idsOf(b *testing.B, target string) (ids []string) {
	b.Helper()
	var found struct {
		Entry []struct{ Resource struct{ ID string } }
	}
	if err := json.Unmarshal(s.must(b, "GET", target, "").body, &found); err != nil {
		b.Fatal(err)
	}
	for _, e := range found.Entry {
		ids = append(ids, e.Resource.ID)
	}
	return ids
}

// cpuTime is what the process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
