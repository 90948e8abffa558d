package validate

import (
	"context"
	"math/bits"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// Names the walk itself asks for.
var (
	nameResourceType = fhir.Intern("resourceType")
	nameID           = fhir.Intern("id")
	nameMeta         = fhir.Intern("meta")
	nameProfile      = fhir.Intern("profile")
	nameReference    = fhir.Intern("reference")
	nameType         = fhir.Intern("type")
	nameCoding       = fhir.Intern("coding")
	nameSystem       = fhir.Intern("system")
	nameCode         = fhir.Intern("code")
	nameContained    = fhir.Intern("contained")
	nameExtension    = fhir.Intern("extension")
)

// walk is one pass over one resource. Each step takes a node and gives the Ref
// behind its subtree: the tape is in document order, so no step looks for the
// next sibling, and nothing is allocated.
type walk struct {
	v      *Validator
	ctx    context.Context
	doc    *fhir.Document
	level  Level
	errors int
	issues []fault.Issue
	// refused is the root's id, when Minimal refuses it: not to be told twice.
	refused fhir.Node
	scope
}

// scope is the resource the walk is in. A resource that stands by itself opens
// a new one; a contained resource only changes resource.
type scope struct {
	root     fhir.Node // the outermost resource: %rootResource
	resource fhir.Node // the innermost: %resource
	inside   *inside   // what the root contains; nil while nothing asked
}

// place is where a resource stands.
type place uint8

const (
	rootPlace      place = iota // by itself
	nestedPlace                 // in a Bundle or Parameters
	containedPlace              // in contained
)

// resource walks a whole resource.
func (w *walk) resource(n fhir.Node, where place) int32 {
	s, ok := w.resourceType(n, where)
	if !ok {
		return w.skip(n)
	}
	if err := w.ctx.Err(); err != nil {
		w.issues = append(w.issues, fault.Issue{
			Severity: fault.SeverityFatal, Kind: fault.Canceled, Detail: "Validation was canceled",
		})
		return w.skip(n)
	}
	outer := w.scope
	if where == containedPlace {
		w.scope.resource = n
	} else {
		w.scope = scope{root: n, resource: n}
	}
	if where == rootPlace {
		w.rootID(n)
	}
	next := w.object(s, n)
	if where == containedPlace {
		w.containedRules(n)
		outer.inside = w.inside // made in here, it is the container's all the same
	} else {
		w.containerRules(n)
	}
	if w.level == Strict || w.level == 0 {
		w.profiles(s, n)
	}
	w.scope = outer
	return next
}

// resourceType finds the table of a resource.
func (w *walk) resourceType(n fhir.Node, where place) (*shape, bool) {
	if n.Kind() != fhir.Object {
		w.noType(where, n, codeStructure, "A resource must be an Object, not %s", a(n.Kind()))
		return nil, false
	}
	t := n.GetName(nameResourceType)
	switch {
	case !t.Exists():
		w.noType(where, n, codeRequired, "Unable to find resourceType property")
		return nil, false
	case t.Kind() != fhir.String:
		w.noType(where, t, codeStructure, "resourceType must be a string, not %s", a(t.Kind()))
		return nil, false
	}
	id, ok := r4.TypeByName(string(t.TextBytes()))
	if !ok {
		w.noType(where, t, codeValue, "Unknown resource type '%s'", quote(t.TextBytes()))
		return nil, false
	}
	return w.v.resourceShape(id), true
}

// noType reports a resource that is none; by itself it is refused at any level.
func (w *walk) noType(where place, at fhir.Node, code, format string, args ...any) {
	if where == rootPlace {
		w.refuse(at, code, format, args...)
		return
	}
	w.fail(at, code, format, args...)
}

// rootID refuses an id that no URL can carry at Minimal too.
func (w *walk) rootID(n fhir.Node) {
	id := n.GetName(nameID)
	if w.level == Minimal && id.Exists() && (id.Kind() != fhir.String || !validID(id.TextBytes())) {
		w.refuse(id, codeValue, "The id must have 1 to 64 letters, digits, '-' and '.'")
		w.refused = id
	}
}

// object walks an object and all its members.
func (w *walk) object(s *shape, n fhir.Node) int32 {
	if n.Kind() != fhir.Object {
		w.fail(n, codeStructure, "This property must be an Object, not %s", a(n.Kind()))
		return w.skip(n)
	}
	if n.Len() == 0 {
		w.fail(n, codeStructure, "Object must have some content")
		return n.Ref() + 1
	}
	errors, seen, next := w.errors, uint64(0), n.Ref()+1
	for range n.Len() {
		if w.full() {
			return w.skip(n)
		}
		c := w.doc.At(next)
		sl := s.find(c)
		if sl == nil {
			w.unknown(s, c)
			next = w.skip(c)
			continue
		}
		if sl.choice && seen&(1<<sl.bit) != 0 {
			w.choiceOnce(s, n, sl, c)
		}
		seen |= 1 << sl.bit
		next = w.member(sl, n, c)
	}
	if missing := s.required &^ seen; missing != 0 {
		w.missing(s, n, missing)
	}
	if !s.resource && !s.extras && onlyHasID(n) {
		w.onlyID(n)
	}
	if w.level != Minimal && w.errors == errors {
		w.apply(s, seen, n)
	}
	return next
}

func (w *walk) onlyID(n fhir.Node) {
	w.fail(n, codeInvariant, "Rule ele-1: 'All FHIR elements must have a @value or children' Failed")
}

func (w *walk) missing(s *shape, n fhir.Node, missing uint64) {
	for ; missing != 0; missing &= missing - 1 {
		e := s.bits[bits.TrailingZeros64(missing)]
		w.fail(n, codeRequired, "Profile http://hl7.org/fhir/StructureDefinition/%s, Element '%s': minimum required = %d, but only found 0",
			firstStep(e.Path), e.Path, e.Min)
	}
}

// firstStep is the type in which a path begins.
func firstStep(path string) string {
	for i := range len(path) {
		if path[i] == '.' {
			return path[:i]
		}
	}
	return path
}

func (w *walk) unknown(s *shape, c fhir.Node) {
	name := quote([]byte(c.Name()))
	if len(name) > 1 && name[0] == '_' {
		if e := s.named(name[1:]); e != nil && e.element != nil {
			w.fail(c, codeStructure, "Unrecognised property '@%s': only primitive elements have one beside them", name)
			return
		}
	}
	if allowed := s.choiceOf(name); allowed != "" {
		w.fail(c, codeStructure, "Unrecognised property '@%s': not a type of %s", name, allowed)
		return
	}
	w.fail(c, codeStructure, "Unrecognised property '@%s'", name)
}

// named finds a slot by text, for messages.
func (s *shape) named(name string) *slot {
	for i := range s.slots {
		if s.slots[i].name.String() == name {
			return &s.slots[i]
		}
	}
	return nil
}

// choiceOf gives the path of a choice that a member name begins with, or "".
func (s *shape) choiceOf(name string) string {
	for _, e := range s.bits {
		if e.IsChoice() && len(name) > len(e.Choice) && name[:len(e.Choice)] == e.Choice &&
			'A' <= name[len(e.Choice)] && name[len(e.Choice)] <= 'Z' {
			return e.Path
		}
	}
	return ""
}

// choiceOnce reports a member of a choice when another type of the same choice
// stands before it. A value and its extras are one and the same.
func (w *walk) choiceOnce(s *shape, n fhir.Node, sl *slot, c fhir.Node) {
	next := n.Ref() + 1
	for next < c.Ref() {
		other := w.doc.At(next)
		o := s.find(other)
		if o != nil && o.bit == sl.bit && o.name != sl.name && o.name != sl.pair {
			w.fail(c, codeStructure, "Only one type of %s may be given, and '%s' is there already", sl.element.Path, other.Name())
			return
		}
		next = w.skip(other)
	}
}

// skip gives the Ref behind a node that is not looked into.
func (w *walk) skip(n fhir.Node) int32 {
	end, next := n.Offset()+len(n.Raw()), n.Ref()+1
	for c := w.doc.At(next); c.Exists() && c.Offset() < end; c = w.doc.At(next) {
		next++
	}
	return next
}

// member walks what one member holds.
func (w *walk) member(sl *slot, parent, c fhir.Node) int32 {
	isArray := c.Kind() == fhir.Array
	switch {
	case sl.form == formForbidden:
		w.fail(c, codeStructure, "Element '%s': maximum allowed = 0, but found 1", sl.element.Path)
		return w.skip(c)
	case isArray != sl.array:
		w.wrongArray(sl, c)
		return w.skip(c)
	case !isArray:
		return w.value(sl, parent, c)
	case c.Len() == 0:
		w.fail(c, codeStructure, "Array cannot be empty - the property should not be present if it has no values")
		return c.Ref() + 1
	}
	next := w.items(sl, parent, c)
	if sl.pair != 0 {
		w.paired(sl, parent, c)
	}
	return next
}

func (w *walk) wrongArray(sl *slot, c fhir.Node) {
	switch {
	case sl.array:
		w.fail(c, codeStructure, "This property must be an Array, not %s", a(c.Kind()))
	case sl.form == formPrimitive:
		w.fail(c, codeStructure, "This property must be an simple value, not %s", a(c.Kind()))
	default:
		w.fail(c, codeStructure, "This property must be an Object, not %s", a(c.Kind()))
	}
}

func (w *walk) items(sl *slot, parent, c fhir.Node) int32 {
	next := c.Ref() + 1
	for range c.Len() {
		item := w.doc.At(next)
		if item.Kind() == fhir.Null && sl.pair != 0 {
			next++ // paired judges it
			continue
		}
		next = w.value(sl, parent, item)
	}
	return next
}

// paired holds the two arrays of a repeating primitive against each other, once,
// at the array of extras when there is one. Nulls fill both to one length
// (http://hl7.org/fhir/R4/json.html#primitive).
func (w *walk) paired(sl *slot, parent, c fhir.Node) {
	other := parent.GetName(sl.pair)
	if other.Kind() != fhir.Array {
		w.gaps(sl, c, fhir.Node{})
		return
	}
	if sl.form != formExtras {
		return
	}
	if other.Len() != c.Len() {
		w.fail(c, codeStructure, "'%s' and '%s' differ in length (%d and %d); null must fill the gaps", sl.name, sl.pair, c.Len(), other.Len())
		return
	}
	w.gaps(sl, other, c)
}

// gaps goes along one array, or along both together: null in all that there are
// says nothing, and extras need more than an id where there is no value.
func (w *walk) gaps(sl *slot, first, second fhir.Node) {
	next, nextSecond := first.Ref()+1, second.Ref()+1
	for range first.Len() {
		item, beside := w.doc.At(next), fhir.Node{}
		if second.Exists() {
			beside = w.doc.At(nextSecond)
			nextSecond = w.skip(beside)
		} else if sl.form == formExtras {
			beside = item
		}
		next = w.skip(item)
		switch {
		case item.Kind() == fhir.Null && !given(beside):
			w.fail(item, codeStructure, "null is only allowed where the other array, '_%s', has an item", sl.element.Name)
		case (item.Kind() == fhir.Null || item == beside) && onlyHasID(beside):
			w.onlyID(beside)
		}
	}
}

func given(n fhir.Node) bool { return n.Exists() && n.Kind() != fhir.Null }

func onlyHasID(n fhir.Node) bool { return n.Len() == 1 && n.GetName(nameID).Exists() }

// value walks one value that is no array's whole.
func (w *walk) value(sl *slot, parent, n fhir.Node) int32 {
	switch sl.form {
	case formPrimitive:
		return w.primitive(sl, n)
	case formObject:
		errors, next := w.errors, w.object(sl.shape, n)
		if w.errors == errors {
			w.about(sl, n)
		}
		return next
	case formResource:
		if sl.contained {
			return w.resource(n, containedPlace)
		}
		return w.resource(n, nestedPlace)
	case formExtras:
		return w.extras(sl, parent, n)
	}
	return n.Ref() + 1 // resourceType, judged before
}

// about checks what an element asks of a well-formed object beyond its type.
func (w *walk) about(sl *slot, n fhir.Node) {
	if sl.codes != nil {
		w.concept(sl, n)
	}
	if sl.targets != nil || sl.element.Type == "Reference" {
		w.target(sl, n)
	}
	if len(sl.rules) > 0 && w.level != Minimal {
		w.applyRules(sl.rules, sl.element.Type, 0, n)
	}
}

// extras walks the object beside a primitive. It needs more than an id where
// there is no value (ele-1).
func (w *walk) extras(sl *slot, parent, n fhir.Node) int32 {
	next := w.object(sl.shape, n)
	if !sl.array && onlyHasID(n) && !parent.GetName(sl.pair).Exists() {
		w.onlyID(n)
	}
	return next
}
