package awsapi

import (
	"context"
	"encoding/json"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
)

// Exports starts export jobs.
type Exports interface {
	// StartWhole exports a whole data store, as it stands now, to the bucket that
	// ask names; a token that was used before gives the first job again. Errors:
	// fault.NotFound and fault.Conflict for a data store that does not serve,
	// fault.FailedDependency when the bucket is not there, fault.Forbidden when the
	// role may not use it, fault.Throttled when too many exports wait.
	StartWhole(ctx context.Context, datastore string, ask interaction.ExportAsk, token string) (*job.Job, error)
}

type startFHIRExportJobRequest struct {
	jobOrder
	OutputDataConfig *outputDataConfig
}

func (in *startFHIRExportJobRequest) check(a *API) error {
	var f findings
	a.checkOutput(&f, "outputDataConfig", in.OutputDataConfig)
	in.jobOrder.check(&f)
	return f.fault()
}

func (a *API) startFHIRExportJob(ctx context.Context, in *startFHIRExportJobRequest) (startJobAnswer, error) {
	if err := in.check(a); err != nil {
		return startJobAnswer{}, err
	}
	out := in.OutputDataConfig.S3Configuration
	j, err := a.Exports.StartWhole(ctx, value(in.DatastoreId), interaction.ExportAsk{
		Name: value(in.JobName), S3Uri: value(out.S3Uri), KMSKey: value(out.KmsKeyId), Role: value(in.DataAccessRoleArn),
	}, value(in.ClientToken))
	if err != nil {
		return startJobAnswer{}, err
	}
	return startJobAnswer{j.ID, string(j.Status), j.Datastore}, nil
}

type exportJobProperties struct {
	JobId             string
	JobName           string `json:",omitempty"`
	JobStatus         string
	SubmitTime        epoch
	EndTime           *epoch `json:",omitempty"`
	DatastoreId       string
	OutputDataConfig  outputDataConfig
	DataAccessRoleArn string
	Message           string `json:",omitempty"`
}

// exportProperties describes an export; toBucket is false of one whose files the
// server keeps: it has no OutputDataConfig, which the model requires.
func exportProperties(j *job.Job) (p exportJobProperties, toBucket bool, err error) {
	var ask interaction.ExportAsk
	if err := json.Unmarshal(j.Input, &ask); err != nil {
		return p, false, fault.Wrap(fault.Internal, "awsapi.export", err)
	}
	if ask.S3Uri == "" {
		return p, false, nil
	}
	folder, err := ask.Folder(j.Datastore, j.ID)
	uri := folder.String()
	return exportJobProperties{
		JobId: j.ID, JobName: j.Name, JobStatus: string(j.Status), SubmitTime: epoch(j.SubmittedAt), EndTime: ended(j),
		DatastoreId: j.Datastore, OutputDataConfig: outputDataConfig{&s3Configuration{&uri, &ask.KMSKey}},
		DataAccessRoleArn: ask.Role, Message: j.Message,
	}, true, err
}

type describeFHIRExportJobAnswer struct{ ExportJobProperties exportJobProperties }

func (a *API) describeFHIRExportJob(ctx context.Context, in *jobRequest) (describeFHIRExportJobAnswer, error) {
	j, err := a.job(ctx, in, interaction.KindExport)
	if err != nil {
		return describeFHIRExportJobAnswer{}, err
	}
	p, toBucket, err := exportProperties(j)
	if err == nil && !toBucket {
		err = &fault.Error{Kind: fault.NotFound, Op: "awsapi.export", Subject: "Job " + quoted(j.ID),
			Detail: "the server keeps the files of this export", Hint: "ask for its status where it was started ($export), or by DescribeJob"}
	}
	return describeFHIRExportJobAnswer{p}, err
}

type listFHIRExportJobsAnswer struct {
	ExportJobPropertiesList []exportJobProperties
	NextToken               string `json:",omitempty"`
}

// listFHIRExportJobs gives those with a bucket: a page may hold fewer than were
// asked for and yet have a token.
func (a *API) listFHIRExportJobs(ctx context.Context, in *listJobsRequest) (listFHIRExportJobsAnswer, error) {
	found, next, err := a.jobs(ctx, in, "ListFHIRExportJobs", interaction.KindExport)
	out := listFHIRExportJobsAnswer{ExportJobPropertiesList: make([]exportJobProperties, 0, len(found)), NextToken: next}
	for _, j := range found {
		p, toBucket, bad := exportProperties(j)
		if bad != nil {
			return out, bad
		}
		if toBucket {
			out.ExportJobPropertiesList = append(out.ExportJobPropertiesList, p)
		}
	}
	return out, err
}
