package fhir

import (
	"bytes"
	"iter"
	"strconv"
	"sync"
	"unicode/utf8"
	"unsafe"
)

// Kind is the JSON kind of a Node.
type Kind uint8

// The kinds of nodes; Absent is what a search for a missing member gives.
const (
	Absent Kind = iota
	Object
	Array
	String
	Number
	Bool
	Null
)

func (k Kind) String() string {
	return [...]string{"absent", "object", "array", "string", "number", "boolean", "null"}[k]
}

// Names the package itself asks for.
var (
	nameResourceType = Intern("resourceType")
	nameID           = Intern("id")
	nameMeta         = Intern("meta")
	nameVersionID    = Intern("versionId")
	nameLastUpdated  = Intern("lastUpdated")
	nameReference    = Intern("reference")
	nameStart        = Intern("start")
	nameEnd          = Intern("end")
)

// node is one value on the tape: 32 bytes, no pointers. Its children, if any,
// follow it directly, each with its own subtree, up to next.
type node struct {
	kind    Kind
	flags   uint8
	name    Name   // interned member name; 0 unknown or none
	nameOff uint32 // first byte of the member name, behind its quote; 0 for items and the root
	nameLen uint32 // bytes of the member name as written
	off     uint32 // first byte of the value (a string's quote)
	end     uint32 // behind the value's last byte
	next    int32  // behind the last node of this subtree
	parent  int32  // -1 for the root
	count   uint32 // members or items
}

const (
	flagEscaped     = 1 << iota // the string value holds a backslash
	flagNameEscaped             // the member name holds a backslash
)

// Document is a parsed JSON text. It does not change.
type Document struct {
	src    []byte
	nodes  []node
	spaced bool // there is white space outside strings
}

var documents = sync.Pool{New: func() any { return new(Document) }}

// maxPooledNodes is the longest tape that goes back to the pool (2 MiB), so
// that one large bundle does not stay in memory for ever.
const maxPooledNodes = 1 << 16

// Release gives the tape back for reuse. Afterwards neither the Document nor
// any Node of it may be used. It is optional.
func (d *Document) Release() {
	if cap(d.nodes) > maxPooledNodes {
		return
	}
	d.src, d.nodes, d.spaced = nil, d.nodes[:0], false
	documents.Put(d)
}

// Root is the value that the whole text is.
func (d *Document) Root() Node { return Node{d, 0} }

// Bytes is the text the Document was parsed from.
func (d *Document) Bytes() []byte { return d.src }

// At gives the node with this Ref, Absent when there is none.
func (d *Document) At(ref int32) Node {
	if ref < 0 || int(ref) >= len(d.nodes) {
		return Node{}
	}
	return Node{d, ref}
}

// NodeCount is the number of values in the document; every Ref is below it.
func (d *Document) NodeCount() int { return len(d.nodes) }

// ResourceType is the root's resourceType, "" if it has none.
func (d *Document) ResourceType() string { return d.Root().ResourceType() }

// ID is the root's id, "" if it has none.
func (d *Document) ID() string { return d.Root().GetName(nameID).stringOnly() }

// Node is one value of a Document. The zero Node is Absent; every method is
// safe on it.
type Node struct {
	doc *Document
	i   int32
}

func (n Node) tape() *node { return &n.doc.nodes[n.i] }

// Kind is the value's JSON kind.
func (n Node) Kind() Kind {
	if n.doc == nil {
		return Absent
	}
	return n.tape().kind
}

// Exists reports whether the node is there (a null is).
func (n Node) Exists() bool { return n.doc != nil }

// Is reports whether the value is a string with exactly this content.
func (n Node) Is(text string) bool {
	if n.Kind() != String {
		return false
	}
	if t := n.tape(); t.flags&flagEscaped == 0 {
		return string(n.doc.src[t.off+1:t.end-1]) == text
	}
	return n.Text() == text
}

// Name is the member name in the parent object, "" for items and the root.
func (n Node) Name() string {
	if n.doc == nil {
		return ""
	}
	t := n.tape()
	if t.name != 0 {
		return t.name.String()
	}
	return string(n.doc.nameBytes(t))
}

// NameID is the interned member name, 0 for items, the root and names nobody
// interned before the document was parsed.
func (n Node) NameID() Name {
	if n.doc == nil {
		return 0
	}
	return n.tape().name
}

// IsMember reports whether the node is a member of an object.
func (n Node) IsMember() bool { return n.doc != nil && n.tape().nameOff != 0 }

// nameBytes is the member name, decoded.
func (d *Document) nameBytes(t *node) []byte {
	raw := d.src[t.nameOff : t.nameOff+t.nameLen]
	if t.flags&flagNameEscaped != 0 {
		return unescaped(raw)
	}
	return raw
}

// Get gives the member of an object, Absent when there is none.
func (n Node) Get(name string) Node {
	if n.Kind() != Object {
		return Node{}
	}
	d, end := n.doc, n.tape().next
	for i := n.i + 1; i < end; i = d.nodes[i].next {
		if d.named(&d.nodes[i], name) {
			return Node{d, i}
		}
	}
	return Node{}
}

func (d *Document) named(t *node, name string) bool {
	if t.flags&flagNameEscaped == 0 {
		return int(t.nameLen) == len(name) && string(d.src[t.nameOff:t.nameOff+t.nameLen]) == name
	}
	return string(d.nameBytes(t)) == name
}

// GetName is Get for an interned name. Members whose name was not interned
// when the document was parsed are compared by their text.
func (n Node) GetName(name Name) Node {
	if n.Kind() != Object || name == 0 {
		return Node{}
	}
	d, end := n.doc, n.tape().next
	for i := n.i + 1; i < end; i = d.nodes[i].next {
		t := &d.nodes[i]
		if t.name == name || t.name == 0 && d.named(t, name.String()) {
			return Node{d, i}
		}
	}
	return Node{}
}

// Index gives the item of an array by its place from 0, Absent outside.
func (n Node) Index(i int) Node {
	if n.Kind() != Array || i < 0 || i >= int(n.tape().count) {
		return Node{}
	}
	at := n.i + 1
	for ; i > 0; i-- {
		at = n.doc.nodes[at].next
	}
	return Node{n.doc, at}
}

// Len is the number of items or members, 0 for everything else.
func (n Node) Len() int {
	if n.doc == nil {
		return 0
	}
	return int(n.tape().count)
}

// Members goes through the members of an object in their order; of anything
// else there are none.
func (n Node) Members() iter.Seq2[string, Node] {
	return func(yield func(string, Node) bool) {
		if n.Kind() != Object {
			return
		}
		for c := range n.children() {
			if !yield(c.Name(), c) {
				return
			}
		}
	}
}

// Items goes through the items of an array; a value that is no array is its
// own only item, and Absent has none. So code that follows a path need not
// care which elements repeat.
func (n Node) Items() iter.Seq[Node] {
	switch n.Kind() {
	case Absent:
		return func(func(Node) bool) {}
	case Array:
		return n.children()
	}
	return func(yield func(Node) bool) { yield(n) }
}

// Children goes through members and items alike, without decoding names.
func (n Node) Children() iter.Seq[Node] {
	if n.doc == nil {
		return func(func(Node) bool) {}
	}
	return n.children()
}

func (n Node) children() iter.Seq[Node] {
	return func(yield func(Node) bool) {
		d, end := n.doc, n.tape().next
		for i := n.i + 1; i < end; i = d.nodes[i].next {
			if !yield(Node{d, i}) {
				return
			}
		}
	}
}

// First is the first member or item, Absent when there is none. With Next it
// goes through members and items without an iterator's cost:
//
//	for c := n.First(); c.Exists(); c = c.Next() {
func (n Node) First() Node {
	if n.doc == nil || n.tape().count == 0 {
		return Node{}
	}
	return Node{n.doc, n.i + 1}
}

// Next is the member or item that follows in the parent, Absent behind the last
// and for the root.
func (n Node) Next() Node {
	if n.doc == nil {
		return Node{}
	}
	t := n.tape()
	if t.parent < 0 || t.next >= n.doc.nodes[t.parent].next {
		return Node{}
	}
	return Node{n.doc, t.next}
}

// FirstItem is where to begin going through an element that may repeat: the
// first item of an array, and any other value itself. NextItem goes on.
func (n Node) FirstItem() Node {
	if n.Kind() == Array {
		return n.First()
	}
	return n
}

// NextItem is the item that follows in the array, Absent behind the last and
// for a value that is no item.
func (n Node) NextItem() Node {
	if n.doc == nil || n.tape().nameOff != 0 {
		return Node{}
	}
	return n.Next()
}

// View is Text without a copy where none is needed. It is good as long as the
// document's bytes are: whoever keeps it clones it.
func (n Node) View() string {
	b := n.TextBytes()
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// Descendants goes through everything below the node in document order, the
// node itself not included.
func (n Node) Descendants() iter.Seq[Node] {
	return func(yield func(Node) bool) {
		if n.doc == nil {
			return
		}
		for i, end := n.i+1, n.tape().next; i < end; i++ {
			if !yield(Node{n.doc, i}) {
				return
			}
		}
	}
}

// Text is a string's content, decoded; for numbers and booleans it is the text
// as written, for null, objects, arrays and Absent "".
func (n Node) Text() string { return string(n.TextBytes()) }

// TextBytes is Text without a copy where none is needed: the result may lie in
// the document's own bytes and must not be changed.
func (n Node) TextBytes() []byte {
	switch n.Kind() {
	case String:
		t := n.tape()
		inner := n.doc.src[t.off+1 : t.end-1]
		if t.flags&flagEscaped != 0 {
			return unescaped(inner)
		}
		return inner
	case Number, Bool:
		return n.Raw()
	}
	return nil
}

// stringOnly is Text of a string and "" of anything else.
func (n Node) stringOnly() string {
	if n.Kind() != String {
		return ""
	}
	return n.Text()
}

// Bool is true for the literal true, false for anything else.
func (n Node) Bool() bool {
	return n.Kind() == Bool && n.doc.src[n.tape().off] == 't'
}

// Int is the value of a number written without fraction and exponent, if it
// fits.
func (n Node) Int() (int64, bool) {
	if n.Kind() != Number {
		return 0, false
	}
	v, err := strconv.ParseInt(string(n.Raw()), 10, 64)
	return v, err == nil
}

// Raw is the exact bytes of the value, quotes and brackets included. They lie
// in the document and must not be changed.
func (n Node) Raw() []byte {
	if n.doc == nil {
		return nil
	}
	t := n.tape()
	return n.doc.src[t.off:t.end:t.end]
}

// ResourceType is the node's resourceType member, "" if it has none: what the
// root, contained resources and bundle entries have.
func (n Node) ResourceType() string { return n.GetName(nameResourceType).stringOnly() }

// Offset is the place of the value's first byte in the document.
func (n Node) Offset() int {
	if n.doc == nil {
		return 0
	}
	return int(n.tape().off)
}

// Position is the place of the value's first byte as line and column, both
// from 1; columns count characters. Absent is at 0, 0.
func (n Node) Position() (line, col int) {
	if n.doc == nil {
		return 0, 0
	}
	return position(n.doc.src, n.Offset())
}

func position(src []byte, off int) (line, col int) {
	before := src[:min(off, len(src))]
	line = 1 + bytes.Count(before, []byte{'\n'})
	last := bytes.LastIndexByte(before, '\n')
	return line, 1 + utf8.RuneCount(before[last+1:])
}

// Document is the document the node is of, nil for Absent.
func (n Node) Document() *Document { return n.doc }

// Parent is the object or array the node stands in, Absent for the root.
func (n Node) Parent() Node {
	if n.doc == nil {
		return Node{}
	}
	return n.doc.At(n.tape().parent)
}

// Ref is the node's place on the tape, from 0 for the root: stable, in document
// order, fit as a map key. It is -1 for Absent.
func (n Node) Ref() int32 {
	if n.doc == nil {
		return -1
	}
	return n.i
}

// Path is where the node stands, as OperationOutcome.issue.expression has it:
// "Patient.name[0].given[1]". The first step is the resource type (nothing
// when there is none); the underscore of a primitive's extension object is
// left out, as FHIRPath sees id and extension on the primitive itself; names
// that are no identifiers stand in back quotes.
func (n Node) Path() string {
	if n.doc == nil {
		return ""
	}
	return string(n.appendPath(nil))
}

func (n Node) appendPath(dst []byte) []byte {
	t := n.tape()
	if t.parent < 0 {
		return append(dst, n.ResourceType()...)
	}
	dst = n.Parent().appendPath(dst)
	if t.nameOff != 0 {
		if len(dst) > 0 {
			dst = append(dst, '.')
		}
		return appendPathName(dst, n.Name())
	}
	dst = append(dst, '[')
	dst = strconv.AppendInt(dst, int64(n.place()), 10)
	return append(dst, ']')
}

func appendPathName(dst []byte, name string) []byte {
	if len(name) > 1 && name[0] == '_' {
		name = name[1:]
	}
	if isIdentifier(name) {
		return append(dst, name...)
	}
	dst = append(dst, '`')
	for i := range len(name) {
		if name[i] == '`' || name[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, name[i])
	}
	return append(dst, '`')
}

// isIdentifier follows FHIRPath: a letter or underscore, then also digits.
func isIdentifier(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// place is the node's number among its siblings.
func (n Node) place() int {
	k := 0
	for i := n.tape().parent + 1; i < n.i; i = n.doc.nodes[i].next {
		k++
	}
	return k
}
