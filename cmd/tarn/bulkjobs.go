package main

import (
	"context"
	"errors"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/store"
)

// bulkJobs carries out $bulk-delete, $erase, $purge and $bulk-patch. A job has
// the id of its document in the data store.
type bulkJobs struct {
	queue    *job.Queue
	system   store.Store
	plane    *datastore.Plane
	sessions *sessions
	looks    looks // for old outcomes
}

func newBulkJobs(queue *job.Queue, system store.Store, plane *datastore.Plane, sessions *sessions) *bulkJobs {
	b := &bulkJobs{queue: queue, system: system, plane: plane, sessions: sessions}
	for _, kind := range interaction.BulkKinds() {
		queue.Register(string(kind), b)
	}
	return b
}

// storeJobs is bulkJobs for one data store: interaction.Jobs.
type storeJobs struct {
	*bulkJobs
	datastore string
}

// Submit makes the job, unless it is there.
func (s storeJobs) Submit(ctx context.Context, kind interaction.BulkKind, id string) error {
	j, op, err := s.queue.OpAs(id, string(kind), s.datastore, nil)
	if err != nil {
		return err
	}
	_, err = s.system.Commit(ctx, []store.Op{op})
	if _, there := errors.AsType[*store.Unmet](err); there {
		return nil
	}
	if err == nil {
		s.queue.Began(j)
	}
	return err
}

// Run carries one out: job.Runner.
func (b *bulkJobs) Run(ctx context.Context, run *job.Run) error {
	return b.with(ctx, run, func(s *interaction.Session) error {
		if err := s.RunBulk(ctx, run.Job.ID, nil); err != nil {
			return err
		}
		if now := s.Clock(); b.looks.due(s.StoreID, now) {
			return s.ForgetBulkJobs(ctx, now.Add(-interaction.BulkJobsKept))
		}
		return nil
	})
}

// Fail tells of one that is given up; there is nobody to tell when its data
// store is gone.
func (b *bulkJobs) Fail(ctx context.Context, run *job.Run, cause error) error {
	err := b.with(ctx, run, func(s *interaction.Session) error { return s.FailBulk(ctx, run.Job.ID, cause) })
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

func (b *bulkJobs) with(ctx context.Context, run *job.Run, do func(*interaction.Session) error) error {
	lease, err := b.plane.Open(ctx, run.Job.Datastore)
	if err != nil {
		return err
	}
	defer lease.Release()
	session, err := b.sessions.Session(lease, iam.Principal{}, func(audit.Target) {})
	if err != nil {
		return err
	}
	return do(session)
}
