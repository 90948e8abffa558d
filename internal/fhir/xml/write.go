package xml

import (
	"bytes"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// declarationText begins every document.
const declarationText = `<?xml version="1.0" encoding="UTF-8"?>`

// indentation is what AppendPretty puts before an element for each one around it,
// but for maxIndented of them at most: else the white space of a deep resource
// would be its length times its depth.
const (
	indentation = "  "
	maxIndented = 64
)

// AppendXML appends a resource as a document of FHIR's XML: the XML declaration
// and, on the same line, one element in the namespace Namespace, elements in R4's
// order, values as they are written.
//
// XML cannot be written without R4's definitions, so what they do not have is
// refused rather than lost: unknown members and types, empty objects and arrays,
// a value where R4 has a list or the other way round, a string for a number, a
// character XML does not allow, a narrative that is no XML. The error is a
// *fault.Error of Kind Invalid with one Place: expression, line and column of the
// member; dst is then returned as it was.
func AppendXML(dst []byte, root fhir.Node) ([]byte, error) {
	return appendDocument(dst, root, false)
}

// AppendPretty is AppendXML with a line for each element, two spaces a level.
// Narratives keep their own white space.
func AppendPretty(dst []byte, root fhir.Node) ([]byte, error) {
	return appendDocument(dst, root, true)
}

func appendDocument(dst []byte, root fhir.Node, pretty bool) ([]byte, error) {
	w := writer{out: append(dst, declarationText...), pretty: pretty}
	if wrong := w.resource(root, ` xmlns="`+Namespace+`"`); wrong != nil {
		at := wrong.node
		line, col := at.Position()
		return dst, wrong.problem("xml.AppendXML", at.Path(), line, col)
	}
	return w.out, nil
}

// misfit is a finding about a node.
type misfit struct {
	finding
	node fhir.Node
}

func misfits(n fhir.Node, code, format string, args ...any) *misfit {
	return &misfit{finding: *invalid(0, code, format, args...), node: n}
}

// writer writes elements as it walks the tape.
type writer struct {
	out    []byte
	pretty bool
	depth  int
	pairs  []pair // members of the open objects, a stretch for each
}

// pair is a member of an object with what stands beside it, _member.
type pair struct {
	field          *field
	value, sibling fhir.Node
}

// node is whichever of the two is there.
func (p pair) node() fhir.Node {
	if p.value.Exists() {
		return p.value
	}
	return p.sibling
}

// line begins a line in pretty text.
func (w *writer) line() {
	if !w.pretty {
		return
	}
	w.out = append(w.out, '\n')
	for range min(w.depth, maxIndented) {
		w.out = append(w.out, indentation...)
	}
}

// resource writes a resource as an element, with this behind its name.
func (w *writer) resource(n fhir.Node, declared string) *misfit {
	if n.Kind() != fhir.Object {
		return misfits(n, codeStructure, "a resource must be an object, not %s", a(n.Kind()))
	}
	t := n.GetName(nameResourceType)
	if t.Kind() != fhir.String {
		return misfits(n, codeStructure, "a resource needs its resourceType")
	}
	sh, ok := resourceShape(t.TextBytes())
	if !ok {
		return misfits(t, codeStructure, "%q is no resource type of R4", t.Text())
	}
	w.line()
	w.out = append(append(w.out, '<'), sh.typeName...)
	w.out = append(w.out, declared...)
	return w.members(sh, sh.typeName, n, fhir.Node{})
}

// members writes the rest of an element whose start tag is open: attributes,
// of a primitive then its value, children and end tag.
func (w *writer) members(sh *shape, name string, object, value fhir.Node) *misfit {
	mark := len(w.pairs)
	if wrong := w.collect(sh, object, mark); wrong != nil {
		return wrong
	}
	wrong := w.attributes(mark)
	if wrong == nil && value.Exists() {
		wrong = w.attribute("value", value)
	}
	if wrong == nil {
		wrong = w.children(name, mark)
	}
	w.pairs = w.pairs[:mark]
	return wrong
}

// collect puts an object's members on pairs, in R4's order.
func (w *writer) collect(sh *shape, object fhir.Node, mark int) *misfit {
	for m := object.First(); m.Exists(); m = m.Next() {
		if sh.resource && m.NameID() == nameResourceType {
			continue
		}
		sl, ok := sh.slot(m)
		if !ok {
			return misfits(m, codeStructure, "%s is not known in %s, so XML has no place for it", m.Name(), sh.typeName)
		}
		p := w.pair(sl.field, mark)
		if sl.sibling {
			p.sibling = m
		} else {
			p.value = m
		}
	}
	return nil
}

// pair finds the field's pair, or makes it in its place.
func (w *writer) pair(f *field, mark int) *pair {
	at := len(w.pairs)
	for at > mark && w.pairs[at-1].field.order > f.order {
		at--
	}
	for i := at; i > mark && w.pairs[i-1].field.order == f.order; i-- {
		if w.pairs[i-1].field == f {
			return &w.pairs[i-1]
		}
	}
	w.pairs = append(w.pairs, pair{})
	copy(w.pairs[at+1:], w.pairs[at:])
	w.pairs[at] = pair{field: f}
	return &w.pairs[at]
}

func (w *writer) attributes(mark int) *misfit {
	for i := mark; i < len(w.pairs); i++ {
		p := w.pairs[i]
		if p.field.form != formAttribute {
			continue
		}
		if p.value.Kind() != fhir.String {
			return misfits(p.value, codeValue, "%s must be a string, not %s", p.field.name, a(p.value.Kind()))
		}
		if wrong := w.attribute(p.field.name, p.value); wrong != nil {
			return wrong
		}
	}
	return nil
}

// attribute writes an attribute with the text of a string, number or boolean.
func (w *writer) attribute(name string, n fhir.Node) *misfit {
	text := n.TextBytes()
	if n.Kind() == fhir.String {
		if at := badChar(text); at >= 0 {
			r, _ := utf8.DecodeRune(text[at:])
			return misfits(n, codeValue, "XML cannot hold the character U+%04X", r)
		}
	}
	w.out = append(append(w.out, ' '), name...)
	w.out = append(w.out, `="`...)
	w.out = append(appendAttribute(w.out, text), '"')
	return nil
}

// children writes what is no attribute, and the end of the element.
func (w *writer) children(name string, mark int) *misfit {
	open := false
	end := len(w.pairs)
	for i := mark; i < end; i++ {
		p := w.pairs[i]
		if p.field.form == formAttribute {
			continue
		}
		if !open {
			open = true
			w.out = append(w.out, '>')
			w.depth++
		}
		if wrong := w.member(p); wrong != nil {
			return wrong
		}
	}
	if !open {
		w.out = append(w.out, "/>"...)
		return nil
	}
	w.depth--
	w.line()
	w.end(name)
	return nil
}

func (w *writer) end(name string) {
	w.out = append(append(w.out, "</"...), name...)
	w.out = append(w.out, '>')
}

// member writes the elements of one member.
func (w *writer) member(p pair) *misfit {
	f := p.field
	if !f.array {
		if p.value.Kind() == fhir.Null {
			return misfits(p.value, codeStructure, "%s must not be null", f.name)
		}
		return w.element(p)
	}
	for _, list := range [...]fhir.Node{p.value, p.sibling} {
		switch {
		case !list.Exists():
		case list.Kind() != fhir.Array:
			return misfits(list, codeStructure, "%s must be an array, not %s", f.name, a(list.Kind()))
		case list.Len() == 0:
			return misfits(list, codeStructure, "%s is empty, so XML has no place for it", f.name)
		}
	}
	value, sibling := p.value.First(), p.sibling.First()
	for value.Exists() || sibling.Exists() {
		if wrong := w.element(pair{field: f, value: value, sibling: sibling}); wrong != nil {
			return wrong
		}
		value, sibling = value.Next(), sibling.Next()
	}
	return nil
}

// element writes one element.
func (w *writer) element(p pair) *misfit {
	f, n := p.field, p.value
	if f.form.primitive() {
		return w.primitive(p)
	}
	if f.form == formNarrative {
		return w.narrative(n)
	}
	if n.Kind() != fhir.Object {
		return misfits(n, codeStructure, "%s must be an object, not %s", f.name, a(n.Kind()))
	}
	if n.Len() == 0 {
		return misfits(n, codeStructure, "%s is empty, so XML has no place for it", f.name)
	}
	w.line()
	w.out = append(append(w.out, '<'), f.name...)
	if f.form == formComplex {
		return w.members(f.shape(), f.name, n, fhir.Node{})
	}
	w.out = append(w.out, '>')
	w.depth++
	if wrong := w.resource(n, ""); wrong != nil {
		return wrong
	}
	w.depth--
	w.line()
	w.end(f.name)
	return nil
}

// primitive writes a primitive: value, id and extensions are one element in XML.
func (w *writer) primitive(p pair) *misfit {
	f := p.field
	value, sibling := present(p.value), present(p.sibling)
	if !value.Exists() && !sibling.Exists() {
		return misfits(p.node(), codeStructure, "%s has neither value nor extension, so XML has no place for it", f.name)
	}
	if want := f.form.kind(); value.Exists() && value.Kind() != want {
		return misfits(value, codeValue, "%s must be %s, not %s", f.name, a(want), a(value.Kind()))
	}
	if sibling.Exists() && (sibling.Kind() != fhir.Object || sibling.Len() == 0) {
		return misfits(sibling, codeStructure, "_%s must hold an object with an id or extensions", f.name)
	}
	w.line()
	w.out = append(append(w.out, '<'), f.name...)
	if sibling.Exists() {
		return w.members(f.shape(), f.name, sibling, value)
	}
	if wrong := w.attribute("value", value); wrong != nil {
		return wrong
	}
	w.out = append(w.out, "/>"...)
	return nil
}

// present is the node, but Absent for a null, which only holds a place.
func present(n fhir.Node) fhir.Node {
	if n.Kind() == fhir.Null {
		return fhir.Node{}
	}
	return n
}

// kind is the JSON kind of a primitive's value.
func (f form) kind() fhir.Kind {
	switch f {
	case formInteger, formDecimal:
		return fhir.Number
	case formBoolean:
		return fhir.Bool
	}
	return fhir.String
}

// narrative writes the div that a string holds.
func (w *writer) narrative(n fhir.Node) *misfit {
	if n.Kind() != fhir.String {
		return misfits(n, codeStructure, "a narrative must be a string, not %s", a(n.Kind()))
	}
	text := n.TextBytes()
	if at := badChar(text); at >= 0 {
		r, _ := utf8.DecodeRune(text[at:])
		return misfits(n, codeValue, "XML cannot hold the character U+%04X", r)
	}
	w.line()
	if wrong := w.div(text); wrong != nil {
		return misfits(n, codeValue, "the narrative cannot be written in XML: %s", wrong.text)
	}
	return nil
}

// div copies the text of a narrative. White space around the div is none of it.
func (w *writer) div(text []byte) *finding {
	s := scanner{src: text, limits: orDefault(fhir.Limits{}), html: true}
	s.bindings = append(s.bindings, binding{uri: []byte(XHTMLNamespace)}) // what a div without one means
	outer := len(s.bindings)
	if wrong := skipBlank(&s, kindOpen); wrong != nil {
		return wrong
	}
	n := narrative{s: &s, out: w.out, outer: outer, text: toXMLText}
	if wrong := n.copy(); wrong != nil {
		return wrong
	}
	w.out = n.out
	return skipBlank(&s, kindEnd)
}

// skipBlank reads white space up to a piece of this kind.
func skipBlank(s *scanner, until kind) *finding {
	for {
		if wrong := s.next(); wrong != nil {
			return wrong
		}
		switch {
		case s.kind == until:
			return nil
		case s.kind != kindText || len(bytes.TrimLeft(s.src[s.from:s.pos], " \t\r\n")) > 0:
			return syntax(s.from, "it must be one <div> and nothing else")
		}
	}
}

// a is a JSON kind in a sentence.
func a(k fhir.Kind) string {
	switch k {
	case fhir.Object, fhir.Array:
		return "an " + k.String()
	}
	return "a " + k.String()
}
