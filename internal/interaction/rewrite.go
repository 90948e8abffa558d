package interaction

import (
	"bytes"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// rewrite gives an entry's resource with its references to other entries turned
// into references to the resources they became, where R4 lists them
// (http.html#trules): Reference.reference, elements of type uri, url, oid and
// uuid, and href and src in narratives; never canonicals or plain strings.
func (t *txn) rewrite(resource fhir.Node, fullURL string) []byte {
	raw := resource.Raw()
	doc, err := fhir.ParseLimits(raw, bundleLimits)
	if err != nil { // a value inside a parsed document parses
		return raw
	}
	defer doc.Release()
	r := rewriter{ids: t.ids, base: baseOf(fullURL)}
	r.element(doc.Root(), doc.ResourceType())
	return fhir.Apply(doc, r.edits)
}

// rewriter walks a resource with R4's types at hand.
type rewriter struct {
	ids   map[string]string
	base  string // the fullUrl's own base, for relative references
	edits []fhir.Edit
}

// baseOf is the part of a RESTful fullUrl before Type/id; "" for URNs.
func baseOf(fullURL string) string {
	ref := fhir.ParseReference(fullURL)
	if ref.Form != fhir.Absolute {
		return ""
	}
	return ref.Base
}

// element walks the members of an object of this type.
func (r *rewriter) element(n fhir.Node, typ string) {
	for name, member := range n.Members() {
		if name == "resourceType" || strings.HasPrefix(name, "_") {
			continue
		}
		info, known := r4.Element(typ, name)
		if !known {
			continue
		}
		for value := range member.Items() {
			r.value(value, typ, name, info.Type)
		}
	}
}

func (r *rewriter) value(n fhir.Node, parent, name, typ string) {
	switch {
	case n.Kind() == fhir.Object && (typ == "Resource" || typ == ""):
		r.element(n, n.ResourceType())
	case n.Kind() == fhir.Object:
		r.element(n, typ)
	case n.Kind() != fhir.String:
	case parent == "Reference" && name == "reference":
		r.reference(n)
	case typ == "uri" || typ == "url" || typ == "oid" || typ == "uuid":
		r.replace(n, n.Text())
	case typ == "xhtml":
		r.narrative(n)
	}
}

func (r *rewriter) reference(n fhir.Node) {
	text := n.Text()
	if r.replace(n, text) || r.base == "" {
		return
	}
	if ref := fhir.ParseReference(text); ref.Form == fhir.Relative {
		r.replace(n, r.base+"/"+text)
	}
}

func (r *rewriter) replace(n fhir.Node, text string) bool {
	to, known := r.ids[text]
	if !known {
		path, fragment, has := strings.Cut(text, "#")
		if to, known = r.ids[path]; !has || !known {
			return false
		}
		to += "#" + fragment
	}
	r.edits = append(r.edits, fhir.Edit{Node: n, With: fhir.AppendString(nil, to)})
	return true
}

// narrative replaces the values of href and src attributes.
func (r *rewriter) narrative(n fhir.Node) {
	text := []byte(n.Text())
	var out []byte
	for rest := text; ; {
		before, value, after, found := attribute(rest)
		if !found {
			out = append(out, rest...)
			break
		}
		out = append(out, before...)
		if to, known := r.ids[string(value)]; known {
			out = append(out, to...)
		} else {
			out = append(out, value...)
		}
		rest = after
	}
	if !bytes.Equal(out, text) {
		r.edits = append(r.edits, fhir.Edit{Node: n, With: fhir.AppendString(nil, string(out))})
	}
}

// attribute finds the next href="…" or src="…"; before ends with the quote.
func attribute(text []byte) (before, value, after []byte, found bool) {
	best := -1
	for _, name := range [...]string{"href=", "src="} {
		if at := bytes.Index(text, []byte(name)); at >= 0 && (best < 0 || at+len(name) < best) {
			best = at + len(name)
		}
	}
	if best < 0 || best >= len(text) || text[best] != '"' && text[best] != '\'' {
		return nil, nil, nil, false
	}
	quote, start := text[best], best+1
	end := bytes.IndexByte(text[start:], quote)
	if end < 0 {
		return nil, nil, nil, false
	}
	return text[:start], text[start : start+end], text[start+end:], true
}
