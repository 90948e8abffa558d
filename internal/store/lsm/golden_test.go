package lsm_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// makeGolden writes the sample of the present format, when there is none: a
// sample is never written again, as stores like it lie on disks.
var makeGolden = flag.Bool("make-golden", false, "write testdata/format-N for the present format, if it is not there")

// goldens are the samples: of the first format, and of each one after it.
var goldens = []string{"testdata/format-1", "testdata/format-2", goldenDir}

// goldenDir is the sample of the present format.
const goldenDir = "testdata/format-3"

// foldedBody is a body that is folded, in the sample of format 3.
const foldedBody = `{"link":"Patient/00112233-4455-6677-8899-aabbccddeeff","at":"2023-04-16T02:19:45.352-05:30"}`

// goldenMoment is the moment after the first commit of the sample.
const goldenMoment = store.Moment("lsm1-1-2")

func goldenClock() func() time.Time {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return func() time.Time { now = now.Add(time.Second); return now }
}

func writeGolden(t *testing.T) {
	opts := lsm.Options{Root: goldenDir, BlockRows: 64, Clock: goldenClock()}
	e := engine(t, opts)
	s := made(t, e)
	commit(t, s, put(patient("a"), `{"n":1}`, name("ann")), put(patient("b"), `{"n":2}`, name("bob"), plan.Entry{Param: 300, Value: []byte{0, 1, 2}}))
	commit(t, s, put(patient("a"), `{"n":3,"text":"a body that is long enough to be compressed, compressed, compressed"}`, name("anne")))
	commit(t, s, store.Op{Kind: store.Delete, Key: patient("b"), Tag: 9})
	commit(t, s, put(patient("c"), `{}`, name("gone")))
	commit(t, s, store.Op{Kind: store.Purge, Key: patient("c")})
	im, err := s.Import(t.Context(), "im")
	if err != nil {
		t.Fatal(err)
	}
	p, err := im.Part(t.Context(), "pa")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := p.Add(t.Context(), []store.Op{put(patient(fmt.Sprintf("0000abcd-0000-0000-0000-0000000000%02d", i)), fmt.Sprint(i), name("many"))}, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var more []store.Op // for a sheet that cuts
	for i := range 20 {
		more = append(more, put(patient(fmt.Sprint("long", i)), "{}", longName(i)))
	}
	commit(t, s, more...)
	if err := s.Scrub(t.Context()); err != nil { // into tables, facts into a sheet
		t.Fatal(err)
	}
	if _, err := s.Reindex(t.Context(), []store.Reentry{{Key: patient("a"), Version: 2, Entries: []plan.Entry{name("anne")}}}); err != nil {
		t.Fatal(err)
	}
	commit(t, s, put(patient("d"), `{"n":4}`, name("in the log")), put(patient("folded"), foldedBody)) // into the log
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(goldenDir, "s", "db", "LOCK")); err != nil {
		t.Fatal(err)
	}
}

// A store of each format opens for ever, and is what it was.
func TestGoldenStoreOpens(t *testing.T) {
	if _, err := os.Stat(goldenDir); os.IsNotExist(err) && *makeGolden {
		writeGolden(t)
	}
	for _, dir := range goldens {
		t.Run(dir, func(t *testing.T) { testGolden(t, dir) })
	}
}

func testGolden(t *testing.T, dir string) {
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s := opened(t, engine(t, lsm.Options{Root: root}))
	mustCheck(t, s)
	now, then := viewed(t, s, ""), viewed(t, s, goldenMoment)
	for _, c := range []struct {
		view    store.View
		id      string
		version uint64
		body    string
		deleted bool
	}{
		{now, "a", 2, `{"n":3,"text":"a body that is long enough to be compressed, compressed, compressed"}`, false},
		{now, "b", 2, "", true},
		{now, "d", 1, `{"n":4}`, false},
		{now, "0000abcd-0000-0000-0000-000000000099", 1, "99", false},
		{then, "a", 1, `{"n":1}`, false},
		{then, "b", 1, `{"n":2}`, false},
	} {
		r, err := c.view.Get(t.Context(), patient(c.id))
		if err != nil || r.Version != c.version || string(r.Body) != c.body || r.Deleted != c.deleted {
			t.Errorf("%s: %+v, %v", c.id, r, err)
		}
	}
	if r, err := now.Get(t.Context(), patient("a")); err != nil || !r.Created.Equal(time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC)) || !r.Updated.Equal(r.Created.Add(time.Second)) {
		t.Errorf("times: %+v, %v", r, err)
	}
	if _, err := now.Get(t.Context(), patient("c")); !fault.Is(err, fault.NotFound) {
		t.Errorf("what was purged: %v", err)
	}
	for value, want := range map[string]int64{"ann": 0, "anne": 1, "bob": 0, "gone": 0, "many": 100, "in the log": 1} {
		if n := count(t, s, plan.Term{Param: 7, Value: []byte(value)}); n != want {
			t.Errorf("%d of %q, want %d", n, value, want)
		}
	}
	if n, err := then.Count(t.Context(), &plan.Plan{Arms: []plan.Arm{{Type: 1, Where: plan.Term{Param: 300, Value: []byte{0, 1, 2}}}}}); err != nil || n != 1 {
		t.Errorf("%d by bytes, %v", n, err)
	}
	im, err := s.Import(t.Context(), "im")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := im.Part(t.Context(), "pa"); err != nil || string(p.Cursor()) != "99" {
		t.Errorf("the cursor stands at %q, %v", p.Cursor(), err)
	}
	commit(t, s, put(patient("e"), `{}`))
	if dir == goldenDir {
		if r, err := now.Get(t.Context(), patient("folded")); err != nil || string(r.Body) != foldedBody {
			t.Errorf("what was folded: %+v, %v", r, err)
		}
	}
	if dir == goldens[0] {
		return
	}
	if n := count(t, s, plan.Range{Param: 8, Low: longName(5).Value, High: longName(15).Value}); n != 10 {
		t.Errorf("%d in a range of what is cut, want 10", n)
	}
	commit(t, s, store.Op{Kind: store.Purge, Key: patient("long7")})
	if n := count(t, s, plan.Term{Param: 8, Value: longName(7).Value}); n != 0 {
		t.Errorf("%d of what was purged now", n)
	}
	mustCheck(t, s)
}
