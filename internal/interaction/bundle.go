package interaction

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
)

// MaxEntries bounds the entries of a batch or transaction. HealthLake takes 100
// in a transaction and 500 in a batch; Synthea's largest has 3,419.
const MaxEntries = 20_000

// EntryLimits bound the entries of bundles by kind; 0 is MaxEntries.
// HealthLakeEntries is the setting that answers as HealthLake does.
type EntryLimits struct{ Batch, Transaction, Async int }

// HealthLakeEntries are HealthLake's limits (devguide, "Bundles").
var HealthLakeEntries = EntryLimits{Batch: 500, Transaction: 100, Async: 500}

// limitEntries refuses bundles with too many.
func limitEntries(items fhir.Node, most int, hint string) error {
	if most = cmp.Or(most, MaxEntries); items.Len() <= most {
		return nil
	}
	return &fault.Error{Kind: fault.TooCostly, Op: "interaction.limitEntries", Subject: "Bundle.entry",
		Detail: fmt.Sprintf("there are %d, more than %d", items.Len(), most), Hint: hint}
}

// bundleLimits bound the document a batch or transaction comes in.
var bundleLimits = fhir.Limits{MaxBytes: 128 << 20, MaxNodes: 16 << 20}

// entry is one Bundle.entry of a batch or transaction.
type entry struct {
	at         int // place in the bundle
	fullURL    string
	resource   fhir.Node // Absent for DELETE and GET
	method     string
	target     target
	match      Match
	noneTag    string          // If-None-Match of a GET
	unchanged  time.Time       // If-Modified-Since of a GET: what did not change up to then, exclusive; zero for none
	none       string          // ifNoneExist
	operations PatchBody       // of a PATCH
	absent     bool            // conditional PUT with an id in the body: the id must be free
	starts     func() [][2]int // where the resources of all entries begin; nil: look for it
}

// target is a request.url taken apart.
type target struct {
	typ, id, version string
	history          bool   // …/_history without a version
	operation        string // $name, of the level that typ and id say
	in               string // with id: the compartment's type; typ is "*" or the type searched
	query            string
}

func (e *entry) place() string { return fmt.Sprintf("Bundle.entry[%d]", e.at) }

// BundleAnswer is a batch-response or transaction-response.
type BundleAnswer struct {
	Body   []byte
	Flawed bool // a resource was stored with faults (level minimal)
}

// Bundle carries out a batch or transaction (R4 http.html#transaction).
func (s *Session) Bundle(ctx context.Context, body []byte) (*BundleAnswer, error) {
	doc, items, err := s.openBundle(body)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	if doc.Root().Get("type").Is("batch") {
		if err := limitEntries(items, s.Rules.Entries.Batch, ""); err != nil {
			return nil, err
		}
		return s.batch(ctx, items)
	}
	if err := limitEntries(items, s.Rules.Entries.Transaction, s.later()); err != nil {
		return nil, err
	}
	return s.transaction(ctx, items)
}

// later is how a transaction that is too large now can be sent.
func (s *Session) later() string {
	if s.Later == nil || cmp.Or(s.Rules.Entries.Async, MaxEntries) <= s.Rules.Entries.Transaction {
		return ""
	}
	return "send it with Prefer: respond-async"
}

// openBundle parses a batch or transaction and gives its entries.
func (s *Session) openBundle(body []byte) (*fhir.Document, fhir.Node, error) {
	doc, err := fhir.ParseLimits(body, bundleLimits)
	if err != nil {
		return nil, fhir.Node{}, err
	}
	items := doc.Root().Get("entry")
	err = checkType(doc.Root(), "Bundle")
	switch kind := doc.Root().Get("type").Text(); {
	case err != nil:
	case kind != "batch" && kind != "transaction":
		err = &fault.Error{Kind: fault.Invalid, Op: "interaction.Bundle", Subject: "Bundle.type",
			Detail: "only batch and transaction are carried out", Hint: "POST other bundles to Bundle to store them"}
	default:
		err = keep(limitEntries(items, MaxEntries, ""), s.known(doc.Root(), "Bundle", "Bundle"))
	}
	return doc, items, err
}

// readTransaction takes the entries of a transaction apart.
func (s *Session) readTransaction(items fhir.Node) ([]*entry, error) {
	entries, err := s.readEntries(items)
	for _, e := range entries {
		if e.target.operation != "" && !e.isRead() {
			return nil, e.in(&fault.Error{Kind: fault.NotSupported, Op: "interaction.readTransaction", Subject: e.target.operation,
				Detail: "operations are called by POST in batches only"})
		}
	}
	return entries, err
}

// readEntries takes all entries apart.
func (s *Session) readEntries(items fhir.Node) ([]*entry, error) {
	entries := make([]*entry, 0, items.Len())
	for item := range items.Items() {
		e, err := s.readEntry(len(entries), item)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// readEntry takes one entry apart.
func (s *Session) readEntry(at int, n fhir.Node) (*entry, error) {
	request := n.Get("request")
	e := &entry{
		at: at, fullURL: n.Get("fullUrl").Text(), resource: n.Get("resource"), method: request.Get("method").Text(),
		none: strings.TrimPrefix(request.Get("ifNoneExist").Text(), "?"), noneTag: request.Get("ifNoneMatch").Text(),
	}
	if n.Kind() != fhir.Object {
		return e, e.invalid("request", "the entry is no object")
	}
	if !request.Exists() {
		return e, e.invalid("request", "it is missing")
	}
	err := keep(s.known(n, "Bundle.entry", e.place()), s.known(request, "Bundle.entry.request", e.place()+".request"))
	for _, step := range []func() error{
		func() error { return s.readURL(e, request.Get("url").Text()) },
		func() error { return e.readMatch(request) },
		e.check,
		func() error { return s.permitted(e) },
	} {
		if err == nil {
			err = step()
		}
	}
	return e, err
}

func (e *entry) invalid(member, detail string) error {
	return &fault.Error{Kind: fault.Invalid, Op: "interaction.readEntry", Subject: e.place() + "." + member, Detail: detail,
		Place: []fault.Issue{{Kind: fault.Invalid, Detail: e.place() + "." + member + ": " + detail, Expression: e.place() + "." + member}}}
}

// readURL splits "Patient/1/_history/2", "Patient?name=x", and the same below
// this store's own base.
func (s *Session) readURL(e *entry, raw string) error {
	if below, ok := strings.CutPrefix(raw, s.Base+"/"); ok {
		raw = below
	}
	path, query, _ := cutQuery(strings.TrimPrefix(raw, "/"))
	parts := strings.Split(path, "/")
	e.target = target{query: query}
	t := &e.target
	if last := parts[len(parts)-1]; strings.HasPrefix(last, "$") {
		t.operation, parts = last, parts[:len(parts)-1]
		if path = strings.Join(parts, "/"); len(parts) == 0 {
			return nil
		}
	}
	switch last := parts[len(parts)-1]; {
	case path == "_history":
		t.history = true
	case len(parts) == 1:
		t.typ = path
	case len(parts) == 2 && last == "_history":
		t.typ, t.history = parts[0], true
	case len(parts) == 2:
		t.typ, t.id = parts[0], last
	case len(parts) == 3 && last == "_history":
		t.typ, t.id, t.history = parts[0], parts[1], true
	case len(parts) == 3:
		t.in, t.id, t.typ = parts[0], parts[1], last
	case len(parts) == 4 && parts[2] == "_history":
		t.typ, t.id, t.version = parts[0], parts[1], last
	default:
		return e.invalid("request.url", "not the URL of an interaction that a bundle can hold")
	}
	return nil
}

// cutQuery splits a URL at its question mark.
func cutQuery(url string) (path, query string, found bool) { return strings.Cut(url, "?") }

func (e *entry) readMatch(request fhir.Node) error {
	noneTag := ""
	if e.method == "PUT" {
		noneTag = e.noneTag
	}
	m, err := ParseMatch(request.Get("ifMatch").Text(), noneTag)
	if err != nil {
		return e.in(err)
	}
	e.match = m
	if since := request.Get("ifModifiedSince").Text(); since != "" {
		at, _, err := fhir.ParseSearchDate(since)
		if err != nil {
			return e.invalid("request.ifModifiedSince", "not an instant")
		}
		e.unchanged = time.UnixMilli(at.High)
	}
	return nil
}

// check holds method, url and resource against each other.
func (e *entry) check() error {
	t := e.target
	if strings.Contains(e.fullURL, "/_history/") { // R4 bundle.html, bdl-8
		return e.invalid("fullUrl", "it names a version")
	}
	switch e.method {
	case "GET", "HEAD":
		return nil
	case "POST", "PUT", "PATCH", "DELETE":
	default:
		return e.invalid("request.method", "not one of GET, HEAD, POST, PUT, PATCH, DELETE")
	}
	if e.method == "POST" && t.operation != "" {
		return nil
	}
	if t.history || t.version != "" || t.in != "" || t.operation != "" {
		return e.invalid("request.url", "nothing can be written there")
	}
	switch {
	case e.method == "POST" && (t.id != "" || t.query != ""):
		return e.invalid("request.url", "a POST entry names a resource type only")
	case e.method == "POST":
	case t.id == "" && t.query == "":
		return e.invalid("request.url", "a "+e.method+" entry names a resource or criteria")
	case t.id != "" && t.query != "":
		return e.invalid("request.url", "a "+e.method+" entry names a resource or criteria, not both")
	}
	return e.checkResource()
}

func (e *entry) checkResource() error {
	if e.method == "DELETE" {
		return nil
	}
	if e.resource.Kind() != fhir.Object {
		return e.invalid("resource", "it is missing")
	}
	if e.method == "PATCH" {
		wrong := ""
		if e.operations, wrong = entryPatch(e.resource); wrong != "" {
			return e.invalid("resource", wrong)
		}
		return nil
	}
	return e.in(checkType(e.resource, e.target.typ))
}

// get carries out an entry that reads, or an operation.
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
		body, err = s.Capabilities(pairs)
	case t.history:
		body, err = s.History(ctx, HistoryRequest{Type: t.typ, ID: t.id, Pairs: pairs})
	case t.version != "":
		v, err = s.Vread(ctx, t.typ, t.id, t.version)
	case t.operation != "":
		body, err = s.call(ctx, e, pairs)
	case t.id != "" && t.in == "":
		v, err = s.Read(ctx, t.typ, t.id)
	default:
		body, err = s.Search(ctx, t.search(pairs))
	}
	if err != nil {
		return fhir.BundleEntry{}, err
	}
	if v != nil {
		return s.gotEntry(e, v), nil
	}
	if e.method == "HEAD" {
		body = nil
	}
	return fhir.BundleEntry{Resource: body, Response: &fhir.BundleResponse{Status: "200 OK"}}, nil
}

// call carries out the operation that an entry names: its resource is the body.
func (s *Session) call(ctx context.Context, e *entry, pairs []search.Pair) ([]byte, error) {
	t := e.target
	req := OperationRequest{Type: t.typ, ID: t.id, Pairs: pairs, Body: e.resource.Raw(), Post: e.method == "POST"}
	if o, ok := FindOperation(req.level(), req.Type, t.operation); ok && o.Start != nil {
		return nil, fault.New(fault.NotSupported, "interaction.call", "%s is not carried out in bundles", o.Name)
	}
	body, _, err := s.Operate(ctx, t.operation, req)
	return body, err
}

// search is the search that a URL asks for.
func (t target) search(pairs []search.Pair) SearchRequest {
	req := SearchRequest{Pairs: pairs}
	if t.in != "" {
		req.Compartment = [2]string{t.in, t.id}
	}
	if t.typ != "" && t.typ != "*" {
		req.Types = []string{t.typ}
	}
	return req
}

func (s *Session) gotEntry(e *entry, v *Version) fhir.BundleEntry {
	out := fhir.BundleEntry{
		FullURL:  s.Base + "/" + v.Type + "/" + v.ID,
		Response: &fhir.BundleResponse{Status: "200 OK", ETag: v.ETag(), LastModified: v.Updated},
	}
	seen, err := ParseETag(e.noneTag)
	switch {
	case err == nil && seen == v.Number, e.noneTag == "" && v.Updated.Before(e.unchanged):
		out.Response.Status = "304 Not Modified"
	case e.method != "HEAD":
		out.Resource = v.Resource()
	}
	return out
}

// wroteEntry is the response entry of a write.
func (s *Session) wroteEntry(v *Version) (e fhir.BundleEntry) {
	status := "200 OK"
	if s.Flawed(v) || s.Outcomes {
		defer func() { e.Response.Outcome = v.Outcome() }()
	}
	switch {
	case v.Deleted && v.Number == 0: // several at once
		return fhir.BundleEntry{Response: &fhir.BundleResponse{Status: "204 No Content"}}
	case v.Deleted:
		return fhir.BundleEntry{Response: &fhir.BundleResponse{Status: "204 No Content", ETag: v.ETag(), LastModified: v.Updated}}
	case v.Created:
		status = "201 Created"
	}
	e = fhir.BundleEntry{
		FullURL:  s.Base + "/" + v.Type + "/" + v.ID,
		Response: &fhir.BundleResponse{Status: status, Location: v.Location(), ETag: v.ETag(), LastModified: v.Updated},
	}
	if s.Whole {
		e.Resource = v.Resource()
	}
	return e
}

// failedEntry is the response entry of a refusal.
func failedEntry(err error) fhir.BundleEntry {
	f := fault.From(err)
	if f.Kind == fault.Internal {
		f = &fault.Error{Kind: fault.Internal}
	}
	return fhir.BundleEntry{Response: &fhir.BundleResponse{Status: statusLine(f.Kind.Row().FHIRStatus), Outcome: fhir.Outcome(f)}}
}
