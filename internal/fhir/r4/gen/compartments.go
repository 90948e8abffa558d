package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// compartmentDefinition is the part of CompartmentDefinition that the tables need
// (https://hl7.org/fhir/R4/compartmentdefinition.html).
type compartmentDefinition struct {
	URL      string
	Code     string
	Resource []struct {
		Code  string
		Param []string
	}
}

// itself stands, in a compartment's list, for the resource that is the
// compartment.
const itself = "{def}"

func buildCompartments(defs []*compartmentDefinition, types []r4.ResourceType, params []*r4.SearchParam) ([]r4.CompartmentDef, error) {
	ids := map[string]r4.TypeID{}
	for _, t := range types {
		ids[t.Name] = t.ID
	}
	have := map[string]bool{}
	for _, p := range params {
		have[p.Base+" "+p.Code] = true
	}
	var all []r4.CompartmentDef
	for _, d := range defs {
		if leaveOut(d.URL) {
			continue
		}
		c := r4.CompartmentDef{Code: d.Code, URL: d.URL}
		for _, r := range d.Resource {
			if len(r.Param) == 0 {
				continue
			}
			codes := slices.DeleteFunc(slices.Clone(r.Param), func(s string) bool { return s == itself })
			for _, code := range codes {
				if !have[r.Code+" "+code] || ids[r.Code] == 0 {
					return nil, fmt.Errorf("%s: no search parameter %s of %s", d.URL, code, r.Code)
				}
			}
			c.Members = append(c.Members, r4.CompartmentMember{Type: ids[r.Code], Codes: codes})
		}
		slices.SortFunc(c.Members, func(a, b r4.CompartmentMember) int { return int(a.Type) - int(b.Type) })
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b r4.CompartmentDef) int { return strings.Compare(a.Code, b.Code) })
	return all, nil
}
