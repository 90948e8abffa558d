package fhirapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// Any body is a batch or transaction that is answered, or one that is refused
// with an outcome; it is never our own mistake, and a refused transaction leaves
// nothing behind.
func FuzzBundles(f *testing.F) {
	f.Add(asyncBundle)
	f.Add(restore([]string{"a", "b"}))
	for _, entry := range []string{
		`{"fullUrl":"urn:uuid:1","request":{"method":"POST","url":"Patient","ifNoneExist":"identifier=1"},"resource":{"resourceType":"Patient"}}`,
		`{"request":{"method":"PUT","url":"Patient?identifier=2"},"resource":{"resourceType":"Patient","link":[{"other":{"reference":"urn:uuid:1"},"type":"seealso"}]}}`,
		`{"request":{"method":"PATCH","url":"Patient/a"},"resource":{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W10="}}`,
		`{"request":{"method":"PATCH","url":"Patient/a"},"resource":{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"delete"},{"name":"path","valueString":"Patient.active"}]}]}}`,
		`{"request":{"method":"DELETE","url":"Patient?active=true"}}`,
		`{"request":{"method":"GET","url":"Patient/a/$everything"}},{"request":{"method":"GET","url":"Patient?_has:Observation:subject:code=1&_include=*"}}`,
		`{"request":{"method":"GET","url":"Patient/a/_history/1","ifNoneMatch":"W/\"1\""}}`,
	} {
		f.Add(`{"resourceType":"Bundle","type":"transaction","entry":[` + entry + `]}`)
		f.Add(`{"resourceType":"Bundle","type":"batch","entry":[` + entry + `]}`)
	}
	f.Fuzz(func(t *testing.T, body string) {
		s := newServer(t)
		s.check = true
		s.must(t, "PUT", "/Patient/a", `{"resourceType":"Patient","id":"a","active":true}`)
		a := s.do(t, "POST", "/", body, "Content-Type: application/fhir+json")
		switch {
		case a.status >= http.StatusInternalServerError:
			t.Fatalf("%d %s", a.status, a.body)
		case a.status != http.StatusOK && a.text("resourceType") != "OperationOutcome":
			t.Fatalf("%d without an outcome: %s", a.status, a.body)
		}
		for e := range a.at("entry").Items() {
			if strings.HasPrefix(e.Get("response").Get("status").Text(), "500") {
				t.Fatalf("an entry is our own mistake: %s", a.body)
			}
		}
		if versions := s.must(t, "GET", "/_history?_count=0", "").text("total"); a.status >= 400 && versions != "1" {
			t.Errorf("a refused bundle left %s versions: %s", versions, body)
		}
	})
}

// Any header is understood, passed over or refused with an outcome: each line of
// the input is one.
func FuzzHeaders(f *testing.F) {
	for _, lines := range []string{
		"Accept: application/fhir+xml;q=0.5, application/fhir+json; fhirVersion=4.0\nAccept-Encoding: gzip;q=0.1, br",
		"Prefer: return=minimal; handling=strict\nPrefer: respond-async",
		"If-Match: W/\"1\"\nIf-None-Match: *, W/\"2\"\nIf-Modified-Since: Thu, 01 Jan 2026 00:00:01 GMT",
		"If-None-Exist: identifier=1&_id=%zz\nx-amz-fhir-idempotency-key: 0f8fad5b-d9cb-469f-a165-70867728950e",
		"Content-Type: application/fhir+json; charset=utf-16\nContent-Encoding: gzip",
		"Content-Type: application/x-www-form-urlencoded\nx-amzn-healthlake-fhir-validation-level: minimal",
		"X-Security-Context: Patient/a\nContent-Type: image/png; x=\"",
	} {
		for i := range headerTargets {
			f.Add(uint8(i), lines)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, lines string) {
		s := newServer(t)
		s.must(t, "PUT", "/Patient/a", `{"resourceType":"Patient","id":"a"}`)
		s.must(t, "PUT", "/Binary/b", `{"resourceType":"Binary","id":"b","contentType":"text/plain","data":"eA=="}`)
		target := headerTargets[int(which)%len(headerTargets)]
		a := s.do(t, target.method, target.path, target.body, strings.Split(lines, "\n")...)
		if a.status >= http.StatusInternalServerError || a.status < http.StatusOK {
			t.Errorf("%s %s: %d %s", target.method, target.path, a.status, a.body)
		}
		plain := a.header.Get("Content-Encoding") == "" && strings.Contains(a.header.Get("Content-Type"), "fhir+json")
		if a.status >= http.StatusBadRequest && plain && target.method != http.MethodHead && a.text("resourceType") != "OperationOutcome" {
			t.Errorf("%d without an outcome: %s", a.status, a.body)
		}
	})
}

var headerTargets = []struct{ method, path, body string }{
	{"GET", "/Patient/a", ""},
	{"HEAD", "/Patient/a", ""},
	{"GET", "/Binary/b", ""},
	{"GET", "/Patient?active=true", ""},
	{"POST", "/Patient/_search", "active=true"},
	{"POST", "/Patient", `{"resourceType":"Patient"}`},
	{"POST", "/Binary", "x"},
	{"PUT", "/Patient/a", `{"resourceType":"Patient","id":"a"}`},
	{"PATCH", "/Patient/a", `[{"op":"add","path":"/active","value":true}]`},
	{"DELETE", "/Patient/a", ""},
	{"POST", "/", `{"resourceType":"Bundle","type":"batch"}`},
}
