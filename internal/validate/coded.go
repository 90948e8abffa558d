package validate

import (
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// codeSet is the value set of a required binding by code, each with the systems
// that have it. Sets whose codes R4 does not list, such as MIME types, are nil:
// they bind nothing here.
type codeSet map[string][]string

// codesOf gives the set of an element's required binding.
func (v *Validator) codesOf(e *r4.ElementInfo) codeSet {
	if e.Binding.Strength != r4.BindRequired {
		return nil
	}
	set, ok := r4.ValueSetByURL(e.Binding.ValueSet)
	if !ok || len(set.Open) > 0 {
		return nil
	}
	if made, ok := v.codes[set.URL]; ok {
		return made
	}
	made := codeSet{}
	for _, system := range set.Systems {
		for _, code := range system.Codes {
			made[code] = append(made[code], system.System)
		}
	}
	v.codes[set.URL] = made
	return made
}

func (s codeSet) has(code []byte) bool {
	_, ok := s[string(code)]
	return ok
}

// hasCoding reports whether a Coding is in the set; one without system is not.
func (s codeSet) hasCoding(coding fhir.Node) bool {
	system := coding.GetName(nameSystem)
	for _, one := range s[string(coding.GetName(nameCode).TextBytes())] {
		if system.Is(one) {
			return true
		}
	}
	return false
}

// concept checks a CodeableConcept under a required binding: one of its codings
// must be in the set. One that says nothing but by extension (why the data is
// absent) passes.
func (w *walk) concept(sl *slot, n fhir.Node) {
	codings := n.GetName(nameCoding)
	if !codings.Exists() && n.GetName(nameExtension).Exists() {
		return
	}
	next := codings.Ref() + 1
	for range codings.Len() {
		coding := w.doc.At(next)
		if sl.codes.hasCoding(coding) {
			return
		}
		next = w.skip(coding)
	}
	w.fail(n, codeBinding, "None of the codings provided are in the value set %s, and a coding from this value set is required",
		sl.element.Binding.ValueSet)
}
