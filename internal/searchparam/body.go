package searchparam

import (
	"maps"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

var _ search.Bodies = (*Extractor)(nil)

var nameContained = fhir.Intern("contained")

// opened reads a stored body; nil for what is no resource.
func opened(body []byte) *fhir.Document {
	doc, err := fhir.Parse(fhir.StoredJSON(body))
	if err != nil {
		return nil
	}
	return doc
}

// Whole implements search.Bodies.
func (x *Extractor) Whole(key plan.Key, body []byte) []plan.Entry {
	doc := opened(body)
	if doc == nil {
		return nil
	}
	defer doc.Release()
	return x.wholeOf(key.Type, doc.Root())
}

func (x *Extractor) wholeOf(t plan.Type, root fhir.Node) []plan.Entry {
	w := x.readers.Get().(*worker)
	defer x.readers.Put(w)
	entries, _, err := w.inspect(w.registry.programOf(t), root)
	if err != nil {
		return nil // such a resource is not stored
	}
	return entries
}

// Words implements search.Bodies.
func (x *Extractor) Words(_ plan.Key, body []byte, column *search.Param) []plan.Entry {
	doc := opened(body)
	if doc == nil {
		return nil
	}
	defer doc.Release()
	w := x.readers.Get().(*worker)
	defer x.readers.Put(w)
	w.entries.Reset()
	w.root, w.issues = doc.Root(), nil
	defer w.end()
	w.content(column)
	return w.entries.Done()
}

// Contained implements search.Bodies.
func (x *Extractor) Contained(key plan.Key, body []byte, hops ...search.Hop) []search.ContainedResource {
	doc := opened(body)
	if doc == nil {
		return nil
	}
	defer doc.Release()
	root := doc.Root()
	at, t := []fhir.Node{root}, key.Type
	for _, hop := range hops {
		at, t = x.beside(root, t, at, hop), hop.Type
	}
	var found []search.ContainedResource
	for _, r := range at {
		found = append(found, x.inner(t, strings.Clone(r.GetName(nameID).View()), r))
	}
	return found
}

// beside are the resources inside root that a hop leads to from some of a type.
func (x *Extractor) beside(root fhir.Node, t plan.Type, from []fhir.Node, hop search.Hop) []fhir.Node {
	wanted := map[string]bool{}
	var found []fhir.Node
	for _, r := range from {
		switch {
		case hop.Via == nil:
		case hop.Via.Inline:
			x.each(t, hop.Via, r, func(as element, r fhir.Node) {
				if is, ok := x.registry.Type(r.ResourceType()); ok && is == hop.Type && as == elementResource {
					found = append(found, r)
				}
			})
		default:
			maps.Copy(wanted, x.fragments(t, hop.Via, r))
		}
	}
	for r := root.GetName(nameContained).FirstItem(); r.Exists(); r = r.NextItem() {
		is, ok := x.registry.Type(r.ResourceType())
		if ok && is == hop.Type && (hop.Via == nil || wanted[r.GetName(nameID).View()]) {
			found = append(found, r)
		}
	}
	return found
}

func (x *Extractor) inner(t plan.Type, id string, r fhir.Node) search.ContainedResource {
	return search.ContainedResource{ID: id, JSON: append([]byte(nil), r.Raw()...), Entries: x.wholeOf(t, r)}
}

// Names implements search.Bodies.
func (x *Extractor) Names(key plan.Key, body []byte, p *search.Param) []search.CanonicalURL {
	doc := opened(body)
	if doc == nil {
		return nil
	}
	defer doc.Release()
	return x.Canonicals(key.Type, p, doc.Root())
}

// fragments are the ids of contained resources that a reference parameter points
// to.
func (x *Extractor) fragments(t plan.Type, via *search.Param, root fhir.Node) map[string]bool {
	ids := map[string]bool{}
	if via.Union != nil {
		for _, part := range via.Union {
			for id := range x.fragments(t, part, root) {
				ids[id] = true
			}
		}
		return ids
	}
	all := x.registry.programOf(t).extractions
	for i := range all {
		if all[i].param != holder(via) {
			continue
		}
		for j := range all[i].paths {
			all[i].paths[j].walk(root, func(n fhir.Node) {
				if id, ok := strings.CutPrefix(n.GetName(nameReference).View(), "#"); ok {
					ids[strings.Clone(id)] = true
				}
			})
		}
	}
	return ids
}

// holder is the parameter whose extraction makes a parameter's entries.
func holder(p *search.Param) *search.Param {
	if p.Of != nil && !p.OfMain {
		return p.Of
	}
	return p
}
