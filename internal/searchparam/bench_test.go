package searchparam

import (
	"bufio"
	"bytes"
	"context"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/synthea"
)

// sampled is a resource with its document.
type sampled struct {
	key plan.Key
	doc *fhir.Document
}

// sample takes every n-th resource of Synthea's embedded patients, so that types
// stand in it as often as in a preload.
func sample(t testing.TB, n int) []sampled {
	t.Helper()
	parts, err := synthea.Embedded().Parts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var all []sampled
	for _, part := range parts[:min(4, len(parts))] {
		all = append(all, samplePart(t, part, n)...)
	}
	return all
}

func samplePart(t testing.TB, part synthea.Part, n int) []sampled {
	t.Helper()
	in, err := part.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var all []sampled
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for i := 0; lines.Scan(); i++ {
		if i%n != 0 {
			continue
		}
		doc, err := fhir.Parse(bytes.Clone(lines.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		typ, _ := r4.TypeByName(doc.ResourceType())
		all = append(all, sampled{plan.Key{Type: typ, ID: doc.ID()}, doc})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// BenchmarkExtractSynthea is the cost of a preload's resources.
func BenchmarkExtractSynthea(b *testing.B) {
	r := NewRegistry()
	for _, t := range r.Types() {
		r.programOf(t) // names are interned before resources are parsed, as in a server that runs
	}
	x := NewExtractor(r, plan.HashKey{1}, "")
	all := sample(b, 7)
	n, size := 0, 0
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		of := all[i%len(all)]
		entries, err := x.Extract(of.key, of.doc.Root())
		if err != nil {
			b.Fatal(err)
		}
		n += len(entries)
		for _, e := range entries {
			size += len(e.Value)
		}
	}
	b.ReportMetric(float64(n)/float64(b.N), "entries/op")
	b.ReportMetric(float64(size)/float64(b.N), "entrybytes/op")
}

// Bounds on entries in a preload: the mean of a resource, and of those that
// only say what is there and what is not. Each entry costs every write.
const (
	mostEntries = 21.0
	mostMarkers = 4.0
)

func TestEntriesAreFew(t *testing.T) {
	x := NewExtractor(NewRegistry(), plan.HashKey{1}, "")
	all := sample(t, 37)
	entries, markers := 0, 0
	for _, r := range all {
		list, err := x.Extract(r.key, r.doc.Root())
		if err != nil {
			t.Fatal(err)
		}
		entries += len(list)
		for _, e := range list {
			if f := search.Facet(e.Param.Facet()); f == search.Present || f == search.Absent {
				markers++
			}
		}
	}
	n := float64(len(all))
	t.Logf("%.1f entries in a resource, %.1f of them markers", float64(entries)/n, float64(markers)/n)
	if float64(entries) > mostEntries*n || float64(markers) > mostMarkers*n {
		t.Errorf("%.1f entries in a resource, %.1f of them markers", float64(entries)/n, float64(markers)/n)
	}
}
