package xml_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/xml"
)

// tooDeep reports the one way in which what one direction wrote may be too much
// for the other: elements and objects are counted each for itself.
func tooDeep(err error) bool {
	return fault.Is(err, fault.Syntax) && strings.Contains(err.Error(), "nested deeper")
}

// Any text: no panic. What is taken comes back from JSON as encoding/xml reads it,
// and going around once more changes nothing.
func FuzzToJSON(f *testing.F) {
	for _, c := range pairs {
		f.Add([]byte(c.xml))
	}
	f.Add([]byte(`<f:Patient xmlns:f="http://hl7.org/fhir" xmlns="http://www.w3.org/1999/xhtml"><f:text><div><p>a&#xD;</p></div></f:text></f:Patient>`))
	f.Add([]byte(declared + "\r\n<!-- a --><?b c?>" + in("<active id='a' value='tr&#117;e'/>")))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><a/>`))
	f.Fuzz(func(t *testing.T, src []byte) {
		text, err := xml.ToJSON(src, fhir.Limits{MaxBytes: 1 << 16})
		if err != nil {
			fault.From(err).Message()
			return
		}
		d, err := fhir.Parse(text)
		if err != nil {
			if tooDeep(err) {
				return
			}
			t.Fatalf("%v: %s", err, text)
		}
		back, err := xml.AppendXML(nil, d.Root())
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if want, err := canonical(bytes.ReplaceAll(src, []byte("\r\n"), []byte("\n"))); err == nil {
			got, err := canonical(back)
			if err != nil {
				t.Fatalf("encoding/xml takes what was read, not what was written: %v: %s", err, back)
			}
			if got != want {
				t.Fatalf("from %s\nto   %s", want, got)
			}
		}
		again, err := xml.ToJSON(back, fhir.Limits{})
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%v: from %s\nto   %s", err, text, again)
		}
	})
}

// Any JSON: no panic. What is written is read again and written the same.
func FuzzAppendXML(f *testing.F) {
	for _, c := range pairs {
		f.Add([]byte(c.json))
	}
	f.Add([]byte(`{"resourceType":"Patient","text":{"div":"<div>&nbsp;<!-- - --><?a b?></div>\n"},"name":[{"given":["a"],"_given":[null,{"id":""}]}]}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := fhir.ParseLimits(src, fhir.Limits{MaxBytes: 1 << 16})
		if err != nil {
			return
		}
		text, err := xml.AppendXML(nil, d.Root())
		if err != nil {
			fault.From(err).Message()
			return
		}
		pretty, err := xml.AppendPretty(nil, d.Root())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := canonical(text); err != nil {
			t.Fatalf("encoding/xml refuses what was written: %v: %s", err, text)
		}
		back, err := xml.ToJSON(text, fhir.Limits{})
		if err != nil {
			if tooDeep(err) {
				return
			}
			t.Fatalf("%v: %s", err, text)
		}
		if spaced, err := xml.ToJSON(pretty, fhir.Limits{}); err != nil || !bytes.Equal(spaced, back) {
			t.Fatalf("%v: %s means something else than\n%s", err, pretty, text)
		}
		again, err := fhir.Parse(back)
		if err != nil {
			t.Fatalf("%v: %s", err, back)
		}
		if twice, err := xml.AppendXML(nil, again.Root()); err != nil || !bytes.Equal(twice, text) {
			t.Fatalf("%v: from %s\nto   %s", err, text, twice)
		}
	})
}

// Locate takes texts that are no XML and expressions that are none.
func FuzzLocate(f *testing.F) {
	f.Add([]byte(in("<name><given value='a'/></name>")), "Patient.name[0].given[0]")
	f.Add([]byte("<"), "..[[")
	f.Fuzz(func(t *testing.T, src []byte, expression string) {
		places := []fault.Issue{{Expression: expression}}
		xml.Locate(src, places)
		if p := places[0]; (p.Line == 0) != (p.Col == 0) || p.Line > bytes.Count(src, []byte("\n"))+1 {
			t.Errorf("%s is at %d:%d", expression, p.Line, p.Col)
		}
	})
}
