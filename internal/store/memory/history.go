package memory

import (
	"context"
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// History implements store.View.
func (v *view) History(ctx context.Context, q store.HistoryQuery) (store.Page, error) {
	const op = "memory.History"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return store.Page{}, err
	}
	defer leave()
	if q.Limit < 0 {
		return store.Page{}, fault.New(fault.Invalid, op, "a limit below zero")
	}
	if err := store.CheckArms(op, q.Where); err != nil {
		return store.Page{}, err
	}
	world := v.store.data.world(v.commit)
	var rows []row
	for key := range v.store.data.resources {
		if !inScope(q, key) {
			continue
		}
		for _, found := range v.versions(key, world, q) {
			rows = append(rows, row{found, historyPlace(found, q.OldestFirst)})
		}
	}
	return cut(op, rows, pageOf{after: q.After, limit: q.Limit, total: q.Total})
}

func historyPlace(v *version, oldestFirst bool) place {
	if oldestFirst {
		return place{Order: -int64(v.order)}
	}
	return place{Order: int64(v.order)}
}

// inScope reports whether a query is about this resource.
func inScope(q store.HistoryQuery, key plan.Key) bool {
	switch {
	case q.Key.ID != "":
		return key == q.Key
	case q.Types == nil:
		return key.Type < plan.SystemTypes
	default:
		return slices.Contains(q.Types, key.Type)
	}
}

// versions are those of one resource that a query asks for.
func (v *view) versions(key plan.Key, world *World, q store.HistoryQuery) []*version {
	var found []*version
	all := v.store.data.resources[key]
	for i, version := range all {
		if version.commit > v.commit {
			break
		}
		var until time.Time // when it was succeeded; zero: not yet
		if i+1 < len(all) && all[i+1].commit <= v.commit {
			until = all[i+1].Updated
		}
		candidate := version.candidate()
		if version.Deleted && i > 0 {
			candidate.Entries, candidate.Body = all[i-1].entries, all[i-1].Body
		}
		if (plan.Updated{Low: q.Low, High: q.High}).Holds(version.Updated) &&
			wasCurrent(version.Updated, until, q.AtLow, q.AtHigh) &&
			(q.Where == nil || world.Matches(q.Where, candidate)) {
			found = append(found, version)
		}
	}
	return found
}

// wasCurrent reports whether [from, until) and [low, high) share an instant; a
// zero end is open. A version succeeded in its own millisecond was current at
// no time.
func wasCurrent(from, until, low, high time.Time) bool {
	if low.IsZero() && high.IsZero() {
		return true
	}
	begin, end := later(from, low), until
	if end.IsZero() || !high.IsZero() && high.Before(end) {
		end = high
	}
	return end.IsZero() || begin.Before(end)
}
