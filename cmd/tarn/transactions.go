package main

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/store"
)

// kindTransaction is the kind of the jobs that carry out asynchronous
// transactions.
const kindTransaction = "fhir.transaction"

// maxPending bounds the asynchronous transactions of one data store that wait or
// run (Amazon HealthLake endpoints and quotas: 500).
const maxPending = 500

// transactions carries out asynchronous transactions as jobs.
type transactions struct {
	queue    *job.Queue
	system   store.Store
	plane    *datastore.Plane
	sessions *sessions
	looks    looks // for old answers

	submitting sync.Mutex // counting and committing are one step
}

// transactionInput is a job's input.
type transactionInput struct{ ID string }

// later is transactions for one data store: interaction.Later.
type later struct {
	*transactions
	datastore string
}

// Submit makes the job.
func (l later) Submit(ctx context.Context, id string) error {
	l.submitting.Lock()
	defer l.submitting.Unlock()
	waiting, err := l.queue.Open(ctx, l.datastore)
	if err != nil {
		return err
	}
	if len(waiting) >= maxPending {
		return &fault.Error{Kind: fault.Throttled, Op: "later.Submit", Detail: "too many asynchronous transactions wait", Retry: 5}
	}
	j, op, err := l.queue.Op(kindTransaction, l.datastore, transactionInput{id})
	if err != nil {
		return err
	}
	if _, err := l.system.Commit(ctx, []store.Op{op}); err != nil {
		return err
	}
	l.queue.Began(j)
	return nil
}

// Run carries one out: job.Runner.
func (t *transactions) Run(ctx context.Context, run *job.Run) error {
	return t.with(ctx, run, func(s *interaction.Session, id string) error {
		if err := s.RunTransaction(ctx, id); err != nil {
			return err
		}
		if now := s.Clock(); t.looks.due(s.StoreID, now) {
			return s.ForgetTransactions(ctx, now.Add(-interaction.TransactionsKept))
		}
		return nil
	})
}

// forgetEvery is how often a data store's old answers are looked for; stores
// without asynchronous requests have none.
const forgetEvery = 24 * time.Hour

// looks are the last looks for old answers.
type looks struct {
	mu sync.Mutex
	at map[string]time.Time // by data store id
}

// due reports whether it is time for a look, which the caller then has.
func (l *looks) due(id string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, known := l.at[id]; known && now.Sub(last) < forgetEvery {
		return false
	}
	if l.at == nil {
		l.at = map[string]time.Time{}
	}
	l.at[id] = now
	return true
}

// forget lets go of a data store that is gone.
func (l *looks) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.at, id)
}

// Fail answers one that is given up; there is nobody to tell when its data store
// is gone.
func (t *transactions) Fail(ctx context.Context, run *job.Run, cause error) error {
	err := t.with(ctx, run, func(s *interaction.Session, id string) error { return s.FailTransaction(ctx, id, cause) })
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

func (t *transactions) with(ctx context.Context, run *job.Run, do func(*interaction.Session, string) error) error {
	var in transactionInput
	if err := json.Unmarshal(run.Job.Input, &in); err != nil {
		return fault.Wrap(fault.Internal, "transactions.with", err)
	}
	lease, err := t.plane.Open(ctx, run.Job.Datastore)
	if err != nil {
		return err
	}
	defer lease.Release()
	session, err := t.sessions.Session(lease, iam.Principal{}, func(audit.Target) {})
	if err != nil {
		return err
	}
	return do(session, in.ID)
}
