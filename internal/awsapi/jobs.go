package awsapi

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/store"
)

// The shapes of jobs in healthlake-2017-07-01.
var (
	jobID           = pattern(1, 32, nameClass)
	jobName         = pattern(1, 64, nameClass)
	iamRoleARN      = pattern(20, 2048, `arn:aws(-[^:]+)?:iam::[0-9]{12}:role/.+`)
	s3URI           = pattern(0, 1024, `s3://[a-z0-9][\.\-a-z0-9]{1,61}[a-z0-9](/.*)?`)
	jobStatus       = enum{"SUBMITTED", "QUEUED", "IN_PROGRESS", "COMPLETED_WITH_ERRORS", "COMPLETED", "FAILED", "CANCEL_SUBMITTED", "CANCEL_IN_PROGRESS", "CANCEL_COMPLETED", "CANCEL_FAILED"}
	validationLevel = enum{"strict", "structure-only", "minimal"}
)

type inputDataConfig struct{ S3Uri *string }

type outputDataConfig struct{ S3Configuration *s3Configuration }

type s3Configuration struct{ S3Uri, KmsKeyId *string }

// checkURI holds a location against S3Uri's pattern; one of another scheme that
// this server has is judged by the storage.
func (a *API) checkURI(f *findings, member string, uri *string) {
	required(f, member, uri)
	if scheme, _, found := strings.Cut(value(uri), "://"); found && scheme != "s3" && a.Schemes[scheme] {
		return
	}
	s3URI.check(f, member, uri)
}

func (a *API) checkOutput(f *findings, member string, c *outputDataConfig) {
	required(f, member, c)
	if c == nil {
		return
	}
	required(f, member+".s3Configuration", c.S3Configuration)
	if c.S3Configuration != nil {
		a.checkURI(f, member+".s3Configuration.s3Uri", c.S3Configuration.S3Uri)
		requiredText(f, member+".s3Configuration.kmsKeyId", c.S3Configuration.KmsKeyId, keyID)
	}
}

type jobRequest struct{ DatastoreId, JobId *string }

func (in *jobRequest) subject() Subject { return aboutStore(in.DatastoreId) }

// job finds the job that a request names, among those of some kinds.
func (a *API) job(ctx context.Context, in *jobRequest, kinds ...string) (*job.Job, error) {
	var f findings
	requiredText(&f, "datastoreId", in.DatastoreId, datastoreID)
	requiredText(&f, "jobId", in.JobId, jobID)
	if err := f.fault(); err != nil {
		return nil, err
	}
	if _, err := a.Plane.Describe(ctx, value(in.DatastoreId)); err != nil {
		return nil, err
	}
	j, err := a.Jobs.Get(ctx, value(in.JobId))
	if err == nil && (j.Datastore != value(in.DatastoreId) || !contains(kinds, j.Kind)) || fault.Is(err, fault.NotFound) {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "awsapi.job", Subject: "Job " + quoted(value(in.JobId)), Detail: "the data store has no such job"}
	}
	return j, err
}

// contains: no kinds are all kinds.
func contains(kinds []string, kind string) bool {
	for _, k := range kinds {
		if k == kind {
			return true
		}
	}
	return len(kinds) == 0
}

type listJobsRequest struct {
	DatastoreId     *string
	NextToken       *string
	MaxResults      *int
	JobName         *string
	JobStatus       *string
	SubmittedBefore *epoch
	SubmittedAfter  *epoch
}

func (in *listJobsRequest) subject() Subject { return aboutStore(in.DatastoreId) }

func (in *listJobsRequest) check() error {
	var f findings
	requiredText(&f, "datastoreId", in.DatastoreId, datastoreID)
	nextToken.check(&f, "nextToken", in.NextToken)
	between(&f, "maxResults", in.MaxResults, 1, maxResults)
	jobName.check(&f, "jobName", in.JobName)
	jobStatus.check(&f, "jobStatus", in.JobStatus)
	return f.fault()
}

func (in *listJobsRequest) filter(kinds []string) job.Filter {
	f := job.Filter{Kinds: kinds, Datastore: value(in.DatastoreId), Name: value(in.JobName), Status: job.Status(value(in.JobStatus))}
	if in.SubmittedBefore != nil {
		f.Before = time.Time(*in.SubmittedBefore)
	}
	if in.SubmittedAfter != nil {
		f.From = time.Time(*in.SubmittedAfter).Add(time.Millisecond)
	}
	return f
}

// jobsToken is what NextToken carries, sealed.
type jobsToken struct {
	At     store.Moment
	After  []byte
	Filter job.Filter
}

// jobs lists a data store's jobs of some kinds; operation is what the token is
// for.
func (a *API) jobs(ctx context.Context, in *listJobsRequest, operation string, kinds ...string) ([]*job.Job, string, error) {
	if err := in.check(); err != nil {
		return nil, "", err
	}
	if _, err := a.Plane.Describe(ctx, value(in.DatastoreId)); err != nil {
		return nil, "", err
	}
	token := jobsToken{Filter: in.filter(kinds)}
	if value(in.NextToken) != "" {
		raw, err := a.Tokens.Open(*in.NextToken, operation)
		if err == nil {
			err = json.Unmarshal(raw, &token)
		}
		if err != nil {
			return nil, "", badToken("not a token of this operation", err)
		}
		if token.Filter.Datastore != value(in.DatastoreId) {
			return nil, "", badToken("made for another data store", nil)
		}
	}
	limit := defaultResult
	if in.MaxResults != nil {
		limit = *in.MaxResults
	}
	page, err := a.Jobs.List(ctx, token.Filter, limit, token.At, token.After)
	if fault.Is(err, fault.Gone) {
		return nil, "", badToken("too old", err)
	}
	if err != nil || page.After == nil {
		return page.Jobs, "", err
	}
	raw, err := json.Marshal(jobsToken{page.At, page.After, token.Filter})
	if err != nil {
		return nil, "", fault.Wrap(fault.Internal, "awsapi.jobs", err)
	}
	next, err := a.Tokens.Seal(raw, operation)
	return page.Jobs, next, err
}

// jobOrder is what the requests for an import and for an export have in common.
type jobOrder struct {
	DatastoreId       *string
	DataAccessRoleArn *string
	JobName           *string
	ClientToken       *string
}

func (in *jobOrder) subject() Subject {
	about := aboutStore(in.DatastoreId)
	about.Role = value(in.DataAccessRoleArn)
	return about
}

func (in *jobOrder) check(f *findings) {
	requiredText(f, "datastoreId", in.DatastoreId, datastoreID)
	requiredText(f, "dataAccessRoleArn", in.DataAccessRoleArn, iamRoleARN)
	jobName.check(f, "jobName", in.JobName)
	clientToken.check(f, "clientToken", in.ClientToken)
}

type startFHIRImportJobRequest struct {
	jobOrder
	InputDataConfig     *inputDataConfig
	JobOutputDataConfig *outputDataConfig
	ValidationLevel     *string
	ProfileId           *string
	InputFormat         *string
}

func (in *startFHIRImportJobRequest) check(a *API) error {
	var f findings
	required(&f, "inputDataConfig", in.InputDataConfig)
	if in.InputDataConfig != nil {
		a.checkURI(&f, "inputDataConfig.s3Uri", in.InputDataConfig.S3Uri)
	}
	a.checkOutput(&f, "jobOutputDataConfig", in.JobOutputDataConfig)
	in.jobOrder.check(&f)
	validationLevel.check(&f, "validationLevel", in.ValidationLevel)
	if err := f.fault(); err != nil {
		return err
	}
	if value(in.ProfileId) != "" || value(in.InputFormat) != "" {
		return &fault.Error{Kind: fault.Invalid, Op: "awsapi.import", Subject: "profileId, inputFormat",
			Detail: "this server has no transformation profiles", Hint: "import FHIR R4 as NDJSON"}
	}
	return nil
}

type startJobAnswer struct{ JobId, JobStatus, DatastoreId string }

func (s startJobAnswer) about() string { return s.DatastoreId }

// defaultLevel is the ValidationLevel of a job that names none (devguide, "FHIR
// resource validation").
const defaultLevel = "strict"

func (a *API) startFHIRImportJob(ctx context.Context, in *startFHIRImportJobRequest) (startJobAnswer, error) {
	if err := in.check(a); err != nil {
		return startJobAnswer{}, err
	}
	level := value(in.ValidationLevel)
	if level == "" {
		level = defaultLevel
	}
	out := in.JobOutputDataConfig.S3Configuration
	j, err := a.Imports.Start(ctx, bulk.ImportRequest{
		Datastore: value(in.DatastoreId), Name: value(in.JobName), ClientToken: value(in.ClientToken),
		Input: value(in.InputDataConfig.S3Uri), Output: value(out.S3Uri), KMSKey: value(out.KmsKeyId),
		Role: value(in.DataAccessRoleArn), Level: level,
	})
	if err != nil {
		return startJobAnswer{}, err
	}
	return startJobAnswer{j.ID, string(j.Status), j.Datastore}, nil
}

type jobProgressReport struct {
	TotalNumberOfScannedFiles                      int64
	TotalSizeOfScannedFilesInMB                    float64
	TotalNumberOfImportedFiles                     int64
	TotalNumberOfResourcesScanned                  int64
	TotalNumberOfResourcesImported                 int64
	TotalNumberOfResourcesWithCustomerError        int64
	TotalNumberOfFilesReadWithCustomerError        int64
	Throughput                                     float64
	TotalNumberOfScannedNonFhirFiles               int64
	TotalSizeOfScannedNonFhirFilesInMB             float64
	TotalNumberOfImportedNonFhirFiles              int64
	TotalNumberOfNonFhirResourcesScanned           int64
	TotalNumberOfNonFhirResourcesImported          int64
	TotalNumberOfNonFhirResourcesWithCustomerError int64
	TotalNumberOfNonFhirFilesReadWithCustomerError int64
}

type importJobProperties struct {
	JobId               string
	JobName             string `json:",omitempty"`
	JobStatus           string
	SubmitTime          epoch
	EndTime             *epoch `json:",omitempty"`
	DatastoreId         string
	InputDataConfig     inputDataConfig
	JobOutputDataConfig outputDataConfig
	JobProgressReport   *jobProgressReport `json:",omitempty"`
	DataAccessRoleArn   string
	Message             string `json:",omitempty"`
	ValidationLevel     string
	// FirstErrors are the first resources that were refused: not of AWS.
	FirstErrors []bulk.LineError `json:",omitempty"`
}

func importProperties(j *job.Job) (importJobProperties, error) {
	var in bulk.ImportRequest
	if err := json.Unmarshal(j.Input, &in); err != nil {
		return importJobProperties{}, fault.Wrap(fault.Internal, "awsapi.import", err)
	}
	folder, err := in.OutputFolder(j.Datastore, j.ID)
	uri := folder.String()
	p := importJobProperties{
		JobId: j.ID, JobName: j.Name, JobStatus: string(j.Status), SubmitTime: epoch(j.SubmittedAt), EndTime: ended(j),
		DatastoreId: j.Datastore, InputDataConfig: inputDataConfig{&in.Input},
		JobOutputDataConfig: outputDataConfig{&s3Configuration{&uri, &in.KMSKey}},
		DataAccessRoleArn:   in.Role, Message: j.Message, ValidationLevel: in.Level,
	}
	if len(j.Progress) == 0 {
		return p, err
	}
	var r bulk.ImportReport
	err = errors.Join(err, json.Unmarshal(j.Progress, &r))
	p.FirstErrors = r.Errors
	p.JobProgressReport = &jobProgressReport{
		TotalNumberOfScannedFiles: r.ScannedFiles, TotalSizeOfScannedFilesInMB: bulk.Megabytes(r.ScannedBytes),
		TotalNumberOfImportedFiles: r.ImportedFiles, TotalNumberOfResourcesScanned: r.Scanned,
		TotalNumberOfResourcesImported: r.Imported, TotalNumberOfResourcesWithCustomerError: r.CustomerErrors,
		TotalNumberOfFilesReadWithCustomerError: r.FaultyFiles, Throughput: r.Throughput,
	}
	return p, fault.Wrap(fault.Internal, "awsapi.import", err)
}

func ended(j *job.Job) *epoch {
	if j.EndedAt.IsZero() {
		return nil
	}
	at := epoch(j.EndedAt)
	return &at
}

type describeFHIRImportJobAnswer struct{ ImportJobProperties importJobProperties }

func (a *API) describeFHIRImportJob(ctx context.Context, in *jobRequest) (describeFHIRImportJobAnswer, error) {
	j, err := a.job(ctx, in, bulk.KindImport)
	if err != nil {
		return describeFHIRImportJobAnswer{}, err
	}
	p, err := importProperties(j)
	return describeFHIRImportJobAnswer{p}, err
}

type listFHIRImportJobsAnswer struct {
	ImportJobPropertiesList []importJobProperties
	NextToken               string `json:",omitempty"`
}

func (a *API) listFHIRImportJobs(ctx context.Context, in *listJobsRequest) (listFHIRImportJobsAnswer, error) {
	found, next, err := a.jobs(ctx, in, "ListFHIRImportJobs", bulk.KindImport)
	out := listFHIRImportJobsAnswer{ImportJobPropertiesList: make([]importJobProperties, len(found)), NextToken: next}
	for i, j := range found {
		p, bad := importProperties(j)
		out.ImportJobPropertiesList[i], err = p, errors.Join(err, bad)
	}
	return out, err
}

// Operations that are Tarn's own: jobs of every kind, as the operator's commands
// show them.

// jobSummary is a job of any kind.
type jobSummary struct {
	JobId, JobKind, JobStatus, DatastoreId string
	JobName                                string `json:",omitempty"`
	SubmitTime                             epoch
	EndTime                                *epoch          `json:",omitempty"`
	Attempts                               int             `json:",omitempty"`
	Progress                               json.RawMessage `json:",omitempty"`
	Message                                string          `json:",omitempty"`
}

func summary(j *job.Job) jobSummary {
	return jobSummary{
		JobId: j.ID, JobKind: j.Kind, JobStatus: string(j.Status), DatastoreId: j.Datastore, JobName: j.Name,
		SubmitTime: epoch(j.SubmittedAt), EndTime: ended(j), Attempts: j.Attempts, Progress: j.Progress, Message: j.Message,
	}
}

type jobAnswer struct{ Job jobSummary }

func (a *API) describeJob(ctx context.Context, in *jobRequest) (jobAnswer, error) {
	j, err := a.job(ctx, in)
	if err != nil {
		return jobAnswer{}, err
	}
	return jobAnswer{summary(j)}, nil
}

func (a *API) cancelJob(ctx context.Context, in *jobRequest) (jobAnswer, error) {
	j, err := a.job(ctx, in)
	if err == nil {
		j, err = a.Jobs.Cancel(ctx, j.ID)
	}
	if err != nil {
		return jobAnswer{}, err
	}
	return jobAnswer{summary(j)}, nil
}

type listJobsAnswer struct {
	Jobs      []jobSummary
	NextToken string `json:",omitempty"`
}

func (a *API) listJobs(ctx context.Context, in *listJobsRequest) (listJobsAnswer, error) {
	found, next, err := a.jobs(ctx, in, "ListJobs")
	out := listJobsAnswer{Jobs: make([]jobSummary, len(found)), NextToken: next}
	for i, j := range found {
		out.Jobs[i] = summary(j)
	}
	return out, err
}
