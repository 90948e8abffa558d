package memory

import (
	"bytes"
	"context"
	"iter"

	"github.com/tarn-fhir/tarn/internal/store"
)

// Follow implements store.Store. When ctx ends, or the store is closed, the
// last thing given is an error that says so.
func (h *handle) Follow(ctx context.Context, after store.Moment) iter.Seq2[store.Change, error] {
	return func(yield func(store.Change, error) bool) {
		const op = "memory.Follow"
		h.data.mu.RLock()
		commit, err := parseMoment(op, after, 0, h.data.commits)
		h.data.mu.RUnlock()
		for err == nil {
			if err = h.ready(ctx, op); err != nil {
				break
			}
			changes, newest, changed := h.data.since(commit)
			for _, c := range changes {
				if err := h.ready(ctx, op); err != nil {
					yield(store.Change{}, err)
					return
				}
				if !yield(c, nil) {
					return
				}
			}
			commit = newest
			h.wait(ctx, changed)
		}
		yield(store.Change{}, err)
	}
}

// since copies the changes after a commit, the number of the newest commit, and
// what will be closed when there is another.
func (d *data) since(commit uint64) ([]store.Change, uint64, <-chan struct{}) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var changes []store.Change
	for _, l := range d.log {
		if l.commit > commit {
			changes = append(changes, l.change())
		}
	}
	return changes, d.commits, d.changed
}

func (l logged) change() store.Change {
	c := store.Change{Moment: moment(l.commit), Purged: l.version == nil}
	c.Key = l.key
	if l.version != nil {
		c.Record = l.version.Record
		c.Body = bytes.Clone(c.Body)
	}
	return c
}

func (h *handle) wait(ctx context.Context, changed <-chan struct{}) {
	select {
	case <-changed:
	case <-ctx.Done():
	case <-h.done:
	}
}
