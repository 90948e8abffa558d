package oracle_test

import (
	"bytes"
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

// store puts a world into a new store, oldest first, each resource at its time.
// Some have a version before that says what another resource says, and some
// leave a deleted copy of theirs behind: none of it may be found.
func (e *engine) store(t *testing.T, rng *rand.Rand, w *world) store.Store {
	t.Helper()
	e.count++
	id := store.ID(fmt.Sprintf("world-%d", e.count))
	err := e.Create(t.Context(), id, e.key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Open(t.Context(), id, e.key)
	if err != nil {
		t.Fatal(err)
	}
	if s.HashKey() != hashKey {
		t.Fatal("the store has a hash key of its own")
	}
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
		e.commit(t, s, store.Op{Kind: store.Put, Key: c.Key, Body: c.Body, Entries: c.Entries})
	}
	return s
}

func (e *engine) commit(t *testing.T, s store.Store, op store.Op) {
	t.Helper()
	if _, err := s.Commit(t.Context(), []store.Op{op}); err != nil {
		t.Fatal(err)
	}
}

// inStore is what the engine finds: newest first, which is the world's order.
func (w *world) inStore(t *testing.T, p *plan.Plan) []plan.Key {
	t.Helper()
	view, err := w.stored.View(t.Context(), "")
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
