package interaction

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"

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
	SearchRevInclude  []string          `json:"searchRevInclude,omitempty"`
	SearchParam       []capabilityParam `json:"searchParam"`
	Operation         []capabilityOp    `json:"operation,omitempty"`
}

type capabilityOp struct {
	Name       string `json:"name"`
	Definition string `json:"definition"`
}

// normative are the resource types that are normative in R4 (R4 versions.html,
// resourcelist.html).
var normative = map[string]bool{
	"Binary": true, "Bundle": true, "CapabilityStatement": true, "CodeSystem": true, "Observation": true, "OperationDefinition": true,
	"OperationOutcome": true, "Parameters": true, "Patient": true, "StructureDefinition": true, "ValueSet": true,
}

// Statements keeps what Capabilities made, for all sessions on one registry and
// for one day: a statement is large and asked for often.
type Statements struct {
	mu   sync.Mutex
	date string
	made map[statementKind][3][]byte // around the base URL and the security
}

// statementKind is what statements of one day differ in, besides the base URL.
type statementKind struct {
	mode           string
	multipleDelete bool
}

// The marks stand for what differs between stores in a statement that is kept:
// the base URL, and how clients authenticate.
const (
	baseMark     = "urn:tarn:base"
	securityMark = "urn:tarn:security"
)

// Capabilities gives the CapabilityStatement (R4 http.html#capabilities), made
// from the types and search parameters that are registered: all of it
// (mode=full), what is normative in R4 (mode=normative), or the
// TerminologyCapabilities (mode=terminology).
func (s *Session) Capabilities(pairs []search.Pair) ([]byte, error) {
	mode := "full"
	for _, p := range pairs {
		if p.Name == "mode" {
			mode = p.Value
		}
	}
	if mode != "full" && mode != "normative" && mode != "terminology" {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "interaction.Capabilities", Subject: "mode", Detail: "it is full, normative or terminology"}
	}
	parts, err := s.statement(mode)
	if err != nil {
		return nil, err
	}
	url := fhir.AppendString(nil, s.Base)
	body := slices.Concat(parts[0], url[1:len(url)-1], parts[1])
	if len(parts[2]) == 0 {
		return body, nil // of terminology: nothing is said of security
	}
	how, err := security(s.SMART)
	return slices.Concat(body, how, parts[2]), err
}

// statement is the kept statement, or a new one.
func (s *Session) statement(mode string) (parts [3][]byte, err error) {
	date := fhir.FormatInstant(s.Clock())[:len("2006-01-02")]
	kind := statementKind{mode, s.Rules.MultipleDelete}
	if s.Statements == nil {
		return s.makeStatement(mode, date)
	}
	k := s.Statements
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.date != date {
		k.date, k.made = date, map[statementKind][3][]byte{}
	}
	if kept, ok := k.made[kind]; ok {
		return kept, nil
	}
	parts, err = s.makeStatement(mode, date)
	if err == nil {
		k.made[kind] = parts
	}
	return parts, err
}

func (s *Session) makeStatement(mode, date string) (parts [3][]byte, err error) {
	content, name := s.capabilityStatement(mode), "CapabilityStatement"
	if mode == "terminology" {
		content, name = map[string]any{}, "TerminologyCapabilities"
	}
	content["status"], content["date"], content["kind"] = "active", date, "instance"
	content["software"] = map[string]string{"name": "Tarn"}
	content["implementation"] = map[string]string{"description": "Tarn, a FHIR R4 data store", "url": baseMark}
	body, err := json.Marshal(content)
	if err != nil {
		return parts, fault.Wrap(fault.Internal, "interaction.Capabilities", err)
	}
	body = append([]byte(`{"resourceType":"`+name+`",`), body[1:]...) // it stands first, as clients expect
	parts[0], body, _ = bytes.Cut(body, []byte(baseMark))
	parts[1], parts[2], _ = bytes.Cut(body, []byte(`"`+securityMark+`"`))
	return parts, nil
}

func (s *Session) capabilityStatement(mode string) map[string]any {
	return map[string]any{
		"fhirVersion": r4.Version,
		"format":      []string{"application/fhir+json", "json", "application/fhir+xml", "xml"},
		"patchFormat": []string{"application/json-patch+json", "application/fhir+json", "application/fhir+xml"},
		"rest": []any{map[string]any{
			"mode": "server", "interaction": codes(SystemInteractions), "resource": s.capabilityResources(mode),
			"compartment": compartments(), "operation": statedOperations(func(o Operation) bool { return o.Types == nil }),
			"security": securityMark,
		}},
	}
}

// statedOperations are the operations of one place in the statement.
func statedOperations(here func(Operation) bool) []capabilityOp {
	var list []capabilityOp
	for _, o := range operations {
		if here(o) {
			list = append(list, capabilityOp{strings.TrimPrefix(o.Name, "$"), o.Definition})
		}
	}
	return list
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

func (s *Session) capabilityResources(mode string) []capabilityResource {
	var list []capabilityResource
	pointing := s.pointing()
	for _, t := range s.Registry.Types() {
		if name := s.Registry.Name(t); !notStored[name] && (mode == "full" || normative[name]) {
			r := s.capabilityResource(t, name)
			r.SearchRevInclude = pointing[t]
			list = append(list, r)
		}
	}
	return list
}

// pointing are the reference parameters that may lead to each type, as
// _revinclude names them.
func (s *Session) pointing() map[plan.Type][]string {
	all := map[plan.Type][]string{}
	for _, t := range s.Registry.Types() {
		name := s.Registry.Name(t)
		if notStored[name] {
			continue
		}
		for _, c := range s.Registry.Codes(t) {
			p, ok := s.Registry.Param(t, c)
			if !ok || p.Kind != search.KindReference || !s.offered(t, p) {
				continue
			}
			targets := p.Targets
			if len(targets) == 0 {
				targets = s.Registry.Types()
			}
			for _, target := range targets {
				all[target] = append(all[target], name+":"+c)
			}
		}
	}
	return all
}

// everywhere are the parameters of every type that no table of R4 lists for it.
var everywhere = []capabilityParam{
	{Name: "createdAt", Type: "date", Documentation: "When the resource was created (HealthLake's)"},
	{Name: "_content", Type: "string", Documentation: "Words of the whole resource, with AND, OR, NOT and parentheses"},
	{Name: "_filter", Type: "special", Documentation: "http://hl7.org/fhir/R4/search_filter.html"},
	{Name: "_list", Type: "string", Documentation: "Ids of Lists whose items are looked for"},
}

func (s *Session) capabilityResource(t plan.Type, name string) capabilityResource {
	r := capabilityResource{
		Type: name, Interaction: codes(TypeInteractions), Versioning: "versioned-update", ReadHistory: true,
		UpdateCreate: true, ConditionalCreate: true, ConditionalRead: "full-support", ConditionalUpdate: true,
		ConditionalDelete: "single", ReferencePolicy: []string{"literal", "logical", "local"},
	}
	if s.Rules.MultipleDelete {
		r.ConditionalDelete = "multiple"
	}
	if writtenOnce[name] {
		r.Interaction, r.UpdateCreate, r.ConditionalUpdate, r.ConditionalDelete = codes(onceInteractions), false, false, "not-supported"
	}
	for _, c := range s.Registry.Codes(t) {
		p, ok := s.Registry.Param(t, c)
		if !ok || !s.offered(t, p) {
			continue
		}
		param := capabilityParam{Name: c, Type: p.Kind.String(), Definition: p.URL}
		if def, known := r4.Param(t, c); known {
			param.Definition = def.URL
		}
		r.SearchParam = append(r.SearchParam, param)
		if p.Kind == search.KindReference {
			r.SearchInclude = append(r.SearchInclude, name+":"+c)
		}
	}
	for _, p := range everywhere {
		if !slices.ContainsFunc(r.SearchParam, func(is capabilityParam) bool { return is.Name == p.Name }) {
			r.SearchParam = append(r.SearchParam, p)
		}
	}
	r.Operation = statedOperations(func(o Operation) bool { return slices.Contains(o.Types, name) })
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
	case search.KindPosition:
		return "0|0"
	case search.KindComposite:
		parts := make([]string, len(p.Components))
		for i, c := range p.Components {
			parts[i] = sample(c)
		}
		return strings.Join(parts, "$")
	}
	return "a"
}
