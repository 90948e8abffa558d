package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/reindex"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// kindReindex is the kind of the jobs that index data stores by their own search
// parameters.
const kindReindex = "search.reindex"

// reindexLane lets two data stores be indexed at once, each by one job. Jobs that
// have nothing to do any more end at once.
var reindexLane = job.Lane{Name: "reindex", Workers: 2, PerStore: 1, Keep: 7 * 24 * time.Hour}

// parameters keeps the search parameters that users define, and carries out
// their jobs.
type parameters struct {
	*reindex.Keeper
	plane *datastore.Plane // set once there is one
}

func newParameters(registry *searchparam.Registry, base func(id string) string, queue *job.Queue, log *slog.Logger) *parameters {
	p := &parameters{Keeper: reindex.New(reindex.Options{
		Registry: registry, Base: func(id string) string { return base(id) + "/" }, Clock: time.Now, Log: log,
		Submit: func(ctx context.Context, id string, changed bool) error {
			return submitReindex(ctx, queue, id, changed)
		},
	})}
	queue.RegisterIn(reindexLane, kindReindex, p)
	return p
}

// submitReindex makes a job, unless nothing changed and one is on its way.
func submitReindex(ctx context.Context, queue *job.Queue, id string, changed bool) error {
	if !changed {
		open, err := queue.Open(ctx, id)
		if err != nil {
			return err
		}
		for _, j := range open {
			if j.Kind == kindReindex {
				return nil
			}
		}
	}
	_, err := queue.Submit(ctx, job.Submission{Kind: kindReindex, Datastore: id})
	return err
}

// Run carries one out: job.Runner.
func (p *parameters) Run(ctx context.Context, run *job.Run) error {
	id := run.Job.Datastore
	lease, err := p.plane.Open(ctx, id)
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			return nil // the data store is gone
		}
		return err
	}
	defer lease.Release()
	run.Report(func() any {
		done, total := p.Progress(id)
		return map[string]int64{"done": done, "total": total}
	})
	return p.Keeper.Run(ctx, id, lease.Store, run.Job.Checkpoint, func(ctx context.Context, at *reindex.Checkpoint) error {
		return run.Checkpoint(ctx, at)
	})
}

// Fail has nothing to tell: the next use of the data store begins another job.
func (p *parameters) Fail(context.Context, *job.Run, error) error { return nil }

// measure registers what the server reports of it.
func (p *parameters) measure(r *prometheus.Registry) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "tarn_reindexed_resources_total", Help: "Resources that were given new index entries.",
	}, func() float64 { return float64(p.Rows()) }))
}

// watched is a leased store that tells when search parameters are written.
type watched struct {
	store.Store
	parameters *parameters
	id         string
	log        *slog.Logger
}

// Commit implements store.Store.
func (w watched) Commit(ctx context.Context, ops []store.Op) ([]store.Outcome, error) {
	outcomes, err := w.Store.Commit(ctx, ops)
	if err == nil && writesParameter(ops) {
		// What is committed is true, whatever becomes of this: the next use of the
		// store tries again.
		if err := w.parameters.Changed(context.WithoutCancel(ctx), w.id, w.Store); err != nil {
			w.log.Error("search parameters were written and not read", "datastore", w.id, "error", err)
		}
	}
	return outcomes, err
}

// Scrub implements store.Scrubber, where the store does.
func (w watched) Scrub(ctx context.Context) error {
	if files, ok := w.Store.(store.Scrubber); ok {
		return files.Scrub(ctx)
	}
	return nil
}

var searchParameterType = func() plan.Type {
	t, _ := r4.TypeByName("SearchParameter")
	return t
}()

func writesParameter(ops []store.Op) bool {
	for i := range ops {
		if ops[i].Key.Type == searchParameterType && ops[i].Kind != store.Check {
			return true
		}
	}
	return false
}

// definitions validates resources, and of search parameters whether they can be
// used.
type definitions struct {
	interaction.Validator
	index *reindex.Index
}

// Validate implements interaction.Validator.
func (d definitions) Validate(ctx context.Context, root fhir.Node, level validate.Level) []fault.Issue {
	issues := d.Validator.Validate(ctx, root, level)
	if root.ResourceType() == "SearchParameter" {
		issues = append(issues, d.index.Check(root)...)
	}
	return issues
}
