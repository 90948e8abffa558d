package interaction

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// The interactions that are offered, by level (R4 value sets
// type-restful-interaction and system-restful-interaction). The routes of the
// wire are tested against these lists.
var (
	TypeInteractions   = []string{"read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"}
	SystemInteractions = []string{"transaction", "batch", "search-system", "history-system"}
)

// onceInteractions are those of types that are written once.
var onceInteractions = []string{"read", "vread", "history-instance", "history-type", "create", "search-type"}

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
	SearchInclude     []string          `json:"searchInclude,omitempty"`
	SearchParam       []capabilityParam `json:"searchParam"`
	Operation         []capabilityOp    `json:"operation,omitempty"`
}

type capabilityOp struct {
	Name       string `json:"name"`
	Definition string `json:"definition"`
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
		"patchFormat": []string{"application/json-patch+json", "application/fhir+json"},
		"rest": []any{map[string]any{
			"mode": "server", "interaction": codes(SystemInteractions), "resource": s.capabilityResources(),
			"compartment": compartments(),
			"security":    map[string]any{"cors": true, "description": "AWS Signature Version 4, service name healthlake"},
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

func compartments() []string {
	var urls []string
	for _, name := range r4.Compartments() {
		urls = append(urls, r4.CompartmentURL(name))
	}
	return urls
}

func (s *Session) capabilityResources() []capabilityResource {
	var list []capabilityResource
	for _, t := range s.Registry.Types() {
		if name := s.Registry.Name(t); !notStored[name] {
			list = append(list, s.capabilityResource(t, name))
		}
	}
	return list
}

func (s *Session) capabilityResource(t plan.Type, name string) capabilityResource {
	r := capabilityResource{
		Type: name, Interaction: codes(TypeInteractions), Versioning: "versioned-update", ReadHistory: true,
		UpdateCreate: true, ConditionalCreate: true, ConditionalRead: "full-support", ConditionalUpdate: true,
		ConditionalDelete: "single", ReferencePolicy: []string{"literal", "logical", "local"},
	}
	if writtenOnce[name] {
		r.Interaction, r.UpdateCreate, r.ConditionalUpdate, r.ConditionalDelete = codes(onceInteractions), false, false, "not-supported"
	}
	for _, c := range s.Registry.Codes(t) {
		p, ok := s.Registry.Param(t, c)
		if !ok || !s.offered(t, p) {
			continue
		}
		param := capabilityParam{Name: c, Type: p.Kind.String()}
		if def, known := r4.Param(t, c); known {
			param.Definition = def.URL
		}
		r.SearchParam = append(r.SearchParam, param)
		if p.Kind == search.KindReference {
			r.SearchInclude = append(r.SearchInclude, name+":"+c)
		}
	}
	r.SearchParam = append(r.SearchParam, capabilityParam{Name: "createdAt", Type: "date",
		Documentation: "When the resource was created (HealthLake's)"})
	for _, o := range Operations {
		if slices.Contains(o.Types, name) {
			r.Operation = append(r.Operation, capabilityOp{strings.TrimPrefix(o.Name, "$"), o.Definition})
		}
	}
	return r
}

// offered reports whether a parameter can be searched by, by asking the parser.
func (s *Session) offered(t plan.Type, p *search.Param) bool {
	_, err := search.Parse(s.Registry, []plan.Type{t}, []search.Pair{{Name: p.Code, Value: sample(p)}}, search.Options{})
	return err == nil
}

// sample is a value that a parameter of this kind understands.
func sample(p *search.Param) string {
	switch p.Kind {
	case search.KindNumber, search.KindQuantity:
		return "1"
	case search.KindDate:
		return "2000"
	case search.KindComposite:
		parts := make([]string, len(p.Components))
		for i, c := range p.Components {
			parts[i] = sample(c)
		}
		return strings.Join(parts, "$")
	}
	return "a"
}
