package xml_test

import (
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/xml"
)

// exampleTexts are HL7's examples of usual length in both forms.
func exampleTexts(b *testing.B) (docs []fhir.Node, texts [][]byte, total int64) {
	const usual = 10_000 // a few definitions would outweigh all resources
	for _, src := range suite(b, "hl7-r4-examples-half.tar.xz", ".json") {
		if len(src) > usual {
			continue
		}
		root := parse(b, src)
		text, err := xml.AppendXML(nil, root)
		if err != nil {
			b.Fatal(err)
		}
		docs, texts, total = append(docs, root), append(texts, text), total+int64(len(text))
	}
	return docs, texts, total
}

func BenchmarkToJSON(b *testing.B) {
	_, texts, total := exampleTexts(b)
	b.SetBytes(total / int64(len(texts)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := xml.ToJSON(texts[i%len(texts)], fhir.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendXML(b *testing.B) {
	docs, texts, total := exampleTexts(b)
	b.SetBytes(total / int64(len(texts)))
	b.ReportAllocs()
	var dst []byte
	for i := 0; b.Loop(); i++ {
		var err error
		if dst, err = xml.AppendXML(dst[:0], docs[i%len(docs)]); err != nil {
			b.Fatal(err)
		}
	}
}
