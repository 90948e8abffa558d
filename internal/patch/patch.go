// Package patch changes a resource by a JSON Patch (RFC 6902) or a FHIRPath Patch,
// losslessly: what no operation names keeps its text, its decimals and the order
// of its members.
//
//	JSONPatch       [{"op":"replace","path":"/active","value":false}, …]
//	tree            the document with its leaves as they were written
//	FHIRPathPatch   Parameters with add, insert, delete, replace and move
//	list            an element with all its values and their siblings "_name"
//
// Parse and ParseFHIRPath read a patch and refuses what is not one (fault.Invalid, fault.Syntax);
// Apply carries it out on a copy, all operations or none: one that cannot be
// applied, or a test that fails, is fault.Unprocessable and names the operation.
//
// Spec: RFC 6902, RFC 6901 (JSON Pointer); http://hl7.org/fhir/R4/http.html#patch,
// http://hl7.org/fhir/R4/fhirpatch.html.
package patch

import (
	"fmt"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// Patch is a parsed patch of either kind.
type Patch interface {
	// Apply gives the document's text after all operations.
	Apply(doc *fhir.Document) ([]byte, error)
}

// Bounds of a patch.
const (
	// MaxOperations is how many operations one patch may have.
	MaxOperations = 10_000
	// maxSteps is how deep a pointer may go.
	maxSteps = 512
	// maxGrown is how many values a document may have once copies were made: a
	// few copies of copies would otherwise fill any memory.
	maxGrown = 2 << 20
)

// JSONPatch is a parsed patch. It does not change.
type JSONPatch struct{ operations []operation }

// operation is one step. Members that its kind does not have are zero.
type operation struct {
	op         string
	path, from pointer
	value      fhir.Node
}

// Parse reads a patch. The patch keeps src.
func Parse(src []byte) (*JSONPatch, error) {
	doc, err := fhir.Parse(src)
	if err != nil {
		return nil, err
	}
	root := doc.Root()
	if root.Kind() != fhir.Array {
		return nil, fault.New(fault.Invalid, "patch.Parse", "a JSON Patch is an array of operations")
	}
	if root.Len() > MaxOperations {
		return nil, fault.New(fault.TooCostly, "patch.Parse", "more than %d operations", MaxOperations)
	}
	p := &JSONPatch{operations: make([]operation, 0, root.Len())}
	for item := range root.Items() {
		o, wrong := readOperation(item)
		if wrong != "" {
			return nil, &fault.Error{Kind: fault.Invalid, Op: "patch.Parse", Subject: place(len(p.operations)), Detail: wrong}
		}
		p.operations = append(p.operations, o)
	}
	return p, nil
}

func place(i int) string { return fmt.Sprintf("operation %d", i+1) }

// readOperation reads one operation; wrong says what is against RFC 6902 section 4.
func readOperation(n fhir.Node) (o operation, wrong string) {
	if n.Kind() != fhir.Object {
		return o, "it is not an object"
	}
	o.op, o.value = n.Get("op").Text(), n.Get("value")
	needsValue, needsFrom := false, false
	switch o.op {
	case "add", "replace", "test":
		needsValue = true
	case "move", "copy":
		needsFrom = true
	case "remove":
	default:
		return o, `"op" is not one of add, remove, replace, move, copy, test`
	}
	if needsValue && !o.value.Exists() {
		return o, `"value" is missing`
	}
	if o.path, wrong = readPointer(n.Get("path")); wrong != "" {
		return o, `"path" ` + wrong
	}
	if needsFrom {
		if o.from, wrong = readPointer(n.Get("from")); wrong != "" {
			return o, `"from" ` + wrong
		}
	}
	return o, ""
}

// Apply gives the document's text after all operations.
func (p *JSONPatch) Apply(doc *fhir.Document) ([]byte, error) {
	t := tree{size: doc.NodeCount()}
	t.root = t.grow(doc.Root())
	for i, o := range p.operations {
		if wrong := t.apply(o); wrong != "" {
			return nil, &fault.Error{Kind: fault.Unprocessable, Op: "patch.Apply", Subject: place(i), Detail: wrong}
		}
		if t.size > maxGrown {
			return nil, fault.New(fault.TooCostly, "patch.Apply", "the patch makes more than %d values", maxGrown)
		}
	}
	return t.root.append(make([]byte, 0, len(doc.Bytes()))), nil
}
