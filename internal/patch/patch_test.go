package patch_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/patch"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// apply runs a patch over a document, both as text.
func apply(doc, operations string) (string, error) {
	d, err := fhir.Parse([]byte(doc))
	if err != nil {
		return "", err
	}
	p, err := patch.Parse([]byte(operations))
	if err != nil {
		return "", err
	}
	out, err := p.Apply(d)
	return string(out), err
}

// What a patch does not touch keeps text and order (issue 2: JSON losslessly).
func TestLossless(t *testing.T) {
	doc := `{"z":1.500,"a":{"x":1E2,"y":"\u00e4"},"list":[0.10,{"k":"v"}],"b":null}`
	tests := []struct{ name, operations, want string }{
		{"nothing", `[]`, doc},
		{"add a member at the end", `[{"op":"add","path":"/new","value":{"n":2.0}}]`,
			`{"z":1.500,"a":{"x":1E2,"y":"\u00e4"},"list":[0.10,{"k":"v"}],"b":null,"new":{"n":2.0}}`},
		{"replace in place", `[{"op":"replace","path":"/a/x","value":7.00}]`,
			`{"z":1.500,"a":{"x":7.00,"y":"\u00e4"},"list":[0.10,{"k":"v"}],"b":null}`},
		{"copy keeps decimals", `[{"op":"copy","from":"/list/0","path":"/list/-"}]`,
			`{"z":1.500,"a":{"x":1E2,"y":"\u00e4"},"list":[0.10,{"k":"v"},0.10],"b":null}`},
		{"test compares by value", `[{"op":"test","path":"/a/x","value":100},{"op":"test","path":"/z","value":15e-1}]`, doc},
		{"a copy is no alias", `[{"op":"copy","from":"/list/1","path":"/c"},{"op":"replace","path":"/c/k","value":"w"}]`,
			`{"z":1.500,"a":{"x":1E2,"y":"\u00e4"},"list":[0.10,{"k":"v"}],"b":null,"c":{"k":"w"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := apply(doc, tt.operations)
			if err != nil || got != tt.want {
				t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

// What is no patch is Invalid or Syntax, what cannot be applied Unprocessable
// (healthlake.md 2.3: 400 and 422).
func TestRefusals(t *testing.T) {
	tests := []struct {
		operations string
		want       fault.Kind
	}{
		{`{`, fault.Syntax},
		{`{"op":"add"}`, fault.Invalid},
		{`[1]`, fault.Invalid},
		{`[{"op":"spam","path":"/a"}]`, fault.Invalid},
		{`[{"op":"add","path":"/a"}]`, fault.Invalid},
		{`[{"op":"add","value":1}]`, fault.Invalid},
		{`[{"op":"remove","path":"a"}]`, fault.Invalid},
		{`[{"op":"remove","path":"/a~2"}]`, fault.Invalid},
		{`[{"op":"move","path":"/a"}]`, fault.Invalid},
		{`[{"op":"remove","path":""}]`, fault.Unprocessable},
		{`[{"op":"remove","path":"/nowhere"}]`, fault.Unprocessable},
		{`[{"op":"replace","path":"/nowhere","value":1}]`, fault.Unprocessable},
		{`[{"op":"add","path":"/a/-","value":1}]`, fault.Unprocessable},
		{`[{"op":"add","path":"/list/2","value":1}]`, fault.Unprocessable},
		{`[{"op":"add","path":"/list/01","value":1}]`, fault.Unprocessable},
		{`[{"op":"remove","path":"/list/-"}]`, fault.Unprocessable},
		{`[{"op":"move","from":"/o","path":"/o/p"}]`, fault.Unprocessable},
		{`[{"op":"test","path":"/a","value":"1"}]`, fault.Unprocessable},
		{`[{"op":"test","path":"/a","value":1e999999999999}]`, fault.Unprocessable},
	}
	for _, tt := range tests {
		t.Run(tt.operations, func(t *testing.T) {
			got, err := apply(`{"a":1,"list":[1],"o":{"p":1}}`, tt.operations)
			if !fault.Is(err, tt.want) {
				t.Errorf("got %q, %v, want %v", got, err, tt.want)
			}
		})
	}
}

// Copies of copies end at a bound, not at the end of memory.
func TestGrowthIsBounded(t *testing.T) {
	operations := strings.Repeat(`{"op":"copy","from":"/a","path":"/a/-"},`, 60)
	_, err := apply(`{"a":[1]}`, "["+strings.TrimSuffix(operations, ",")+"]")
	if !fault.Is(err, fault.TooCostly) {
		t.Errorf("got %v", err)
	}
}

// The community's suite for RFC 6902 and RFC 6901: all of it.
func TestSuite(t *testing.T) {
	type record struct {
		Comment  string
		Doc      json.RawMessage
		Patch    json.RawMessage
		Expected json.RawMessage
		Error    string
		Disabled bool
	}
	ran := 0
	for name, raw := range suite(t) {
		var records []record
		if err := json.Unmarshal(raw, &records); err != nil {
			t.Fatal(name, err)
		}
		for i, r := range records {
			if r.Disabled || r.Patch == nil {
				continue
			}
			ran++
			t.Run(fmt.Sprintf("%s/%d", name, i), func(t *testing.T) {
				got, err := apply(string(r.Doc), string(r.Patch))
				switch {
				case r.Error != "" && err == nil:
					t.Errorf("%s: want an error (%s), got %s", r.Comment, r.Error, got)
				case r.Error == "" && err != nil:
					t.Errorf("%s: %v", r.Comment, err)
				case r.Error == "" && r.Expected != nil && !same(t, []byte(got), r.Expected):
					t.Errorf("%s: got %s, want %s", r.Comment, got, r.Expected)
				}
			})
		}
	}
	if ran < 90 {
		t.Errorf("only %d cases ran", ran)
	}
}

func same(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

func suite(t *testing.T) map[string][]byte {
	t.Helper()
	f, err := os.Open(testpath.Shared(t, "suites", "json-patch-tests.tar.xz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := xz.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(h.Name, "tests.json") {
			continue
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name[strings.LastIndex(h.Name, "/")+1:]] = raw
	}
}

func FuzzPatch(f *testing.F) {
	f.Add(`{"a":[1,{"b":2}]}`, `[{"op":"move","from":"/a/1","path":"/a/0"}]`)
	f.Add(`[0]`, `[{"op":"add","path":"/-","value":{"x":1e5}},{"op":"copy","from":"","path":"/0"}]`)
	f.Add(`{"~/":1}`, `[{"op":"test","path":"/~0~1","value":1.0},{"op":"remove","path":"/~0~1"}]`)
	f.Fuzz(func(t *testing.T, doc, operations string) {
		got, err := apply(doc, operations)
		if err != nil {
			return
		}
		if _, err := fhir.Parse([]byte(got)); err != nil {
			t.Errorf("the result does not parse: %v: %s", err, got)
		}
	})
}
