package fhirpath

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// maxNarrativeDepth bounds the elements inside each other in a narrative.
const maxNarrativeDepth = 256

// narrativeAllowed is htmlChecks(): whether a text is one XHTML div with
// nothing but what R4 allows in a narrative
// (http://hl7.org/fhir/R4/narrative.html, invariants txt-1 and txt-2): the
// basic formatting elements of HTML 4.0 chapters 7 to 11 and 15, links, images
// and style attributes; no script, no form, no active attribute; and some
// content that is not white space.
func narrativeAllowed(text string) bool {
	d := xml.NewDecoder(strings.NewReader(text))
	d.Entity = xml.HTMLEntity
	depth, roots, content := 0, 0, false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return depth == 0 && roots == 1 && content
		}
		if err != nil {
			return false
		}
		switch t := token.(type) {
		case xml.StartElement:
			if depth == 0 {
				roots++
			}
			if depth++; depth > maxNarrativeDepth || !elementAllowed(t, depth) {
				return false
			}
			content = content || t.Name.Local == "img"
		case xml.EndElement:
			depth--
		case xml.CharData:
			filled := len(strings.TrimSpace(string(t))) > 0
			if depth == 0 && filled {
				return false
			}
			content = content || filled
		case xml.ProcInst, xml.Directive:
			return false
		}
	}
}

const xhtml = "http://www.w3.org/1999/xhtml"

func elementAllowed(t xml.StartElement, depth int) bool {
	if t.Name.Space != xhtml && t.Name.Space != "" || !narrativeElements[t.Name.Local] {
		return false
	}
	if depth == 1 && t.Name.Local != "div" {
		return false
	}
	for _, a := range t.Attr {
		if !attributeAllowed(t.Name.Local, a) {
			return false
		}
	}
	return true
}

func attributeAllowed(element string, a xml.Attr) bool {
	name := a.Name.Local
	switch {
	case a.Name.Space == "xmlns" || name == "xmlns" || a.Name.Space == "xml" || strings.HasSuffix(a.Name.Space, "/XML/1998/namespace"):
		return true
	case (name == "href" || name == "src") && strings.HasPrefix(strings.ToLower(strings.TrimSpace(a.Value)), "javascript:"):
		return false
	}
	return narrativeAttributes[name] || narrativeAttributes[element+"."+name]
}

var narrativeElements = wordSet(`a abbr acronym address b bdo big blockquote br caption cite code col colgroup dd del dfn div
	dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr
	tt ul u var s strike`)

var narrativeAttributes = wordSet(`title style class id lang dir accesskey tabindex
	span width align valign char charoff abbr axis headers scope rowspan colspan cellpadding cellspacing border summary
	rules frame bgcolor nowrap height start type value compact cite datetime
	a.href a.name a.charset a.hreflang a.rel a.rev a.shape a.coords
	img.src img.alt img.longdesc img.name img.usemap img.ismap q.cite clear color size noshade`)

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}
