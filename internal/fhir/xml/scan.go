package xml

import (
	"bytes"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// maxAttributes bounds the attributes of one element, declarations included,
// because each is compared with all others. FHIR knows three, XHTML about twenty.
const maxAttributes = 128

// kind is what sort of piece a token is.
type kind uint8

const (
	kindEnd     kind = iota // of the text
	kindOpen                // a start tag, or an empty-element tag
	kindClose               // an end tag; behind an empty-element tag one of no length
	kindText                // characters and references
	kindCDATA               // a CDATA section
	kindComment             // a comment
	kindPI                  // a processing instruction
)

// name is a place of a qualified name.
type name struct{ from, colon, to int } // colon is from-1 without a prefix

// attribute is one attribute of a start tag.
type attribute struct {
	name
	value, end int // the text between the quotes
}

// binding is a namespace declaration that holds from depth on.
type binding struct {
	prefix, uri []byte
	depth       int
}

// scanner reads XML 1.0 with namespaces, one piece a step, without copying. It
// refuses what is not well-formed, and a document type declaration, so that
// there are no entities but XML's five and nothing is ever fetched or repeated.
type scanner struct {
	src    []byte
	pos    int
	limits fhir.Limits
	html   bool // HTML's names of characters may be used (text of a narrative in JSON)

	// The piece read last is src[from:pos].
	kind  kind
	from  int
	name  name        // of a tag
	attrs []attribute // of a start tag, declarations included
	empty bool        // the start tag is one of an empty element

	open     []name // elements around this place; of a closing tag, that element included
	closing  bool   // the last element of open is to be dropped before the next piece
	bindings []binding
	nodes    int
}

func (s *scanner) text(n name) []byte { return s.src[n.from:n.to] }

func (s *scanner) prefix(n name) []byte { return s.src[n.from:max(n.colon, n.from)] }

func (s *scanner) local(n name) []byte { return s.src[n.colon+1 : n.to] }

// next reads the next piece.
func (s *scanner) next() *finding {
	if s.empty {
		s.empty, s.kind, s.from, s.closing = false, kindClose, s.pos, true
		return nil
	}
	s.leave()
	s.from = s.pos
	rest := s.src[s.pos:]
	switch {
	case len(rest) == 0:
		s.kind = kindEnd
		if len(s.open) > 0 {
			return syntax(s.pos, "the text ends early, <%s> is open", s.text(s.open[len(s.open)-1]))
		}
		return nil
	case rest[0] != '<':
		return s.characters()
	case len(rest) > 1 && rest[1] == '/':
		return s.endTag()
	case len(rest) > 1 && rest[1] == '?':
		return s.instruction()
	case len(rest) > 1 && rest[1] == '!':
		return s.marked(rest)
	}
	return s.startTag()
}

// leave goes out of the element that closed.
func (s *scanner) leave() {
	if !s.closing {
		return
	}
	s.closing = false
	depth := len(s.open)
	s.open = s.open[:depth-1]
	n := len(s.bindings)
	for n > 0 && s.bindings[n-1].depth == depth {
		n--
	}
	s.bindings = s.bindings[:n]
}

func (s *scanner) count() *finding {
	if s.nodes++; s.nodes > s.limits.MaxNodes {
		return tooLarge(s.from, "more than %d elements, attributes and texts", s.limits.MaxNodes)
	}
	return nil
}

// characters reads text up to the next markup.
func (s *scanner) characters() *finding {
	s.kind = kindText
	length := bytes.IndexByte(s.src[s.pos:], '<')
	if length < 0 {
		length = len(s.src) - s.pos
	}
	text := s.src[s.pos : s.pos+length]
	if i := bytes.Index(text, []byte("]]>")); i >= 0 {
		return syntax(s.pos+i, "]]> must not stand in text")
	}
	if wrong := s.references(s.pos, text); wrong != nil {
		return wrong
	}
	s.pos += length
	return s.count()
}

// references refuses an & that begins no reference.
func (s *scanner) references(at int, text []byte) *finding {
	for {
		i := bytes.IndexByte(text, '&')
		if i < 0 {
			return nil
		}
		at, text = at+i, text[i:]
		_, n, ok := reference(text)
		if !ok && s.html {
			_, n, ok = htmlReference(text)
		}
		switch {
		case !ok && n < 3:
			return syntax(at, "& begins no reference, it must be written &amp;")
		case !ok:
			return syntax(at, "XML knows no %s", text[:n])
		}
		at, text = at+n, text[n:]
	}
}

// marked reads what begins with <!.
func (s *scanner) marked(rest []byte) *finding {
	switch {
	case bytes.HasPrefix(rest, []byte("<!--")):
		s.kind = kindComment
		i := bytes.Index(rest[4:], []byte("--"))
		if i < 0 {
			return syntax(s.pos, "a comment does not end")
		}
		end := 4 + i + 2
		if end >= len(rest) || rest[end] != '>' {
			return syntax(s.pos+end-2, "-- must not stand in a comment")
		}
		s.pos += end + 1
		return s.count()
	case bytes.HasPrefix(rest, []byte("<![CDATA[")) && len(s.open) > 0:
		s.kind = kindCDATA
		i := bytes.Index(rest, []byte("]]>"))
		if i < 0 {
			return syntax(s.pos, "a CDATA section does not end")
		}
		s.pos += i + 3
		return s.count()
	case bytes.HasPrefix(rest, []byte("<!DOCTYPE")):
		return syntax(s.pos, "a document type declaration is not allowed")
	}
	return syntax(s.pos, "<! begins nothing that is known")
}

func (s *scanner) instruction() *finding {
	s.kind = kindPI
	rest := s.src[s.pos+2:]
	n := nameLength(rest)
	end := bytes.Index(rest, []byte("?>"))
	switch {
	case n == 0 || bytes.IndexByte(rest[:n], ':') >= 0:
		return syntax(s.pos, "a processing instruction needs a name")
	case end < 0:
		return syntax(s.pos, "a processing instruction does not end")
	case end > n && !isSpace(rest[n]) || end < n:
		return syntax(s.pos, "a processing instruction is malformed")
	case bytes.EqualFold(rest[:n], []byte("xml")):
		return syntax(s.pos, "an XML declaration stands at the beginning only")
	}
	s.pos += 2 + end + 2
	return s.count()
}

// qualified reads a qualified name (Namespaces in XML 1.0, section 4).
func (s *scanner) qualified() (name, *finding) {
	n := nameLength(s.src[s.pos:])
	if n == 0 {
		return name{}, syntax(s.pos, "a name is expected")
	}
	text := s.src[s.pos : s.pos+n]
	colon := bytes.IndexByte(text, ':')
	if colon >= 0 {
		local := text[colon+1:]
		if colon == 0 || nameLength(local) == 0 || bytes.IndexByte(local, ':') >= 0 {
			return name{}, syntax(s.pos, "%s is no qualified name", text)
		}
	}
	found := name{from: s.pos, colon: s.pos - 1, to: s.pos + n}
	if colon > 0 {
		found.colon = s.pos + colon
	}
	s.pos += n
	return found, nil
}

func (s *scanner) space() bool {
	from := s.pos
	for s.pos < len(s.src) && isSpace(s.src[s.pos]) {
		s.pos++
	}
	return s.pos > from
}

// at reports whether text stands here.
func (s *scanner) at(text string) bool {
	return len(s.src)-s.pos >= len(text) && string(s.src[s.pos:s.pos+len(text)]) == text
}

func (s *scanner) endTag() *finding {
	s.kind = kindClose
	s.pos += 2
	n, wrong := s.qualified()
	if wrong != nil {
		return wrong
	}
	if len(s.open) == 0 {
		return syntax(s.from, "</%s> closes nothing", s.text(n))
	}
	if around := s.open[len(s.open)-1]; !bytes.Equal(s.text(n), s.text(around)) {
		return syntax(s.from, "</%s> stands where </%s> is expected", s.text(n), s.text(around))
	}
	s.space()
	if !s.at(">") {
		return syntax(s.pos, "> is expected")
	}
	s.pos++
	s.name, s.closing = n, true
	return nil
}

func (s *scanner) startTag() *finding {
	s.kind = kindOpen
	if len(s.open) >= s.limits.MaxDepth {
		return syntax(s.pos, "nested deeper than %d", s.limits.MaxDepth)
	}
	s.pos++
	n, wrong := s.qualified()
	if wrong != nil {
		return wrong
	}
	s.name = n
	s.open = append(s.open, n)
	if wrong = s.attributes(); wrong != nil {
		return wrong
	}
	if wrong = s.resolvable(); wrong != nil {
		return wrong
	}
	return s.count()
}

// attributes reads a start tag from behind its name to its end.
func (s *scanner) attributes() *finding {
	s.attrs = s.attrs[:0]
	for {
		spaced := s.space()
		switch {
		case s.at(">"):
			s.pos++
			return nil
		case s.at("/>"):
			s.pos += 2
			s.empty = true
			return nil
		case s.pos == len(s.src):
			return syntax(s.pos, "the text ends inside a tag")
		case !spaced:
			return syntax(s.pos, "white space, > or /> is expected")
		case len(s.attrs) == maxAttributes:
			return tooLarge(s.pos, "more than %d attributes", maxAttributes)
		}
		if wrong := s.attribute(); wrong != nil {
			return wrong
		}
	}
}

func (s *scanner) attribute() *finding {
	n, wrong := s.qualified()
	if wrong != nil {
		return wrong
	}
	s.space()
	if !s.at("=") {
		return syntax(s.pos, "= is expected behind the name of an attribute")
	}
	s.pos++
	s.space()
	if !s.at(`"`) && !s.at("'") {
		return syntax(s.pos, "the value of an attribute must stand in quotes")
	}
	start := s.pos + 1
	length := bytes.IndexByte(s.src[start:], s.src[s.pos])
	if length < 0 {
		return syntax(s.pos, "the value of an attribute does not end")
	}
	value := s.src[start : start+length]
	if i := bytes.IndexByte(value, '<'); i >= 0 {
		return syntax(start+i, "< must be written &lt; in an attribute")
	}
	if wrong = s.references(start, value); wrong != nil {
		return wrong
	}
	for _, earlier := range s.attrs {
		if bytes.Equal(s.text(earlier.name), s.text(n)) {
			return syntax(n.from, "the attribute %s is given twice", s.text(n))
		}
	}
	a := attribute{name: n, value: start, end: start + length}
	s.attrs = append(s.attrs, a)
	s.pos = a.end + 1
	if s.isDeclaration(a) {
		wrong = s.declare(a)
	}
	if wrong != nil {
		return wrong
	}
	return s.count()
}

// isDeclaration reports whether the attribute is xmlns or xmlns:prefix.
func (s *scanner) isDeclaration(a attribute) bool {
	first := a.to
	if a.colon > a.from {
		first = a.colon
	}
	return string(s.src[a.from:first]) == "xmlns"
}

// declare binds a prefix (Namespaces in XML 1.0, sections 2.2 and 3).
func (s *scanner) declare(a attribute) *finding {
	uri := s.src[a.value:a.end]
	if !plainValue(uri) {
		uri = appendValue(nil, uri)
	}
	var prefix []byte
	if a.colon > a.from {
		prefix = s.local(a.name)
	}
	switch {
	case string(prefix) == "xmlns" || string(uri) == xmlnsNamespace,
		(string(prefix) == "xml") != (string(uri) == xmlNamespace):
		return syntax(a.from, "the prefix %s cannot be bound to %q", prefix, uri)
	case prefix != nil && len(uri) == 0:
		return syntax(a.from, "the prefix %s must be bound to a namespace", prefix)
	}
	s.bindings = append(s.bindings, binding{prefix: prefix, uri: uri, depth: len(s.open)})
	return nil
}

// The places in bindings of what is not declared there.
const (
	unbound  = -1 // no namespace, which only an empty prefix may have
	boundXML = -2 // the prefix xml, bound by definition
)

// bound finds the declaration that holds for a prefix: its place in bindings,
// unbound or boundXML.
func (s *scanner) bound(prefix []byte) int {
	for i := len(s.bindings) - 1; i >= 0; i-- {
		if bytes.Equal(s.bindings[i].prefix, prefix) {
			return i
		}
	}
	if string(prefix) == "xml" {
		return boundXML
	}
	return unbound
}

// namespace is the namespace of a prefix: of an element's name the empty one
// stands for the default.
func (s *scanner) namespace(prefix []byte) string {
	switch i := s.bound(prefix); i {
	case unbound:
		return ""
	case boundXML:
		return xmlNamespace
	default:
		return known(s.bindings[i].uri)
	}
}

// known is the text of a namespace, without a copy of those that matter.
func known(uri []byte) string {
	switch string(uri) {
	case Namespace:
		return Namespace
	case XHTMLNamespace:
		return XHTMLNamespace
	}
	return string(uri)
}

// resolvable refuses prefixes that nothing declares, and attributes that are one
// and the same once their prefixes are resolved.
func (s *scanner) resolvable() *finding {
	if p := s.prefix(s.name); len(p) > 0 && s.bound(p) == unbound {
		return syntax(s.name.from, "nothing declares the prefix %s", p)
	}
	for i, a := range s.attrs {
		p := s.prefix(a.name)
		if len(p) == 0 || s.isDeclaration(a) {
			continue
		}
		if s.bound(p) == unbound {
			return syntax(a.from, "nothing declares the prefix %s", p)
		}
		for _, earlier := range s.attrs[:i] {
			if bytes.Equal(s.local(earlier.name), s.local(a.name)) && s.sameNamespace(earlier, p) {
				return syntax(a.from, "the attribute %s is given twice", s.text(a.name))
			}
		}
	}
	return nil
}

func (s *scanner) sameNamespace(earlier attribute, prefix []byte) bool {
	p := s.prefix(earlier.name)
	return len(p) > 0 && !s.isDeclaration(earlier) && s.namespace(p) == s.namespace(prefix)
}

// prolog reads what may stand in front of everything: a byte order mark and an
// XML declaration, of version 1.0 and UTF-8 (XML 1.0, section 2.8).
func (s *scanner) prolog() *finding {
	if s.at("\xef\xbb\xbf") {
		s.pos += 3
	}
	if !s.at("<?xml") || s.pos+5 < len(s.src) && !isSpace(s.src[s.pos+5]) {
		return nil
	}
	end := bytes.Index(s.src[s.pos:], []byte("?>"))
	if end < 0 {
		return syntax(s.pos, "the XML declaration does not end")
	}
	body := scanner{src: s.src[:s.pos+end], pos: s.pos + 5, limits: s.limits}
	for order := 0; ; order++ {
		spaced := body.space()
		if body.pos == len(body.src) {
			break
		}
		if !spaced || order == len(declaration) {
			return syntax(body.pos, "the XML declaration is malformed")
		}
		if wrong := body.attribute(); wrong != nil {
			return wrong
		}
	}
	s.pos += end + 2
	return body.declaration()
}

// declaration are the parts of an XML declaration in their order.
var declaration = [...]string{"version", "encoding", "standalone"}

func (s *scanner) declaration() *finding {
	part := 0
	for i, a := range s.attrs {
		for part < len(declaration) && declaration[part] != string(s.text(a.name)) {
			part++
		}
		value := s.src[a.value:a.end]
		switch {
		case part == len(declaration) || i == 0 && part != 0:
			return syntax(a.from, "the XML declaration is malformed")
		case part == 0 && string(value) != "1.0":
			return syntax(a.value, "only XML 1.0 is understood, not %q", value)
		case part == 1 && !bytes.EqualFold(value, []byte("utf-8")):
			return syntax(a.value, "only the encoding UTF-8 is understood, not %q", value)
		case part == 2 && string(value) != "yes" && string(value) != "no":
			return syntax(a.value, "standalone is yes or no, not %q", value)
		}
		part++
	}
	if len(s.attrs) == 0 {
		return syntax(s.pos, "the XML declaration has no version")
	}
	return nil
}
