package validate

import (
	"bytes"
)

// maxNarrativeDepth bounds the elements inside each other in a narrative.
// Published ones stay below 20.
const maxNarrativeDepth = 128

// xhtmlNamespace is the namespace of Narrative.div.
const xhtmlNamespace = "http://www.w3.org/1999/xhtml"

// narrativeElements are those that R4 allows (narrative.html): chapters 7 to 11
// (but 9.4) and 15 of HTML 4.0 without what is deprecated there, a, and img.
var narrativeElements = map[string]bool{
	"a": true, "abbr": true, "acronym": true, "address": true, "area": true, "b": true, "bdo": true, "big": true,
	"blockquote": true, "br": true, "caption": true, "cite": true, "code": true, "col": true, "colgroup": true,
	"dd": true, "dfn": true, "div": true, "dl": true, "dt": true, "em": true, "h1": true, "h2": true, "h3": true,
	"h4": true, "h5": true, "h6": true, "hr": true, "i": true, "img": true, "kbd": true, "li": true, "map": true,
	"ol": true, "p": true, "pre": true, "q": true, "samp": true, "small": true, "span": true, "strong": true,
	"sub": true, "sup": true, "table": true, "tbody": true, "td": true, "tfoot": true, "th": true, "thead": true,
	"tr": true, "tt": true, "ul": true, "var": true,
}

// narrativeFault is what is wrong with the content of Narrative.div, "" when
// nothing is: it must be one well-formed div of XHTML with allowed elements,
// without events (txt-1), and say something (txt-2).
func narrativeFault(text []byte) string {
	s := xhtmlScanner{rest: text}
	for s.step() {
	}
	switch {
	case s.fault != "":
		return s.fault
	case s.depth > 0:
		return "Rule txt-1: an element is not closed"
	case !s.rooted:
		return "Rule txt-1: it must be a <div>"
	case !s.content:
		return "Rule txt-2: 'The narrative SHALL have some non-whitespace content' Failed"
	}
	return ""
}

// xhtmlScanner reads XHTML from left to right, one tag or stretch of text a step.
type xhtmlScanner struct {
	rest    []byte
	open    [maxNarrativeDepth][]byte // names of the open elements
	depth   int
	rooted  bool // the root has been seen
	content bool // something a reader sees
	fault   string
}

func (s *xhtmlScanner) fail(fault string) bool {
	s.fault = fault
	return false
}

// step reads on; false at the end or at a fault.
func (s *xhtmlScanner) step() bool {
	switch {
	case len(s.rest) == 0:
		return false
	case s.rest[0] != '<':
		return s.text()
	case s.skipped("<!--", "-->"):
		return true
	case bytes.HasPrefix(s.rest, []byte("<![CDATA[")):
		s.content = s.content || s.depth > 0
		return s.skipped("<![CDATA[", "]]>") || s.fail("Rule txt-1: a CDATA section does not end")
	case bytes.HasPrefix(s.rest, []byte("</")):
		return s.endTag()
	}
	return s.startTag()
}

// skipped passes over a comment or the like.
func (s *xhtmlScanner) skipped(begin, end string) bool {
	if !bytes.HasPrefix(s.rest, []byte(begin)) {
		return false
	}
	i := bytes.Index(s.rest[len(begin):], []byte(end))
	if i < 0 {
		return false
	}
	s.rest = s.rest[len(begin)+i+len(end):]
	return true
}

// text reads up to the next tag.
func (s *xhtmlScanner) text() bool {
	end := bytes.IndexByte(s.rest, '<')
	if end < 0 {
		end = len(s.rest)
	}
	text := s.rest[:end]
	s.rest = s.rest[end:]
	if len(bytes.TrimSpace(text)) == 0 {
		return true
	}
	if s.depth == 0 {
		return s.fail("Rule txt-1: text outside of the <div>")
	}
	s.content = true
	return entitiesOK(text) || s.fail("Rule txt-1: '&' begins no entity; write &amp;")
}

// maxEntity is the longest name of an entity that HTML 4.0 has, thetasym, and
// of a number, in bytes.
const maxEntity = 10

// entitiesOK reports whether each & begins &name;, &#12; or &#x1f;.
func entitiesOK(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '&')
		if i < 0 {
			return true
		}
		text = text[i+1:]
		end := bytes.IndexByte(text[:min(len(text), maxEntity+1)], ';')
		if end <= 0 {
			return false
		}
		for j, c := range text[:end] {
			if !isLetter(c) && !isDigit(c) && (c != '#' || j > 0) {
				return false
			}
		}
		text = text[end+1:]
	}
}

func (s *xhtmlScanner) endTag() bool {
	s.rest = s.rest[2:]
	name := s.name()
	s.space()
	if s.depth == 0 || !bytes.Equal(name, s.open[s.depth-1]) || len(s.rest) == 0 || s.rest[0] != '>' {
		return s.fail("Rule txt-1: an end tag does not close the open element")
	}
	s.depth--
	s.rest = s.rest[1:]
	return true
}

func (s *xhtmlScanner) startTag() bool {
	s.rest = s.rest[1:]
	name := s.name()
	switch {
	case s.depth == 0 && s.rooted:
		return s.fail("Rule txt-1: there must be one <div> only")
	case s.depth == 0 && string(name) != "div":
		return s.fail("Rule txt-1: it must be a <div>")
	case !narrativeElements[string(name)]:
		return s.fail("Rule txt-1: 'The narrative SHALL contain only the basic html formatting elements and attributes' Failed (" + quote(name) + ")")
	case s.depth == maxNarrativeDepth:
		return s.fail("Rule txt-1: elements are nested too deep")
	}
	s.rooted = true
	s.content = s.content || string(name) == "img"
	return s.attributes(name)
}

// attributes reads the rest of a start tag and opens the element.
func (s *xhtmlScanner) attributes(element []byte) bool {
	inNamespace := s.depth > 0
	for {
		spaced := s.space()
		switch {
		case len(s.rest) == 0:
			return s.fail("Rule txt-1: a tag does not end")
		case s.rest[0] == '>':
			s.open[s.depth] = element
			s.depth++
			s.rest = s.rest[1:]
			return inNamespace || s.fail("Rule txt-1: the <div> must be in the namespace "+xhtmlNamespace)
		case bytes.HasPrefix(s.rest, []byte("/>")):
			s.rest = s.rest[2:]
			return inNamespace || s.fail("Rule txt-1: the <div> must be in the namespace "+xhtmlNamespace)
		case !spaced:
			return s.fail("Rule txt-1: a tag is malformed")
		}
		name, value, ok := s.attribute()
		if !ok {
			return false
		}
		if string(name) == "xmlns" {
			inNamespace = string(value) == xhtmlNamespace
		}
	}
}

// attribute reads name="value". Events and scripts are refused.
func (s *xhtmlScanner) attribute() (name, value []byte, ok bool) {
	name = s.name()
	s.space()
	if len(name) == 0 || len(s.rest) == 0 || s.rest[0] != '=' {
		return nil, nil, s.fail("Rule txt-1: an attribute is malformed")
	}
	s.rest = s.rest[1:]
	s.space()
	if len(s.rest) == 0 || s.rest[0] != '"' && s.rest[0] != '\'' {
		return nil, nil, s.fail("Rule txt-1: the value of an attribute must stand in quotes")
	}
	end := bytes.IndexByte(s.rest[1:], s.rest[0])
	if end < 0 {
		return nil, nil, s.fail("Rule txt-1: the value of an attribute does not end")
	}
	value = s.rest[1 : 1+end]
	s.rest = s.rest[end+2:]
	switch {
	case bytes.IndexByte(value, '<') >= 0 || !entitiesOK(value):
		return nil, nil, s.fail("Rule txt-1: the value of an attribute is malformed")
	case len(name) > 2 && name[0]|0x20 == 'o' && name[1]|0x20 == 'n':
		return nil, nil, s.fail("Rule txt-1: events are not allowed (" + quote(name) + ")")
	case isScript(value):
		return nil, nil, s.fail("Rule txt-1: scripts are not allowed")
	}
	return name, value, true
}

// isScript reports a javascript: or vbscript: URL.
func isScript(value []byte) bool {
	value = bytes.TrimSpace(value)
	if len(value) > len("javascript:") {
		value = value[:len("javascript:")]
	}
	return bytes.EqualFold(value, []byte("javascript:")) || len(value) > 9 && bytes.EqualFold(value[:9], []byte("vbscript:"))
}

// name reads a name of an element or attribute.
func (s *xhtmlScanner) name() []byte {
	n := 0
	for n < len(s.rest) && (isLetter(s.rest[n]) || n > 0 && (isDigit(s.rest[n]) || bytes.IndexByte([]byte(":-._"), s.rest[n]) >= 0)) {
		n++
	}
	name := s.rest[:n]
	s.rest = s.rest[n:]
	return name
}

// space skips white space and reports whether there was any.
func (s *xhtmlScanner) space() bool {
	n := 0
	for n < len(s.rest) && isSpace(s.rest[n]) {
		n++
	}
	s.rest = s.rest[n:]
	return n > 0
}
