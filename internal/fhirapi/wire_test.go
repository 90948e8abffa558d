package fhirapi_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
)

// gzip goes both ways (RFC 9110 section 8.4), and only where it is asked for.
func TestGzip(t *testing.T) {
	s := newServer(t)
	long := `{"resourceType":"Basic","id":"b","code":{"text":"` + strings.Repeat("long ", 4000) + `"}}`
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, long)
	z.Close()
	s.must(t, "PUT", "/Basic/b", packed.String(), "Content-Encoding: gzip")
	plain := s.must(t, "GET", "/Basic/b", "", "Accept-Encoding: br, gzip;q=0")
	if plain.header.Get("Content-Encoding") != "" || len(plain.body) < len(long) {
		t.Errorf("got %d bytes, %v", len(plain.body), plain.header)
	}
	a := s.must(t, "GET", "/Basic/b", "", "Accept-Encoding: br, gzip;q=0.5")
	if a.header.Get("Content-Encoding") != "gzip" || a.header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
		t.Fatalf("headers %v", a.header)
	}
	r, err := gzip.NewReader(bytes.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(body, plain.body) {
		t.Errorf("%v, inflated %d bytes, want %d", err, len(body), len(plain.body))
	}
	small := s.must(t, "GET", "/Basic?_id=none", "", "Accept-Encoding: gzip")
	if small.header.Get("Content-Encoding") != "" {
		t.Error("a small answer is compressed")
	}
}

// _pretty changes white space only (R4 http.html#pretty).
func TestPretty(t *testing.T) {
	s := newServer(t)
	s.must(t, "PUT", "/Basic/b", `{"resourceType":"Basic","id":"b"}`)
	a := s.must(t, "GET", "/Basic/b?_pretty=true", "")
	if !strings.Contains(string(a.body), "\n  \"id\": \"b\"") {
		t.Errorf("got %s", a.body)
	}
}

// The discovery document is the store's own, as application/json
// (healthlake.md 6.2).
func TestDiscovery(t *testing.T) {
	s := newServer(t)
	s.smart = `{"token_endpoint":"https://idp.example/token"}`
	a := s.must(t, "GET", "/.well-known/smart-configuration", "")
	if string(a.body) != s.smart || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s %v", a.body, a.header)
	}
}

// The cause of an internal error is nobody's business (house: one list of
// failures, translated once).
func TestWriteFaultHidesCauses(t *testing.T) {
	w := httptest.NewRecorder()
	fhirapi.WriteFault(w, fault.Wrap(fault.Internal, "x", io.ErrUnexpectedEOF))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "EOF") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	fhirapi.WriteFault(w, &fault.Error{Kind: fault.Throttled, Retry: 3})
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "3" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// Every kind of refusal has a status and a code, and its outcome parses.
func TestWriteFaultKnowsEveryKind(t *testing.T) {
	for _, kind := range fault.Kinds() {
		w := httptest.NewRecorder()
		fhirapi.WriteFault(w, &fault.Error{Kind: kind})
		if w.Code < 400 || !strings.Contains(w.Body.String(), `"code":"`+kind.Row().IssueCode+`"`) {
			t.Errorf("%v: %d %s", kind, w.Code, w.Body)
		}
	}
}

// A preflight lets any origin call (no cookies are ever looked at).
func TestPreflight(t *testing.T) {
	w := httptest.NewRecorder()
	var api fhirapi.API
	if err := api.Preflight(w, httptest.NewRequest(http.MethodOptions, "/r4/Patient", nil)); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusNoContent || !strings.Contains(w.Header().Get("Access-Control-Allow-Methods"), "PATCH") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}
