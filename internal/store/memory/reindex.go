package memory

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/store"
)

// Reindex implements store.Store.
func (h *handle) Reindex(ctx context.Context, versions []store.Reentry) ([]bool, error) {
	const op = "memory.Reindex"
	if err := h.ready(ctx, op); err != nil {
		return nil, err
	}
	if err := store.CheckReindex(op, versions); err != nil {
		return nil, err
	}
	d := h.data
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := h.ready(ctx, op); err != nil {
		return nil, err
	}
	done := make([]bool, len(versions))
	for i, v := range versions {
		current := d.at(v.Key, d.commits)
		if current == nil || current.Deleted || current.Version != v.Version {
			continue
		}
		current.entries, done[i] = cloneEntries(v.Entries), true
	}
	return done, nil
}
