package validate

import (
	"context"
	"testing"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// FuzzValidate takes any JSON: no panic, bounded issues, each with a place, and
// an answer that does not change.
func FuzzValidate(f *testing.F) {
	_, cases := readRules(f)
	for _, c := range cases {
		f.Add([]byte(c.resource))
	}
	v := New(Options{BestPractice: true})
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := fhir.ParseLimits(src, fhir.Limits{MaxDepth: 64})
		if err != nil {
			return
		}
		for _, level := range []Level{Minimal, StructureOnly, Strict} {
			issues := v.Validate(context.Background(), d.Root(), level)
			if len(issues) > MaxIssues {
				t.Fatalf("%d issues", len(issues))
			}
			for i, issue := range issues {
				if i < MaxIssues-1 && (issue.Line < 1 || issue.Col < 1 || issue.Code == "") || !utf8.ValidString(issue.Detail) {
					t.Fatalf("%v", issue)
				}
			}
			if again := v.Validate(context.Background(), d.Root(), level); len(again) != len(issues) {
				t.Fatalf("%d issues, then %d", len(issues), len(again))
			}
		}
	})
}

// FuzzNarrative takes any text: no panic, and nothing dangerous gets through.
func FuzzNarrative(f *testing.F) {
	for _, seed := range []string{
		`<div xmlns="http://www.w3.org/1999/xhtml">a</div>`, `<div xmlns='http://www.w3.org/1999/xhtml'><p a="b">&amp;<br/></p></div>`,
		`<div xmlns="http://www.w3.org/1999/xhtml"><!-- a --><![CDATA[b]]></div>`, `<div/>`, `<`, `</div>`, `<div a=`, `&`, `<div xmlns="x>`,
		`<div xmlns="http://www.w3.org/1999/xhtml"><script/>a</div>`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if narrativeFault(text) != "" {
			return
		}
		s := xhtmlScanner{rest: text}
		for s.step() {
		}
		if s.depth != 0 || !s.rooted || len(s.rest) != 0 {
			t.Fatalf("accepted %q", text)
		}
	})
}

// FuzzFormula takes any expression: what is not understood is opaque.
func FuzzFormula(f *testing.F) {
	v := New(Options{})
	d, err := fhir.Parse([]byte(`{"resourceType": "Patient"}`))
	if err != nil {
		f.Fatal(err)
	}
	v.Validate(context.Background(), d.Root(), StructureOnly)
	for _, s := range v.shapes {
		for _, r := range s.rules {
			f.Add(r.invariant.Expression)
		}
	}
	s := v.shapes["Patient"]
	f.Fuzz(func(t *testing.T, expression string) {
		if len(expression) > 4<<10 {
			return
		}
		formula := parseFormula(s, expression)
		formula.eval(0, d.Root())
		formula.eval(^uint64(0), d.Root())
	})
}
