// Package r4 is FHIR R4 (4.0.1) as compiled tables: what HL7's definitions say,
// ready to be asked while a resource is parsed, indexed or validated.
//
// The tables come from one embedded file, r4.tables, written by the generator in
// gen from HL7's own package. It has three sections, each decoded at its first
// use and immutable after:
//
//	search       resource types, search parameters, compartments   a few ms
//	structures   every type and its elements                       type by type
//	value sets   the code lists that required bindings name
//
// Ask [TypeByName] and [TypeName] for the frozen number of a resource type;
// [Params], [Param] and [ParamByURL] for search parameters; [Compartment] for
// compartment membership; [StructureOf], [Elements] and [Element] for structure;
// [ValueSetByURL] for enumerations.
//
// Everything returned is shared and must not be changed. All functions may be
// called concurrently. DESIGN.md draws the file and says what was corrected in
// the definitions; PROVENANCE.md says where they come from.
package r4

import "github.com/tarn-fhir/tarn/internal/search/plan"

//go:generate go run ./gen -source ../../../../shared/data/hl7-r4-core-4.0.1.tar.xz -out .

// Version is the FHIR version the tables describe.
const Version = "4.0.1"

// TypeID is the frozen number of a resource type, from 1. It is persisted by the
// store and never changes meaning (numbers.lock). Numbers from plan.SystemTypes
// on are not resource types and are unknown here. TypeName gives the name.
type TypeID = plan.Type

// ResourceType is one concrete resource type, a row of Tables.
type ResourceType struct {
	ID     TypeID
	Name   string
	Domain bool // a DomainResource: has text, contained, extensions
}

// TypeByName gives the number of a concrete resource type, such as "Patient".
// The abstract Resource and DomainResource have none.
func TypeByName(name string) (TypeID, bool) {
	t, ok := search().byName[name]
	if !ok {
		return 0, false
	}
	return t.ID, true
}

// TypeName gives the name of a resource type, or "" for a number that is none.
func TypeName(id TypeID) string {
	t := search().typeOf(id)
	if t == nil {
		return ""
	}
	return t.Name
}

// ResourceTypes lists the 146 concrete resource types by number.
func ResourceTypes() []TypeID { return search().ids }
