// Package fault is the closed list of ways in which Tarn says no.
//
// A room that finds something wrong returns an *Error with a Kind from the
// list below; nobody invents kinds elsewhere. The two wires translate a Kind
// once, by the sheet in sheet.go: to an HTTP status and an
// OperationOutcome.issue.code for FHIR, to an HTTP status and a __type for
// AWS JSON. Whatever reaches a wire without a Kind is Internal: its cause goes
// to the log, never to the client.
//
//	return &fault.Error{Kind: fault.Invalid, Op: "search.Parse",
//		Subject: "birthdate=12-1980", Detail: "not a date",
//		Hint: "use YYYY, YYYY-MM or YYYY-MM-DD"}
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Error is one refusal or failure. Detail and Hint are shown to the client and
// therefore never hold another client's data, a secret or a path; Cause is for
// the log only.
type Error struct {
	Kind    Kind
	Op      string   // where it was found: "package.Func", for the log
	Subject string   // what it is about: a parameter, a member, an id
	Detail  string   // what is wrong, one sentence
	Hint    string   // how to mend it, when a person can
	Place   []Issue  // where in a document, when several places are wrong
	Retry   Duration // how long to wait before trying again, when known
	Cause   error
}

// Duration is a wait in whole seconds, as Retry-After carries it; 0 is unknown.
type Duration int

// Issue is one finding inside a document, as OperationOutcome.issue carries it.
type Issue struct {
	Severity   Severity
	Kind       Kind   // decides issue.code, unless Code is set
	Code       string // an issue-type code of R4; empty: Kind's own
	Detail     string
	Expression string // FHIRPath-like place: "Patient.name[0].given[1]"
	Line, Col  int    // 1-based, 0 when unknown
}

// Severity is OperationOutcome.issue.severity.
type Severity uint8

// The severities of R4, worst first.
const (
	SeverityError Severity = iota
	SeverityFatal
	SeverityWarning
	SeverityInformation
)

func (s Severity) String() string {
	return [...]string{"error", "fatal", "warning", "information"}[s]
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(e.Kind.String())
	if e.Subject != "" {
		fmt.Fprintf(&b, ": %s", e.Subject)
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Cause }

// Message is what a client may read: subject, detail and hint.
func (e *Error) Message() string {
	parts := make([]string, 0, 2)
	switch {
	case e.Subject != "" && e.Detail != "":
		parts = append(parts, e.Subject+": "+e.Detail)
	case e.Detail != "":
		parts = append(parts, e.Detail)
	case e.Subject != "":
		parts = append(parts, e.Subject+": "+e.Kind.sentence())
	default:
		parts = append(parts, e.Kind.sentence())
	}
	if e.Hint != "" {
		parts[0] = strings.TrimSuffix(parts[0], ".")
		parts = append(parts, e.Hint)
	}
	return strings.Join(parts, ". ")
}

// New is the short way for the common case: kind, place and one sentence.
func New(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Detail: fmt.Sprintf(format, args...)}
}

// Wrap gives an error from below a kind and a place; nil stays nil, and an
// error that already has a kind keeps it.
func Wrap(kind Kind, op string, err error) error {
	if err == nil {
		return nil
	}
	if found, ok := errors.AsType[*Error](err); ok {
		kept := *found
		kept.Op = op
		kept.Cause = err
		return &kept
	}
	return &Error{Kind: kind, Op: op, Cause: err}
}

// From returns the *Error inside err, or an Internal one around it.
func From(err error) *Error {
	if found, ok := errors.AsType[*Error](err); ok {
		return found
	}
	return &Error{Kind: Internal, Cause: err}
}

// Is reports whether err carries this kind.
func Is(err error, kind Kind) bool {
	found, ok := errors.AsType[*Error](err)
	return ok && found.Kind == kind
}
