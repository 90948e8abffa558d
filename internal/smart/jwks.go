package smart

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"golang.org/x/sync/singleflight"
)

// How long an issuer's keys are believed.
const (
	// minKeyAge and maxKeyAge bound what the issuer's Cache-Control says, and
	// defaultKeyAge is taken where it says nothing.
	minKeyAge     = 5 * time.Minute
	maxKeyAge     = 24 * time.Hour
	defaultKeyAge = time.Hour
	// maxStale is how long keys count that cannot be renewed: an issuer that is
	// down locks nobody out, one that is gone does.
	maxStale = 24 * time.Hour
	// refetchPause is how long after one attempt an unknown key id may bring about
	// the next, and failurePause how long after a failure: strangers' tokens make
	// no traffic.
	refetchPause = time.Minute
	failurePause = 10 * time.Second
	// maxKeys is how many keys of one set are kept.
	maxKeys = 64
)

// The bounds of an RSA modulus, in bits: RFC 7518 section 3.3 asks for 2048, and
// the work of one check grows with its square.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// verifyKey is one public key of an issuer.
type verifyKey struct {
	id  string
	alg string // "" where the set does not say
	key crypto.PublicKey
}

// fits reports whether the key may check signatures of an algorithm.
func (k *verifyKey) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return alg == "RS256" || alg == "RS384"
	case *ecdsa.PublicKey:
		return alg == "ES256" && key.Curve == elliptic.P256() || alg == "ES384" && key.Curve == elliptic.P384()
	}
	return false
}

// keySet is the keys of one issuer, fetched when they are asked for.
type keySet struct {
	issuer  string
	address string // jwks_uri; "" asks the issuer's discovery document
	fetch   *fetcher
	clock   func() time.Time
	flight  singleflight.Group

	mu        sync.Mutex
	keys      []verifyKey
	renewed   time.Time // last success
	good      time.Time // until when they need no renewal
	attempted time.Time // last attempt
	failure   error     // of the last attempt
}

// find gives the key of an id for an algorithm; with no id, the only key that
// fits. ok is false when the issuer has none.
func (s *keySet) find(ctx context.Context, id, alg string) (key crypto.PublicKey, ok bool, err error) {
	keys, seen, settled, err := s.current(ctx)
	if err != nil {
		return nil, false, err
	}
	key, ok = pick(keys, id, alg)
	if ok || settled {
		return key, ok, nil
	}
	if keys, err = s.renew(ctx, seen); err != nil {
		return nil, false, err
	}
	key, ok = pick(keys, id, alg)
	return key, ok, nil
}

func pick(keys []verifyKey, id, alg string) (crypto.PublicKey, bool) {
	var found crypto.PublicKey
	for i := range keys {
		switch k := &keys[i]; {
		case id != "" && k.id != id || !k.fits(alg):
		case found != nil:
			return nil, false // which one is meant, nobody can tell
		default:
			found = k.key
		}
	}
	return found, found != nil
}

// current gives the keys, renewed when it is time, and the attempt they are of;
// settled says that it is too early to look again.
func (s *keySet) current(ctx context.Context) (keys []verifyKey, seen time.Time, settled bool, err error) {
	s.mu.Lock()
	now := s.clock()
	keys, failure := s.keys, s.failure
	seen = s.attempted
	paused := now.Before(s.attempted.Add(pauseAfter(failure)))
	fresh, dead := now.Before(s.good), now.After(s.renewed.Add(maxStale))
	s.mu.Unlock()
	switch {
	case fresh || paused && keys != nil && !dead:
		return keys, seen, paused, nil
	case paused && failure != nil:
		return nil, seen, true, failure
	}
	keys, err = s.renew(ctx, seen)
	return keys, seen, true, err
}

func pauseAfter(failure error) time.Duration {
	if failure != nil {
		return failurePause
	}
	return refetchPause
}

// renew fetches the keys, once for all who saw the same attempt: who comes when
// its fetch has just ended takes what it brought. Where it fails, the keys that
// are there count on, for a time.
func (s *keySet) renew(ctx context.Context, seen time.Time) ([]verifyKey, error) {
	done := s.flight.DoChan("", func() (any, error) {
		return s.load(context.WithoutCancel(ctx), seen)
	})
	select {
	case r := <-done:
		keys, _ := r.Val.([]verifyKey)
		return keys, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *keySet) load(ctx context.Context, seen time.Time) ([]verifyKey, error) {
	s.mu.Lock()
	keys, failure, renewed := s.keys, s.failure, s.attempted.After(seen)
	s.mu.Unlock()
	if renewed {
		if keys == nil {
			return nil, failure
		}
		return keys, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*fetchTimeout) // discovery and keys
	defer cancel()
	keys, age, err := s.ask(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	s.attempted, s.failure = now, err
	if err == nil {
		s.keys, s.renewed, s.good = keys, now, now.Add(clampAge(age))
		return keys, nil
	}
	if s.keys != nil && !now.After(s.renewed.Add(maxStale)) {
		return s.keys, nil
	}
	s.keys = nil
	return nil, err
}

func clampAge(age time.Duration) time.Duration {
	if age == 0 {
		return defaultKeyAge
	}
	return min(max(age, minKeyAge), maxKeyAge)
}

func (s *keySet) ask(ctx context.Context) ([]verifyKey, time.Duration, error) {
	address := s.address
	if address == "" {
		var err error
		if address, err = s.discover(ctx); err != nil {
			return nil, 0, err
		}
	}
	text, age, err := s.fetch.get(ctx, address)
	if err != nil {
		return nil, 0, err
	}
	keys, err := parseKeys(text)
	return keys, age, err
}

// discover asks the issuer where its keys are: as OpenID Connect Discovery 1.0
// section 4 says, else as RFC 8414 section 3.1 does.
func (s *keySet) discover(ctx context.Context) (string, error) {
	address, err := s.discoverAt(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration")
	if err == nil {
		return address, nil
	}
	u, perr := url.Parse(s.issuer)
	if perr != nil {
		return "", errors.Join(err, perr)
	}
	u.Path = "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.Path, "/")
	address, second := s.discoverAt(ctx, u.String())
	if second == nil {
		return address, nil
	}
	return "", errors.Join(err, second)
}

func (s *keySet) discoverAt(ctx context.Context, where string) (string, error) {
	text, _, err := s.fetch.get(ctx, where)
	if err != nil {
		return "", err
	}
	var found struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return "", fmt.Errorf("the discovery document of %s: %w", s.issuer, err)
	}
	if found.Issuer != s.issuer || found.JWKSURI == "" {
		return "", fmt.Errorf("the discovery document of %s is another issuer's, or names no keys", s.issuer)
	}
	return found.JWKSURI, nil
}

// parseKeys takes the public keys for signatures out of a JWK set (RFC 7517);
// keys of other kinds are passed over, a set without any is an error.
func parseKeys(text []byte) ([]verifyKey, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("not a JWK set: %w", err)
	}
	keys := make([]verifyKey, 0, min(len(set.Keys), maxKeys))
	for _, raw := range set.Keys {
		if key, ok := parseKey(raw); ok {
			keys = append(keys, key)
		}
		if len(keys) == maxKeys {
			break
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the JWK set has no key that this server takes")
	}
	return keys, nil
}

func parseKey(raw []byte) (verifyKey, bool) {
	parsed, err := jwk.ParseKey(raw)
	if err != nil {
		return verifyKey{}, false
	}
	if use, said := parsed.KeyUsage(); said && use != "sig" {
		return verifyKey{}, false
	}
	var k verifyKey
	k.id, _ = parsed.KeyID()
	if alg, said := parsed.Algorithm(); said {
		k.alg = alg.String()
	}
	var exported any
	if err := jwk.Export(parsed, &exported); err != nil {
		return verifyKey{}, false
	}
	k.key = exported
	if key, ok := k.key.(*rsa.PublicKey); ok && (key.N.BitLen() < minRSABits || key.N.BitLen() > maxRSABits) {
		return verifyKey{}, false
	}
	return k, k.fits(k.alg) || k.alg == "" && k.fitsAny()
}

// algorithms are those whose signatures are taken: asymmetric ones that SMART
// App Launch 2.2 asks servers to support (RS384, ES384) and their smaller
// siblings. Never none, never a shared secret.
var algorithms = [...]string{"RS256", "RS384", "ES256", "ES384"}

func (k *verifyKey) fitsAny() bool {
	for _, alg := range algorithms {
		if k.fits(alg) {
			return true
		}
	}
	return false
}
