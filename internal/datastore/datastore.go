// Package datastore is the control plane's domain: what a data store is, the
// states it passes through, and who may open it when.
//
//	CREATING → ACTIVE | CREATE_FAILED
//	ACTIVE | CREATE_FAILED → DELETING → DELETED (shown for Options.KeepDeleted)
//
// A data store is a document of the system store (Datastore), its wrapped data
// key another one, its content a store of the engine under its id. Every step
// from one state to the next is a job (package job): recorded when it is done
// and begun again where a crash stopped it. The small record that makes a data
// store ACTIVE is written last.
//
//	New       the plane; registers its job kinds with the queue
//	Create Describe List Update Delete Tag Untag Tags     as AWS's operations
//	Open      leases a store to the data plane
//	Tend      closes idle stores, looks after keys, sweeps
//
// DESIGN.md draws the states, the steps and what a crash means in each.
//
// AWS's shapes and wording are translated in package awsapi; nothing here knows
// of HTTP.
package datastore

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/backup"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Status is a data store's state, in AWS's words (API_DatastoreProperties).
type Status string

// The states.
const (
	Creating     Status = "CREATING"
	Active       Status = "ACTIVE"
	CreateFailed Status = "CREATE_FAILED"
	Updating     Status = "UPDATING"
	UpdateFailed Status = "UPDATE_FAILED"
	Deleting     Status = "DELETING"
	Deleted      Status = "DELETED"
)

// Serves reports whether the data plane answers in this state.
func (s Status) Serves() bool {
	return s == Active || s == Updating || s == UpdateFailed
}

// Datastore is the record of one data store.
type Datastore struct {
	ID          string
	ARN         string
	Name        string `json:",omitempty"`
	Status      Status
	TypeVersion string
	CreatedAt   time.Time
	DeletedAt   time.Time `json:",omitzero"`
	Encryption  Encryption
	KeyNumber   int      `json:",omitempty"` // of the data key that opens the store: rekey.go
	Preload     string   `json:",omitempty"` // "SYNTHEA" or empty
	Identity    Identity `json:",omitzero"`
	Settings    Settings `json:",omitzero"`
	Operator    Operator `json:",omitzero"`
	Tags        []Tag    `json:",omitempty"` // in the order given, keys unique
	Failure     *Failure `json:",omitempty"`
	Restore     *Restore `json:",omitempty"` // of which backup it is made
	// RemoveAt is when the backups of a deleted store are removed, and it cannot
	// be restored any more.
	RemoveAt time.Time `json:",omitzero"`
}

// Encryption says whose key wraps the store's data key. Immutable.
type Encryption struct {
	CmkType string // CustomerManaged or AWSOwned
	KeyID   string `json:",omitempty"` // as given: id, ARN or alias
	KeyARN  string `json:",omitempty"` // as resolved once, at creation
}

// The kinds of key (CmkType).
const (
	CustomerManaged = "CUSTOMER_MANAGED_KMS_KEY"
	AWSOwned        = "AWS_OWNED_KMS_KEY"
)

// Identity is the store's identity provider (IdentityProviderConfiguration).
type Identity struct {
	Strategy     string
	FineGrained  bool
	Metadata     string `json:",omitempty"` // JSON text, served as given
	IdpLambdaARN string `json:",omitempty"`
}

// The authorization strategies.
const (
	AWSAuth       = "AWS_AUTH"
	SMARTonFHIRv1 = "SMART_ON_FHIR_V1"
	SMARTonFHIR   = "SMART_ON_FHIR"
)

// Settings are the updatable configurations whose machinery is not here yet in
// every value; see Settings.check for what is refused.
type Settings struct {
	NLP             string   `json:",omitempty"` // NlpStatus
	Analytics       string   `json:",omitempty"` // AnalyticsStatus
	DefaultProfiles []string `json:",omitempty"`
	Backup          *Backup  `json:",omitempty"`
}

// Backup is BackupConfiguration.
type Backup struct {
	Status        string
	Type          string    `json:",omitempty"`
	RetentionDays int       `json:",omitempty"`
	Tags          bool      `json:",omitempty"`
	EnabledAt     time.Time `json:",omitzero"` // since when it is on; not asked for
}

// Tag is one resource tag.
type Tag struct{ Key, Value string }

// Failure is why a store failed (ErrorCause).
type Failure struct {
	Message   string
	Retryable bool
}

// Entry numbers of Datastore documents. Persisted: never reuse.
const (
	entryName uint16 = 1 + iota
	entryStatus
	entryCreated
	entryARN
)

var datastores = record.Kind[Datastore]{Type: record.TypeDatastore, Entries: func(d *Datastore) []plan.Entry {
	entries := []plan.Entry{
		record.Text(entryStatus, string(d.Status)),
		record.Time(entryCreated, d.CreatedAt),
		record.Text(entryARN, d.ARN),
	}
	if d.Name != "" {
		entries = append(entries, record.Text(entryName, d.Name))
	}
	return entries
}}

// wrappedKey is the document that holds a store's wrapped data key of one number,
// apart from the Datastore so that it can be purged with every version.
type wrappedKey struct{ Key seal.Wrapped }

var wrappedKeys = record.Kind[wrappedKey]{Type: record.TypeDataKey}

// Preloader fills a new store with a data set, through the store's bulk door:
// a repeated call goes on where a crash stopped the last one.
type Preloader interface {
	Preload(ctx context.Context, d *Datastore, s store.Store, progress func(done, total int64)) error
}

// Options are what the control plane needs.
type Options struct {
	Partition string // "aws"
	Region    string
	Account   string
	Engine    store.Engine
	System    store.Store
	Jobs      *job.Queue
	Keyring   seal.Keyring
	OwnedKey  string      // the key for AWS_OWNED_KMS_KEY
	Preload   Preloader   // nil: PreloadDataConfig is refused
	Backups   *backup.Dir // where backups are kept; nil: BackupConfiguration is refused
	Clock     func() time.Time
	Random    io.Reader
	Log       *slog.Logger

	KeepDeleted time.Duration // how long DELETED stores are shown; 0: DefaultKeepDeleted
	IdleClose   time.Duration // a store nobody used so long is closed; 0: DefaultIdleClose
	KeyCheck    time.Duration // how often open stores' keys are looked at; 0: DefaultKeyCheck
	KeyGrace    time.Duration // how long a store stays open while its KMS cannot be reached; 0: DefaultKeyGrace
	BackupEvery time.Duration // how often stores with continuous backup are looked at; 0: DefaultBackupEvery
	MaxOpen     int           // stores open at once, unless more are in use; 0: DefaultMaxOpen
	// MaxDatastores bounds the data stores that are not deleted; 0: no bound.
	MaxDatastores int

	// Gone is told when a store is deleted, so that what others keep for it is
	// let go; nil: nobody.
	Gone func(id string)
}

// Defaults of Options.
const (
	DefaultKeepDeleted = 90 * 24 * time.Hour
	DefaultIdleClose   = 5 * time.Minute
	DefaultKeyCheck    = 20 * time.Second
	DefaultKeyGrace    = 15 * time.Minute
	DefaultMaxOpen     = 64
	DefaultBackupEvery = time.Minute
)

// Plane is the control plane of one server.
type Plane struct {
	Options
	backups *backups
	pool    *pool
	making  sync.Mutex // held from counting data stores to making one

	rotating sync.Mutex // held from the look for an exchange of a key to its job
}

// The job kinds of this package, registered by New. Jobs of KindProvision make
// data stores; their progress is a PreloadReport.
const (
	KindProvision = "datastore.provision"
	kindDelete    = "datastore.delete"
)

// ARN is the name of a data store of that id on this server.
func (p *Plane) ARN(id string) string { return arn.Datastore(p.Partition, p.Region, p.Account, id) }

// New makes the control plane and registers its job kinds with the queue.
func New(o Options) *Plane {
	o.KeepDeleted = orDefault(o.KeepDeleted, DefaultKeepDeleted)
	o.IdleClose = orDefault(o.IdleClose, DefaultIdleClose)
	o.KeyCheck = orDefault(o.KeyCheck, DefaultKeyCheck)
	o.KeyGrace = orDefault(o.KeyGrace, DefaultKeyGrace)
	o.MaxOpen = orDefault(o.MaxOpen, DefaultMaxOpen)
	if o.Gone == nil {
		o.Gone = func(string) {}
	}
	o.BackupEvery = orDefault(o.BackupEvery, DefaultBackupEvery)
	p := &Plane{Options: o, backups: newBackups()}
	p.pool = newPool(p)
	o.Jobs.Register(KindProvision, provisioner{p})
	o.Jobs.Register(kindDelete, deleter{p})
	o.Jobs.RegisterIn(rekeyLane, KindRekey, rekeyer{p})
	return p
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}
