package lsm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// importInto adds n puts over few resources to a part, size at a time.
func importInto(t testing.TB, s store.Store, of string, n, size int) {
	im, err := s.Import(t.Context(), of)
	if err != nil {
		t.Error(err)
		return
	}
	p, err := im.Part(t.Context(), "part")
	if err != nil {
		t.Error(err)
		return
	}
	for at := 0; at < n; at += size {
		var ops []store.Op
		for i := at; i < min(n, at+size); i++ {
			ops = append(ops, put(patient(fmt.Sprintf("%s-%d", of, i*7%(n/3))), fmt.Sprint(i), name(of), name(fmt.Sprint(i%5))))
		}
		if err := p.Add(t.Context(), ops, fmt.Append(nil, at)); err != nil {
			t.Error(err)
			return
		}
	}
	if err := im.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Pieces of imports, commits and purges side by side, over many blocks: rows and
// what leads to them agree, before and after the store is opened again.
func TestImportsBesideCommits(t *testing.T) {
	opts := memory(vfs.NewMem())
	opts.BlockRows = 64
	e := engine(t, opts)
	e.TakeEveryWay()
	e.SettleSoon()
	s := made(t, e)
	const puts = 240
	var all sync.WaitGroup
	for _, part := range []string{"x", "y"} {
		all.Go(func() { importInto(t, s, part, puts, 7) })
	}
	all.Go(func() {
		for i := range 60 {
			key := patient(fmt.Sprintf("x-%d", i))
			op := put(key, "{}", name("beside"))
			if i%10 == 9 {
				op = store.Op{Kind: store.Purge, Key: key}
			}
			if _, err := s.Commit(t.Context(), []store.Op{op}); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	mustCheck(t, s)
	for round := range 2 {
		if n := count(t, s, plan.Term{Param: 7, Value: []byte("y")}); n != puts/3 {
			t.Errorf("round %d: %d resources of the import without commits beside, want %d", round, n, puts/3)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = opened(t, e)
		mustCheck(t, s)
	}
}

// Tables that a crash left half written are removed, and what is there stays.
func TestLitterOfAnImportIsRemoved(t *testing.T) {
	root := t.TempDir()
	e := engine(t, lsm.Options{Root: root})
	e.TakeEveryWay()
	s := made(t, e)
	importInto(t, s, "x", 60, 30)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	litter := filepath.Join(root, "s", "ingest", "77.sst")
	if err := os.WriteFile(litter, []byte("half a table"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = opened(t, e)
	if _, err := os.Stat(litter); !os.IsNotExist(err) {
		t.Errorf("what a crash left is there: %v", err)
	}
	if n := count(t, s, plan.Term{Param: 7, Value: []byte("x")}); n != 20 {
		t.Errorf("%d resources, want 20", n)
	}
	importInto(t, s, "y", 60, 30)
	mustCheck(t, s)
}

// Keyspaces that grow at their end have tables of their own, whatever is written and
// compacted, or nothing that an import brings could rest at the bottom at once.
func TestTablesKeepToTheirKeyspaces(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	e.TakeEveryWay()
	s := made(t, e)
	index := func(space byte) bool { return 2 <= space && space <= 8 }
	for round := range 4 {
		for i := range 20 {
			commit(t, s, put(patient(fmt.Sprint(round, "-", i)), "{}", name("beside"), name(fmt.Sprint(i))))
		}
		importInto(t, s, fmt.Sprint("import", round), 60, 60)
		tables, err := s.Tables()
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			if table.First != table.Last && !(index(table.First) && index(table.Last)) {
				t.Errorf("round %d: a table from keyspace %02x to %02x", round, table.First, table.Last)
			}
		}
	}
	mustCheck(t, s)
}
