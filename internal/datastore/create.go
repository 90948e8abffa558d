package datastore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// CreateRequest is CreateFHIRDatastore after its shape was checked.
type CreateRequest struct {
	Name        string
	TypeVersion string
	Encryption  Encryption
	Preload     string
	Identity    Identity
	Settings    Settings
	Tags        []Tag
	Restore     *Restore `json:",omitempty"` // RestoreFHIRDatastore: of which backup
	ClientToken string   `json:"-"`
}

// TokenLife is how long a ClientToken is remembered (at least; AWS does not say
// how long it does).
const TokenLife = 24 * time.Hour

// clientToken remembers what a token was used for and what was answered.
type clientToken struct {
	Digest string // of the request after defaults
	Answer Datastore
	At     time.Time
}

const entryTokenAt uint16 = 1

var clientTokens = record.Kind[clientToken]{Type: record.TypeClientToken, Entries: tokenEntries}

// Create checks a request, records the data store as CREATING and returns that
// record; a job makes it ACTIVE. A repeated ClientToken gives the first answer
// again, whatever became of the store since; with another request it is
// fault.Invalid.
func (p *Plane) Create(ctx context.Context, req CreateRequest) (*Datastore, error) {
	req.setDefaults()
	if err := req.check(); err != nil {
		return nil, err
	}
	if req.Preload != "" && p.Preload == nil {
		return nil, missing("preloadDataConfig.preloadDataType", "a data set to preload")
	}
	if err := p.offered(req.Settings.Backup); err != nil {
		return nil, err
	}
	if answer, err := p.answered(ctx, req); answer != nil || err != nil {
		return answer, err
	}
	asked := req
	if req.Restore != nil {
		if err := p.checkRestore(ctx, &req); err != nil {
			return nil, err
		}
	}
	if err := p.resolveKey(ctx, &req.Encryption); err != nil {
		return nil, err
	}
	d, err := p.newDatastore(req)
	if err != nil {
		return nil, err
	}
	p.making.Lock()
	defer p.making.Unlock()
	if err := p.room(ctx); err != nil {
		return nil, err
	}
	// From here on a client that hangs up does not call back what it asked for.
	return p.keep(context.WithoutCancel(ctx), d, asked)
}

// roomPage is how many records room reads at a time.
const roomPage = 100

// room refuses another data store where there are as many as may be, those under
// deletion among them: fault.Quota.
func (p *Plane) room(ctx context.Context) error {
	if p.MaxDatastores <= 0 {
		return nil
	}
	n, page := 0, ListPage{}
	for {
		var err error
		if page, err = p.List(ctx, Filter{}, roomPage, page.At, page.After); err != nil {
			return err
		}
		for _, d := range page.Datastores {
			if d.Status != Deleted {
				n++
			}
		}
		if page.After == nil {
			break
		}
	}
	if n < p.MaxDatastores {
		return nil
	}
	return &fault.Error{Kind: fault.Quota, Op: "datastore.Create", Detail: fmt.Sprintf("the account has %d data stores, as many as it may have", n),
		Hint: "delete one, or raise the server's --max-datastores"}
}

// keep commits record, job and token, and begins the job.
func (p *Plane) keep(ctx context.Context, d *Datastore, req CreateRequest) (*Datastore, error) {
	j, ops, err := p.createOps(d, req)
	if err != nil {
		return nil, err
	}
	_, err = p.System.Commit(ctx, ops)
	if _, raced := errors.AsType[*store.Unmet](err); raced {
		// Somebody else used the token in the meantime.
		answer, err := p.answered(ctx, req)
		if answer == nil && err == nil {
			err = &fault.Error{Kind: fault.Unavailable, Op: "datastore.Create", Detail: "the request met another one", Hint: "send it again", Retry: 1}
		}
		return answer, err
	}
	if err != nil {
		return nil, err
	}
	p.Jobs.Began(j)
	return d, nil
}

func (r *CreateRequest) setDefaults() {
	r.Encryption.CmkType = orDefault(r.Encryption.CmkType, AWSOwned)
	r.Identity.Strategy = orDefault(r.Identity.Strategy, AWSAuth)
	r.Settings.setDefaults()
}

func (p *Plane) newDatastore(req CreateRequest) (*Datastore, error) {
	id, err := arn.NewDatastoreID(p.Random)
	if err != nil {
		return nil, err
	}
	req.Settings.Backup = req.Settings.Backup.since(nil, p.Clock())
	return &Datastore{
		Restore: req.Restore, ID: id, ARN: p.ARN(id), Name: req.Name, Status: Creating, TypeVersion: req.TypeVersion,
		CreatedAt: p.Clock().Truncate(time.Millisecond), Encryption: req.Encryption, Preload: req.Preload,
		Identity: req.Identity, Settings: req.Settings, Tags: req.Tags,
	}, nil
}

// createOps are the record, its job and its token: one commit, all or nothing.
func (p *Plane) createOps(d *Datastore, req CreateRequest) (job.Job, []store.Op, error) {
	j, jobOp, err := p.Jobs.Op(KindProvision, d.ID, nil)
	if err != nil {
		return j, nil, err
	}
	recordOp, err := datastores.Put(d.ID, d, store.Condition{Kind: store.Never})
	if err != nil || req.ClientToken == "" {
		return j, []store.Op{recordOp, jobOp}, err
	}
	token := &clientToken{Digest: req.digest(), Answer: *d, At: d.CreatedAt}
	tokenOp, err := clientTokens.Put(p.tokenID(req), token, store.Condition{Kind: store.Never})
	return j, []store.Op{recordOp, jobOp, tokenOp}, err
}

// answered looks a token up: the first answer, nil when it is new.
func (p *Plane) answered(ctx context.Context, req CreateRequest) (*Datastore, error) {
	if req.ClientToken == "" {
		return nil, nil
	}
	token, err := clientTokens.Get(ctx, p.System, p.tokenID(req))
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if token.Digest != req.digest() {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "datastore.Create", Subject: "clientToken",
			Detail: "the token was used before with other parameters", Hint: "use a new ClientToken for another request"}
	}
	return &token.Answer, nil
}

// tokenID is the document id of a token: per account and operation.
func (p *Plane) tokenID(req CreateRequest) string {
	operation := "CreateFHIRDatastore"
	if req.Restore != nil {
		operation = "RestoreFHIRDatastore"
	}
	return digest(p.Account, operation, req.ClientToken)
}

// digest identifies a request after defaults, its tags as a set.
func (r CreateRequest) digest() string {
	r.Tags = slices.Clone(r.Tags)
	slices.SortFunc(r.Tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	r.Encryption.KeyARN = "" // resolved, not asked
	if r.Settings.Backup == nil {
		r.Settings.Backup = &Backup{Status: backupOff}
	}
	// A struct of strings, numbers and slices always marshals.
	raw, _ := json.Marshal(r)
	return digest(string(raw))
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// resolveKey turns the key as given into an ARN, once and for all, and refuses
// what cannot seal a store.
func (p *Plane) resolveKey(ctx context.Context, e *Encryption) error {
	if e.CmkType == AWSOwned {
		return nil // the server's own: provisioning asks for it
	}
	info, err := p.Keyring.Resolve(ctx, e.KeyID)
	if err != nil {
		return keyFault(err)
	}
	e.KeyARN = info.ARN
	return keyUsable(info)
}

// keyMember is the member of a request that names the key.
const keyMember = "sseConfiguration.kmsEncryptionConfig.kmsKeyId"

// keyFault says what is wrong with the key that a request names; that the KMS
// cannot be asked is not the request's fault.
func keyFault(err error) error {
	e := &fault.Error{Op: "datastore.Create", Subject: keyMember, Cause: err}
	switch fault.From(err).Kind {
	case fault.NotFound:
		e.Kind, e.Detail = fault.Invalid, "the KMS key does not exist"
		e.Hint = "name a symmetric encryption key by id, ARN or alias"
	case fault.Invalid:
		e.Kind, e.Detail = fault.Invalid, "not the name of a KMS key that can seal a data store"
		e.Hint = "name a symmetric encryption key by id, ARN or alias"
	case fault.Forbidden:
		e.Kind, e.Detail = fault.Forbidden, "the KMS key may not be used"
	default:
		return err
	}
	return e
}

func keyUsable(info seal.KeyInfo) error {
	switch {
	case !info.Symmetric:
		return invalid(keyMember, "the KMS key is asymmetric", "use a symmetric encryption key (SYMMETRIC_DEFAULT)")
	case !info.Enabled:
		return &fault.Error{Kind: fault.Forbidden, Op: "datastore.Create", Subject: keyMember,
			Detail: "the KMS key is disabled or about to be deleted", Hint: "enable the key"}
	}
	return nil
}

func tokenEntries(t *clientToken) []plan.Entry {
	return []plan.Entry{record.Time(entryTokenAt, t.At)}
}
