package interaction

import (
	"encoding/json"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// oauthURIs is the extension by which a capability statement names a server's
// OAuth endpoints (SMART App Launch 2.2, "Declaring support for OAuth2
// endpoints").
const oauthURIs = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"

// oauthMembers are the extension's parts, each with the member of the discovery
// document that holds its value.
var oauthMembers = [...]struct{ part, member string }{
	{"authorize", "authorization_endpoint"}, {"token", "token_endpoint"}, {"introspect", "introspection_endpoint"},
	{"revoke", "revocation_endpoint"}, {"register", "registration_endpoint"}, {"manage", "management_endpoint"},
}

type uriExtension struct {
	URL      string         `json:"url"`
	ValueURI string         `json:"valueUri,omitempty"`
	Parts    []uriExtension `json:"extension,omitempty"`
}

type restSecurity struct {
	Extension   []uriExtension   `json:"extension,omitempty"`
	CORS        bool             `json:"cors"`
	Service     []map[string]any `json:"service,omitempty"`
	Description string           `json:"description"`
}

// security is CapabilityStatement.rest.security of a data store with this
// discovery document; empty for none.
func security(document string) ([]byte, error) {
	s := restSecurity{CORS: true, Description: "AWS Signature Version 4, service name healthlake"}
	var members map[string]any
	if document != "" {
		if err := json.Unmarshal([]byte(document), &members); err != nil {
			return nil, fault.Wrap(fault.Internal, "interaction.security", err)
		}
		s.Description = "SMART on FHIR (OAuth 2.0 bearer tokens), or " + s.Description
		s.Service = []map[string]any{{"coding": []map[string]string{{
			"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR",
		}}}}
	}
	e := uriExtension{URL: oauthURIs}
	for _, m := range oauthMembers {
		if uri, ok := members[m.member].(string); ok && uri != "" {
			e.Parts = append(e.Parts, uriExtension{URL: m.part, ValueURI: uri})
		}
	}
	if len(e.Parts) > 0 {
		s.Extension = []uriExtension{e}
	}
	raw, err := json.Marshal(s)
	return raw, fault.Wrap(fault.Internal, "interaction.security", err)
}
