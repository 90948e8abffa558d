package synthea

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"
	"testing/fstest"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// FuzzBundle: a text that the bundle reader takes is a Bundle to encoding/json
// too, with as many entries; one it refuses is refused with a kind that blames
// the text.
func FuzzBundle(f *testing.F) {
	for _, name := range []string{"a-patient", "y-practitioners", "z-hospitals"} {
		text, err := os.ReadFile("testdata/clinic/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{`{"resourceType":"Bundle"}`, `{"entry":[{"resource":{}}],"resourceType":"Bundle"}`,
		`{"resourceType":"Bundle","entry":[{"resource":{"a":1,"a":2}}]}`, `[`, `{"entry":[`, `{"resourceType":"Bundle","entry":[1]}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := countEntries(newBundle(bytes.NewReader(text)))
		if err != nil {
			if k := fault.From(err).Kind; k != fault.Invalid && k != fault.Syntax && k != fault.TooLarge {
				t.Fatalf("kind %v: %v", k, err)
			}
			return
		}
		var members map[string]json.RawMessage // a map, as a struct would take Entry for entry
		var want []json.RawMessage
		err = json.Unmarshal(text, &members)
		if listed, ok := members["entry"]; err == nil && ok {
			err = json.Unmarshal(listed, &want)
		}
		if err != nil || len(want) != n {
			t.Fatalf("%d entries; encoding/json: %d %v", n, len(want), err)
		}
	})
}

func countEntries(e entries) (n int, err error) {
	for {
		if _, err := e.next(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		n++
	}
}

// FuzzDir: whatever a folder holds, what Parts takes streams without error, as
// many lines as it counted, each of them JSON with resourceType and id.
func FuzzDir(f *testing.F) {
	patient, err := os.ReadFile("testdata/clinic/a-patient.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(patient, []byte(`{"resourceType":"Practitioner","id":"1","identifier":[{"system":"http://hl7.org/fhir/sid/us-npi","value":"9999984591"}]}
{"resourceType":"Location","id":"2","identifier":[{"system":"https://github.com/synthetichealth/synthea","value":"81c75a54"}]}
{"resourceType":"Organization","id":"3","identifier":[{"system":"https://github.com/synthetichealth/synthea","value":"74ab949d"}]}`))
	f.Add([]byte(`{"resourceType":"Bundle","entry":[{"fullUrl":"urn:uuid:1","resource":{"b":{"reference":"urn:uuid:1"},"resourceType":"X"}}]}`), []byte(`{"id":"1","resourceType":"Y"}`))
	f.Add([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Y","id":"1","r":{"reference":"Y?a=%zz"}}}]}`), []byte("\n"))
	f.Fuzz(func(t *testing.T, bundle, lines []byte) {
		files := fstest.MapFS{"a.json": &fstest.MapFile{Data: bundle}, "b.ndjson": &fstest.MapFile{Data: lines}}
		parts, err := dir{files}.Parts(t.Context())
		if err != nil {
			return
		}
		for _, p := range parts {
			n := 0
			for line := range bytes.Lines(readAll(t, p)) {
				n++
				var r map[string]any
				if err := json.Unmarshal(line, &r); err != nil || r["resourceType"] == nil || r["id"] == nil {
					t.Fatalf("line %q: %+v %v", line, r, err)
				}
			}
			if n != p.Resources {
				t.Fatalf("%s: %d lines, %d counted", p.Name, n, p.Resources)
			}
		}
	})
}
