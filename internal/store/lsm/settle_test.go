package lsm_test

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// scattered is a store whose rows and sheets lie in many small tables.
func scattered(t *testing.T, e *lsm.Engine) *lsm.Store {
	t.Helper()
	s := made(t, e)
	for round := range 6 {
		importInto(t, s, fmt.Sprint("import", round), 60, 30)
		for i := range 10 {
			commit(t, s, put(patient(fmt.Sprint(round, "-", i)), "{}", name("beside"), name(fmt.Sprint(i))))
		}
		if _, err := s.Tables(); err != nil { // which flushes
			t.Fatal(err)
		}
	}
	if err := s.SealAll(t.Context()); err != nil { // or what the sealer still does would be taken for settling
		t.Fatal(err)
	}
	if _, err := s.Tables(); err != nil {
		t.Fatal(err)
	}
	return s
}

const rowTables, sheetTables = 0x01, 0x0a

// tablesOf counts the tables of a keyspace on all levels, and the deletions in them.
func tablesOf(t *testing.T, s *lsm.Store, space byte) (n int, deletions uint64) {
	t.Helper()
	all, err := s.Tables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range all {
		if table.First == space {
			n, deletions = n+1, deletions+table.Deletions
		}
	}
	return n, deletions
}

// Small tables of rows and sheets become few, nothing in them changes, and nothing
// is left of the deletions around them.
func TestTablesAreSettled(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	e.TakeEveryWay()
	s := scattered(t, e)
	if err := s.Close(); err != nil { // a view of before would keep deletions
		t.Fatal(err)
	}
	s = opened(t, e)
	was := entries(t, s)
	for _, space := range []byte{rowTables, sheetTables} {
		if n, _ := tablesOf(t, s, space); n < 6 {
			t.Fatalf("%d tables of keyspace %02x are no test", n, space)
		}
	}
	if err := s.SettleTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, space := range []byte{rowTables, sheetTables} {
		if n, deletions := tablesOf(t, s, space); n != 1 || deletions != 0 {
			t.Errorf("keyspace %02x lies in %d tables with %d deletions, want one without", space, n, deletions)
		}
	}
	if now := entries(t, s); !maps.Equal(was, now) {
		t.Errorf("these differ: %x", differing(was, now))
	}
	mustCheck(t, s)
}

// What takes less than the tables that would be made for it is left as it is.
func TestLittleIsNotSettled(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	e.TakeEveryWay()
	e.SettleFrom(64 << 10)
	s := scattered(t, e)
	before, err := s.Tables()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SettleTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := s.Tables()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("tables were %v and are %v", before, after)
	}
}

// Beside readers, tables are put in order with pauses; alone, without.
func TestSettlingPauses(t *testing.T) {
	t.Parallel()
	for _, read := range []bool{false, true} {
		e := engine(t, memory(vfs.NewMem()))
		e.TakeEveryWay()
		s := scattered(t, e)
		ctx, stop := context.WithCancel(t.Context())
		var reader sync.WaitGroup
		if read {
			reading := make(chan struct{})
			reader.Go(func() {
				for once := sync.OnceFunc(func() { close(reading) }); ctx.Err() == nil; once() {
					count(t, s, nil)
				}
			})
			<-reading
		}
		paused, err := s.SettlePauses(t.Context())
		stop()
		reader.Wait()
		if err != nil || paused > 0 != read {
			t.Errorf("read %v: %d pauses, %v", read, paused, err)
		}
	}
}

// A store that is written to and then left alone is put in order by itself.
func TestTablesSettleByThemselves(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	e.TakeEveryWay()
	e.SettleSoon()
	s := scattered(t, e)
	for n, _ := tablesOf(t, s, rowTables); n >= 3; n, _ = tablesOf(t, s, rowTables) {
		if err := t.Context().Err(); err != nil {
			t.Fatalf("%d tables of rows are left", n)
		}
		runtime.Gosched()
	}
	if n := count(t, s, plan.Term{Param: 7, Value: []byte("import0")}); n != 20 {
		t.Errorf("%d resources, want 20", n)
	}
	mustCheck(t, s)
}
