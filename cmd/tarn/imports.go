package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// Import jobs of one data store that may wait (Amazon HealthLake endpoints and
// quotas: 25), and how long jobs that ended are shown.
const (
	maxWaitingJobs = 25
	keepJobs       = 90 * 24 * time.Hour
)

// imports makes what carries out import jobs, and registers it.
func (c *serveCommand) imports(ctx context.Context, queue *job.Queue, plane *datastore.Plane, shared *sessions, log *slog.Logger) (*bulk.Imports, error) {
	storage, err := c.storage(ctx, c.Region, c.Account)
	if err != nil {
		return nil, err
	}
	sources, err := c.sources()
	if err != nil {
		return nil, err
	}
	imports := &bulk.Imports{
		Sources: sources,
		Jobs:    queue, Storage: storage, Judge: judge{shared}, Clock: time.Now, Log: log, MintIDs: c.MissingIDs, Workers: judges(),
		Open: func(ctx context.Context, id string) (*bulk.Target, error) { return shared.target(ctx, plane, id) },
	}
	queue.RegisterIn(job.Lane{
		Name: "import", Workers: c.BulkWorkers, PerStore: max(1, c.StoreJobs), Waiting: maxWaitingJobs, Keep: keepJobs,
	}, bulk.KindImport, imports)
	return imports, nil
}

// judges is how many pieces of files an import judges side by side: half the cores'
// worth, as judging takes half of an import's processor time, and the engine's tables
// and compactions the other. With more, an import is a tenth faster on an idle machine,
// and requests beside it wait: all threads (threadsPerCore) are taken.
func judges() int { return max(1, cores/2) }

// target leases a data store for an import.
func (s *sessions) target(ctx context.Context, plane *datastore.Plane, id string) (*bulk.Target, error) {
	lease, err := plane.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	index, err := s.index(lease)
	if err != nil {
		lease.Release()
		return nil, err
	}
	return &bulk.Target{
		Store: lease.Store, Types: index.Registry, Extractor: index.Extractor, Release: func() { s.imported(lease) },
	}, nil
}

// imported ends an import's lease; search parameters that it brought are read
// now.
func (s *sessions) imported(lease *datastore.Lease) {
	defer lease.Release()
	if err := s.parameters.Changed(context.Background(), lease.Datastore.ID, lease.Store); err != nil {
		s.log.Warn("search parameters of an import were not read; the next use of the data store reads them", "error", err)
	}
}

// judge holds imported resources against R4 as interactions do.
type judge struct{ *sessions }

// Examine implements bulk.Judge.
func (j judge) Examine(ctx context.Context, level string, doc *fhir.Document) (*fhir.Document, []fault.Issue, bool, error) {
	asked, err := validate.ParseLevel(level)
	if err != nil {
		return nil, nil, false, err
	}
	s := interaction.Session{Validator: j.validator, Level: asked}
	return s.Examine(ctx, doc)
}
