package fhirapi

import (
	"net/http"
	"slices"
	"sync"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/search"
)

func (x *exchange) capabilities() error {
	pairs, err := search.ParsePairs(x.RawQuery)
	if err != nil {
		return err
	}
	body, err := x.Session.Capabilities(pairs)
	if err != nil {
		return err
	}
	if body, err = x.trimmed(body); err != nil {
		return err
	}
	return x.body(http.StatusOK, body)
}

func (x *exchange) discovery() error {
	if x.SMART == "" {
		return fault.New(fault.NotFound, "fhirapi.discovery", "this data store has no SMART on FHIR identity provider")
	}
	x.w.Header().Set("Content-Type", "application/json")
	return x.send(http.StatusOK, []byte(x.SMART))
}

func (x *exchange) bundle() error {
	if err := x.wantResource(); err != nil {
		return err
	}
	if x.prefer.async && x.Session.Later != nil {
		return x.later()
	}
	answer, err := x.Session.Bundle(x.r.Context(), x.Body)
	if err != nil {
		return err
	}
	if answer.Flawed {
		x.w.Header().Set(issuesHeader, "true")
	}
	x.applied(x.prefer.returns)
	x.applied(x.prefer.handling)
	return x.body(http.StatusOK, answer.Body)
}

// later takes a transaction to be carried out in the background (R4
// async.html; devguide, "Asynchronous bundle transactions").
func (x *exchange) later() error {
	id, err := x.Session.Async(x.r.Context(), x.Body)
	if err != nil {
		return err
	}
	poll := x.Session.Base + "/Transaction/" + id
	x.w.Header().Set("Content-Location", poll)
	x.applied("respond-async")
	return x.body(http.StatusAccepted, fhir.AppendOutcome(nil, fhir.OutcomeIssue{
		Severity: "information", Code: "informational", Diagnostics: "Submitted Asynchronous Bundle Transaction", Location: poll,
	}))
}

// transaction tells how far an asynchronous transaction is, and gives its answer.
func (x *exchange) transaction() error {
	t, err := x.Session.Transaction(x.r.Context(), x.path[1])
	if err != nil {
		return err
	}
	if t.State == interaction.TransactionEnded {
		return x.body(t.Status, t.Answer)
	}
	return x.body(http.StatusAccepted, fhir.AppendOutcome(nil, fhir.OutcomeIssue{
		Severity: "information", Code: "informational", Diagnostics: string(t.State),
	}))
}

// idempotencyHeader is HealthLake's (devguide, "Idempotency").
const idempotencyHeader = "x-amz-fhir-idempotency-key"

func (x *exchange) create() error {
	x.wrapContent()
	if err := x.wantResource(); err != nil {
		return err
	}
	v, err := x.Session.Create(x.r.Context(), interaction.CreateRequest{
		Type: x.path[0], Body: x.Body, IfNoneExist: x.r.Header.Get("If-None-Exist"), Idempotency: x.r.Header.Get(idempotencyHeader),
	})
	if err != nil {
		return err
	}
	return x.written(v)
}

func (x *exchange) read() error {
	v, err := x.Session.Read(x.r.Context(), x.path[0], x.path[1])
	if err != nil {
		return err
	}
	return x.given(v)
}

// given answers a read, with the version or that the client has it already.
func (x *exchange) given(v *interaction.Version) error {
	if x.notModified(v) {
		x.versionHeaders(v)
		x.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return x.version(http.StatusOK, v)
}

func (x *exchange) vread() error {
	v, err := x.Session.Vread(x.r.Context(), x.path[0], x.path[1], x.path[3])
	if err != nil {
		return err
	}
	return x.given(v)
}

// changing carries out an interaction under If-Match and If-None-Match.
func (x *exchange) changing(do func(interaction.Match) (*interaction.Version, error)) (*interaction.Version, error) {
	match, err := interaction.ParseMatch(x.r.Header.Get("If-Match"), x.r.Header.Get("If-None-Match"))
	if err != nil {
		return nil, err
	}
	return do(match)
}

// addressed refuses parameters of a write that names its resource: criteria
// would be passed over, and the resource written all the same.
func (x *exchange) addressed() error {
	if x.RawQuery == "" || x.Session.Lenient {
		return nil
	}
	pairs, err := search.ParsePairs(x.RawQuery)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if !slices.Contains(shownBy, p.Name) {
			return &fault.Error{Kind: fault.Invalid, Op: "fhirapi.addressed", Subject: p.Name,
				Detail: "what is written is named by its id, and no parameter narrows that", Hint: "leave the id out to write by criteria"}
		}
	}
	return nil
}

// shownBy are the parameters of how an answer is shown.
var shownBy = []string{"_format", "_pretty", "_summary", "_elements"}

// write carries out an update or patch with a body of one of these types.
func (x *exchange) write(types []string, do func(interaction.Match) (*interaction.Version, error)) error {
	if err := x.want(types...); err != nil {
		return err
	}
	v, err := x.changing(do)
	if err != nil {
		return err
	}
	return x.written(v)
}

func (x *exchange) update() error {
	if err := x.addressed(); err != nil {
		return err
	}
	x.wrapContent()
	return x.write(jsonTypes, func(m interaction.Match) (*interaction.Version, error) {
		return x.Session.Update(x.r.Context(), x.path[0], x.path[1], x.Body, m)
	})
}

func (x *exchange) updateWhere() error {
	return x.write(jsonTypes, func(m interaction.Match) (*interaction.Version, error) {
		return x.Session.UpdateWhere(x.r.Context(), x.path[0], x.RawQuery, x.Body, m)
	})
}

// patchTypes are the patches that are understood.
var patchTypes = append([]string{interaction.JSONPatchType}, jsonTypes...)

// operations are the body as a patch: Content-Type tells a JSON Patch from a
// FHIRPath Patch.
func (x *exchange) operations() interaction.PatchBody {
	media, _ := mediaType(x.r.Header.Get("Content-Type"))
	return interaction.PatchBody{Body: x.Body, FHIRPath: media != interaction.JSONPatchType}
}

func (x *exchange) patch() error {
	if err := x.addressed(); err != nil {
		return err
	}
	return x.write(patchTypes, func(m interaction.Match) (*interaction.Version, error) {
		return x.Session.Patch(x.r.Context(), x.path[0], x.path[1], x.operations(), m)
	})
}

func (x *exchange) patchWhere() error {
	return x.write(patchTypes, func(m interaction.Match) (*interaction.Version, error) {
		return x.Session.PatchWhere(x.r.Context(), x.path[0], x.RawQuery, x.operations(), m)
	})
}

func (x *exchange) delete() error {
	if err := x.addressed(); err != nil {
		return err
	}
	return x.deleted(x.changing(func(m interaction.Match) (*interaction.Version, error) {
		return x.Session.Delete(x.r.Context(), x.path[0], x.path[1], m)
	}))
}

func (x *exchange) deleteWhere() error {
	return x.deleted(x.changing(func(m interaction.Match) (*interaction.Version, error) {
		return x.Session.DeleteWhere(x.r.Context(), x.path[0], x.RawQuery, m)
	}))
}

func (x *exchange) deleted(v *interaction.Version, err error) error {
	if err != nil {
		return err
	}
	if v.Number > 0 { // else several were deleted
		x.w.Header().Set("ETag", v.ETag())
	}
	switch x.prefer.want {
	case wantOutcome:
		x.applied(x.prefer.returns)
		return x.body(http.StatusOK, v.Outcome())
	case wantMinimal:
		x.applied(x.prefer.returns)
	}
	x.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (x *exchange) history() error {
	pairs, err := search.ParsePairs(x.RawQuery)
	if err != nil {
		return err
	}
	req := interaction.HistoryRequest{Pairs: pairs}
	if len(x.path) > 1 {
		req.Type = x.path[0]
	}
	if len(x.path) > 2 {
		req.ID = x.path[1]
	}
	body, err := x.Session.History(x.r.Context(), req)
	if err != nil {
		return err
	}
	x.applied(x.prefer.handling)
	return x.body(http.StatusOK, body)
}

func (x *exchange) searchGet() error {
	pairs, err := search.ParsePairs(x.RawQuery)
	if err != nil {
		return err
	}
	return x.search(pairs)
}

// searchPost takes parameters from the URL and the form together.
func (x *exchange) searchPost() error {
	if len(x.Body) > 0 {
		if err := x.want(formType); err != nil {
			return err
		}
	}
	pairs, err := search.ParsePairs(x.RawQuery)
	if err != nil {
		return err
	}
	form, err := search.ParsePairs(string(x.Body))
	if err != nil {
		return err
	}
	return x.search(slices.Concat(pairs, form))
}

func (x *exchange) search(pairs []search.Pair) error {
	path := x.path
	if n := len(path); n > 0 && path[n-1] == "_search" {
		path = path[:n-1]
	}
	req := interaction.SearchRequest{Pairs: pairs}
	switch len(path) {
	case 1:
		req.Types = path
	case 3:
		req.Compartment = [2]string{path[0], path[1]}
		if path[2] != "*" {
			req.Types = path[2:]
		}
	}
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	req.Into = *room
	body, err := x.Session.Search(x.r.Context(), req)
	if err != nil {
		return err
	}
	if cap(body) <= maxRoom {
		*room = body[:0]
	}
	x.applied(x.prefer.handling)
	return x.body(http.StatusOK, body)
}

// maxRoom bounds what is kept of an answer's room, in bytes.
const maxRoom = 1 << 20

// rooms are for resources and pages of searches: an answer gives its room back
// when it is sent.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

// operate carries out an operation: parameters come in the URL, in a Parameters
// body, or both.
func (x *exchange) operate() error {
	pairs, err := search.ParsePairs(x.RawQuery)
	if err != nil {
		return err
	}
	if len(x.Body) > 0 {
		if err := x.wantResource(); err != nil {
			return err
		}
	}
	match, err := interaction.ParseMatch(x.r.Header.Get("If-Match"), "")
	if err != nil {
		return err
	}
	req := interaction.OperationRequest{Pairs: pairs, Body: x.Body, Post: x.r.Method == http.MethodPost, Match: match}
	last := len(x.path) - 1
	if last > 0 {
		req.Type = x.path[0]
	}
	if last > 1 {
		req.ID = x.path[1]
	}
	body, started, err := x.Session.Operate(x.r.Context(), x.path[last], req)
	if err != nil {
		return err
	}
	if started != nil {
		return x.started(started)
	}
	return x.body(http.StatusOK, body)
}
