package fhirpath_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// xmlElement is an element of FHIR's XML with its children in order.
type xmlElement struct {
	name     string
	attrs    map[string]string
	children []*xmlElement
	raw      string // div: the text as it stands
}

// xmlToJSON turns a resource in XML into JSON, arrays and types by R4's tables.
func xmlToJSON(t testing.TB, src []byte) []byte {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(src)))
	for {
		token, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok {
			root := readXML(t, d, start, string(src))
			return []byte(resourceJSON(root))
		}
	}
}

func readXML(t testing.TB, d *xml.Decoder, start xml.StartElement, src string) *xmlElement {
	e := &xmlElement{name: start.Name.Local, attrs: map[string]string{}}
	for _, a := range start.Attr {
		e.attrs[a.Name.Local] = a.Value
	}
	if e.name == "div" {
		e.raw = rawDiv(t, d, src)
		return e
	}
	for {
		token, err := d.Token()
		if err == io.EOF {
			t.Fatal("the XML ends too early")
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e.children = append(e.children, readXML(t, d, token, src))
		case xml.EndElement:
			return e
		}
	}
}

// rawDiv gives the text of a narrative, whose start tag was just read.
func rawDiv(t testing.TB, d *xml.Decoder, src string) string {
	from := strings.LastIndex(src[:d.InputOffset()], "<div")
	if err := d.Skip(); err != nil {
		t.Fatal(err)
	}
	return src[from:d.InputOffset()]
}

func resourceJSON(e *xmlElement) string {
	return fmt.Sprintf(`{"resourceType":%q%s}`, e.name, strings.Join(append([]string{""}, membersJSON(e, e.name)...), ","))
}

// membersJSON gives the members of an element as name:value, those of one name
// together.
func membersJSON(e *xmlElement, typeName string) []string {
	var out []string
	for _, name := range []string{"id", "url"} {
		if v, ok := e.attrs[name]; ok {
			out = append(out, fmt.Sprintf("%q:%s", name, fhir.AppendString(nil, v)))
		}
	}
	done := map[string]bool{}
	for _, c := range e.children {
		if !done[c.name] {
			done[c.name] = true
			out = append(out, memberJSON(e, c.name, typeName)...)
		}
	}
	return out
}

func memberJSON(e *xmlElement, name, typeName string) []string {
	info, ok := r4.Element(typeName, name)
	if !ok {
		panic("R4 has no " + typeName + "." + name)
	}
	var values, siblings []string
	hasValue, hasSibling := false, false
	for _, c := range e.children {
		if c.name != name {
			continue
		}
		value, sibling := itemJSON(c, info.Type)
		values, siblings = append(values, value), append(siblings, sibling)
		hasValue, hasSibling = hasValue || value != "null", hasSibling || sibling != "null"
	}
	var out []string
	if hasValue {
		out = append(out, fmt.Sprintf("%q:%s", name, list(values, info.IsArray())))
	}
	if hasSibling {
		out = append(out, fmt.Sprintf("%q:%s", "_"+name, list(siblings, info.IsArray())))
	}
	return out
}

func list(items []string, array bool) string {
	if array {
		return "[" + strings.Join(items, ",") + "]"
	}
	return items[0]
}

// itemJSON gives the value of one element, and of the sibling of a primitive.
func itemJSON(e *xmlElement, typeName string) (value, sibling string) {
	if typeName == "Resource" {
		return resourceJSON(e.children[0]), "null"
	}
	s, ok := r4.StructureOf(typeName)
	if !ok {
		panic("R4 has no type " + typeName)
	}
	if s.Kind != r4.KindPrimitive {
		return "{" + strings.Join(membersJSON(e, typeName), ",") + "}", "null"
	}
	value, sibling = "null", "null"
	if text, ok := e.attrs["value"]; ok {
		value = primitiveJSON(text, s.System)
	} else if e.raw != "" {
		value = primitiveJSON(e.raw, "String")
	}
	if members := membersJSON(e, "Element"); len(members) > 0 {
		sibling = "{" + strings.Join(members, ",") + "}"
	}
	return value, sibling
}

func primitiveJSON(text, system string) string {
	switch system {
	case "Boolean", "Integer", "Decimal":
		return text
	}
	return string(fhir.AppendString(nil, text))
}
