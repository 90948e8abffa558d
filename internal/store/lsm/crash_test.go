package lsm_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// crashClones is how many copies of the file system a run of TestCrashMixed
// takes, each as a power failure would leave it: TARN_CRASH_CLONES, else 40.
func crashClones(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TARN_CRASH_CLONES")
	if text == "" {
		return 40
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("TARN_CRASH_CLONES: %q is not a count", text)
	}
	return n
}

// acked is what was acknowledged at some time.
type acked struct{ pairs, purged, imported, reindexed int64 }

// mixed is a store under everything at once.
type mixed struct {
	t      *testing.T
	s      *lsm.Store
	enough atomic.Bool

	pairs, purged, imported, reindexed atomic.Int64
}

func (m *mixed) acked() acked {
	return acked{m.pairs.Load(), m.purged.Load(), m.imported.Load(), m.reindexed.Load()}
}

// forever calls do until there are enough crashes, and keeps its count.
func (m *mixed) forever(count *atomic.Int64, do func(ctx context.Context, n int64) error) {
	for n := int64(0); !m.enough.Load(); n++ {
		if err := do(m.t.Context(), n); err != nil {
			m.t.Error(err)
			m.enough.Store(true)
			return
		}
		if count != nil {
			count.Store(n + 1)
		}
	}
}

// pair commits two resources at once.
func (m *mixed) pair(ctx context.Context, n int64) error {
	body := fmt.Sprintf(`{"n":%d}`, n)
	_, err := m.s.Commit(ctx, []store.Op{
		put(patient(fmt.Sprint("a", n)), body, name("both")), put(patient(fmt.Sprint("b", n)), body, name("both")),
		put(patient(fmt.Sprint("often", n%7)), body, name("often")),
	})
	return err
}

// purge makes a resource and takes it away for good.
func (m *mixed) purge(ctx context.Context, n int64) error {
	key := patient(fmt.Sprint("gone", n))
	_, err := m.s.Commit(ctx, []store.Op{put(key, "{}", name("gone"))})
	if err == nil {
		_, err = m.s.Commit(ctx, []store.Op{{Kind: store.Purge, Key: key}})
	}
	return err
}

// importPiece is how many resources an Add of the import brings.
const importPiece = 25

// piece brings a piece of an import and flushes it, with its number as the cursor.
func (m *mixed) piece(part store.Part) func(context.Context, int64) error {
	return func(ctx context.Context, n int64) error {
		var ops []store.Op
		for i := range importPiece {
			ops = append(ops, put(patient(fmt.Sprintf("im%d-%d", n, i)), "{}", name("imported")))
		}
		return errors.Join(part.Add(ctx, ops, binary.BigEndian.AppendUint64(nil, uint64(n+1))), part.Flush(ctx))
	}
}

// reindex gives a resource one more entry.
func (m *mixed) reindex(ctx context.Context, n int64) error {
	key := patient(fmt.Sprint("re", n))
	if _, err := m.s.Commit(ctx, []store.Op{put(key, "{}", name("plain"))}); err != nil {
		return err
	}
	done, err := m.s.Reindex(ctx, []store.Reentry{{Key: key, Version: 1, Entries: []plan.Entry{name("plain"), name("reindexed")}}})
	if err == nil && !done[0] {
		err = errors.New("a reindex was not carried out")
	}
	return err
}

// order does what operators do: puts files in order, scrubs, backs up, and
// exchanges the data key to and fro.
func (m *mixed) order(keys ...seal.DataKey) func(context.Context, int64) error {
	return func(ctx context.Context, n int64) error {
		switch n % 4 {
		case 0:
			return m.s.Compact(ctx)
		case 1:
			return m.s.Scrub(ctx)
		case 2:
			_, err := m.s.Backup(ctx, &shelf{kept: map[string][]byte{}})
			return err
		}
		return errors.Join(m.s.Rekey(ctx, keys[n/4%int64(len(keys))]), m.s.Reseal(ctx))
	}
}

// Commits, purges, an import, a reindex, compactions, scrubs, backups and
// exchanges of the data key go on at once; at syncs, renames and removals the power
// fails in a copy, which loses everything that was not synced, or some of
// it. Each copy opens, agrees with itself, has all that was
// acknowledged, and no half of anything.
func TestCrashMixed(t *testing.T) {
	type clone struct {
		fs    *vfs.MemFS
		acked acked
	}
	var mu sync.Mutex
	var clones []clone
	events, want, random := 0, crashClones(t), rand.New(rand.NewPCG(1, 2))
	m := &mixed{t: t}
	var watching atomic.Bool
	mem := vfs.NewCrashableMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpRename, errorfs.OpRemove, errorfs.OpLink:
			mu.Lock()
			defer mu.Unlock()
			if events++; watching.Load() && events%23 == 0 && len(clones) < want {
				before := m.acked()
				clones = append(clones, clone{mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: len(clones) % 3 * 40, RNG: random}), before})
				if len(clones) == want {
					m.enough.Store(true)
				}
			}
		}
		return nil
	}))
	opts := memory(fs)
	opts.BlockRows, opts.MemTableBytes = 64, 256<<10
	e := engine(t, opts)
	e.TakeEveryWay()
	m.s = made(t, e)
	im, err := m.s.Import(t.Context(), "im")
	if err != nil {
		t.Fatal(err)
	}
	part, err := im.Part(t.Context(), "part")
	if err != nil {
		t.Fatal(err)
	}
	watching.Store(true)
	keys := []seal.DataKey{otherKey(t), testKey(t)}
	var all sync.WaitGroup
	all.Go(func() { m.forever(&m.pairs, m.pair) })
	all.Go(func() { m.forever(&m.purged, m.purge) })
	all.Go(func() { m.forever(&m.imported, m.piece(part)) })
	all.Go(func() { m.forever(&m.reindexed, m.reindex) })
	all.Go(func() { m.forever(nil, m.order(keys...)) })
	all.Wait()
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d crashes; acknowledged: %+v", len(clones), m.acked())
	for i, c := range clones {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			e := engine(t, memory(c.fs))
			survived(t, openedUnder(t, e, keys...), c.acked)
		})
	}
}

// survived holds a store after a crash against what was acknowledged before it.
func survived(t *testing.T, s *lsm.Store, before acked) {
	t.Helper()
	mustCheck(t, s)
	counted := func(what string) int64 { return count(t, s, plan.Term{Param: 7, Value: []byte(what)}) }
	if n := counted("both"); n < 2*before.pairs || n%2 != 0 {
		t.Errorf("%d resources of pairs, %d were acknowledged", n, 2*before.pairs)
	}
	if n := counted("reindexed"); n < before.reindexed || n > counted("plain") {
		t.Errorf("%d resources are reindexed of %d, %d were acknowledged", n, counted("plain"), before.reindexed)
	}
	if n := counted("gone"); n > 1 {
		t.Errorf("%d purged resources are found", n)
	}
	view := viewed(t, s, "")
	for n := range before.purged {
		if rec, err := view.Get(t.Context(), patient(fmt.Sprint("gone", n))); !fault.Is(err, fault.NotFound) {
			t.Errorf("purged resource %d: %+v, %v", n, rec, err)
		}
	}
	im, err := s.Import(t.Context(), "im")
	if err != nil {
		t.Fatal(err)
	}
	part, err := im.Part(t.Context(), "part")
	if err != nil {
		t.Fatal(err)
	}
	var pieces int64
	if cursor := part.Cursor(); cursor != nil {
		pieces = int64(binary.BigEndian.Uint64(cursor))
	}
	if n := counted("imported"); pieces < before.imported || n != pieces*importPiece {
		t.Errorf("%d resources were imported, the cursor stands behind %d pieces, %d were acknowledged", n, pieces, before.imported)
	}
	commit(t, s, put(patient("after"), "{}", name("after")))
	if n := counted("after"); n != 1 {
		t.Errorf("a commit after the crash is found %d times", n)
	}
}

// A disk that cannot be read now and then gives errors, never another answer, and
// neither ends the store nor harms it.
func TestReadErrors(t *testing.T) {
	var failing atomic.Bool
	var reads atomic.Int64
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing.Load() && (op.Kind == errorfs.OpFileReadAt || op.Kind == errorfs.OpOpen) && reads.Add(1)%3 == 0 {
			return errorfs.ErrInjected
		}
		return nil
	}))
	opts := memory(fs)
	opts.BlockRows, opts.Log, opts.CacheBytes = 64, discard, 1 // nothing stays in the cache
	e := engine(t, opts)
	s := made(t, e)
	const n = 300
	for i := range n {
		commit(t, s, put(patient(fmt.Sprint("r", i)), fmt.Sprintf(`{"n":%d}`, i), name("all"), name(fmt.Sprint(i%3))))
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, e, s)
	failing.Store(true)
	failed := 0
	for i := range n {
		view := viewed(t, s, "")
		rec, err := view.Get(t.Context(), patient(fmt.Sprint("r", i)))
		if err == nil && string(rec.Body) != fmt.Sprintf(`{"n":%d}`, i) {
			t.Fatalf("resource %d reads %q", i, rec.Body)
		}
		total, countErr := view.Count(t.Context(), &plan.Plan{Arms: []plan.Arm{{Type: 1, Where: plan.Term{Param: 7, Value: []byte("all")}}}})
		if countErr == nil && total != n {
			t.Fatalf("%d resources are counted, not %d", total, n)
		}
		for _, err := range []error{err, countErr} {
			if err != nil {
				failed++
				if !fault.Is(err, fault.Internal) {
					t.Fatalf("a read error is %v", err)
				}
			}
		}
	}
	failing.Store(false)
	if failed == 0 {
		t.Error("no read failed: this test injects nothing")
	}
	if total := count(t, s, plan.Term{Param: 7, Value: []byte("all")}); total != n {
		t.Errorf("%d resources, %d were written", total, n)
	}
	commit(t, s, put(patient("after"), "{}"))
	mustCheck(t, s)
}
