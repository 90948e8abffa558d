package fhirpath_test

import (
	"bytes"
	"encoding/xml"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// leastSuite is how many expressions HL7's R4 suite has.
const leastSuite = 935

type suiteFile struct {
	Groups []struct {
		Name  string      `xml:"name,attr"`
		Tests []suiteTest `xml:"test"`
	} `xml:"group"`
}

type suiteTest struct {
	Name       string `xml:"name,attr"`
	Input      string `xml:"inputfile,attr"`
	Mode       string `xml:"mode,attr"`
	Predicate  string `xml:"predicate,attr"`
	Ordered    string `xml:"ordered,attr"`
	Functions  string `xml:"checkOrderedFunctions,attr"`
	Expression struct {
		Text    string `xml:",chardata"`
		Invalid string `xml:"invalid,attr"`
	} `xml:"expression"`
	Outputs []struct {
		Type string `xml:"type,attr"`
		Text string `xml:",chardata"`
	} `xml:"output"`
}

// suite is HL7's tests with their inputs as documents.
type suite struct {
	file   suiteFile
	inputs map[string]*fhir.Document
}

func readSuite(t testing.TB) *suite {
	t.Helper()
	s := &suite{inputs: map[string]*fhir.Document{"": nil}}
	files := map[string][]byte{}
	for name, src := range testpath.Files(t, "suites", "fhirpath-r4.tar.xz") {
		if path.Base(path.Dir(name)) != "examples" {
			files[path.Base(name)] = src
		}
	}
	if err := xml.Unmarshal(files["tests-fhir-r4.xml"], &s.file); err != nil {
		t.Fatal(err)
	}
	for _, g := range s.file.Groups {
		for _, test := range g.Tests {
			if _, ok := s.inputs[test.Input]; !ok {
				s.add(t, test.Input, files[test.Input])
			}
		}
	}
	return s
}

func (s *suite) add(t testing.TB, name string, src []byte) {
	t.Helper()
	if strings.HasSuffix(name, ".xml") {
		src = xmlToJSON(t, bytes.TrimPrefix(src, []byte("\ufeff")))
	}
	d, err := fhir.Parse(src)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	s.inputs[name] = d
}

// skipped reads testdata/skipped.txt: name, tab or spaces, reason.
func skipped(t *testing.T) map[string]string {
	t.Helper()
	src, err := os.ReadFile("testdata/skipped.txt")
	if err != nil {
		t.Fatal(err)
	}
	skip := map[string]string{}
	for line := range strings.Lines(string(src)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, reason, ok := strings.Cut(line, " ")
		if !ok {
			t.Fatalf("%s is skipped without a reason", name)
		}
		skip[name] = strings.TrimSpace(reason)
	}
	return skip
}

// TestHL7Suite runs HL7's tests of FHIRPath for R4. Those in
// testdata/skipped.txt must go on failing, so that the list stays true.
func TestHL7Suite(t *testing.T) {
	s, skip := readSuite(t), skipped(t)
	total := 0
	for _, g := range s.file.Groups {
		for _, test := range g.Tests {
			total++
			complaint := runSuiteTest(s, test)
			if _, ok := skip[test.Name]; ok {
				if complaint == "" {
					t.Errorf("%s passes: take it off testdata/skipped.txt", test.Name)
				}
				delete(skip, test.Name)
				continue
			}
			if complaint != "" {
				t.Errorf("%s/%s: %s\n\t%s", g.Name, test.Name, strings.TrimSpace(test.Expression.Text), complaint)
			}
		}
	}
	for name := range skip {
		t.Errorf("testdata/skipped.txt names %s, which the suite does not have", name)
	}
	if total < leastSuite {
		t.Errorf("the suite has %d tests, want %d", total, leastSuite)
	}
}

// suiteNow is a fixed time, later than all in the fixtures.
var suiteNow = time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.FixedZone("", 3600))

// runSuiteTest gives a complaint, or "".
func runSuiteTest(s *suite, test suiteTest) string {
	var root fhir.Node // some tests have no input
	if doc := s.inputs[test.Input]; doc != nil {
		root = doc.Root()
	}
	got, err := evaluateSuiteTest(test, root)
	if test.Expression.Invalid != "" {
		if err == nil {
			return "should fail, and gives " + show(got)
		}
		return ""
	}
	if err != nil {
		return err.Error()
	}
	if test.Predicate == "true" {
		if len(got) != 1 {
			got = []fhirpath.Value{fhirpath.Boolean(len(got) > 0)}
		} else if _, ok := got[0].Bool(); !ok {
			got[0] = fhirpath.Boolean(true)
		}
	}
	return compareOutputs(test, got)
}

func evaluateSuiteTest(test suiteTest, root fhir.Node) ([]fhirpath.Value, error) {
	x, err := fhirpath.Compile(test.Expression.Text)
	if err != nil {
		return nil, err
	}
	if test.Mode == "strict" || test.Expression.Invalid == "semantic" {
		if err := x.Check(root.ResourceType()); err != nil {
			return nil, err
		}
	}
	return x.Eval(&fhirpath.Env{Now: suiteNow}, root)
}

func compareOutputs(test suiteTest, got []fhirpath.Value) string {
	if len(got) != len(test.Outputs) {
		return "gives " + show(got)
	}
	left := append([]fhirpath.Value(nil), got...)
	for i, want := range test.Outputs {
		at := 0
		for test.Ordered == "false" && at < len(left)-1 && !fits(want.Type, want.Text, left[at]) {
			at++
		}
		if !fits(want.Type, want.Text, left[at]) {
			return "gives " + show(got) + ", wrong from " + show(got[i:i+1])
		}
		left = append(left[:at], left[at+1:]...)
	}
	return ""
}

// fits compares a result with an output: by its text, in which dates and times
// carry @ and T.
func fits(typeName, want string, got fhirpath.Value) bool {
	if typeName != "" && !strings.EqualFold(got.TypeName(), typeName) && typeName != "date" {
		return false
	}
	return want == got.String() || strings.TrimPrefix(strings.TrimPrefix(want, "@"), "T") == got.String()
}

func show(values []fhirpath.Value) string {
	var b strings.Builder
	b.WriteString("{")
	for i, v := range values {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(v.TypeName() + " " + v.String())
	}
	return b.String() + "}"
}

func evaluate(src string, env *fhirpath.Env, root fhir.Node) ([]fhirpath.Value, error) {
	x, err := fhirpath.Compile(src)
	if err != nil {
		return nil, err
	}
	return x.Eval(env, root)
}
