package validate

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// syntheaBundles is how many of the 122 transaction bundles a test takes; the
// first ones hold every type that the set has for a patient.
const syntheaBundles = 6

func TestSyntheaBundlesAreValid(t *testing.T) {
	f, err := os.Open(testpath.Shared(t, "data", "synthea-r4-120-patients.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, n := New(Options{}), 0
	files(t, f, func(name string, src []byte) bool {
		noIssues(t, v, name, src)
		n++
		return n < syntheaBundles
	})
	if n < syntheaBundles {
		t.Errorf("%d bundles, want %d", n, syntheaBundles)
	}
}

func noIssues(t *testing.T, v *Validator, name string, src []byte) {
	t.Helper()
	d, err := fhir.Parse(src)
	if err != nil {
		t.Fatal(name, err)
	}
	for _, i := range v.Validate(context.Background(), d.Root(), StructureOnly) {
		t.Errorf("%s: %s", name, line(i))
	}
}

// embedded takes every n-th resource of the preload's first parts, so that
// types stand in it as often as they do there.
func embedded(t testing.TB, n int) [][]byte {
	t.Helper()
	parts, err := synthea.Embedded().Parts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, part := range parts[:min(3, len(parts))] {
		in, err := part.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 16<<20)
		for i := 0; lines.Scan(); i++ {
			if i%n == 0 {
				all = append(all, bytes.Clone(lines.Bytes()))
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestEmbeddedSyntheaIsValid(t *testing.T) {
	v := New(Options{})
	for _, src := range embedded(t, 11) {
		noIssues(t, v, "embedded", src)
	}
}

// parsed parses after every table is compiled, as in a server that runs.
func parsed(t testing.TB, v *Validator, sources [][]byte) []*fhir.Document {
	t.Helper()
	docs := make([]*fhir.Document, len(sources))
	for round := range 2 {
		for i, src := range sources {
			d, err := fhir.Parse(src)
			if err != nil {
				t.Fatal(err)
			}
			docs[i] = d
			if round == 0 {
				v.Validate(context.Background(), d.Root(), StructureOnly)
			}
		}
	}
	return docs
}

// What has no fault costs no memory.
func TestNoAllocations(t *testing.T) {
	v := New(Options{Constraints: PresenceOnly()})
	for _, d := range parsed(t, v, embedded(t, 101)) {
		if d.Root().Get("text").Exists() || d.Root().Get("contained").Exists() {
			continue // narratives are decoded, contained resources are listed
		}
		var issues []fault.Issue
		got := testing.AllocsPerRun(3, func() { issues = v.Validate(context.Background(), d.Root(), StructureOnly) })
		if got > 0 || len(issues) > 0 {
			t.Errorf("%s: %v allocations, %d issues", d.ResourceType(), got, len(issues))
		}
	}
}

// BenchmarkStructure is the cost of a preload's resources without FHIRPath.
func BenchmarkStructure(b *testing.B) { benchmark(b, PresenceOnly()) }

// BenchmarkInvariants is the same with all invariants.
func BenchmarkInvariants(b *testing.B) { benchmark(b, FHIRPath()) }

func benchmark(b *testing.B, constraints Constraints) {
	v := New(Options{Constraints: constraints})
	docs := parsed(b, v, embedded(b, 7))
	size := 0
	for _, d := range docs {
		size += len(d.Bytes())
	}
	b.SetBytes(int64(size / len(docs)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		v.Validate(context.Background(), docs[i%len(docs)].Root(), StructureOnly)
	}
}
