package fhir

import (
	"strconv"
	"time"
)

// BundleWriter appends a Bundle entry by entry, resources as raw bytes:
//
//	w := fhir.NewBundle(buf, "searchset")
//	w.ID(id)
//	w.Total(3)
//	w.Link("self", url)
//	w.Entry(fhir.BundleEntry{FullURL: …, Resource: …, Mode: "match"})
//	body := w.Finish()
//
// Members come out in the order of the calls, which must be FHIR's: ID,
// LastUpdated, Timestamp, Total, all Links, all Entries.
type BundleWriter struct {
	dst  []byte
	list listKind
	kind string // type, not written yet
}

// listKind is the array that is open at the end of dst.
type listKind uint8

const (
	noList listKind = iota
	linkList
	entryList
)

// NewBundle begins a Bundle of this type (R4 bundle-type: searchset, history,
// batch-response, transaction-response, collection, …) behind dst.
func NewBundle(dst []byte, kind string) *BundleWriter {
	dst = append(dst, `{"resourceType":"Bundle"`...)
	return &BundleWriter{dst: dst, kind: kind}
}

// head ends what comes before the next member: an open array, and the type,
// which stands behind id and meta.
func (w *BundleWriter) head() {
	if w.list != noList {
		w.dst = append(w.dst, ']')
		w.list = noList
	}
	w.dst = appendText(w.dst, "type", w.kind)
	w.kind = ""
}

// ID gives the Bundle an id.
func (w *BundleWriter) ID(id string) {
	w.dst = appendText(w.dst, "id", id)
}

// LastUpdated gives the Bundle its meta.lastUpdated.
func (w *BundleWriter) LastUpdated(t time.Time) {
	w.dst = append(appendMember(w.dst, "meta"), `{"lastUpdated":"`...)
	w.dst = append(AppendInstant(w.dst, t), '"', '}')
}

// Timestamp gives the Bundle its timestamp.
func (w *BundleWriter) Timestamp(t time.Time) {
	w.head()
	w.dst = appendTime(w.dst, "timestamp", t)
}

// Total gives the Bundle its total, which counts matches, not entries.
func (w *BundleWriter) Total(n uint64) {
	w.head()
	w.dst = strconv.AppendUint(appendMember(w.dst, "total"), n, 10)
}

// Link adds a link: self, next, previous, first, last.
func (w *BundleWriter) Link(relation, url string) {
	w.beginItem(linkList, "link")
	w.dst = appendText(append(w.dst, '{'), "relation", relation)
	w.dst = append(appendText(w.dst, "url", url), '}')
}

// BundleEntry is one Bundle.entry; what is zero is left out.
type BundleEntry struct {
	FullURL  string
	Resource []byte          // JSON of the resource
	Stored   *StoredResource // instead of Resource
	Mode     string          // search.mode: match, include, outcome
	Score    string          // search.score, a decimal as it shall be written
	Metres   string          // of the extension location-distance of search, likewise
	Request  *BundleRequest
	Response *BundleResponse
}

// StoredResource is what AppendResource takes.
type StoredResource struct {
	Form    []byte // as Store made it
	ID      string
	Version uint64
	Updated time.Time
}

// BundleRequest is Bundle.entry.request.
type BundleRequest struct {
	Method, URL          string
	IfNoneMatch, IfMatch string
	IfModifiedSince      time.Time
	IfNoneExist          string
}

// BundleResponse is Bundle.entry.response.
type BundleResponse struct {
	Status       string // "201 Created"
	Location     string
	ETag         string // W/"1"
	LastModified time.Time
	Outcome      []byte // JSON of an OperationOutcome
}

// Entry adds an entry.
func (w *BundleWriter) Entry(e BundleEntry) {
	w.beginItem(entryList, "entry")
	w.dst = appendText(append(w.dst, '{'), "fullUrl", e.FullURL)
	switch {
	case e.Stored != nil:
		s := e.Stored
		w.dst = AppendResource(appendMember(w.dst, "resource"), s.Form, s.ID, s.Version, s.Updated)
	case len(e.Resource) > 0:
		w.dst = append(appendMember(w.dst, "resource"), e.Resource...)
	}
	if e.Mode != "" || e.Score != "" {
		w.search(e)
	}
	if e.Request != nil {
		w.request(e.Request)
	}
	if e.Response != nil {
		w.response(e.Response)
	}
	w.dst = append(w.dst, '}')
}

func (w *BundleWriter) search(e BundleEntry) {
	w.dst = append(appendMember(w.dst, "search"), '{')
	if e.Metres != "" {
		w.distance(e.Metres)
	}
	w.dst = appendText(w.dst, "mode", e.Mode)
	if e.Score != "" {
		w.dst = append(appendMember(w.dst, "score"), e.Score...)
	}
	w.dst = append(w.dst, '}')
}

// distance is the extension that tells how far away a Location is
// (http://hl7.org/fhir/R4/extension-location-distance.html).
func (w *BundleWriter) distance(metres string) {
	w.dst = append(appendMember(w.dst, "extension"), "[{"...)
	w.dst = appendText(w.dst, "url", "http://hl7.org/fhir/StructureDefinition/location-distance")
	w.dst = append(appendMember(w.dst, "valueDistance"), '{')
	w.dst = append(appendMember(w.dst, "value"), metres...)
	w.dst = appendText(w.dst, "unit", "m")
	w.dst = appendText(w.dst, "system", "http://unitsofmeasure.org")
	w.dst = append(appendText(w.dst, "code", "m"), "}}]"...)
}

func (w *BundleWriter) request(r *BundleRequest) {
	w.dst = append(appendMember(w.dst, "request"), '{')
	w.dst = appendText(w.dst, "method", r.Method)
	w.dst = appendText(w.dst, "url", r.URL)
	w.dst = appendText(w.dst, "ifNoneMatch", r.IfNoneMatch)
	w.dst = appendTime(w.dst, "ifModifiedSince", r.IfModifiedSince)
	w.dst = appendText(w.dst, "ifMatch", r.IfMatch)
	w.dst = append(appendText(w.dst, "ifNoneExist", r.IfNoneExist), '}')
}

func (w *BundleWriter) response(r *BundleResponse) {
	w.dst = append(appendMember(w.dst, "response"), '{')
	w.dst = appendText(w.dst, "status", r.Status)
	w.dst = appendText(w.dst, "location", r.Location)
	w.dst = appendText(w.dst, "etag", r.ETag)
	w.dst = appendTime(w.dst, "lastModified", r.LastModified)
	if len(r.Outcome) > 0 {
		w.dst = append(appendMember(w.dst, "outcome"), r.Outcome...)
	}
	w.dst = append(w.dst, '}')
}

// appendTime appends a member with an instant, nothing for the zero time.
func appendTime(dst []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	dst = append(appendMember(dst, name), '"')
	return append(AppendInstant(dst, t), '"')
}

// beginItem opens the array for this kind of item, or goes on in it.
func (w *BundleWriter) beginItem(kind listKind, name string) {
	if w.list == kind {
		w.dst = append(w.dst, ',')
		return
	}
	w.head()
	w.dst = append(appendMember(w.dst, name), '[')
	w.list = kind
}

// Len is the number of bytes so far, what stood in dst before included; it
// lets a caller keep a page within a size.
func (w *BundleWriter) Len() int { return len(w.dst) }

// Finish ends the Bundle and gives dst with all of it.
func (w *BundleWriter) Finish() []byte {
	w.head()
	w.dst = append(w.dst, '}')
	return w.dst
}
