package iam

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/fault"
)

// Bounds of temporary credentials (AWS Security Token Service API Reference,
// AssumeRole and GetSessionToken).
const (
	DurationMin        = 15 * time.Minute
	DurationDefault    = time.Hour      // of AssumeRole
	SessionDefault     = 12 * time.Hour // of GetSessionToken
	SessionMax         = 36 * time.Hour // of GetSessionToken
	RootSessionMax     = time.Hour      // of GetSessionToken for the root
	chainedMax         = time.Hour      // of AssumeRole by a role's session
	sessionNameMin     = 2
	sessionNameMax     = 64
	sessionTokenBytes  = 96
	sessionsMax        = 100_000 // alive at once
	sessionPolicyBytes = 2048    // a policy handed to AssumeRole, in characters
)

// Session is a set of temporary credentials.
type Session struct {
	Credentials
	SessionToken string
	Expiry       time.Time
	Principal    Principal // whom the credentials speak for: a role's session, a user, the root

	identity string    // ARN of the role, user or root whose policies count
	parent   string    // the long-lived access key that asked, if one did
	policy   *Document // the session's own policy, or nil
}

// String hides the secrets.
func (s Session) String() string { return "session of " + s.Principal.ARN }

// GoString hides the secrets.
func (s Session) GoString() string { return s.String() }

// sessions are the temporary credentials alive. They are kept in memory: a
// server that starts anew knows none, and clients ask for new ones.
type sessions struct {
	mu   sync.RWMutex
	byID map[string]*Session
	max  int
}

func newSessions() *sessions { return &sessions{byID: map[string]*Session{}, max: sessionsMax} }

func (s *sessions) find(accessKeyID string) *Session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[accessKeyID]
}

// add keeps a session; at the bound, expired ones go first.
func (s *sessions) add(one *Session, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byID) >= s.max {
		for id, old := range s.byID {
			if now.After(old.Expiry) {
				delete(s.byID, id)
			}
		}
	}
	if len(s.byID) >= s.max {
		return fault.New(fault.Throttled, "iam.sessions", "more than %d temporary credentials are alive", s.max)
	}
	s.byID[one.AccessKeyID] = one
	return nil
}

// AssumeRole is what sts:AssumeRole asks for.
type AssumeRole struct {
	Role        string        // ARN
	SessionName string        // 2 to 64 letters, digits and _+=,.@-
	Duration    time.Duration // 0 is DurationDefault
	Policy      string        // JSON that takes away from the role's permissions; may be empty
}

// AssumeRole gives out credentials of a role. The role's trust must name the
// caller, or the caller's account while a policy of the caller's allows
// sts:AssumeRole on the role; a Deny on either side refuses. An unknown role is
// refused in the words of one that does not trust.
func (d *Directory) AssumeRole(ctx context.Context, p Principal, a AssumeRole, v Values) (Session, error) {
	account := d.current()
	d.note(account, p.AccessKeyID)
	r := Request{Principal: p, Action: "sts:AssumeRole", Resource: a.Role, Values: v}
	role := account.identities[a.Role]
	asker, known := d.find(account, p)
	if !known || role == nil || !role.role || !asker.mayAssume(role, r) {
		return Session{}, refusal(r, Decision{})
	}
	policy, err := a.check()
	if err != nil {
		return Session{}, err
	}
	longest := role.maxDuration
	if asker.isRole(account) {
		longest = chainedMax
	}
	lasts, err := duration(a.Duration, min(DurationDefault, longest), longest)
	if err != nil {
		return Session{}, err
	}
	s := &Session{identity: role.arn, policy: policy, parent: d.parent(p.AccessKeyID)}
	s.Principal.ARN = arn.ARN{Partition: d.options.Partition, Service: "sts", Account: role.account,
		Resource: "assumed-role/" + role.roleName + "/" + a.SessionName}.String()
	return d.open(s, lasts)
}

// check holds the request to AWS's bounds.
func (a AssumeRole) check() (*Document, error) {
	if len(a.SessionName) < sessionNameMin || len(a.SessionName) > sessionNameMax || strings.Trim(a.SessionName, nameCharacters) != "" {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "iam.AssumeRole", Subject: "RoleSessionName",
			Detail: "a session's name has 2 to 64 letters, digits and _+=,.@-"}
	}
	if a.Policy == "" {
		return nil, nil
	}
	if len(a.Policy) > sessionPolicyBytes {
		return nil, fault.New(fault.TooLarge, "iam.AssumeRole", "a session's policy has at most %d characters", sessionPolicyBytes)
	}
	return ParseDocument("session policy", []byte(a.Policy))
}

// mayAssume asks both sides.
func (c caller) mayAssume(role *identity, r Request) bool {
	own := c.judge(r)
	trusted, denied := role.trustsCaller(r, c.subject)
	return !denied && own.Outcome != Denied && (trusted == inPerson && c.session == nil || trusted != notNamed && own.Outcome == Allowed)
}

// isRole reports whether a caller is a role's session.
func (c caller) isRole(account *snapshot) bool {
	found := account.identities[c.arn]
	return found != nil && found.role
}

// trustsCaller asks a role's trust policy about a caller of some account.
func (i *identity) trustsCaller(r Request, who subject) (best trusts, denied bool) {
	return i.trusted(r, who, func(p principals) trusts { return p.names(r.Principal, who) })
}

// trusted goes through the statements of a trust policy that name somebody.
func (i *identity) trusted(r Request, who subject, named func(principals) trusts) (best trusts, denied bool) {
	if i.trust == nil {
		return notNamed, false
	}
	e := &environment{Request: &r, subject: who, action: foldText(r.Action)}
	for n := range i.trust.statements {
		s := &i.trust.statements[n]
		by := named(s.principals)
		if by == notNamed || !s.applies(e) {
			continue
		}
		if s.effect == Deny {
			return notNamed, true
		}
		best = max(best, by)
	}
	return best, false
}

// ServiceRole finds a role that a service acts as, such as the one a SMART
// store's Lambda names: the role must be known and trust the service
// (HealthLakeService) under v, whose SourceAccount and SourceARN say for whom it
// acts. A role declared without trust trusts HealthLake alone. Else
// fault.Forbidden. The principal is then judged by the role's policies.
func (d *Directory) ServiceRole(_ context.Context, role, service string, v Values) (Principal, error) {
	found := d.current().identities[role]
	r := Request{Principal: Principal{ARN: service}, Action: "sts:AssumeRole", Resource: role, Values: v}
	if found == nil || !found.role || !found.trustsService(service, r) {
		return Principal{}, refusal(r, Decision{})
	}
	return Principal{ARN: role}, nil
}

func (i *identity) trustsService(service string, r Request) bool {
	if i.trust == nil {
		return service == HealthLakeService
	}
	best, denied := i.trusted(r, subject{}, func(p principals) trusts {
		if slices.Contains(p.services, service) {
			return inPerson
		}
		return notNamed
	})
	return !denied && best == inPerson
}

// SessionToken gives a user or the root temporary credentials of their own
// (sts:GetSessionToken, which needs no permission); 0 is SessionDefault, for the
// root RootSessionMax. Temporary credentials may not ask for more.
func (d *Directory) SessionToken(_ context.Context, p Principal, lasting time.Duration) (Session, error) {
	account := d.current()
	d.note(account, p.AccessKeyID)
	asker, known := d.find(account, p)
	if !known || asker.temporary || asker.isRole(account) {
		return Session{}, fault.New(fault.Forbidden, "iam.SessionToken", "Cannot call GetSessionToken with session credentials")
	}
	usual, longest := SessionDefault, SessionMax
	if asker.root {
		usual, longest = RootSessionMax, RootSessionMax
	}
	lasts, err := duration(lasting, usual, longest)
	if err != nil {
		return Session{}, err
	}
	s := &Session{identity: asker.arn, parent: d.parent(p.AccessKeyID)}
	s.Principal.ARN = asker.arn
	return d.open(s, lasts)
}

// duration bounds how long credentials last.
func duration(asked, usual, longest time.Duration) (time.Duration, error) {
	if asked == 0 {
		return usual, nil
	}
	if asked < DurationMin || asked > longest {
		return 0, &fault.Error{Kind: fault.Invalid, Op: "iam.duration", Subject: "DurationSeconds",
			Detail: fmt.Sprintf("must lie between %.0f and %.0f seconds", DurationMin.Seconds(), longest.Seconds())}
	}
	return asked, nil
}

// parent is the long-lived key at the root of a chain of sessions.
func (d *Directory) parent(accessKeyID string) string {
	if s := d.sessions.find(accessKeyID); s != nil {
		return s.parent
	}
	return accessKeyID
}

// open makes the session's credentials and keeps it.
func (d *Directory) open(s *Session, lasting time.Duration) (Session, error) {
	raw := make([]byte, keyIDBytes+secretBytes+sessionTokenBytes)
	if _, err := io.ReadFull(d.options.Random, raw); err != nil {
		return Session{}, fault.Wrap(fault.Internal, "iam.open", err)
	}
	now := d.options.Clock()
	s.AccessKeyID = "ASIA" + base32.StdEncoding.EncodeToString(raw[:keyIDBytes])
	s.SecretAccessKey = base64.StdEncoding.EncodeToString(raw[keyIDBytes : keyIDBytes+secretBytes])
	s.SessionToken = base64.StdEncoding.EncodeToString(raw[keyIDBytes+secretBytes:])
	s.Expiry = now.Add(lasting).UTC().Truncate(time.Second)
	s.Principal.AccessKeyID = s.AccessKeyID
	if err := d.sessions.add(s, now); err != nil {
		return Session{}, err
	}
	return *s, nil
}
