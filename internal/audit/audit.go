// Package audit says who read or changed what: one Event for every access and
// every denial, of both planes, to whatever Recorder the server is wired with.
//
// An Event names a resource by type, id and version and never holds any of its
// content, a token or a secret; what it holds of a search stays in the data store.
//
//	file, err := audit.OpenFile(audit.FileOptions{Path: "audit.jsonl", MaxBytes: 100 << 20, Keep: 100, Log: log})
//	recorder := audit.NewTrail(audit.TrailOptions{Out: file, Partition: "aws", Region: region, Account: account, Random: rand.Reader, Log: log})
//
// FHIREvents tells an Event as FHIR AuditEvents for the data store itself (fhir.go).
//
// Trail writes CloudTrail's records, one to a line (record.go); File is where
// they go, and begins anew when it is full (file.go).
package audit

import (
	"context"
	"time"
)

// Event is one access or denial.
type Event struct {
	Time      time.Time
	RequestID string
	Plane     string // "control", "data" or "identity"
	Service   string // that answered, as in "sts"; empty: healthlake
	Principal string // ARN; empty when nobody was recognised
	AccessKey string // id of the key that signed, once it is verified
	Claimed   string // id of the key that a refused request named, when it has the form of one
	App       *App   // who a bearer token speaks for; nil without one
	Action    string // IAM action: "ReadResource"; empty: none that is known
	Datastore string // id
	Resources []Target
	Forbidden []string // actions denied inside a bundle that was carried out else
	// Query is what a search asked, "?" and the parameters as they were sent. It
	// goes into the data store (FHIREvents), never into a file.
	Query   string
	Source  string // address
	Agent   string
	TLS     bool
	Status  int    // HTTP status answered
	Denied  string // the fault's name, when refused
	Code    string // AWS's name of the fault
	Message string // a fixed sentence of the fault: nothing of the request
}

// App is an app and its user, as the issuer of a bearer token names them.
type App struct {
	Issuer  string `json:"issuer,omitempty"`
	Client  string `json:"clientId,omitempty"`
	Subject string `json:"subject,omitempty"`
	User    string `json:"fhirUser,omitempty"`
	Patient string `json:"patient,omitempty"` // of the launch context
}

// Target is one resource that an Event is about.
type Target struct {
	Type    string `json:"type"`
	ID      string `json:"id,omitempty"`
	Version uint64 `json:"version,omitempty"`
}

// Recorder takes events. Record returns when the event is safe with it, or is
// logged as lost; it does not fail the access.
type Recorder interface {
	Record(ctx context.Context, e Event)
}

// Off records nothing: for servers whose operator asked for no audit.
type Off struct{}

// Record does nothing.
func (Off) Record(context.Context, Event) {}
