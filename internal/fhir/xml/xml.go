// Package xml turns FHIR's XML into FHIR's JSON and back.
//
// # Shape
//
//	<Patient xmlns="http://hl7.org/fhir">       {"resourceType":"Patient",
//	  <active value="true"/>                     "active":true,
//	  <name id="n"><given value="Ana"/></name>   "name":[{"id":"n","given":["Ana"]}]}
//	</Patient>
//
// The two say the same (https://hl7.org/fhir/R4/xml.html), but neither can be
// read without R4's definitions: XML does not say what repeats and what is a
// number, JSON does not say which order XML needs. Both come from the tables of
// fhir/r4, compiled to one shape per type (shape.go).
//
//	ToJSON        XML → JSON text, as fhir.Parse takes it
//	AppendXML     fhir.Node → XML on one line
//	AppendPretty  the same with a line for each element
//	Locate        expressions of issues → lines and columns of the XML
//
// # Use
//
//	text, err := xml.ToJSON(body, fhir.Limits{MaxBytes: limit})
//	if err != nil {
//		return err // *fault.Error with line, column and, where known, expression
//	}
//	doc, err := fhir.Parse(text)
//	…
//	body, err = xml.AppendXML(nil, doc.Root())
//
// # What is kept
//
// Everything FHIR gives a meaning: the text of every decimal, the order of what
// repeats, ids and extensions of primitives, narratives letter by letter.
// JSON → XML → JSON gives the same members with the same values, in R4's order.
// XML → JSON → XML gives the same elements; comments, processing instructions
// and white space outside narratives are gone. DESIGN.md lists what cannot be
// said in the other form, which is refused, never bent.
//
// All functions may be called concurrently.
package xml

import (
	"fmt"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// The namespaces FHIR's XML knows (https://hl7.org/fhir/R4/xml.html).
const (
	// Namespace is the one of every FHIR element.
	Namespace = "http://hl7.org/fhir"
	// XHTMLNamespace is the one of Narrative.div.
	XHTMLNamespace = "http://www.w3.org/1999/xhtml"
	// schemaNamespace is the one of xsi:schemaLocation, which may stand at the
	// root and is dropped.
	schemaNamespace = "http://www.w3.org/2001/XMLSchema-instance"
	// xmlNamespace is bound to the prefix xml (Namespaces in XML 1.0, section 3).
	xmlNamespace = "http://www.w3.org/XML/1998/namespace"
	// xmlnsNamespace is that of declarations, which nothing may be bound to.
	xmlnsNamespace = "http://www.w3.org/2000/xmlns/"
)

// DefaultLimits bound an XML text where the caller says nothing. MaxBytes is its
// length, MaxDepth counts elements inside each other, those of narratives
// included, and MaxNodes elements, attributes and stretches of text.
var DefaultLimits = fhir.DefaultLimits

func orDefault(l fhir.Limits) fhir.Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultLimits.MaxBytes
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = DefaultLimits.MaxDepth
	}
	if l.MaxNodes <= 0 {
		l.MaxNodes = DefaultLimits.MaxNodes
	}
	return l
}

// The issue types of R4 that findings carry.
const (
	codeStructure = "structure" // elements, attributes, members
	codeValue     = "value"     // the text of a value
)

// finding is one thing wrong, before it is known where the text stands.
type finding struct {
	kind fault.Kind
	code string // "" is kind's own
	text string
	hint string
	at   int // offset
}

func (f *finding) Error() string { return f.text }

func syntax(at int, format string, args ...any) *finding {
	return &finding{kind: fault.Syntax, text: fmt.Sprintf(format, args...), at: at}
}

func invalid(at int, code, format string, args ...any) *finding {
	return &finding{kind: fault.Invalid, code: code, text: fmt.Sprintf(format, args...), at: at}
}

func tooLarge(at int, format string, args ...any) *finding {
	return &finding{kind: fault.TooLarge, text: fmt.Sprintf(format, args...), at: at}
}

// problem makes the error of a finding. Zero line means that the place is not
// known; what cannot be parsed at all is fatal, as in fhir.Parse.
func (f *finding) problem(op, expression string, line, col int) error {
	severity := fault.SeverityError
	if f.kind != fault.Invalid {
		severity = fault.SeverityFatal
	}
	detail := f.text
	if line > 0 {
		detail = fmt.Sprintf("%s at line %d, column %d", f.text, line, col)
	}
	return &fault.Error{
		Kind: f.kind, Op: op, Detail: detail, Hint: f.hint,
		Place: []fault.Issue{{
			Severity: severity, Kind: f.kind, Code: f.code, Detail: f.text,
			Expression: expression, Line: line, Col: col,
		}},
	}
}
