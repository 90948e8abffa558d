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
// What stands between them stays byte for byte.
func (t *txn) rewrite(resource fhir.Node, fullURL string) []byte {
	if len(t.ids) == 0 && len(t.conditional) == 0 {
		return resource.Raw()
	}
	r := rewriter{txn: t, base: baseOf(fullURL)}
	r.element(resource, resource.ResourceType())
	return splice(resource, r.changes)
}

// change replaces one string value.
type change struct {
	node fhir.Node
	with []byte
}

// splice writes a value with some strings inside it replaced; changes are in
// document order.
func splice(n fhir.Node, changes []change) []byte {
	raw := n.Raw()
	if len(changes) == 0 {
		return raw
	}
	out := make([]byte, 0, len(raw))
	from, start := 0, n.Offset()
	for _, c := range changes {
		at := c.node.Offset() - start
		out = append(append(out, raw[from:at]...), c.with...)
		from = at + len(c.node.Raw())
	}
	return append(out, raw[from:]...)
}

// rewriter walks a resource with R4's types at hand.
type rewriter struct {
	*txn
	base    string // the fullUrl's own base, for relative references
	changes []change
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
	if to, known := r.conditional[text]; known {
		r.change(n, to)
		return
	}
	if r.replace(n, text) || r.base == "" {
		return
	}
	if ref := fhir.ParseReference(text); ref.Form == fhir.Relative {
		r.replace(n, r.base+"/"+text)
	}
}

// becomes is what a text that names an entry turns into.
func (r *rewriter) becomes(text string) (to string, known bool) {
	if to, known = r.ids[text]; known {
		return to, true
	}
	path, fragment, has := strings.Cut(text, "#")
	if to, known = r.ids[path]; !has || !known {
		return "", false
	}
	return to + "#" + fragment, true
}

func (r *rewriter) replace(n fhir.Node, text string) bool {
	to, known := r.becomes(text)
	if known {
		r.change(n, to)
	}
	return known
}

func (r *rewriter) change(n fhir.Node, to string) {
	r.changes = append(r.changes, change{n, fhir.AppendString(nil, to)})
}

// narrative replaces the values of href and src attributes.
func (r *rewriter) narrative(n fhir.Node) {
	text := n.TextBytes()
	var out []byte
	for rest := text; ; {
		before, value, after, found := attribute(rest)
		if !found {
			out = append(out, rest...)
			break
		}
		out = append(out, before...)
		if to, known := r.becomes(string(value)); known {
			out = append(out, to...)
		} else {
			out = append(out, value...)
		}
		rest = after
	}
	if !bytes.Equal(out, text) {
		r.change(n, string(out))
	}
}

// attribute finds the next href="…" or src="…", looking at each byte once;
// before ends with the quote.
func attribute(text []byte) (before, value, after []byte, found bool) {
	for at := 0; ; {
		sign := bytes.IndexByte(text[at:], '=')
		if sign < 0 {
			return nil, nil, nil, false
		}
		name, start := text[at:at+sign], at+sign+1
		at = start
		if !bytes.HasSuffix(name, hrefName) && !bytes.HasSuffix(name, srcName) {
			continue
		}
		if start == len(text) || text[start] != '"' && text[start] != '\'' {
			continue
		}
		end := bytes.IndexByte(text[start+1:], text[start])
		if end < 0 {
			return nil, nil, nil, false
		}
		end += start + 1
		return text[:start+1], text[start+1 : end], text[end:], true
	}
}

// The attributes that hold references (R4 http.html#trules).
var hrefName, srcName = []byte("href"), []byte("src")
