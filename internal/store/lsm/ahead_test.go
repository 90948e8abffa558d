package lsm_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// gated is a store whose next piece of an import stands still while one of its
// tables is written: reached tells of it, and closing gate lets it go on.
type gated struct {
	fs            *vfs.MemFS
	left          atomic.Int64 // tables until then
	reached, gate chan struct{}
}

// The tables at which a piece may stand still: the first of those without times,
// and the first of those with times.
const (
	firstTable = 1
	timedTable = 4
)

func newGated() *gated {
	return &gated{fs: vfs.NewMem(), reached: make(chan struct{}), gate: make(chan struct{})}
}

func (g *gated) options() lsm.Options {
	opts := memory(errorfs.Wrap(g.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "/ingest/") && g.left.Add(-1) == 0 {
			close(g.reached)
			<-g.gate
		}
		return nil
	})))
	opts.BlockRows = 64
	return opts
}

// importing begins an import of patients p0 to p9, and gives its end.
func importing(t *testing.T, s store.Store) <-chan error {
	im, err := s.Import(t.Context(), "im")
	if err != nil {
		t.Fatal(err)
	}
	part, err := im.Part(t.Context(), "part")
	if err != nil {
		t.Fatal(err)
	}
	var ops []store.Op
	for i := range 10 {
		ops = append(ops, put(patient(fmt.Sprint("p", i)), `{"by":"import"}`, name("imported")))
	}
	done := make(chan error, 1)
	go func() { done <- errors.Join(part.Add(t.Context(), ops, []byte("all")), part.Flush(t.Context())) }()
	return done
}

// Commits go on while a piece of an import is made ready, whatever they write:
// they come before it, in versions, dates and every answer.
func TestCommitsWhileAPieceIsMadeReady(t *testing.T) {
	p3 := patient("p3")
	for what, c := range map[string]struct {
		commits [][]store.Op
		version uint64 // of p3, after the import
	}{
		"nothing":               {nil, 2},
		"others, few":           {[][]store.Op{{put(patient("a"), "{}", name("beside"))}}, 2},
		"more than rows spared": {[][]store.Op{{put(patient("a"), "{}")}, {put(patient("b"), "{}")}, {put(patient("c"), "{}"), put(patient("d"), "{}")}}, 2},
		"a resource of it":      {[][]store.Op{{put(p3, `{"by":"commit"}`, name("beside"))}}, 3},
		"its deletion":          {[][]store.Op{{{Kind: store.Delete, Key: p3}}}, 3},
		"its purge":             {[][]store.Op{{{Kind: store.Purge, Key: p3}}}, 1},
	} {
		for when, table := range map[string]int64{"made ready": firstTable, "closed": timedTable} {
			t.Run(what+", while it is "+when, func(t *testing.T) { commitsWhile(t, table, c.commits, c.version) })
		}
	}
}

func commitsWhile(t *testing.T, table int64, commits [][]store.Op, version uint64) {
	p3 := patient("p3")
	g := newGated()
	e := engine(t, g.options())
	e.TakeEveryWay()
	s := made(t, e)
	commit(t, s, put(p3, `{"by":"before"}`, name("beside")))
	g.left.Store(table)
	done := importing(t, s)
	<-g.reached
	for _, ops := range commits {
		came := time.Now().Truncate(time.Millisecond)
		for _, o := range commit(t, s, ops...) {
			if !o.Updated.IsZero() && (o.Updated.Before(came) || o.Updated.After(time.Now())) {
				t.Errorf("a commit of %v is dated %v", came, o.Updated)
			}
		}
	}
	if n := count(t, s, plan.Term{Param: 7, Value: []byte("imported")}); n != 0 {
		t.Errorf("%d resources of the piece are there before it is committed", n)
	}
	close(g.gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ended := time.Now()
	for range 2 {
		mustCheck(t, s)
		if n := count(t, s, plan.Term{Param: 7, Value: []byte("imported")}); n != 10 {
			t.Errorf("%d resources of the piece, want 10", n)
		}
		rec, err := viewed(t, s, "").Get(t.Context(), p3)
		if err != nil || rec.Version != version || string(rec.Body) != `{"by":"import"}` {
			t.Errorf("the resource reads %+v, %v; want version %d of the import", rec, err, version)
		}
		if rec.Updated.After(ended) {
			t.Errorf("the piece is dated %v, ahead of its end at %v", rec.Updated, ended)
		}
		inOrder(t, s)
		s = reopen(t, e, s)
	}
}

// Whatever the clock does while a piece is closed, the piece is dated neither
// before what comes before it, nor ahead.
func TestDateOfAPieceFollowsTheClock(t *testing.T) {
	for what, by := range map[string]time.Duration{"stands still": 0, "goes on": time.Second, "goes back": -time.Minute} {
		t.Run("the clock "+what, func(t *testing.T) {
			g := newGated()
			opts := g.options()
			began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			var now atomic.Int64
			now.Store(began.UnixMilli())
			opts.Clock = func() time.Time { return time.UnixMilli(now.Load()) }
			e := engine(t, opts)
			e.TakeEveryWay()
			s := made(t, e)
			commit(t, s, put(patient("before"), "{}"))
			g.left.Store(timedTable)
			done := importing(t, s)
			<-g.reached
			now.Add(by.Milliseconds())
			beside := commit(t, s, put(patient("beside"), "{}"))[0].Updated
			close(g.gate)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			want := began.Add(max(by, 0)) // nothing is dated before the newest
			rec, err := viewed(t, s, "").Get(t.Context(), patient("p3"))
			if err != nil || !beside.Equal(want) || !rec.Updated.Equal(want) {
				t.Errorf("the commit is dated %v, the piece %v, %v; want %v", beside, rec.Updated, err, want)
			}
			inOrder(t, s)
			mustCheck(t, s)
		})
	}
}

// inOrder fails when a commit is dated before one that came before it, or a
// version comes before the one before it.
func inOrder(t *testing.T, s store.Store) {
	t.Helper()
	page, err := viewed(t, s, "").History(t.Context(), store.HistoryQuery{OldestFirst: true, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	versions := map[plan.Key]uint64{}
	for i, rec := range page.Records {
		if i > 0 && rec.Updated.Before(page.Records[i-1].Updated) {
			t.Errorf("%v is dated %v, behind %v", rec.Key, rec.Updated, page.Records[i-1].Updated)
		}
		if rec.Version != versions[rec.Key]+1 {
			t.Errorf("version %d of %v comes behind %d", rec.Version, rec.Key, versions[rec.Key])
		}
		versions[rec.Key] = rec.Version
	}
}

// A piece whose tables cannot be written leaves nothing, and can be tried again.
func TestPieceThatCannotBeWritten(t *testing.T) {
	for table := range 5 {
		fs := vfs.NewMem()
		var left atomic.Int64
		left.Store(-1)
		opts := memory(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileSync && strings.Contains(op.Path, "/ingest/") && left.Add(-1) == 0 {
				return errorfs.ErrInjected
			}
			return nil
		})))
		e := engine(t, opts)
		e.TakeEveryWay()
		s := made(t, e)
		left.Store(int64(table + 1))
		if err := <-importing(t, s); err == nil {
			t.Fatalf("table %d: no error", table)
		}
		litter, err := fs.List(fs.PathJoin(opts.Root, "s", "ingest"))
		if err != nil || len(litter) != 0 {
			t.Errorf("table %d: %v is left, %v", table, litter, err)
		}
		if n := count(t, s, plan.Term{Param: 7, Value: []byte("imported")}); n != 0 {
			t.Errorf("table %d: %d resources of the piece", table, n)
		}
		if err := <-importing(t, s); err != nil {
			t.Fatal(err)
		}
		mustCheck(t, s)
	}
}

// A store that is closed while a piece is made ready ends the import, and keeps
// neither a part of the piece nor its tables.
func TestCloseWhileAPieceIsMadeReady(t *testing.T) {
	g := newGated()
	opts := g.options()
	e := engine(t, opts)
	e.TakeEveryWay()
	s := made(t, e)
	g.left.Store(firstTable)
	done := importing(t, s)
	<-g.reached
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	close(g.gate)
	imported, err := <-done, <-closed
	if err != nil {
		t.Fatal(err)
	}
	litter, err := g.fs.List(g.fs.PathJoin(opts.Root, "s", "ingest"))
	if err != nil || len(litter) != 0 {
		t.Errorf("%v is left, %v", litter, err)
	}
	s = opened(t, e)
	mustCheck(t, s)
	want := int64(10)
	if imported != nil {
		want = 0
	}
	if n := count(t, s, plan.Term{Param: 7, Value: []byte("imported")}); n != want {
		t.Errorf("%d resources of the piece, want %d: the import ended with %v", n, want, imported)
	}
}
