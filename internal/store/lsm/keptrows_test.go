package lsm_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// namedSo gives the patients of a name, newest first, with how many there are.
func namedSo(t *testing.T, view store.View, value string) string {
	t.Helper()
	page, err := view.Search(t.Context(), &plan.Plan{
		Arms: []plan.Arm{{Type: 1, Where: plan.Term{Param: 7, Value: []byte(value)}}}, Limit: 1000, Total: plan.TotalExact,
	})
	if err != nil {
		t.Fatal(err)
	}
	if int(page.Total) != len(page.Records) {
		t.Fatalf("a total of %d over %d records", page.Total, len(page.Records))
	}
	var ids []string
	for _, r := range page.Records {
		ids = append(ids, r.Key.ID)
	}
	return strings.Join(ids, " ")
}

// keepingRows is a store of small blocks with patients 0 to 199, every tenth of them
// called "tenth", which was asked for so often that its rows are kept.
func keepingRows(t *testing.T) (*lsm.Engine, *lsm.Store) {
	opts := memory(vfs.NewMem())
	opts.BlockRows = 64
	e := engine(t, opts)
	e.TakeEveryWay()
	s := made(t, e)
	for i := range 200 {
		value := "other"
		if i%10 == 0 {
			value = "tenth"
		}
		commit(t, s, put(patient(fmt.Sprint(i)), "{}", name(value)))
	}
	view := viewed(t, s, "")
	for range 5 {
		namedSo(t, view, "tenth")
	}
	if !s.KeepsRows(7, []byte("tenth")) {
		t.Fatal("no rows are kept")
	}
	return e, s
}

const tenths = "190 180 170 160 150 140 130 120 110 100 90 80 70 60 50 40 30 20 10 0"

// imported puts through the bulk door, as one piece.
func imported(t *testing.T, s store.Store, ops ...store.Op) {
	t.Helper()
	im, err := s.Import(t.Context(), "import")
	if err != nil {
		t.Fatal(err)
	}
	part, err := im.Part(t.Context(), "part")
	if err == nil {
		err = part.Add(t.Context(), ops, []byte{1})
	}
	if err := errors.Join(err, im.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// change replaces one of some ids.
func change(ids, id, by string) string {
	all := strings.Fields(ids)
	for i := range all {
		if all[i] == id {
			all[i] = by
		}
	}
	return strings.Join(strings.Fields(strings.Join(all, " ")), " ")
}

// Rows that are kept are those of the moment that is read, whatever was committed
// since and in whatever order moments are read.
func TestKeptRowsOfEachMoment(t *testing.T) {
	_, s := keepingRows(t)
	type moment struct {
		view store.View
		want string
	}
	moments := []moment{{viewed(t, s, ""), tenths}}
	look := func(i int) {
		t.Helper()
		if got := namedSo(t, moments[i].view, "tenth"); got != moments[i].want {
			t.Fatalf("at moment %d: found %s, want %s", i, got, moments[i].want)
		}
	}
	note := func(want string) {
		t.Helper()
		moments = append(moments, moment{viewed(t, s, ""), want})
		for i := range moments {
			look(len(moments) - 1)
			look(i)
		}
	}
	commit(t, s, put(patient("200"), "{}", name("tenth")))
	note("200 " + tenths)
	commit(t, s, put(patient("50"), "{}", name("other")), put(patient("100"), "{}", name("tenth")))
	note("100 200 " + change(change(tenths, "100", ""), "50", ""))
	commit(t, s, store.Op{Kind: store.Delete, Key: patient("0")})
	note(change(moments[2].want, "0", ""))
	for { // what is loose is worked into sheets: else an import has everything forgotten
		if _, err := s.SealAround(t.Context(), func() {}); err != nil {
			t.Fatal(err)
		}
		if s.Loose() == 0 {
			break
		}
	}
	imported(t, s, put(patient("60"), "{}", name("other")), put(patient("201"), "{}", name("tenth")), put(patient("202"), "{}", name("other")), put(patient("203"), "{}", name("tenth")))
	note("203 201 " + change(moments[3].want, "60", ""))
	for i := range 100 { // blocks become full
		commit(t, s, put(patient(fmt.Sprint("later", i)), "{}", name("other")))
	}
	note(moments[4].want)
	if _, err := s.Reindex(t.Context(), []store.Reentry{{Key: patient("1"), Version: 1, Entries: []plan.Entry{name("tenth")}}}); err != nil {
		t.Fatal(err)
	}
	note(change(moments[5].want, "10", "10 1"))
	commit(t, s, store.Op{Kind: store.Purge, Key: patient("20")})
	note(change(moments[6].want, "20", ""))
	for range 4 {
		for _, i := range []int{0, 7, 6, 1, 5, 2, 4, 3, 7, 7, 7, 0} {
			look(i)
		}
		for i := range 6 { // the same moments by name: what was reindexed is found then too, what was purged is not
			want := change(change(moments[i].want, "20", ""), "10", "10 1")
			if got := namedSo(t, viewed(t, s, moments[i].view.Moment()), "tenth"); got != want {
				t.Fatalf("at moment %d, opened now: found %s, want %s", i, got, want)
			}
		}
	}
}

// Small ranges that are kept, with what else a value must meet and without, have the
// rows that their entries say, while rows come and go.
func TestKeptRangesSayWhatEntriesSay(t *testing.T) {
	opts := memory(vfs.NewMem())
	opts.BlockRows = 64
	e := engine(t, opts)
	s := made(t, e)
	r := rand.New(rand.NewPCG(3, 4))
	var asks []plan.Range
	for _, tail := range []*plan.Tail{nil, {At: 2, Low: []byte("1")}, {At: 2, Low: []byte("1"), High: []byte("2")}, {At: 2, High: []byte("1")}, {At: 2, High: []byte{}}, {At: 1, Low: []byte("2")}, {At: 2, Low: []byte("2")}, {At: 2}} {
		for _, low := range []string{"00", "03", "031"} {
			asks = append(asks, plan.Range{Param: 9, Low: []byte(low), High: []byte("06"), Tail: tail}, plan.Range{Param: 9, Low: []byte(low), Tail: tail})
		}
	}
	entries := map[string][]plan.Entry{}
	for n := range 150 {
		id := fmt.Sprint(r.IntN(120))
		if entries[id] = nil; r.IntN(10) > 0 {
			entries[id] = []plan.Entry{{Param: 9, Value: fmt.Appendf(nil, "%02d%d", r.IntN(10), r.IntN(3))}}
		}
		commit(t, s, put(patient(id), "{}", entries[id]...))
		view := viewed(t, s, "")
		for _, ask := range asks {
			want := 0
			for id := range entries {
				if met, _ := plan.Meets(ask, id, entries[id]); met {
					want++
				}
			}
			page, err := view.Search(t.Context(), &plan.Plan{Arms: []plan.Arm{{Type: 1, Where: ask}}, Limit: 1000, Total: plan.TotalExact})
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Records) != want || page.Total != int64(want) {
				t.Fatalf("after %d commits: %d of a total of %d in %+v, %+v, want %d", n+1, len(page.Records), page.Total, ask, ask.Tail, want)
			}
		}
	}
	if e.KeptRowsBytes() == 0 {
		t.Error("no rows are kept")
	}
}

// What was purged or written anew is not kept, though nobody asks again.
func TestKeptRowsForgetWhatIsPurged(t *testing.T) {
	e, s := keepingRows(t)
	before := viewed(t, s, "")
	commit(t, s, store.Op{Kind: store.Purge, Key: patient("20")})
	if n := e.KeptRowsBytes(); n != 0 {
		t.Errorf("%d bytes are kept of before", n)
	}
	for range 5 {
		namedSo(t, before, "tenth")
	}
	if n := e.KeptRowsBytes(); n != 0 {
		t.Errorf("%d bytes are kept for a reader of before", n)
	}
}

// Rows of a store that is closed are forgotten, and those of one that is used stay
// within their room.
func TestKeptRowsAreBounded(t *testing.T) {
	e, s := keepingRows(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := e.KeptRowsBytes(); n != 0 {
		t.Errorf("%d bytes are kept of no store", n)
	}

	const room = 4096
	opts := memory(vfs.NewMem())
	opts.CacheBytes, opts.BlockRows = 8*room, 64
	small := engine(t, opts)
	small.TakeEveryWay()
	s = made(t, small)
	for i := range 600 {
		commit(t, s, put(patient(fmt.Sprint(i)), "{}", name(fmt.Sprint(i%20)), name("all")))
	}
	for range 3 {
		for i := range 20 {
			for range 3 {
				if got := strings.Fields(namedSo(t, viewed(t, s, ""), fmt.Sprint(i))); len(got) != 30 {
					t.Fatalf("found %s", got)
				}
			}
			if got := strings.Fields(namedSo(t, viewed(t, s, ""), "all")); len(got) != 600 {
				t.Fatalf("found %d of 600", len(got))
			}
			if n := small.KeptRowsBytes(); n == 0 || n > room {
				t.Fatalf("%d bytes are kept where %d may be", n, room)
			}
		}
	}
	if s.KeepsRows(7, []byte("all")) {
		t.Error("rows are kept that take more than their part")
	}
}
