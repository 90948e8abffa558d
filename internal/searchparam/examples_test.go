package searchparam

import (
	"archive/tar"
	"bufio"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// leastExamples is how many of HL7's examples the suite holds.
const leastExamples = 424

// examples calls yield for each of HL7's example resources (R4 4.0.1, CC0).
func examples(t testing.TB, yield func(name string, d *fhir.Document)) {
	t.Helper()
	f, err := os.Open(testpath.Shared(t, "suites", "hl7-r4-examples-half.tar.xz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := xz.NewReader(bufio.NewReader(f)) // it reads byte by byte
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(plain); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(h.Name, ".json") {
			continue
		}
		src, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		d, err := fhir.Parse(src)
		if err != nil {
			t.Fatal(h.Name, err)
		}
		yield(h.Name, d)
	}
}

// Every example of HL7 is extracted without a warning, within the contract's
// bounds.
func TestExamplesAreExtracted(t *testing.T) {
	x := NewExtractor(NewRegistry(), plan.HashKey{1}, "")
	n := 0
	examples(t, func(name string, d *fhir.Document) {
		n++
		typ, ok := r4.TypeByName(d.ResourceType())
		if !ok {
			t.Errorf("%s: no type %q", name, d.ResourceType())
			return
		}
		entries, issues, err := x.Inspect(plan.Key{Type: typ, ID: d.ID()}, d.Root())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, issue := range issues {
			t.Errorf("%s: %s %s", name, issue.Expression, issue.Detail)
		}
		checkEntries(t, name, entries)
	})
	if n < leastExamples {
		t.Errorf("%d examples, want %d", n, leastExamples)
	}
}

// checkEntries checks what plan.Entry promises: order, once each, bounded.
func checkEntries(t *testing.T, name string, entries []plan.Entry) {
	t.Helper()
	for i, e := range entries {
		if len(e.Value) > plan.MaxValueBytes {
			t.Errorf("%s: an entry of %d bytes", name, len(e.Value))
		}
		if i == 0 {
			continue
		}
		before := entries[i-1]
		if before.Param > e.Param || before.Param == e.Param && string(before.Value) >= string(e.Value) {
			t.Errorf("%s: entries %d and %d are out of order or the same", name, i-1, i)
		}
	}
}

func BenchmarkExtract(b *testing.B) {
	x := NewExtractor(NewRegistry(), plan.HashKey{1}, "")
	type resource struct {
		key plan.Key
		doc *fhir.Document
	}
	var all []resource
	examples(b, func(_ string, d *fhir.Document) {
		typ, _ := r4.TypeByName(d.ResourceType())
		switch d.ResourceType() {
		case "Observation", "Patient", "Encounter", "Condition", "Procedure", "Claim", "MedicationRequest", "DiagnosticReport":
			all = append(all, resource{plan.Key{Type: typ, ID: d.ID()}, d})
		}
	})
	n := 0
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		r := all[i%len(all)]
		entries, err := x.Extract(r.key, r.doc.Root())
		if err != nil {
			b.Fatal(err)
		}
		n += len(entries)
	}
	b.ReportMetric(float64(n)/float64(b.N), "entries/op")
}
