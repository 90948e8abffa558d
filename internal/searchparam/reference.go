package searchparam

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// reference makes the entries of where a value points, and of its identifier.
func (w *worker) reference(p *search.Param, as element, n fhir.Node) {
	if to, ok := locate(w.locator, as, n); ok {
		w.entries.Reference(p, to)
	}
	if as != elementReference {
		return
	}
	if c := codingOf(n.GetName(nameIdentifier), nameValue); c != (search.Coding{}) {
		w.entries.ReferenceIdentifier(p, c)
	}
}

// locate tells where a value points: a Reference, a canonical or a uri, or a
// resource that stands there itself (Bundle.entry.resource). What it gives is
// good as long as the document.
func locate(l search.Locator, as element, n fhir.Node) (to search.Target, ok bool) {
	var text string
	switch as {
	case elementReference:
		text = n.GetName(nameReference).View()
	case elementResource:
		text = n.ResourceType() + "/" + n.GetName(nameID).View()
	default:
		text = n.View()
	}
	if text == "" {
		return to, false
	}
	to = l.Locate(text)
	return to, to != (search.Target{})
}

// refersTo keeps references to a type: resolve() is T, answered from the
// reference's own words, and of what is contained from the resource.
func refersTo(typ string) filter {
	return func(n fhir.Node, _ int) bool {
		to := n.GetName(nameReference).View()
		if id, ok := strings.CutPrefix(to, "#"); ok {
			return contains(n.Document().Root(), id, typ)
		}
		if r := fhir.ParseReference(to); r.Type != "" {
			return r.Type == typ
		}
		return n.GetName(nameType).Is(typ)
	}
}

// contains reports whether a resource has one of a type inside, under this id.
func contains(root fhir.Node, id, typ string) bool {
	for r := root.GetName(nameContained).FirstItem(); r.Exists(); r = r.NextItem() {
		if r.GetName(nameID).Is(id) {
			return r.ResourceType() == typ
		}
	}
	return false
}

// Targets gives the resources of this store to which a reference parameter of a
// resource points: what an _include follows. A nil parameter is every reference
// parameter of the type.
func (x *Extractor) Targets(t plan.Type, p *search.Param, root fhir.Node) []plan.Key {
	var keys []plan.Key
	x.pointed(t, p, root, func(to search.Target) {
		if to.Key.ID != "" {
			to.Key.ID = strings.Clone(to.Key.ID)
			keys = append(keys, to.Key)
		}
	})
	return keys
}

// Pointed gives all that a reference parameter of a resource points to. A nil
// parameter is every reference parameter of the type.
func (x *Extractor) Pointed(t plan.Type, p *search.Param, root fhir.Node) []search.Target {
	var all []search.Target
	x.pointed(t, p, root, func(to search.Target) {
		to.Key.ID, to.Version = strings.Clone(to.Key.ID), strings.Clone(to.Version)
		to.URL, to.Versioned = strings.Clone(to.URL), strings.Clone(to.Versioned)
		all = append(all, to)
	})
	return all
}

// Canonicals gives the URLs to which a reference parameter of a resource points,
// with the versions that they state: the resources that have these urls are meant.
func (x *Extractor) Canonicals(t plan.Type, p *search.Param, root fhir.Node) []search.CanonicalURL {
	var all []search.CanonicalURL
	x.pointed(t, p, root, func(to search.Target) {
		if c, ok := to.Canonical(); ok {
			all = append(all, search.CanonicalURL{URL: strings.Clone(c.URL), Version: strings.Clone(c.Version)})
		}
	})
	return all
}

// referring settles what else than references a reference parameter may look at:
// canonicals and URIs, or resources themselves.
func referring(param *search.Param, p *r4.SearchParam) {
	paths, err := valuePaths(p.Base, p.Expression)
	if err != nil || param.Kind != search.KindReference {
		return
	}
	for _, x := range paths {
		param.Canonical = param.Canonical || x.as == elementCanonical || x.as == elementPrimitive
		param.Inline = param.Inline || x.as == elementResource
	}
}

func (x *Extractor) pointed(t plan.Type, p *search.Param, root fhir.Node, yield func(search.Target)) {
	x.each(t, p, root, func(as element, n fhir.Node) {
		if to, ok := locate(x.locator, as, n); ok {
			yield(to)
		}
	})
}

// each gives the values of a parameter of a resource; of a nil parameter those of
// every reference parameter of the type.
func (x *Extractor) each(t plan.Type, p *search.Param, root fhir.Node, yield func(as element, n fhir.Node)) {
	all := x.registry.programOf(t).extractions
	for i := range all {
		if p == nil && all[i].param.Kind != search.KindReference || p != nil && all[i].param != holder(p) {
			continue
		}
		evaluated(&all[i], root, yield)
		for j := range all[i].paths {
			at := &all[i].paths[j]
			at.walk(root, func(n fhir.Node) { yield(at.as, n) })
		}
	}
}
