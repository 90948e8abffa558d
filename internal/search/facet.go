package search

import "github.com/tarn-fhir/tarn/internal/search/plan"

// Facet is the kind of an entry under its parameter's number. The numbers are
// persisted: append, never change. docs/format/entries.md draws the values.
type Facet uint8

// The facets.
const (
	// Main is what the plain form of the parameter searches.
	Main Facet = 0
	// System is H(system) of a token.
	System Facet = 1
	// Text is folded text of a token (display, text, identifier type), and the
	// URI itself of a uri.
	Text Facet = 2
	// Exact is H(text) of a string.
	Exact Facet = 3
	// End is high|low of a date, and of a number or quantity that is a range.
	End Facet = 4
	// Unit is H(system|code)|low|high of a quantity, and H(system|)|low|high.
	Unit Facet = 5
	// Code is H(code or unit)|low|high of a quantity.
	Code Facet = 6
	// Identifier is, of a reference, the token of Reference.identifier; of a
	// token that is an Identifier, H(type system|type code|value).
	Identifier Facet = 7
	// Present is one empty entry when the parameter has a value.
	Present Facet = 8
	// Sort is the text by which tokens and references sort.
	Sort Facet = 9
	// Canonical is H(canonical unit)|low|high of a UCUM quantity.
	Canonical Facet = 10
	// UnitEnd, CodeEnd and CanonicalEnd are the facets before with high|low,
	// for quantities that are ranges.
	UnitEnd      Facet = 11
	CodeEnd      Facet = 12
	CanonicalEnd Facet = 13
	// IdentifierSystem is H(system) of Reference.identifier.
	IdentifierSystem Facet = 14
)

// The domains of hashes inside entries; plan.HashKey.Self has 0. Persisted:
// append, never change.
const (
	domainCode       = 1  // a token's code
	domainSystemCode = 2  // a token's system and code
	domainSystem     = 3  // a token's system
	domainURL        = 4  // a reference by URL, URN or canonical; a uri
	domainExact      = 5  // a string as it is written
	domainUnit       = 6  // a quantity's system and code
	domainUnitCode   = 7  // a quantity's code, or its unit
	domainOfType     = 8  // an identifier's type system, type code and value
	domainVersion    = 9  // a reference to one version of a resource of this store
	domainCanonical  = 10 // a canonical UCUM unit
)

// Bounds of what is kept of long text. MaxTextBytes leaves room for the
// terminator under plan.MaxValueBytes; longer text is found by its beginning.
const (
	MaxTextBytes = 2000
	// MaxSortBytes is how far texts are compared when tokens are sorted.
	MaxSortBytes = 64
)

var _ = [1]struct{}{}[MaxTextBytes/plan.MaxValueBytes] // does not compile unless MaxTextBytes < plan.MaxValueBytes
