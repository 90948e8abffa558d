package patch

import (
	"fmt"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
)

// Bounds of a FHIRPath Patch. Each operation reads the document anew.
const (
	// MaxFHIRPathOperations is how many operations one patch may have.
	MaxFHIRPathOperations = 1000
	// maxRead is how many bytes all operations together may read.
	maxRead = 1 << 30
	// maxWritten is how long the document may become, in bytes.
	maxWritten = 64 << 20
	// maxPathSteps and maxPathItems bound the evaluation of one path.
	maxPathSteps, maxPathItems = 1_000_000, 100_000
)

// FHIRPathPatch is a parsed FHIRPath Patch (http://hl7.org/fhir/R4/fhirpatch.html).
// It does not change.
type FHIRPathPatch struct{ operations []pathOperation }

// pathOperation is one step. Members that its kind does not have are zero.
type pathOperation struct {
	kind                       string // add, insert, delete, replace, move
	path                       *fhirpath.Expr
	name                       string    // add: the member
	value                      fhir.Node // add, insert, replace: the part that holds it
	index, source, destination int
}

// ParseFHIRPath reads a Parameters resource as a FHIRPath Patch, which keeps the
// node's document. One that is none is fault.Invalid, a path that is no FHIRPath
// fault.Syntax.
func ParseFHIRPath(parameters fhir.Node) (*FHIRPathPatch, error) {
	list := parameters.Get("parameter")
	if list.Len() > MaxFHIRPathOperations {
		return nil, fault.New(fault.TooCostly, "patch.ParseFHIRPath", "more than %d operations", MaxFHIRPathOperations)
	}
	p := &FHIRPathPatch{}
	for item := range list.Items() {
		o, err := readPathOperation(item)
		if err != nil {
			f := *fault.From(err)
			f.Op, f.Subject = "patch.ParseFHIRPath", place(len(p.operations))
			return nil, &f
		}
		p.operations = append(p.operations, o)
	}
	return p, nil
}

func wrong(format string, args ...any) error {
	return fault.New(fault.Invalid, "patch.ParseFHIRPath", format, args...)
}

// needs are the parts of each kind of operation, beside type and path.
var needs = map[string][]string{
	"add": {"name", "value"}, "insert": {"index", "value"}, "delete": nil, "replace": {"value"}, "move": {"source", "destination"},
}

func readPathOperation(n fhir.Node) (o pathOperation, err error) {
	if !n.Get("name").Is("operation") {
		return o, wrong(`a parameter is not named "operation"`)
	}
	parts := map[string]fhir.Node{}
	for part := range n.Get("part").Items() {
		name := part.Get("name").Text()
		if _, twice := parts[name]; twice {
			return o, wrong("it has two parts of one name")
		}
		parts[name] = part
	}
	o.kind = partText(parts["type"])
	needed, known := needs[o.kind]
	if !known {
		return o, wrong(`"type" is not one of add, insert, delete, replace, move`)
	}
	for _, name := range append([]string{"path"}, needed...) {
		if !parts[name].Exists() {
			return o, wrong("%q is missing", name)
		}
	}
	o.name, o.value = partText(parts["name"]), parts["value"]
	for name, into := range map[string]*int{"index": &o.index, "source": &o.source, "destination": &o.destination} {
		if *into, err = partIndex(parts[name]); err != nil {
			return o, err
		}
	}
	if o.path, err = fhirpath.Compile(narrative(partText(parts["path"]))); err != nil {
		return o, badPath(parts["path"], err)
	}
	return o, nil
}

// badPath says where in the patch the path stands that is none; what is told of
// lines and columns in the path is in its text.
func badPath(part fhir.Node, err error) error {
	f := *fault.From(err)
	detail := f.Message()
	if len(f.Place) > 0 {
		detail = f.Place[0].Detail
		if at := f.Place[0]; at.Line > 0 {
			detail = fmt.Sprintf("%s, in line %d, column %d of the path", detail, at.Line, at.Col)
		}
	}
	line, col := part.Position()
	f.Place = []fault.Issue{{Kind: f.Kind, Detail: detail, Expression: part.Path(), Line: line, Col: col}}
	return &f
}

// narrative lets a path end in ".div", which FHIRPath wants in back quotes because
// div is an operator; HL7's own test cases write it without.
func narrative(path string) string {
	if before, is := strings.CutSuffix(path, ".div"); is {
		return before + ".`div`"
	}
	return path
}

// partText is the string, code or the like that a part holds.
func partText(part fhir.Node) string {
	for name, value := range part.Members() {
		if strings.HasPrefix(name, "value") && value.Kind() == fhir.String {
			return value.Text()
		}
	}
	return ""
}

func partIndex(part fhir.Node) (int, error) {
	if !part.Exists() {
		return 0, nil
	}
	i, ok := part.Get("valueInteger").Int()
	if !ok || i < 0 {
		return 0, wrong("%q is not a valueInteger from 0", part.Get("name").Text())
	}
	return int(min(i, maxWritten)), nil
}

// Apply gives the document's text after all operations.
func (p *FHIRPathPatch) Apply(doc *fhir.Document) ([]byte, error) {
	text, read := doc.Bytes(), 0
	for i, o := range p.operations {
		if read += len(text); read > maxRead {
			return nil, fault.New(fault.TooCostly, "patch.Apply", "the operations read more than %d bytes", maxRead)
		}
		edits, err := o.edits(doc.Root())
		if err != nil {
			return nil, notApplied(i, err)
		}
		if text = fhir.Apply(doc, edits); len(text) > maxWritten {
			return nil, fault.New(fault.TooCostly, "patch.Apply", "the document becomes larger than %d bytes", maxWritten)
		}
		if doc, err = fhir.Parse(text); err != nil {
			return nil, notApplied(i, err)
		}
	}
	return text, nil
}

// notApplied says which operation failed.
func notApplied(i int, err error) error {
	f := *fault.From(err)
	f.Op, f.Subject, f.Place = "patch.Apply", place(i), nil
	if f.Kind == fault.Invalid || f.Kind == fault.Syntax {
		f.Kind = fault.Unprocessable
	}
	return &f
}

func unfit(format string, args ...any) error {
	return fault.New(fault.Unprocessable, "patch.Apply", format, args...)
}

// edits are the changes that the operation makes.
func (o *pathOperation) edits(root fhir.Node) ([]fhir.Edit, error) {
	found, err := o.path.Eval(&fhirpath.Env{Limits: fhirpath.Limits{MaxSteps: maxPathSteps, MaxItems: maxPathItems}}, root)
	if err != nil {
		return nil, err
	}
	if o.kind == "insert" || o.kind == "move" {
		return o.list(root, found)
	}
	switch {
	case len(found) > 1:
		return nil, unfit("the path %s finds more than one element", o.path.Source())
	case len(found) == 0 && o.kind == "delete":
		return nil, nil // nothing to delete is no error
	case len(found) == 0:
		return nil, unfit("the path %s finds nothing", o.path.Source())
	}
	node, ok := found[0].Node()
	if !ok {
		return nil, unfit("the path %s gives a value that is no element", o.path.Source())
	}
	if o.kind == "add" {
		return o.add(node)
	}
	e, err := locate(node)
	if err != nil {
		return nil, err
	}
	if o.kind == "delete" {
		return e.list.without(e.at), nil
	}
	return o.replace(e)
}

// add puts the value into a member of the element: behind what a repeating one
// has, or where there was none.
func (o *pathOperation) add(owner fhir.Node) ([]fhir.Edit, error) {
	if owner.Kind() != fhir.Object {
		return nil, unfit("the path %s finds a primitive, which has no members", o.path.Source())
	}
	l, value, err := o.member(owner, o.name)
	if err != nil {
		return nil, err
	}
	if !l.repeats && len(l.slots) > 0 {
		return nil, unfit("%s is there already and does not repeat", o.name)
	}
	l.slots = append(l.slots, value)
	return l.write(), nil
}

// member is a member of an object by its name, or a choice's by the value's
// type, and the value to be put there.
func (o *pathOperation) member(owner fhir.Node, name string) (*list, slot, error) {
	info, name, err := element(typeOf(owner), name, o.value)
	if err != nil {
		return nil, slot{}, err
	}
	value, err := makeValue(o.value, info)
	if err != nil {
		return nil, slot{}, err
	}
	if info.Choice != "" {
		for _, other := range choices(typeOf(owner), info.Choice) {
			if other != name && (owner.Get(other).Exists() || owner.Get("_"+other).Exists()) {
				return nil, slot{}, unfit("%s is there already and does not repeat", info.Choice)
			}
		}
	}
	return readList(owner, name, info.Max > 1), value, nil
}

// replace puts the value where the element is; a choice may change its type.
func (o *pathOperation) replace(e located) ([]fhir.Edit, error) {
	l := e.list
	name := l.name
	if known, ok := lookup(typeOf(l.owner), name); ok && known.Choice != "" {
		name = known.Choice
	}
	info, name, err := element(typeOf(l.owner), name, o.value)
	if err != nil {
		return nil, err
	}
	value, err := makeValue(o.value, info)
	if err != nil {
		return nil, err
	}
	if name != l.name {
		other := readList(l.owner, name, false)
		other.slots = []slot{value}
		l.slots = nil
		return append(l.write(), other.write()...), nil
	}
	l.slots[e.at] = value
	return l.write(), nil
}

// list carries out insert and move, whose paths name a list.
func (o *pathOperation) list(root fhir.Node, found []fhirpath.Value) ([]fhir.Edit, error) {
	if len(found) == 0 {
		return o.insertFirst(root)
	}
	l, places, err := o.one(found)
	if err != nil {
		return nil, err
	}
	if o.kind == "move" {
		return o.move(l, places)
	}
	if o.index > len(places) {
		return nil, unfit("the index %d is behind the list's end, %d", o.index, len(places))
	}
	info, _, err := element(typeOf(l.owner), l.name, o.value)
	if err != nil {
		return nil, err
	}
	value, err := makeValue(o.value, info)
	if err != nil {
		return nil, err
	}
	at := places[len(places)-1] + 1
	if o.index < len(places) {
		at = places[o.index]
	}
	l.insert(at, value)
	return l.write(), nil
}

// one is the list that all elements are of, and their places in it.
func (o *pathOperation) one(found []fhirpath.Value) (*list, []int, error) {
	first, _ := found[0].Node()
	e, err := locate(first)
	if err != nil {
		return nil, nil, err
	}
	if !e.list.repeats {
		return nil, nil, unfit("%s is no list", e.list.name)
	}
	where, places := e.list.places(), make([]int, len(found))
	for i, v := range found {
		node, _ := v.Node()
		at, in := where[node]
		if !in {
			return nil, nil, unfit("the path %s finds elements of more than one list", o.path.Source())
		}
		places[i] = at
	}
	return e.list, places, nil
}

// move takes an element of those found out and puts it in again, so that it
// stands at the destination among them.
func (o *pathOperation) move(l *list, places []int) ([]fhir.Edit, error) {
	if max(o.source, o.destination) >= len(places) {
		return nil, unfit("the list has %d items, so there is no %d", len(places), max(o.source, o.destination))
	}
	moved := l.slots[places[o.source]]
	step := 1
	if o.destination < o.source {
		step = -1
	}
	for i := o.source; i != o.destination; i += step {
		l.slots[places[i]] = l.slots[places[i+step]]
	}
	l.slots[places[o.destination]] = moved
	return l.write(), nil
}

// insertFirst inserts into a list that is not there yet: its path must end in
// the list's name, and the index be 0.
func (o *pathOperation) insertFirst(root fhir.Node) ([]fhir.Edit, error) {
	nothing := unfit("the path %s finds nothing", o.path.Source())
	before, name, dotted := cutLast(o.path.Source())
	if o.kind == "move" || o.index > 0 || !dotted {
		return nil, nothing
	}
	owner, err := fhirpath.Compile(before)
	if err != nil {
		return nil, nothing
	}
	if _, known := lookup(typeOf(root), name); !known && strings.ContainsAny(name, "()'` ") {
		return nil, nothing
	}
	in := pathOperation{kind: "add", path: owner, name: name, value: o.value}
	return in.edits(root)
}

// cutLast splits a path in front of its last name.
func cutLast(path string) (before, name string, ok bool) {
	at := strings.LastIndexByte(path, '.')
	if at < 0 {
		return "", "", false
	}
	return path[:at], strings.TrimSpace(path[at+1:]), true
}
