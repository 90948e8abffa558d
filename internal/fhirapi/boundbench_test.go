package fhirapi_test

import (
	"testing"

	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/smart"
)

// BenchmarkBoundRead reads one resource under no conditions and under those of a
// patient/ scope, in the embedded engine.
func BenchmarkBoundRead(b *testing.B) {
	s := embedded(b, stopped)
	s.must(b, "PUT", "/Patient/a", `{"resourceType":"Patient","id":"a"}`)
	for range 200 {
		s.must(b, "POST", "/Observation", about("", "a", "x"))
	}
	s.must(b, "PUT", "/Observation/o", about("o", "a", "x"))
	scopes, err := smart.ParseScopes("patient/*.read", smart.Features{})
	if err != nil {
		b.Fatal(err)
	}
	bound, _ := smart.NewGrant(smart.World{Registry: registry, Key: s.store.HashKey(), Base: base}, scopes.Resources, smart.Launch{Patient: "a"})
	for name, grant := range map[string]*search.Grant{"everything": search.Everything(), "patient": bound} {
		b.Run(name, func(b *testing.B) {
			s.grant = grant
			session := s.session()
			session.Touched = nil
			b.ReportAllocs()
			for b.Loop() {
				if _, err := session.Read(b.Context(), "Observation", "o"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
