package interaction

import (
	"context"
	"fmt"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
)

// MaxEntries bounds the entries of a batch or transaction. HealthLake takes 100
// in a transaction and 500 in a batch; Synthea's largest has 3,419.
const MaxEntries = 20_000

// bundleLimits bound the document a batch or transaction comes in.
var bundleLimits = fhir.Limits{MaxBytes: 128 << 20, MaxNodes: 16 << 20}

// entry is one Bundle.entry of a batch or transaction.
type entry struct {
	at       int // place in the bundle
	fullURL  string
	resource fhir.Node // Absent for DELETE and GET
	method   string
	target   target
	match    Match
	noneTag  string // If-None-Match of a GET
	none     string // ifNoneExist
}

// target is a request.url taken apart.
type target struct {
	typ, id, version string
	history          bool // …/_history without a version
	query            string
}

func (e *entry) place() string { return fmt.Sprintf("Bundle.entry[%d]", e.at) }

// Bundle carries out a batch or transaction (R4 http.html#transaction) and gives
// the batch-response or transaction-response.
func (s *Session) Bundle(ctx context.Context, body []byte) ([]byte, error) {
	doc, err := fhir.ParseLimits(body, bundleLimits)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	if err := checkType(doc.Root(), "Bundle"); err != nil {
		return nil, err
	}
	kind := doc.Root().Get("type").Text()
	if kind != "batch" && kind != "transaction" {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "interaction.Bundle", Subject: "Bundle.type",
			Detail: "only batch and transaction are carried out", Hint: "POST other bundles to Bundle to store them"}
	}
	items := doc.Root().Get("entry")
	if items.Len() > MaxEntries {
		return nil, fault.New(fault.TooCostly, "interaction.Bundle", "the bundle has %d entries, more than %d", items.Len(), MaxEntries)
	}
	if kind == "batch" {
		return s.batch(ctx, items)
	}
	return s.transaction(ctx, items)
}

// readEntry takes one entry apart.
func (s *Session) readEntry(at int, n fhir.Node) (*entry, error) {
	request := n.Get("request")
	e := &entry{
		at: at, fullURL: n.Get("fullUrl").Text(), resource: n.Get("resource"), method: request.Get("method").Text(),
		none: strings.TrimPrefix(request.Get("ifNoneExist").Text(), "?"), noneTag: request.Get("ifNoneMatch").Text(),
	}
	if !request.Exists() {
		return e, e.invalid("request", "it is missing")
	}
	if err := s.readURL(e, request.Get("url").Text()); err != nil {
		return e, err
	}
	if err := e.readMatch(request); err != nil {
		return e, err
	}
	return e, e.check()
}

func (e *entry) invalid(member, detail string) error {
	return &fault.Error{Kind: fault.Invalid, Op: "interaction.readEntry", Subject: e.place() + "." + member, Detail: detail,
		Place: []fault.Issue{{Kind: fault.Invalid, Detail: e.place() + "." + member + ": " + detail, Expression: e.place() + "." + member}}}
}

// readURL splits "Patient/1/_history/2", "Patient?name=x", and the same below
// this store's own base.
func (s *Session) readURL(e *entry, raw string) error {
	raw = strings.TrimPrefix(strings.TrimPrefix(raw, s.Base), "/")
	path, query, _ := strings.Cut(raw, "?")
	e.target.query = query
	parts := strings.Split(path, "/")
	e.target.typ = parts[0]
	rest := parts[1:]
	if len(rest) > 0 && !strings.HasPrefix(rest[0], "_") {
		e.target.id, rest = rest[0], rest[1:]
	}
	switch {
	case len(rest) == 0:
		return nil
	case rest[0] == "_history" && len(rest) == 1:
		e.target.history = true
		return nil
	case rest[0] == "_history" && len(rest) == 2:
		e.target.version = rest[1]
		return nil
	}
	return e.invalid("request.url", "not the URL of an interaction that a bundle can hold")
}

func (e *entry) readMatch(request fhir.Node) (err error) {
	if tag := request.Get("ifMatch").Text(); tag != "" {
		if e.match.Version, err = ParseETag(tag); err != nil {
			return e.invalid("request.ifMatch", `not a version tag like W/"1"`)
		}
	}
	e.match.Absent = e.method == "PUT" && e.noneTag == "*"
	return nil
}

// check holds method, url and resource against each other.
func (e *entry) check() error {
	has := e.resource.Kind() == fhir.Object
	switch e.method {
	case "POST":
		if e.target.id != "" || e.target.query != "" {
			return e.invalid("request.url", "a POST entry names a resource type only")
		}
	case "PUT":
		if e.target.id == "" && e.target.query == "" {
			return e.invalid("request.url", "a PUT entry names a resource or criteria")
		}
	case "DELETE":
		if e.target.id == "" && e.target.query == "" {
			return e.invalid("request.url", "a DELETE entry names a resource or criteria")
		}
		return nil
	case "GET", "HEAD":
		return nil
	case "PATCH":
		return &fault.Error{Kind: fault.NotSupported, Op: "interaction.check", Subject: e.place() + ".request.method", Detail: "PATCH is not offered"}
	default:
		return e.invalid("request.method", "not one of GET, HEAD, POST, PUT, DELETE")
	}
	if !has {
		return e.invalid("resource", "it is missing")
	}
	return checkType(e.resource, e.target.typ)
}

// ParseETag reads W/"n" (and "n", and bare n) as a version.
func ParseETag(tag string) (uint64, error) {
	text := strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
	var n uint64
	if len(text) == 0 || len(text) > 19 {
		return 0, badTag(tag)
	}
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, badTag(tag)
		}
		n = n*10 + uint64(c-'0')
	}
	if n == 0 {
		return 0, badTag(tag)
	}
	return n, nil
}

func badTag(tag string) error {
	return &fault.Error{Kind: fault.Invalid, Op: "interaction.ParseETag", Subject: tag, Detail: "not a version tag", Hint: `write W/"1"`}
}

// get carries out a GET entry.
func (s *Session) get(ctx context.Context, e *entry) (fhir.BundleEntry, error) {
	t := e.target
	pairs, err := search.ParsePairs(t.query)
	if err != nil {
		return fhir.BundleEntry{}, err
	}
	var v *Version
	var body []byte
	switch {
	case t.typ == "metadata" && t.id == "":
		body, err = s.Capabilities()
	case t.history:
		body, err = s.History(ctx, HistoryRequest{Type: t.typ, ID: t.id, Pairs: pairs})
	case t.id == "" && t.typ == "":
		body, err = s.Search(ctx, SearchRequest{Pairs: pairs})
	case t.id == "":
		body, err = s.Search(ctx, SearchRequest{Types: []string{t.typ}, Pairs: pairs})
	case t.version != "":
		v, err = s.Vread(ctx, t.typ, t.id, t.version)
	default:
		v, err = s.Read(ctx, t.typ, t.id)
	}
	if err != nil {
		return fhir.BundleEntry{}, err
	}
	if v == nil {
		return fhir.BundleEntry{Resource: body, Response: &fhir.BundleResponse{Status: "200 OK"}}, nil
	}
	return s.gotEntry(e, v), nil
}

func (s *Session) gotEntry(e *entry, v *Version) fhir.BundleEntry {
	out := fhir.BundleEntry{
		FullURL:  s.Base + "/" + v.Type + "/" + v.ID,
		Response: &fhir.BundleResponse{Status: "200 OK", ETag: v.ETag(), LastModified: v.Updated},
	}
	if seen, err := ParseETag(e.noneTag); err == nil && seen == v.Number {
		out.Response.Status = "304 Not Modified"
		return out
	}
	out.Resource = v.Resource()
	return out
}

// wroteEntry is the response entry of a write.
func (s *Session) wroteEntry(v *Version) fhir.BundleEntry {
	status := "200 OK"
	switch {
	case v.Deleted:
		return fhir.BundleEntry{Response: &fhir.BundleResponse{Status: "204 No Content", ETag: v.ETag(), LastModified: v.Updated}}
	case v.Created:
		status = "201 Created"
	}
	return fhir.BundleEntry{
		FullURL:  s.Base + "/" + v.Type + "/" + v.ID,
		Response: &fhir.BundleResponse{Status: status, Location: v.Location(), ETag: v.ETag(), LastModified: v.Updated},
	}
}

// failedEntry is the response entry of a refusal.
func failedEntry(err error) fhir.BundleEntry {
	f := fault.From(err)
	if f.Kind == fault.Internal {
		f = &fault.Error{Kind: fault.Internal}
	}
	return fhir.BundleEntry{Response: &fhir.BundleResponse{Status: statusLine(f.Kind.Row().FHIRStatus), Outcome: fhir.Outcome(f)}}
}
