package smart

import (
	"context"
	"errors"
	"net/url"
	"time"
)

// Introspector is how this server makes itself known to an issuer's
// introspection endpoint.
type Introspector struct {
	ClientID, Secret string
	// AnyAudience takes answers that name no audience, which RFC 7662 leaves
	// optional: only for an issuer whose tokens are all for one data store.
	AnyAudience bool
}

// introspection asks the issuer about each token (RFC 7662; SMART App Launch 2.2,
// "Token Introspection").
type introspection struct {
	issuer   string // "" where the metadata names none
	endpoint string
	as       Introspector
	fetch    *fetcher
	clock    func() time.Time
}

// Verify asks.
func (i *introspection) Verify(ctx context.Context, token string, call Call) (Claims, error) {
	const op = "smart.introspection"
	var user *url.Userinfo
	if i.as.ClientID != "" {
		user = url.UserPassword(i.as.ClientID, i.as.Secret)
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	answer, err := i.fetch.post(ctx, i.endpoint, form, user)
	if err != nil {
		return Claims{}, failing(op, "the token's issuer does not answer", err)
	}
	p, err := parsePayload(answer)
	if err != nil {
		return Claims{}, broken(op, "the answer of the token's issuer cannot be read", err)
	}
	return i.judge(p, call)
}

func (i *introspection) judge(p payload, call Call) (Claims, error) {
	const op = "smart.introspection"
	c := p.claims()
	switch {
	case string(p.Active) != "true":
		return Claims{}, unknown(op, "its issuer says that it is not active", nil)
	case i.issuer != "" && c.Issuer != "" && c.Issuer != i.issuer:
		return Claims{}, unknown(op, "it was issued by another issuer", nil)
	}
	if len(c.Audience) > 0 || !i.as.AnyAudience {
		if err := c.meantFor(op, call.Endpoint); err != nil {
			return Claims{}, err
		}
	}
	return c, c.alive(op, i.clock())
}

// failing is what is wrong when somebody was asked in vain.
func failing(op, what string, err error) error {
	if timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return slow(op, what, err)
	}
	return broken(op, what, err)
}
