package smart

import (
	"context"
	"encoding/base64"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// jwtJudge verifies JWTs by their issuer's keys.
type jwtJudge struct {
	issuer string
	keys   *keySet
	clock  func() time.Time
	// busy bounds how many signatures are checked at once, so that strangers'
	// tokens never have all processors (an ES384 check is most of a millisecond).
	busy chan struct{}
}

// checkers is the size of jwtJudge.busy.
func checkers() int { return max(1, runtime.GOMAXPROCS(0)-1) }

// header is a JWS header (RFC 7515 section 4), as far as it matters.
type header struct {
	Algorithm string   `json:"alg"`
	KeyID     string   `json:"kid"`
	Type      string   `json:"typ"`
	Critical  []string `json:"crit"`
}

// tokenTypes are the values of typ that an access token may have, in lower case:
// RFC 9068, and what issuers wrote before it.
var tokenTypes = []string{"", "jwt", "at+jwt", "application/jwt", "application/at+jwt"}

// Verify checks what is cheap first: the signature last.
func (j *jwtJudge) Verify(ctx context.Context, token string, call Call) (Claims, error) {
	const op = "smart.jwt"
	h, body, err := splitJWT(token)
	if err != nil {
		return Claims{}, err
	}
	p, err := parsePayload(body)
	if err != nil {
		return Claims{}, unknown(op, "its claims cannot be read", err)
	}
	c := p.claims()
	if c.Issuer != j.issuer {
		return Claims{}, unknown(op, "it was issued by another issuer", nil)
	}
	if err := c.meantFor(op, call.Endpoint); err != nil {
		return Claims{}, err
	}
	if err := c.alive(op, j.clock()); err != nil {
		return Claims{}, err
	}
	return c, j.checkSignature(ctx, token, h)
}

// splitJWT takes a compact JWS (RFC 7515 section 7.1) apart.
func splitJWT(token string) (h header, claims []byte, err error) {
	const op = "smart.splitJWT"
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return h, nil, unknown(op, "it is not a signed JWT", nil)
	}
	head, err := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	if err != nil {
		return h, nil, unknown(op, "its header cannot be read", err)
	}
	if claims, err = base64.RawURLEncoding.Strict().DecodeString(parts[1]); err != nil {
		return h, nil, unknown(op, "its claims cannot be read", err)
	}
	if err := json.Unmarshal(head, &h); err != nil {
		return h, nil, unknown(op, "its header cannot be read", err)
	}
	switch {
	case !slices.Contains(algorithms[:], h.Algorithm):
		return h, nil, unknown(op, "its algorithm is not allowed", nil)
	case len(h.Critical) > 0:
		return h, nil, unknown(op, "its header asks for extensions", nil)
	case !slices.Contains(tokenTypes, strings.ToLower(h.Type)):
		return h, nil, unknown(op, "it is not an access token", nil)
	}
	return h, claims, nil
}

func (j *jwtJudge) checkSignature(ctx context.Context, token string, h header) error {
	const op = "smart.checkSignature"
	key, ok, err := j.keys.find(ctx, h.KeyID, h.Algorithm)
	switch {
	case err != nil:
		return broken(op, "the keys of the token's issuer cannot be fetched", err)
	case !ok:
		return unknown(op, "its issuer has no such key", nil)
	}
	select {
	case j.busy <- struct{}{}:
		defer func() { <-j.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	alg, ok := jwa.LookupSignatureAlgorithm(h.Algorithm)
	if !ok {
		return unknown(op, "its algorithm is not allowed", nil)
	}
	if _, err := jws.Verify([]byte(token), jws.WithKey(alg, key), jws.WithCompact()); err != nil {
		return unknown(op, "its signature does not verify", err)
	}
	return nil
}
