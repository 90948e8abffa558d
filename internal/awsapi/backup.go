package awsapi

import (
	"context"
	"time"

	"github.com/tarn-fhir/tarn/internal/datastore"
)

type restoreConfiguration struct {
	ContinuousBackupRestoreConfiguration *continuousBackupRestoreConfiguration
}

type continuousBackupRestoreConfiguration struct{ RestorePointTime *epoch }

// restoreFHIRDatastoreRequest asks for a new data store; of the source nothing
// but its content is taken (Amazon HealthLake developer guide, restoring).
type restoreFHIRDatastoreRequest struct {
	SourceDatastoreId             *string
	RestoreConfiguration          *restoreConfiguration
	DatastoreName                 *string
	SseConfiguration              *sseConfiguration
	ClientToken                   *string
	Tags                          []tag
	IdentityProviderConfiguration *identityProviderConfiguration
	AnalyticsConfiguration        *statusConfiguration
	NlpConfiguration              *statusConfiguration
	ProfileConfiguration          *profileConfiguration
}

// subject is the source: who may read its backup is judged by its ARN and tags.
func (in *restoreFHIRDatastoreRequest) subject() Subject {
	return aboutStore(in.SourceDatastoreId).withTags(in.Tags)
}

// create is the part of the request that CreateFHIRDatastore has too.
func (in *restoreFHIRDatastoreRequest) create() *createFHIRDatastoreRequest {
	r4 := "R4"
	return &createFHIRDatastoreRequest{
		DatastoreName: in.DatastoreName, DatastoreTypeVersion: &r4, SseConfiguration: in.SseConfiguration, ClientToken: in.ClientToken,
		Tags: in.Tags, IdentityProviderConfiguration: in.IdentityProviderConfiguration, AnalyticsConfiguration: in.AnalyticsConfiguration,
		NlpConfiguration: in.NlpConfiguration, ProfileConfiguration: in.ProfileConfiguration,
	}
}

func (in *restoreFHIRDatastoreRequest) check() error {
	var f findings
	requiredText(&f, "sourceDatastoreId", in.SourceDatastoreId, datastoreID)
	required(&f, "restoreConfiguration", in.RestoreConfiguration)
	if in.RestoreConfiguration != nil {
		required(&f, "restoreConfiguration.continuousBackupRestoreConfiguration", in.RestoreConfiguration.ContinuousBackupRestoreConfiguration)
	}
	if err := f.fault(); err != nil {
		return err
	}
	return in.create().check()
}

func (a *API) restoreFHIRDatastore(ctx context.Context, in *restoreFHIRDatastoreRequest) (datastoreAnswer, error) {
	if err := in.check(); err != nil {
		return datastoreAnswer{}, err
	}
	req := in.create().request()
	req.Restore = &datastore.Restore{Source: value(in.SourceDatastoreId)}
	if at := in.RestoreConfiguration.ContinuousBackupRestoreConfiguration.RestorePointTime; at != nil {
		req.Restore.At = time.Time(*at)
	}
	d, err := a.Plane.Create(ctx, req)
	if err != nil {
		return datastoreAnswer{}, err
	}
	return a.answer(d), nil
}

// shown is a data store with its window of restoring, and why it cannot be opened
// where that is so.
func (a *API) shown(d *datastore.Datastore) datastoreProperties {
	out := properties(d, a.Endpoint(d.ID))
	if out.ErrorCause == nil {
		out.ErrorCause = causeOf(a.Plane.Faulty(d.ID))
	}
	b := d.Settings.Backup
	if out.BackupStatusInfo == nil || !b.On() {
		return out
	}
	out.BackupStatusInfo.BackupEnabledAt = when(b.EnabledAt)
	out.BackupStatusInfo.ScheduledPermanentDeletionTime = when(d.RemoveAt)
	if earliest, latest, ok := a.Plane.Window(d); ok {
		out.BackupStatusInfo.EarliestRestorePoint, out.BackupStatusInfo.LatestRestorePoint = when(earliest), when(latest)
	}
	return out
}

func when(t time.Time) *epoch {
	if t.IsZero() {
		return nil
	}
	e := epoch(t)
	return &e
}

// backupAnswer says up to when a backup holds everything.
type backupAnswer struct {
	DatastoreId        string
	LatestRestorePoint epoch
}

func (b backupAnswer) about() string { return b.DatastoreId }

func (a *API) backupDatastore(ctx context.Context, in *datastoreIDRequest) (backupAnswer, error) {
	if err := in.check(); err != nil {
		return backupAnswer{}, err
	}
	latest, err := a.Plane.BackUp(ctx, value(in.DatastoreId))
	return backupAnswer{value(in.DatastoreId), epoch(latest)}, err
}
