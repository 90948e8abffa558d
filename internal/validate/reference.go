package validate

import (
	"bytes"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// targets are the resource types a Reference may point to, a bit for each
// r4.TypeID.
type targets struct {
	bits  [4]uint64
	names []string
}

// newTargets makes a set, nil when any type is allowed.
func newTargets(names []string) *targets {
	t := &targets{names: names}
	for _, name := range names {
		id, ok := r4.TypeByName(name)
		if !ok { // Resource
			return nil
		}
		t.bits[id>>6] |= 1 << (id & 63)
	}
	if len(names) == 0 {
		return nil
	}
	return t
}

func (t *targets) has(id r4.TypeID) bool {
	return int(id>>6) < len(t.bits) && t.bits[id>>6]&(1<<(id&63)) != 0
}

// target checks the type that a literal reference names, or that the contained
// resource has it points to.
func (w *walk) target(sl *slot, n fhir.Node) {
	reference := n.GetName(nameReference)
	if !reference.Exists() {
		return
	}
	name := targetType(reference.TextBytes())
	if id, local := bytes.CutPrefix(reference.TextBytes(), []byte("#")); local {
		name = w.containedType(id)
	}
	id, ok := r4.TypeByName(string(name))
	if !ok || sl.targets.has(id) {
		return
	}
	w.fail(reference, codeValue, "Invalid Resource target type. Found %s, but expected one of (%s)", quote(name), strings.Join(sl.targets.names, ", "))
}

// targetType is the type in Type/id, Type/id/_history/1, base/Type/id and
// Type?query; nil where a reference names none.
func targetType(text []byte) []byte {
	if i := bytes.IndexByte(text, '#'); i >= 0 {
		text = text[:i]
	}
	if i := bytes.IndexByte(text, '?'); i >= 0 {
		return lastSegment(text[:i])
	}
	if bytes.HasPrefix(text, []byte("urn:")) || bytes.IndexByte(text, '|') >= 0 {
		return nil
	}
	head, id := cutLast(text)
	if before, mark := cutLast(head); string(mark) == "_history" {
		head, id = cutLast(before)
	}
	if !validID(id) {
		return nil
	}
	return lastSegment(head)
}

// cutLast cuts at the last slash; without one there is no head.
func cutLast(text []byte) (head, last []byte) {
	i := bytes.LastIndexByte(text, '/')
	if i < 0 {
		return nil, text
	}
	return text[:i], text[i+1:]
}

func lastSegment(text []byte) []byte {
	_, last := cutLast(text)
	return last
}
