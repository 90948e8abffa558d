package fhir

import (
	"slices"
)

// Edit is one change of a document. The plain form replaces Node's value by
// With, or, With being nil, removes the member or item Node. The other forms
// are made by Set, SetFirst, Append and Before.
//
// With must be valid JSON; it is put in as it is.
type Edit struct {
	Node Node
	With []byte

	place editPlace
	name  string // of a new member
}

type editPlace uint8

const (
	atNode  editPlace = iota // replaces or removes Node
	before                   // a new member or item before Node
	atStart                  // a new first member or item inside Node
	atEnd                    // a new last member or item inside Node
)

// Set gives object a member of this name: replaces its value when it has one,
// else adds it at the end.
func Set(object Node, name string, value []byte) Edit {
	return set(object, name, value, atEnd)
}

// SetFirst is Set, but a new member becomes the first one.
func SetFirst(object Node, name string, value []byte) Edit {
	return set(object, name, value, atStart)
}

func set(object Node, name string, value []byte, place editPlace) Edit {
	if member := object.Get(name); member.Exists() {
		return Edit{Node: member, With: value}
	}
	return Edit{Node: object, With: value, place: place, name: name}
}

// Append adds an item at the end of array.
func Append(array Node, item []byte) Edit {
	return Edit{Node: array, With: item, place: atEnd}
}

// Before adds an item to an array in front of item.
func Before(item Node, with []byte) Edit {
	return Edit{Node: item, With: with, place: before}
}

// SetBefore adds a member of this name to the object in which member stands,
// in front of member. The object must have none of this name.
func SetBefore(member Node, name string, value []byte) Edit {
	return Edit{Node: member, With: value, place: before, name: name}
}

// Apply gives the document's text with the edits made. All places are those of
// the document as it is, so the order of the edits matters only where several
// add at one place (they come out in the order given) or change one node (the
// last one rules). An edit below a node that is itself replaced or removed has
// no effect, and neither has one that does not fit: a node that is absent or of
// another document, the removal of the root, a new member in anything but an
// object, a new item in anything but an array.
//
// What no edit touches stays byte for byte; a removed or added member takes or
// brings its comma.
func Apply(d *Document, edits []Edit) []byte {
	a := applier{doc: d, edits: make([]Edit, 0, len(edits))}
	extra := 0
	for _, e := range edits {
		if a.fits(e) {
			a.edits = append(a.edits, e)
			extra += len(e.With) + len(e.name) + 4
		}
	}
	slices.SortStableFunc(a.edits, func(x, y Edit) int { return int(x.Node.i) - int(y.Node.i) })
	root := d.Root().tape()
	dst := make([]byte, 0, len(d.src)+extra)
	dst = append(dst, d.src[:root.off]...)
	dst = a.value(dst, 0, a.edits)
	return append(dst, d.src[root.end:]...)
}

// applier writes a document anew; containers without an edit below them are
// copied whole.
type applier struct {
	doc   *Document
	edits []Edit // by node
}

func (a *applier) fits(e Edit) bool {
	if e.Node.doc != a.doc || a.doc == nil {
		return false
	}
	switch inside := e.Node; e.place {
	case atNode:
		return e.With != nil || e.Node.i != 0
	case before:
		return e.With != nil && e.Node.i != 0 && holds(inside.Parent(), e.name)
	default:
		return e.With != nil && holds(inside, e.name)
	}
}

// holds reports whether a new child fits the container: a member, which has a
// name, into an object, an item into an array.
func holds(container Node, name string) bool {
	if name != "" {
		return container.Kind() == Object
	}
	return container.Kind() == Array
}

// split divides edits, all of nodes from i on, into those of i itself, those
// below it, and those behind it.
func (a *applier) split(i int32, edits []Edit) (own, below, behind []Edit) {
	k := 0
	for k < len(edits) && edits[k].Node.i == i {
		k++
	}
	next := a.doc.nodes[i].next
	m, _ := slices.BinarySearchFunc(edits, next, func(e Edit, i int32) int { return int(e.Node.i) - int(i) })
	return edits[:k], edits[k:m], edits[m:]
}

// value writes node i; edits are those of it and of what is below it.
func (a *applier) value(dst []byte, i int32, edits []Edit) []byte {
	t := &a.doc.nodes[i]
	own, below, _ := a.split(i, edits)
	for k := len(own) - 1; k >= 0; k-- {
		if own[k].place == atNode {
			return append(dst, own[k].With...)
		}
	}
	inside := len(below) > 0
	for _, e := range own {
		inside = inside || e.place != before
	}
	if !inside {
		return append(dst, a.doc.src[t.off:t.end]...)
	}
	return a.container(dst, i, own, below)
}

// container writes an object or array child by child. White space around a
// child goes with it; what stands before the closing bracket stays there.
func (a *applier) container(dst []byte, i int32, own, below []Edit) []byte {
	t := &a.doc.nodes[i]
	src := a.doc.src
	w := childWriter{dst: append(dst, src[t.off])}
	w.inserted(own, atStart)
	at := t.off + 1 // behind what has been written or left out
	for c := i + 1; c < t.next; c = a.doc.nodes[c].next {
		child := &a.doc.nodes[c]
		comma := a.comma(child, t)
		edits, inner, rest := a.split(c, below)
		w.inserted(edits, before)
		if !removed(edits) {
			w.separate()
			w.dst = append(w.dst, src[at:child.off]...)
			w.dst = a.value(w.dst, c, below[:len(edits)+len(inner)])
			w.dst = append(w.dst, src[child.end:comma]...)
		}
		below, at = rest, comma
		if child.next < t.next {
			at++
		}
	}
	w.inserted(own, atEnd)
	return append(w.dst, src[at:t.end]...)
}

// comma is the place of the comma behind a child, or, of the last child, its
// end.
func (a *applier) comma(child, container *node) uint32 {
	at := child.end
	if child.next < container.next {
		for a.doc.src[at] != ',' {
			at++
		}
	}
	return at
}

func removed(own []Edit) bool {
	for k := len(own) - 1; k >= 0; k-- {
		if own[k].place == atNode {
			return own[k].With == nil
		}
	}
	return false
}

// childWriter puts the commas between children.
type childWriter struct {
	dst  []byte
	some bool
}

func (w *childWriter) separate() {
	if w.some {
		w.dst = append(w.dst, ',')
	}
	w.some = true
}

func (w *childWriter) inserted(edits []Edit, place editPlace) {
	for _, e := range edits {
		if e.place != place {
			continue
		}
		w.separate()
		if e.name != "" {
			w.dst = append(AppendString(w.dst, e.name), ':')
		}
		w.dst = append(w.dst, e.With...)
	}
}
