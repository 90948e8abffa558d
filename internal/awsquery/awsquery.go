// Package awsquery is the wire of AWS's token service and identity service: the
// AWS Query protocol, form parameters in and XML out.
//
//	POST /   Action=AssumeRole&Version=2011-06-15&RoleArn=…   → 200 <AssumeRoleResponse>…
//	                                                          → 4xx <ErrorResponse>…
//
// It stands on the same port as the rest: the service that a request's signature
// is scoped to (sts, iam) tells it from HealthLake's. A parameter that is not
// known is refused rather than passed over, since most of them narrow what is
// given out.
//
// Source: AWS Security Token Service API Reference (2011-06-15); AWS Identity
// and Access Management API Reference (2010-05-08).
package awsquery

import (
	"context"
	"encoding/xml"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/principals"
)

// MaxBody bounds a request's body in bytes: the longest parameter is a policy
// document of 64 KiB, which percent-encoding may treble.
const MaxBody = 256 << 10

const formType = "application/x-www-form-urlencoded"

// The services, as scopes of signatures name them.
const (
	ServiceSTS = "sts"
	ServiceIAM = "iam"
)

// wire is what responses of a service look like.
type wire struct {
	version    string // of the API
	namespace  string
	operations map[string]operation
}

var wires = map[string]wire{
	ServiceSTS: {"2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/", stsOperations},
	ServiceIAM: {"2010-05-08", "https://iam.amazonaws.com/doc/2010-05-08/", iamOperations},
}

// Services lists the services that are answered.
func Services() []string { return slices.Sorted(maps.Keys(wires)) }

// Tokens gives out temporary credentials.
type Tokens interface {
	AssumeRole(ctx context.Context, p iam.Principal, a iam.AssumeRole, v iam.Values) (iam.Session, error)
	SessionToken(ctx context.Context, p iam.Principal, lasting time.Duration) (iam.Session, error)
}

// API answers the services.
type API struct {
	Tokens     Tokens
	Principals *principals.Registry // kept users, roles and policies
}

// Caller is who asks, and under which circumstances.
type Caller struct {
	iam.Principal
	Values iam.Values
}

// Request is one operation, read: what the caller is asked to allow is exactly
// what is carried out.
type Request struct {
	Name     string // "AssumeRole"
	Action   string // that a policy must allow; empty: the operation asks by itself, or nobody
	Resource string // of that action
	Tags     map[string]string

	service string
	run     func(ctx context.Context, c Caller) (any, error)
}

// operation reads its parameters.
type operation func(a *API, p *parameters) (*Request, error)

// Presented reports whether a request to / is of this protocol: a form, or a GET
// that names an Action.
func Presented(r *http.Request) bool {
	switch r.Method {
	case http.MethodPost:
		media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		return err == nil && media == formType && r.Header.Get("X-Amz-Target") == ""
	case http.MethodGet:
		return r.URL.Query().Has("Action")
	}
	return false
}

// Read reads a verified request, signed for the service, whose body was read. Of
// one that is refused for its parameters the name is told all the same.
func (a *API) Read(service string, r *http.Request, body []byte) (*Request, error) {
	text := string(body)
	if r.Method == http.MethodGet {
		text = r.URL.RawQuery
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, fault.New(fault.Serialization, "awsquery.Read", "the parameters are not a form")
	}
	w := wires[service]
	p := &parameters{values: values, read: map[string]bool{"Action": true, "Version": true}}
	name := values.Get("Action")
	op, known := w.operations[name]
	if !known {
		return nil, fault.New(fault.UnknownOperation, "awsquery.Read", "the service %s has no such action here", service)
	}
	if version := values.Get("Version"); version != w.version {
		return nil, fault.New(fault.UnknownOperation, "awsquery.Read", "the version of the service %s is %s", service, w.version)
	}
	q, err := op(a, p)
	if err == nil {
		err = p.done(r.Method)
	}
	if err != nil {
		return &Request{Name: name}, err
	}
	q.Name, q.service = name, service
	if service == ServiceIAM {
		q.Action = service + ":" + name
	}
	return q, nil
}

// Serve carries a request out and answers it.
func (q *Request) Serve(ctx context.Context, w http.ResponseWriter, c Caller, requestID string) error {
	out, err := q.run(ctx, c)
	if err != nil {
		return err
	}
	raw, err := xml.Marshal(answer{q.Name, wires[q.service].namespace, out, requestID})
	if err != nil {
		return fault.Wrap(fault.Internal, "awsquery.Serve", err)
	}
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(raw)
	return fault.Wrap(fault.Canceled, "awsquery.Serve", err)
}

// answer is <NameResponse><NameResult>…</NameResult><ResponseMetadata>…; without
// a result, that element is left out.
type answer struct {
	name, namespace string
	result          any
	requestID       string
}

// MarshalXML writes it.
func (a answer) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	start := xml.StartElement{Name: xml.Name{Local: a.name + "Response"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: a.namespace}}}
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	if a.result != nil {
		if err := e.EncodeElement(a.result, element(a.name+"Result")); err != nil {
			return err
		}
	}
	if err := e.EncodeElement(struct{ RequestId string }{a.requestID}, element("ResponseMetadata")); err != nil {
		return err
	}
	return e.EncodeToken(start.End())
}

func element(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

// refusal is one line of the sheet of this protocol.
type refusal struct {
	status int
	code   string
}

// refusals are the codes that the two services give (their API References,
// "Common errors"); kinds that are not here are failures of ours.
var refusals = map[fault.Kind]refusal{
	fault.Syntax:              {400, "MalformedPolicyDocument"},
	fault.Invalid:             {400, "ValidationError"},
	fault.Unprocessable:       {400, "MalformedPolicyDocument"},
	fault.Serialization:       {400, "MalformedInput"},
	fault.UnknownOperation:    {400, "InvalidAction"},
	fault.NotSupported:        {400, "ValidationError"},
	fault.NotFound:            {404, "NoSuchEntity"},
	fault.Duplicate:           {409, "EntityAlreadyExists"},
	fault.Conflict:            {409, "DeleteConflict"},
	fault.Quota:               {409, "LimitExceeded"},
	fault.TooLarge:            {413, "RequestEntityTooLarge"},
	fault.Throttled:           {400, "Throttling"},
	fault.MissingToken:        {403, "MissingAuthenticationToken"},
	fault.UnknownKey:          {403, "InvalidClientTokenId"},
	fault.BadSignature:        {403, "SignatureDoesNotMatch"},
	fault.IncompleteSignature: {400, "IncompleteSignature"},
	fault.ExpiredToken:        {403, "ExpiredToken"},
	fault.Forbidden:           {403, "AccessDenied"},
	fault.Unavailable:         {503, "ServiceUnavailable"},
	fault.Canceled:            {499, "RequestCanceled"},
}

type errorResponse struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Error     errorBody
	RequestID string `xml:"RequestId"`
}

type errorBody struct{ Type, Code, Message string }

// WriteFault answers with an error; the request's id is that of the answer's
// header.
func WriteFault(w http.ResponseWriter, err error) {
	f := fault.From(err)
	row, known := refusals[f.Kind]
	body := errorBody{"Sender", row.code, f.Message()}
	if !known {
		row.status, body = http.StatusInternalServerError, errorBody{"Receiver", "ServiceFailure", fault.Internal.Row().Sentence}
	}
	if f.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.Retry)))
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(row.status)
	// A struct of texts always marshals.
	raw, _ := xml.Marshal(errorResponse{Error: body, RequestID: w.Header().Get("x-amzn-RequestId")})
	w.Write(raw)
}

// parameters are a request's, each read once.
type parameters struct {
	values url.Values
	read   map[string]bool
}

// text reads a parameter, empty where it is not there.
func (p *parameters) text(name string) string {
	p.read[name] = true
	return p.values.Get(name)
}

// needed reads a parameter that must be there.
func (p *parameters) needed(name string) (string, error) {
	if value := p.text(name); value != "" {
		return value, nil
	}
	return "", invalid(name, "it is missing")
}

// seconds reads a duration; 0 where it is not there.
func (p *parameters) seconds(name string) (time.Duration, error) {
	text := p.text(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 24)
	if err != nil || n == 0 {
		return 0, invalid(name, "not a number of seconds")
	}
	return time.Duration(n) * time.Second, nil
}

// done refuses parameters that are there twice or that nobody read. What a
// presigned request adds is not the operation's.
func (p *parameters) done(method string) error {
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		if method == http.MethodGet && strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		if !p.read[name] {
			return &fault.Error{Kind: fault.NotSupported, Op: "awsquery.Read", Subject: cut(name), Detail: "no parameter that is understood here"}
		}
		if len(p.values[name]) > 1 {
			return invalid(name, "it is there twice")
		}
	}
	return nil
}

// shownName bounds what is repeated of a stranger's parameter name, in bytes.
const shownName = 64

func cut(s string) string { return s[:min(len(s), shownName)] }

func invalid(name, detail string) error {
	return &fault.Error{Kind: fault.Invalid, Op: "awsquery.Read", Subject: name, Detail: detail}
}
