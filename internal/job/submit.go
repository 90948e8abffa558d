package job

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Submission asks for a job.
type Submission struct {
	Kind      string
	Datastore string
	Name      string
	Input     any
	// Asked is what a second submission with the token is held against, where the
	// input holds besides what was decided for the first; nil: the input.
	Asked any
	// Token makes the submission idempotent: the same token for the same kind and
	// data store gives the first job again, for as long as that is kept. Empty: a
	// new job each time.
	Token string
}

// Submit makes a job and begins it. Errors: fault.Invalid for a token that was
// used with another input, fault.Throttled when too many jobs of the data store
// wait in the lane.
func (q *Queue) Submit(ctx context.Context, s Submission) (*Job, error) {
	j, err := q.asked(s)
	if err != nil {
		return nil, err
	}
	if s.Token != "" {
		if first, err := q.first(ctx, j); first != nil || err != nil {
			return first, err
		}
	}
	if r, known := q.runners[s.Kind]; known && r.lane.Waiting > 0 {
		r.lane.submitting.Lock()
		defer r.lane.submitting.Unlock()
		if err := q.room(ctx, r.lane, s.Datastore); err != nil {
			return nil, err
		}
	}
	err = jobs.Create(context.WithoutCancel(ctx), q.system, j.ID, j)
	if s.Token != "" && fault.Is(err, fault.Conflict) {
		return q.first(ctx, j) // another one with the token came first
	}
	if err != nil {
		return nil, err
	}
	q.Began(*j)
	return j, nil
}

// asked is the job that a submission asks for. A token decides its id.
func (q *Queue) asked(s Submission) (*Job, error) {
	raw, err := json.Marshal(s.Input)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "job.Submit", err)
	}
	j := &Job{Kind: s.Kind, Datastore: s.Datastore, Name: s.Name, Status: Submitted,
		SubmittedAt: q.Clock().Truncate(time.Millisecond), Input: raw}
	if s.Token == "" {
		j.ID = q.NewID()
		return j, nil
	}
	j.ID = digest(s.Kind, s.Datastore, s.Token)[:jobIDLen]
	if s.Asked != nil {
		if raw, err = json.Marshal(s.Asked); err != nil {
			return nil, fault.Wrap(fault.Internal, "job.Submit", err)
		}
	}
	j.Digest = digest(s.Name, string(raw))
	return j, nil
}

// jobIDLen is the length of a job id in hexadecimal digits: 128 bits.
const jobIDLen = 32

func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// first is the job that a token made before, nil when it is new.
func (q *Queue) first(ctx context.Context, j *Job) (*Job, error) {
	before, err := q.Get(ctx, j.ID)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err == nil && before.Digest != j.Digest {
		err = &fault.Error{Kind: fault.Invalid, Op: "job.Submit", Subject: "clientToken",
			Detail: "the token was used before with other parameters", Hint: "use a new ClientToken for another request"}
	}
	if err != nil {
		return nil, err
	}
	return before, nil
}

// room refuses a job that would wait behind too many of its data store.
func (q *Queue) room(ctx context.Context, l *lane, datastore string) error {
	open, err := q.Open(ctx, datastore)
	if err != nil {
		return err
	}
	n := 0
	for _, j := range open {
		if q.runners[j.Kind].lane == l {
			n++
		}
	}
	if n < l.PerStore+l.Waiting {
		return nil
	}
	return &fault.Error{Kind: fault.Throttled, Op: "job.Submit", Retry: 5,
		Detail: "too many jobs of this kind wait for the data store", Hint: "wait for one to end, or cancel one"}
}

// queued marks a job that has to wait.
func (q *Queue) queued(ctx context.Context, run *Run) error {
	_, err := jobs.Update(ctx, q.system, run.Job.ID, func(j *Job) error {
		if j.Status != Submitted {
			return errUntouched
		}
		j.Status = Queued
		return nil
	})
	if errors.Is(err, errUntouched) || fault.Is(err, fault.NotFound) {
		return nil // begin judges it
	}
	return err
}

// Drop forgets a job that has ended, before its lane does; fault.Conflict for one
// that has not.
func (q *Queue) Drop(ctx context.Context, id string) error {
	j, err := q.Get(ctx, id)
	if err != nil {
		return err
	}
	if !j.Status.Ended() {
		return fault.New(fault.Conflict, "job.Drop", "the job has not ended: it is %s", j.Status)
	}
	return jobs.Purge(ctx, q.system, id)
}

// errCanceled stops a job that is to be canceled.
var errCanceled = errors.New("job: canceled")

// Cancel asks for the end of a job and returns it as CANCEL_SUBMITTED; a job that
// is at its last step may still end otherwise. Asked again it changes nothing.
// Errors: fault.NotFound, fault.Conflict for a job that has ended,
// fault.NotSupported for a kind that cannot be canceled.
func (q *Queue) Cancel(ctx context.Context, id string) (*Job, error) {
	j, err := jobs.Update(ctx, q.system, id, func(j *Job) error {
		if _, can := q.runners[j.Kind].Runner.(Canceler); !can {
			return fault.New(fault.NotSupported, "job.Cancel", "jobs of kind %s cannot be canceled", j.Kind)
		}
		switch {
		case j.Status.Ended():
			return fault.New(fault.Conflict, "job.Cancel", "the job has ended: it is %s", j.Status)
		case !j.Status.canceling():
			j.Status = CancelSubmitted
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	u := q.under[id]
	q.mu.Unlock()
	if u != nil {
		u.cancel(errCanceled)
	} else {
		q.Began(*j)
	}
	q.enliven(j)
	return j, nil
}

// canceled carries a cancellation out, when the job no longer runs. It takes no
// place in the lane: what was canceled is to be gone, not to wait.
func (q *Queue) canceled(ctx context.Context, u *underway) error {
	run := u.run
	kept, err := jobs.Update(ctx, q.system, run.Job.ID, func(j *Job) error {
		if !j.Status.canceling() {
			return errUntouched
		}
		j.Status = CancelInProgress
		return nil
	})
	if errors.Is(err, errUntouched) {
		return nil // it ended before it could be stopped
	}
	if err != nil {
		return err
	}
	run.Job = *kept
	canceler, can := q.runners[run.Job.Kind].Runner.(Canceler)
	if !can {
		return fault.New(fault.Internal, "job.cancel", "jobs of kind %s cannot be canceled", run.Job.Kind)
	}
	err = q.attempts(ctx, run, func() error { return guarded(func() error { return canceler.Cancel(ctx, run) }) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		q.Log.Error("job could not be canceled cleanly", "job", run.Job.ID, "kind", run.Job.Kind, "error", err)
		return q.conclude(ctx, run, CancelFailed, Reason(err))
	}
	return q.conclude(ctx, run, CancelCompleted, "")
}

// Filter asks for jobs; zero members ask for nothing special.
type Filter struct {
	Kinds     []string
	Datastore string
	Name      string
	Status    Status
	// Submitted within From ≤ t < Before.
	From, Before time.Time
}

// Page is a piece of a list.
type Page struct {
	Jobs  []*Job
	At    store.Moment // of the whole list, for the next page
	After []byte       // nil at the end
}

// List lists jobs, the latest first. At and After are those of the page before,
// with the same filter.
func (q *Queue) List(ctx context.Context, f Filter, limit int, at store.Moment, after []byte) (Page, error) {
	found, err := jobs.List(ctx, q.system, record.Query{
		Where: f.where(), Sort: []plan.Sort{record.ByTime(entrySubmitted, true)}, At: at, After: after, Limit: limit,
	})
	if err != nil {
		return Page{}, err
	}
	for _, j := range found.Docs {
		q.enliven(j)
	}
	return Page{Jobs: found.Docs, At: found.Moment, After: found.Next}, nil
}

func (f Filter) where() plan.Node {
	var all []plan.Node
	if len(f.Kinds) > 0 {
		var kinds plan.Or
		for _, kind := range f.Kinds {
			kinds = append(kinds, record.Is(entryKind, kind))
		}
		all = append(all, kinds)
	}
	if f.Datastore != "" {
		all = append(all, record.Is(entryDatastore, f.Datastore))
	}
	if f.Name != "" {
		all = append(all, record.Is(entryName, f.Name))
	}
	if f.Status != "" {
		all = append(all, record.Is(entryStatus, string(f.Status)))
	}
	if !f.From.IsZero() {
		all = append(all, record.From(entrySubmitted, f.From))
	}
	if !f.Before.IsZero() {
		all = append(all, record.Before(entrySubmitted, f.Before))
	}
	if len(all) == 0 {
		return nil
	}
	return plan.And(all)
}

// forgetOld drops the jobs that ended longer ago than their lanes keep them.
func (q *Queue) forgetOld(ctx context.Context) error {
	var all error
	for kind, r := range q.runners {
		if r.lane.Keep > 0 {
			all = errors.Join(all, q.Forget(ctx, kind, q.Clock().Add(-r.lane.Keep)))
		}
	}
	return all
}

// Stat is how many jobs of a kind are in a state: "waiting" or "running" now, or
// how many ended in one since the queue was made.
type Stat struct {
	Kind, State string
	Count       int64
}

// Stats counts the jobs of this queue, for metrics.
func (q *Queue) Stats() []Stat {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := map[Stat]int64{}
	for _, u := range q.under {
		state := "running"
		if u.turn == nil || !u.turn.mine() {
			state = "waiting"
		}
		now[Stat{Kind: u.kind, State: state}]++
	}
	var all []Stat
	for _, counts := range []map[Stat]int64{now, q.ended} {
		for s, n := range counts {
			s.Count = n
			all = append(all, s)
		}
	}
	return all
}
