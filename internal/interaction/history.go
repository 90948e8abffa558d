package interaction

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// HistoryRequest asks for versions (R4 http.html#history): of one resource, of a
// type, or of the whole store.
type HistoryRequest struct {
	Type, ID string
	Pairs    []search.Pair
}

func (r HistoryRequest) path() string {
	switch {
	case r.ID != "":
		return r.Type + "/" + r.ID + "/_history"
	case r.Type != "":
		return r.Type + "/_history"
	}
	return "_history"
}

// History gives a history Bundle, newest first unless _sort=_lastUpdated.
func (s *Session) History(ctx context.Context, req HistoryRequest) ([]byte, error) {
	token, pairs, err := s.followed(req.path(), req.Pairs)
	if err != nil {
		return nil, err
	}
	if s.Lenient {
		pairs = slices.DeleteFunc(pairs, func(p search.Pair) bool { return !slices.Contains(historyParameters, p.Name) })
	}
	asked, err := s.historyQuery(req, pairs)
	if err != nil {
		return nil, err
	}
	view, err := s.Store.View(ctx, token.Moment)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	if req.ID != "" {
		if _, ok, err := s.current(ctx, view, asked.Key, search.Read); err != nil || !ok {
			return nil, keep(err, notFound(req.Type, req.ID))
		}
	}
	asked.After, token.Moment, token.Query = token.After, view.Moment(), encode(pairs)
	page := store.Page{} // of a grant that shows nothing
	if asked.Where == nil || len(asked.Where) > 0 {
		if page, err = view.History(ctx, asked); err != nil {
			return nil, err
		}
	}
	return s.historyBundle(asked, token, page)
}

// keep is the first of two errors.
func keep(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func encode(pairs []search.Pair) string { return search.Encode(pairs) }

// historyQuery reads the parameters of a history; unknown ones are refused.
func (s *Session) historyQuery(req HistoryRequest, pairs []search.Pair) (store.HistoryQuery, error) {
	q := store.HistoryQuery{Limit: search.DefaultCount, Total: true}
	if err := s.historyScope(&q, req); err != nil {
		return q, err
	}
	for _, p := range pairs {
		if err := s.historyParameter(&q, p); err != nil {
			return q, err
		}
	}
	return q, nil
}

func (s *Session) historyScope(q *store.HistoryQuery, req HistoryRequest) error {
	types := s.Registry.Types()
	if req.Type != "" {
		t, err := s.typ(req.Type)
		if err != nil {
			return err
		}
		types = []plan.Type{t}
	}
	if req.ID != "" {
		key, err := s.key(req.Type, req.ID)
		if err != nil {
			return err
		}
		q.Key = key
	} else if req.Type != "" {
		q.Types = types
	}
	if !s.Grant.Unbounded() {
		q.Where = append([]plan.Arm{}, s.Grant.Arms(types, search.Read)...) // not nil: nil keeps all
	}
	return nil
}

// historyParameters are what a history takes.
var historyParameters = []string{"_count", "_since", "_at", "_sort", "_format", "_pretty"}

func (s *Session) historyParameter(q *store.HistoryQuery, p search.Pair) (err error) {
	switch p.Name {
	case "_count":
		q.Limit, err = parseCount(p.Value, s.Rules.maxCount())
	case "_since":
		var since fhir.Interval
		since, err = date(p)
		q.Low = time.UnixMilli(since.Low)
	case "_at":
		var at fhir.Interval
		at, err = date(p)
		q.AtLow, q.AtHigh = time.UnixMilli(at.Low), time.UnixMilli(at.High)
	case "_sort":
		if p.Value != "_lastUpdated" && p.Value != "-_lastUpdated" {
			return invalidPair(p, "a history sorts by _lastUpdated or -_lastUpdated")
		}
		q.OldestFirst = p.Value == "_lastUpdated"
	case "_format", "_pretty":
	default:
		return invalidPair(p, "not a parameter of history; it takes _count, _since, _at, _sort, _format and _pretty")
	}
	return err
}

func date(p search.Pair) (fhir.Interval, error) {
	at, _, err := fhir.ParseSearchDate(p.Value)
	if err != nil {
		return at, invalidPair(p, "not a date or instant")
	}
	return at, nil
}

func invalidPair(p search.Pair, detail string) error {
	return &fault.Error{Kind: fault.Invalid, Op: "interaction", Subject: p.Name + "=" + p.Value, Detail: detail}
}

func (s *Session) historyBundle(q store.HistoryQuery, token pageToken, page store.Page) ([]byte, error) {
	w := fhir.NewBundle(nil, "history")
	if page.Total >= 0 {
		w.Total(uint64(page.Total))
	}
	self := url.URL{Path: token.Path, RawQuery: token.Query}
	w.Link("self", s.Base+"/"+self.String())
	if err := s.pageLinks(w, token, page.Next, q.Limit); err != nil {
		return nil, err
	}
	for _, rec := range page.Records {
		w.Entry(s.historyEntry(rec))
		s.touch(rec)
	}
	return w.Finish(), nil
}

// historyEntry is one version with how it came to be.
func (s *Session) historyEntry(rec store.Record) fhir.BundleEntry {
	v := s.version(rec)
	request := &fhir.BundleRequest{Method: "PUT", URL: v.Type + "/" + v.ID}
	status := "200 OK"
	if rec.Version == 1 {
		status = "201 Created"
	}
	switch {
	case rec.Deleted:
		request.Method, status = "DELETE", "204 No Content"
	case rec.Tag == tagCreate:
		request.Method, request.URL, status = "POST", v.Type, "201 Created"
	case rec.Tag == tagPatch:
		request.Method = "PATCH"
	}
	e := fhir.BundleEntry{
		FullURL: s.Base + "/" + v.Type + "/" + v.ID, Request: request,
		Response: &fhir.BundleResponse{Status: status, Location: v.Location(), ETag: v.ETag(), LastModified: v.Updated},
	}
	if !rec.Deleted {
		e.Resource = v.Resource()
	}
	return e
}
