// Package search is FHIR's search language: from a URL to a plan, and from a
// value to the index entries that the plan finds.
//
//	entry   Param (number, facet) → value bytes      facet.go, docs/format/entries.md
//	URL  →  Query  →  plan.Plan                      parse.go, compile.go
//	element of a resource → entries                  entries.go (walked by searchparam)
//
// Both directions go through the same encodings, so that what a search asks for
// and what a resource offers agree by construction: encode.go holds the bytes,
// interval.go the prefixes, composite.go the pairs.
//
// A Query is a tree of typed clauses, one condition per searched type. It is
// made by Parse, which refuses what it does not know, and turned into a plan by
// Compile, which writes every prefix and every modifier exactly once and lets a
// Grant narrow every hop. Nothing here does I/O or looks at a clock.
//
// Spec: http://hl7.org/fhir/R4/search.html.
package search

import (
	"slices"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Kind is a search parameter's type (R4 SearchParameter.type).
type Kind uint8

// The kinds of R4 3.1.1.4.4 ff.
const (
	KindUnknown Kind = iota
	KindNumber
	KindDate
	KindString
	KindToken
	KindReference
	KindComposite
	KindQuantity
	KindURI
	KindSpecial
	KindPosition // Location.near, a special parameter in R4
	KindWords    // _text and _content, string parameters in R4
)

var kindNames = [...]string{"unknown", "number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special", "special", "string"}

func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return kindNames[KindUnknown]
	}
	return kindNames[k]
}

// mainTells reports whether :missing looks at Main: uris are few and alike, and
// nobody asks for missing composites and narratives, so that none is worth an
// entry in every resource.
func (k Kind) mainTells() bool { return k == KindURI || k == KindComposite || k == KindWords }

// KindOf reads a code of the value set search-param-type.
func KindOf(code string) Kind {
	for i, name := range kindNames {
		if name == code {
			return Kind(i)
		}
	}
	return KindUnknown
}

// Param is a search parameter as one resource type knows it.
type Param struct {
	Code   string
	Number uint16 // frozen, part of every entry's Param
	URL    string // of the definition, where a user made it
	Kind   Kind
	// Targets are the types a reference may point to; empty is any.
	Targets []plan.Type
	// Parts: elements may be names of people, whose family names are found by
	// their parts too.
	Parts bool
	// Inline: values are resources that stand in the resource itself
	// (Bundle.entry[0].resource), of the types in Targets.
	Inline bool
	// Canonical: values may be canonicals or URIs, which name resources by their
	// url.
	Canonical bool
	// Components of a composite, in the order of its value's parts.
	Components []*Param
	// ManyCodes: elements may be identifiers or contact points, whose codes are
	// too many to look through for those of a system.
	ManyCodes bool
	// Usual: most resources of the type have a value, so that an entry says when
	// there is none. It decides which entries there are: constant for the life of
	// a data store.
	Usual bool
	// Implied reports whether a code without system stands for system|code, or
	// with an empty code for all codes of system: elements of type code have
	// their system from the value set they are bound to (R4 3.1.1.4.10). Nil is
	// never.
	Implied func(system, code string) bool
	// Of, when set, is a parameter that holds this one's entries too, so that
	// nothing is kept twice that two parameters say alike (name and phonetic).
	// With OfMain it holds those of Main, and further ones that point to other
	// types than Targets (patient, in subject).
	Of     *Param
	OfMain bool
	// Union, when set, are parameters whose entries together are this one's; it
	// has none of its own (combo-code is code and component-code).
	Union []*Param
	// Pending, of a parameter that users defined, says why it cannot be searched
	// by yet; its Kind is KindSpecial then. Nil: it can.
	Pending func() string
}

// refersTo reports whether entries of Main that point to type t are this
// parameter's.
func (p *Param) refersTo(t plan.Type) bool { return !p.OfMain || slices.Contains(p.Targets, t) }

// usual and manyCodes are those of the parameter that holds the entries.
func (p *Param) usual() bool {
	if p.Of != nil && !p.OfMain {
		return p.Of.usual()
	}
	return p.Usual
}

func (p *Param) manyCodes() bool {
	if p.Of != nil {
		return p.Of.manyCodes()
	}
	return p.ManyCodes
}

// At is the column of one facet of this parameter. A Union has none.
func (p *Param) At(f Facet) plan.Param {
	if p.Of != nil && (f == Main || !p.OfMain) {
		return p.Of.At(f)
	}
	return plan.NewParam(p.Number, uint8(f))
}

// Columns are the columns of one facet: one, but for a Union.
func (p *Param) Columns(f Facet) []plan.Param {
	if p.Union == nil {
		return []plan.Param{p.At(f)}
	}
	var all []plan.Param
	for _, part := range p.Union {
		all = append(all, part.Columns(f)...)
	}
	return all
}

// Registry knows types and parameters. It is constant while a Query is parsed
// and compiled.
type Registry interface {
	// Param finds the parameter of that code on a type, those of every resource
	// ("_tag") included.
	Param(t plan.Type, code string) (*Param, bool)
	// Codes lists the parameters of a type, for messages and statements, but for
	// those that R4 calls special: their values have forms of their own.
	Codes(t plan.Type) []string
	// Type finds a resource type by name.
	Type(name string) (plan.Type, bool)
	// Name is the type's name.
	Name(t plan.Type) string
	// Types lists all resource types, in order of their numbers.
	Types() []plan.Type
	// Compartment lists the reference parameters by which a resource of type t
	// belongs to the compartment of type of; self reports that the compartment's
	// own resource is in it. No parameters and not self: t is outside.
	Compartment(of, t plan.Type) (params []*Param, self bool)
}

// Coding is a code in a system; an empty System is none.
type Coding struct{ System, Code string }
