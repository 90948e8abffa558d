package job_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
)

// gated runs jobs that end when they are told to.
type gated struct {
	mu     sync.Mutex
	began  []string // data stores, in order
	start  chan string
	goOn   chan struct{}
	cancel func(run *job.Run) error
}

func newGated() *gated { return &gated{start: make(chan string, 100), goOn: make(chan struct{})} }

func (g *gated) Run(ctx context.Context, run *job.Run) error {
	run.Report(func() any { return map[string]int{"done": 7} })
	g.mu.Lock()
	g.began = append(g.began, run.Job.Datastore+"/"+run.Job.Name)
	g.mu.Unlock()
	g.start <- run.Job.ID
	select {
	case <-g.goOn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gated) Fail(context.Context, *job.Run, error) error { return nil }

func (g *gated) Cancel(_ context.Context, run *job.Run) error {
	if g.cancel != nil {
		return g.cancel(run)
	}
	return nil
}

func ask(t *testing.T, q *job.Queue, s job.Submission) *job.Job {
	t.Helper()
	j, err := q.Submit(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// ticking is a clock whose every answer is later than the one before by a step.
func ticking(from time.Time, step time.Duration) func() time.Time {
	var ticks atomic.Int64
	return func() time.Time { return from.Add(step * time.Duration(ticks.Add(1))) }
}

// One job of a data store runs, in the order of submission; another store's turn
// comes before the first one's second.
func TestLaneIsInOrderAndFair(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	g := newGated()
	q.RegisterIn(job.Lane{Name: "bulk", Workers: 2, PerStore: 1, Waiting: 25}, "import", g)
	q.Register("quick", runner{run: func(context.Context, *job.Run) error { return nil }})
	q.Clock = ticking(time.Now(), time.Millisecond)
	start(t, q)
	var ids []string
	for i, store := range []string{"a", "a", "a", "b", "c"} {
		ids = append(ids, ask(t, q, job.Submission{Kind: "import", Datastore: store, Name: fmt.Sprint(i)}).ID)
	}
	<-g.start
	<-g.start
	await(t, q, ids[1], job.Queued)
	await(t, q, ids[4], job.Queued)
	quick := submit(t, q, "quick") // has its own lane
	q.Began(quick)
	await(t, q, quick.ID, job.Completed)
	for range len(ids) {
		g.goOn <- struct{}{}
	}
	for _, id := range ids {
		await(t, q, id, job.Completed)
	}
	q.Stop()
	place := func(name string) int { return slices.Index(g.began, name) }
	if first := slices.Sorted(slices.Values(g.began[:2])); !slices.Equal(first, []string{"a/0", "b/3"}) {
		t.Errorf("began with %v", first)
	}
	if place("a/0") > place("a/1") || place("a/1") > place("a/2") {
		t.Errorf("not in order: %v", g.began)
	}
}

func TestLaneBoundsWhoWaits(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	g := newGated()
	q.RegisterIn(job.Lane{Name: "bulk", Workers: 1, PerStore: 1, Waiting: 2}, "import", g)
	start(t, q)
	for range 3 {
		ask(t, q, job.Submission{Kind: "import", Datastore: "a"})
	}
	if _, err := q.Submit(t.Context(), job.Submission{Kind: "import", Datastore: "a"}); !fault.Is(err, fault.Throttled) {
		t.Errorf("the fourth: %v", err)
	}
	ask(t, q, job.Submission{Kind: "import", Datastore: "b"})
}

func TestTokenGivesTheSameJob(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	first := ask(t, q, job.Submission{Kind: "import", Datastore: "a", Token: "t", Input: 1})
	if again := ask(t, q, job.Submission{Kind: "import", Datastore: "a", Token: "t", Input: 1}); again.ID != first.ID || len(first.ID) != 32 {
		t.Errorf("%q and %q", first.ID, again.ID)
	}
	if _, err := q.Submit(t.Context(), job.Submission{Kind: "import", Datastore: "a", Token: "t", Input: 2}); !fault.Is(err, fault.Invalid) {
		t.Errorf("with another input: %v", err)
	}
	decided := ask(t, q, job.Submission{Kind: "import", Datastore: "a", Token: "asked", Asked: "x", Input: 1})
	if again := ask(t, q, job.Submission{Kind: "import", Datastore: "a", Token: "asked", Asked: "x", Input: 2}); again.ID != decided.ID || string(again.Input) != "1" {
		t.Errorf("asked for the same again: %s %s", again.ID, again.Input)
	}
	if _, err := q.Submit(t.Context(), job.Submission{Kind: "import", Datastore: "a", Token: "asked", Asked: "y", Input: 1}); !fault.Is(err, fault.Invalid) {
		t.Errorf("asked for something else: %v", err)
	}
	if other := ask(t, q, job.Submission{Kind: "import", Datastore: "b", Token: "t", Input: 2}); other.ID == first.ID {
		t.Error("another data store got the job")
	}
	var group sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		group.Go(func() {
			j, err := q.Submit(t.Context(), job.Submission{Kind: "import", Datastore: "a", Token: "raced"})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = j.ID
		})
	}
	group.Wait()
	if len(slices.Compact(ids)) != 1 {
		t.Errorf("raced: %v", ids)
	}
}

func TestCancel(t *testing.T) {
	system := openSystem(t)
	q := queue(t, system, 1, nil)
	g := newGated()
	var told []job.Status
	g.cancel = func(run *job.Run) error {
		told = append(told, run.Job.Status)
		if len(told) == 1 {
			return fault.New(fault.Unavailable, "", "not now")
		}
		return nil
	}
	q.RegisterIn(job.Lane{Name: "bulk", Workers: 1, PerStore: 1, Waiting: 5}, "import", g)
	q.Register("own", runner{run: func(context.Context, *job.Run) error { return nil }})
	start(t, q)
	running := ask(t, q, job.Submission{Kind: "import", Datastore: "a"})
	<-g.start
	queued := ask(t, q, job.Submission{Kind: "import", Datastore: "a"})
	await(t, q, queued.ID, job.Queued)
	for _, id := range []string{queued.ID, running.ID} { // the one that waits goes at once
		if j, err := q.Cancel(t.Context(), id); err != nil || j.Status != job.CancelSubmitted {
			t.Fatalf("%+v, %v", j, err)
		}
		await(t, q, id, job.CancelCompleted)
	}
	if _, err := q.Cancel(t.Context(), running.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("canceled twice: %v", err)
	}
	if _, err := q.Cancel(t.Context(), "nobody"); !fault.Is(err, fault.NotFound) {
		t.Errorf("nobody: %v", err)
	}
	own := submit(t, q, "own")
	if _, err := q.Cancel(t.Context(), own.ID); !fault.Is(err, fault.NotSupported) {
		t.Errorf("the server's own: %v", err)
	}
	if len(told) != 3 || told[0] != job.CancelInProgress {
		t.Errorf("told %v", told)
	}
	next := ask(t, q, job.Submission{Kind: "import", Datastore: "a"})
	<-g.start
	g.goOn <- struct{}{}
	await(t, q, next.ID, job.Completed)
}

// A cancellation that the server died in is carried out by the next.
func TestCancelSurvivesTheServer(t *testing.T) {
	system := openSystem(t)
	before := queue(t, system, 1, nil)
	before.RegisterIn(job.Lane{Name: "bulk", Workers: 1}, "import", newGated())
	j := ask(t, before, job.Submission{Kind: "import", Datastore: "a"}) // not started
	if _, err := before.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	q := queue(t, system, 1, nil)
	g := newGated()
	g.cancel = func(*job.Run) error { return fault.New(fault.Invalid, "", "litter stays") }
	q.RegisterIn(job.Lane{Name: "bulk", Workers: 1}, "import", g)
	start(t, q)
	if done := await(t, q, j.ID, job.CancelFailed); done.Message != "litter stays" || done.Attempts != 0 {
		t.Errorf("%+v", done)
	}
}

func TestProgressAndOutcome(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	reached, goOn := make(chan struct{}), make(chan struct{})
	q.Register("k", runner{run: func(ctx context.Context, run *job.Run) error {
		var n atomic.Int64 // it is asked from other goroutines
		n.Store(3)
		run.Report(func() any { return map[string]int64{"n": n.Load()} })
		if err := run.Checkpoint(ctx, "here"); err != nil {
			return err
		}
		close(reached)
		<-goOn
		n.Store(4)
		run.End(job.CompletedWithErrors, "see the manifest")
		return nil
	}})
	start(t, q)
	j := ask(t, q, job.Submission{Kind: "k", Datastore: "a"})
	<-reached
	live, err := q.Get(t.Context(), j.ID)
	if err != nil || string(live.Progress) != `{"n":3}` || string(live.Checkpoint) != `"here"` {
		t.Errorf("live: %+v, %v", live, err)
	}
	close(goOn)
	if done := await(t, q, j.ID, job.CompletedWithErrors); string(done.Progress) != `{"n":4}` || done.Message != "see the manifest" {
		t.Errorf("%+v", done)
	}
	want := job.Stat{Kind: "k", State: "COMPLETED_WITH_ERRORS", Count: 1}
	q.Stop()
	if stats := q.Stats(); !slices.Contains(stats, want) {
		t.Errorf("stats %v", stats)
	}
}

// Progress makes patience begin anew: a job that comes on between faults is not
// given up for their number.
func TestProgressRenewsPatience(t *testing.T) {
	var pauses []time.Duration
	q := queue(t, openSystem(t), 1, &pauses)
	tries := 0
	q.Register("k", runner{run: func(ctx context.Context, run *job.Run) error {
		if tries++; tries == 40 {
			return nil
		}
		if tries%10 == 0 {
			if err := run.Note(ctx); err != nil {
				return err
			}
		}
		return fault.New(fault.Unavailable, "", "not now")
	}})
	start(t, q)
	await(t, q, ask(t, q, job.Submission{Kind: "k"}).ID, job.Completed)
}

func TestList(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	q.Clock = ticking(time.UnixMilli(1_700_000_000_000), time.Second)
	for i := range 6 {
		ask(t, q, job.Submission{Kind: []string{"import", "export"}[i%2], Datastore: []string{"a", "b"}[i/4], Name: fmt.Sprint("n", i)})
	}
	names := func(f job.Filter) (names []string) {
		var page job.Page
		for {
			var err error
			if page, err = q.List(t.Context(), f, 2, page.At, page.After); err != nil {
				t.Fatal(err)
			}
			for _, j := range page.Jobs {
				names = append(names, j.Name)
			}
			if page.After == nil {
				return names
			}
		}
	}
	from := time.UnixMilli(1_700_000_000_000)
	for name, c := range map[string]struct {
		filter job.Filter
		want   []string
	}{
		"all":       {job.Filter{}, []string{"n5", "n4", "n3", "n2", "n1", "n0"}},
		"kind":      {job.Filter{Kinds: []string{"import"}, Datastore: "a"}, []string{"n2", "n0"}},
		"name":      {job.Filter{Name: "n3"}, []string{"n3"}},
		"status":    {job.Filter{Status: job.Completed}, nil},
		"submitted": {job.Filter{From: from.Add(2 * time.Second), Before: from.Add(4 * time.Second)}, []string{"n2", "n1"}},
	} {
		if got := names(c.filter); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestInputIsKeptAsGiven(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	j := ask(t, q, job.Submission{Kind: "k", Input: map[string]int{"x": 1}})
	got, err := q.Get(t.Context(), j.ID)
	var in map[string]int
	if err == nil {
		err = json.Unmarshal(got.Input, &in)
	}
	if err != nil || in["x"] != 1 {
		t.Errorf("%v, %v", in, err)
	}
}
