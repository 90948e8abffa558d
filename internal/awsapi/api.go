// Package awsapi is the control plane's wire: AWS JSON 1.0, version
// 2017-07-01 of the HealthLake service model.
//
//	POST /   X-Amz-Target: HealthLake.<Operation>   {…} → 200 {…}
//	                                                   → 4xx {"__type":…,"Message":…}
//
// It translates and decides nothing: an operation decodes its shape, holds it
// against the model's constraints, calls package datastore and encodes the
// answer. Errors become exceptions by fault's sheet, in body (__type) and header
// (X-Amzn-ErrorType), as the SDKs read them.
//
// Source: Amazon HealthLake API Reference; AWS JSON 1.0 protocol (Smithy).
package awsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
)

const (
	contentType  = "application/x-amz-json-1.0"
	targetPrefix = "HealthLake."
)

// MaxBody bounds a control plane request's body in bytes: the largest member,
// Metadata, has no bound of its own in the model.
const MaxBody = 1 << 20

// API is the control plane over HTTP. The caller has verified the signature.
type API struct {
	Plane *datastore.Plane
	// Endpoint gives the FHIR endpoint of a data store id, ending in /r4/.
	Endpoint func(id string) string
	// Tokens seals what NextToken carries.
	Tokens Sealer
	// Jobs is where jobs are looked up, Imports starts those that import
	// and Exports those that export.
	Jobs    *job.Queue
	Imports *bulk.Imports
	Exports Exports
	// Schemes are those of locations besides s3 that jobs may name.
	Schemes map[string]bool
}

// Sealer seals and opens small texts, bound to a purpose.
type Sealer interface {
	Seal(plain []byte, purpose string) (string, error)
	Open(sealed, purpose string) ([]byte, error)
}

// operation decodes its own input into a Request that is yet to be allowed.
type operation func(a *API, body []byte) (*Request, error)

var operations = map[string]operation{
	"CreateFHIRDatastore":   call((*API).createFHIRDatastore),
	"DescribeFHIRDatastore": call((*API).describeFHIRDatastore),
	"ListFHIRDatastores":    call((*API).listFHIRDatastores),
	"UpdateFHIRDatastore":   call((*API).updateFHIRDatastore),
	"RestoreFHIRDatastore":  call((*API).restoreFHIRDatastore),
	"DeleteFHIRDatastore":   call((*API).deleteFHIRDatastore),
	"TagResource":           call((*API).tagResource),
	"UntagResource":         call((*API).untagResource),
	"ListTagsForResource":   call((*API).listTagsForResource),
	"StartFHIRImportJob":    call((*API).startFHIRImportJob),
	"DescribeFHIRImportJob": call((*API).describeFHIRImportJob),
	"ListFHIRImportJobs":    call((*API).listFHIRImportJobs),
	"StartFHIRExportJob":    call((*API).startFHIRExportJob),
	"DescribeFHIRExportJob": call((*API).describeFHIRExportJob),
	"ListFHIRExportJobs":    call((*API).listFHIRExportJobs),
	"ListJobs":              call((*API).listJobs),
	"DescribeJob":           call((*API).describeJob),
	"CancelJob":             call((*API).cancelJob),

	// Tarn's own: operator.go, maintain.go.
	"DescribeDatastoreSettings": call((*API).describeDatastoreSettings),
	"UpdateDatastoreSettings":   call((*API).updateDatastoreSettings),
	"CheckDatastore":            call((*API).checkDatastore),
	"BackupDatastore":           call((*API).backupDatastore),
	"CompactDatastore":          call((*API).compactDatastore),
	"RotateDatastoreKey":        call((*API).rotateDatastoreKey),
}

// shape is an operation's input, which says what it is about.
type shape[In any] interface {
	*In
	subject() Subject
}

// call turns a typed operation into one over bytes.
func call[In any, P shape[In], Out any](op func(*API, context.Context, *In) (Out, error)) operation {
	return func(a *API, body []byte) (*Request, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		return &Request{P(in).subject(), func(ctx context.Context) (any, error) { return op(a, ctx, in) }}, nil
	}
}

// decode reads one JSON object; unknown members are passed over, as AWS does,
// duplicate ones and broken UTF-8 are refused.
func decode(body []byte, into any) error {
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return fault.New(fault.Serialization, "awsapi.decode", "the body is not a JSON object")
	}
	err := jsonv2.Unmarshal(body, into)
	if wrong, ok := errors.AsType[*jsonv2.SemanticError](err); ok {
		return fault.New(fault.Serialization, "awsapi.decode", "the member at %s cannot be read from a JSON %v", wrong.JSONPointer, wrong.JSONKind)
	}
	if err != nil {
		return fault.New(fault.Serialization, "awsapi.decode", "the body is not a JSON object: %v", err)
	}
	return nil
}

// Operations are the names of all operations.
func Operations() []string { return slices.Sorted(maps.Keys(operations)) }

// Operation is the operation that a request names, for authorization, logs and
// metrics; fault.UnknownOperation when it names none.
func Operation(r *http.Request) (string, error) {
	name, found := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	if _, known := operations[name]; !found || !known {
		return "", fault.New(fault.UnknownOperation, "awsapi", "X-Amz-Target names no operation of HealthLake")
	}
	return name, nil
}

// Subject is what a request's body is about, for authorization, log and audit.
type Subject struct {
	Datastore string            // id of the data store, empty where none is named
	Tags      map[string]string // tags that the request would set
	TagKeys   []string          // tags that it would take away
	Role      string            // ARN of a role that it hands to the service, empty for none
}

// aboutStore is the subject of a request about one data store.
func aboutStore(id *string) Subject {
	if !arn.IsDatastoreID(value(id)) {
		return Subject{} // no data store has such an id
	}
	return Subject{Datastore: *id}
}

// aboutResource is the subject of a request that names a data store by its ARN.
func aboutResource(name *string) Subject {
	parsed, err := arn.ParseDatastore(value(name))
	if err != nil {
		return Subject{}
	}
	return Subject{Datastore: parsed.ID}
}

func (s Subject) withTags(tags []tag) Subject {
	if len(tags) > 0 {
		s.Tags = make(map[string]string, len(tags))
	}
	for _, t := range tags {
		s.Tags[value(t.Key)] = value(t.Value)
	}
	return s
}

// Request is one operation, decoded: what the caller allows is exactly what is
// carried out.
type Request struct {
	Subject Subject
	run     func(context.Context) (any, error)
}

// Read decodes a verified request whose body was read.
func (a *API) Read(r *http.Request, body []byte) (*Request, error) {
	name, err := Operation(r)
	if err != nil {
		return nil, err
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != contentType {
		return nil, fault.New(fault.MediaType, "awsapi", "Content-Type must be %s", contentType)
	}
	return operations[name](a, body)
}

// Serve carries a request out and answers it, and says which data store the
// answer is about, where it is about one.
func (q *Request) Serve(ctx context.Context, w http.ResponseWriter) (datastoreID string, err error) {
	out, err := q.run(ctx)
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return "", fault.Wrap(fault.Internal, "awsapi.Serve", err)
	}
	if about, ok := out.(interface{ about() string }); ok {
		datastoreID = about.about()
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(raw)
	return datastoreID, fault.Wrap(fault.Canceled, "awsapi.Serve", err)
}

// WriteFault answers with an exception.
func WriteFault(w http.ResponseWriter, err error) {
	f := fault.From(err)
	row := f.Kind.Row()
	message := f.Message()
	if f.Kind == fault.Internal {
		message = row.Sentence
	}
	// A map of strings always marshals.
	raw, _ := json.Marshal(map[string]string{"__type": row.AWSType, "Message": message, "message": message})
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Amzn-ErrorType", row.AWSType)
	if f.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.Retry)))
	}
	w.WriteHeader(row.AWSStatus)
	w.Write(raw)
}
