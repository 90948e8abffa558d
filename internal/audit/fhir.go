package audit

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Disclosure is what of an Event concerns one patient, or none.
type Disclosure struct {
	Patient   string // id; empty: nobody's record
	Resources []Target
}

// maxData bounds the resources that one AuditEvent lists; more make several.
const maxData = 500

// FHIREvents are an Event as FHIR AuditEvents in the shape of IHE's Basic Audit
// Log Patterns (https://profiles.ihe.net/ITI/BALP, content profiles): one for
// each patient, so that who may read the record of one learns of no other, and
// one for what is nobody's. What was asked by a search stands in an event of its
// own that lists no resource and no patient. base is the data store's URL.
//
// Each is a whole resource without id. meta.profile names a pattern only where
// the event has all that it asks for.
func FHIREvents(e Event, base string, about []Disclosure) ([]json.RawMessage, error) {
	var all []json.RawMessage
	add := func(a auditEvent) error {
		raw, err := json.Marshal(a)
		all = append(all, raw)
		return err
	}
	if e.Query != "" || len(about) == 0 {
		if err := add(newAuditEvent(e, base, Disclosure{}, e.Query)); err != nil {
			return nil, err
		}
	}
	for _, d := range about {
		for part := range slices.Chunk(d.Resources, maxData) {
			if err := add(newAuditEvent(e, base, Disclosure{d.Patient, part}, "")); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// auditEvent is R4's AuditEvent, as far as it is written.
type auditEvent struct {
	ResourceType string        `json:"resourceType"`
	Meta         *profiled     `json:"meta,omitempty"`
	Type         coding        `json:"type"`
	Subtype      []coding      `json:"subtype"`
	Action       string        `json:"action"`
	Recorded     string        `json:"recorded"`
	Outcome      string        `json:"outcome"`
	OutcomeDesc  string        `json:"outcomeDesc,omitempty"`
	Agent        []auditAgent  `json:"agent"`
	Source       auditSource   `json:"source"`
	Entity       []auditEntity `json:"entity"`
}

type profiled struct {
	Profile []string `json:"profile"`
}

type coding struct {
	System  string `json:"system"`
	Code    string `json:"code"`
	Display string `json:"display,omitempty"`
}

type concept struct {
	Coding []coding `json:"coding"`
}

type reference struct {
	Reference  string      `json:"reference,omitempty"`
	Identifier *identifier `json:"identifier,omitempty"`
	Display    string      `json:"display,omitempty"`
}

type identifier struct {
	System string `json:"system,omitempty"`
	Value  string `json:"value"`
}

type auditAgent struct {
	Type      concept   `json:"type"`
	Who       reference `json:"who"`
	Name      string    `json:"name,omitempty"`
	Requestor bool      `json:"requestor"`
	Network   *network  `json:"network,omitempty"`
}

type network struct {
	Address string `json:"address"`
	Type    string `json:"type"`
}

type auditSource struct {
	Observer reference `json:"observer"`
	Type     []coding  `json:"type"`
}

type auditEntity struct {
	What  *reference `json:"what,omitempty"`
	Type  coding     `json:"type"`
	Role  *coding    `json:"role,omitempty"`
	Query []byte     `json:"query,omitempty"`
}

// Code systems of R4's AuditEvent, and BALP's.
const (
	systemDICOM         = "http://dicom.nema.org/resources/ontology/DCM"
	systemEventType     = "http://terminology.hl7.org/CodeSystem/audit-event-type"
	systemInteraction   = "http://hl7.org/fhir/restful-interaction"
	systemParticipation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	systemProvenance    = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
	systemSource        = "http://terminology.hl7.org/CodeSystem/security-source-type"
	systemEntity        = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
	systemRole          = "http://terminology.hl7.org/CodeSystem/object-role"
	systemBALP          = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
	profileBALP         = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
	// systemAction is the system of IAM actions: "healthlake:ReadResource".
	systemAction = "urn:tarn:iam-action"
)

// Roles of the two ends of a request.
var (
	dataSource      = coding{systemDICOM, "110153", "Source Role ID"}
	dataDestination = coding{systemDICOM, "110152", "Destination Role ID"}
	application     = coding{systemDICOM, "110150", "Application"}
	custodian       = coding{systemProvenance, "custodian", "Custodian"}
	recipient       = coding{systemParticipation, "IRCP", "information recipient"}
	author          = coding{systemParticipation, "AUT", "author (originator)"}
)

// pattern is how an interaction is told.
type pattern struct {
	codes          []string // restful-interaction, the general one first
	action         string   // C, R, U, D or E
	client, server coding
	user           coding
	profile        string // of BALP; with Patient before it where a patient is concerned
}

func reads(codes ...string) pattern {
	return pattern{codes, "R", dataDestination, dataSource, recipient, ""}
}

func writes(action, code string) pattern {
	return pattern{[]string{code}, action, dataSource, dataDestination, author, ""}
}

func (p pattern) as(profile string) pattern { p.profile = profile; return p }

var searching = pattern{[]string{"search"}, "E", dataSource, dataDestination, recipient, "Query"}

// patterns are the interactions by their IAM action; whatever is not here is an
// operation.
var patterns = map[string]pattern{
	"ReadResource":             reads("read").as("Read"),
	"VersionReadResource":      reads("vread").as("Read"),
	"GetHistoryByResourceId":   reads("history", "history-instance"),
	"GetHistoryByResourceType": reads("history", "history-type"),
	"GetFullHistory":           reads("history", "history-system"),
	"SearchWithGet":            searching,
	"SearchWithPost":           searching,
	"CreateResource":           writes("C", "create").as("Create"),
	"UpdateResource":           writes("U", "update").as("Update"),
	"PatchResource":            writes("U", "patch").as("Update"),
	"DeleteResource":           {[]string{"delete"}, "D", application, custodian, author, "Delete"},
	"GetCapabilities":          reads("capabilities"),
}

var operating = pattern{[]string{"operation"}, "E", application, custodian, author, ""}

// patternOf tells how an event's interaction is told. A bundle is none of
// restful-interaction's, because the action does not say which of two it was.
func patternOf(e Event) pattern {
	if p, ok := patterns[e.Action]; ok {
		return p
	}
	p := operating
	if e.Plane != "data" || e.Action == "ProcessBundle" {
		p.codes = nil
	}
	return p
}

func newAuditEvent(e Event, base string, d Disclosure, query string) auditEvent {
	p := patternOf(e)
	a := auditEvent{
		ResourceType: "AuditEvent", Type: coding{systemEventType, "rest", "RESTful Operation"}, Action: p.action,
		Recorded: e.Time.UTC().Format("2006-01-02T15:04:05.000Z"), Outcome: outcome(e.Status), OutcomeDesc: e.Message,
		Agent: agents(e, base, p), Source: auditSource{
			reference{Identifier: &identifier{Value: base}, Display: "Tarn"}, []coding{{systemSource, "4", "Application Server"}},
		},
		Entity: entities(e, d, query),
	}
	if e.Plane != "data" {
		a.Type = coding{systemDICOM, "110100", "Application Activity"}
	}
	for _, code := range p.codes {
		a.Subtype = append(a.Subtype, coding{System: systemInteraction, Code: code})
	}
	a.Subtype = append(a.Subtype, coding{System: systemAction, Code: "healthlake:" + cut(e.Action)})
	if name := p.claims(e, d, query); name != "" {
		a.Meta = &profiled{[]string{profileBALP + name}}
	}
	return a
}

// claims is BALP's pattern that the event is whole of; empty for none.
func (p pattern) claims(e Event, d Disclosure, query string) string {
	switch {
	case p.profile == "" || e.Status >= 300:
		return ""
	case p.profile == searching.profile:
		if query == "" {
			return "" // a pattern of what was found would tell what was asked
		}
		return p.profile
	case len(d.Resources) != 1:
		return ""
	case d.Patient != "":
		return "Patient" + p.profile
	}
	return p.profile
}

// outcome is AuditEvent.outcome: success, minor failure, serious failure.
func outcome(status int) string {
	switch {
	case status >= 500:
		return "8"
	case status >= 400:
		return "4"
	}
	return "0"
}

// The types of AuditEvent.agent.network.
const (
	networkIP  = "2"
	networkURI = "5"
)

// agents are the client, the server and, where one is known, the user.
func agents(e Event, base string, p pattern) []auditAgent {
	client, user := who(e, base)
	address := base
	if u, err := url.Parse(base); err == nil && u.Host != "" {
		address = u.Scheme + "://" + u.Host
	}
	list := []auditAgent{
		{Type: concept{[]coding{p.client}}, Who: client, Requestor: user == nil, Network: &network{orUnknown(e.Source), networkIP}},
		{Type: concept{[]coding{p.server}}, Who: reference{Identifier: &identifier{Value: base}, Display: "Tarn"}, Network: &network{address, networkURI}},
	}
	if user != nil {
		list = append(list, auditAgent{Type: concept{[]coding{p.user}}, Who: *user, Requestor: true})
	}
	return list
}

// who are the client and the user: of an app those that its token names, of a
// signed request the access key and the principal.
func who(e Event, base string) (client reference, user *reference) {
	app := e.App.cut()
	if app == nil {
		client = reference{Identifier: &identifier{Value: orUnknown(e.AccessKey)}}
		return client, &reference{Identifier: &identifier{Value: orUnknown(e.Principal)}}
	}
	client = reference{Identifier: &identifier{System: uriOf(app.Issuer), Value: orUnknown(app.Client)}}
	resource := strings.TrimPrefix(app.User, base+"/")
	switch {
	case isUser(resource):
		return client, &reference{Reference: resource}
	case app.User != "":
		return client, &reference{Identifier: &identifier{Value: app.User}}
	case app.Subject != "":
		return client, &reference{Identifier: &identifier{System: uriOf(app.Issuer), Value: app.Subject}}
	}
	return client, nil
}

// userTypes are what AuditEvent.agent.who may refer to.
var userTypes = []string{"Practitioner", "PractitionerRole", "Patient", "RelatedPerson", "Organization", "Device"}

// resourceID is R4's type id.
var resourceID = regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)

// isUser reports whether a token's fhirUser is such a reference in the store.
func isUser(user string) bool {
	typ, id, _ := strings.Cut(user, "/")
	return slices.Contains(userTypes, typ) && resourceID.MatchString(id)
}

// uriOf is a text where a URI stands, or nothing.
func uriOf(s string) string {
	if u, err := url.Parse(s); err != nil || !u.IsAbs() || strings.ContainsAny(s, " \t") {
		return ""
	}
	return s
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func entities(e Event, d Disclosure, query string) []auditEntity {
	list := []auditEntity{{
		What: &reference{Identifier: &identifier{Value: e.RequestID}}, Type: coding{systemBALP, "XrequestId", ""},
	}}
	if d.Patient != "" {
		list = append(list, auditEntity{
			What: &reference{Reference: "Patient/" + d.Patient}, Type: coding{systemEntity, "1", "Person"}, Role: &coding{systemRole, "1", "Patient"},
		})
	}
	for _, t := range d.Resources {
		list = append(list, auditEntity{
			What: &reference{Reference: t.location()}, Type: coding{systemEntity, "2", "System Object"}, Role: &coding{systemRole, "4", "Domain Resource"},
		})
	}
	if query != "" {
		list = append(list, auditEntity{Type: coding{systemEntity, "2", "System Object"}, Role: &coding{systemRole, "24", "Query"}, Query: []byte(query)})
	}
	return list
}

func (t Target) location() string {
	at := t.Type + "/" + t.ID
	if t.Version > 0 {
		at += "/_history/" + strconv.FormatUint(t.Version, 10)
	}
	return at
}
