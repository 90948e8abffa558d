// Package audit says who read or changed what: one Event for every access and
// every denial, of both planes, to whatever Recorder the server is wired with.
//
// An Event names a resource by type, id and version and never holds any of its
// content, a search value, a token or a secret.
package audit

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Event is one access or denial.
type Event struct {
	Time      time.Time `json:"eventTime"`
	RequestID string    `json:"requestID"`
	Principal string    `json:"principal,omitempty"` // ARN; empty when nobody was recognised
	App       *App      `json:"app,omitempty"`       // who a bearer token speaks for; nil without one
	Action    string    `json:"eventName"`           // IAM action: "ReadResource"
	Datastore string    `json:"datastoreId,omitempty"`
	Resources []Target  `json:"resources,omitempty"`
	Source    string    `json:"sourceIPAddress,omitempty"`
	Agent     string    `json:"userAgent,omitempty"`
	Status    int       `json:"status"`              // HTTP status answered
	Denied    string    `json:"errorCode,omitempty"` // the fault's name, when refused
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

// Lines writes events as JSON lines.
type Lines struct {
	mu  sync.Mutex
	out io.Writer
	log *slog.Logger
}

// NewLines writes to out; a failed write is told to log.
func NewLines(out io.Writer, log *slog.Logger) *Lines { return &Lines{out: out, log: log} }

// Record writes one line.
func (l *Lines) Record(_ context.Context, e Event) {
	raw, err := json.Marshal(e)
	if err == nil {
		l.mu.Lock()
		_, err = l.out.Write(append(raw, '\n'))
		l.mu.Unlock()
	}
	if err != nil {
		l.log.Error("an audit event is lost", "request", e.RequestID, "error", err)
	}
}

// Off records nothing: for servers whose operator asked for no audit.
type Off struct{}

// Record does nothing.
func (Off) Record(context.Context, Event) {}
