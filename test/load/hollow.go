package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
)

// systemStore is the store of the server's own records, the only one that is
// kept.
const systemStore store.ID = "system"

// hollow is an engine that keeps nothing: a commit is acknowledged and
// forgotten, and every question has the answer that was learned from a real
// server. What a server costs over it is all that is not the store.
type hollow struct {
	store.Engine // keeps the system store
	answers      func(store.ID) *answers
}

// Open implements store.Engine.
func (h hollow) Open(ctx context.Context, id store.ID, key seal.DataKey) (store.Store, error) {
	kept, err := h.Engine.Open(ctx, id, key)
	if err != nil || id == systemStore {
		return kept, err
	}
	return hollowStore{kept, h.answers(id)}, nil
}

// answers are what one operation is answered with.
type answers struct {
	Name     string            // of the operation
	Matches  []json.RawMessage // resources; a read gives the first
	Includes []json.RawMessage
	Total    int64
	More     bool // there is a next page

	matches, includes []store.Record
}

// pageToken is as long as what the embedded engine goes on from.
var pageToken = make([]byte, 24)

// prepare makes records of the resources.
func (a *answers) prepare(r *searchparam.Registry) (err error) {
	if a.matches, err = records(r, a.Matches); err != nil {
		return err
	}
	a.includes, err = records(r, a.Includes)
	return err
}

func records(r *searchparam.Registry, resources []json.RawMessage) ([]store.Record, error) {
	list := make([]store.Record, len(resources))
	for i, raw := range resources {
		doc, err := fhir.Parse(raw)
		if err != nil {
			return nil, err
		}
		t, known := r.Type(doc.ResourceType())
		if !known {
			return nil, fmt.Errorf("an answer holds a %q", doc.ResourceType())
		}
		body, err := fhir.Store(doc)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		list[i] = store.Record{Key: plan.Key{Type: t, ID: doc.Root().Get("id").Text()}, Version: 1, Updated: now, Created: now, Body: body}
	}
	return list, nil
}

// hollowStore is one data store of the hollow engine.
type hollowStore struct {
	store.Store
	answers *answers
}

// Commit acknowledges.
func (h hollowStore) Commit(_ context.Context, ops []store.Op) ([]store.Outcome, error) {
	out := make([]store.Outcome, len(ops))
	for i := range out {
		out[i] = store.Outcome{Version: 1, Updated: time.Now(), Created: true, Changed: true}
	}
	return out, nil
}

// View implements store.Store.
func (h hollowStore) View(context.Context, store.Moment) (store.View, error) {
	return hollowView{h.answers}, nil
}

// hollowView answers what was learned.
type hollowView struct{ answers *answers }

// Moment is as long as the embedded engine's.
func (hollowView) Moment() store.Moment { return "0000000000000001" }

// Get gives the first resource.
func (h hollowView) Get(context.Context, plan.Key) (store.Record, error) {
	if len(h.answers.matches) == 0 {
		return store.Record{}, &fault.Error{Kind: fault.NotFound}
	}
	return h.answers.matches[0], nil
}

// Search gives the page; a plan that asks by ids is an include's.
func (h hollowView) Search(_ context.Context, p *plan.Plan) (store.Page, error) {
	if len(p.Arms) > 0 {
		if _, byID := p.Arms[0].Where.(plan.IDs); byID {
			return store.Page{Records: h.answers.includes, Total: -1}, nil
		}
	}
	page := store.Page{Records: h.answers.matches, Total: h.answers.Total}
	if h.answers.More {
		page.Next = pageToken
	}
	return page, nil
}

// Count gives the total.
func (h hollowView) Count(context.Context, *plan.Plan) (int64, error) { return h.answers.Total, nil }

// GetVersion is not asked for.
func (hollowView) GetVersion(context.Context, plan.Key, uint64) (store.Record, error) {
	return store.Record{}, &fault.Error{Kind: fault.NotFound}
}

// History is not asked for.
func (hollowView) History(context.Context, store.HistoryQuery) (store.Page, error) {
	return store.Page{Total: -1}, nil
}

// Close has nothing to close.
func (hollowView) Close() error { return nil }
