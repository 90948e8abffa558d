// Package job is durable work: what is submitted is carried out, also when the
// server dies in the middle.
//
//	Submit → SUBMITTED → IN_PROGRESS → COMPLETED | COMPLETED_WITH_ERRORS | FAILED
//
// A job is a document of the system store. A Queue runs it by the Runner that
// is registered for its kind, keeps the checkpoints that the Runner makes, and
// after a restart begins every unfinished job again with its last checkpoint.
// One Queue serves a system store at a time: the engine's own lock on the store
// sees to that. Kinds are registered where the server is wired, never imported.
package job

import (
	"context"
	"encoding/json"
	"log/slog"
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
// lastRetry, at most maxAttempts times in a row.
const (
	firstRetry  = 250 * time.Millisecond
	lastRetry   = 30 * time.Second
	maxAttempts = 12
)

// Options are what a Queue needs.
type Options struct {
	System  store.Store
	Workers int // jobs side by side, at least 1
	NewID   func() string
	Clock   func() time.Time
	Log     *slog.Logger
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
}

// NewQueue makes a queue that runs nothing until Start.
func NewQueue(o Options) *Queue {
	return &Queue{Options: o, system: o.System, runners: map[string]Runner{}, slots: make(chan struct{}, max(1, o.Workers))}
}

// Register names the runner of a kind; all kinds are registered before Start.
func (q *Queue) Register(kind string, r Runner) { q.runners[kind] = r }

// Op makes a job and the op that submits it, for a commit together with what it
// is about; after the commit the caller calls Began.
func (q *Queue) Op(kind, datastore string, input any) (Job, store.Op, error) {
	raw, err := json.Marshal(input)
	if err != nil {
		return Job{}, store.Op{}, fault.Wrap(fault.Internal, "job.Op", err)
	}
	j := Job{ID: q.NewID(), Kind: kind, Datastore: datastore, Status: Submitted, SubmittedAt: q.Clock(), Input: raw}
	op, err := jobs.Put(j.ID, &j, store.Condition{Kind: store.Never})
	return j, op, err
}

// Began starts a job whose Op was committed. Before Start it does nothing:
// Start finds the job.
func (q *Queue) Began(j Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running == nil {
		return
	}
	q.wg.Add(1)
	go q.work(q.running, j)
}

// Get reads a job.
func (q *Queue) Get(ctx context.Context, id string) (*Job, error) {
	return jobs.Get(ctx, q.system, id)
}

// Start begins every unfinished job, oldest first, and then those submitted.
func (q *Queue) Start(ctx context.Context) error {
	var open []*Job
	for _, status := range []Status{Submitted, InProgress} {
		found, err := jobs.All(ctx, q.system, record.Is(entryStatus, string(status)))
		if err != nil {
			return err
		}
		open = append(open, found...)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running, q.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, j := range open {
		q.wg.Add(1)
		go q.work(q.running, *j)
	}
	return nil
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

// work carries one job to its end, or to the queue's.
func (q *Queue) work(ctx context.Context, j Job) {
	defer q.wg.Done()
	select {
	case q.slots <- struct{}{}:
		defer func() { <-q.slots }()
	case <-ctx.Done():
		return
	}
	run := &Run{Job: j, queue: q}
	err := q.attempts(ctx, run)
	if ctx.Err() != nil {
		return
	}
	if err := q.end(ctx, run, err); err != nil {
		q.Log.Error("job could not be ended; it is tried again at the next start", "job", j.ID, "kind", j.Kind, "error", err)
	}
}

func (q *Queue) attempts(ctx context.Context, run *Run) error {
	runner, known := q.runners[run.Job.Kind]
	if !known {
		return fault.New(fault.Internal, "job.work", "no runner for jobs of kind %s", run.Job.Kind)
	}
	wait := firstRetry
	for attempt := 1; ; attempt++ {
		if err := q.begin(ctx, run); err != nil {
			return err
		}
		err := runner.Run(ctx, run)
		if err == nil || !passing(err) || attempt == maxAttempts {
			return err
		}
		q.Log.Warn("job will be tried again", "job", run.Job.ID, "kind", run.Job.Kind, "wait", wait, "error", err)
		select {
		case <-time.After(wait):
			wait = min(2*wait, lastRetry)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (q *Queue) begin(ctx context.Context, run *Run) error {
	kept, err := jobs.Update(ctx, q.system, run.Job.ID, func(j *Job) error {
		j.Status = InProgress
		j.Attempts++
		return nil
	})
	if err == nil {
		run.Job = *kept
	}
	return err
}

func (q *Queue) end(ctx context.Context, run *Run, cause error) error {
	if cause != nil {
		q.Log.Error("job failed", "job", run.Job.ID, "kind", run.Job.Kind, "error", cause)
		if runner, known := q.runners[run.Job.Kind]; known {
			if err := runner.Fail(ctx, run, cause); err != nil {
				return err
			}
		}
	}
	_, err := jobs.Update(ctx, q.system, run.Job.ID, func(j *Job) error {
		j.Status, j.EndedAt = Completed, q.Clock()
		if cause != nil {
			j.Status, j.Message = Failed, fault.From(cause).Message()
		}
		return nil
	})
	return err
}

func passing(err error) bool {
	switch fault.From(err).Kind {
	case fault.Unavailable, fault.Timeout, fault.Full:
		return true
	}
	return false
}
