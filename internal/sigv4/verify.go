// Package sigv4 verifies AWS Signature Version 4 on the server's side.
//
// A signed request carries, in the Authorization header or in its query,
//
//	AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/healthlake/aws4_request,
//	    SignedHeaders=host;x-amz-date, Signature=64 hexadecimal digits
//
// The signature is an HMAC, keyed from the secret, over a string to sign, which
// holds the hash of a canonical request: method, path, query, the headers named,
// and the hash of the body. Clients do not agree on how path and query are made
// canonical, so a few forms are tried (forms.go lists each with the client that
// makes it; DESIGN.md says why that is safe).
//
// New makes a Verifier, ReadBody reads a body within the limit, Verify says who
// signed or why not, Presented tells whether a request carries such a signature
// at all, and WithoutAuth takes the parameters of a presigned request out of a
// query.
//
//	body, err := verifier.ReadBody(r)
//	...
//	who, err := verifier.Verify(r, body)
//
// A server that looks at the signature before the body comes takes Verify apart:
// Read, Precheck, and Judge with the body.
//
// Verify must see the request before anything rewrites it: http.ServeMux
// redirects paths with // and .. in them, which are signed as they were sent.
//
// Specification: IAM User Guide, "AWS Signature Version 4 for API requests".
package sigv4

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// MaxSkewDefault is how far a client's clock may be off, either way; 15 minutes
// is AWS's own bound.
const MaxSkewDefault = 15 * time.Minute

// Credential is what a server knows of an access key.
type Credential struct {
	SecretAccessKey string
	SessionToken    string    // what X-Amz-Security-Token must hold; empty for long-lived keys
	Principal       string    // the ARN of whom the key speaks for
	Expiry          time.Time // end of temporary credentials; zero for long-lived keys
}

// Keys finds credentials. Secret answers an error of kind fault.UnknownKey for
// an access key nobody knows or that is switched off; any other error means
// that the answer could not be had, and refuses the request as our own fault.
type Keys interface {
	Secret(ctx context.Context, accessKeyID string) (Credential, error)
}

// Config is what a Verifier is made of. Region, Service, Clock, Keys and
// MaxBody are needed.
type Config struct {
	Region  string // the region a scope may name: "us-east-1"
	Service string // the only service a scope may name: "healthlake"
	Clock   func() time.Time
	Keys    Keys

	// OtherRegions are further regions that a scope may name; AWS's global
	// services are signed for us-east-1 wherever they stand.
	OtherRegions []string

	// MaxSkew bounds the difference between a client's clock and ours; 0 is
	// MaxSkewDefault.
	MaxSkew time.Duration

	// MaxBody bounds a body, in bytes.
	MaxBody int64

	// Hosts names hosts a client may have signed besides the request's own, as
	// a proxy in front tells them; see ForwardedHosts. May be nil.
	Hosts func(*http.Request) []string

	// AllowUnsignedPayload tells whether a request may leave its body out of
	// the signature (UNSIGNED-PAYLOAD); nil is never. Allow it only where the
	// connection itself protects the body: TLS or loopback.
	AllowUnsignedPayload func(*http.Request) bool

	// Debug puts the canonical request and the string to sign that were
	// expected into the answer to a signature that does not match.
	Debug bool
}

// Identity is who signed a request.
type Identity struct {
	AccessKeyID string
	Principal   string // ARN
	SignedAt    time.Time
	Presigned   bool      // the signature came in the query
	Temporary   bool      // the credentials carry a session token
	Expiry      time.Time // of temporary credentials; zero for long-lived keys
}

// Verifier verifies signatures for one region and service. It is safe for
// concurrent use.
type Verifier struct {
	config Config
	keys   *signingKeys
}

// New makes a Verifier, or says what the configuration lacks.
func New(config Config) (*Verifier, error) {
	switch {
	case config.Region == "":
		return nil, errors.New("sigv4.New: no region")
	case config.Service == "":
		return nil, errors.New("sigv4.New: no service")
	case config.Clock == nil:
		return nil, errors.New("sigv4.New: no clock")
	case config.Keys == nil:
		return nil, errors.New("sigv4.New: no keys")
	case config.MaxBody <= 0:
		return nil, errors.New("sigv4.New: no bound for bodies")
	case config.MaxSkew < 0:
		return nil, errors.New("sigv4.New: a negative clock skew")
	}
	if config.MaxSkew == 0 {
		config.MaxSkew = MaxSkewDefault
	}
	return &Verifier{config: config, keys: newSigningKeys(signingKeysMax)}, nil
}

// opVerify is the place that errors of a request name.
const opVerify = "sigv4.Verify"

// Verify says who signed r, whose whole body is body. Errors are *fault.Error
// with AWS's own wording where it is known:
//
//	MissingToken         no signature at all
//	IncompleteSignature  a signature that is not in the form of Version 4
//	UnknownKey           an access key nobody knows, or not its session token
//	BadSignature         wrong scope, too old, too new, a body or anything
//	                     signed that was altered
//	ExpiredToken         temporary credentials past their end
//	NotSupported         aws-chunked bodies
//	TooLarge             a body or request target over its bound
//
// Whatever else is wrong, an unknown key takes the same time as a known one.
func (v *Verifier) Verify(r *http.Request, body []byte) (*Identity, error) {
	if int64(len(body)) > v.config.MaxBody {
		return nil, bodyTooLarge(v.config.MaxBody)
	}
	s, err := Read(r)
	if err != nil {
		return nil, err
	}
	return v.Judge(s, body)
}

// Judge is Verify of a request that was read before.
func (v *Verifier) Judge(s *Signed, body []byte) (*Identity, error) {
	if int64(len(body)) > v.config.MaxBody {
		return nil, bodyTooLarge(v.config.MaxBody)
	}
	if err := v.checkScope(s.claim); err != nil {
		return nil, err
	}
	if err := v.checkTime(s.claim); err != nil {
		return nil, err
	}
	payloads, err := v.payloads(s.request, s.claim, sha256.Sum256(body))
	if err != nil {
		return nil, err
	}
	signed := &signedRequest{request: s.request, claim: s.claim, target: s.target, payloads: payloads}
	signed.headers, err = v.headerForms(s.request, s.claim)
	if err != nil {
		return nil, err
	}
	return v.judge(s.request.Context(), signed)
}

// judge looks the key up and decides. Signature and session token are always
// both checked, for unknown keys against a secret of ours, before any of the
// answers is chosen.
func (v *Verifier) judge(ctx context.Context, signed *signedRequest) (*Identity, error) {
	claim := signed.claim
	credential, err := v.config.Keys.Secret(ctx, claim.accessKeyID)
	known := err == nil
	if err != nil && !fault.Is(err, fault.UnknownKey) {
		return nil, fault.Wrap(fault.Internal, opVerify, err)
	}
	keyName := claim.accessKeyID
	if !known {
		keyName, credential = "", Credential{SecretAccessKey: nobodysSecret}
	}
	key := v.keys.key(keyName, credential.SecretAccessKey, claim.date, claim.region, claim.service)
	matches := signed.matches(key)
	tokenMatches := subtle.ConstantTimeCompare([]byte(claim.token), []byte(credential.SessionToken)) == 1
	switch {
	case !known || credential.SecretAccessKey == "" || !tokenMatches:
		return nil, &fault.Error{Kind: fault.UnknownKey, Op: opVerify}
	case !matches:
		return nil, v.mismatch(signed)
	case !credential.Expiry.IsZero() && !v.config.Clock().Before(credential.Expiry):
		return nil, &fault.Error{Kind: fault.ExpiredToken, Op: opVerify}
	}
	return &Identity{
		AccessKeyID: claim.accessKeyID,
		Principal:   credential.Principal,
		SignedAt:    claim.when,
		Presigned:   claim.presigned,
		Temporary:   credential.SessionToken != "",
		Expiry:      credential.Expiry,
	}, nil
}

// mismatch is AWS's answer to a signature that does not verify; in debug mode
// it shows what should have been signed, never a secret or a session token.
func (v *Verifier) mismatch(signed *signedRequest) error {
	refusal := &fault.Error{Kind: fault.BadSignature, Op: opVerify,
		Detail: "The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details"}
	if v.config.Debug {
		refusal.Hint = signed.explain()
	}
	return refusal
}
