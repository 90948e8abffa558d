package searchparam

import (
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// reference makes the entries of where a value points, and of its identifier.
func (w *worker) reference(p *search.Param, v value) {
	if to, text, ok := w.target(v); ok {
		w.entries.Reference(p, to, text)
	}
	if v.typ == "Reference" {
		yieldCoding(v.node.GetName(nameIdentifier), nameValue, func(c search.Coding) {
			w.entries.ReferenceIdentifier(p, c)
		})
	}
}

// target is where a value points, and the text of it: a Reference, a canonical
// or a uri, or a resource that stands there itself (Bundle.entry.resource).
func (w *worker) target(v value) (to search.Target, text string, ok bool) {
	return locate(w.locator, v)
}

func locate(l search.Locator, v value) (to search.Target, text string, ok bool) {
	switch v.typ {
	case "Reference":
		text = v.node.GetName(nameReference).Text()
	case "Resource":
		text = v.node.ResourceType() + "/" + v.node.GetName(nameID).Text()
	default:
		text = v.node.Text()
	}
	if text == "" {
		return to, text, false
	}
	to = l.Locate(text)
	return to, text, to != (search.Target{})
}

// refersTo keeps references to a type: resolve() is T, answered from the
// reference's own words.
func refersTo(typ string) filter {
	return func(n fhir.Node, _ int) bool {
		if r := fhir.ParseReference(n.GetName(nameReference).Text()); r.Type != "" {
			return r.Type == typ
		}
		return n.GetName(nameType).Is(typ)
	}
}

// Targets gives the resources of this store to which a reference parameter of a
// resource points: what an _include follows. A nil parameter is every reference
// parameter of the type.
func (x *Extractor) Targets(t plan.Type, p *search.Param, root fhir.Node) []plan.Key {
	var keys []plan.Key
	x.pointed(t, p, root, func(to search.Target) {
		if to.Key.ID != "" {
			keys = append(keys, to.Key)
		}
	})
	return keys
}

// Canonicals gives the URLs, without version, to which a reference parameter of
// a resource points: an _include finds the resources of these by their url.
func (x *Extractor) Canonicals(t plan.Type, p *search.Param, root fhir.Node) []string {
	var urls []string
	x.pointed(t, p, root, func(to search.Target) {
		if to.URL != "" {
			urls = append(urls, to.URL)
		}
	})
	return urls
}

func (x *Extractor) pointed(t plan.Type, p *search.Param, root fhir.Node, yield func(search.Target)) {
	all := x.registry.programOf(t).extractions
	for i := range all {
		if all[i].param.Kind != search.KindReference || p != nil && all[i].param != p {
			continue
		}
		for j := range all[i].paths {
			at := &all[i].paths[j]
			at.walk(root, func(n fhir.Node) {
				if to, _, ok := locate(x.locator, value{n, at.typ}); ok {
					yield(to)
				}
			})
		}
	}
}
