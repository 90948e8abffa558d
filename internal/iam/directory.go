package iam

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/fault"
)

// Key is what a verifier needs to know of an access key. Its secrets are not
// printed.
type Key struct {
	SecretAccessKey string
	SessionToken    string    // of temporary credentials
	Principal       string    // the ARN of whom the key speaks for
	Expiry          time.Time // of temporary credentials; zero for long-lived ones
}

// String hides the secrets.
func (k Key) String() string { return "key of " + k.Principal }

// GoString hides the secrets.
func (k Key) GoString() string { return k.String() }

// Options are what a Directory is made of. Account, Root and Clock are needed.
type Options struct {
	Partition string      // "aws" where empty
	Account   string      // "111122223333"
	Root      Credentials // the root's key
	File      string      // the IAM file; none where empty
	Clock     func() time.Time
	Random    io.Reader // nil is crypto/rand
	// Report is told how each reading of the file after the first ended: once for
	// each content, never twice in a second. May be nil.
	Report func(Reload)
}

// Reload is how a changed IAM file was taken.
type Reload struct {
	File     string
	Err      error         // why the file was refused; what was read before stays in force
	Warnings []fault.Issue // of a file that was taken
}

// Directory knows the principals of one account and judges what they may do. It
// reads its file again when that has changed, which it looks for as it is asked,
// at most once in pollEvery. It is safe for concurrent use.
type Directory struct {
	options  Options
	root     subject
	rootUsed *atomic.Int64
	file     *watched // nil without a file
	now      atomic.Pointer[snapshot]
	sessions *sessions

	taking     sync.Mutex           // one change at a time
	text, kept []byte               // what is in force: the file's and the server's own; nil for none
	earlier    map[string]time.Time // last uses of keys before this server started
}

// snapshot is an account with the last use of its keys, which outlives the
// account's next reading.
type snapshot struct {
	*Account
	used map[string]*atomic.Int64 // by access key id; Unix nanoseconds, 0 is never
}

// NewDirectory reads the file, if there is one, and makes a Directory; a file
// that cannot be read or is wrong is an error.
func NewDirectory(o Options) (*Directory, error) {
	if o.Account == "" || o.Clock == nil || o.Root.AccessKeyID == "" || o.Root.SecretAccessKey == "" {
		return nil, errors.New("iam.NewDirectory: an account, its root's key and a clock are needed")
	}
	if o.Partition == "" {
		o.Partition = "aws"
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	d := &Directory{
		options: o, root: subject{arn: arn.Root(o.Partition, o.Account), account: o.Account},
		rootUsed: &atomic.Int64{}, sessions: newSessions(),
	}
	d.now.Store(&snapshot{Account: &Account{}})
	if o.File == "" {
		return d, nil
	}
	d.file = &watched{path: o.File}
	text, err := d.file.first(o.Clock())
	if err != nil {
		return nil, err
	}
	if err := d.take(text); err != nil {
		return nil, fmt.Errorf("%s: %w", o.File, err)
	}
	return d, nil
}

// Warnings are what the file in force says and hardly means.
func (d *Directory) Warnings() []fault.Issue { return d.current().Warnings() }

// take puts a file's text in force, or says why not.
func (d *Directory) take(text []byte) error {
	d.taking.Lock()
	defer d.taking.Unlock()
	account, err := d.parse(text, d.kept)
	if err != nil {
		return err
	}
	d.text = text
	d.publish(account)
	return nil
}

// Keep puts principals in force that are kept beside the file, in its form, or
// says why they cannot stand with it; nil is none. Where all is well, commit is
// called before they come into force, and its error ends it.
func (d *Directory) Keep(kept []byte, commit func() error) error {
	d.taking.Lock()
	defer d.taking.Unlock()
	account, err := d.parse(d.text, kept)
	if err != nil {
		return err
	}
	if err := commit(); err != nil {
		return err
	}
	d.kept = kept
	d.publish(account)
	return nil
}

// parse reads both texts; what both say is told of the file, which a person
// writes.
func (d *Directory) parse(file, kept []byte) (*Account, error) {
	var texts [][]byte
	for _, text := range [][]byte{kept, file} {
		if text != nil {
			texts = append(texts, text)
		}
	}
	account, err := ParseAccount(d.options.Partition, d.options.Account, texts...)
	if err != nil {
		return nil, err
	}
	if _, ok := account.keys[d.options.Root.AccessKeyID]; ok {
		return nil, fault.New(fault.Invalid, opParse, "the access key %s is the root's", d.options.Root.AccessKeyID)
	}
	return account, nil
}

// publish puts an account in force; the uses of its keys go on.
func (d *Directory) publish(account *Account) {
	before := d.now.Load().used
	used := make(map[string]*atomic.Int64, len(account.keys))
	for id := range account.keys {
		if used[id] = before[id]; used[id] == nil {
			used[id] = &atomic.Int64{}
		}
	}
	d.now.Store(&snapshot{account, used})
}

// current is the account in force, after a look at the file where one is due.
func (d *Directory) current() *snapshot {
	if d.file != nil {
		d.file.poll(d.options.Clock(), d.reload)
	}
	return d.now.Load()
}

// reload takes a changed file, or hears why it cannot be read.
func (d *Directory) reload(text []byte, err error) {
	if err == nil {
		err = d.take(text)
	}
	if d.options.Report == nil {
		return
	}
	r := Reload{File: d.options.File, Err: err}
	if err == nil {
		r.Warnings = d.now.Load().Warnings()
	}
	d.options.Report(r)
}

// Lookup finds an access key: the root's, a user's, or a session's. One that
// nobody knows or that is switched off is fault.UnknownKey.
func (d *Directory) Lookup(_ context.Context, accessKeyID string) (Key, error) {
	account := d.current()
	if accessKeyID == d.options.Root.AccessKeyID {
		return Key{SecretAccessKey: d.options.Root.SecretAccessKey, Principal: d.root.arn}, nil
	}
	if key, ok := account.keys[accessKeyID]; ok && key.active {
		return Key{SecretAccessKey: key.secret, Principal: key.user}, nil
	}
	if s := d.sessions.find(accessKeyID); s != nil && d.stands(account, s) {
		return Key{SecretAccessKey: s.SecretAccessKey, SessionToken: s.SessionToken, Principal: s.Principal.ARN, Expiry: s.Expiry}, nil
	}
	return Key{}, &fault.Error{Kind: fault.UnknownKey, Op: "iam.Lookup"}
}

// stands reports whether whom a session speaks for is still there, and the key
// that asked for it, where it was a long-lived one, still switched on.
func (d *Directory) stands(account *snapshot, s *Session) bool {
	if s.identity != d.root.arn && account.identities[s.identity] == nil {
		return false
	}
	key, ok := account.keys[s.parent]
	return s.parent == "" || s.parent == d.options.Root.AccessKeyID || ok && key.active
}

// caller is who asks, found.
type caller struct {
	subject
	root      bool
	policies  []*Document
	session   *Document // the session's own policy, which may only take away
	temporary bool
}

// find finds a principal; ok is false for one that the account does not know.
func (d *Directory) find(account *snapshot, p Principal) (c caller, ok bool) {
	id := p.ARN
	if s := d.sessions.find(p.AccessKeyID); s != nil {
		if s.Principal != p || !d.stands(account, s) {
			return c, false
		}
		id, c.session, c.temporary = s.identity, s.policy, true
	}
	if id == d.root.arn {
		c.subject, c.root = d.root, true
		return c, true
	}
	found := account.identities[id]
	if found == nil {
		return c, false
	}
	c.subject, c.policies = found.subject, found.policies
	return c, true
}

// Judge asks the policies of the request's principal, and notes the use of its
// key. The root may do everything, and anyone what is public.
func (d *Directory) Judge(_ context.Context, r Request) Decision {
	account := d.current()
	d.note(account, r.Principal.AccessKeyID)
	if r.Principal == Anonymous {
		return anonymous(r)
	}
	c, ok := d.find(account, r.Principal)
	if !ok {
		return Decision{}
	}
	return c.judge(r)
}

func (c caller) judge(r Request) Decision {
	r.Action = asked(r.Action)
	e := &environment{Request: &r, subject: c.subject}
	decision := Decision{Outcome: Allowed}
	if !c.root {
		decision = evaluate(c.policies, e)
	}
	if c.session != nil {
		decision = both(decision, evaluate([]*Document{c.session}, e))
	}
	return decision
}

// note records the use of a key.
func (d *Directory) note(account *snapshot, accessKeyID string) {
	used := d.uses(account, accessKeyID)
	if used == nil {
		return
	}
	if now := d.options.Clock().UnixNano(); now > used.Load() {
		used.Store(now)
	}
}

func (d *Directory) uses(account *snapshot, accessKeyID string) *atomic.Int64 {
	if accessKeyID == d.options.Root.AccessKeyID {
		return d.rootUsed
	}
	return account.used[accessKeyID]
}

// LastUsed tells when a long-lived key was last used, which is when an action was
// judged for it. It is false for one that never was.
func (d *Directory) LastUsed(accessKeyID string) (time.Time, bool) {
	if used := d.uses(d.current(), accessKeyID); used != nil && used.Load() != 0 {
		return time.Unix(0, used.Load()), true
	}
	d.taking.Lock()
	defer d.taking.Unlock()
	at, ok := d.earlier[accessKeyID]
	return at, ok
}

// Remember tells the directory of uses before it was made.
func (d *Directory) Remember(uses map[string]time.Time) {
	d.taking.Lock()
	defer d.taking.Unlock()
	d.earlier = uses
}

// Uses are the last uses of the keys that there are.
func (d *Directory) Uses() map[string]time.Time {
	account := d.current()
	all := map[string]time.Time{}
	for _, id := range append(slices.Collect(maps.Keys(account.keys)), d.options.Root.AccessKeyID) {
		if at, ok := d.LastUsed(id); ok {
			all[id] = at
		}
	}
	return all
}
