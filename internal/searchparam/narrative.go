package searchparam

import (
	"html"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
)

// narrative takes the words of a resource's text (DomainResource.text.div).
func (w *worker) narrative(p *search.Param, n fhir.Node) {
	if n.Kind() == fhir.String && !w.entries.Words(p, plainText(n.View())) {
		w.warn(n, "has more words than are kept: what stands at its end")
	}
}

// plainText is XHTML without its tags; what they part stays apart.
func plainText(xhtml string) string {
	var b strings.Builder
	b.Grow(len(xhtml))
	for xhtml != "" {
		text, tag, found := strings.Cut(xhtml, "<")
		b.WriteString(text)
		b.WriteByte(' ')
		if !found {
			break
		}
		_, xhtml, _ = strings.Cut(tag, ">")
	}
	return html.UnescapeString(b.String())
}
