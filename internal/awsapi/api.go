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
	"mime"
	"net/http"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
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
}

// Sealer seals and opens small texts, bound to a purpose.
type Sealer interface {
	Seal(plain []byte, purpose string) (string, error)
	Open(sealed, purpose string) ([]byte, error)
}

// operation decodes its own input and returns its output shape.
type operation func(a *API, ctx context.Context, body []byte) (any, error)

var operations = map[string]operation{
	"CreateFHIRDatastore":   call((*API).createFHIRDatastore),
	"DescribeFHIRDatastore": call((*API).describeFHIRDatastore),
	"ListFHIRDatastores":    call((*API).listFHIRDatastores),
	"UpdateFHIRDatastore":   call((*API).updateFHIRDatastore),
	"DeleteFHIRDatastore":   call((*API).deleteFHIRDatastore),
	"TagResource":           call((*API).tagResource),
	"UntagResource":         call((*API).untagResource),
	"ListTagsForResource":   call((*API).listTagsForResource),
}

// call turns a typed operation into one over bytes.
func call[In, Out any](op func(*API, context.Context, *In) (Out, error)) operation {
	return func(a *API, ctx context.Context, body []byte) (any, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		return op(a, ctx, in)
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
}

// ReadSubject reads as much of a body as says what it is about. A body that
// cannot be read is about nothing; the operation itself will refuse it.
func ReadSubject(body []byte) Subject {
	var in struct {
		DatastoreId, ResourceARN string
		Tags                     []struct{ Key, Value string }
		TagKeys                  []string
	}
	if err := jsonv2.Unmarshal(body, &in); err != nil {
		return Subject{}
	}
	about := Subject{TagKeys: in.TagKeys}
	if name, err := arn.ParseDatastore(in.ResourceARN); err == nil {
		about.Datastore = name.ID
	}
	if arn.IsDatastoreID(in.DatastoreId) {
		about.Datastore = in.DatastoreId
	}
	if len(in.Tags) > 0 {
		about.Tags = make(map[string]string, len(in.Tags))
	}
	for _, t := range in.Tags {
		about.Tags[t.Key] = t.Value
	}
	return about
}

// Serve answers one verified request whose body was read, and says which data
// store the answer is about, where it is about one.
func (a *API) Serve(w http.ResponseWriter, r *http.Request, body []byte) (datastoreID string, err error) {
	out, err := a.do(r, body)
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

func (a *API) do(r *http.Request, body []byte) (any, error) {
	name, err := Operation(r)
	if err != nil {
		return nil, err
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != contentType {
		return nil, fault.New(fault.MediaType, "awsapi", "Content-Type must be %s", contentType)
	}
	return operations[name](a, r.Context(), body)
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
