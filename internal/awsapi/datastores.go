package awsapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
)

type createFHIRDatastoreRequest struct {
	DatastoreName                 *string
	DatastoreTypeVersion          *string
	SseConfiguration              *sseConfiguration
	PreloadDataConfig             *preloadDataConfig
	ClientToken                   *string
	Tags                          []tag
	IdentityProviderConfiguration *identityProviderConfiguration
	AnalyticsConfiguration        *statusConfiguration
	NlpConfiguration              *statusConfiguration
	ProfileConfiguration          *profileConfiguration
	BackupConfiguration           *backupConfiguration
}

// datastoreAnswer is the answer of create and delete.
type datastoreAnswer struct {
	DatastoreId       string
	DatastoreArn      string
	DatastoreStatus   string
	DatastoreEndpoint string
}

func (d datastoreAnswer) about() string { return d.DatastoreId }

func (a *API) answer(d *datastore.Datastore) datastoreAnswer {
	return datastoreAnswer{d.ID, d.ARN, string(d.Status), a.Endpoint(d.ID)}
}

func (in *createFHIRDatastoreRequest) subject() Subject { return Subject{}.withTags(in.Tags) }

func (in *createFHIRDatastoreRequest) check() error {
	var f findings
	datastoreName.check(&f, "datastoreName", in.DatastoreName)
	required(&f, "datastoreTypeVersion", in.DatastoreTypeVersion)
	fhirVersion.check(&f, "datastoreTypeVersion", in.DatastoreTypeVersion)
	in.SseConfiguration.check(&f)
	in.PreloadDataConfig.check(&f)
	clientToken.check(&f, "clientToken", in.ClientToken)
	checkTags(&f, in.Tags)
	in.IdentityProviderConfiguration.check(&f)
	in.AnalyticsConfiguration.check(&f, "analyticsConfiguration", analyticsStatus)
	in.NlpConfiguration.check(&f, "nlpConfiguration", nlpStatus)
	in.ProfileConfiguration.check(&f)
	in.BackupConfiguration.check(&f)
	return f.fault()
}

func (a *API) createFHIRDatastore(ctx context.Context, in *createFHIRDatastoreRequest) (datastoreAnswer, error) {
	if err := in.check(); err != nil {
		return datastoreAnswer{}, err
	}
	d, err := a.Plane.Create(ctx, in.request())
	if err != nil {
		return datastoreAnswer{}, err
	}
	return a.answer(d), nil
}

// request is the request as package datastore takes it.
func (in *createFHIRDatastoreRequest) request() datastore.CreateRequest {
	req := datastore.CreateRequest{
		Name: value(in.DatastoreName), TypeVersion: value(in.DatastoreTypeVersion),
		Encryption: in.SseConfiguration.encryption(), Identity: in.IdentityProviderConfiguration.identity(),
		Tags: tagsIn(in.Tags), ClientToken: value(in.ClientToken),
	}
	if in.PreloadDataConfig != nil {
		req.Preload = value(in.PreloadDataConfig.PreloadDataType)
	}
	if in.AnalyticsConfiguration != nil {
		req.Settings.Analytics = value(in.AnalyticsConfiguration.Status)
	}
	if in.NlpConfiguration != nil {
		req.Settings.NLP = value(in.NlpConfiguration.Status)
	}
	if in.ProfileConfiguration != nil {
		req.Settings.DefaultProfiles = in.ProfileConfiguration.DefaultProfiles
	}
	req.Settings.Backup = in.BackupConfiguration.backup()
	return req
}

type datastoreIDRequest struct{ DatastoreId *string }

func (in *datastoreIDRequest) subject() Subject { return aboutStore(in.DatastoreId) }

func (in *datastoreIDRequest) check() error {
	var f findings
	requiredText(&f, "datastoreId", in.DatastoreId, datastoreID)
	return f.fault()
}

type propertiesAnswer struct{ DatastoreProperties datastoreProperties }

func (p propertiesAnswer) about() string { return p.DatastoreProperties.DatastoreId }

func (a *API) describeFHIRDatastore(ctx context.Context, in *datastoreIDRequest) (propertiesAnswer, error) {
	if err := in.check(); err != nil {
		return propertiesAnswer{}, err
	}
	d, err := a.Plane.Describe(ctx, value(in.DatastoreId))
	if err != nil {
		return propertiesAnswer{}, err
	}
	return propertiesAnswer{a.shown(d)}, nil
}

func (a *API) deleteFHIRDatastore(ctx context.Context, in *datastoreIDRequest) (datastoreAnswer, error) {
	if err := in.check(); err != nil {
		return datastoreAnswer{}, err
	}
	d, err := a.Plane.Delete(ctx, value(in.DatastoreId))
	if err != nil {
		return datastoreAnswer{}, err
	}
	return a.answer(d), nil
}

type datastoreFilter struct {
	DatastoreName   *string
	DatastoreStatus *string
	CreatedBefore   *epoch
	CreatedAfter    *epoch
}

type listFHIRDatastoresRequest struct {
	Filter     *datastoreFilter
	NextToken  *string
	MaxResults *int
}

type listFHIRDatastoresAnswer struct {
	DatastorePropertiesList []datastoreProperties
	NextToken               string `json:",omitempty"`
}

func (in *listFHIRDatastoresRequest) subject() Subject { return Subject{} }

func (in *listFHIRDatastoresRequest) check() error {
	var f findings
	if in.Filter != nil {
		datastoreName.check(&f, "filter.datastoreName", in.Filter.DatastoreName)
		datastoreStatus.check(&f, "filter.datastoreStatus", in.Filter.DatastoreStatus)
	}
	nextToken.check(&f, "nextToken", in.NextToken)
	between(&f, "maxResults", in.MaxResults, 1, maxResults)
	return f.fault()
}

func (in *listFHIRDatastoresRequest) filter() datastore.Filter {
	if in.Filter == nil {
		return datastore.Filter{}
	}
	f := datastore.Filter{Name: value(in.Filter.DatastoreName), Status: datastore.Status(value(in.Filter.DatastoreStatus))}
	if in.Filter.CreatedBefore != nil {
		f.CreatedBefore = time.Time(*in.Filter.CreatedBefore)
	}
	if in.Filter.CreatedAfter != nil {
		f.CreatedAfter = time.Time(*in.Filter.CreatedAfter)
	}
	return f
}

// listToken is what NextToken carries, sealed.
type listToken struct {
	At     store.Moment
	After  []byte
	Filter datastore.Filter
}

const listPurpose = "ListFHIRDatastores"

func (a *API) listFHIRDatastores(ctx context.Context, in *listFHIRDatastoresRequest) (listFHIRDatastoresAnswer, error) {
	var out listFHIRDatastoresAnswer
	if err := in.check(); err != nil {
		return out, err
	}
	at, err := a.continued(in)
	if err != nil {
		return out, err
	}
	limit := defaultResult
	if in.MaxResults != nil {
		limit = *in.MaxResults
	}
	page, err := a.Plane.List(ctx, at.Filter, limit, at.At, at.After)
	if fault.Is(err, fault.Gone) {
		return out, badToken("too old", err)
	}
	if err != nil {
		return out, err
	}
	out.DatastorePropertiesList = make([]datastoreProperties, len(page.Datastores))
	for i, d := range page.Datastores {
		out.DatastorePropertiesList[i] = a.shown(d)
	}
	if page.After != nil {
		raw, err := json.Marshal(listToken{page.At, page.After, at.Filter})
		if err != nil {
			return out, fault.Wrap(fault.Internal, "awsapi.list", err)
		}
		if out.NextToken, err = a.Tokens.Seal(raw, listPurpose); err != nil {
			return out, err
		}
	}
	return out, nil
}

// continued opens NextToken, which stands for the filter it began with: the
// request repeats that, or has none.
func (a *API) continued(in *listFHIRDatastoresRequest) (listToken, error) {
	if value(in.NextToken) == "" {
		return listToken{Filter: in.filter()}, nil
	}
	var token listToken
	raw, err := a.Tokens.Open(*in.NextToken, listPurpose)
	if err == nil {
		err = json.Unmarshal(raw, &token)
	}
	if err != nil {
		return token, badToken("not a token of this operation", err)
	}
	if in.Filter != nil && !sameFilter(in.filter(), token.Filter) {
		return token, badToken("made for another filter", nil)
	}
	return token, nil
}

func badToken(why string, cause error) error {
	return &fault.Error{Kind: fault.Invalid, Op: "awsapi.list", Subject: "nextToken", Detail: why,
		Hint: "begin again without NextToken", Cause: cause}
}

func sameFilter(a, b datastore.Filter) bool {
	return a.Name == b.Name && a.Status == b.Status &&
		a.CreatedBefore.Equal(b.CreatedBefore) && a.CreatedAfter.Equal(b.CreatedAfter)
}

type updateFHIRDatastoreRequest struct {
	DatastoreId                   *string
	DatastoreName                 *string
	AnalyticsConfiguration        *statusConfiguration
	NlpConfiguration              *statusConfiguration
	ProfileConfiguration          *profileConfiguration
	IdentityProviderConfiguration *identityProviderConfiguration
	BackupConfiguration           *backupConfiguration
}

func (in *updateFHIRDatastoreRequest) subject() Subject { return aboutStore(in.DatastoreId) }

func (in *updateFHIRDatastoreRequest) check() error {
	var f findings
	requiredText(&f, "datastoreId", in.DatastoreId, datastoreID)
	datastoreName.check(&f, "datastoreName", in.DatastoreName)
	in.IdentityProviderConfiguration.check(&f)
	in.AnalyticsConfiguration.check(&f, "analyticsConfiguration", analyticsStatus)
	in.NlpConfiguration.check(&f, "nlpConfiguration", nlpStatus)
	in.ProfileConfiguration.check(&f)
	in.BackupConfiguration.check(&f)
	return f.fault()
}

func (a *API) updateFHIRDatastore(ctx context.Context, in *updateFHIRDatastoreRequest) (propertiesAnswer, error) {
	if err := in.check(); err != nil {
		return propertiesAnswer{}, err
	}
	req := datastore.UpdateRequest{ID: value(in.DatastoreId), Name: in.DatastoreName, Backup: in.BackupConfiguration.backup()}
	if in.AnalyticsConfiguration != nil {
		req.Analytics = in.AnalyticsConfiguration.Status
	}
	if in.NlpConfiguration != nil {
		req.NLP = in.NlpConfiguration.Status
	}
	if in.ProfileConfiguration != nil {
		req.DefaultProfiles = &in.ProfileConfiguration.DefaultProfiles
	}
	if in.IdentityProviderConfiguration != nil {
		identity := in.IdentityProviderConfiguration.identity()
		req.Identity = &identity
	}
	d, err := a.Plane.Update(ctx, req)
	if err != nil {
		return propertiesAnswer{}, err
	}
	return propertiesAnswer{a.shown(d)}, nil
}
