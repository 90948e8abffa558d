package search

import (
	"encoding/binary"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Facet is the kind of an entry under its parameter's number. The numbers are
// persisted: append, never change. docs/format/entries.md draws the values.
type Facet uint8

// The facets.
const (
	// Main is what the plain form of the parameter searches, and what it sorts
	// by.
	Main Facet = 0
	// System is H(system) of a token whose codes are too many to look through
	// (Param.ManyCodes).
	System Facet = 1
	// Text is folded text of a token: display, text, identifier type.
	Text Facet = 2
	// End is high|low of a date that is longer than LongInterval, and of a
	// number or quantity that is a range.
	End Facet = 3
	// Code is H(code or unit)|low|high of a quantity, of a point with the system
	// behind.
	Code Facet = 4
	// CodeEnd is H(code or unit)|high|low of a quantity that is a range.
	CodeEnd Facet = 5
	// Unit is H(system|code)|low|high of a quantity that is a range.
	Unit Facet = 6
	// UnitEnd is H(system|code)|high|low of a quantity that is a range.
	UnitEnd Facet = 7
	// Canonical is H(canonical unit)|low|high of a UCUM quantity.
	Canonical Facet = 8
	// CanonicalEnd is H(canonical unit)|high|low of one that is a range.
	CanonicalEnd Facet = 9
	// Identifier is, of a reference, the token of Reference.identifier; of a
	// token that is an Identifier, H(type system|type code|value).
	Identifier Facet = 10
	// IdentifierSystem is H(system) of Reference.identifier.
	IdentifierSystem Facet = 11
	// Present is one empty entry when the parameter has a value, unless the
	// parameter is Usual.
	Present Facet = 12
	// Absent is one empty entry when a parameter that is Usual has no value.
	Absent Facet = 13
	// Long is one empty entry when a text of the parameter is longer than
	// MaxTextBytes, and was cut.
	Long Facet = 14
	// ContainedType is, under ContainedNumber, the number of the type of a
	// resource that is contained, in two bytes.
	ContainedType Facet = 15
	// FamilyPart is folded text of a family name from a later part of it on.
	FamilyPart Facet = 16
)

// Exact is low|high of a date with all its digits, in entries that are read of a
// body (NewWhole) only. Not persisted.
const Exact Facet = 255

// ContainedNumber is the number of the column that says of which types contained
// resources are; R4's parameters are numbered from 1 up.
const ContainedNumber = 0

// containedColumn is that column.
var containedColumn = plan.NewParam(ContainedNumber, uint8(ContainedType))

// containedTerm is the condition to contain a resource of a type.
func containedTerm(t plan.Type) plan.Node {
	return plan.Term{Param: containedColumn, Value: binary.BigEndian.AppendUint16(nil, uint16(t))}
}

// The domains of hashes inside entries; plan.HashKey.Self has 0. Persisted:
// append, never change.
const (
	domainCode      = 1 // a token's code
	domainSystem    = 2 // a system
	domainURL       = 3 // a reference by URL, URN or canonical; a uri
	domainExact     = 4 // a string as it is written
	domainUnit      = 5 // a quantity's system and code
	domainUnitCode  = 6 // a quantity's code, or its unit
	domainOfType    = 7 // an identifier's type system, type code and value
	domainVersion   = 8 // a reference to one version of a resource of this store
	domainCanonical = 9 // a canonical UCUM unit
)

// Bounds of what is kept of long text.
const (
	// MaxTextBytes leaves room for what stands behind the text under
	// plan.MaxValueBytes; longer text is found by its beginning.
	MaxTextBytes = 2000
	// maxCodeBytes is how much of a code stands in an entry as it is; longer
	// ones end in their hash.
	maxCodeBytes = 128
)

var _ = [1]struct{}{}[(MaxTextBytes+1+2*len(plan.Hash{}))/(plan.MaxValueBytes+1)] // does not compile unless text and hash fit
