//go:build unix

package oracle_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

// engine is an embedded engine in memory, with blocks so small that a world
// has several, and a clock that the test sets.
type engine struct {
	*lsm.Engine
	key   seal.DataKey
	now   time.Time
	count int
}

// sameHashKey gives each new store the hash key of the test.
type sameHashKey struct{}

func (sameHashKey) Read(p []byte) (int, error) { return copy(p, hashKey[:]), nil }

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{}
	var err error
	e.Engine, err = lsm.New(lsm.Options{
		Root: "data", FS: vfs.NewMem(), BlockRows: 64, CacheBytes: 8 << 20, MemTableBytes: 1 << 20, Rand: sameHashKey{},
		Clock: func() time.Time { return e.now },
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if e.key, err = seal.NewDataKey(bytes.NewReader(bytes.Repeat([]byte{9}, 64))); err != nil {
		t.Fatal(err)
	}
	return e
}

// store puts a world into a new store, oldest first, each resource at its time: by
// commits, through the bulk door, or under wrong entries that are indexed anew.
// Some have a version before that says what another resource says, and some leave
// a deleted copy of theirs behind; the store is closed and opened, and put into
// order, in between. What comes behind the world's moment (rewrites, deletions,
// new copies) must not be found at it.
func (e *engine) store(t *testing.T, rng *rand.Rand, w *world) {
	t.Helper()
	e.count++
	id := store.ID(fmt.Sprintf("world-%d", e.count))
	if err := e.Create(t.Context(), id, e.key); err != nil {
		t.Fatal(err)
	}
	s := e.open(t, id)
	for i := len(w.entries) - 1; i >= 0; i-- {
		c := w.entries[i]
		e.now = c.Updated.Add(-time.Minute)
		if rng.IntN(5) == 0 {
			e.commit(t, s, store.Op{Kind: store.Put, Key: c.Key, Body: []byte("{}"), Entries: w.entries[rng.IntN(len(w.entries))].Entries})
		}
		if rng.IntN(10) == 0 {
			gone := plan.Key{Type: c.Key.Type, ID: fmt.Sprintf("gone-%d", i)}
			e.commit(t, s, store.Op{Kind: store.Put, Key: gone, Body: []byte("{}"), Entries: c.Entries})
			e.commit(t, s, store.Op{Kind: store.Delete, Key: gone})
		}
		e.now = c.Updated
		e.put(t, rng, s, c, w.entries[rng.IntN(len(w.entries))].Entries)
		if rng.IntN(60) == 0 {
			s = e.again(t, rng, id, s)
		}
	}
	w.stored, w.id, w.moment = s, id, momentOf(t, s)
	e.now = now.Add(time.Hour)
	for range rng.IntN(20) {
		c, other := w.entries[rng.IntN(len(w.entries))], w.entries[rng.IntN(len(w.entries))]
		switch rng.IntN(3) {
		case 0:
			e.commit(t, s, store.Op{Kind: store.Delete, Key: c.Key})
		case 1:
			e.commit(t, s, store.Op{Kind: store.Put, Key: c.Key, Body: other.Body, Entries: other.Entries})
		default:
			late := plan.Key{Type: c.Key.Type, ID: fmt.Sprintf("late-%d", rng.IntN(9))}
			e.commit(t, s, store.Op{Kind: store.Put, Key: late, Body: c.Body, Entries: c.Entries})
		}
	}
}

func momentOf(t *testing.T, s store.Store) store.Moment {
	t.Helper()
	view, err := s.View(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	return view.Moment()
}

func (e *engine) open(t *testing.T, id store.ID) store.Store {
	t.Helper()
	s, err := e.Open(t.Context(), id, e.key)
	if err != nil {
		t.Fatal(err)
	}
	if s.HashKey() != hashKey {
		t.Fatal("the store has a hash key of its own")
	}
	return s
}

// again closes and opens the store, or puts its files into order.
func (e *engine) again(t *testing.T, rng *rand.Rand, id store.ID, s store.Store) store.Store {
	t.Helper()
	if compacter, ok := s.(store.Compacter); ok && rng.IntN(2) == 0 {
		if err := compacter.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return e.open(t, id)
}

// put writes a resource's current version in one of the ways there are.
func (e *engine) put(t *testing.T, rng *rand.Rand, s store.Store, c memory.Candidate, wrong []plan.Entry) {
	t.Helper()
	op := store.Op{Kind: store.Put, Key: c.Key, Body: c.Body, Entries: c.Entries}
	switch rng.IntN(6) {
	case 0, 1:
		e.load(t, s, op)
	case 2:
		op.Entries = wrong
		out := e.commit(t, s, op)
		done, err := s.Reindex(t.Context(), []store.Reentry{{Key: c.Key, Version: out.Version, Entries: c.Entries}})
		if err != nil || !done[0] {
			t.Fatalf("indexed anew: %v, %v", done, err)
		}
	default:
		e.commit(t, s, op)
	}
}

// load takes the bulk door.
func (e *engine) load(t *testing.T, s store.Store, op store.Op) {
	t.Helper()
	ctx := t.Context()
	imp, err := s.Import(ctx, "load")
	if err != nil {
		t.Fatal(err)
	}
	part, err := imp.Part(ctx, "part")
	if err == nil {
		err = part.Add(ctx, []store.Op{op}, []byte("here"))
	}
	if err == nil {
		err = part.Flush(ctx)
	}
	if err := errors.Join(err, imp.Close(ctx)); err != nil {
		t.Fatal(err)
	}
}

// drop lets go of a world's store.
func (e *engine) drop(t *testing.T, w *world) {
	t.Helper()
	if err := errors.Join(w.stored.Close(), e.Drop(t.Context(), w.id)); err != nil {
		t.Fatal(err)
	}
}

func (e *engine) commit(t *testing.T, s store.Store, op store.Op) store.Outcome {
	t.Helper()
	out, err := s.Commit(t.Context(), []store.Op{op})
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// inStore is what the engine finds: newest first, which is the world's order.
func (w *world) inStore(t *testing.T, p *plan.Plan) []plan.Key {
	t.Helper()
	view, err := w.stored.View(t.Context(), w.moment)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := view.Close(); err != nil {
			t.Error(err)
		}
	}()
	all := *p
	all.Limit, all.Total = 2*worldSize, plan.TotalExact
	page, err := view.Search(t.Context(), &all)
	if err != nil {
		t.Fatal(err)
	}
	if page.Total != int64(len(page.Records)) {
		t.Errorf("%d are found, and said to be %d", len(page.Records), page.Total)
	}
	var found []plan.Key
	for _, r := range page.Records {
		found = append(found, r.Key)
	}
	return found
}
