package interaction

import (
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// subsetted marks a resource that is not whole (R4 search.html#summary).
const subsetted = `{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}`

// trim cuts a resource to what _summary or _elements ask for: root elements
// only; mandatory ones and modifiers always stay, and a tag says that it is not
// whole.
func trim(body []byte, t plan.Type, summary search.Summary, elements []string) ([]byte, error) {
	if keeper(t, summary, elements) == nil {
		return body, nil
	}
	doc, err := fhir.ParseStored(body)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.trim", err)
	}
	defer doc.Release()
	return trimDocument(doc, t, summary, elements), nil
}

func trimDocument(doc *fhir.Document, t plan.Type, summary search.Summary, elements []string) []byte {
	keep := keeper(t, summary, elements)
	if keep == nil {
		return doc.Bytes()
	}
	root := doc.Root()
	var edits []fhir.Edit
	for name, member := range root.Members() {
		if !keep(strings.TrimPrefix(name, "_")) {
			edits = append(edits, fhir.Edit{Node: member})
		}
	}
	return fhir.Apply(doc, append(edits, tagSubsetted(root)))
}

// trims reports whether a resource is cut at all.
func trims(summary search.Summary, elements []string) bool {
	return keeper(0, summary, elements) != nil
}

// alwaysKept are the root members no form of summary takes away.
var alwaysKept = []string{"resourceType", "id", "meta", "implicitRules"}

// keeper says which root members stay; nil keeps everything.
func keeper(t plan.Type, summary search.Summary, elements []string) func(string) bool {
	switch {
	case len(elements) > 0:
		return func(name string) bool { return mandatory(t, name) || named(t, name, elements) }
	case summary == search.SummaryTrue:
		return func(name string) bool {
			e, known := r4.Element(r4.TypeName(t), name)
			return mandatory(t, name) || known && e.Summary
		}
	case summary == search.SummaryText:
		return func(name string) bool { return mandatory(t, name) || name == "text" }
	case summary == search.SummaryData:
		return func(name string) bool { return name != "text" }
	}
	return nil
}

func mandatory(t plan.Type, name string) bool {
	if slices.Contains(alwaysKept, name) {
		return true
	}
	e, known := r4.Element(r4.TypeName(t), name)
	return known && (e.Min > 0 || e.Modifier)
}

// named reports whether _elements lists a member, choices by their base name
// too ("value" keeps valueQuantity).
func named(t plan.Type, name string, elements []string) bool {
	if slices.Contains(elements, name) {
		return true
	}
	e, known := r4.Element(r4.TypeName(t), name)
	return known && e.Choice != "" && slices.Contains(elements, strings.TrimSuffix(e.Choice, "[x]"))
}

func tagSubsetted(root fhir.Node) fhir.Edit {
	meta := root.Get("meta")
	if !meta.Exists() {
		return fhir.Set(root, "meta", []byte(`{"tag":[`+subsetted+`]}`))
	}
	if tags := meta.Get("tag"); tags.Kind() == fhir.Array {
		return fhir.Append(tags, []byte(subsetted))
	}
	return fhir.Set(meta, "tag", []byte(`[`+subsetted+`]`))
}

// Trimmed is a resource as a read with _summary or _elements asks for it; other
// parameters are not looked at.
func (s *Session) Trimmed(resource []byte, pairs []search.Pair) ([]byte, error) {
	doc, err := fhir.ParseStored(resource)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.Trimmed", err)
	}
	defer doc.Release()
	t, err := s.typ(doc.ResourceType())
	if err != nil {
		return nil, err
	}
	asked := slices.DeleteFunc(slices.Clone(pairs), func(p search.Pair) bool { return p.Name != "_summary" && p.Name != "_elements" })
	q, err := search.Parse(s.Registry, []plan.Type{t}, asked, search.Options{})
	if err != nil {
		return nil, err
	}
	if q.Summary == search.SummaryCount {
		return nil, invalidPair(asked[0], "a read has nothing to count")
	}
	return trimDocument(doc, t, q.Summary, q.Elements), nil
}
