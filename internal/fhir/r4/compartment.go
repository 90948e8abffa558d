package r4

// CompartmentDef is one CompartmentDefinition.
type CompartmentDef struct {
	Code    string // "Patient"
	URL     string
	Members []CompartmentMember
}

// CompartmentMember is a type that can be in a compartment.
type CompartmentMember struct {
	Type  TypeID
	Codes []string // search parameters
}

// Compartments names the compartments R4 defines, which are resource types too:
// Device, Encounter, Patient, Practitioner, RelatedPerson.
func Compartments() []string {
	all := search().compartments
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Code
	}
	return names
}

// Compartment tells how resources of a type belong to a compartment
// (https://hl7.org/fhir/R4/compartmentdefinition.html): through any of these
// search parameters, when one of them refers to the compartment's resource.
// member is false for types that never belong. A type may be a member without
// codes: the Encounter of an Encounter compartment belongs to its own only.
// The compartment's own resource always belongs to it, whatever codes are given.
func Compartment(name string, id TypeID) (codes []string, member bool) {
	for i := range search().compartments {
		c := &search().compartments[i]
		if c.Code != name {
			continue
		}
		for j := range c.Members {
			if c.Members[j].Type == id {
				return c.Members[j].Codes, true
			}
		}
	}
	return nil, false
}

// CompartmentURL is the canonical of a compartment's definition, or "".
func CompartmentURL(name string) string {
	for _, c := range search().compartments {
		if c.Code == name {
			return c.URL
		}
	}
	return ""
}
