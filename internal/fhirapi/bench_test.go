package fhirapi_test

import (
	"fmt"
	"testing"
)

func BenchmarkCapabilities(b *testing.B) {
	s := newServer(b)
	b.ReportAllocs()
	for b.Loop() {
		s.must(b, "GET", "/metadata", "")
	}
}

// BenchmarkCreate, BenchmarkRead and BenchmarkSearch go through the wire over
// the embedded engine, one client at a time.
func BenchmarkCreate(b *testing.B) {
	s := onDisk(b)
	s.check = true
	b.ReportAllocs()
	for b.Loop() {
		s.must(b, "POST", "/Observation", observation)
	}
}

const observation = `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},
	"subject":{"reference":"Patient/a"},"effectiveDateTime":"2026-01-01","valueQuantity":{"value":72.0,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}`

func BenchmarkRead(b *testing.B) {
	s := onDisk(b)
	s.check = true
	s.must(b, "PUT", "/Patient/a", `{"resourceType":"Patient","id":"a"}`)
	b.ReportAllocs()
	for b.Loop() {
		s.must(b, "GET", "/Patient/a", "")
	}
}

func BenchmarkSearch(b *testing.B) {
	s := onDisk(b)
	s.check = true
	for i := range 100 {
		s.must(b, "PUT", fmt.Sprintf("/Patient/p%d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","gender":"male"}`, i))
	}
	b.ReportAllocs()
	for b.Loop() {
		s.must(b, "GET", "/Patient?gender=male", "")
	}
}
