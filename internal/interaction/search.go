package interaction

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// SearchRequest is a search over types (none: all), as it came.
type SearchRequest struct {
	Types []string
	// Compartment narrows to a compartment: its type and id; empty is none.
	Compartment [2]string
	Pairs       []search.Pair // query string and form body, in order
	// Into is room that the answer may take; nil: it takes its own.
	Into []byte
}

func (r SearchRequest) path() string {
	path := ""
	if r.Compartment[0] != "" {
		path = r.Compartment[0] + "/" + r.Compartment[1] + "/"
		if len(r.Types) == 0 {
			return path + "*"
		}
	}
	if len(r.Types) == 1 {
		path += r.Types[0]
	}
	return path
}

// Search finds resources and gives a searchset Bundle (R4 search.html,
// http.html#search). All pages of one search look at the same moment. It is held
// to the session's Limits.
func (s *Session) Search(ctx context.Context, req SearchRequest) ([]byte, error) {
	token, pairs, err := s.followed(req.path(), req.Pairs)
	if err != nil {
		return nil, err
	}
	q, err := s.query(req, pairs)
	if err != nil {
		return nil, err
	}
	token.Query = q.Self()
	w := s.watch(q)
	bounded, cancel := s.Limits.within(ctx)
	defer cancel()
	answer, err := s.answer(bounded, q, token, w, req.Into)
	err = s.Limits.reached(ctx, err)
	w.end(err)
	return answer, err
}

// answer carries a search out.
func (s *Session) answer(ctx context.Context, q *search.Query, token pageToken, w *watch, into []byte) ([]byte, error) {
	view, err := s.Store.View(ctx, token.Moment)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	asked, err := q.Compile(s.env(ctx, view))
	if err != nil {
		return nil, err
	}
	asked.After, asked.Work = token.After, s.Limits.rows()
	token.Moment = view.Moment()
	page, err := view.Search(ctx, asked)
	if err != nil {
		return nil, err
	}
	if asked.Total == plan.TotalEstimate && asked.After == nil && page.Next == nil && asked.Limit > 0 {
		page.Total = int64(len(page.Records)) // all of them are here
	}
	included, err := s.include(ctx, view, q, page.Records)
	if err != nil {
		return nil, err
	}
	matches, err := s.matched(ctx, view, q, token, &page)
	if err != nil {
		return nil, err
	}
	w.found = len(matches) + len(included)
	outcomes, err := s.outcomes(ctx, view, q, asked)
	if err != nil {
		return nil, err
	}
	into = slices.Grow(into[:0], s.setSize(page.Records)+s.setSize(included))
	return s.searchset(into, q, token, page, matches, included, outcomes)
}

// entryBytes is what an entry has around its resource, but for the base URL.
const entryBytes = len(`{"fullUrl":"//","resource":,"search":{"mode":"include"}},`) + 2*64

// setSize is about how many bytes entries take.
func (s *Session) setSize(list []store.Record) (size int) {
	for i := range list {
		size += fhir.ResourceSize(list[i].Body) + len(s.Base) + entryBytes
	}
	return size
}

// outcomes are what a searchset tells beside what was found.
func (s *Session) outcomes(ctx context.Context, view store.View, q *search.Query, asked *plan.Plan) ([][]byte, error) {
	var all [][]byte
	if q.Explain {
		told, err := s.explained(ctx, view, q, asked)
		if err != nil {
			return nil, err
		}
		all = append(all, told)
	}
	if len(q.Ignored) > 0 {
		all = append(all, ignoredOutcome(q.Ignored))
	}
	return all, nil
}

// followed opens the page token among the parameters, if there is one: then the
// question is the token's, only _count may be another.
func (s *Session) followed(path string, pairs []search.Pair) (pageToken, []search.Pair, error) {
	at := slices.IndexFunc(pairs, func(p search.Pair) bool { return p.Name == "page" })
	if at < 0 {
		return pageToken{Path: path}, pairs, nil
	}
	token, err := s.open(pairs[at].Value)
	if err != nil {
		return token, nil, err
	}
	if token.Path != path {
		return token, nil, &fault.Error{Kind: fault.Invalid, Op: "interaction.followed", Subject: "page", Detail: "the page is of another search"}
	}
	kept, err := search.ParsePairs(token.Query)
	if err != nil {
		return token, nil, err
	}
	count := slices.IndexFunc(pairs, func(p search.Pair) bool { return p.Name == "_count" })
	if count >= 0 {
		kept = slices.DeleteFunc(kept, func(p search.Pair) bool { return p.Name == "_count" })
		kept = append(kept, pairs[count])
	}
	return token, kept, nil
}

func (s *Session) query(req SearchRequest, pairs []search.Pair) (*search.Query, error) {
	types := make([]plan.Type, len(req.Types))
	for i, name := range req.Types {
		t, err := s.typ(name)
		if err != nil {
			return nil, err
		}
		types[i] = t
	}
	o := s.searchOptions()
	if req.Compartment[0] != "" {
		of, err := s.key(req.Compartment[0], req.Compartment[1])
		if err != nil {
			return nil, err
		}
		if name := req.Compartment[0]; r4.CompartmentURL(name) == "" {
			return nil, &fault.Error{Kind: fault.NotFound, Op: "interaction.query", Subject: name, Detail: "not a compartment",
				Hint: "compartments are " + strings.Join(r4.Compartments(), ", ")}
		}
		o.In = &search.Compartment{Of: of}
	}
	return search.Parse(s.Registry, types, pairs, o)
}

// searchset renders one page behind dst.
func (s *Session) searchset(dst []byte, q *search.Query, token pageToken, page store.Page, matches []match, included []store.Record, outcomes [][]byte) ([]byte, error) {
	w := fhir.NewBundle(dst, "searchset")
	if page.Total >= 0 {
		w.Total(uint64(page.Total))
	}
	if err := s.links(w, q, token, page.Next); err != nil {
		return nil, err
	}
	near := q.Near()
	for _, m := range matches {
		if err := s.matchEntry(w, q, m, near); err != nil {
			return nil, err
		}
	}
	for _, rec := range included {
		s.entry(w, rec, "include", "")
	}
	for _, outcome := range outcomes {
		w.Entry(fhir.BundleEntry{Resource: outcome, Mode: "outcome"})
	}
	return w.Finish(), nil
}

// ignoredOutcome tells which parameters handling=lenient passed over.
func ignoredOutcome(ignored []search.Ignored) []byte {
	issues := make([]fhir.OutcomeIssue, len(ignored))
	for i, p := range ignored {
		issues[i] = fhir.OutcomeIssue{Severity: "warning", Code: "not-supported", Diagnostics: "ignored: " + p.Name + ": " + p.Reason}
	}
	return fhir.AppendOutcome(nil, issues...)
}

func (s *Session) links(w *fhir.BundleWriter, q *search.Query, token pageToken, next []byte) error {
	self := s.Base + "/" + token.Path
	if q := q.Self(); q != "" {
		self += "?" + q
	}
	w.Link("self", self)
	return s.pageLinks(w, token, next, q.Count)
}

// pageLinks are the links to the pages around one of count entries: first and
// previous where it is not the first, next where more follow.
func (s *Session) pageLinks(w *fhir.BundleWriter, token pageToken, next []byte, count int) error {
	if before, ok := token.previous(); ok {
		first := pageToken{Path: token.Path, Query: token.Query, Moment: token.Moment}
		if err := s.addLink(w, "first", first, count); err != nil {
			return err
		}
		if err := s.addLink(w, "previous", before, count); err != nil {
			return err
		}
	}
	if next == nil {
		return nil
	}
	return s.addLink(w, "next", token.next(next), count)
}

func (s *Session) addLink(w *fhir.BundleWriter, relation string, token pageToken, count int) error {
	url, err := s.link(token, count)
	if err == nil {
		w.Link(relation, url)
	}
	return err
}

// matchEntry writes a match, cut as _summary and _elements ask; of a search for
// places with how far it is from the nearest of them.
func (s *Session) matchEntry(w *fhir.BundleWriter, q *search.Query, m match, near []search.Position) error {
	metres := ""
	if len(near) > 0 && m.id == "" {
		metres = distance(*m.container, near)
	}
	if m.id == "" && !trims(q.Summary, q.Elements) {
		s.entry(w, *m.container, "match", metres)
		return nil
	}
	body, t, url := m.json, m.typ, s.fullURL(*m.container)
	if m.id == "" {
		body, t = s.version(*m.container).Resource(), m.container.Key.Type
	} else {
		url += "#" + m.id
	}
	body, err := trim(body, t, q.Summary, q.Elements)
	if err != nil {
		return err
	}
	w.Entry(fhir.BundleEntry{FullURL: url, Resource: body, Mode: "match", Metres: metres})
	s.touch(*m.container)
	return nil
}

// entry writes a whole resource.
func (s *Session) entry(w *fhir.BundleWriter, rec store.Record, mode, metres string) {
	whole := fhir.StoredResource{Form: rec.Body, ID: rec.Key.ID, Version: rec.Version, Updated: rec.Updated}
	w.Entry(fhir.BundleEntry{FullURL: s.fullURL(rec), Stored: &whole, Mode: mode, Metres: metres})
	s.touch(rec)
}

var namePosition, nameLatitude, nameLongitude = fhir.Intern("position"), fhir.Intern("latitude"), fhir.Intern("longitude")

// distance is how far a Location is from the nearest of some places, in metres; ""
// where it does not say where it is.
func distance(rec store.Record, from []search.Position) string {
	doc, err := fhir.ParseStored(fhir.StoredJSON(rec.Body))
	if err != nil {
		return ""
	}
	defer doc.Release()
	at := doc.Root().GetName(namePosition)
	latitude, err1 := strconv.ParseFloat(at.GetName(nameLatitude).View(), 64)
	longitude, err2 := strconv.ParseFloat(at.GetName(nameLongitude).View(), 64)
	if err1 != nil || err2 != nil {
		return ""
	}
	is := search.Position{Latitude: latitude, Longitude: longitude}
	metres := math.Inf(1)
	for _, place := range from {
		metres = min(metres, place.Metres(is))
	}
	return strconv.FormatFloat(metres, 'f', 0, 64)
}

func (s *Session) fullURL(rec store.Record) string {
	return s.Base + "/" + s.Registry.Name(rec.Key.Type) + "/" + rec.Key.ID
}

// count reads a _count that is not part of a search.
func parseCount(text string, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, &fault.Error{Kind: fault.Invalid, Op: "interaction", Subject: "_count=" + text, Detail: "not a whole number from 0 up"}
	}
	return min(n, most), nil
}
