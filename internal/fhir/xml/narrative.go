package xml

import (
	"bytes"
	"encoding/xml"
	"strconv"
	"unicode/utf8"
)

// htmlReference reads the reference by a name of HTML's at the & that src begins
// with: what narratives in JSON hold although R4 rules it out (narrative.html:
// "there is no support for HTML entities like &nbsp;"). XML has no such names.
func htmlReference(src []byte) (r rune, length int, ok bool) {
	length = referenceLength(src)
	if length < 3 {
		return 0, 0, false
	}
	text, ok := xml.HTMLEntity[string(src[1:length-1])]
	if !ok {
		return 0, length, false
	}
	r, _ = utf8.DecodeRuneInString(text)
	return r, length, true
}

// A narrative goes over letter by letter: JSON holds the text of the div as it
// stands in the XML. Three things cannot, and change on the way:
//
//	XML                JSON
//	a line end         \n       whatever it was (XML 1.0, section 2.11)
//	&#xD;              \r       so that JSON's \r has a form XML keeps
//	h:p, h declared    p        a prefix that is declared outside the div
//	around the div
//
// and from JSON only: &nbsp; becomes &#160;, &#xD; becomes &#13;. A div without a
// default namespace gets XHTML's.
type narrative struct {
	s     *scanner
	out   []byte
	outer int // bindings that stand outside the div
	// text appends characters, or the value of an attribute, in the other form.
	text func(dst, raw []byte) []byte
}

// copy appends the div whose start tag the scanner has just read, up to and with
// its end tag.
func (n *narrative) copy() *finding {
	if wrong := n.checkRoot(); wrong != nil {
		return wrong
	}
	depth := len(n.s.open)
	for {
		if wrong := n.piece(len(n.s.open) == depth); wrong != nil {
			return wrong
		}
		if n.s.kind == kindClose && len(n.s.open) == depth {
			return nil
		}
		if wrong := n.s.next(); wrong != nil {
			return wrong
		}
	}
}

func (n *narrative) piece(root bool) *finding {
	s := n.s
	raw := s.src[s.from:s.pos]
	switch s.kind {
	case kindOpen:
		return n.startTag(root)
	case kindClose:
		if len(raw) > 0 { // an empty element has none
			n.out = append(n.out, "</"...)
			n.name(s.name)
			n.plain(s.src[s.name.to:s.pos])
		}
	case kindText:
		n.out = n.text(n.out, raw)
	default:
		n.plain(raw)
	}
	return nil
}

// plain appends markup, in which a carriage return cannot be kept.
func (n *narrative) plain(raw []byte) { n.out = appendLines(n.out, raw) }

// name appends an element's name, without a prefix that is declared outside.
func (n *narrative) name(q name) {
	text := n.s.text(q)
	if p := n.s.prefix(q); len(p) > 0 && n.outside(p) {
		text = n.s.local(q)
	}
	n.out = append(n.out, text...)
}

// outside reports whether a prefix has its meaning from around the div.
func (n *narrative) outside(prefix []byte) bool {
	i := n.s.bound(prefix)
	return i != boundXML && i < n.outer
}

func (n *narrative) startTag(root bool) *finding {
	s := n.s
	if wrong := n.checkName(); wrong != nil {
		return wrong
	}
	n.out = append(n.out, '<')
	n.name(s.name)
	if root && n.outside(nil) {
		n.out = append(n.out, ` xmlns="`+XHTMLNamespace+`"`...)
	}
	at := s.name.to
	for _, a := range s.attrs {
		if p := s.prefix(a.name); len(p) > 0 && !s.isDeclaration(a) && n.outside(p) {
			return invalid(a.from, codeStructure, "the attribute %s is not one of XHTML", s.text(a.name))
		}
		n.plain(s.src[at:a.value])
		n.out = n.text(n.out, s.src[a.value:a.end])
		at = a.end
	}
	n.plain(s.src[at:s.pos])
	return nil
}

func (n *narrative) checkRoot() *finding {
	if s := n.s; string(s.local(s.name)) != "div" || s.namespace(s.prefix(s.name)) != XHTMLNamespace {
		return invalid(s.from, codeStructure, "a narrative is a <div> in the namespace %s", XHTMLNamespace)
	}
	return nil
}

// checkName refuses an element that would mean something else without what is
// declared around the div, where the default namespace is XHTML's.
func (n *narrative) checkName() *finding {
	p := n.s.prefix(n.s.name)
	if !n.outside(p) {
		return nil
	}
	if n.s.namespace(p) != XHTMLNamespace {
		return invalid(n.s.from, codeStructure, "<%s> is not in the namespace %s", n.s.text(n.s.name), XHTMLNamespace)
	}
	if len(p) > 0 && !n.outside(nil) && n.s.namespace(nil) != XHTMLNamespace {
		return invalid(n.s.from, codeStructure, "<%s> cannot be written without its prefix", n.s.text(n.s.name))
	}
	return nil
}

// appendLines appends raw with each line end as a line feed.
func appendLines(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '\r')
		if i < 0 {
			return append(dst, raw...)
		}
		dst = append(append(dst, raw[:i]...), '\n')
		if raw = raw[i+1:]; len(raw) > 0 && raw[0] == '\n' {
			raw = raw[1:]
		}
	}
}

// carriageReturn is how canonical XML writes one (Canonical XML 1.0, section 2.3).
const carriageReturn = "&#xD;"

// toJSONText is narrative.text from XML to JSON.
func toJSONText(dst, raw []byte) []byte {
	for {
		i := bytes.Index(raw, []byte(carriageReturn))
		if i < 0 {
			return appendLines(dst, raw)
		}
		dst = append(appendLines(dst, raw[:i]), '\r')
		raw = raw[i+len(carriageReturn):]
	}
}

// toXMLText is narrative.text from JSON to XML.
func toXMLText(dst, raw []byte) []byte {
	from := 0
	for i := 0; i < len(raw); {
		n, instead := xmlText(raw[i:])
		if instead != "" {
			dst = append(append(dst, raw[from:i]...), instead...)
			from = i + n
		}
		i += n
	}
	return append(dst, raw[from:]...)
}

// xmlText gives what to write for the first n bytes of raw, "" for themselves.
func xmlText(raw []byte) (n int, instead string) {
	switch raw[0] {
	case '\r':
		return 1, carriageReturn
	case '&':
		if bytes.HasPrefix(raw, []byte(carriageReturn)) {
			return len(carriageReturn), "&#13;"
		}
		if _, _, ok := reference(raw); ok {
			return 1, ""
		}
		if r, n, ok := htmlReference(raw); ok {
			return n, "&#" + strconv.Itoa(int(r)) + ";"
		}
	}
	return 1, ""
}
