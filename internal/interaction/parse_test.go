package interaction

import (
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// Version tags as R4 and RFC 9110 write them, and what clients send besides
// (R4 http.html#versioning).
func TestParseMatch(t *testing.T) {
	tests := []struct {
		match, none string
		want        Match
		kind        fault.Kind
		fails       bool
	}{
		{match: "", want: Match{}},
		{match: `W/"3"`, want: Match{Version: 3}},
		{match: `"3"`, want: Match{Version: 3}},
		{match: ` 3 `, want: Match{Version: 3}},
		{match: `*`, want: Match{Exists: true}},
		{none: `*`, want: Match{Absent: true}},
		{match: `W/"x"`, kind: fault.Precondition, fails: true},
		{match: `"01"`, kind: fault.Precondition, fails: true},
		{match: `"0"`, kind: fault.Precondition, fails: true},
		{match: `"99999999999999999999"`, kind: fault.Precondition, fails: true},
		{match: `W/"1", W/"2"`, kind: fault.Invalid, fails: true},
		{match: `W/"1`, kind: fault.Invalid, fails: true},
		{match: `1"`, kind: fault.Invalid, fails: true},
		{match: `-1`, kind: fault.Invalid, fails: true},
		{none: `W/"1"`, kind: fault.Invalid, fails: true},
	}
	for _, tt := range tests {
		got, err := ParseMatch(tt.match, tt.none)
		switch {
		case tt.fails && !fault.Is(err, tt.kind):
			t.Errorf("%q %q: %v, want %v", tt.match, tt.none, err, tt.kind)
		case !tt.fails && (err != nil || got != tt.want):
			t.Errorf("%q %q: %+v, %v", tt.match, tt.none, got, err)
		}
	}
}

func FuzzParseETag(f *testing.F) {
	for _, seed := range []string{`W/"1"`, `"1"`, `1`, `W/`, `"`, `""`, `W/"W/"`, `*`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		n, err := ParseETag(tag)
		if err == nil && !strings.Contains(tag, formatVersion(n)) {
			t.Errorf("%q is version %d", tag, n)
		}
		if err != nil && !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Precondition) {
			t.Errorf("%q: %v", tag, err)
		}
	})
}

// Every entry of any bundle is read or refused, with a place in the bundle.
func FuzzReadEntry(f *testing.F) {
	for _, seed := range []string{
		`{"request":{"method":"GET","url":"Patient/1/_history/2"}}`,
		`{"request":{"method":"PUT","url":"https://tarn.example/r4/Patient?x=y","ifMatch":"W/\"1\""},"resource":{"resourceType":"Patient"}}`,
		`{"request":{"method":"PATCH","url":"/Patient/1"},"resource":{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W10="}}`,
		`{"request":{"method":"DELETE","url":"Patient/a/b/c/d/e"}}`,
		`{"request":[],"resource":1}`, `[]`, `{}`,
	} {
		f.Add(seed)
	}
	s := &Session{Base: "https://tarn.example/r4"}
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := fhir.Parse([]byte(text))
		if err != nil {
			return
		}
		e, err := s.readEntry(3, doc.Root())
		if err == nil {
			if e.method == "POST" && e.target.typ != e.resource.ResourceType() {
				t.Errorf("%s: a %s under %s", text, e.resource.ResourceType(), e.target.typ)
			}
			return
		}
		if !strings.Contains(fault.From(err).Subject, "Bundle.entry[3]") {
			t.Errorf("%s: refused without a place: %v", text, err)
		}
	})
}

// Narratives are rewritten in href and src only, wherever the quotes are.
func FuzzNarrative(f *testing.F) {
	for _, seed := range []string{`<a href="urn:x">href=urn:x</a>`, `<img src='urn:x'/>`, `href=`, `src="`, `href='a"b'`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, div string) {
		src := append(fhir.AppendString([]byte(`{"resourceType":"Basic","text":{"div":`), div), `}}`...)
		doc, err := fhir.Parse(src)
		if err != nil {
			return
		}
		x := &txn{ids: map[string]string{"urn:x": "Basic/1"}}
		out := x.rewrite(doc.Root(), "")
		again, err := fhir.Parse(out)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		before, after := doc.Root().Get("text").Get("div").Text(), again.Root().Get("text").Get("div").Text()
		if strings.ReplaceAll(before, "urn:x", "") != strings.ReplaceAll(strings.ReplaceAll(after, "urn:x", ""), "Basic/1", "") && !strings.Contains(before, "Basic/1") {
			t.Errorf("%q became %q", before, after)
		}
	})
}
