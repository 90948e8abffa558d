package validate

import (
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// inside is what a resource contains, and which of it is named. It is made at
// the first reference that begins with '#', or at the first contained resource.
type inside struct {
	byID  map[string]fhir.Node
	named map[string]bool // ids that some reference names
	back  map[int32]bool  // contained resources, by Ref, that name their container
}

// contents gives what the scope's root contains.
func (w *walk) contents() *inside {
	if w.inside != nil {
		return w.inside
	}
	in := &inside{}
	w.inside = in
	list := w.root.GetName(nameContained)
	if list.Kind() != fhir.Array {
		return in
	}
	next := list.Ref() + 1
	for range list.Len() {
		c := w.doc.At(next)
		next = w.skip(c)
		id := c.GetName(nameID).Text()
		if _, twice := in.byID[id]; !twice && id != "" {
			set(&in.byID, id, c)
		}
	}
	return in
}

// set puts into a map that is made when it is needed.
func set[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}

// local notes a value that begins with '#', and checks that a Reference's
// resolves (ref-1). "#" alone is the container.
func (w *walk) local(sl *slot, n fhir.Node, id []byte) {
	in := w.contents()
	if len(id) == 0 {
		set(&in.back, w.scope.resource.Ref(), true)
		return
	}
	set(&in.named, string(id), true)
	if _, ok := in.byID[string(id)]; !ok && sl.primitive == primitiveReference {
		w.fail(n, codeInvariant, "Rule ref-1: 'SHALL have a contained resource if a local reference is provided' Failed ('#%s')", quote(id))
	}
}

// containedType is the type of the contained resource with this id.
func (w *walk) containedType(id []byte) []byte {
	return w.contents().byID[string(id)].GetName(nameResourceType).TextBytes()
}

// containedRules holds a contained resource against dom-2, dom-4 and dom-5
// (http://hl7.org/fhir/R4/domainresource.html#invs).
func (w *walk) containedRules(n fhir.Node) {
	if nested := n.GetName(nameContained); nested.Exists() {
		w.fail(nested, codeInvariant, "Rule dom-2: 'If the resource is contained in another resource, it SHALL NOT contain nested Resources' Failed")
	}
	meta := n.GetName(nameMeta)
	for _, name := range []fhir.Name{nameVersionID, nameLastUpdated} {
		if at := meta.GetName(name); at.Exists() {
			w.fail(at, codeInvariant, "Rule dom-4: 'If a resource is contained in another resource, it SHALL NOT have a meta.versionId or a meta.lastUpdated' Failed")
		}
	}
	if at := meta.GetName(nameSecurity); at.Exists() {
		w.fail(at, codeInvariant, "Rule dom-5: 'If a resource is contained in another resource, it SHALL NOT have a security label' Failed")
	}
}

var (
	nameVersionID   = fhir.Intern("versionId")
	nameLastUpdated = fhir.Intern("lastUpdated")
	nameSecurity    = fhir.Intern("security")
)

// containerRules holds what a resource contains against dom-3, when all of it
// has been walked: each contained resource is named by its id from somewhere in
// the resource, or names its container. Ids are unique in it
// (http://hl7.org/fhir/R4/references.html#contained).
func (w *walk) containerRules(n fhir.Node) {
	list := n.GetName(nameContained)
	if list.Kind() != fhir.Array || w.full() {
		return
	}
	in := w.contents()
	next := list.Ref() + 1
	for range list.Len() {
		c := w.doc.At(next)
		next = w.skip(c)
		id := c.GetName(nameID)
		switch {
		case id.Kind() != fhir.String:
			if c.Kind() == fhir.Object && !in.back[c.Ref()] {
				w.fail(c, codeInvariant, "Rule dom-3: a contained resource without id cannot be referred to")
			}
		case in.byID[id.Text()].Ref() != c.Ref():
			w.fail(id, codeInvariant, "Duplicate id of a contained resource: '%s'", quote(id.TextBytes()))
		case !in.named[id.Text()] && !in.back[c.Ref()]:
			w.fail(c, codeInvariant, "Rule dom-3: 'If the resource is contained in another resource, it SHALL be referred to from elsewhere in the resource or SHALL refer to the containing resource' Failed (id '%s')",
				quote(id.TextBytes()))
		}
	}
}
