// Package fhirapi is the data plane's wire: FHIR's RESTful API over HTTP.
//
//	/datastore/{id}/r4 + Path → route → interaction → status, headers, JSON
//
// It translates and decides nothing: a table (route.go) names for each method
// and shape of path the interaction and the IAM action; handlers read headers
// and parameters, call package interaction and render what comes back. Paths
// are taken raw, doubled slashes are tolerated, and every error becomes an
// OperationOutcome by fault's sheet.
//
// Spec: http://hl7.org/fhir/R4/http.html.
package fhirapi

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// API is the data plane over HTTP. The caller has recognised the client, leased
// the store and read the body.
type API struct{}

// Request is one request to one data store.
type Request struct {
	Session  *interaction.Session
	Path     string // raw, behind /r4: "/Patient/1"
	RawQuery string // without what a presigned request adds
	Body     []byte // as sent
	SMART    string // the store's discovery document; empty for none
}

// exchange is a Request on its way through a handler.
type exchange struct {
	Request
	w      http.ResponseWriter
	r      *http.Request
	path   []string // decoded segments
	prefer preference
	form   form
	wanted wanted // how much, by Accept
	pretty bool

	sentXML []byte // the body as it was sent, when that was XML
}

// Serve answers one request, or returns the error that WriteFault renders.
func (a *API) Serve(w http.ResponseWriter, r *http.Request, req Request) error {
	segments, err := split(req.Path)
	if err != nil {
		return err
	}
	route, err := find(r.Method, segments)
	if err != nil {
		return err
	}
	x := &exchange{Request: req, w: w, r: r, path: segments, prefer: readPrefer(r.Header)}
	if err := x.level(); err != nil {
		return err
	}
	if err := x.negotiate(); err != nil {
		return err
	}
	if err := x.inflate(); err != nil {
		return err
	}
	allowOrigin(w)
	x.Session.Lenient = x.prefer.lenient || x.Session.Rules.PassUnknown && !x.prefer.strict
	x.Session.Whole, x.Session.Outcomes, x.Session.SMART = x.prefer.want == wantResource, x.prefer.want == wantOutcome, x.SMART
	return x.inXML(route.serve(x))
}

// The headers of validation (devguide, "FHIR resource validation").
const (
	levelHeader  = "x-amzn-healthlake-fhir-validation-level"
	issuesHeader = "x-amzn-healthlake-validation-issues"
)

// level is how much a write asks of its resources; without the header it is the
// session's.
func (x *exchange) level() error {
	word := x.r.Header.Get(levelHeader)
	if word == "" {
		return nil
	}
	level, err := validate.ParseLevel(word)
	x.Session.Level = level
	return err
}

// Preflight answers a browser's question whether it may call from another
// origin. No cookie is ever looked at, so any origin may.
func (a *API) Preflight(w http.ResponseWriter, _ *http.Request) error {
	allowOrigin(w)
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "*, Authorization")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func allowOrigin(w http.ResponseWriter) {
	h := w.Header()
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["Access-Control-Expose-Headers"] = exposed
}

// Values of headers that nearly every answer has, under names as net/http keeps
// them. All answers share them: whoever sets one anew puts another list in its
// place.
var (
	anyOrigin = []string{"*"}
	exposed   = []string{"ETag, Last-Modified, Location, Content-Location, Preference-Applied, Retry-After, X-Progress, X-Security-Context, x-amzn-RequestId, " + issuesHeader}
	isJSON    = []string{contentType}
	varies    = []string{"Accept, Accept-Encoding"}
)

// WriteFault answers with an OperationOutcome. The cause of an internal error is
// for the log, not for the client.
func WriteFault(w http.ResponseWriter, err error) {
	f := fault.From(err)
	if f.Kind == fault.Internal {
		f = &fault.Error{Kind: fault.Internal}
	}
	h := w.Header()
	allowOrigin(w)
	outcome := fhir.Outcome(f)
	if h.Get("Content-Type") == xmlContentType { // negotiated
		if text, err := asXMLText(outcome, false); err == nil {
			outcome = text
		}
	}
	if outcome[0] == '{' {
		h.Set("Content-Type", contentType)
	}
	h.Del("Preference-Applied")
	if again, ok := errors.AsType[*interaction.DuplicateKey](err); ok && again.Location != "" {
		h.Set("Location", again.Location)
	}
	if f.Retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(f.Retry)))
	}
	if f.Kind == fault.MethodNotAllowed {
		h.Set("Allow", f.Subject)
	}
	w.WriteHeader(f.Kind.Row().FHIRStatus)
	w.Write(outcome)
}

// version renders one version of a resource with its headers.
func (x *exchange) version(status int, v *interaction.Version) error {
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	body := v.AppendResource((*room)[:0])
	if cap(body) <= maxRoom {
		*room = body[:0]
	}
	if x.readsBinary() {
		if sent, err := x.content(status, v, body); sent || err != nil {
			return err
		}
	}
	body, err := x.trimmed(body)
	if err != nil {
		return err
	}
	x.versionHeaders(v)
	return x.body(status, body)
}

// trimmed cuts a resource that is read to what _summary and _elements ask for.
func (x *exchange) trimmed(resource []byte) ([]byte, error) {
	reads := x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
	if !reads || !strings.Contains(x.RawQuery, "_summary") && !strings.Contains(x.RawQuery, "_elements") {
		return resource, nil
	}
	pairs, err := search.ParsePairs(x.RawQuery)
	if err != nil {
		return nil, err
	}
	return x.Session.Trimmed(resource, pairs)
}

func (x *exchange) versionHeaders(v *interaction.Version) {
	h := x.w.Header()
	values := []string{v.ETag(), v.Updated.UTC().Format(http.TimeFormat)}
	h["Etag"], h["Last-Modified"] = values[:1:1], values[1:]
}

// written renders the answer to a create, update or patch, as Prefer asks. A
// conditional create that found its resource names it in Location too.
func (x *exchange) written(v *interaction.Version) error {
	status := http.StatusOK
	if v.Created {
		status = http.StatusCreated
	}
	if v.Created || !v.Changed {
		x.w.Header().Set("Location", x.Session.Base+"/"+v.Location())
	}
	x.w.Header().Set("Content-Location", x.Session.Base+"/"+v.Location())
	if x.Session.Flawed(v) {
		x.w.Header().Set(issuesHeader, "true")
	}
	x.applied(x.prefer.returns)
	switch x.prefer.want {
	case wantMinimal:
		x.versionHeaders(v)
		x.w.WriteHeader(status)
		return nil
	case wantOutcome:
		x.versionHeaders(v)
		return x.body(status, v.Outcome())
	}
	return x.version(status, v)
}

// notModified reports whether the client has this version already
// (If-None-Match, else If-Modified-Since; RFC 9110 section 13).
func (x *exchange) notModified(v *interaction.Version) bool {
	if tags := x.r.Header.Values("If-None-Match"); len(tags) > 0 {
		for tag := range strings.SplitSeq(strings.Join(tags, ","), ",") {
			n, err := interaction.ParseETag(tag)
			if err == nil && n == v.Number || strings.TrimSpace(tag) == "*" {
				return true
			}
		}
		return false
	}
	given := x.r.Header.Get("If-Modified-Since")
	if given == "" {
		return false
	}
	since, err := http.ParseTime(given)
	return err == nil && !v.Updated.Truncate(time.Second).After(since)
}
