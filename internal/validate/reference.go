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
// resource has it points to, and Reference.type, which has to agree (R4
// references.html#Reference).
func (w *walk) target(sl *slot, n fhir.Node) {
	said := n.GetName(nameType)
	saidName := bytes.TrimPrefix(said.TextBytes(), []byte(r4Types))
	saidID, isSaid := r4.TypeByName(string(saidName))
	if isSaid {
		w.fits(sl, said, saidName, saidID)
	}
	reference := n.GetName(nameReference)
	if !reference.Exists() {
		return
	}
	name := targetType(reference.TextBytes())
	if id, local := bytes.CutPrefix(reference.TextBytes(), []byte("#")); local {
		name = w.containedType(id)
	}
	id, ok := r4.TypeByName(string(name))
	switch {
	case !ok:
	case isSaid && saidID != id:
		w.fail(said, codeValue, "The type is %s, but the reference is to %s", quote(saidName), quote(name))
	case !isSaid:
		w.fits(sl, reference, name, id)
	}
}

// r4Types is what the URLs of R4's types begin with; Reference.type may be
// relative to it.
const r4Types = "http://hl7.org/fhir/StructureDefinition/"

func (w *walk) fits(sl *slot, at fhir.Node, name []byte, id r4.TypeID) {
	if sl.targets != nil && !sl.targets.has(id) {
		w.fail(at, codeValue, "Invalid Resource target type. Found %s, but expected one of (%s)", quote(name), strings.Join(sl.targets.names, ", "))
	}
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
