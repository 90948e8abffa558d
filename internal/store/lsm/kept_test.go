package lsm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// rank is an entry that patients are narrowed and sorted by.
func rank(n int) plan.Entry { return plan.Entry{Param: 9, Value: fmt.Appendf(nil, "%03d", n)} }

// keeping is a store with patients 0 to 29, of ranks 100 and more, that was asked so
// often that it keeps columns of them.
func keeping(t *testing.T) (*lsm.Engine, *lsm.Store) {
	e := engine(t, memory(vfs.NewMem()))
	e.TakeEveryWay()
	s := made(t, e)
	for i := range 30 {
		commit(t, s, put(patient(fmt.Sprint(i)), "{}", name("all"), rank(100+i)))
	}
	view := viewed(t, s, "")
	for range 30 {
		ranked(t, view, 100, 200)
	}
	if e.KeptBytes() == 0 {
		t.Fatal("no columns are kept")
	}
	return e, s
}

// ranked gives the patients of ranks from low to high, by rank: both are read from
// their facts.
func ranked(t *testing.T, view store.View, low, high int) string {
	t.Helper()
	page, err := view.Search(t.Context(), &plan.Plan{
		Arms: []plan.Arm{{Type: 1, Where: plan.And{
			plan.Term{Param: 7, Value: []byte("all")}, plan.Range{Param: 9, Low: rank(low).Value, High: rank(high).Value},
		}}},
		Sort: []plan.Sort{{Params: []plan.Param{9}}}, Limit: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range page.Records {
		ids = append(ids, r.Key.ID)
	}
	return strings.Join(ids, " ")
}

// Columns that are kept say what facts say at the moment that is read, also when
// these changed since, and in an order of reads that goes back and forth.
func TestKeptColumnsOfEachState(t *testing.T) {
	_, s := keeping(t)
	before := viewed(t, s, "")
	if _, err := s.Reindex(t.Context(), []store.Reentry{{Key: patient("3"), Version: 1, Entries: []plan.Entry{name("all"), rank(109)}}}); err != nil {
		t.Fatal(err)
	}
	between := viewed(t, s, "")
	commit(t, s, store.Op{Kind: store.Purge, Key: patient("5")})
	after := viewed(t, s, "")
	for range 30 { // often enough for columns to be made anew
		for _, one := range []struct {
			view store.View
			want string
		}{{before, "2 3 4 5"}, {after, "2 4"}, {between, "2 4 5"}, {before, "2 3 4 5"}} {
			if got := ranked(t, one.view, 102, 106); got != one.want {
				t.Fatalf("found %s, want %s", got, one.want)
			}
		}
		if got := ranked(t, after, 108, 111); got != "8 9 3 10" && got != "8 3 9 10" {
			t.Fatalf("found %s behind the reindex", got)
		}
	}
}

// A row that a walk meets under two params of a sort comes once.
func TestWalkedRowsComeOnce(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	e.TakeEveryWay()
	s := made(t, e)
	for i := range 12 {
		other := rank(100 + i)
		other.Param = 10
		commit(t, s, put(patient(fmt.Sprint(i)), "{}", name("all"), rank(100+i), other))
	}
	for _, limit := range []int{3, 12, 100} {
		page, err := viewed(t, s, "").Search(t.Context(), &plan.Plan{
			Arms: []plan.Arm{{Type: 1, Where: plan.Term{Param: 7, Value: []byte("all")}}},
			Sort: []plan.Sort{{Params: []plan.Param{9, 10}}}, Limit: limit,
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := min(limit, 12); len(page.Records) != want {
			t.Fatalf("%d records of %d", len(page.Records), want)
		}
		for i, r := range page.Records {
			if r.Key.ID != fmt.Sprint(i) {
				t.Errorf("at %d of %d stands %s", i, limit, r.Key.ID)
			}
		}
	}
}

// What was purged is in no column, though nobody asks again.
func TestKeptColumnsForgetWhatIsPurged(t *testing.T) {
	e, s := keeping(t)
	before := viewed(t, s, "")
	commit(t, s, store.Op{Kind: store.Purge, Key: patient("5")})
	if n := e.KeptBytes(); n != 0 {
		t.Errorf("%d bytes are kept of before", n)
	}
	for range 30 {
		ranked(t, before, 100, 200)
	}
	if n := e.KeptBytes(); n != 0 {
		t.Errorf("%d bytes are kept for a reader of before", n)
	}
}

// A row that is superseded or written anew has a column's place of its own, and an
// older moment reads the row of before.
func TestKeptColumnsOfVersions(t *testing.T) {
	_, s := keeping(t)
	before := viewed(t, s, "")
	for i := range 8 {
		commit(t, s, put(patient("3"), "{}", name("all"), rank(50+i)))
		for range 5 {
			if got := ranked(t, viewed(t, s, ""), 0, 200); len(strings.Fields(got)) != 30 || !strings.HasPrefix(got, "3 ") {
				t.Fatalf("found %s after a new version of 3", got)
			}
		}
	}
	again := viewed(t, s, before.Moment())
	for range 30 {
		if got := ranked(t, again, 102, 105); got != "2 3 4" {
			t.Fatalf("at the moment before: %s", got)
		}
		if got := ranked(t, viewed(t, s, ""), 57, 58); got != "3" {
			t.Fatalf("now: %s", got)
		}
	}
}

// Columns of a store that is closed are forgotten, and those of one that is used
// stay within their room.
func TestKeptColumnsAreBounded(t *testing.T) {
	e, s := keeping(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := e.KeptBytes(); n != 0 {
		t.Errorf("%d bytes are kept of no store", n)
	}

	opts := memory(vfs.NewMem())
	opts.CacheBytes = 4 * (32<<10 + 512) // 512 bytes more than one column is taken to need
	small := engine(t, opts)
	small.TakeEveryWay()
	s = made(t, small)
	for i := range 120 {
		commit(t, s, put(patient(fmt.Sprint(i)), "{}", name("all"), rank(i)))
	}
	view := viewed(t, s, "")
	for range 200 {
		if got := strings.Fields(ranked(t, view, 0, 120)); len(got) != 100 || got[60] != "60" {
			t.Fatalf("found %s", got)
		}
	}
	if n := small.KeptBytes(); n == 0 || n > 1000 {
		t.Errorf("%d bytes are kept where little more than 512 may be", n)
	}
}
