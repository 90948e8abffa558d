// Package principals keeps users, roles, access keys and policies in the system
// store, beside those that the IAM file declares.
//
//	change → the account's new text → the directory says whether it can stand
//	       → one commit to the (sealed) system store → in force
//
// They are one document, of the same form as the IAM file: what the file may
// say, the server may keep, and one reader judges both. A name is in one of the
// two: what the file declares is changed there.
package principals

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Bounds of what is kept (IAM User Guide, "IAM and AWS STS quotas").
const (
	usersMax    = 5000
	rolesMax    = 1000
	policiesMax = 1500
	keysMax     = 2  // of a user: one in use, one to rotate to
	attachedMax = 20 // policies of a user or a role
)

// account is what is kept.
type account struct {
	Users    []user
	Roles    []role
	Policies []policy
}

// user, role and policy are written both as records, with Created, and for the
// directory's reader, without.
type user struct {
	Name       string     `json:"name"`
	Path       string     `json:"path,omitempty"`
	AccessKeys []key      `json:"accessKeys,omitempty"`
	Policies   []string   `json:"policies,omitempty"`
	Created    *time.Time `json:"created,omitempty"`
}

type key struct {
	ID      string     `json:"accessKeyId"`
	Secret  string     `json:"secretAccessKey"`
	Status  string     `json:"status"`
	Created *time.Time `json:"created,omitempty"`
}

type role struct {
	ARN      string          `json:"arn"`
	Trust    json.RawMessage `json:"trust,omitempty"`
	Policies []string        `json:"policies,omitempty"`
	Longest  int             `json:"maxSessionDuration,omitempty"` // seconds
	Created  *time.Time      `json:"created,omitempty"`
}

type policy struct {
	Name     string          `json:"name"`
	Document json.RawMessage `json:"document"`
	Created  *time.Time      `json:"created,omitempty"`
}

// documents is how the account is kept, uses the last use of each access key.
var (
	documents = record.Kind[account]{Type: record.TypePrincipal}
	uses      = record.Kind[map[string]time.Time]{Type: record.TypePrincipal}
)

const (
	accountID = "account"
	usesID    = "uses"
)

// Options are what a Registry works with.
type Options struct {
	Directory *iam.Directory
	System    store.Store
	Partition string
	Account   string
	Clock     func() time.Time
	Random    io.Reader
	Report    func(error) // told when the uses of keys could not be written
}

// Registry keeps principals. It is safe for concurrent use.
type Registry struct {
	Options
	mu   sync.Mutex
	kept account
}

// Open reads what is kept and puts it in force; fault.Invalid where it cannot
// stand with the IAM file.
func Open(ctx context.Context, o Options) (*Registry, error) {
	r := &Registry{Options: o}
	found, err := documents.Get(ctx, o.System, accountID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	if err == nil {
		r.kept = *found
		if err := o.Directory.Keep(r.kept.text(), func() error { return nil }); err != nil {
			return nil, err
		}
	}
	used, err := uses.Get(ctx, o.System, usesID)
	if err == nil {
		o.Directory.Remember(*used)
	}
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return r, err
}

// text is the account in the form of the IAM file.
func (a account) text() []byte {
	plain := a.clone()
	for i := range plain.Users {
		plain.Users[i].Created = nil
		for n := range plain.Users[i].AccessKeys {
			plain.Users[i].AccessKeys[n].Created = nil
		}
	}
	for i := range plain.Roles {
		plain.Roles[i].Created = nil
	}
	for i := range plain.Policies {
		plain.Policies[i].Created = nil
	}
	file := struct {
		Users    []user   `json:"users,omitempty"`
		Roles    []role   `json:"roles,omitempty"`
		Policies []policy `json:"policies,omitempty"`
	}{plain.Users, plain.Roles, plain.Policies}
	// Texts, numbers and documents that were parsed always marshal.
	raw, _ := json.Marshal(file)
	return raw
}

// clone is a copy that may be changed.
func (a account) clone() account {
	c := account{slices.Clone(a.Users), slices.Clone(a.Roles), slices.Clone(a.Policies)}
	for i := range c.Users {
		c.Users[i].AccessKeys, c.Users[i].Policies = slices.Clone(c.Users[i].AccessKeys), slices.Clone(c.Users[i].Policies)
	}
	for i := range c.Roles {
		c.Roles[i].Policies = slices.Clone(c.Roles[i].Policies)
	}
	return c
}

// change carries out one change: all of it is durable and in force, or nothing.
func (r *Registry) change(ctx context.Context, do func(*account) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.kept.clone()
	if err := do(&next); err != nil {
		return err
	}
	err := r.Directory.Keep(next.text(), func() error {
		op, err := documents.Put(accountID, &next)
		if err != nil {
			return err
		}
		_, err = r.System.Commit(ctx, []store.Op{op})
		return err
	})
	if err != nil {
		return err
	}
	r.kept = next
	return nil
}

// useEvery is how often last uses are written.
const useEvery = time.Minute

// Tend writes the last uses of keys until ctx ends, and then once more.
func (r *Registry) Tend(ctx context.Context) {
	tick := time.NewTicker(useEvery)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			running = false
		}
		if err := r.Flush(context.WithoutCancel(ctx)); err != nil && r.Report != nil {
			r.Report(err)
		}
	}
}

// Flush writes the last uses of keys, where there are new ones.
func (r *Registry) Flush(ctx context.Context) error {
	now := r.Directory.Uses()
	before, err := uses.Get(ctx, r.System, usesID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err == nil && same(*before, now) || len(now) == 0 {
		return nil
	}
	op, err := uses.Put(usesID, &now)
	if err != nil {
		return err
	}
	_, err = r.System.Commit(ctx, []store.Op{op})
	return err
}

func same(a, b map[string]time.Time) bool {
	if len(a) != len(b) {
		return false
	}
	for id, at := range a {
		if !b[id].Equal(at) {
			return false
		}
	}
	return true
}

func (r *Registry) now() *time.Time {
	at := r.Clock().UTC().Truncate(time.Second)
	return &at
}

func absent(what, name string) error {
	return &fault.Error{Kind: fault.NotFound, Op: "principals", Subject: name, Detail: "there is no such " + what}
}

func taken(what, name string) error {
	return &fault.Error{Kind: fault.Duplicate, Op: "principals", Subject: name, Detail: "there is such a " + what + " already"}
}

// declared is the answer to a change of what the IAM file declares.
func declared(name string) error {
	return &fault.Error{Kind: fault.NotSupported, Op: "principals", Subject: name, Detail: "it is declared in the IAM file", Hint: "change it there"}
}

func full(what string, most int) error {
	return fault.New(fault.Quota, "principals", "there are %d %s already, as many as may be", most, what)
}
