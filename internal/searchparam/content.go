package searchparam

import (
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
)

// codeContent is the parameter of whole resources (R4 3.1.1.4.17), which no
// expression says.
const codeContent = "_content"

var (
	nameData         = fhir.Intern("data")
	nameDiv          = fhir.Intern("div")
	nameResourceType = fhir.Intern("resourceType")
)

// content takes the words of all strings of a resource, those of contained
// resources too, each once: but not its type, nor what is encoded
// (Attachment.data and the like), and of narratives the text.
func (w *worker) content(p *search.Param) {
	c := &contents{w.entries, p, map[string]bool{}, true}
	c.visit(0, w.root)
	if !c.all {
		w.warn(w.root, "has more words than are kept: what stands at its end")
	}
}

type contents struct {
	entries *search.Entries
	param   *search.Param
	seen    map[string]bool
	all     bool // all words are kept
}

// visit takes what stands in a member of a name, 0 for the root.
func (c *contents) visit(name fhir.Name, n fhir.Node) {
	for item := n.FirstItem(); item.Exists(); item = item.NextItem() {
		switch item.Kind() {
		case fhir.Object, fhir.Array:
			for child := item.First(); child.Exists(); child = child.Next() {
				c.visit(fhir.LookupName(child.Name()), child)
			}
		case fhir.String:
			c.text(name, item.View())
		}
	}
}

func (c *contents) text(name fhir.Name, text string) {
	switch name {
	case nameData, nameResourceType:
		return
	case nameDiv:
		text = plainText(text)
	}
	c.all = c.entries.NewWords(c.param, text, c.seen) && c.all
}
