package smart

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/singleflight"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Bounds of what is kept.
const (
	// MaxTokenBytes is the length of a bearer token; HTTP servers stop near it
	// too.
	MaxTokenBytes = 16 << 10
	// MaxStores is for how many data stores judges are kept, MaxIssuers for how
	// many issuers keys are.
	MaxStores  = 1024
	MaxIssuers = 256
	// MaxTokens and MaxBadTokens are how many tokens of one store are kept,
	// accepted and refused.
	MaxTokens    = 4096
	MaxBadTokens = 1024
	// maxTokenAge is how long an accepted JWT is kept at most, so that a key that
	// its issuer withdrew does not count for long.
	maxTokenAge = 5 * time.Minute
	// introspectionAge is how long an introspection's yes is kept (RFC 7662
	// section 4 leaves it to the server): how long a revoked token may live on.
	introspectionAge = 30 * time.Second
	// badTokenAge is how long a refusal is kept.
	badTokenAge = 10 * time.Second
	// MaxGrants is how many Grants are kept: one for patient/*.read has some 20 kB.
	MaxGrants = 1024
	// judgeTimeout bounds one judgement for everyone who waits for it.
	judgeTimeout = 15 * time.Second
)

// Options are what an Authority is made of.
type Options struct {
	// Allow lists the origins of identity providers that may be asked:
	// "https://idp.example.org", "http://localhost:9000", or a bare host for
	// https. Empty allows none: then only Lambdas judge.
	Allow []string
	// Introspectors are this server's credentials at introspection endpoints, by
	// their origin in the form of Allow.
	Introspectors map[string]Introspector
	// Invoker calls token Lambdas; nil: stores with one refuse every token.
	Invoker Invoker
	// LambdaCache is how long a Lambda's answer is kept, per store, token and
	// operation; 0, HealthLake's way, asks each time.
	LambdaCache time.Duration
	// Transport carries requests to identity providers; nil is net/http's.
	Transport http.RoundTripper
	Clock     func() time.Time // nil: time.Now
}

// Authority judges the bearer tokens of all data stores of a server. It is safe
// for concurrent use.
type Authority struct {
	o             Options
	fetch         *fetcher
	introspectors map[string]Introspector // by origin
	making        sync.Mutex              // held while a tenant, and with it a key set, is made
	tenants       *kept[string, *tenant]  // by store id
	keys          *kept[[2]string, *keySet]
	grants        *kept[grantKey, grantMade]
	busy          chan struct{}
}

// forever is the time of what only the bound of a memory lets go.
var forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// New makes an Authority, or says which of the options is wrong.
func New(o Options) (*Authority, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	allowed, err := parseOrigins(o.Allow)
	if err != nil {
		return nil, err
	}
	a := &Authority{
		o: o, fetch: newFetcher(o.Transport, allowed), introspectors: map[string]Introspector{},
		tenants: newKept[string, *tenant](MaxStores), keys: newKept[[2]string, *keySet](MaxIssuers),
		grants: newKept[grantKey, grantMade](MaxGrants),
		busy:   make(chan struct{}, checkers()),
	}
	for origin, as := range o.Introspectors {
		one, err := parseOrigins([]string{origin})
		if err != nil {
			return nil, err
		}
		for normal := range one {
			a.introspectors[normal] = as
		}
	}
	return a, nil
}

// Authorize verifies a token for one operation on a store, and reads its scopes.
// A token that is not accepted is fault.UnknownKey or fault.ExpiredToken (401); a
// judge that cannot say is fault.FailedDependency or fault.Timeout. What the
// token may do, Authorization.Permit says.
func (a *Authority) Authorize(ctx context.Context, s Store, operation, token string) (*Authorization, error) {
	if token == "" || len(token) > MaxTokenBytes {
		return nil, unknown("smart.Authorize", "it is empty or too long", nil)
	}
	return a.tenant(s).authorize(ctx, token, operation)
}

// Forget lets go of what is kept for a store that is gone.
func (a *Authority) Forget(storeID string) { a.tenants.forget(storeID) }

// tenant is one data store's side of the Authority: its judge and its memory,
// which no other store sees.
type tenant struct {
	store    Store
	grants   *kept[grantKey, grantMade]
	features Features
	judge    Judge
	keep     retention
	clock    func() time.Time
	good     *kept[[sha256.Size]byte, *Authorization]
	bad      *kept[[sha256.Size]byte, error]
	flight   singleflight.Group
}

// retention is how a judge's word is kept.
type retention struct {
	age          time.Duration // at most; 0 is not at all
	perOperation bool          // each operation is judged for itself
}

// tenant gives a store's side, made once for all who come first together: a
// second one would fetch the same keys again.
func (a *Authority) tenant(s Store) *tenant {
	now := a.o.Clock()
	if t, ok := a.tenants.get(s.ID, now); ok && t.store == s {
		return t
	}
	a.making.Lock()
	defer a.making.Unlock()
	if t, ok := a.tenants.get(s.ID, now); ok && t.store == s {
		return t
	}
	t := a.newTenant(s)
	a.tenants.put(s.ID, t, forever)
	return t
}

func (a *Authority) newTenant(s Store) *tenant {
	t := &tenant{
		store: s, grants: a.grants, clock: a.o.Clock,
		good: newKept[[sha256.Size]byte, *Authorization](MaxTokens), bad: newKept[[sha256.Size]byte, error](MaxBadTokens),
	}
	var m metadata
	if err := json.Unmarshal([]byte(s.Metadata), &m); err != nil {
		m = metadata{} // it was checked when the store was made; without it there is the Lambda, or nobody
	}
	t.features = FeaturesOf(s.Strategy, m.Capabilities)
	t.judge, t.keep = a.choose(s, m)
	return t
}

// metadata is what of a discovery document (SMART App Launch 2.2, "Metadata")
// matters here.
type metadata struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri"`
	Introspection string   `json:"introspection_endpoint"`
	Capabilities  []string `json:"capabilities"`
}

// choose gives a store its one judge.
func (a *Authority) choose(s Store, m metadata) (Judge, retention) {
	switch {
	case s.Strategy != V1Only && s.Strategy != All:
		return nobody{"this data store takes signed requests only"}, retention{}
	case s.Endpoint == "":
		return nobody{"this data store has no endpoint"}, retention{}
	case s.LambdaARN != "" && a.o.Invoker == nil:
		return nobody{"this server calls no Lambda functions"}, retention{}
	case s.LambdaARN != "":
		return &lambda{s.LambdaARN, a.o.Invoker, a.o.Clock}, retention{a.o.LambdaCache, true}
	case m.Issuer != "" && (m.JWKSURI != "" || m.Introspection == ""):
		return &jwtJudge{issuer: m.Issuer, keys: a.keySet(m), clock: a.o.Clock, busy: a.busy}, retention{age: maxTokenAge}
	case m.Introspection != "":
		return a.introspection(m), retention{age: introspectionAge}
	}
	return nobody{"this data store's metadata names no issuer"}, retention{}
}

// keySet is shared by the stores of one issuer: its keys are public.
func (a *Authority) keySet(m metadata) *keySet {
	id := [2]string{m.Issuer, m.JWKSURI}
	if s, ok := a.keys.get(id, a.o.Clock()); ok {
		return s
	}
	s := &keySet{issuer: m.Issuer, address: m.JWKSURI, fetch: a.fetch, clock: a.o.Clock}
	a.keys.put(id, s, forever)
	return s
}

func (a *Authority) introspection(m metadata) *introspection {
	i := &introspection{issuer: m.Issuer, endpoint: m.Introspection, fetch: a.fetch, clock: a.o.Clock}
	if u, err := url.Parse(m.Introspection); err == nil {
		i.as = a.introspectors[originOf(u)]
	}
	return i
}

// authorize is the judge's word, as far as possible from memory.
func (t *tenant) authorize(ctx context.Context, token, operation string) (*Authorization, error) {
	if t.keep.age == 0 {
		return t.ask(ctx, token, operation)
	}
	id := t.id(token, operation)
	if found, err := t.said(id); found != nil || err != nil {
		return found, err
	}
	done := t.flight.DoChan(string(id[:]), func() (any, error) {
		all, cancel := context.WithTimeout(context.WithoutCancel(ctx), judgeTimeout)
		defer cancel()
		return t.askAndKeep(all, id, token, operation)
	})
	select {
	case r := <-done:
		found, _ := r.Val.(*Authorization)
		return found, r.Err
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Canceled, "smart.authorize", ctx.Err())
	}
}

// id stands for a token in memory: never the token itself.
func (t *tenant) id(token, operation string) [sha256.Size]byte {
	if !t.keep.perOperation {
		operation = ""
	}
	return sha256.Sum256([]byte(operation + "\x00" + token))
}

// said is what the judge said of a token lately; nil, nil when there is nothing.
func (t *tenant) said(id [sha256.Size]byte) (*Authorization, error) {
	now := t.clock()
	if found, ok := t.good.get(id, now); ok {
		return found, nil
	}
	err, _ := t.bad.get(id, now)
	return nil, err
}

// askAndKeep is for one at a time. Who looked before the one ahead had kept its
// answer finds it here.
func (t *tenant) askAndKeep(ctx context.Context, id [sha256.Size]byte, token, operation string) (*Authorization, error) {
	if found, err := t.said(id); found != nil || err != nil {
		return found, err
	}
	found, err := t.ask(ctx, token, operation)
	now := t.clock()
	switch {
	case err == nil:
		t.good.put(id, found, earlier(found.Claims.Expires, now.Add(t.keep.age)))
	case fault.Is(err, fault.UnknownKey) || fault.Is(err, fault.ExpiredToken):
		t.bad.put(id, err, now.Add(min(badTokenAge, t.keep.age)))
	}
	return found, err
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// ask lets the judge speak and reads the scopes.
func (t *tenant) ask(ctx context.Context, token, operation string) (*Authorization, error) {
	claims, err := t.judge.Verify(ctx, token, Call{Endpoint: t.store.Endpoint, Operation: operation})
	if err != nil {
		return nil, kinded(err)
	}
	scopes, err := ParseScopes(claims.Scope, t.features)
	if err != nil {
		return nil, err
	}
	launch := Launch{Patient: claims.Patient, FHIRUser: claims.FHIRUser, FineGrained: t.store.FineGrained}
	return &Authorization{Claims: claims, Scopes: scopes, Launch: launch, grants: t.grants}, nil
}

// kinded gives an error of the context a kind; any other has one.
func kinded(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.Wrap(fault.Timeout, "smart.ask", err)
	}
	return fault.Wrap(fault.Canceled, "smart.ask", err)
}
