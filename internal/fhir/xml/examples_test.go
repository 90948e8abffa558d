package xml_test

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/fhir/xml"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// leastExamples is how many of HL7's examples the suite holds.
const leastExamples = 424

// judge holds the findings of one suite against testdata/exceptions.txt, of which
// each line is a file, what is said of it, and the reason, with bars between.
func judge(t *testing.T, suite string, findings map[string]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/exceptions.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.Split(line, " | ")
		if strings.HasPrefix(line, "#") || len(parts) != 3 || !strings.HasPrefix(line, suite) {
			continue
		}
		found, there := findings[parts[0]]
		if !there || !strings.Contains(found, parts[1]) {
			t.Errorf("%s: %q, want %q", parts[0], found, parts[1])
		}
		delete(findings, parts[0])
	}
	for name, found := range findings {
		if found != "" {
			t.Errorf("%s: %s", name, found)
		}
	}
}

// roundTrip sends JSON through XML and says how it comes back different.
func roundTrip(t testing.TB, src []byte) string {
	t.Helper()
	d, err := fhir.Parse(src)
	if err != nil {
		return err.Error()
	}
	defer d.Release()
	for _, write := range []func([]byte, fhir.Node) ([]byte, error){xml.AppendXML, xml.AppendPretty} {
		text, err := write(nil, d.Root())
		if err != nil {
			return err.Error()
		}
		back, err := xml.ToJSON(text, fhir.Limits{})
		if err != nil {
			return err.Error()
		}
		again, err := fhir.Parse(back)
		if err != nil {
			return err.Error()
		}
		diff := sameJSON(d.Root(), again.Root())
		if diff == "" {
			diff = sameJSON(again.Root(), d.Root())
		}
		again.Release()
		if diff != "" {
			return diff
		}
	}
	return ""
}

// "JSON and XML, each lossless": every example of HL7 comes back from XML as it was.
func TestExamplesThroughXML(t *testing.T) {
	all := suite(t, "hl7-r4-examples-half.tar.xz", ".json")
	if len(all) < leastExamples {
		t.Errorf("%d examples, want %d", len(all), leastExamples)
	}
	findings := map[string]string{}
	for name, src := range all {
		findings[name] = roundTrip(t, src)
	}
	judge(t, "hl7-r4-examples-half/", findings)
}

// So do the resources beside the suite of FHIRPath.
func TestFixturesThroughXML(t *testing.T) {
	findings := map[string]string{}
	for name, src := range suite(t, "fhirpath-r4.tar.xz", ".json") {
		d, err := fhir.Parse(src)
		if err != nil {
			continue // not all of them are JSON
		}
		_, storable := r4.TypeByName(d.Root().ResourceType())
		d.Release()
		if !storable {
			continue
		}
		findings[name] = roundTrip(t, src)
	}
	judge(t, "r4/", findings)
}

// Synthea's bundles: one patient's whole record each.
func TestSyntheaThroughXML(t *testing.T) {
	const enough = 3 // of about 120
	f, err := os.Open(testpath.Shared(t, "data", "synthea-r4-120-patients.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := 0
	eachFile(t, tar.NewReader(f), func(name string, src []byte) bool {
		if strings.HasSuffix(name, ".json") {
			seen++
			if diff := roundTrip(t, src); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		return seen < enough
	})
	if seen < enough {
		t.Errorf("%d bundles, want %d", seen, enough)
	}
}

// HL7's XML comes back from JSON as another reader of XML would have it.
func TestXMLThroughJSON(t *testing.T) {
	const fixtures = 25 // all but the tests themselves
	findings := map[string]string{}
	for name, src := range suite(t, "fhirpath-r4.tar.xz", ".xml") {
		if bytes.Contains(src, []byte(`xmlns="http://hl7.org/fhir"`)) {
			findings["xml:"+name] = backFromJSON(src)
		}
	}
	if len(findings) != fixtures {
		t.Errorf("%d fixtures, want %d", len(findings), fixtures)
	}
	judge(t, "xml:r4/", findings)
}

// backFromJSON sends XML through JSON and says how it comes back different.
func backFromJSON(src []byte) string {
	text, err := xml.ToJSON(src, fhir.Limits{})
	if err != nil {
		return err.Error()
	}
	d, err := fhir.Parse(text)
	if err != nil {
		return err.Error()
	}
	back, err := xml.AppendXML(nil, d.Root())
	if err != nil {
		return err.Error()
	}
	want, err := canonical(src)
	if err != nil {
		return "encoding/xml refuses the fixture: " + err.Error()
	}
	got, err := canonical(back)
	if err != nil {
		return "encoding/xml refuses what was written: " + err.Error()
	}
	if got != want {
		return "it differs:\n" + got + "\n" + want
	}
	return ""
}
