package searchparam

import "github.com/tarn-fhir/tarn/internal/fhir/r4"

// element is what conversion knows of a value: its type, as far as types differ
// in what becomes of them. It is settled when a path is compiled.
type element uint8

const (
	elementOther     element = iota
	elementPrimitive         // a text that is nothing of the following
	elementCoding
	elementConcept
	elementIdentifier
	elementContact
	elementName
	elementFamily // HumanName.family
	elementAddress
	elementAnnotation
	elementReference
	elementResource // a resource that stands there itself (Bundle.entry.resource)
	elementCanonical
	elementDate // date, dateTime
	elementInstant
	elementPeriod
	elementTiming
	elementNumber
	elementQuantity
	elementRange
	elementMoney
	elementPosition // Location.position
)

var elements = map[string]element{
	"Coding": elementCoding, "CodeableConcept": elementConcept, "Identifier": elementIdentifier,
	"ContactPoint": elementContact, "HumanName": elementName, "Address": elementAddress,
	"Annotation": elementAnnotation, "Reference": elementReference, "Resource": elementResource,
	"canonical": elementCanonical, "date": elementDate, "dateTime": elementDate, "instant": elementInstant,
	"Period": elementPeriod, "Timing": elementTiming, "decimal": elementNumber, "integer": elementNumber,
	"positiveInt": elementNumber, "unsignedInt": elementNumber, "Range": elementRange, "Money": elementMoney,
	"Location.position": elementPosition,
}

// elementOf settles a type by its name.
func elementOf(typ string) element {
	if e, ok := elements[typ]; ok {
		return e
	}
	if r4.IsA(typ, "Quantity") {
		return elementQuantity
	}
	if s, ok := r4.StructureOf(typ); ok && s.Kind == r4.KindPrimitive {
		return elementPrimitive
	}
	return elementOther
}

// primitive reports whether the value is a text, number or boolean.
func (e element) primitive() bool {
	return e == elementPrimitive || e == elementFamily || e == elementCanonical || e == elementDate || e == elementInstant || e == elementNumber
}
