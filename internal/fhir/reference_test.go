package fhir_test

import (
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

func TestParseReference(t *testing.T) {
	type R = fhir.Reference
	for _, want := range []R{
		{Form: fhir.Relative, Text: "Patient/1", Type: "Patient", ID: "1"},
		{Form: fhir.Relative, Text: "Patient/1/_history/2", Type: "Patient", ID: "1", Version: "2"},
		{Form: fhir.Relative, Text: "Patient/1#sub", Type: "Patient", ID: "1", Fragment: "sub"},
		{Form: fhir.Absolute, Text: "http://x.org/fhir/Patient/1", Base: "http://x.org/fhir", Type: "Patient", ID: "1", URL: "http://x.org/fhir/Patient/1"},
		{Form: fhir.Absolute, Text: "https://x:80/Patient/a-B.9/_history/7", Base: "https://x:80", Type: "Patient", ID: "a-B.9", Version: "7",
			URL: "https://x:80/Patient/a-B.9"},
		{Form: fhir.Contained, Text: "#p1", Fragment: "p1"},
		{Form: fhir.Contained, Text: "#"},
		{Form: fhir.URN, Text: "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a", URN: "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"},
		{Form: fhir.URN, Text: "urn:oid:1.2.3", URN: "urn:oid:1.2.3"},
		{Form: fhir.Canonical, Text: "urn:oid:1.2.3|5", URL: "urn:oid:1.2.3", Version: "5"},
		{Form: fhir.Canonical, Text: "http://hl7.org/fhir/ValueSet/abc|4.0.1", URL: "http://hl7.org/fhir/ValueSet/abc", Version: "4.0.1", Type: "ValueSet", ID: "abc"},
		{Form: fhir.Canonical, Text: "http://loinc.org", URL: "http://loinc.org"},
		{Form: fhir.Canonical, Text: "http://x/y/z_z|1#frag", URL: "http://x/y/z_z", Version: "1", Fragment: "frag"},
		{Form: fhir.Canonical, Text: "http://Patient/1", URL: "http://Patient/1"}, // the host is no type
		{Text: ""}, {Text: "Patient"}, {Text: "Patient/"}, {Text: "/Patient/1"}, {Text: "patient/1"}, {Text: "Patient/a_b"}, {Text: "Patient/1/2"},
		{Text: "x/Patient/1"}, {Text: "Patient/1/_history/"}, {Text: "Patient/1/_history"}, {Text: "Patient/1/_history/a/b"},
		{Text: "Patient?identifier=x|y"}, {Text: "Patient/" + strings.Repeat("1", 65)}, {Text: "1x://a/Patient/1"}, {Text: "://a/Patient/1"},
	} {
		if got := fhir.ParseReference(want.Text); got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"Patient/1", "http://x/fhir/Patient/1/_history/2", "urn:uuid:1|2", "#a", "http://x|1#2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := fhir.ParseReference(text)
		rebuilt := ""
		switch r.Form {
		case fhir.Relative:
			rebuilt = r.Type + "/" + r.ID
		case fhir.Absolute:
			rebuilt = r.Base + "/" + r.Type + "/" + r.ID
		default:
			return
		}
		if r.Version != "" {
			rebuilt += "/_history/" + r.Version
		}
		if strings.Contains(text, "#") {
			rebuilt += "#" + r.Fragment
		}
		if rebuilt != text || !fhir.ValidID(r.ID) {
			t.Fatalf("%q is taken apart as %+v", text, r)
		}
	})
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "A-9.z": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "a_b": false, "a b": false, "é": false, "a/b": false, "a\n": false, "@": false, "[": false,
	} {
		if fhir.ValidID(id) != want {
			t.Errorf("ValidID(%q) is not %v", id, want)
		}
	}
}

func TestReferences(t *testing.T) {
	d := mustParse(t, `{"resourceType":"Observation","subject":{"reference":"Patient/1"},
		"contained":[{"performer":[{"reference":"#a"},{"display":"reference"}]}],
		"extension":[{"valueReference":{"\u0072eference":"B/2"}}],
		"manifest":{"reference":{"reference":"C/3"}}, "x":{"reference":5}}`)
	var got []string
	for n := range fhir.References(d.Root()) {
		got = append(got, n.Text())
	}
	if all := strings.Join(got, " "); all != "Patient/1 #a B/2 C/3" {
		t.Errorf("found %s", all)
	}
	for n := range fhir.References(d.Root().Get("contained")) {
		if !n.Is("#a") {
			t.Errorf("below contained: %s", n.Text())
		}
	}
}
