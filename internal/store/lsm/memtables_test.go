package lsm_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// writeTo commits so many patients of some kilobytes to a store, one after the other.
func writeTo(t *testing.T, s store.Store, who string, commits int) {
	for n := range commits {
		op := put(patient(fmt.Sprint(who, n)), fmt.Sprintf("{%2000s}", ""), name("all"), name(who), name(fmt.Sprint(n)))
		if _, err := s.Commit(t.Context(), []store.Op{op}); err != nil {
			t.Error(err)
			return
		}
	}
}

// The memtables of many stores that are all written to by many keep to one number,
// and those of a store alone become as large as they may.
func TestMemtablesKeepToTheirRoom(t *testing.T) {
	const stores, writers, commits = 16, 4, 500
	opts := memory(vfs.NewMem())
	opts.CacheBytes, opts.MemTableBytes = 32<<20, 2<<20
	e := engine(t, opts)
	all := make([]store.Store, stores)
	for i := range all {
		id := store.ID(fmt.Sprint("s", i))
		if err := e.Create(t.Context(), id, testKey(t)); err != nil {
			t.Fatal(err)
		}
		var err error
		if all[i], err = e.Open(t.Context(), id, testKey(t)); err != nil {
			t.Fatal(err)
		}
	}
	var busy sync.WaitGroup
	for _, s := range all {
		for w := range writers {
			busy.Go(func() { writeTo(t, s, fmt.Sprint("w", w), commits) })
		}
	}
	done := make(chan struct{})
	go func() { busy.Wait(); close(done) }()
	for under := true; under; runtime.Gosched() {
		select {
		case <-done:
			under = false
		default:
		}
		if m := e.Memory(); m.Memtables > m.MemtableRoom || m.Claimed > m.MemtableRoom || m.Memtables > m.Claimed {
			t.Fatalf("%+v", m)
		}
	}
	for _, s := range all[1:] {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	writeTo(t, all[0], "alone", 4000)
	if m, most := e.Memory(), int64(opts.MemTableBytes); m.Claimed != 3*most || m.Memtables < most {
		t.Errorf("%+v: a store alone may have memtables of %d", m, most)
	}
	for _, s := range []string{"w0", "w3"} {
		if n := count(t, all[0].(*lsm.Store), plan.Term{Param: 7, Value: []byte(s)}); n != commits {
			t.Errorf("%d of %d resources by %s are there", n, commits, s)
		}
	}
	mustCheck(t, all[0].(*lsm.Store))
}

// To write a small store's tables at the bottom takes little memory: each would take
// 21 MB with what large stores are packed with.
func TestSmallStoresArePackedWithLittle(t *testing.T) {
	s := made(t, engine(t, memory(vfs.NewMem())))
	for range 2 { // what is written twice is not only moved to the bottom
		commit(t, s, put(patient("a"), "{}", name("a")))
		if _, err := s.Tables(); err != nil { // which flushes
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
		t.Errorf("%d bytes", took)
	}
}

// A store whose memtable had to grow for a large commit crowds the others, until it is
// opened again; small ones never do.
func TestLargeCommitsCrowd(t *testing.T) {
	opts := memory(vfs.NewMem())
	opts.CacheBytes, opts.MemTableBytes = 4<<20, 4<<20
	e := engine(t, opts)
	large := made(t, e)
	if err := e.Create(t.Context(), "small", testKey(t)); err != nil {
		t.Fatal(err)
	}
	small, err := e.Open(t.Context(), "small", testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	writeTo(t, small, "a", 3)
	var ops []store.Op
	for n := range 2000 {
		ops = append(ops, put(patient(fmt.Sprint(n)), "{}", name("all"), name(fmt.Sprint(n))))
	}
	for range 3 {
		commit(t, large, ops...)
	}
	if m := e.Memory(); m.Claimed <= m.MemtableRoom {
		t.Fatalf("%+v is no test", m)
	}
	if crowder := small.(store.Crowder); !large.Crowds() || crowder.Crowds() {
		t.Errorf("the large one crowds: %v, the small one: %v", large.Crowds(), crowder.Crowds())
	}
	if _, err := large.Tables(); err != nil { // where flushes lag behind, closing leaves the log
		t.Fatal(err)
	}
	if err := large.Close(); err != nil {
		t.Fatal(err)
	}
	if large = opened(t, e); large.Crowds() {
		t.Error("a store that was just opened crowds")
	}
	if n := count(t, large, nil); n != 2000 {
		t.Errorf("%d of 2000 resources are there", n)
	}
}
