package interaction

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// TypeBulkJob is the type of the documents that keep bulk deletions and patches,
// in the data store itself: so that one commit both changes resources and notes
// how far the job is. Persisted: never reuse the number.
const TypeBulkJob = plan.SystemTypes + 0x103

// TypeBulkPatch is the type of the documents that keep what a $bulk-patch was
// sent, under the job's id, until the job ended. Persisted: never reuse the
// number.
const TypeBulkPatch = plan.SystemTypes + 0x104

// BulkJobsKept is how long the outcome of a bulk job is told: what to give
// ForgetBulkJobs.
const BulkJobsKept = 90 * 24 * time.Hour

// BulkKind is what a bulk job does. Persisted.
type BulkKind string

// The kinds, by the operation that starts them.
const (
	BulkDelete BulkKind = "fhir.bulk-delete"
	BulkErase  BulkKind = "fhir.erase"
	BulkPurge  BulkKind = "fhir.purge"
	BulkPatch  BulkKind = "fhir.bulk-patch"
)

// BulkKinds lists them.
func BulkKinds() []BulkKind { return []BulkKind{BulkDelete, BulkErase, BulkPurge, BulkPatch} }

// Jobs has bulk jobs done outside of their request, also after a restart.
type Jobs interface {
	// Submit has RunBulk called for the job of this id until it succeeds, and
	// FailBulk when it is given up. It is durable on return, and does nothing
	// for an id that was submitted before; fault.Throttled says that too many
	// wait.
	Submit(ctx context.Context, kind BulkKind, id string) error
}

// bulkJob is the document of one bulk job. Persisted as JSON.
type bulkJob struct {
	Kind      BulkKind
	Status    job.Status
	Submitted time.Time
	Ended     time.Time `json:",omitzero"`
	Message   string    `json:",omitempty"` // why it failed

	Type    string    `json:",omitempty"` // the resources' type
	ID      string    `json:",omitempty"` // $erase, $purge: the resource
	Version uint64    `json:",omitempty"` // $erase: one version; 0 is all
	Low     time.Time `json:",omitzero"`  // Low ≤ lastUpdated < High; zero is open
	High    time.Time `json:",omitzero"`
	Hard    bool      `json:",omitempty"` // nothing stays, in no version
	Audit   bool      `json:",omitempty"` // the AuditEvents about the resources go too

	Moment store.Moment // the resources are those of then
	After  []byte       `json:",omitempty"` // the page to go on behind
	At     int          `json:",omitempty"` // $bulk-patch by ids: the next one
	Pass   int          `json:",omitempty"` // $purge: how often it went through the compartment
	Found  bool         `json:",omitempty"` // $purge: something was there in this pass
	Over   bool         `json:",omitempty"` // nothing is left but the files
	Count  bulkCount

	FailedOnes  []bulkMiss `json:",omitempty"`
	SkippedOnes []bulkMiss `json:",omitempty"`
}

// bulkCount counts resources; the sum of Done, Failed, Broken and Skipped is
// what was looked at.
type bulkCount struct {
	Expected int64 `json:",omitempty"` // counted when the job was submitted
	Done     int64 `json:",omitempty"` // deleted, patched
	Failed   int64 `json:",omitempty"` // the patch does not fit
	Broken   int64 `json:",omitempty"` // the server's fault
	Skipped  int64 `json:",omitempty"` // changed since the job was submitted
	Audit    int64 `json:",omitempty"` // AuditEvents deleted
}

func (c bulkCount) seen() int64 { return c.Done + c.Failed + c.Broken + c.Skipped }

// bulkMiss is a resource that was left as it was, and why.
type bulkMiss struct {
	ResourceID string `json:"resourceId"`
	Message    string `json:"message"`
}

// bulkPage is how many resources one commit of a bulk job changes.
const bulkPage = 500

// wholly refuses a bulk job on a type unless the grant allows the access to
// every resource of it: a condition cannot be kept until the job runs.
func (s *Session) wholly(op string, t plan.Type, access search.Access) error {
	if where, ok := s.Grant.Where(t, access); !ok || where != nil {
		return &fault.Error{Kind: fault.Forbidden, Op: op, Subject: s.Registry.Name(t), Detail: "the operation needs access to every resource of the type"}
	}
	return nil
}

// submitBulk keeps a job with what else it needs and has it done. An id that is
// taken already is the job itself, sent again.
func (s *Session) submitBulk(ctx context.Context, id string, j bulkJob, with ...store.Op) (*bulkJob, error) {
	if s.Jobs == nil {
		return nil, fault.New(fault.NotSupported, "interaction.submitBulk", "this server carries out no jobs")
	}
	j.Status, j.Submitted = job.Submitted, s.Clock()
	key := plan.Key{Type: TypeBulkJob, ID: id}
	op, err := bulkOp(key, &j, store.Condition{Kind: store.Never})
	if err != nil {
		return nil, err
	}
	_, err = s.Store.Commit(ctx, append([]store.Op{op}, with...))
	if _, again := unmet(err); again {
		kept, _, err := s.openBulk(ctx, id)
		if err != nil {
			return nil, err
		}
		return kept, s.Jobs.Submit(ctx, kept.Kind, id)
	}
	if err != nil {
		return nil, err
	}
	if err := s.Jobs.Submit(ctx, j.Kind, id); err != nil {
		ops := []store.Op{{Kind: store.Purge, Key: key}}
		for _, w := range with {
			ops = append(ops, store.Op{Kind: store.Purge, Key: w.Key})
		}
		_, undo := s.Store.Commit(ctx, ops)
		return nil, keep(err, undo)
	}
	return &j, nil
}

func bulkOp(key plan.Key, j *bulkJob, conditions ...store.Condition) (store.Op, error) {
	body, err := json.Marshal(j)
	if err != nil {
		return store.Op{}, fault.Wrap(fault.Internal, "interaction.bulkOp", err)
	}
	return store.Op{Kind: store.Put, Key: key, Body: body, Frees: j.Hard, If: conditions}, nil
}

// openBulk reads the document of a bulk job.
func (s *Session) openBulk(ctx context.Context, id string) (*bulkJob, store.Record, error) {
	absent := &fault.Error{Kind: fault.NotFound, Op: "interaction.openBulk", Subject: cutText(id), Detail: "no such job"}
	key := plan.Key{Type: TypeBulkJob, ID: id}
	if !validJobID(id) {
		return nil, store.Record{}, absent
	}
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, store.Record{}, err
	}
	defer view.Close()
	rec, err := view.Get(ctx, key)
	if err == nil && rec.Deleted || fault.Is(err, fault.NotFound) {
		return nil, rec, absent
	}
	if err != nil {
		return nil, rec, err
	}
	j := new(bulkJob)
	return j, rec, fault.Wrap(fault.Internal, "interaction.openBulk", json.Unmarshal(rec.Body, j))
}

// bulkRun is a bulk job under way.
type bulkRun struct {
	*Session
	job  *bulkJob
	key  plan.Key
	at   uint64 // version of the document
	tell func(done, total int64)
	hide *answersKept // $erase and the like: where else resources may stand
}

// RunBulk carries out a submitted job, each step once however often it is
// called: the commit that changes resources notes so. An error of kind
// Unavailable, Timeout, Full or Canceled is worth another call. Progress is told
// in resources.
func (s *Session) RunBulk(ctx context.Context, id string, progress func(done, total int64)) error {
	j, rec, err := s.openBulk(ctx, id)
	if err != nil || j.Status.Ended() {
		return err
	}
	run := *s
	run.Grant, run.Touched = search.Everything(), nil // it was asked at the beginning
	if progress == nil {
		progress = func(int64, int64) {}
	}
	r := &bulkRun{Session: &run, job: j, key: rec.Key, at: rec.Version, tell: progress}
	if j.Status == job.Submitted {
		j.Status = job.InProgress
		if err := r.commit(ctx, nil); err != nil {
			return err
		}
	}
	if err := r.steps(ctx); err != nil {
		return err
	}
	return r.end(ctx, nil)
}

func (r *bulkRun) steps(ctx context.Context) error {
	step := map[BulkKind]func(context.Context) error{
		BulkDelete: r.deleteStep, BulkErase: r.eraseStep, BulkPurge: r.purgeStep, BulkPatch: r.patchStep,
	}[r.job.Kind]
	if step == nil {
		return fault.New(fault.Internal, "interaction.RunBulk", "a job of unknown kind %s", r.job.Kind)
	}
	for !r.job.Over {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Canceled, "interaction.RunBulk", err)
		}
		if err := step(ctx); err != nil {
			return err
		}
		r.tell(r.job.Count.seen(), max(r.job.Count.Expected, r.job.Count.seen()))
	}
	if r.job.Hard {
		if files, ok := r.Store.(store.Scrubber); ok {
			return files.Scrub(ctx)
		}
	}
	return nil
}

// commit carries out ops and notes in the same step how far the job is.
func (r *bulkRun) commit(ctx context.Context, ops []store.Op) error {
	note, err := bulkOp(r.key, r.job, store.Condition{Kind: store.AtVersion, Version: r.at})
	if err != nil {
		return err
	}
	out, err := r.Store.Commit(ctx, append([]store.Op{note}, ops...))
	if failed, no := unmet(err); no && failed.Op == 0 {
		return fault.New(fault.Unavailable, "interaction.RunBulk", "the job is carried out elsewhere too")
	}
	if err != nil {
		return err
	}
	r.at = out[0].Version
	return nil
}

// FailBulk ends a job that is given up.
func (s *Session) FailBulk(ctx context.Context, id string, cause error) error {
	j, rec, err := s.openBulk(ctx, id)
	if err != nil || j.Status.Ended() {
		return err
	}
	r := &bulkRun{Session: s, job: j, key: rec.Key, at: rec.Version}
	return r.end(ctx, cause)
}

// end writes the job's outcome over all that was kept to go on.
func (r *bulkRun) end(ctx context.Context, cause error) error {
	j := r.job
	j.Ended, j.After, j.Moment = r.Clock(), nil, ""
	switch {
	case cause != nil:
		j.Status, j.Message = job.Failed, job.Reason(cause)
	case j.Count.Failed+j.Count.Broken > 0:
		j.Status = job.CompletedWithErrors
	default:
		j.Status = job.Completed
	}
	return r.commit(ctx, []store.Op{{Kind: store.Purge, Key: plan.Key{Type: TypeBulkPatch, ID: r.key.ID}}})
}

// bulkTold is a job as its status endpoint tells it (devguide, "$bulk-delete",
// "$erase", "$purge", "$bulk-patch"); members behind EndTime are Tarn's, but for
// those of $bulk-patch.
type bulkTold struct {
	DatastoreID string      `json:"datastoreId"`
	JobID       string      `json:"jobId"`
	Status      job.Status  `json:"status"`
	Submitted   string      `json:"submittedTime"`
	EndTime     string      `json:"endTime,omitempty"`
	Message     string      `json:"message,omitempty"`
	Deleted     *deleteTold `json:"deleted,omitempty"`
	Summary     *patchTold  `json:"summary,omitempty"`
	FailedOnes  *[]bulkMiss `json:"failedResources,omitempty"`
	FailedCut   *bool       `json:"failedResourcesTruncated,omitempty"`
	SkippedOnes *[]bulkMiss `json:"skippedResources,omitempty"`
	SkippedCut  *bool       `json:"skippedResourcesTruncated,omitempty"`
}

type deleteTold struct {
	Resources   int64 `json:"resources"`
	AuditEvents int64 `json:"auditEvents"`
	Skipped     int64 `json:"skipped"`
}

type patchTold struct {
	Estimated int64 `json:"estimatedResourceCount"`
	Processed int64 `json:"totalResourcesProcessed"`
	Succeeded int64 `json:"succeeded"`
	Customer  int64 `json:"failedWithCustomerError"`
	Server    int64 `json:"failedWithServerError"`
	Skipped   int64 `json:"skipped"`
}

// jobTime is how HealthLake writes the times of these jobs.
const jobTime = "2006-01-02T15:04:05.000Z"

// BulkStatus tells how far a job of this kind is, as JSON; fault.NotFound also
// when the caller may not touch all it is about.
func (s *Session) BulkStatus(ctx context.Context, kind BulkKind, id string) ([]byte, error) {
	j, _, err := s.openBulk(ctx, id)
	if err == nil && (j.Kind != kind || !s.maySee(j)) {
		err = &fault.Error{Kind: fault.NotFound, Op: "interaction.BulkStatus", Subject: id, Detail: "no such job"}
	}
	if err != nil {
		return nil, err
	}
	told := bulkTold{DatastoreID: s.StoreID, JobID: id, Status: j.Status, Submitted: j.Submitted.UTC().Format(jobTime), Message: j.Message}
	if !j.Ended.IsZero() {
		told.EndTime = j.Ended.UTC().Format(jobTime)
	}
	c := j.Count
	if kind == BulkPatch {
		told.Summary = &patchTold{max(c.Expected, c.seen()), c.seen(), c.Done, c.Failed, c.Broken, c.Skipped}
		told.FailedOnes, told.FailedCut = misses(j.FailedOnes, c.Failed+c.Broken)
		told.SkippedOnes, told.SkippedCut = misses(j.SkippedOnes, c.Skipped)
	} else {
		told.Deleted = &deleteTold{c.Done, c.Audit, c.Skipped}
	}
	body, err := json.Marshal(told)
	return body, fault.Wrap(fault.Internal, "interaction.BulkStatus", err)
}

func misses(list []bulkMiss, all int64) (*[]bulkMiss, *bool) {
	if list == nil {
		list = []bulkMiss{}
	}
	cut := all > int64(len(list))
	return &list, &cut
}

// maySee reports whether the grant covers what a job is about.
func (s *Session) maySee(j *bulkJob) bool {
	t, ok := s.Registry.Type(j.Type)
	if !ok {
		return false
	}
	access := search.Delete
	if j.Kind == BulkPatch {
		access = search.Read
	}
	return s.wholly("interaction.maySee", t, access) == nil
}

// ForgetBulkJobs drops the outcomes of jobs that ended before a time.
func (s *Session) ForgetBulkJobs(ctx context.Context, before time.Time) error {
	return s.eachOld(ctx, TypeBulkJob, before, func(id string) error {
		j, rec, err := s.openBulk(ctx, id)
		if fault.Is(err, fault.NotFound) {
			return nil // an earlier version of it came by
		}
		if err != nil || !j.Status.Ended() || !j.Ended.Before(before) {
			return err
		}
		_, err = s.Store.Commit(ctx, []store.Op{{Kind: store.Purge, Key: rec.Key}})
		return err
	})
}

// eachOld calls visit for every document of a type with a version from before a
// time, as often as it has such versions.
func (s *Session) eachOld(ctx context.Context, t plan.Type, before time.Time, visit func(id string) error) error {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return err
	}
	defer view.Close()
	for q := (store.HistoryQuery{Types: []plan.Type{t}, High: before, Limit: forgetPage}); ; {
		page, err := view.History(ctx, q)
		if err != nil {
			return err
		}
		for _, rec := range page.Records {
			if err := visit(rec.Key.ID); err != nil {
				return err
			}
		}
		if page.Next == nil {
			return nil
		}
		q.After = page.Next
	}
}

// startedBulk is the answer to the start of a job (devguide: jobStatus here,
// status when polled).
func (s *Session) startedBulk(operation, id string, j *bulkJob) (*Started, error) {
	body, err := json.Marshal(struct {
		JobID       string     `json:"jobId"`
		JobStatus   job.Status `json:"jobStatus"`
		DatastoreID string     `json:"datastoreId"`
	}{id, j.Status, s.StoreID})
	return &Started{Poll: operation + "/" + id, Body: body}, fault.Wrap(fault.Internal, "interaction.startedBulk", err)
}
