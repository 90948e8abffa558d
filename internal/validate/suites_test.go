package validate

import (
	"archive/tar"
	"compress/bzip2"
	"io"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/testpath"
)

// leastExamples is how many of HL7's examples the suite holds.
const leastExamples = 424

// examples calls yield for each of HL7's example resources (R4 4.0.1, CC0).
func examples(t testing.TB, yield func(name string, src []byte) bool) {
	t.Helper()
	for name, src := range testpath.Files(t, "suites", "hl7-r4-examples-half.tar.xz") {
		if strings.HasSuffix(name, ".json") && !yield(name, src) {
			return
		}
	}
}

// files calls yield for each JSON file of an archive.
func files(t testing.TB, in io.Reader, yield func(name string, src []byte) bool) {
	t.Helper()
	for tr := tar.NewReader(in); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var in io.Reader = tr
		switch {
		case strings.HasSuffix(h.Name, ".json.bz2"):
			in = bzip2.NewReader(tr)
		case !strings.HasSuffix(h.Name, ".json"):
			continue
		}
		src, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if !yield(h.Name, src) {
			return
		}
	}
}
