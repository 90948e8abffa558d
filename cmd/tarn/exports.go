package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/export"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// typeExportKey is the type of the documents that keep the keys under which the
// files of exports are sealed, in the data store itself: so that they go with
// it. Persisted: never reuse the number.
const typeExportKey = plan.SystemTypes + 0x105

// Bounds of exports (Amazon HealthLake endpoints and quotas: one export of a data
// store runs, 25 wait; files are handed out for 48 hours).
const (
	exportsPerStore = 1
	exportsWaiting  = 25
	exportFilesKept = 48 * time.Hour
	exportJobsKept  = 90 * 24 * time.Hour
	exportSweep     = time.Hour // how often old files are looked for
	exportTypes     = 2         // types written side by side by one export
)

// exports carries out export jobs.
type exports struct {
	queue    *job.Queue
	plane    *datastore.Plane
	sessions *sessions
	storage  blob.Schemes
	folder   string // of the files that the server keeps: folder/datastore/job/
	log      *slog.Logger
}

func newExports(queue *job.Queue, plane *datastore.Plane, sessions *sessions, storage blob.Schemes, folder string, workers int, log *slog.Logger) *exports {
	x := &exports{queue, plane, sessions, storage, folder, log}
	queue.RegisterIn(job.Lane{Name: "export", Workers: workers, PerStore: exportsPerStore, Waiting: exportsWaiting, Keep: exportJobsKept}, interaction.KindExport, x)
	return x
}

// storeExports is exports for one data store: interaction.Exports.
type storeExports struct {
	*exports
	datastore string
	store     store.Store
}

// Start makes the job.
func (s storeExports) Start(ctx context.Context, ask interaction.ExportAsk) (string, error) {
	j, err := s.submit(ctx, ask, job.Submission{Datastore: s.datastore})
	if err != nil {
		return "", err
	}
	return j.ID, nil
}

// StartWhole starts an export of a whole data store: awsapi.Exports.
func (x *exports) StartWhole(ctx context.Context, id string, ask interaction.ExportAsk, token string) (*job.Job, error) {
	lease, err := x.plane.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	session, err := x.sessions.Session(lease, iam.Principal{}, func(audit.Target) {})
	if err != nil {
		return nil, err
	}
	asked := ask // a second request with the token has another moment
	if ask.Request, err = session.WholeStore(ctx); err != nil {
		return nil, err
	}
	return x.submit(ctx, ask, job.Submission{Datastore: id, Token: token, Asked: asked})
}

// submit checks the bucket and makes the job.
func (x *exports) submit(ctx context.Context, ask interaction.ExportAsk, s job.Submission) (*job.Job, error) {
	if ask.S3Uri != "" {
		access := blob.Access{Role: ask.Role, KMSKey: ask.KMSKey}
		if _, err := bulk.Reach(ctx, x.storage, "outputDataConfig.s3Configuration.s3Uri", ask.S3Uri, access); err != nil {
			return nil, err
		}
	}
	s.Kind, s.Name, s.Input = interaction.KindExport, ask.Name, ask
	return x.queue.Submit(ctx, s)
}

// bucketFault is what a bucket that is gone is to a job.
func bucketFault(err error) error {
	found := fault.From(err)
	if found.Kind != fault.NotFound {
		return err
	}
	return &fault.Error{Kind: fault.FailedDependency, Op: "exports.submit", Subject: "S3Uri", Detail: "the bucket does not exist", Cause: err}
}

// bucket is where an export with an S3Uri is written to, and its folder there.
func (x *exports) bucket(ctx context.Context, ask interaction.ExportAsk, id, jobID string) (blob.Bucket, blob.Location, error) {
	at, err := ask.Folder(id, jobID)
	if err != nil {
		return nil, at, err
	}
	bucket, err := x.storage.Bucket(ctx, at, blob.Access{Role: ask.Role, KMSKey: ask.KMSKey})
	return bucket, at, err
}

// Get gives a job of this data store.
func (s storeExports) Get(ctx context.Context, id string) (*interaction.Export, error) {
	absent := &fault.Error{Kind: fault.NotFound, Op: "exports.Get", Subject: id, Detail: "no such export"}
	j, err := s.queue.Get(ctx, id)
	if fault.Is(err, fault.NotFound) || err == nil && (j.Kind != interaction.KindExport || j.Datastore != s.datastore) {
		return nil, absent
	}
	if err != nil {
		return nil, err
	}
	e, err := exportOf(j)
	if err == nil && e.Ask.S3Uri == "" && s.expired(j) {
		return nil, absent
	}
	return e, err
}

func (x *exports) expired(j *job.Job) bool {
	return j.Status.Ended() && x.queue.Clock().Sub(j.EndedAt) > exportFilesKept
}

// exportProgress is what a running export reports.
type exportProgress struct{ Done, Total int64 }

// pollAfter is how many seconds a client is asked to wait.
const pollAfter = 1

func exportOf(j *job.Job) (*interaction.Export, error) {
	e := &interaction.Export{ID: j.ID, Status: j.Status, Submitted: j.SubmittedAt, Ended: j.EndedAt, Message: j.Message, Retry: pollAfter}
	if err := json.Unmarshal(j.Input, &e.Ask); err != nil {
		return nil, fault.Wrap(fault.Internal, "exportOf", err)
	}
	var err error
	if e.State, err = export.ParseState(j.Checkpoint); err != nil {
		return nil, err
	}
	var live exportProgress
	if len(j.Progress) > 0 && json.Unmarshal(j.Progress, &live) == nil {
		e.State.Done, e.State.Total = max(e.State.Done, live.Done), max(e.State.Total, live.Total)
	}
	if e.Ask.S3Uri != "" {
		at, err := e.Ask.Folder(j.Datastore, j.ID)
		if err != nil {
			return nil, err
		}
		e.Folder = at.String()
	}
	return e, nil
}

// Cancel stops a job. One that ended has its files taken away, where the server
// keeps them.
func (s storeExports) Cancel(ctx context.Context, id string) error {
	_, err := s.queue.Cancel(ctx, id)
	if !fault.Is(err, fault.Conflict) {
		return err
	}
	e, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	if e.Ask.S3Uri != "" {
		return &fault.Error{Kind: fault.NotSupported, Op: "exports.Cancel", Subject: id, Detail: "the export has ended"}
	}
	if err := s.queue.Drop(ctx, id); err != nil {
		return err
	}
	return s.remove(ctx, s.store, s.datastore, id)
}

// File opens a file that the server keeps.
func (s storeExports) File(ctx context.Context, id, name string) (io.ReadSeekCloser, error) {
	folder, err := s.kept(ctx, s.store, s.datastore, id)
	if err != nil {
		return nil, err
	}
	return folder.ReadSeekCloser(name)
}

func (x *exports) path(datastore, id string) string { return filepath.Join(x.folder, datastore, id) }

// kept is the folder of an export's files, under its key.
func (x *exports) kept(ctx context.Context, st store.Store, datastore, id string) (export.Folder, error) {
	view, err := st.View(ctx, "")
	if err != nil {
		return export.Folder{}, err
	}
	defer view.Close()
	rec, err := view.Get(ctx, plan.Key{Type: typeExportKey, ID: id})
	if err != nil {
		return export.Folder{}, err
	}
	key, err := seal.DataKeyFrom(rec.Body)
	if err != nil {
		return export.Folder{}, err
	}
	defer key.Wipe()
	return export.Folder{Path: x.path(datastore, id), Files: seal.NewFS(vfs.Default, key)}, nil
}

// keep is kept, with a new key where there is none yet.
func (x *exports) keep(ctx context.Context, st store.Store, datastore, id string) (export.Folder, error) {
	folder, err := x.kept(ctx, st, datastore, id)
	if !fault.Is(err, fault.NotFound) {
		return folder, err
	}
	raw := make([]byte, seal.KeySize)
	if _, err := io.ReadFull(x.sessions.random, raw); err != nil {
		return export.Folder{}, fault.Wrap(fault.Internal, "exports.keep", err)
	}
	op := store.Op{Kind: store.Put, Key: plan.Key{Type: typeExportKey, ID: id}, Body: raw, If: []store.Condition{{Kind: store.Never}}}
	if _, err := st.Commit(ctx, []store.Op{op}); err != nil {
		return export.Folder{}, err
	}
	return x.kept(ctx, st, datastore, id)
}

// remove takes an export's files and their key away.
func (x *exports) remove(ctx context.Context, st store.Store, datastore, id string) error {
	_, err := st.Commit(ctx, []store.Op{{Kind: store.Purge, Key: plan.Key{Type: typeExportKey, ID: id}}})
	return errors.Join(err, os.RemoveAll(x.path(datastore, id)))
}

// Run carries one out: job.Runner.
func (x *exports) Run(ctx context.Context, run *job.Run) error {
	lease, err := x.plane.Open(ctx, run.Job.Datastore)
	if err != nil {
		return err
	}
	defer lease.Release()
	e, err := exportOf(&run.Job)
	if err != nil {
		return err
	}
	session, err := x.sessions.Session(lease, iam.Principal{}, func(audit.Target) {})
	if err != nil {
		return err
	}
	var done, total atomic.Int64
	run.Report(func() any { return exportProgress{done.Load(), total.Load()} })
	exporter := &export.Exporter{
		Store: lease.Store, Registry: session.Registry, Base: session.Base, Trim: interaction.Trim, Workers: exportTypes,
		Save: func(ctx context.Context, s export.State) error { return run.Checkpoint(ctx, s) },
		Progress: func(n, all int64) {
			done.Store(n)
			total.Store(all)
		},
	}
	if exporter.Out, exporter.Prefix, err = x.out(ctx, lease.Store, run.Job, e.Ask); err != nil {
		return bucketFault(err)
	}
	state, err := exporter.Run(ctx, e.Ask.Request, e.State)
	if err != nil {
		return err
	}
	return run.Checkpoint(ctx, state)
}

func (x *exports) out(ctx context.Context, st store.Store, j job.Job, ask interaction.ExportAsk) (blob.Bucket, string, error) {
	if ask.S3Uri == "" {
		folder, err := x.keep(ctx, st, j.Datastore, j.ID)
		return folder, "", err
	}
	bucket, at, err := x.bucket(ctx, ask, j.Datastore, j.ID)
	return bucket, at.Key, err
}

// Fail takes away what a job that is given up has written.
func (x *exports) Fail(ctx context.Context, run *job.Run, _ error) error {
	err := x.clean(ctx, run)
	if err != nil {
		x.log.Warn("the files of a failed export stay", "job", run.Job.ID, "error", err)
	}
	return nil
}

// Cancel takes away what a canceled job has written: job.Canceler.
func (x *exports) Cancel(ctx context.Context, run *job.Run) error { return x.clean(ctx, run) }

func (x *exports) clean(ctx context.Context, run *job.Run) error {
	e, err := exportOf(&run.Job)
	if err != nil {
		return err
	}
	if e.Ask.S3Uri != "" {
		bucket, at, err := x.bucket(ctx, e.Ask, run.Job.Datastore, run.Job.ID)
		if err != nil {
			return err
		}
		for _, f := range e.State.Files {
			err = errors.Join(err, bucket.Delete(ctx, at.Key+f.Name))
		}
		return err
	}
	lease, err := x.plane.Open(ctx, run.Job.Datastore)
	if fault.Is(err, fault.NotFound) {
		return os.RemoveAll(x.path(run.Job.Datastore, run.Job.ID))
	}
	if err != nil {
		return err
	}
	defer lease.Release()
	return x.remove(ctx, lease.Store, run.Job.Datastore, run.Job.ID)
}

// tend takes old files away, until ctx ends.
func (x *exports) tend(ctx context.Context) {
	tick := time.NewTicker(exportSweep)
	defer tick.Stop()
	for {
		if err := x.sweep(ctx); err != nil && ctx.Err() == nil {
			x.log.Warn("looking for old exports is tried again later", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (x *exports) sweep(ctx context.Context) error {
	return eachFolder(x.folder, arn.IsDatastoreID, func(datastore string) error {
		return eachFolder(filepath.Join(x.folder, datastore), arn.IsJobID, func(id string) error {
			j, err := x.queue.Get(ctx, id)
			if err == nil && !x.expired(j) || err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			lease, err := x.plane.Open(ctx, datastore)
			if fault.Is(err, fault.NotFound) {
				return os.RemoveAll(x.path(datastore, id))
			}
			if err != nil {
				return err
			}
			defer lease.Release()
			return x.remove(ctx, lease.Store, datastore, id)
		})
	})
}

func eachFolder(path string, ours func(string) bool, visit func(name string) error) error {
	found, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range found {
		if entry.IsDir() && ours(entry.Name()) {
			err = errors.Join(err, visit(entry.Name()))
		}
	}
	return err
}

// forget takes away all files of a data store that is gone; nobody can read them
// any more, as their keys went with it.
func (x *exports) forget(datastore string) {
	if err := os.RemoveAll(filepath.Join(x.folder, datastore)); err != nil {
		x.log.Warn("the exported files of a deleted data store stay", "datastore", datastore, "error", err)
	}
}
