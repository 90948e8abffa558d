package awsapi_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
)

// begun keeps what an export was started with.
type begun struct {
	datastore, token string
	ask              interaction.ExportAsk
	fails            error
}

func (b *begun) StartWhole(_ context.Context, datastore string, ask interaction.ExportAsk, token string) (*job.Job, error) {
	b.datastore, b.ask, b.token = datastore, ask, token
	return &job.Job{ID: "j", Status: job.Submitted, Datastore: datastore}, b.fails
}

const exportBody = `{"DatastoreId":"` + anID + `","DataAccessRoleArn":"arn:aws:iam::111122223333:role/x","JobName":"nightly","ClientToken":"t-1",
	"OutputDataConfig":{"S3Configuration":{"S3Uri":"s3://clinic/out/","KmsKeyId":"alias/k"}}}`

// Every member of StartFHIRExportJob arrives, the role is asked for, and a bucket
// that is not there is HealthLake's exception.
func TestStartExport(t *testing.T) {
	w, exports := newWorld(t), &begun{}
	w.api.Exports = exports
	request, err := read("StartFHIRExportJob", exportBody)
	if err != nil || request.Subject.Datastore != anID || request.Subject.Role != "arn:aws:iam::111122223333:role/x" {
		t.Errorf("%+v %v", request, err)
	}
	out := w.call("StartFHIRExportJob", exportBody)
	if want := `{"JobId":"j","JobStatus":"SUBMITTED","DatastoreId":"` + anID + `"}`; out.Code != http.StatusOK || out.Body.String() != want {
		t.Errorf("%d %s, want %s", out.Code, out.Body, want)
	}
	a := exports.ask
	if exports.datastore != anID || exports.token != "t-1" || a.Name != "nightly" || a.S3Uri != "s3://clinic/out/" || a.KMSKey != "alias/k" || a.Role != request.Subject.Role {
		t.Errorf("%+v", exports)
	}
	exports.fails = fault.New(fault.FailedDependency, "test", "no bucket")
	if e := exception(t, w.call("StartFHIRExportJob", exportBody)); e.Type != "FailedDependencyException" {
		t.Errorf("%+v", e)
	}
}
