package validate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

func TestAfter(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"2020", "2019", true}, {"2020", "2020", false}, {"2020-02", "2020", false}, {"2020-02", "2020-01-31", true},
		{"2020-01-02T00:00:00Z", "2020-01-01", false}, {"2020-01-02T14:00:00Z", "2020-01-01", true},
		{"2020-01-02T13:59:59Z", "2020-01-01", false}, {"2020-01-01", "2019-12-31T09:59:59Z", true},
		{"2020-01-01", "2019-12-31T10:00:00Z", false}, {"2020-12", "2020-11-30T09:00:00Z", true},
		{"2021-01-01T14:00:00Z", "2020-12", true}, {"2021-01-01T14:00:00Z", "2020", true}, {"2021-01-01T13:00:00Z", "2020", false},
		{"2020-01-01T00:00:00.5Z", "2020-01-01T00:00:00.4999999999Z", true},
		{"2020-03-01T00:00:00Z", "2020-02-29T23:59:59Z", true}, {"2020-02-29T23:59:59Z", "2020-03-01T00:00:00Z", false},
		{"2020-01-01T00:00:00+01:00", "2019-12-31T23:00:00Z", false}, {"2020-01-01T00:00:00-01:00", "2020-01-01T00:59:59Z", true},
	} {
		a, b := moment{rest: []byte(c.a)}, moment{rest: []byte(c.b)}
		if !a.dateTime() || !b.dateTime() {
			t.Fatal(c)
		}
		if got := a.after(&b); got != c.want {
			t.Errorf("%s after %s: %v", c.a, c.b, got)
		}
	}
}

// per-1 in code is what FHIRPath makes of it, but that FHIRPath decides between
// a date and a dateTime within the hours that zones can shift.
func TestPeriodAgreesWithFHIRPath(t *testing.T) {
	c, err := FHIRPath().Compile("start.hasValue().not() or end.hasValue().not() or (start <= end)")
	if err != nil {
		t.Fatal(err)
	}
	random, v, broken := rand.New(rand.NewPCG(9, 10)), New(Options{Constraints: PresenceOnly()}), 0
	for range 3000 {
		start, end := randomMoment(random), randomMoment(random)
		src := fmt.Sprintf(`{"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "period": {"start": %q, "end": %q}}`, start, end)
		d := mustParse(t, []byte(src))
		ours := Refused(v.Validate(context.Background(), d.Root(), StructureOnly))
		theirs, err := c.Broken(Focus{Value: d.Root().Get("period"), Type: "Period", Resource: d.Root(), Root: d.Root()})
		if err != nil {
			t.Fatal(err)
		}
		if mixed := strings.Contains(start, "T") != strings.Contains(end, "T"); ours != theirs && (ours || !mixed) {
			t.Errorf("%s to %s: broken %v, by FHIRPath %v", start, end, ours, theirs)
		}
		if ours {
			broken++
		}
	}
	if broken < 100 {
		t.Errorf("only %d periods were broken", broken)
	}
}

func randomMoment(random *rand.Rand) string {
	text := fmt.Sprintf("2020-%02d-%02dT%02d:00:00", 1+random.IntN(2), 1+random.IntN(3), random.IntN(24))
	switch random.IntN(5) {
	case 0:
		return text[:len("2020-01")]
	case 1:
		return text[:len("2020-01-01")]
	case 2:
		return text + fmt.Sprintf("+%02d:00", random.IntN(14))
	case 3:
		return text + fmt.Sprintf("-%02d:30", random.IntN(12))
	}
	return text + "Z"
}

func TestNarratives(t *testing.T) {
	const open = `<div xmlns="http://www.w3.org/1999/xhtml">`
	for _, c := range []struct{ div, fault string }{
		{open + `a</div>`, ""},
		{"  " + open + "<!-- x --><![CDATA[<b>]]></div>\n", ""},
		{`<div lang='en' xmlns='http://www.w3.org/1999/xhtml'>&#233;&#xe9;&eacute;</div >`, ""},
		{open + `<![CDATA[a</div>`, "CDATA"},
		{open + `<!-- a</div>`, "Failed"},
		{open + `a`, "not closed"},
		{open + `a</div>` + open + `b</div>`, "one <div> only"},
		{"", "must be a <div>"},
		{`<div/>`, "namespace"},
		{`<div xmlns="http://example.org"/>`, "namespace"},
		{open + `<p`, "does not end"},
		{open + `<p a`, "attribute is malformed"},
		{open + `<p a=b>c</p></div>`, "quotes"},
		{open + `<p a="b>c</p></div>`, "does not end"},
		{open + `<p a='b`, "does not end"},
		{open + `<p a="b"c="d">e</p></div>`, "tag is malformed"},
		{open + `<p a="b&c">e</p></div>`, "value of an attribute is malformed"},
		{open + `<p>a</b></div>`, "end tag"},
		{open + `<a href=" VBScript:x">a</a></div>`, "scripts"},
		{open + `<?php x ?>a</div>`, "Failed"},
		{`<!DOCTYPE html>` + open + `a</div>`, "must be a <div>"},
		{open + `&longerthanany;</div>`, "entity"},
		{open + `a&#;b&;</div>`, "entity"},
		{open + strings.Repeat("<b>", maxNarrativeDepth) + "a", "too deep"},
	} {
		got := narrativeFault([]byte(c.div))
		if got == "" != (c.fault == "") || !strings.Contains(got, c.fault) {
			t.Errorf("%.80s: %q, want %q", c.div, got, c.fault)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"ab":                             "ab",
		"a\x01\nb":                       "a  b",
		strings.Repeat("a", maxQuoted+1): strings.Repeat("a", maxQuoted) + "…",
		strings.Repeat("é", maxQuoted):   strings.Repeat("é", maxQuoted/2) + "…",
		"a" + strings.Repeat("é", 50):    "a" + strings.Repeat("é", (maxQuoted-1)/2) + "…",
	} {
		if got := quote([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestLongStrings(t *testing.T) {
	v := New(Options{})
	for size, refused := range map[int]bool{maxString: false, maxString + 1: true} {
		d := mustParse(t, []byte(`{"resourceType": "Patient", "name": [{"text": "`+strings.Repeat("é", size)+`"}]}`))
		if got := Refused(v.Validate(context.Background(), d.Root(), StructureOnly)); got != refused {
			t.Errorf("%d characters: refused %v", size, got)
		}
	}
}

func TestNothingIsNoResource(t *testing.T) {
	issues := New(Options{}).Validate(context.Background(), fhir.Node{}, Minimal)
	if len(issues) != 1 || !Refused(issues) {
		t.Errorf("issues %v", issues)
	}
}

// A document parsed before its names were known is judged all the same.
func TestNamesNobodyKnewYet(t *testing.T) {
	d := mustParse(t, []byte(`{"resourceType": "VisionPrescription", "lensSpecification": 1, "_lensSpecificationX": 2}`))
	got := New(Options{}).Validate(context.Background(), d.Root(), StructureOnly)
	if len(got) < 2 || got[0].Detail != "This property must be an Array, not a number" {
		t.Errorf("issues %v", got)
	}
}

// failing is Constraints that cannot compile, or cannot evaluate.
type failing struct{ compile, evaluate error }

func (f failing) Compile(string) (Constraint, error) { return f, f.compile }
func (f failing) Broken(Focus) (bool, error)         { return true, f.evaluate }

// What cannot be evaluated is told, and refuses nothing.
func TestConstraintsThatFail(t *testing.T) {
	src := []byte(`{"resourceType": "Organization", "active": true}`)
	for _, f := range []failing{{compile: errors.New("x")}, {evaluate: errors.New("x")}} {
		issues := New(Options{Constraints: f}).Validate(context.Background(), mustParse(t, src).Root(), StructureOnly)
		if len(issues) != 1 || issues[0].Severity != fault.SeverityInformation || !strings.Contains(issues[0].Detail, "org-1") {
			t.Errorf("issues %v", issues)
		}
	}
	issues := New(Options{Constraints: PresenceOnly()}).Validate(context.Background(), mustParse(t, src).Root(), StructureOnly)
	if len(issues) > 0 {
		t.Errorf("org-1 does not follow from presence, yet %v", issues)
	}
}
