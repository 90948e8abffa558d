package fhirapi_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"encoding/json"
	"io"
	"os"
	"path"
	"reflect"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// refusedExamples are those of HL7's examples that break R4 themselves; why, is
// told in internal/validate/examples_test.go. Parameters and OperationOutcome
// are not stored at all.
var refusedExamples = map[string]bool{
	"ig-r4.json": true, "ImplementationGuide-fhir.json": true, "Questionnaire-qs1.json": true,
	"Questionnaire-zika-virus-exposure-assessment.json": true, "ActivityDefinition-blood-tubes-supply.json": true,
	"Observation-clinical-gender.json": true, "DeviceMetric-example.json": true,
}

// leastExamples is how many of HL7's examples must have been stored, lest an
// archive that cannot be read passes.
const leastExamples = 400

// HL7's own examples are stored at structure-only and read back equal, also as XML (issue 5's
// bar).
func TestExamples(t *testing.T) {
	f, err := os.Open(testpath.Shared(t, "suites", "hl7-r4-examples-half.tar.xz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := xz.NewReader(bufio.NewReader(f)) // it reads byte by byte
	if err != nil {
		t.Fatal(err)
	}
	s, n := newServer(t), 0
	s.check = true
	for archive := tar.NewReader(plain); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name, packed := strings.CutSuffix(path.Base(h.Name), ".bz2")
		var from io.Reader = archive
		if packed {
			from = bzip2.NewReader(archive)
		}
		body, err := io.ReadAll(from)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".json") && storeExample(t, s, name, body) {
			n++
		}
	}
	if n < leastExamples {
		t.Errorf("%d examples were stored", n)
	}
}

func storeExample(t *testing.T, s *server, name string, body []byte) bool {
	t.Helper()
	doc, err := fhir.Parse(body)
	if err != nil {
		t.Fatal(name, err)
	}
	typ := doc.ResourceType()
	if typ == "Parameters" || typ == "OperationOutcome" {
		return false
	}
	made := s.do(t, "POST", "/"+typ, string(body), "x-amzn-healthlake-fhir-validation-level: structure-only")
	if refusedExamples[name] != (made.status == 400) || made.status != 400 && made.status != 201 {
		t.Errorf("%s: %d %.300s", name, made.status, made.body)
	}
	if made.status != 201 {
		return false
	}
	read := s.must(t, "GET", "/"+typ+"/"+made.text("id"), "")
	if sent, got := stored(t, doc), stored(t, read.root.Document()); !bytes.Equal(sent, got) {
		t.Errorf("%s came back different from byte %d: %.200s, want %.200s", name, first(sent, got), got[first(sent, got):], sent[first(sent, got):])
	}
	throughXML(t, s, name, typ+"/"+made.text("id"), read.body)
	return true
}

// throughXML reads a resource as XML, writes that back, and compares: the order
// of members is R4's then, all else as it was.
func throughXML(t *testing.T, s *server, name, path string, before []byte) {
	t.Helper()
	asXML := s.do(t, "GET", "/"+path, "", "Accept: application/fhir+xml")
	if asXML.status != 200 {
		t.Errorf("%s as XML: %d %.300s", name, asXML.status, asXML.body)
		return
	}
	after := s.do(t, "POST", "/$convert", string(asXML.body), "Content-Type: application/fhir+xml")
	if !reflect.DeepEqual(values(t, before), values(t, after.body)) {
		t.Errorf("%s is another behind XML: %.300s", name, after.body)
	}
}

// values is JSON without the order of members, numbers as they are written.
func values(t *testing.T, text []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Error(err)
	}
	return v
}

// stored is a resource without white space and what the server sets, to compare
// by.
func stored(t *testing.T, doc *fhir.Document) []byte {
	t.Helper()
	form, err := fhir.Store(doc)
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Replace(fhir.StoredJSON(form), []byte(`"meta":{},`), nil, 1)
	return bytes.Replace(text, []byte(`,"meta":{}`), nil, 1)
}

// first is the place of the first difference.
func first(a, b []byte) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return i
}
