package smart

// What a scope that is bound to patients (patient/, and user/ under fine-grained
// authorization) shows. Types of the Patient compartment are bound by
// http://hl7.org/fhir/R4/compartmentdefinition-patient.html; the tables below
// say the rest. What stands in none of them is refused. DESIGN.md gives the
// reasons.

// openTypes may be read and searched whole, and never written: who treats, where
// and with what. They say nothing about a patient.
var openTypes = []string{
	"HealthcareService", "InsurancePlan", "Location", "Medication", "MedicationKnowledge",
	"Organization", "OrganizationAffiliation", "Practitioner", "PractitionerRole", "Questionnaire",
}

// boundTypes lie outside the compartment and name a patient by a parameter: they
// may be read and searched where it is one's own, and never written.
var boundTypes = map[string]string{
	"Device": "patient",
	// The server's own parameter for Binary.securityContext, which R4 lacks
	// (searchparam/added.go); without a context nobody sees it.
	"Binary": "security-context",
}

// shutTypes are of the compartment and refused all the same: one member would
// read who the others are.
var shutTypes = map[string]bool{"Group": true}

// principals are the parameters that say whose record a resource is in, the
// first that a type has. What is written must not be another's by it, though
// the patient may stand in the resource elsewhere (as Observation.performer).
var principals = []string{"subject", "patient", "beneficiary", "individual"}
