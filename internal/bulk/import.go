package bulk

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/store"
)

// KindImport is the kind of import jobs. Persisted.
const KindImport = "fhir.import"

// Target is a data store that an import goes to.
type Target struct {
	Store     store.Store
	Types     Types
	Extractor Extractor
	Release   func()
}

// Judge holds a resource against R4 at a level: the document to store, what was
// found, and whether it is stored with faults; an error refuses it.
type Judge interface {
	Examine(ctx context.Context, level string, doc *fhir.Document) (*fhir.Document, []fault.Issue, bool, error)
}

// Imports carries out import jobs: it is the Runner of KindImport.
//
//	objects below the input → lines → parsed, judged, extracted → store.Part, with a cursor
//	                                → SUCCESS/, FAILURE/, … below the output, Manifest.json
//
// Every file is a part of one import of the store. Its cursor is the last line
// that is durable; an attempt after a crash reads the file from its beginning,
// judges the lines up to the cursor once more for the output's sake and stores
// those behind it. What the output says of a line depends on the line alone, so
// that a file's output is the same however often it was begun.
type Imports struct {
	Jobs    *job.Queue
	Storage blob.Storage
	// Open leases a data store that serves: fault.NotFound, fault.Conflict.
	Open  func(ctx context.Context, datastore string) (*Target, error)
	Judge Judge
	Clock func() time.Time
	Log   *slog.Logger
	// MintIDs gives resources without id one, made from job, file and line;
	// without it they are faults, as HealthLake has it.
	MintIDs bool
	// Workers is how many pieces of files are judged side by side, at least 1.
	Workers int
	// Sources are where $import may fetch files from.
	Sources *Sources
}

// ImportRequest is StartFHIRImportJob after its shape was checked.
type ImportRequest struct {
	Datastore   string `json:"-"`
	Name        string `json:"-"`
	ClientToken string `json:"-"`

	Input  string // location of the files
	Output string // location below which the job makes its folder
	KMSKey string
	Role   string
	Level  string // strict, structure-only, minimal
	// Pull is there instead of Input and Output: files that are fetched. What became
	// of their lines is told by the report alone.
	Pull *Pull `json:",omitempty"`
}

// OutputFolder is the folder that a job makes below its output, as HealthLake
// names it.
func (r ImportRequest) OutputFolder(datastore, jobID string) (blob.Location, error) {
	at, err := blob.Parse(r.Output)
	return at.Under(datastore + "-FHIR_IMPORT-" + jobID + "/"), err
}

// Bounds of an import (HealthLake endpoints and quotas), and how it is cut: files
// side by side, files for which one import of the store is open, lines and bytes
// that are judged in one piece, pieces of a file that wait for their turn, bytes
// of all pieces that are in memory.
const (
	maxFiles      = 1_000_000
	filesAtOnce   = 4
	filesPerOpen  = 4096
	pieceLines    = 500
	pieceBytes    = 1 << 20
	piecesInLine  = 4
	bytesInMemory = 256 << 20
)

// noteEvery is how often a running import's progress is made durable.
const noteEvery = 2 * time.Second

// Start checks a request and submits the job. Errors beside those of the request:
// fault.FailedDependency when a bucket is not there or does not answer,
// fault.Forbidden when the role may not use it.
func (i *Imports) Start(ctx context.Context, r ImportRequest) (*job.Job, error) {
	target, err := i.Open(ctx, r.Datastore)
	if err != nil {
		return nil, err
	}
	target.Release()
	if r.Pull != nil {
		err = i.Sources.Check(*r.Pull)
	} else {
		_, _, err = i.buckets(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	return i.Jobs.Submit(ctx, job.Submission{Kind: KindImport, Datastore: r.Datastore, Name: r.Name, Token: r.ClientToken, Input: r})
}

// buckets opens and checks input and output.
func (i *Imports) buckets(ctx context.Context, r ImportRequest) (in, out blob.Bucket, err error) {
	if in, err = Reach(ctx, i.Storage, "inputDataConfig.s3Uri", r.Input, blob.Access{Role: r.Role}); err != nil {
		return nil, nil, err
	}
	out, err = Reach(ctx, i.Storage, "jobOutputDataConfig.s3Configuration.s3Uri", r.Output, blob.Access{Role: r.Role, KMSKey: r.KMSKey})
	return in, out, err
}

// Reach opens the bucket of a member's location and checks that it is there, with
// the faults that starting a job has.
func Reach(ctx context.Context, storage blob.Storage, member, uri string, as blob.Access) (blob.Bucket, error) {
	at, err := blob.Parse(uri)
	var bucket blob.Bucket
	if err == nil {
		bucket, err = storage.Bucket(ctx, at, as)
	}
	if err == nil {
		err = bucket.Check(ctx)
	}
	if err == nil {
		return bucket, nil
	}
	f := *fault.From(err)
	f.Op, f.Subject, f.Cause = "bulk.Reach", member, err
	if f.Kind == fault.NotFound || f.Kind == fault.Unavailable || f.Kind == fault.Timeout {
		f.Kind = fault.FailedDependency
	}
	return nil, &f
}

// imported is the checkpoint of a job whose files are all done.
type imported struct{ Done bool }

// importRun is one attempt at an import.
type importRun struct {
	*Imports
	ImportRequest
	run     *job.Run
	target  *Target
	in, out blob.Bucket
	folder  blob.Location
	tally   *tally
	memory  *semaphore.Weighted
	judges  chan struct{}
	closing bool // only what is durable is brought to the output
}

// Run implements job.Runner.
func (i *Imports) Run(ctx context.Context, run *job.Run) error {
	return i.attempt(ctx, run, false)
}

// Fail implements job.Runner: what was imported is accounted for, as far as data
// store and output can be reached.
func (i *Imports) Fail(ctx context.Context, run *job.Run, cause error) error {
	if fault.Is(cause, fault.Invalid) && len(run.Job.Progress) == 0 {
		return nil // nothing was begun
	}
	if err := i.attempt(ctx, run, true); err != nil {
		i.Log.Warn("the output of a failed import is not complete", "job", run.Job.ID, "error", err)
	}
	return nil
}

// Cancel implements job.Canceler: what was imported stays, and is accounted for.
func (i *Imports) Cancel(ctx context.Context, run *job.Run) error {
	return i.attempt(ctx, run, true)
}

func (i *Imports) attempt(ctx context.Context, run *job.Run, closing bool) error {
	a := &importRun{
		Imports: i, run: run, closing: closing, tally: newTally(i.Clock),
		memory: semaphore.NewWeighted(bytesInMemory), judges: make(chan struct{}, max(1, i.Workers)),
	}
	if err := json.Unmarshal(run.Job.Input, &a.ImportRequest); err != nil {
		return fault.Wrap(fault.Internal, "bulk.Import", err)
	}
	var state imported
	if len(run.Job.Checkpoint) > 0 {
		if err := json.Unmarshal(run.Job.Checkpoint, &state); err != nil {
			return fault.Wrap(fault.Internal, "bulk.Import", err)
		}
	}
	var err error
	if a.target, err = i.Open(ctx, run.Job.Datastore); err != nil {
		return err
	}
	defer a.target.Release()
	if state.Done {
		return a.forget(ctx)
	}
	if err := a.all(ctx); err != nil {
		return err
	}
	// From here on the report is the job's: an attempt after a crash only forgets
	// the cursors.
	if err := run.Checkpoint(ctx, imported{Done: true}); err != nil {
		return err
	}
	return a.forget(ctx)
}

// importName is the import of the store in which the job keeps its cursors.
func (a *importRun) importName() string { return "import/" + a.run.Job.ID }

// forget lets the cursors go and says how the job ends.
func (a *importRun) forget(ctx context.Context) error {
	importer, err := a.target.Store.Import(ctx, a.importName())
	if err == nil {
		err = importer.Forget(ctx)
	}
	var report ImportReport
	if err == nil && len(a.run.Job.Progress) > 0 {
		err = fault.Wrap(fault.Internal, "bulk.Import", json.Unmarshal(a.run.Job.Progress, &report))
	}
	if err != nil {
		return err
	}
	if done := a.tally.snapshot(); done.ScannedFiles > 0 {
		report = done
	}
	a.run.End(report.status(), "")
	return nil
}

// all carries every file through and writes the manifest.
func (a *importRun) all(ctx context.Context) (err error) {
	files, err := a.find(ctx)
	if err != nil {
		return patient(err)
	}
	if !a.closing {
		a.run.Report(func() any { return a.tally.snapshot() })
		stop := a.noting(ctx)
		defer stop()
	}
	for len(files) > 0 {
		n := min(len(files), filesPerOpen)
		if err := a.some(ctx, files[:n]); err != nil {
			return err
		}
		files = files[n:]
	}
	if a.closing {
		a.run.Report(func() any { return a.tally.snapshot() })
	}
	return blob.WriteAll(ctx, a.out, a.folder.Under("Manifest.json").Key, a.manifest())
}

// find opens input and output and lists the files.
func (a *importRun) find(ctx context.Context) (files []file, err error) {
	if a.Pull != nil {
		a.in, files, err = a.Sources.pulled(ctx, *a.Pull)
		a.out = a.in
		for range files {
			a.tally.listed(0)
		}
		return files, err
	}
	if a.in, a.out, err = a.buckets(ctx, a.ImportRequest); err != nil {
		return nil, err
	}
	if a.folder, err = a.OutputFolder(a.run.Job.Datastore, a.run.Job.ID); err != nil {
		return nil, err
	}
	return a.list(ctx)
}

// patient makes a storage that does not answer a passing fault: at the start of a
// job it is the request's, later one waits for it.
func patient(err error) error {
	f := fault.From(err)
	if f.Kind != fault.FailedDependency || f.Cause == nil {
		return err
	}
	if below := fault.From(f.Cause).Kind; below == fault.Unavailable || below == fault.Timeout {
		kept := *f
		kept.Kind = below
		return &kept
	}
	return err
}

// noting makes progress durable now and then, until the function is called.
func (a *importRun) noting(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(noteEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := a.run.Note(ctx); err != nil && ctx.Err() == nil {
					a.Log.Warn("an import's progress is not kept", "job", a.run.Job.ID, "error", err)
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// list finds the files of the input: the object that is named, or what lies in
// the folder of that name.
func (a *importRun) list(ctx context.Context) ([]file, error) {
	at, err := blob.Parse(a.Input)
	if err != nil {
		return nil, err
	}
	var files []file
	for object, err := range a.in.List(ctx, at.Key) {
		if err != nil {
			return nil, err
		}
		name, within := nameWithin(object, at.Key)
		form, packing := formOf(name)
		if !within || form == formNone {
			continue
		}
		if len(files) == maxFiles {
			return nil, fault.New(fault.Invalid, "bulk.Import", "the input has more than %d files", maxFiles)
		}
		files = append(files, file{Object: object, name: name, form: form, packing: packing})
		a.tally.listed(object.Size)
	}
	if len(files) == 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "bulk.Import", Subject: "inputDataConfig.s3Uri",
			Detail: "no files to import there", Hint: "files are named .ndjson or .json, plain or as .gz or .zst"}
	}
	return files, nil
}

// nameWithin is an object's key behind the input's folder, or its last part when
// the input is the object itself.
func nameWithin(o blob.Object, input string) (string, bool) {
	if o.Key == input {
		return o.Name(), true
	}
	if input != "" && !strings.HasSuffix(input, "/") {
		input += "/"
	}
	return strings.CutPrefix(o.Key, input)
}

// some carries files through one opening of the store's import.
func (a *importRun) some(ctx context.Context, files []file) error {
	importer, err := a.target.Store.Import(ctx, a.importName())
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(filesAtOnce)
	for _, f := range files {
		group.Go(func() error { return a.file(groupCtx, importer, f) })
	}
	if err := group.Wait(); err != nil {
		return errors.Join(err, importer.Close(context.WithoutCancel(ctx)))
	}
	return importer.Close(ctx)
}
