// Package interaction carries out FHIR's RESTful interactions on one open data
// store: a file per interaction, from a request's parts to bytes of FHIR, with
// no HTTP in it.
//
//	Create Read Vread Update Delete History     one resource
//	Search                                      many
//	Batch Transaction                           many, in one request
//	Capabilities                                what is offered, from what is registered
//
// A Session is what one request works with. Its Grant is asked in every
// interaction: what the grant does not show does not exist, in matches,
// includes, histories and entries of bundles alike.
//
// Spec: http://hl7.org/fhir/R4/http.html.
package interaction

import (
	"context"
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// Extractor turns a resource into its index entries, and a reference parameter
// of it into what it points to.
type Extractor interface {
	Extract(key plan.Key, root fhir.Node) ([]plan.Entry, error)
	// ExtractOf is Extract of the parameters of these numbers alone, sorted.
	ExtractOf(key plan.Key, root fhir.Node, numbers []uint16) ([]plan.Entry, error)
	// Targets are the resources of this store that a reference parameter points
	// to; a nil parameter is every one of the type.
	Targets(t plan.Type, p *search.Param, root fhir.Node) []plan.Key
	// Pointed is all that it points to, versions, URLs and canonicals too.
	Pointed(t plan.Type, p *search.Param, root fhir.Node) []search.Target
	// Canonicals are the URLs and canonicals that it points to.
	Canonicals(t plan.Type, p *search.Param, root fhir.Node) []search.CanonicalURL
	search.Bodies
}

// Validator holds a resource against its definition before it is stored.
type Validator interface {
	// Validate gives every issue of a whole resource, nil for none.
	Validate(ctx context.Context, root fhir.Node, level validate.Level) []fault.Issue
}

// Sealer seals small blobs and opens them again, bound to what they are for.
type Sealer interface {
	Seal(plain, aad []byte) ([]byte, error)
	Open(sealed, aad []byte) ([]byte, error)
}

// Session is what one request works with.
type Session struct {
	StoreID   string
	Store     store.Store
	Grant     *search.Grant
	Registry  search.Registry
	Extractor Extractor
	// Unsearchable, when set, answers everything that searches: the entries of the
	// store are being made anew.
	Unsearchable error
	Validator    Validator      // nil: what parses is stored
	Level        validate.Level // how much Validator asks; the zero Level is strict
	Base         string         // absolute URL of the store, "https://host/datastore/id/r4", no slash at the end
	Pages        Sealer         // seals page links
	Clock        func() time.Time
	NewID        func() (string, error) // a fresh UUID
	Touched      func(audit.Target)     // told of every resource given out or changed
	Lenient      bool                   // Prefer: handling=lenient
	Rules        Rules
	Limits       SearchLimits
	// Slow is told of searches that took SlowFrom or longer; nil: nobody is.
	Slow       func(SlowSearch)
	SlowFrom   time.Duration
	Exports    Exports     // carries out exports; nil: $export is refused
	Imports    Imports     // carries out imports; nil: $import is refused
	Jobs       Jobs        // carries out bulk jobs; nil: the operations that need it are refused
	Later      Later       // carries out asynchronous transactions; nil: respond-async is passed over
	Statements *Statements // keeps capability statements between sessions; nil: they are made each time
	Whole      bool        // Prefer: return=representation for the entries of bundles
	Outcomes   bool        // Prefer: return=OperationOutcome for the entries of bundles
	// Forbids says whether an IAM action is denied to whoever asks, though the
	// request as a whole is allowed; nil denies none.
	Forbids func(action string) error
	// Owner is whose idempotency keys are used, in no form that is looked at: what
	// one app created tells another nothing. Empty: of all who sign requests.
	Owner string
	SMART string // the store's SMART discovery document, JSON; empty: it takes signatures only

	// note makes an op that is committed with a transaction's.
	note func([]*write) (store.Op, error)
}

// Version is one version of a resource, as an interaction found or made it.
type Version struct {
	Type    string
	ID      string
	Number  uint64
	Updated time.Time
	Deleted bool
	Created bool // a write made it where there was nothing
	Changed bool // a write made a version
	// Issues are what was found in the resource when it was written and does not
	// forbid it.
	Issues []fault.Issue
	stored []byte // stored form; nil for deletions
}

// Resource is the version's JSON.
func (v *Version) Resource() []byte { return v.AppendResource(nil) }

// AppendResource appends it.
func (v *Version) AppendResource(dst []byte) []byte {
	return fhir.AppendResource(slices.Grow(dst, fhir.ResourceSize(v.stored)), v.stored, v.ID, v.Number, v.Updated)
}

// Location is the version's own relative URL.
func (v *Version) Location() string {
	return v.Type + "/" + v.ID + "/_history/" + formatVersion(v.Number)
}

// ETag is the version as an entity tag.
func (v *Version) ETag() string { return `W/"` + formatVersion(v.Number) + `"` }

func (s *Session) version(rec store.Record) *Version {
	return &Version{
		Type: s.Registry.Name(rec.Key.Type), ID: rec.Key.ID, Number: rec.Version, Updated: rec.Updated,
		Deleted: rec.Deleted, stored: rec.Body,
	}
}

// key checks a type's name and an id.
func (s *Session) key(typ, id string) (plan.Key, error) {
	t, err := s.typ(typ)
	if err != nil {
		return plan.Key{}, err
	}
	if !fhir.ValidID(id) {
		return plan.Key{}, &fault.Error{Kind: fault.Invalid, Op: "interaction.key", Subject: id, Detail: "not a resource id",
			Hint: "an id is 1 to 64 of A-Z a-z 0-9 - and ."}
	}
	return plan.Key{Type: t, ID: id}, nil
}

// typ finds a type that has interactions at all.
func (s *Session) typ(name string) (plan.Type, error) {
	t, ok := s.Registry.Type(name)
	if !ok {
		return 0, &fault.Error{Kind: fault.NotFound, Op: "interaction.typ", Subject: name, Detail: "no such resource type in R4"}
	}
	if notStored[name] {
		return 0, &fault.Error{Kind: fault.NotSupported, Op: "interaction.typ", Subject: name, Detail: "resources of this type are not stored"}
	}
	return t, nil
}

func (s *Session) touch(rec store.Record) {
	s.touched(audit.Target{Type: s.Registry.Name(rec.Key.Type), ID: rec.Key.ID, Version: rec.Version})
}

func (s *Session) touched(t audit.Target) {
	if s.Touched != nil {
		s.Touched(t)
	}
}

// The tags that tell by which interaction a version came. Persisted: never
// reuse.
const (
	tagCreate byte = 1 + iota // POST
	tagUpdate                 // PUT
	tagPatch                  // PATCH
	tagDelete                 // DELETE
)

func notFound(typ, id string) error {
	return &fault.Error{Kind: fault.NotFound, Op: "interaction", Subject: typ + "/" + id, Detail: "no such resource"}
}

func gone(typ, id string) error {
	return &fault.Error{Kind: fault.Gone, Op: "interaction", Subject: typ + "/" + id, Detail: "the resource was deleted"}
}

// current reads the current version that the grant shows, deletions included;
// ok is false when there is none, and nothing tells apart why.
func (s *Session) current(ctx context.Context, view store.View, key plan.Key, access search.Access) (rec store.Record, ok bool, err error) {
	return s.shown(ctx, view, key, access, func() (store.Record, error) { return view.Get(ctx, key) })
}

// shown reads a version and holds it against the grant by its own entries; a
// deletion is judged by the version before it.
func (s *Session) shown(ctx context.Context, view store.View, key plan.Key, access search.Access, read func() (store.Record, error)) (store.Record, bool, error) {
	where, allowed := s.Grant.Where(key.Type, access)
	if !allowed {
		return store.Record{}, false, nil
	}
	rec, err := read()
	if fault.Is(err, fault.NotFound) {
		return store.Record{}, false, nil
	}
	if err != nil || where == nil {
		return rec, err == nil, err
	}
	ok, err := s.says(ctx, view, rec, where)
	if err == nil && !ok {
		ok, err = s.meets(ctx, view, rec, where)
	}
	return rec, ok, err
}

// says reports whether a version certainly meets a condition by what it says
// itself: several times cheaper than meets, which decides what it cannot tell.
func (s *Session) says(ctx context.Context, view store.View, rec store.Record, where plan.Node) (bool, error) {
	if rec.Deleted {
		return false, nil
	}
	d := &draft{key: rec.Key, created: rec.Created, updated: rec.Updated, unread: true}
	p := &prover{view: view, now: s.Clock()}
	if ok, err := p.proves(ctx, where, d, true); ok || err != nil {
		return ok, err // by its id, say
	}
	doc, err := fhir.Parse(fhir.StoredJSON(rec.Body))
	if err != nil {
		return false, nil // meets looks at entries alone
	}
	defer doc.Release()
	asks := conditionOn{}
	asks.read(where)
	if d.entries, err = s.Extractor.ExtractOf(rec.Key, doc.Root(), asks.sorted()); err != nil {
		return false, nil
	}
	d.unread = false
	if asks.hops {
		d.targets = s.targetsOf(rec.Key, doc.Root())
	}
	return p.proves(ctx, where, d, true)
}

// conditionOn is what of a resource a condition looks at.
type conditionOn struct {
	numbers []uint16 // of the resource's own parameters
	hops    bool     // and what it refers to
}

func (c *conditionOn) read(node plan.Node) {
	switch n := node.(type) {
	case plan.And:
		for _, part := range n {
			c.read(part)
		}
	case plan.Or:
		for _, part := range n {
			c.read(part)
		}
	case plan.Not:
		c.read(n.Of)
	case plan.Term:
		c.numbers = append(c.numbers, n.Param.Number())
	case plan.Range:
		c.numbers = append(c.numbers, n.Param.Number())
	case plan.Contains:
		c.numbers = append(c.numbers, n.Param.Number())
	case plan.Chain:
		c.hops = true
		for _, p := range n.Params {
			c.numbers = append(c.numbers, p.Number())
		}
	}
}

func (c *conditionOn) sorted() []uint16 {
	slices.Sort(c.numbers)
	return slices.Compact(c.numbers)
}

// meetsPage is how many versions of one resource meets asks for at a time.
const meetsPage = 64

// meets reports whether one version meets a condition of its type.
func (s *Session) meets(ctx context.Context, view store.View, rec store.Record, where plan.Node) (bool, error) {
	q := store.HistoryQuery{
		Key: rec.Key, Where: []plan.Arm{{Type: rec.Key.Type, Where: where}}, Limit: meetsPage,
		Low: rec.Updated, High: rec.Updated.Add(time.Millisecond),
	}
	for {
		page, err := view.History(ctx, q)
		if err != nil {
			return false, err
		}
		for _, found := range page.Records {
			if found.Version == rec.Version {
				return true, nil
			}
		}
		if page.Next == nil {
			return false, nil
		}
		q.After = page.Next
	}
}
