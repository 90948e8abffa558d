package interaction

import (
	"encoding/json"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// The interactions that every stored type has, by level (R4 value sets
// type-restful-interaction and system-restful-interaction). Routes are tested
// against these lists.
var (
	typeInteractions   = []string{"read", "vread", "update", "delete", "history-instance", "history-type", "create", "search-type"}
	systemInteractions = []string{"transaction", "batch", "search-system", "history-system"}
)

type code struct {
	Code string `json:"code"`
}

type capabilityParam struct {
	Name          string `json:"name"`
	Definition    string `json:"definition,omitempty"`
	Type          string `json:"type"`
	Documentation string `json:"documentation,omitempty"`
}

type capabilityResource struct {
	Type              string            `json:"type"`
	Interaction       []code            `json:"interaction"`
	Versioning        string            `json:"versioning"`
	ReadHistory       bool              `json:"readHistory"`
	UpdateCreate      bool              `json:"updateCreate"`
	ConditionalCreate bool              `json:"conditionalCreate"`
	ConditionalRead   string            `json:"conditionalRead"`
	ConditionalUpdate bool              `json:"conditionalUpdate"`
	ConditionalDelete string            `json:"conditionalDelete"`
	ReferencePolicy   []string          `json:"referencePolicy"`
	SearchParam       []capabilityParam `json:"searchParam"`
}

// Capabilities gives the CapabilityStatement (R4 http.html#capabilities), made
// from the types and search parameters that are registered.
func (s *Session) Capabilities() ([]byte, error) {
	statement := map[string]any{
		"resourceType": "CapabilityStatement",
		"status":       "active",
		"date":         fhir.FormatInstant(s.Clock())[:len("2006-01-02")],
		"kind":         "instance",
		"software":     map[string]string{"name": "Tarn"},
		"implementation": map[string]string{
			"description": "Tarn, a FHIR R4 data store", "url": s.Base,
		},
		"fhirVersion": r4.Version,
		"format":      []string{"application/fhir+json", "json"},
		"rest": []any{map[string]any{
			"mode": "server", "interaction": codes(systemInteractions), "resource": s.capabilityResources(),
			"security": map[string]any{"cors": true, "description": "AWS Signature Version 4, service name healthlake"},
		}},
	}
	body, err := json.Marshal(statement)
	return body, fault.Wrap(fault.Internal, "interaction.Capabilities", err)
}

func codes(list []string) []code {
	out := make([]code, len(list))
	for i, c := range list {
		out[i] = code{c}
	}
	return out
}

func (s *Session) capabilityResources() []capabilityResource {
	var list []capabilityResource
	for _, t := range s.Registry.Types() {
		name := s.Registry.Name(t)
		if notStored[name] {
			continue
		}
		r := capabilityResource{
			Type: name, Interaction: codes(typeInteractions), Versioning: "versioned-update", ReadHistory: true,
			UpdateCreate: true, ConditionalCreate: true, ConditionalRead: "not-match", ConditionalUpdate: true,
			ConditionalDelete: "single", ReferencePolicy: []string{"literal", "logical", "local"},
		}
		for _, c := range s.Registry.Codes(t) {
			p, ok := s.Registry.Param(t, c)
			if !ok {
				continue
			}
			param := capabilityParam{Name: c, Type: p.Kind.String()}
			if def, known := r4.Param(t, c); known {
				param.Definition = def.URL
			}
			r.SearchParam = append(r.SearchParam, param)
		}
		list = append(list, r)
	}
	return list
}
