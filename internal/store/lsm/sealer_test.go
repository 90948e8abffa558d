package lsm_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// longName is an entry that a sheet cuts: it can be told by its first bytes.
func longName(n int) plan.Entry {
	return plan.Entry{Param: 8, Value: fmt.Appendf(nil, "the %03d of all that have a name which is long enough", n)}
}

// keysOf counts the keys of a keyspace.
func keysOf(t *testing.T, s *lsm.Store, space byte) (n int) {
	t.Helper()
	for k := range entries(t, s) {
		if k[0] == space {
			n++
		}
	}
	return n
}

// withSheet is a store with 40 patients whose facts are in one sheet, cut.
func withSheet(t *testing.T) (*lsm.Engine, *lsm.Store) {
	opts := memory(vfs.NewMem())
	opts.Log = discard
	e := engine(t, opts)
	s := made(t, e)
	for i := range 40 {
		commit(t, s, put(patient(fmt.Sprint(i)), "{}", name("all"), longName(i)))
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if loose, sheets := keysOf(t, s, 9), keysOf(t, s, 10); loose != 0 || sheets != 1 {
		t.Fatalf("%d loose rows and %d sheets", loose, sheets)
	}
	for _, v := range entries(t, s) {
		if strings.HasPrefix(v, "\x01\x28\x00") && strings.Contains(v, "long enough") {
			t.Fatal("nothing was cut")
		}
	}
	return e, s
}

// Facts become sheets once there are enough of them, and stay what they were: a
// purge finds all containers, a reindex what to take out and put in.
func TestSheetsServeWritersToo(t *testing.T) {
	_, s := withSheet(t)
	commit(t, s, store.Op{Kind: store.Purge, Key: patient("7")})
	wanted := []plan.Entry{name("all"), longName(900)}
	done, err := s.Reindex(t.Context(), []store.Reentry{
		{Key: patient("8"), Version: 1, Entries: wanted},
		{Key: patient("9"), Version: 1, Entries: []plan.Entry{name("all"), longName(9)}}, // nothing new
	})
	if err != nil || !slices.Equal(done, []bool{true, true}) {
		t.Fatal(done, err)
	}
	for range 2 { // before and after the changes go into the sheet
		mustCheck(t, s)
		for n, want := range map[int]int64{6: 1, 7: 0, 8: 0, 9: 1, 900: 1} {
			if got := count(t, s, plan.Term{Param: 8, Value: longName(n).Value}); got != want {
				t.Errorf("%d patients of %d, want %d", got, n, want)
			}
		}
		for k, v := range entries(t, s) {
			if strings.Contains(k+v, "the 007") || strings.Contains(k, "the 008") {
				t.Errorf("%x still tells of what is gone", k)
			}
		}
		if err := s.Scrub(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := keysOf(t, s, 9); n != 0 {
			t.Errorf("%d loose rows are left", n)
		}
	}
}

// An entry that was cut and whose container is gone is named by check, and made
// again by a reindex.
func TestLostEntryOfSheet(t *testing.T) {
	e, s := withSheet(t)
	for k := range entries(t, s) {
		if k[0] == 4 && strings.Contains(k, "the 011") {
			if err := s.Edit([]byte(k), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = reopen(t, e, s)
	report, err := s.Repair(t.Context())
	if err != nil || !report.Reindex || len(report.Problems) != 1 || report.Problems[0].Part != "index" || !strings.Contains(report.Problems[0].What, "reindex") {
		t.Fatalf("%v, %v", report.Problems, err)
	}
	if _, err := s.Reindex(t.Context(), []store.Reentry{{Key: patient("11"), Version: 1, Entries: []plan.Entry{name("all"), longName(11)}}}); err != nil {
		t.Fatal(err)
	}
	mustCheck(t, s)
	if n := count(t, s, plan.Term{Param: 8, Value: longName(11).Value}); n != 1 {
		t.Errorf("%d patients are found", n)
	}
}

// Many commits fill sheets without being asked to.
func TestFactsBecomeSheets(t *testing.T) {
	opts := memory(vfs.NewMem())
	e := engine(t, opts)
	e.TakeEveryWay()
	s := made(t, e)
	for i := range 100 {
		commit(t, s, put(patient(fmt.Sprint(i%30)), "{}", name(fmt.Sprint(i%7)), longName(i)))
		if i%9 == 0 {
			commit(t, s, store.Op{Kind: store.Delete, Key: patient(fmt.Sprint(i % 30))})
		}
	}
	for keysOf(t, s, 9) >= 5 { // the sealer works beside us; a sheet has five rows here
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	mustCheck(t, s)
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustCheck(t, s)
	if loose, sheets := keysOf(t, s, 9), keysOf(t, s, 10); loose != 0 || sheets < 10 {
		t.Errorf("%d loose rows are left, %d sheets", loose, sheets)
	}
}

// A store of the first format opens, takes the number of the present one, and its
// facts move into sheets.
func TestFormatIsRaised(t *testing.T) {
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("testdata/format-1")); err != nil {
		t.Fatal(err)
	}
	s := opened(t, engine(t, lsm.Options{Root: root}))
	if text, err := os.ReadFile(root + "/s/FORMAT"); err != nil || !bytes.Equal(text, []byte("tarn-lsm 3\n")) {
		t.Errorf("FORMAT is %q, %v", text, err)
	}
	if n := keysOf(t, s, 9); n == 0 {
		t.Error("the sample has no loose facts")
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if loose, sheets := keysOf(t, s, 9), keysOf(t, s, 10); loose != 0 || sheets == 0 {
		t.Errorf("%d loose rows, %d sheets", loose, sheets)
	}
	mustCheck(t, s)
}

// A sheet that was made while a resource was purged is not taken: it would bring
// back what was purged.
func TestSheetMadeBesidePurge(t *testing.T) {
	s := made(t, engine(t, memory(vfs.NewMem())))
	for i := range 40 {
		commit(t, s, put(patient(fmt.Sprint(i)), "{}", longName(i)))
	}
	for _, c := range []struct {
		meanwhile func()
		changed   bool
	}{
		{func() { commit(t, s, store.Op{Kind: store.Purge, Key: patient("7")}) }, true},
		{func() { commit(t, s, put(patient("41"), "{}", longName(41))) }, false},
	} {
		if changed, err := s.SealAround(t.Context(), c.meanwhile); err != nil || changed != c.changed {
			t.Errorf("changed %t, want %t, %v", changed, c.changed, err)
		}
	}
	mustCheck(t, s)
	for k, v := range entries(t, s) {
		if strings.Contains(k+v, "the 007") {
			t.Errorf("%x still tells of what is gone", k)
		}
	}
	if n := keysOf(t, s, 9); n != 1 {
		t.Errorf("%d loose rows, want that of the last commit", n)
	}
}
