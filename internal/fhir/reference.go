package fhir

import (
	"iter"
	"strings"
)

// ReferenceForm is how a reference names its target.
type ReferenceForm uint8

// The forms of references (R4 references.html, section 2.3.0.1).
const (
	Unresolvable ReferenceForm = iota // none of the others; Text is all there is
	Relative                          // Patient/1, Patient/1/_history/2
	Absolute                          // http://server/fhir/Patient/1: Base, Type, ID
	Contained                         // #id, and # for the container itself
	URN                               // urn:uuid:…, urn:oid:…
	Canonical                         // an absolute URL that names no Type/id, or one with |version
)

// Reference is the text of a reference taken apart. A part that the form does
// not have is "".
type Reference struct {
	Form     ReferenceForm
	Text     string // as written
	Base     string // Absolute: without the slash before Type
	Type, ID string // Relative, Absolute, and Canonical where the URL ends so
	Version  string // of _history, or behind | in a Canonical
	URL      string // Absolute, Canonical: without version and fragment
	Fragment string // behind #
	URN      string // the whole URN
}

// ParseReference takes a reference apart. Every text has a form; Unresolvable
// is the one of texts that are no reference. Whether Type is a resource type
// is not known here: it looks like one.
func ParseReference(text string) Reference {
	r := Reference{Text: text}
	if i := strings.IndexByte(text, '/'); i > 0 && looksLikeType(text[:i]) && ValidID(text[i+1:]) {
		r.Form, r.Type, r.ID = Relative, text[:i], text[i+1:] // Type/id, as nearly all are
		return r
	}
	rest, fragment, hasFragment := strings.Cut(text, "#")
	r.Fragment = fragment
	switch {
	case rest == "" && hasFragment:
		r.Form = Contained
	case strings.HasPrefix(rest, "urn:"):
		r.urn(rest)
	case hasScheme(rest):
		r.absolute(rest)
	default:
		if head := r.typed(rest); head == "" && r.Type != "" && rest[0] != '/' {
			r.Form = Relative
		} else {
			r.Type, r.ID, r.Version = "", "", ""
		}
	}
	return r
}

// urn also covers a canonical of urn:uuid:…|version.
func (r *Reference) urn(rest string) {
	r.Form = URN
	if url, version, found := strings.Cut(rest, "|"); found {
		r.Form, r.URL, r.Version = Canonical, url, version
		return
	}
	r.URN = rest
}

func (r *Reference) absolute(rest string) {
	url, version, canonical := strings.Cut(rest, "|")
	r.URL = url
	base := r.typed(url)
	switch {
	case canonical:
		r.Form, r.Version = Canonical, version
	case r.Type == "" || !strings.Contains(base, "://"):
		r.Form, r.Type, r.ID, r.Version = Canonical, "", "", ""
	default:
		r.Form, r.Base = Absolute, base
		r.URL = base + "/" + r.Type + "/" + r.ID
	}
}

// typed reads Type/id or Type/id/_history/version from the end of a path and
// gives what stands before it, without the slash.
func (r *Reference) typed(path string) string {
	head, last := cutLast(path)
	if before, mark := cutLast(head); mark == "_history" {
		if !ValidID(last) {
			return path
		}
		r.Version = last
		head, last = cutLast(before)
	}
	before, kind := cutLast(head)
	if !ValidID(last) || !looksLikeType(kind) {
		r.Version = ""
		return path
	}
	r.Type, r.ID = kind, last
	return before
}

func cutLast(path string) (head, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// hasScheme reports whether a URL begins with scheme:// (RFC 3986 section 3.1).
func hasScheme(s string) bool {
	scheme, _, found := strings.Cut(s, "://")
	if !found || scheme == "" {
		return false
	}
	for i := range len(scheme) {
		c := scheme[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || !isDigit(c) && c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return true
}

// looksLikeType: a capital, then letters. All resource types of R4 are so.
func looksLikeType(s string) bool {
	if s == "" || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

// MaxIDLength bounds a resource id (R4 datatypes.html, id).
const MaxIDLength = 64

// ValidID reports whether s is an id of R4: 1 to 64 of A-Z a-z 0-9 - and a
// point.
func ValidID(s string) bool {
	if s == "" || len(s) > MaxIDLength {
		return false
	}
	for i := range len(s) {
		if !idBytes[s[i]] {
			return false
		}
	}
	return true
}

// idBytes are the characters of an id.
var idBytes = func() (table [256]bool) {
	for c := range len(table) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		table[c] = letter || isDigit(byte(c)) || c == '-' || c == '.'
	}
	return table
}()

// References goes through the reference strings of every Reference element
// below n, in document order, those inside contained resources and bundle
// entries included. In R4 a string member named reference is always
// Reference.reference.
func References(n Node) iter.Seq[Node] {
	return func(yield func(Node) bool) {
		for c := range n.Descendants() {
			if t := c.tape(); t.name == nameReference && t.kind == String && !yield(c) {
				return
			}
		}
	}
}
