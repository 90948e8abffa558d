package searchparam

import (
	"slices"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Defined is a definition in use by a Registry.
type Defined struct {
	Definition
	// Pending says why it cannot be searched by yet, though its entries are made;
	// nil: it can.
	Pending func() string
}

// defined is a Defined on one type.
type defined struct {
	source *r4.SearchParam
	param  *search.Param // its entries
	found  *search.Param // what a search finds under its code
}

// With makes a registry of the same parameters and these. Definitions must have
// passed Check. Of two of one code on one type, the one that is not pending is
// found; entries are made for both.
func (r *Registry) With(definitions []Defined) *Registry {
	base := r
	if r.base != nil {
		base = r.base
	}
	with := &Registry{params: base.params, codes: base.codes, content: base.content, base: base, defined: map[plan.Type][]defined{}}
	plain := make([]Definition, len(definitions))
	for i := range definitions {
		plain[i] = definitions[i].Definition
	}
	for i := range definitions {
		for _, t := range definitions[i].types() {
			with.define(t, &definitions[i], plain)
		}
	}
	return with
}

func (r *Registry) define(t plan.Type, d *Defined, all []Definition) {
	source, err := d.source(t, all)
	if err != nil || source.Expression == "" {
		return // a component that is gone: the parameter goes with it
	}
	made := defined{source: source, param: describe(source)}
	made.found = made.param
	if d.Pending != nil {
		made.found = &search.Param{Code: d.Code, URL: d.URL, Kind: search.KindSpecial, Pending: d.Pending}
	}
	r.defined[t] = append(r.defined[t], made)
}

// own finds a defined parameter of a type, one that is ready before others.
func (r *Registry) own(t plan.Type, code string) (*search.Param, bool) {
	var found *search.Param
	for _, d := range r.defined[t] {
		if d.source.Code == code && (found == nil || found.Pending != nil) {
			found = d.found
		}
	}
	return found, found != nil
}

// ownCodes are the codes of the defined parameters that can be searched by.
func (r *Registry) ownCodes(t plan.Type) []string {
	var codes []string
	for _, d := range r.defined[t] {
		if d.found.Pending == nil && !slices.Contains(codes, d.source.Code) {
			codes = append(codes, d.source.Code)
		}
	}
	return codes
}
