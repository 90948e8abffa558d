package search

import (
	"fmt"
	"strings"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Part is one clause of a query compiled alone, under the same grant: how many it
// finds can be told to whoever may search.
type Part struct {
	Shape string
	Arms  []plan.Arm
}

// Parts compiles each clause, and the compartment, alone.
func (q *Query) Parts(env Env) ([]Part, error) {
	s := shaper{env.Registry}
	var parts []Part
	for i, clause := range q.Clauses {
		alone := &Query{Types: q.Types, Clauses: q.Clauses[i : i+1]}
		p, err := alone.Compile(env)
		if err != nil {
			return nil, err
		}
		parts = append(parts, Part{s.cond(clause.On[0].Cond), p.Arms})
	}
	if q.In != nil {
		alone := &Query{Types: q.Types, In: q.In}
		p, err := alone.Compile(env)
		if err != nil {
			return nil, err
		}
		parts = append(parts, Part{"in " + env.Registry.Name(q.In.Of.Type), p.Arms})
	}
	return parts, nil
}

// Columns names a plan's columns as messages do: by the code of the parameter
// and the facet, "code", "value-quantity(code)". It is made for the types that a
// plan speaks of.
type Columns map[plan.Param]string

// NameColumns names the columns of all parameters of these types. Of parameters
// that share a column the one that holds its entries gives the name.
func NameColumns(reg Registry, types ...plan.Type) Columns {
	names := Columns{}
	for _, t := range types {
		for _, code := range reg.Codes(t) {
			p, ok := reg.Param(t, code)
			if !ok || p.Union != nil {
				continue
			}
			for facet, suffix := range facetNames {
				column := p.At(Facet(facet))
				if names[column] == "" || p.Of == nil {
					names[column] = code + suffix
				}
			}
		}
	}
	return names
}

// Of names columns, each once.
func (c Columns) Of(params []plan.Param) string {
	var names []string
	for _, p := range params {
		name := c[p]
		if name == "" {
			name = fmt.Sprintf("parameter %d", p.Number())
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// facetNames are what stands behind a parameter's code, by facet.
var facetNames = [...]string{Main: "", System: "(system)", Text: "(text)", End: "(end)", Code: "(code)", CodeEnd: "(code, end)",
	Unit: "(unit)", UnitEnd: "(unit, end)", Canonical: "(base unit)", CanonicalEnd: "(base unit, end)",
	Identifier: "(identifier)", IdentifierSystem: "(identifier system)", Present: "(present)", Absent: "(absent)", Long: "(long)", ContainedType: "(contained type)"}
