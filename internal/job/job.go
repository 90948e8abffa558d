// Package job is durable work: what is submitted is carried out, also when the
// server dies in the middle.
//
//	Op + commit → SUBMITTED → IN_PROGRESS → COMPLETED | COMPLETED_WITH_ERRORS | FAILED
//	                              ↑ ↓
//	              a passing fault, a crash, a stop: begun again from its checkpoint
//
// A job is a document of the system store. A Queue runs it by the Runner that
// is registered for its kind and keeps the checkpoints that the Runner makes.
// Whatever is unfinished and not under way is found by Scan: at Start, and
// every scanEvery after it, so that neither a crash between the commit of a job
// and its beginning nor a commit of unknown outcome leaves it behind. One Queue
// serves a system store at a time: the engine's own lock on the store sees to
// that. Kinds are registered where the server is wired, never imported.
package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Status is a job's state, in AWS's words (API_ImportJobProperties).
type Status string

// The states.
const (
	Submitted           Status = "SUBMITTED"
	InProgress          Status = "IN_PROGRESS"
	Completed           Status = "COMPLETED"
	CompletedWithErrors Status = "COMPLETED_WITH_ERRORS"
	Failed              Status = "FAILED"
)

// Ended reports whether a job in this state will not run again.
func (s Status) Ended() bool {
	return s == Completed || s == CompletedWithErrors || s == Failed
}

// Job is one piece of durable work.
type Job struct {
	ID          string
	Kind        string // names the Runner: "datastore.provision"
	Datastore   string // the data store it works for
	Status      Status
	SubmittedAt time.Time
	EndedAt     time.Time       `json:",omitzero"`
	Attempts    int             // how often it was begun
	Input       json.RawMessage `json:",omitempty"` // what was asked, of the kind's own shape
	Checkpoint  json.RawMessage `json:",omitempty"` // how far it came, of the kind's own shape
	Message     string          `json:",omitempty"` // why it failed
}

// Runner carries out the jobs of one kind. Run may be called again for the same
// job after a crash or a passing fault; it resumes from run.Job.Checkpoint. A
// returned error of kind Unavailable, Timeout or Full is passing and tried
// again; any other ends the job, after Fail was called.
type Runner interface {
	Run(ctx context.Context, run *Run) error
	// Fail is told that the job is given up, before it is marked FAILED.
	Fail(ctx context.Context, run *Run, cause error) error
}

// Run is one attempt at a job.
type Run struct {
	Job   Job
	queue *Queue
}

// Checkpoint keeps how far the job came, durably.
func (r *Run) Checkpoint(ctx context.Context, state any) error {
	raw, err := json.Marshal(state)
	if err != nil {
		return fault.Wrap(fault.Internal, "job.Checkpoint", err)
	}
	_, err = jobs.Update(ctx, r.queue.system, r.Job.ID, func(j *Job) error {
		j.Checkpoint = raw
		return nil
	})
	if err == nil {
		r.Job.Checkpoint = raw
	}
	return err
}

// Entry numbers of job documents. Persisted: never reuse.
const (
	entryStatus uint16 = 1 + iota
	entryDatastore
	entrySubmitted
)

var jobs = record.Kind[Job]{Type: record.TypeJob, Entries: func(j *Job) []plan.Entry {
	return []plan.Entry{
		record.Text(entryStatus, string(j.Status)),
		record.Text(entryDatastore, j.Datastore),
		record.Time(entrySubmitted, j.SubmittedAt),
	}
}}

// How a passing fault is tried again: after firstRetry, doubled up to
// lastRetry, at most maxAttempts times in a row (three minutes in all).
const (
	firstRetry  = 250 * time.Millisecond
	lastRetry   = 30 * time.Second
	maxAttempts = 12
)

// scanEvery is how often the store is looked through for unfinished jobs that
// are not under way.
const scanEvery = 30 * time.Second

// Options are what a Queue needs.
type Options struct {
	System  store.Store
	Workers int // jobs side by side, at least 1
	NewID   func() string
	Clock   func() time.Time
	Log     *slog.Logger
	// Pause waits before another attempt, or until ctx ends; nil: a timer.
	Pause func(ctx context.Context, d time.Duration)
}

// Queue runs jobs.
type Queue struct {
	Options
	system  store.Store
	runners map[string]Runner
	slots   chan struct{}
	wg      sync.WaitGroup

	mu      sync.Mutex
	running context.Context // nil before Start and after Stop
	stop    context.CancelFunc
	under   map[string]bool // ids of the jobs under way
}

// NewQueue makes a queue that runs nothing until Start.
func NewQueue(o Options) *Queue {
	if o.Pause == nil {
		o.Pause = pause
	}
	return &Queue{
		Options: o, system: o.System, runners: map[string]Runner{},
		slots: make(chan struct{}, max(1, o.Workers)), under: map[string]bool{},
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Register names the runner of a kind; all kinds are registered before Start.
func (q *Queue) Register(kind string, r Runner) { q.runners[kind] = r }

// Op makes a job and the op that submits it, for a commit together with what it
// is about; after the commit the caller calls Began.
func (q *Queue) Op(kind, datastore string, input any) (Job, store.Op, error) {
	return q.OpAs(q.NewID(), kind, datastore, input)
}

// OpAs is Op for a job whose id is given; the commit fails with *store.Unmet when
// the id is taken.
func (q *Queue) OpAs(id, kind, datastore string, input any) (Job, store.Op, error) {
	raw, err := json.Marshal(input)
	if err != nil {
		return Job{}, store.Op{}, fault.Wrap(fault.Internal, "job.Op", err)
	}
	j := Job{ID: id, Kind: kind, Datastore: datastore, Status: Submitted, SubmittedAt: q.Clock(), Input: raw}
	op, err := jobs.Put(j.ID, &j, store.Condition{Kind: store.Never})
	return j, op, err
}

// Began starts a job whose Op was committed. Before Start it does nothing:
// Start finds the job.
func (q *Queue) Began(j Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running == nil || q.under[j.ID] {
		return
	}
	q.under[j.ID] = true
	q.wg.Add(1)
	go q.work(q.running, j)
}

// Get reads a job.
func (q *Queue) Get(ctx context.Context, id string) (*Job, error) {
	return jobs.Get(ctx, q.system, id)
}

// Open lists a data store's jobs that have not ended.
func (q *Queue) Open(ctx context.Context, datastore string) ([]*Job, error) {
	return q.unfinished(ctx, record.Is(entryDatastore, datastore))
}

func (q *Queue) unfinished(ctx context.Context, of ...plan.Node) ([]*Job, error) {
	open := plan.Or{record.Is(entryStatus, string(Submitted)), record.Is(entryStatus, string(InProgress))}
	return jobs.All(ctx, q.system, plan.And(append(of, open)))
}

// Forget drops the jobs of a kind that ended before a time.
func (q *Queue) Forget(ctx context.Context, kind string, before time.Time) error {
	old, err := jobs.All(ctx, q.system, record.Before(entrySubmitted, before))
	if err != nil {
		return err
	}
	for _, j := range old {
		if j.Kind != kind || !j.Status.Ended() || !j.EndedAt.Before(before) {
			continue
		}
		if err := jobs.Purge(ctx, q.system, j.ID); err != nil {
			return err
		}
	}
	return nil
}

// Start begins every unfinished job, Workers at a time, and then those
// submitted.
func (q *Queue) Start(ctx context.Context) error {
	q.mu.Lock()
	q.running, q.stop = context.WithCancel(context.WithoutCancel(ctx))
	running := q.running
	q.wg.Add(1)
	q.mu.Unlock()
	go q.scanning(running)
	if err := q.Scan(ctx); err != nil {
		q.Stop()
		return err
	}
	return nil
}

// Scan begins every unfinished job that is not under way.
func (q *Queue) Scan(ctx context.Context) error {
	open, err := q.unfinished(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(open, func(a, b *Job) int { return a.SubmittedAt.Compare(b.SubmittedAt) })
	for _, j := range open {
		q.Began(*j)
	}
	return nil
}

func (q *Queue) scanning(ctx context.Context) {
	defer q.wg.Done()
	tick := time.NewTicker(scanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := q.Scan(ctx); err != nil && ctx.Err() == nil {
				q.Log.Warn("looking for unfinished jobs", "error", err)
			}
		}
	}
}

// Stop lets running jobs go where they are, to be resumed by the next Start,
// and waits for them.
func (q *Queue) Stop() {
	q.mu.Lock()
	if q.stop != nil {
		q.stop()
	}
	q.running = nil
	q.mu.Unlock()
	q.wg.Wait()
}

// errUntouched says that a job's document could not be read or written: nothing
// is known against the job itself, and the next Scan takes it up again.
var errUntouched = errors.New("job: left for the next scan")

// work carries one job to its end, or to the queue's.
func (q *Queue) work(ctx context.Context, j Job) {
	defer q.wg.Done()
	defer q.leave(j.ID)
	run := &Run{Job: j, queue: q}
	err := q.attempts(ctx, run)
	if ctx.Err() != nil || run.Job.Status.Ended() {
		return
	}
	if !errors.Is(err, errUntouched) {
		err = q.end(ctx, run, err)
	}
	if err != nil && ctx.Err() == nil {
		q.Log.Error("job is left for the next scan", "job", j.ID, "kind", j.Kind, "error", err)
	}
}

func (q *Queue) leave(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.under, id)
}

func (q *Queue) attempts(ctx context.Context, run *Run) error {
	runner, known := q.runners[run.Job.Kind]
	if !known {
		return fault.New(fault.Internal, "job.work", "no runner for jobs of kind %s", run.Job.Kind)
	}
	wait := firstRetry
	for attempt := 1; ; attempt++ {
		err := q.attempt(ctx, runner, run)
		if err == nil || !Passing(err) || attempt == maxAttempts {
			return err
		}
		q.Log.Warn("job will be tried again", "job", run.Job.ID, "kind", run.Job.Kind, "wait", wait, "error", err)
		q.Pause(ctx, wait)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait = min(2*wait, lastRetry)
	}
}

// attempt is one run, for which the job holds one of the slots; a job that
// waits to be tried again holds none.
func (q *Queue) attempt(ctx context.Context, runner Runner, run *Run) error {
	select {
	case q.slots <- struct{}{}:
		defer func() { <-q.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := q.begin(ctx, run); err != nil || run.Job.Status.Ended() {
		return err
	}
	return guarded(func() error { return runner.Run(ctx, run) })
}

// guarded turns a panic into an error: one job's mistake is not the server's
// end, time and again at each start.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Internal, "job.work", "panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// begin marks the job as under way. A job that has ended meanwhile, behind the
// back of an older Scan, stays as it is; run.Job tells.
func (q *Queue) begin(ctx context.Context, run *Run) error {
	kept, err := jobs.Update(ctx, q.system, run.Job.ID, func(j *Job) error {
		if j.Status.Ended() {
			run.Job = *j
			return errUntouched
		}
		j.Status = InProgress
		j.Attempts++
		return nil
	})
	switch {
	case err == nil:
		run.Job = *kept
		return nil
	case run.Job.Status.Ended(), fault.Is(err, fault.NotFound):
		run.Job.Status = Completed
		return nil
	}
	return fmt.Errorf("%w: %w", errUntouched, err)
}

func (q *Queue) end(ctx context.Context, run *Run, cause error) error {
	if cause != nil {
		q.Log.Error("job failed", "job", run.Job.ID, "kind", run.Job.Kind, "error", cause)
		if runner, known := q.runners[run.Job.Kind]; known {
			if err := guarded(func() error { return runner.Fail(ctx, run, cause) }); err != nil {
				return err
			}
		}
	}
	_, err := jobs.Update(ctx, q.system, run.Job.ID, func(j *Job) error {
		j.Status, j.EndedAt = Completed, q.Clock()
		if cause != nil {
			j.Status, j.Message = Failed, Reason(cause)
		}
		return nil
	})
	return err
}

// maxReason bounds a reason, in bytes (ErrorMessage of ErrorCause, 4096
// characters; Message of a job, 2048; healthlake-2017-07-01).
const maxReason = 2048

// Reason is what a client may read of why something failed; the cause of an
// internal error is for the log.
func Reason(cause error) string {
	found := fault.From(cause)
	reason := found.Message()
	if found.Kind == fault.Internal {
		reason = found.Kind.Row().Sentence
	}
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	return reason
}

// Passing reports whether a fault may be gone at another attempt.
func Passing(err error) bool {
	switch fault.From(err).Kind {
	case fault.Unavailable, fault.Timeout, fault.Full:
		return !errors.Is(err, errUntouched)
	}
	return false
}
