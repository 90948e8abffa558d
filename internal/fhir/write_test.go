package fhir_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                          `""`,
		"plain <b>&</b> /":          `"plain <b>&</b> /"`,
		"q\" s\\ \b\f\n\r\t":        `"q\" s\\ \b\f\n\r\t"`,
		"\x00\x1f\x7f":              "\"\\u0000\\u001f\x7f\"",
		"é 漢 😀 \u2028":              "\"é 漢 😀 \u2028\"",
		"bad \xff\xc3 \xed\xa0\x80": "\"bad \ufffd\ufffd \ufffd\ufffd\ufffd\"",
		"a real \ufffd":             "\"a real \ufffd\"",
	} {
		if got := string(fhir.AppendString(nil, in)); got != want {
			t.Errorf("AppendString(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\"\\\x00é\xff")
	f.Fuzz(func(t *testing.T, s string) {
		d := mustParse(t, string(fhir.AppendString(nil, s)))
		if got, want := d.Root().Text(), string([]rune(s)); got != want {
			t.Fatalf("%q comes back as %q", s, got)
		}
	})
}

func TestPrettyAndCompact(t *testing.T) {
	const compact = `{"a":[],"b":{},"c":[1.10,{"d":"x: {\"[,"}],"e":"\\","f":null}`
	const pretty = `{
  "a": [],
  "b": {},
  "c": [
    1.10,
    {
      "d": "x: {\"[,"
    }
  ],
  "e": "\\",
  "f": null
}`
	if got := string(fhir.AppendPretty([]byte("> "), []byte(compact))); got != "> "+pretty {
		t.Error(got)
	}
	if got := string(fhir.AppendPretty(nil, []byte("{\"a\": [ ] , \"b\":{\n} }"))); got != "{\n  \"a\": [],\n  \"b\": {}\n}" {
		t.Error(got)
	}
	if got := string(fhir.Compact([]byte(" " + pretty + "\r\n\t"))); got != compact {
		t.Error(got)
	}
}

func TestInstants(t *testing.T) {
	east := time.FixedZone("", 3600)
	for want, in := range map[string]time.Time{
		"2006-01-02T15:04:05.000Z":  time.Date(2006, 1, 2, 15, 4, 5, 999_999, time.UTC),
		"2025-12-31T23:30:00.120Z":  time.Date(2026, 1, 1, 0, 30, 0, 120_000_000, east),
		"0001-01-01T00:00:00.000Z":  {},
		"9999-12-31T23:59:59.999Z":  time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		"12345-01-01T00:00:00.000Z": time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got := fhir.FormatInstant(in); got != want {
			t.Errorf("FormatInstant(%v) = %s, want %s", in, got, want)
		}
	}
}

func TestOutcome(t *testing.T) {
	const head = `{"resourceType":"OperationOutcome","issue":[`
	_, syntax := fhir.Parse([]byte("{\n\"a\" 1}"))
	for _, tt := range []struct {
		err  *fault.Error
		want string
	}{
		{nil, `{"severity":"information","code":"informational","diagnostics":"All OK"}`},
		{fault.From(errors.New("secret")), `{"severity":"fatal","code":"exception","diagnostics":"An internal error occurred"}`},
		{&fault.Error{Kind: fault.NotFound}, `{"severity":"error","code":"not-found","diagnostics":"Not found"}`},
		{&fault.Error{Kind: fault.Invalid, Subject: `birthdate="x"`, Detail: "not a date", Hint: "use YYYY", Cause: errors.New("secret")},
			`{"severity":"error","code":"invalid","diagnostics":"birthdate=\"x\": not a date. use YYYY"}`},
		{fault.From(syntax), `{"severity":"fatal","code":"structure","diagnostics":"a colon is expected behind a member name at line 2, column 5",` +
			`"location":["line 2, column 5"]}`},
		{&fault.Error{Kind: fault.Invalid, Hint: "See the profile", Place: []fault.Issue{
			{Code: "required", Detail: "missing", Expression: "Patient.name"},
			{Severity: fault.SeverityWarning, Kind: fault.NotSupported, Line: 3, Col: 4},
		}}, `{"severity":"error","code":"required","diagnostics":"missing. See the profile","expression":["Patient.name"]},` +
			`{"severity":"warning","code":"not-supported","diagnostics":"Interaction not supported at line 3, column 4","location":["line 3, column 4"]}`},
	} {
		got := string(fhir.Outcome(tt.err))
		if got != head+tt.want+"]}" {
			t.Errorf("got  %s\nwant %s]}", got, head+tt.want)
		}
		mustParse(t, got)
	}
	if got := string(fhir.AppendOutcome(nil, fhir.OutcomeIssue{})); got != head+`{"severity":"error","code":"processing"}]}` {
		t.Error(got)
	}
}

func TestBundleWriter(t *testing.T) {
	w := fhir.NewBundle([]byte("> "), "searchset")
	w.ID("b1")
	if w.Len() != len(`> {"resourceType":"Bundle","id":"b1"`) {
		t.Errorf("Len is %d", w.Len())
	}
	w.LastUpdated(noon)
	w.Timestamp(noon)
	w.Total(0)
	w.Link("self", "http://x/Patient?a=1&b=2")
	w.Link("next", "http://x/next")
	stored := store(t, `{"resourceType":"Patient"}`)
	w.Entry(fhir.BundleEntry{FullURL: "http://x/Patient/1", Mode: "match", Score: "0.50",
		Stored: &fhir.StoredResource{Form: stored, ID: "1", Version: 2, Updated: noon}})
	w.Entry(fhir.BundleEntry{Resource: []byte(`{"resourceType":"Basic"}`),
		Request: &fhir.BundleRequest{Method: "POST", URL: "Basic", IfNoneMatch: "*", IfMatch: `W/"1"`, IfModifiedSince: noon, IfNoneExist: "a=b"},
		Response: &fhir.BundleResponse{Status: "201 Created", Location: "Basic/1", ETag: `W/"1"`, LastModified: noon,
			Outcome: []byte(`{"resourceType":"OperationOutcome"}`)}})
	const when = `"2026-11-23T12:00:00.007Z"`
	want := `> {"resourceType":"Bundle","id":"b1","meta":{"lastUpdated":` + when + `},"type":"searchset","timestamp":` + when + `,"total":0,` +
		`"link":[{"relation":"self","url":"http://x/Patient?a=1&b=2"},{"relation":"next","url":"http://x/next"}],` +
		`"entry":[{"fullUrl":"http://x/Patient/1","resource":{"resourceType":"Patient","id":"1","meta":{"versionId":"2","lastUpdated":` + when + `}},` +
		`"search":{"mode":"match","score":0.50}},{"resource":{"resourceType":"Basic"},` +
		`"request":{"method":"POST","url":"Basic","ifNoneMatch":"*","ifModifiedSince":` + when + `,"ifMatch":"W/\"1\"","ifNoneExist":"a=b"},` +
		`"response":{"status":"201 Created","location":"Basic/1","etag":"W/\"1\"","lastModified":` + when + `,"outcome":{"resourceType":"OperationOutcome"}}}]}`
	if got := string(w.Finish()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	mustParse(t, want[2:])

	if got := string(fhir.NewBundle(nil, "batch-response").Finish()); got != `{"resourceType":"Bundle","type":"batch-response"}` {
		t.Error(got)
	}
}

// Every byte at every place of a word is escaped, or left alone, as JSON asks.
func TestAppendStringAtEveryPlace(t *testing.T) {
	for at := range 24 {
		for c := range 256 {
			text := []byte("abcdefghijklmnopqrstuvwx")
			text[at] = byte(c)
			got := fhir.AppendString(nil, string(text))
			var back string
			if err := json.Unmarshal(got, &back); err != nil || back != strings.ToValidUTF8(string(text), "\ufffd") {
				t.Fatalf("%q at %d: %s, %v", rune(c), at, got, err)
			}
			if plain := c >= ' ' && c < 0x80 && c != '"' && c != '\\'; plain != (len(got) == len(text)+2) {
				t.Fatalf("%q at %d: %s", rune(c), at, got)
			}
		}
	}
}
