package fhirapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// A path never panics, and its segments hold no slash that was not encoded.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{"", "/", "/Patient/1", "//Patient//1/_history/2", "/%50atient/a%2Fb", "/%", "/Patient/1/*", "/\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		segments, err := split(raw)
		if err != nil {
			if k := fault.From(err).Kind; k != fault.Syntax && k != fault.NotFound {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		if !strings.Contains(raw, "%") && strings.Join(segments, "/") != strings.Join(strings.FieldsFunc(raw, func(r rune) bool { return r == '/' }), "/") {
			t.Errorf("%q became %q", raw, segments)
		}
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "BREW"} {
			if _, err := find(method, segments); err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.MethodNotAllowed) {
				t.Errorf("%s %q: %v", method, raw, err)
			}
		}
	})
}

// Prefer never fails, and what is applied was asked for.
func FuzzPrefer(f *testing.F) {
	for _, seed := range []string{"return=minimal", "return=minimal, handling=lenient", `return="representation"; x`, "handling = strict", ",;=", "return=OperationOutcome"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		p := readPrefer(http.Header{"Prefer": {header}})
		if p.want != wantDefault && !strings.Contains(strings.ToLower(header), "return") {
			t.Errorf("%q gives %v", header, p)
		}
		for _, a := range []string{p.returns, p.handling} {
			if !utf8.ValidString(a) || strings.ContainsAny(a, ",;\r\n ") {
				t.Errorf("%q would be written as %q", header, a)
			}
		}
	})
}

// Accept never panics; a list with JSON and nothing against it is taken.
func FuzzAcceptable(f *testing.F) {
	for _, seed := range []string{"", "*/*", "application/fhir+json;q=0", "text/html, application/json", "a;b=c;;", `application/fhir+json; x="`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		x := &exchange{w: httptest.NewRecorder(), r: httptest.NewRequest(http.MethodGet, "/", nil)}
		if err := x.choose("Accept", list); err != nil && !fault.Is(err, fault.NotAcceptable) {
			t.Error(err)
		}
		if err := x.choose("Accept", "application/fhir+json,"+list); err != nil {
			t.Errorf("%q: %v", list, err)
		}
		takesGzip(list)
	})
}
