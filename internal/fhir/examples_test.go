package fhir_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// leastExamples is how many of HL7's examples the suite holds.
const leastExamples = 424

// examples reads HL7's example resources (R4 4.0.1, CC0).
func examples(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for name, src := range testpath.Files(t, "suites", "hl7-r4-examples-half.tar.xz") {
		if strings.HasSuffix(name, ".json") {
			all[name] = src
		}
	}
	return all
}

func TestExamplesSurvive(t *testing.T) {
	all := examples(t)
	if len(all) < leastExamples {
		t.Errorf("%d examples, want %d", len(all), leastExamples)
	}
	for name, src := range all {
		d, err := fhir.Parse(src)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		compare(t, d)
		if !bytes.Equal(fhir.Apply(d, nil), src) {
			t.Errorf("%s changes without an edit", name)
		}
		checkStored(t, d)
		d.Release()
	}
}

// What decimals look like must survive everything (R4 json.html: "precision").
func TestDecimalsStayAsWritten(t *testing.T) {
	src := `{"resourceType":"Observation","component":[{"valueQuantity":{"value":1.10}},{"valueQuantity":{"value":1e3}},` +
		`{"valueQuantity":{"value":0.0000001}},{"valueQuantity":{"value":-0.0}},{"valueQuantity":{"value":123456789012345678901234567890.50}}]}`
	d := mustParse(t, src)
	read := mustParse(t, string(fhir.AppendResource(nil, store(t, src), "x", 1, noon)))
	edited := mustParse(t, string(fhir.Apply(d, []fhir.Edit{fhir.Set(d.Root(), "status", []byte(`"final"`))})))
	for i, want := range []string{"1.10", "1e3", "0.0000001", "-0.0", "123456789012345678901234567890.50"} {
		for _, doc := range []*fhir.Document{d, read, edited} {
			if got := doc.Root().Get("component").Index(i).Get("valueQuantity").Get("value").Text(); got != want {
				t.Errorf("%s became %s", want, got)
			}
		}
	}
}

// The benchmarks take the examples without white space, which is how resources
// mostly travel.
func benchmarkTexts(b *testing.B) (texts [][]byte, total int64) {
	for _, src := range examples(b) {
		text := fhir.Compact(src)
		if len(text) > 10_000 {
			continue // a few definitions would outweigh all resources
		}
		texts = append(texts, text)
		total += int64(len(text))
	}
	return texts, total
}

func BenchmarkParse(b *testing.B) {
	texts, total := benchmarkTexts(b)
	b.SetBytes(total / int64(len(texts)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d, err := fhir.Parse(texts[i%len(texts)])
		if err != nil {
			b.Fatal(err)
		}
		d.Release()
	}
}

func BenchmarkStore(b *testing.B) {
	texts, total := benchmarkTexts(b)
	docs := make([]*fhir.Document, len(texts))
	for i, text := range texts {
		docs[i] = mustParse(b, string(text))
	}
	b.SetBytes(total / int64(len(texts)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := fhir.Store(docs[i%len(docs)]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendResource(b *testing.B) {
	texts, total := benchmarkTexts(b)
	stored := make([][]byte, len(texts))
	for i, text := range texts {
		stored[i] = store(b, string(text))
	}
	b.SetBytes(total / int64(len(texts)))
	b.ReportAllocs()
	var dst []byte
	for i := 0; b.Loop(); i++ {
		dst = fhir.AppendResource(dst[:0], stored[i%len(stored)], "61ebe359-bfdc-4613-8bf2-c5e300945f0a", 3, noon)
	}
}

func BenchmarkParseDate(b *testing.B) {
	for b.Loop() {
		if _, _, err := fhir.ParseDate("2020-01-02T03:04:05.678+09:30"); err != nil {
			b.Fatal(err)
		}
	}
}
