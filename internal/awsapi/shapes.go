package awsapi

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/tarn-fhir/tarn/internal/datastore"
)

// The shapes of healthlake-2017-07-01 as they stand on the wire. Pointers tell
// absent members from empty ones.

type sseConfiguration struct {
	KmsEncryptionConfig *kmsEncryptionConfig
}

type kmsEncryptionConfig struct {
	CmkType  *string
	KmsKeyId *string `json:",omitempty"`
}

type preloadDataConfig struct{ PreloadDataType *string }

type identityProviderConfiguration struct {
	AuthorizationStrategy           *string
	FineGrainedAuthorizationEnabled *bool   `json:",omitempty"`
	Metadata                        *string `json:",omitempty"`
	IdpLambdaArn                    *string `json:",omitempty"`
}

type statusConfiguration struct{ Status *string }

type profileConfiguration struct{ DefaultProfiles []string }

type backupConfiguration struct {
	Status                *string
	BackupType            *string `json:",omitempty"`
	RetentionPeriodInDays *int    `json:",omitempty"`
	BackupTagsEnabled     *bool   `json:",omitempty"`
}

type tag struct{ Key, Value *string }

type errorCause struct{ ErrorMessage, ErrorCategory string }

type backupStatusInfo struct {
	Configuration                  *backupConfiguration
	BackupEnabledAt                *epoch `json:",omitempty"`
	EarliestRestorePoint           *epoch `json:",omitempty"`
	LatestRestorePoint             *epoch `json:",omitempty"`
	ScheduledPermanentDeletionTime *epoch `json:",omitempty"`
}

type datastoreProperties struct {
	DatastoreId                   string
	DatastoreArn                  string
	DatastoreName                 string `json:",omitempty"`
	DatastoreStatus               string
	CreatedAt                     epoch
	DatastoreTypeVersion          string
	DatastoreEndpoint             string
	SseConfiguration              *sseConfiguration
	PreloadDataConfig             *preloadDataConfig `json:",omitempty"`
	IdentityProviderConfiguration *identityProviderConfiguration
	ErrorCause                    *errorCause           `json:",omitempty"`
	NlpConfiguration              *statusConfiguration  `json:",omitempty"`
	AnalyticsConfiguration        *statusConfiguration  `json:",omitempty"`
	ProfileConfiguration          *profileConfiguration `json:",omitempty"`
	BackupStatusInfo              *backupStatusInfo     `json:",omitempty"`
}

// epoch is a timestamp of awsJson1_0: seconds since 1970 with a fraction.
type epoch time.Time

func (e epoch) MarshalJSON() ([]byte, error) {
	ms := time.Time(e).UnixMilli()
	return strconv.AppendFloat(nil, float64(ms)/1000, 'f', -1, 64), nil
}

// maxEpoch is the last second that a timestamp may name, of the year 9999.
const maxEpoch = 253402300799

func (e *epoch) UnmarshalJSON(b []byte) error {
	var seconds float64
	if err := json.Unmarshal(b, &seconds); err != nil {
		return err
	}
	if math.Abs(seconds) > maxEpoch {
		return errors.New("not a time in seconds since 1970")
	}
	*e = epoch(time.UnixMilli(int64(math.Round(seconds * 1000))))
	return nil
}

func properties(d *datastore.Datastore, endpoint string) datastoreProperties {
	return datastoreProperties{
		DatastoreId: d.ID, DatastoreArn: d.ARN, DatastoreName: d.Name, DatastoreStatus: string(d.Status),
		CreatedAt: epoch(d.CreatedAt), DatastoreTypeVersion: d.TypeVersion, DatastoreEndpoint: endpoint,
		SseConfiguration:              &sseConfiguration{&kmsEncryptionConfig{CmkType: &d.Encryption.CmkType, KmsKeyId: optional(d.Encryption.KeyID)}},
		PreloadDataConfig:             preloadOf(d),
		IdentityProviderConfiguration: identityOf(d.Identity),
		ErrorCause:                    causeOf(d.Failure),
		NlpConfiguration:              statusOf(d.Settings.NLP),
		AnalyticsConfiguration:        statusOf(d.Settings.Analytics),
		ProfileConfiguration:          profilesOf(d.Settings.DefaultProfiles),
		BackupStatusInfo:              backupOf(d.Settings.Backup),
	}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func statusOf(s string) *statusConfiguration {
	if s == "" {
		return nil
	}
	return &statusConfiguration{&s}
}

func preloadOf(d *datastore.Datastore) *preloadDataConfig {
	if d.Preload == "" {
		return nil
	}
	return &preloadDataConfig{&d.Preload}
}

func identityOf(i datastore.Identity) *identityProviderConfiguration {
	return &identityProviderConfiguration{
		AuthorizationStrategy: &i.Strategy, FineGrainedAuthorizationEnabled: &i.FineGrained,
		Metadata: optional(i.Metadata), IdpLambdaArn: optional(i.IdpLambdaARN),
	}
}

func causeOf(f *datastore.Failure) *errorCause {
	if f == nil {
		return nil
	}
	category := "NON_RETRYABLE_ERROR"
	if f.Retryable {
		category = "RETRYABLE_ERROR"
	}
	return &errorCause{f.Message, category}
}

func profilesOf(names []string) *profileConfiguration {
	if len(names) == 0 {
		return nil
	}
	return &profileConfiguration{names}
}

func backupOf(b *datastore.Backup) *backupStatusInfo {
	if b == nil {
		return nil
	}
	out := &backupConfiguration{Status: &b.Status, BackupType: optional(b.Type), BackupTagsEnabled: &b.Tags}
	if b.RetentionDays > 0 {
		out.RetentionPeriodInDays = &b.RetentionDays
	}
	return &backupStatusInfo{Configuration: out}
}

// check methods: the constraints of each structure, member names as AWS spells
// them in messages (first letter small).

func (c *sseConfiguration) check(f *findings) {
	if c == nil {
		return
	}
	required(f, "sseConfiguration.kmsEncryptionConfig", c.KmsEncryptionConfig)
	if k := c.KmsEncryptionConfig; k != nil {
		required(f, "sseConfiguration.kmsEncryptionConfig.cmkType", k.CmkType)
		cmkType.check(f, "sseConfiguration.kmsEncryptionConfig.cmkType", k.CmkType)
		keyID.check(f, "sseConfiguration.kmsEncryptionConfig.kmsKeyId", k.KmsKeyId)
	}
}

func (c *preloadDataConfig) check(f *findings) {
	if c == nil {
		return
	}
	required(f, "preloadDataConfig.preloadDataType", c.PreloadDataType)
	preloadType.check(f, "preloadDataConfig.preloadDataType", c.PreloadDataType)
}

func (c *identityProviderConfiguration) check(f *findings) {
	if c == nil {
		return
	}
	required(f, "identityProviderConfiguration.authorizationStrategy", c.AuthorizationStrategy)
	strategy.check(f, "identityProviderConfiguration.authorizationStrategy", c.AuthorizationStrategy)
	lambdaARN.check(f, "identityProviderConfiguration.idpLambdaArn", c.IdpLambdaArn)
}

func (c *statusConfiguration) check(f *findings, member string, allowed enum) {
	if c == nil {
		return
	}
	required(f, member+".status", c.Status)
	allowed.check(f, member+".status", c.Status)
}

func (c *profileConfiguration) check(f *findings) {
	if c == nil {
		return
	}
	for i := range c.DefaultProfiles {
		profileName.check(f, "profileConfiguration.defaultProfiles."+strconv.Itoa(i+1)+".member", &c.DefaultProfiles[i])
	}
}

func (c *backupConfiguration) check(f *findings) {
	if c == nil {
		return
	}
	backupStatus.check(f, "backupConfiguration.status", c.Status)
	backupType.check(f, "backupConfiguration.backupType", c.BackupType)
	between(f, "backupConfiguration.retentionPeriodInDays", c.RetentionPeriodInDays, 1, 30)
}

func checkTags(f *findings, tags []tag) {
	length(f, "tags", len(tags), 0, maxTags)
	for i, t := range tags {
		at := "tags." + strconv.Itoa(i+1) + ".member."
		requiredText(f, at+"key", t.Key, tagKey)
		requiredText(f, at+"value", t.Value, tagValue)
	}
}

// value is what a member holds that was checked, the zero value when it is
// absent.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func (c *sseConfiguration) encryption() datastore.Encryption {
	if c == nil || c.KmsEncryptionConfig == nil {
		return datastore.Encryption{}
	}
	return datastore.Encryption{CmkType: value(c.KmsEncryptionConfig.CmkType), KeyID: value(c.KmsEncryptionConfig.KmsKeyId)}
}

func (c *identityProviderConfiguration) identity() datastore.Identity {
	if c == nil {
		return datastore.Identity{}
	}
	return datastore.Identity{
		Strategy: value(c.AuthorizationStrategy), FineGrained: value(c.FineGrainedAuthorizationEnabled),
		Metadata: value(c.Metadata), IdpLambdaARN: value(c.IdpLambdaArn),
	}
}

func (c *backupConfiguration) backup() *datastore.Backup {
	if c == nil {
		return nil
	}
	return &datastore.Backup{
		Status: value(c.Status), Type: value(c.BackupType),
		RetentionDays: value(c.RetentionPeriodInDays), Tags: value(c.BackupTagsEnabled),
	}
}

func tagsIn(tags []tag) []datastore.Tag {
	out := make([]datastore.Tag, len(tags))
	for i, t := range tags {
		out[i] = datastore.Tag{Key: value(t.Key), Value: value(t.Value)}
	}
	return out
}

func tagsOut(tags []datastore.Tag) []tag {
	out := make([]tag, len(tags))
	for i, t := range tags {
		out[i] = tag{Key: &t.Key, Value: &t.Value}
	}
	return out
}
