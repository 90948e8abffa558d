package memory

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// matchesCut is how many matches of a plan a condition looks at (store.Matches).
const matchesCut = 2

// Commit implements store.Store.
func (h *handle) Commit(ctx context.Context, ops []store.Op) ([]store.Outcome, error) {
	const op = "memory.Commit"
	if err := h.ready(ctx, op); err != nil {
		return nil, err
	}
	if err := store.CheckCommit(op, ops); err != nil {
		return nil, err
	}
	d := h.data
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := h.ready(ctx, op); err != nil {
		return nil, err
	}
	if unmet := d.judge(ops); unmet != nil {
		return nil, unmet
	}
	return d.apply(ops), nil
}

// judge finds the first precondition that does not hold now.
func (d *data) judge(ops []store.Op) *store.Unmet {
	for i, op := range ops {
		for j, cond := range op.If {
			current := d.at(op.Key, d.commits)
			matched, ok := d.meets(cond, current)
			if ok {
				continue
			}
			unmet := &store.Unmet{Op: i, Condition: j, Matched: matched}
			if current != nil {
				unmet.Current, unmet.Deleted = current.Version, current.Deleted
			}
			return unmet
		}
	}
	return nil
}

// meets judges one condition; for Matches it says what the plan found.
func (d *data) meets(cond store.Condition, current *version) ([]plan.Key, bool) {
	alive := current != nil && !current.Deleted
	switch cond.Kind {
	case store.AtVersion:
		return nil, alive && current.Version == cond.Version
	case store.Exists:
		return nil, alive
	case store.Absent:
		return nil, !alive
	case store.Never:
		return nil, current == nil
	default: // Matches; store.CheckCommit refuses others
		found := d.firstMatches(cond.Plan)
		return found, sameKeys(found, cond.Keys)
	}
}

// firstMatches are the newest matches of a plan, cut at two.
func (d *data) firstMatches(p *plan.Plan) []plan.Key {
	world := d.world(d.commits)
	var found []*version
	for _, v := range d.current(d.commits) {
		if world.Matches(p.Arms, v.candidate()) {
			found = append(found, v)
		}
	}
	slices.SortFunc(found, func(a, b *version) int { return cmp.Compare(b.order, a.order) })
	var keys []plan.Key
	for _, v := range found[:min(len(found), matchesCut)] {
		keys = append(keys, v.Key)
	}
	return keys
}

// sameKeys compares without regard to order; neither has a key twice.
func sameKeys(a, b []plan.Key) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(k plan.Key) bool { return !slices.Contains(b, k) })
}

// apply carries out ops as one commit. A key may be in it more than once
// (imports): each op sees what those before it made.
func (d *data) apply(ops []store.Op) []store.Outcome {
	before := d.last
	d.commits++
	d.last = later(d.clock().Truncate(time.Millisecond).UTC(), before)
	outcomes := make([]store.Outcome, len(ops))
	for i, op := range ops {
		outcomes[i] = d.applyOne(op)
	}
	if !slices.ContainsFunc(outcomes, func(o store.Outcome) bool { return o.Changed }) {
		d.commits, d.last = d.commits-1, before
		return outcomes
	}
	close(d.changed)
	d.changed = make(chan struct{})
	return outcomes
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (d *data) applyOne(op store.Op) store.Outcome {
	current := d.at(op.Key, d.commits)
	alive := current != nil && !current.Deleted
	switch {
	case op.Kind == store.Put:
		v := d.add(op, current)
		return store.Outcome{Version: v.Version, Updated: v.Updated, Created: !alive, Changed: true}
	case op.Kind == store.Delete && alive:
		v := d.add(op, current)
		return store.Outcome{Version: v.Version, Updated: v.Updated, Changed: true}
	case op.Kind == store.Purge:
		return store.Outcome{Changed: d.purge(op.Key)}
	case current == nil:
		return store.Outcome{}
	default: // Check, or Delete of what is deleted
		return store.Outcome{Version: current.Version, Updated: current.Updated}
	}
}

// add makes the next version of a resource.
func (d *data) add(op store.Op, current *version) *version {
	d.order++
	v := &version{order: d.order, commit: d.commits, entries: cloneEntries(op.Entries)}
	v.Record = store.Record{
		Key: op.Key, Version: 1, Updated: d.last, Created: d.last,
		Deleted: op.Kind == store.Delete, Tag: op.Tag, Body: bytes.Clone(op.Body),
	}
	if current != nil {
		v.Version, v.Created = current.Version+1, current.Created
	}
	d.resources[op.Key] = append(d.resources[op.Key], v)
	d.log = append(d.log, logged{commit: d.commits, key: op.Key, version: v})
	return v
}

func (d *data) purge(key plan.Key) bool {
	if len(d.resources[key]) == 0 {
		return false
	}
	delete(d.resources, key)
	d.log = slices.DeleteFunc(d.log, func(l logged) bool { return l.key == key && l.version != nil })
	d.log = append(d.log, logged{commit: d.commits, key: key})
	return true
}

func cloneEntries(entries []plan.Entry) []plan.Entry {
	kept := make([]plan.Entry, len(entries))
	for i, e := range entries {
		kept[i] = plan.Entry{Param: e.Param, Value: bytes.Clone(e.Value)}
	}
	return kept
}
