package lsm_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
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

// openedUnder opens store "s" under the first of some keys that opens it.
func openedUnder(t *testing.T, e *lsm.Engine, keys ...seal.DataKey) *lsm.Store {
	t.Helper()
	var err error
	for _, key := range keys {
		var s store.Store
		if s, err = e.Open(t.Context(), "s", key); err == nil {
			return s.(*lsm.Store)
		}
		if !fault.Is(err, fault.Forbidden) {
			break
		}
	}
	t.Fatal(err)
	return nil
}

// noneUnder fails when a file of the store opens under a key. Files without
// content have none.
func noneUnder(t *testing.T, fs vfs.FS, key seal.DataKey) {
	t.Helper()
	sealed := seal.NewFS(fs, key)
	names := []string{"data/s/STORE"}
	in, err := fs.List("data/s/db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range in {
		names = append(names, "data/s/db/"+name)
	}
	looked := 0
	for _, name := range names {
		info, err := fs.Stat(name)
		if err != nil || info.Size() == 0 {
			continue
		}
		looked++
		if f, err := sealed.Open(name); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s opens under the old key: %v, %v", name, f, err)
		}
	}
	if looked < 4 {
		t.Errorf("only %d files", looked)
	}
	if left, err := fs.List("data/s/reseal"); err == nil {
		t.Errorf("copies are left: %v", left)
	}
}

// fill commits until it is stopped, or so many times.
func fill(t *testing.T, s *lsm.Store, from, to int, stop func() bool, acked func(int)) {
	random := rand.NewChaCha8([32]byte{}) // what does not compress fills several tables
	for i := from; i < to && !stop(); i++ {
		var filler [2000]byte
		random.Read(filler[:])
		body := fmt.Sprintf(`{"n":%d,"f":"%x"}`, i, filler)
		ops := []store.Op{put(patient(fmt.Sprint("a", i)), body, name("both")), put(patient(fmt.Sprint("b", i)), body, name("both"))}
		if _, err := s.Commit(context.Background(), ops); err != nil {
			t.Error(err)
			return
		}
		acked(i + 1)
	}
}

func forever() bool { return false }
func nobody(int)    {}

// The data key is exchanged while commits, an import and compactions go on: at
// every sync of it the power fails in a copy, which opens under one of the two
// keys with all that was acknowledged. Afterwards no file opens under the old.
func TestRekeyUnderLoadCrashAtEverySync(t *testing.T) {
	mem := vfs.NewCrashableMem()
	type clone struct {
		fs   *vfs.MemFS
		acks int64
	}
	var watching atomic.Bool
	var acknowledged atomic.Int64
	var mu sync.Mutex
	var clones []clone
	events := 0
	watch := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpRename, errorfs.OpRemove:
			if watching.Load() {
				mu.Lock()
				defer mu.Unlock()
				if events++; len(clones) < 30 || events%5 == 0 && len(clones) < 40 || strings.Contains(op.Path, "STORE") {
					clones = append(clones, clone{mem.CrashClone(vfs.CrashCloneCfg{}), acknowledged.Load()})
				}
			}
		}
		return nil
	}))
	opts := memory(watch)
	opts.BlockRows, opts.MemTableBytes = 64, 256<<10
	s := made(t, engine(t, opts))
	old, fresh := testKey(t), otherKey(t)
	fill(t, s, 0, 120, forever, nobody)
	acknowledged.Store(120)
	watching.Store(true)
	var writer sync.WaitGroup
	var enough atomic.Bool
	writer.Go(func() { fill(t, s, 120, 100_000, enough.Load, func(n int) { acknowledged.Store(int64(n)) }) })
	for _, err := range []error{s.Rekey(t.Context(), fresh), s.Reseal(t.Context()), s.Reseal(t.Context())} {
		if err != nil {
			t.Error(err)
		}
	}
	enough.Store(true)
	writer.Wait()
	watching.Store(false)
	noneUnder(t, mem, old)
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustCheck(t, s)
	if n := count(t, s, both); n != 2*acknowledged.Load() {
		t.Errorf("%d resources, %d were acknowledged", n, 2*acknowledged.Load())
	}
	mu.Lock()
	defer mu.Unlock()
	if len(clones) < 20 {
		t.Fatalf("only %d crashes", len(clones))
	}
	t.Logf("%d crashes, %d commits", len(clones), acknowledged.Load())
	for i, c := range clones {
		e := engine(t, memory(c.fs))
		after := openedUnder(t, e, fresh, old)
		if n := count(t, after, both); n < 2*c.acks || n%2 != 0 || n > 2*c.acks+2 {
			t.Errorf("crash %d: %d resources, %d were acknowledged", i, n, 2*c.acks)
		}
		mustCheck(t, after)
		if err := after.Rekey(t.Context(), fresh); err != nil {
			t.Errorf("crash %d: Rekey: %v", i, err)
		}
		if err := after.Reseal(t.Context()); err != nil {
			t.Errorf("crash %d: Reseal: %v", i, err)
		}
		commit(t, after, put(patient("after"), "{}"))
		noneUnder(t, c.fs, old)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		mustCheck(t, openedUnder(t, engine(t, memory(c.fs)), fresh))
	}
}

// A failed write leaves a store that goes on, under one of the two keys, and the
// exchange can be asked for again.
func TestRekeyOnAFailingDisk(t *testing.T) {
	mem := vfs.NewMem()
	var left atomic.Int64
	left.Store(1 << 40)
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && (strings.Contains(op.Path, "STORE") || strings.Contains(op.Path, "reseal")) && left.Add(-1) < 0 {
			return errorfs.ErrInjected
		}
		return nil
	}))
	opts := memory(fs)
	opts.MemTableBytes = 256 << 10
	e := engine(t, opts)
	s := made(t, e)
	old, fresh := testKey(t), otherKey(t)
	fill(t, s, 0, 200, forever, nobody)
	failed := 0
	for n := range int64(200) {
		left.Store(n)
		err := s.Rekey(t.Context(), fresh)
		if err == nil {
			err = s.Reseal(t.Context())
		}
		left.Store(1 << 40)
		commit(t, s, put(patient(fmt.Sprint("after", n)), "{}"))
		if err == nil {
			noneUnder(t, mem, old)
			mustCheck(t, s)
			if failed < 5 {
				t.Errorf("only %d places failed", failed)
			}
			return
		}
		failed++
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openedUnder(t, e, fresh, old)
		mustCheck(t, s)
	}
	t.Fatal("the exchange never came to its end")
}

// A backup taken in the middle of an exchange restores under its own key, and so
// does one of before.
func TestBackupWhileRekeyed(t *testing.T) {
	fs := vfs.NewMem()
	e := engine(t, memory(fs))
	s := made(t, e)
	old, fresh := testKey(t), otherKey(t)
	fill(t, s, 0, 30, forever, nobody)
	before := &shelf{kept: map[string][]byte{}, key: old}
	before.take(t, s)
	if err := s.Rekey(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 30, 40, forever, nobody)
	between := &shelf{kept: map[string][]byte{}, key: fresh}
	between.take(t, s)
	if err := s.Reseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	third, err := seal.DataKeyFrom(bytes.Repeat([]byte{3}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	for i, from := range []*shelf{before, between} {
		id := store.ID(fmt.Sprint("restored", i))
		if err := e.Restore(t.Context(), id, third, from); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		opened, err := e.Open(t.Context(), id, third)
		if err != nil {
			t.Fatal(err)
		}
		after := opened.(*lsm.Store)
		mustCheck(t, after)
		if n := count(t, after, both); n != int64(60+20*i) {
			t.Errorf("%s has %d resources", id, n)
		}
	}
}

// both finds what fill and its like write.
var both = plan.Term{Param: 7, Value: []byte("both")}
