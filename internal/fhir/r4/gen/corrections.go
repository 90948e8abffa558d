package main

// This file is everything in which the tables differ from HL7's definitions,
// and why. A correction names what is published, and the generator fails when
// that is no longer so.

// correction replaces one published expression.
type correction struct{ published, corrected string }

// leaveOut tells which definitions are not part of the tables.
func leaveOut(url string) bool { return leftOut[url] }

// leftOut are example resources of the specification, which the package holds
// beside the definitions.
var leftOut = map[string]bool{
	"http://hl7.org/fhir/SearchParameter/example":           true, // repeats _id
	"http://hl7.org/fhir/SearchParameter/example-reference": true, // repeats Condition.subject
	"http://hl7.org/fhir/SearchParameter/example-extension": true, // an extension of example.org
	"http://hl7.org/fhir/CompartmentDefinition/example":     true, // repeats Device
}

// proseParams are the parameters of all types that R4 defines in prose and
// without a SearchParameter (https://hl7.org/fhir/R4/search.html#all).
var proseParams = []*searchParameter{
	{Code: "_has", Base: []string{"Resource"}, Type: "special"},
	{Code: "_list", Base: []string{"Resource"}, Type: "special"},
	{Code: "_type", Base: []string{"Resource"}, Type: "token"},
}

// resourceIDType is the type of Resource.id. The definitions of 4.0.1 declare
// string, but the specification says id, and means it: 64 characters of
// [A-Za-z0-9-.] (https://hl7.org/fhir/R4/resource.html#Resource).
const resourceIDType = "id"

// systemTypes are the FHIRPath system types of primitives for which 4.0.1
// declares String, though their values are numbers in JSON and their base is
// integer (https://hl7.org/fhir/R4/datatypes.html#positiveInt).
var systemTypes = map[string]string{
	"positiveInt": "Integer",
	"unsignedInt": "Integer",
}

// typeNames corrects names of types inside ofType.
var typeNames = map[string]string{
	"DateTime": "dateTime", // Observation-code-value-date: types are case-sensitive
}

// paramCorrections replaces expressions of search parameters, by URL.
var paramCorrections = map[string]correction{
	// Begins at no type; works only where the evaluator takes names as members.
	"http://hl7.org/fhir/SearchParameter/InsurancePlan-name": {
		"name | alias",
		"InsurancePlan.name | InsurancePlan.alias",
	},
	// Without expression; the xpath names both choices of multipleBirth[x].
	// Written as Patient.deceased is.
	"http://hl7.org/fhir/SearchParameter/patient-extensions-Patient-birthOrderBoolean": {
		"",
		"Patient.multipleBirth.exists() and Patient.multipleBirth != false",
	},
	// Those below end at an Extension, which no type of parameter is searched
	// on, where its value is meant; the first also names an extension that does
	// not exist. The type is the extension's where R4 defines it (mother's maiden
	// name, assessed condition, gene), otherwise what such a value is coded as.
	"http://hl7.org/fhir/SearchParameter/patient-extensions-Patient-mothersMaidenName": {
		"Patient.extension('http://hl7.org/fhir/StructureDefinition/patient-extensions-Patient-mothersMaidenName')",
		"Patient.extension('http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName').value.ofType(string)",
	},
	"http://hl7.org/fhir/SearchParameter/diagnosticreport-genetic-DiagnosticReport-assessed-condition": {
		"DiagnosticReport.extension('http://hl7.org/fhir/StructureDefinition/DiagnosticReport-geneticsAssessedCondition')",
		"DiagnosticReport.extension('http://hl7.org/fhir/StructureDefinition/DiagnosticReport-geneticsAssessedCondition').value.ofType(Reference)",
	},
	"http://hl7.org/fhir/SearchParameter/observation-genetic-Observation-gene-identifier": {
		"Observation.extension('http://hl7.org/fhir/StructureDefinition/observation-geneticsGene')",
		"Observation.extension('http://hl7.org/fhir/StructureDefinition/observation-geneticsGene').value.ofType(CodeableConcept)",
	},
	"http://hl7.org/fhir/SearchParameter/observation-genetic-Observation-amino-acid-change": {
		"Observation.extension('http://hl7.org/fhir/StructureDefinition/observation-geneticsAminoAcidChangeName')",
		"Observation.extension('http://hl7.org/fhir/StructureDefinition/observation-geneticsAminoAcidChangeName').value.ofType(CodeableConcept)",
	},
	"http://hl7.org/fhir/SearchParameter/observation-genetic-Observation-gene-amino-acid-change": {
		"Observation.extension('http://hl7.org/fhir/StructureDefinition/observation-geneticsAminoAcidChangeName')",
		"Observation.extension('http://hl7.org/fhir/StructureDefinition/observation-geneticsAminoAcidChangeName').value.ofType(CodeableConcept)",
	},
	"http://hl7.org/fhir/SearchParameter/observation-genetic-Observation-dna-variant": {
		"Observation.extension('http://hl7.org/fhir/StructureDefinition/observation-geneticsDnaVariant')",
		"Observation.extension('http://hl7.org/fhir/StructureDefinition/observation-geneticsDnaVariant').value.ofType(CodeableConcept)",
	},
	"http://hl7.org/fhir/SearchParameter/observation-genetic-Observation-gene-dnavariant": {
		"Observation.extension('http://hl7.org/fhir/StructureDefinition/observation-geneticsDnaVariant')",
		"Observation.extension('http://hl7.org/fhir/StructureDefinition/observation-geneticsDnaVariant').value.ofType(CodeableConcept)",
	},
	"http://hl7.org/fhir/SearchParameter/device-extensions-Device-din": {
		"Device.extension('http://hl7.org/fhir/SearchParameter/device-extensions-Device-din')",
		"Device.extension('http://hl7.org/fhir/SearchParameter/device-extensions-Device-din').value.ofType(Identifier)",
	},
}

// componentCorrections replaces the expression of a composite's part, by URL of
// the composite and of the part.
var componentCorrections = map[[2]string]correction{
	// The expressions of the two parts are interchanged: relatesto is the
	// reference, relation the code.
	{"http://hl7.org/fhir/SearchParameter/DocumentReference-relationship", "http://hl7.org/fhir/SearchParameter/DocumentReference-relatesto"}: {"code", "target"},
	{"http://hl7.org/fhir/SearchParameter/DocumentReference-relationship", "http://hl7.org/fhir/SearchParameter/DocumentReference-relation"}:  {"target", "code"},
}
