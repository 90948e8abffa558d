package job_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

// runner is a Runner of two functions.
type runner struct {
	run  func(ctx context.Context, run *job.Run) error
	fail func(cause error) error
}

func (r runner) Run(ctx context.Context, run *job.Run) error { return r.run(ctx, run) }

func (r runner) Fail(_ context.Context, _ *job.Run, cause error) error {
	if r.fail == nil {
		return nil
	}
	return r.fail(cause)
}

func openSystem(t *testing.T) store.Store {
	t.Helper()
	engine := memory.New(memory.Options{Clock: time.Now, Rand: rand.Reader})
	key, err := seal.NewDataKey(rand.Reader)
	if err == nil {
		err = engine.Create(t.Context(), "system", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	system, err := engine.Open(t.Context(), "system", key)
	if err != nil {
		t.Fatal(err)
	}
	return system
}

// queue makes a queue over a system store; it waits for nothing, and notes how
// long it would have.
func queue(t *testing.T, system store.Store, workers int, pauses *[]time.Duration) *job.Queue {
	var ids atomic.Int64
	q := job.NewQueue(job.Options{
		System: system, Workers: workers, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		NewID: func() string { return fmt.Sprintf("job-%s-%d", strings.ToLower(rand.Text()), ids.Add(1)) },
		Pause: func(_ context.Context, d time.Duration) {
			if pauses != nil {
				*pauses = append(*pauses, d)
			}
		},
	})
	t.Cleanup(q.Stop)
	return q
}

func submit(t *testing.T, q *job.Queue, kind string) job.Job {
	t.Helper()
	j, op, err := q.Op(kind, "store-1", map[string]string{"a": "b"})
	if err == nil {
		_, err = q.System.Commit(t.Context(), []store.Op{op})
	}
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func await(t *testing.T, q *job.Queue, id string, want job.Status) *job.Job {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		j, err := q.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if j.Status == want {
			return j
		}
		if time.Now().After(deadline) {
			t.Fatalf("job is %s, want %s", j.Status, want)
		}
	}
}

func start(t *testing.T, q *job.Queue) {
	t.Helper()
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestJobRunsToItsEnd(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	q.Register("k", runner{run: func(_ context.Context, run *job.Run) error {
		if run.Job.Status != job.InProgress || string(run.Job.Input) != `{"a":"b"}` || run.Job.Datastore != "store-1" {
			t.Errorf("job as run: %+v", run.Job)
		}
		return nil
	}})
	start(t, q)
	j := submit(t, q, "k")
	if j.Status != job.Submitted {
		t.Errorf("status %s as submitted", j.Status)
	}
	q.Began(j)
	q.Began(j) // once is enough
	if done := await(t, q, j.ID, job.Completed); done.Attempts != 1 || done.EndedAt.IsZero() || done.Message != "" {
		t.Errorf("%+v", done)
	}
}

// A job whose submitter died before telling the queue is found by Start, or by
// the next Scan; and one that ended is not run again.
func TestScanFindsJobs(t *testing.T) {
	system := openSystem(t)
	q := queue(t, system, 4, nil)
	var runs atomic.Int64
	q.Register("k", runner{run: func(context.Context, *job.Run) error { runs.Add(1); return nil }})
	before := submit(t, q, "k")
	q.Began(before) // not started: Start finds it
	start(t, q)
	await(t, q, before.ID, job.Completed)
	after := submit(t, q, "k")
	for range 3 {
		if err := q.Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	await(t, q, after.ID, job.Completed)
	q.Began(after) // as an old Scan would
	q.Stop()
	if n := runs.Load(); n != 2 {
		t.Errorf("%d runs of 2 jobs", n)
	}
	if done, err := q.Get(t.Context(), after.ID); err != nil || done.Status != job.Completed || done.Attempts != 1 {
		t.Errorf("an ended job begun again: %+v, %v", done, err)
	}
}

func TestStopAndResumeFromCheckpoint(t *testing.T) {
	system := openSystem(t)
	q := queue(t, system, 1, nil)
	reached := make(chan struct{})
	q.Register("k", runner{run: func(ctx context.Context, run *job.Run) error {
		if err := run.Checkpoint(ctx, 7); err != nil {
			return err
		}
		close(reached)
		<-ctx.Done()
		return ctx.Err()
	}, fail: func(cause error) error { t.Errorf("a stopped job failed: %v", cause); return nil }})
	start(t, q)
	j := submit(t, q, "k")
	q.Began(j)
	<-reached
	q.Stop()
	if got, err := q.Get(t.Context(), j.ID); err != nil || got.Status != job.InProgress {
		t.Errorf("stopped: %+v, %v", got, err)
	}
	if open, err := q.Open(t.Context(), "store-1"); err != nil || len(open) != 1 {
		t.Errorf("open jobs: %v, %v", open, err)
	}
	next := queue(t, system, 1, nil)
	next.Register("k", runner{run: func(_ context.Context, run *job.Run) error {
		var state int
		if err := json.Unmarshal(run.Job.Checkpoint, &state); err != nil || state != 7 || run.Job.Attempts != 2 {
			t.Errorf("resumed with %+v: %v", run.Job, err)
		}
		return nil
	}})
	start(t, next)
	await(t, next, j.ID, job.Completed)
	if open, err := next.Open(t.Context(), "store-1"); err != nil || len(open) != 0 {
		t.Errorf("open jobs: %v, %v", open, err)
	}
}

func TestFaultsPassOrEnd(t *testing.T) {
	passing := fault.New(fault.Unavailable, "test", "not now")
	for name, c := range map[string]struct {
		errs     []error // of the attempts, the last one for ever
		want     job.Status
		attempts int
		message  string
	}{
		"passes":         {[]error{passing, fault.New(fault.Timeout, "", ""), fault.New(fault.Full, "", ""), nil}, job.Completed, 4, ""},
		"lasts":          {[]error{passing}, job.Failed, 12, "not now"},
		"ends at once":   {[]error{fault.New(fault.Invalid, "", "wrong data")}, job.Failed, 1, "wrong data"},
		"passes and not": {[]error{passing, fault.New(fault.Forbidden, "", "no")}, job.Failed, 2, "no"},
		"ours, untold":   {[]error{errors.New("path /secret")}, job.Failed, 1, fault.Internal.Row().Sentence},
	} {
		t.Run(name, func(t *testing.T) {
			var pauses []time.Duration
			q := queue(t, openSystem(t), 1, &pauses)
			var n int
			var failed error
			q.Register("k", runner{
				run: func(context.Context, *job.Run) error {
					err := c.errs[min(n, len(c.errs)-1)]
					n++
					return err
				},
				fail: func(cause error) error { failed = cause; return nil },
			})
			start(t, q)
			j := submit(t, q, "k")
			q.Began(j)
			done := await(t, q, j.ID, c.want)
			q.Stop()
			if done.Attempts != c.attempts || done.Message != c.message {
				t.Errorf("%d attempts, %q; want %d, %q", done.Attempts, done.Message, c.attempts, c.message)
			}
			if (failed != nil) != (c.want == job.Failed) {
				t.Errorf("Fail was told %v", failed)
			}
			for i := 1; i < len(pauses); i++ {
				if pauses[i] < pauses[i-1] || pauses[i] > 30*time.Second {
					t.Errorf("pauses %v", pauses)
				}
			}
		})
	}
}

func TestPanicEndsTheJobOnly(t *testing.T) {
	var log bytes.Buffer
	q := queue(t, openSystem(t), 1, nil)
	q.Log = slog.New(slog.NewTextHandler(&log, nil))
	q.Register("k", runner{run: func(context.Context, *job.Run) error { panic("oh") }})
	q.Register("fine", runner{run: func(context.Context, *job.Run) error { return nil }})
	start(t, q)
	bad, good := submit(t, q, "k"), submit(t, q, "fine")
	q.Began(bad)
	q.Began(good)
	await(t, q, good.ID, job.Completed)
	if j := await(t, q, bad.ID, job.Failed); j.Message != fault.Internal.Row().Sentence {
		t.Errorf("message %q", j.Message)
	}
	q.Stop()
	if !strings.Contains(log.String(), "oh") {
		t.Errorf("the log does not say why: %s", log.String())
	}
}

// Fail that fails leaves the job for the next scan, which runs it again.
func TestFailingFailIsTriedAgain(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	var told atomic.Int64
	q.Register("k", runner{
		run: func(context.Context, *job.Run) error { return fault.New(fault.Invalid, "", "wrong") },
		fail: func(error) error {
			if told.Add(1) == 1 {
				return fault.New(fault.Unavailable, "", "not now")
			}
			return nil
		},
	})
	start(t, q)
	j := submit(t, q, "k")
	q.Began(j)
	for told.Load() < 1 {
		time.Sleep(time.Millisecond)
	}
	for told.Load() < 2 {
		if err := q.Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	await(t, q, j.ID, job.Failed)
}

// A job that waits to be tried again is in nobody's way.
func TestWaitingFreesTheSlot(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	waiting, goOn := make(chan struct{}), make(chan struct{})
	q.Pause = func(context.Context, time.Duration) {
		close(waiting)
		<-goOn
	}
	var tries atomic.Int64
	q.Register("slow", runner{run: func(context.Context, *job.Run) error {
		if tries.Add(1) == 1 {
			return fault.New(fault.Unavailable, "", "not now")
		}
		return nil
	}})
	q.Register("quick", runner{run: func(context.Context, *job.Run) error { return nil }})
	start(t, q)
	slow := submit(t, q, "slow")
	q.Began(slow)
	<-waiting
	quick := submit(t, q, "quick")
	q.Began(quick)
	await(t, q, quick.ID, job.Completed)
	close(goOn)
	await(t, q, slow.ID, job.Completed)
}

func TestWorkersBound(t *testing.T) {
	const workers, count = 3, 20
	q := queue(t, openSystem(t), workers, nil)
	var mu sync.Mutex
	now, most := 0, 0
	q.Register("k", runner{run: func(context.Context, *job.Run) error {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		now--
		mu.Unlock()
		return nil
	}})
	var ids []string
	for range count {
		ids = append(ids, submit(t, q, "k").ID)
	}
	start(t, q)
	for _, id := range ids {
		await(t, q, id, job.Completed)
	}
	if most > workers {
		t.Errorf("%d jobs at once, want %d at most", most, workers)
	}
}

func TestUnknownKindFails(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	start(t, q)
	j := submit(t, q, "never registered")
	q.Began(j)
	await(t, q, j.ID, job.Failed)
}

func TestForget(t *testing.T) {
	q := queue(t, openSystem(t), 1, nil)
	done := runner{run: func(context.Context, *job.Run) error { return nil }}
	q.Register("k", done)
	q.Register("other", done)
	start(t, q)
	k, other := submit(t, q, "k"), submit(t, q, "other")
	q.Began(k)
	q.Began(other)
	await(t, q, k.ID, job.Completed)
	await(t, q, other.ID, job.Completed)
	open := submit(t, q, "k") // not begun
	if err := q.Forget(t.Context(), "k", time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	await(t, q, k.ID, job.Completed)
	if err := q.Forget(t.Context(), "k", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Get(t.Context(), k.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("an old job is still there: %v", err)
	}
	for _, id := range []string{other.ID, open.ID} {
		if _, err := q.Get(t.Context(), id); err != nil {
			t.Errorf("job %s: %v", id, err)
		}
	}
}

func TestReasonIsBounded(t *testing.T) {
	long := job.Reason(fault.New(fault.Invalid, "", "%s", strings.Repeat("ä", 5000)))
	if len(long) > 2048 || strings.ContainsRune(long, '\uFFFD') {
		t.Errorf("%d bytes", len(long))
	}
}
