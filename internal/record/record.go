// Package record keeps the server's own documents in the system store: data
// store records, jobs, idempotency tokens, principals.
//
//	plan.Key{Type, ID} → JSON of T, with entries that T names for listing
//
// The system store is a data store like any other, of the same engine, under a
// key of the server's own: there is no third persistence layer. A Kind says how
// one Go type is kept; Get, Create, Update, Delete and List work on it. Update
// is optimistic: it runs its function again when another writer came first.
package record

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// The document types of the system store. Numbers are persisted: never reuse.
const (
	TypeDatastore = plan.SystemTypes + iota
	TypeClientToken
	TypeJob
	TypePrincipal
	TypePolicy
	TypeDataKey
)

// Kind says how documents of one Go type are kept.
type Kind[T any] struct {
	Type plan.Type
	// Entries are the index entries of a document; nil for none.
	Entries func(*T) []plan.Entry
}

// maxAttempts bounds how often Update runs its function when others keep
// writing the same document.
const maxAttempts = 32

// Get reads one document; fault.NotFound when it is absent or deleted.
func (k Kind[T]) Get(ctx context.Context, s store.Store, id string) (*T, error) {
	doc, _, err := k.read(ctx, s, id)
	return doc, err
}

func (k Kind[T]) read(ctx context.Context, s store.Store, id string) (*T, uint64, error) {
	view, err := s.View(ctx, "")
	if err != nil {
		return nil, 0, err
	}
	defer view.Close()
	rec, err := view.Get(ctx, plan.Key{Type: k.Type, ID: id})
	if err != nil {
		return nil, 0, err
	}
	if rec.Deleted {
		return nil, 0, &fault.Error{Kind: fault.NotFound, Op: "record.Get", Subject: id}
	}
	doc, err := decode[T](rec.Body)
	return doc, rec.Version, err
}

func decode[T any](body []byte) (*T, error) {
	doc := new(T)
	if err := json.Unmarshal(body, doc); err != nil {
		return nil, fault.Wrap(fault.Internal, "record.decode", err)
	}
	return doc, nil
}

// Put is the op that makes a document as given, for a commit of several.
func (k Kind[T]) Put(id string, doc *T, conditions ...store.Condition) (store.Op, error) {
	body, err := json.Marshal(doc)
	if err != nil {
		return store.Op{}, fault.Wrap(fault.Internal, "record.Put", err)
	}
	op := store.Op{Kind: store.Put, Key: plan.Key{Type: k.Type, ID: id}, Body: body, If: conditions}
	if k.Entries != nil {
		op.Entries = k.Entries(doc)
	}
	return op, nil
}

// Create keeps a new document; fault.Conflict when the id was ever taken.
func (k Kind[T]) Create(ctx context.Context, s store.Store, id string, doc *T) error {
	op, err := k.Put(id, doc, store.Condition{Kind: store.Never})
	if err != nil {
		return err
	}
	_, err = s.Commit(ctx, []store.Op{op})
	if _, unmet := errors.AsType[*store.Unmet](err); unmet {
		return &fault.Error{Kind: fault.Conflict, Op: "record.Create", Subject: id, Detail: "it exists already"}
	}
	return err
}

// Update changes one document by a function, which may run several times and
// refuse by an error. The document as kept is returned.
func (k Kind[T]) Update(ctx context.Context, s store.Store, id string, change func(*T) error) (*T, error) {
	return k.UpdateWith(ctx, s, id, nil, change)
}

// UpdateWith is Update with more ops in the same commit; a condition of theirs
// that is not met ends the update with that *store.Unmet.
func (k Kind[T]) UpdateWith(ctx context.Context, s store.Store, id string, with []store.Op, change func(*T) error) (*T, error) {
	for range maxAttempts {
		doc, version, err := k.read(ctx, s, id)
		if err != nil {
			return nil, err
		}
		if err := change(doc); err != nil {
			return nil, err
		}
		op, err := k.Put(id, doc, store.Condition{Kind: store.AtVersion, Version: version})
		if err != nil {
			return nil, err
		}
		_, err = s.Commit(ctx, append([]store.Op{op}, with...))
		if unmet, ok := errors.AsType[*store.Unmet](err); ok && unmet.Op == 0 {
			continue
		}
		return doc, err
	}
	return nil, &fault.Error{Kind: fault.Conflict, Op: "record.Update", Subject: id, Detail: "too many writers at once"}
}

// Purge takes a document away with all its versions.
func (k Kind[T]) Purge(ctx context.Context, s store.Store, id string) error {
	_, err := s.Commit(ctx, []store.Op{{Kind: store.Purge, Key: plan.Key{Type: k.Type, ID: id}}})
	return err
}

// Page is a piece of a list.
type Page[T any] struct {
	Docs   []*T
	Moment store.Moment
	Next   []byte // nil at the end
}

// Query asks for documents of a kind.
type Query struct {
	Where plan.Node // nil is all
	Sort  []plan.Sort
	At    store.Moment // of the page before; zero is now
	After []byte
	Limit int
}

// List gives documents that match.
func (k Kind[T]) List(ctx context.Context, s store.Store, q Query) (Page[T], error) {
	view, err := s.View(ctx, q.At)
	if err != nil {
		return Page[T]{}, err
	}
	defer view.Close()
	found, err := view.Search(ctx, &plan.Plan{
		Arms: []plan.Arm{{Type: k.Type, Where: q.Where}}, Sort: q.Sort, After: q.After, Limit: q.Limit,
	})
	if err != nil {
		return Page[T]{}, err
	}
	page := Page[T]{Moment: view.Moment(), Next: found.Next, Docs: make([]*T, 0, len(found.Records))}
	for _, rec := range found.Records {
		doc, err := decode[T](rec.Body)
		if err != nil {
			return Page[T]{}, err
		}
		page.Docs = append(page.Docs, doc)
	}
	return page, nil
}

// listPage is how many documents All reads at a time.
const listPage = 500

// All gives every document that matches, as of one moment.
func (k Kind[T]) All(ctx context.Context, s store.Store, where plan.Node) ([]*T, error) {
	var docs []*T
	q := Query{Where: where, Limit: listPage}
	for {
		page, err := k.List(ctx, s, q)
		if err != nil {
			return nil, err
		}
		docs = append(docs, page.Docs...)
		if page.Next == nil {
			return docs, nil
		}
		q.At, q.After = page.Moment, page.Next
	}
}

// Keys gives the ids of every document that matches.
func (k Kind[T]) Keys(ctx context.Context, s store.Store, where plan.Node) ([]string, error) {
	view, err := s.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	var ids []string
	p := &plan.Plan{Arms: []plan.Arm{{Type: k.Type, Where: where}}, Limit: listPage}
	for {
		page, err := view.Search(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, rec := range page.Records {
			ids = append(ids, rec.Key.ID)
		}
		if page.Next == nil {
			return ids, nil
		}
		p.After = page.Next
	}
}

// Text is the entry of a text, looked up with Is.
func Text(number uint16, s string) plan.Entry {
	return plan.Entry{Param: plan.NewParam(number, 0), Value: []byte(cut(s))}
}

// Is matches documents with that Text entry.
func Is(number uint16, s string) plan.Node {
	return plan.Term{Param: plan.NewParam(number, 0), Value: []byte(cut(s))}
}

func cut(s string) string {
	return s[:min(len(s), plan.MaxValueBytes)]
}

// Time is the entry of a time in milliseconds, looked up with Before and From
// and sorted by ByTime.
func Time(number uint16, t time.Time) plan.Entry {
	return plan.Entry{Param: plan.NewParam(number, 0), Value: timeBytes(t)}
}

func timeBytes(t time.Time) []byte {
	ms := uint64(t.UnixMilli()) ^ 1<<63
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(ms >> (56 - 8*i))
	}
	return b
}

// Before matches documents whose Time entry is earlier than t.
func Before(number uint16, t time.Time) plan.Node {
	return plan.Range{Param: plan.NewParam(number, 0), High: timeBytes(t)}
}

// From matches documents whose Time entry is t or later.
func From(number uint16, t time.Time) plan.Node {
	return plan.Range{Param: plan.NewParam(number, 0), Low: timeBytes(t)}
}

// ByTime sorts by a Time entry.
func ByTime(number uint16, desc bool) plan.Sort {
	return plan.Sort{By: plan.ByParam, Desc: desc, Params: []plan.Param{plan.NewParam(number, 0)}}
}
