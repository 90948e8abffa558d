// Package job is durable work: what is submitted is carried out, also when the
// server dies in the middle.
//
//	Submit, or Op + commit → SUBMITTED → QUEUED → IN_PROGRESS → COMPLETED | COMPLETED_WITH_ERRORS | FAILED
//	                                                 ↑ ↓
//	                                 a passing fault, a crash, a stop: begun again from its checkpoint
//	Cancel → CANCEL_SUBMITTED → CANCEL_IN_PROGRESS → CANCEL_COMPLETED | CANCEL_FAILED
//
// A job is a document of the system store. A Queue runs it by the Runner that
// is registered for its kind and keeps the checkpoints that the Runner makes.
// Whatever is unfinished and not under way is found by Scan: at Start, and
// every scanEvery after it, so that neither a crash between the commit of a job
// and its beginning nor a commit of unknown outcome leaves it behind. One Queue
// serves a system store at a time: the engine's own lock on the store sees to
// that. Kinds are registered where the server is wired, never imported. Which
// jobs run side by side is decided by lanes (Lane), each in the order of
// submission and fair between data stores, so that long jobs of one keep neither
// those of another waiting nor the short ones of the server itself.
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
	Queued              Status = "QUEUED" // waits for others of its data store, or for a worker
	InProgress          Status = "IN_PROGRESS"
	Completed           Status = "COMPLETED"
	CompletedWithErrors Status = "COMPLETED_WITH_ERRORS"
	Failed              Status = "FAILED"
	CancelSubmitted     Status = "CANCEL_SUBMITTED"
	CancelInProgress    Status = "CANCEL_IN_PROGRESS"
	CancelCompleted     Status = "CANCEL_COMPLETED"
	CancelFailed        Status = "CANCEL_FAILED"
)

// unended are the states of jobs that will run again.
var unended = []Status{Submitted, Queued, InProgress, CancelSubmitted, CancelInProgress}

// Ended reports whether a job in this state will not run again.
func (s Status) Ended() bool {
	return s != "" && !slices.Contains(unended, s)
}

func (s Status) canceling() bool { return s == CancelSubmitted || s == CancelInProgress }

// Job is one piece of durable work.
type Job struct {
	ID          string
	Kind        string // names the Runner: "datastore.provision"
	Datastore   string // the data store it works for
	Name        string `json:",omitempty"` // as its submitter calls it
	Digest      string `json:",omitempty"` // of the submission, where it had a token
	Status      Status
	SubmittedAt time.Time
	EndedAt     time.Time       `json:",omitzero"`
	Attempts    int             // how often it was begun
	Input       json.RawMessage `json:",omitempty"` // what was asked, of the kind's own shape
	Checkpoint  json.RawMessage `json:",omitempty"` // how far it came, of the kind's own shape
	Progress    json.RawMessage `json:",omitempty"` // what it reports, of the kind's own shape
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

// Canceler is a Runner whose jobs can be canceled. Cancel is called when the job
// no longer runs, and leaves things as a canceled job shall; like Run it may be
// called again. An error that is not passing ends the job in CANCEL_FAILED.
type Canceler interface {
	Cancel(ctx context.Context, run *Run) error
}

// Run is one attempt at a job.
type Run struct {
	Job   Job
	queue *Queue

	mu       sync.Mutex
	report   func() any
	ended    Status
	message  string
	advanced bool // since the attempt began
}

// Report says what the job's progress is asked from while it runs; it is called
// from any goroutine, and its answer marshalled.
func (r *Run) Report(progress func() any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report = progress
}

// progress is what the job reports now, nil when it does not.
func (r *Run) progress() json.RawMessage {
	r.mu.Lock()
	report := r.report
	r.mu.Unlock()
	if report == nil {
		return nil
	}
	raw, err := json.Marshal(report())
	if err != nil {
		return nil // the one before stands
	}
	return raw
}

// End says in which state the job ends when Run returns nil, and why; without it
// that is COMPLETED.
func (r *Run) End(as Status, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended, r.message = as, message
}

// Checkpoint keeps how far the job came and what it reports, durably. A job that
// comes to a checkpoint has its passing faults counted from the beginning.
func (r *Run) Checkpoint(ctx context.Context, state any) error {
	raw, err := json.Marshal(state)
	if err != nil {
		return fault.Wrap(fault.Internal, "job.Checkpoint", err)
	}
	return r.keep(ctx, raw)
}

// Note keeps what the job reports, durably, with the checkpoint there is.
func (r *Run) Note(ctx context.Context) error { return r.keep(ctx, r.Job.Checkpoint) }

func (r *Run) keep(ctx context.Context, checkpoint json.RawMessage) error {
	progress := r.progress()
	_, err := jobs.Update(ctx, r.queue.system, r.Job.ID, func(j *Job) error {
		j.Checkpoint = checkpoint
		if progress != nil {
			j.Progress = progress
		}
		return nil
	})
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Job.Checkpoint, r.advanced = checkpoint, true
	}
	return err
}

// Entry numbers of job documents. Persisted: never reuse.
const (
	entryStatus uint16 = 1 + iota
	entryDatastore
	entrySubmitted
	entryKind
	entryName
)

var jobs = record.Kind[Job]{Type: record.TypeJob, Entries: func(j *Job) []plan.Entry {
	entries := []plan.Entry{
		record.Text(entryStatus, string(j.Status)),
		record.Text(entryDatastore, j.Datastore),
		record.Time(entrySubmitted, j.SubmittedAt),
		record.Text(entryKind, j.Kind),
	}
	if j.Name != "" {
		entries = append(entries, record.Text(entryName, j.Name))
	}
	return entries
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
	Workers int // jobs side by side of the kinds without a lane, at least 1
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
	runners map[string]registered
	lanes   map[string]*lane
	wg      sync.WaitGroup

	mu      sync.Mutex
	running context.Context // nil before Start and after Stop
	stop    context.CancelFunc
	under   map[string]*underway // by job id
	ended   map[Stat]int64       // Count is 0 in the keys
}

// registered is a kind's runner and the lane it takes.
type registered struct {
	Runner
	lane *lane
}

// underway is a job that is being carried out, or waits for its turn.
type underway struct {
	id     string
	kind   string
	run    *Run
	turn   *ticket
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// NewQueue makes a queue that runs nothing until Start.
func NewQueue(o Options) *Queue {
	if o.Pause == nil {
		o.Pause = pause
	}
	own := newLane(Lane{Workers: o.Workers})
	return &Queue{
		Options: o, system: o.System, runners: map[string]registered{},
		lanes: map[string]*lane{"": own}, under: map[string]*underway{}, ended: map[Stat]int64{},
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

// Register names the runner of a kind, in the lane of the kinds that are the
// server's own; all kinds are registered before Start.
func (q *Queue) Register(kind string, r Runner) {
	q.runners[kind] = registered{r, q.lanes[""]}
}

// RegisterIn is Register in a lane; kinds that name the same lane share it, as it
// was first given.
func (q *Queue) RegisterIn(l Lane, kind string, r Runner) {
	if q.lanes[l.Name] == nil {
		q.lanes[l.Name] = newLane(l)
	}
	q.runners[kind] = registered{r, q.lanes[l.Name]}
}

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
	if q.running == nil || q.under[j.ID] != nil {
		return
	}
	u := &underway{id: j.ID, kind: j.Kind, run: &Run{Job: j, queue: q}}
	u.ctx, u.cancel = context.WithCancelCause(q.running)
	if r, known := q.runners[j.Kind]; known {
		u.turn = r.lane.line(j) // in order, here: not when the goroutine comes to it
	}
	q.under[j.ID] = u
	q.wg.Add(1)
	go q.work(q.running, u)
}

// Get reads a job; the progress of one under way is that of this moment.
func (q *Queue) Get(ctx context.Context, id string) (*Job, error) {
	j, err := jobs.Get(ctx, q.system, id)
	if err == nil {
		q.enliven(j)
	}
	return j, err
}

// enliven gives a job the progress that it reports right now.
func (q *Queue) enliven(j *Job) {
	if j.Status.Ended() {
		return
	}
	q.mu.Lock()
	u := q.under[j.ID]
	q.mu.Unlock()
	if u == nil {
		return
	}
	if progress := u.run.progress(); progress != nil {
		j.Progress = progress
	}
}

// Open lists a data store's jobs that have not ended.
func (q *Queue) Open(ctx context.Context, datastore string) ([]*Job, error) {
	return q.unfinished(ctx, record.Is(entryDatastore, datastore))
}

func (q *Queue) unfinished(ctx context.Context, of ...plan.Node) ([]*Job, error) {
	var open plan.Or
	for _, status := range unended {
		open = append(open, record.Is(entryStatus, string(status)))
	}
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
			if err := errors.Join(q.Scan(ctx), q.forgetOld(ctx)); err != nil && ctx.Err() == nil {
				q.Log.Warn("looking for unfinished and old jobs", "error", err)
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
func (q *Queue) work(ctx context.Context, u *underway) {
	defer q.wg.Done()
	defer q.leave(u)
	run := u.run
	err := q.carryOut(u)
	if errors.Is(context.Cause(u.ctx), errCanceled) || errors.Is(err, errCanceled) {
		err = q.canceled(ctx, u)
	} else if ctx.Err() == nil && !run.Job.Status.Ended() && !errors.Is(err, errUntouched) {
		err = q.end(ctx, run, err)
	}
	if err != nil && ctx.Err() == nil {
		q.Log.Error("job is left for the next scan", "job", run.Job.ID, "kind", run.Job.Kind, "error", err)
	}
}

func (q *Queue) leave(u *underway) {
	u.cancel(nil)
	if u.turn != nil {
		u.turn.leave()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.under, u.id)
}

func (q *Queue) carryOut(u *underway) error {
	if u.run.Job.Status.canceling() {
		return errCanceled
	}
	runner, known := q.runners[u.kind]
	if !known {
		return fault.New(fault.Internal, "job.work", "no runner for jobs of kind %s", u.kind)
	}
	if !u.turn.mine() && runner.lane.Waiting > 0 {
		if err := q.queued(u.ctx, u.run); err != nil {
			return err
		}
	}
	return q.attempts(u.ctx, u.run, func() error { return q.attempt(u, runner) })
}

// attempts tries something, again when a passing fault was in the way. Progress
// in between makes the count begin anew.
func (q *Queue) attempts(ctx context.Context, run *Run, try func() error) error {
	wait := firstRetry
	for attempt := 1; ; attempt++ {
		err := try()
		if run.hasAdvanced() {
			wait, attempt = firstRetry, 1
		}
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

func (r *Run) hasAdvanced() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	advanced := r.advanced
	r.advanced = false
	return advanced
}

// attempt is one run, for which the job holds a place in its lane; a job that
// waits to be tried again holds none.
func (q *Queue) attempt(u *underway, runner Runner) error {
	if err := u.turn.wait(u.ctx); err != nil {
		return err
	}
	defer u.turn.leave()
	if err := q.begin(u.ctx, u.run); err != nil || u.run.Job.Status.Ended() {
		return err
	}
	return guarded(func() error { return runner.Run(u.ctx, u.run) })
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
		switch {
		case j.Status.Ended():
			run.Job = *j
			return errUntouched
		case j.Status.canceling():
			return errCanceled
		}
		j.Status = InProgress
		j.Attempts++
		return nil
	})
	switch {
	case err == nil:
		run.Job = *kept
		return nil
	case errors.Is(err, errCanceled):
		return err
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
	status, message := run.outcome()
	if cause != nil {
		status, message = Failed, Reason(cause)
	}
	return q.conclude(ctx, run, status, message)
}

// outcome is how a job ends whose Run returned nil.
func (r *Run) outcome() (Status, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == "" {
		return Completed, ""
	}
	return r.ended, r.message
}

// conclude writes the last state of a job.
func (q *Queue) conclude(ctx context.Context, run *Run, status Status, message string) error {
	progress := run.progress()
	_, err := jobs.Update(ctx, q.system, run.Job.ID, func(j *Job) error {
		j.Status, j.EndedAt, j.Message = status, q.Clock(), message
		if progress != nil {
			j.Progress = progress
		}
		return nil
	})
	if err == nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.ended[Stat{Kind: run.Job.Kind, State: string(status)}]++
	}
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
