package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/smart"
)

// Bearers judges the bearer tokens that apps present to SMART data stores:
// *smart.Authority.
type Bearers interface {
	Authorize(ctx context.Context, s smart.Store, operation, token string) (*smart.Authorization, error)
}

// Roles finds the role that a store's token Lambda names, as HealthLake's service
// would assume it: *iam.Directory. An unknown role is fault.Forbidden.
type Roles interface {
	ServiceRole(ctx context.Context, role, service string, v iam.Values) (iam.Principal, error)
}

// bearer takes the token out of a request that comes with one (RFC 6750 section
// 2.1; tokens in bodies and URLs are not looked at).
func bearer(r *http.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}

// serveToken answers a request that comes with a bearer token: the store's one
// judge says what it is worth, the role that it names must allow too, and its
// scopes become the Grant that the interaction asks at every hop.
func (g *Gateway) serveToken(x *exchange, id, rest, token string) error {
	d, err := g.Plane.Record(x.r.Context(), id)
	if err != nil {
		return err
	}
	var app *smart.Authorization
	if err := g.guarded(x, tokenName(token), func() (err error) {
		app, err = g.recognise(x, d, token)
		return err
	}); err != nil {
		return err
	}
	body, err := readBody(x.w.ResponseWriter, x.r, MaxDataBody)
	if err != nil {
		return err
	}
	return g.serveStore(x, id, rest, body, func(s *interaction.Session) (err error) {
		s.Owner = owner(app)
		s.Grant, err = g.grant(x, app, s, rest)
		return err
	})
}

// tokenName tells tokens apart without telling them.
func tokenName(token string) string {
	sum := sha256.Sum256([]byte(token))
	return "Bearer " + hex.EncodeToString(sum[:])
}

// owner names an app with its user and launch, as its token does.
func owner(app *smart.Authorization) string {
	c := &app.Claims
	return strings.Join([]string{"token", c.Issuer, c.ClientID, c.Subject, c.UID, c.FHIRUser, app.Launch.Patient}, "\x00")
}

// recognise verifies a token, and holds the role that it names against the
// policies.
func (g *Gateway) recognise(x *exchange, d *datastore.Datastore, token string) (*smart.Authorization, error) {
	if g.Bearers == nil || d.Identity.Strategy == datastore.AWSAuth {
		return nil, &fault.Error{Kind: fault.UnknownKey, Op: "gateway.recognise", Detail: "this data store takes no bearer tokens",
			Hint: "sign the request with AWS Signature Version 4"}
	}
	x.presented = true
	app, err := g.Bearers.Authorize(x.r.Context(), g.smartStore(d), x.action, token)
	if err != nil {
		return nil, err
	}
	c := &app.Claims
	x.app = &audit.App{Issuer: c.Issuer, Client: c.ClientID, Subject: c.Subject, User: c.FHIRUser, Patient: app.Launch.Patient}
	if x.app.Subject == "" {
		x.app.Subject = c.UID
	}
	if c.RoleARN == "" {
		return app, nil // only a Lambda names one, and must
	}
	return app, g.assume(x, d, c.RoleARN)
}

// smartStore is what the judge of tokens knows of a store.
func (g *Gateway) smartStore(d *datastore.Datastore) smart.Store {
	return smart.Store{
		ID: d.ID, Endpoint: g.Endpoint(d.ID), Strategy: smart.Strategy(d.Identity.Strategy),
		FineGrained: d.Identity.FineGrained, Metadata: d.Identity.Metadata, LambdaARN: d.Identity.IdpLambdaARN,
	}
}

// assume has the request judged by the policies of a role beside the scopes of
// its token.
func (g *Gateway) assume(x *exchange, d *datastore.Datastore, role string) error {
	if g.Roles == nil {
		return fault.New(fault.Forbidden, "gateway.assume", "the role %s is not known", role)
	}
	values := g.values(x, awsapi.Subject{})
	values.SourceAccount, values.SourceARN = g.Plane.Account, d.ARN
	p, err := g.Roles.ServiceRole(x.r.Context(), role, iam.HealthLakeService, values)
	if err != nil {
		return err
	}
	x.principal = p
	return g.allow(x, d.ARN, awsapi.Subject{Datastore: d.ID})
}

// grant is what a token may see and change by this request. A path that is no
// interaction shows nothing, and says so itself.
func (g *Gateway) grant(x *exchange, app *smart.Authorization, s *interaction.Session, rest string) (*search.Grant, error) {
	action, typ := fhirapi.Target(x.r.Method, rest)
	if action == fhirapi.Unrouted {
		return search.NewGrant(nil), nil
	}
	world := smart.World{Registry: s.Registry, Key: s.Store.HashKey(), Base: s.Base, Now: x.began}
	g.explain(x, app, world)
	return app.Permit(world, action, typ)
}

// explain logs, for people who wonder, which scopes of a token grant nothing; a
// filter's values are left out.
func (g *Gateway) explain(x *exchange, app *smart.Authorization, world smart.World) {
	if !g.Log.Enabled(x.r.Context(), slog.LevelDebug) {
		return
	}
	for _, r := range app.Refused(world) {
		scope, _, _ := strings.Cut(r.Scope, "?")
		g.Log.Debug("a scope grants nothing", "request", x.id, "scope", scope, "reason", r.Reason)
	}
}

// challenge says how to authenticate (RFC 9110 section 11.6.1, RFC 6750 section
// 3): with a token where the store takes them, and with a signature everywhere.
func (g *Gateway) challenge(x *exchange, status int) {
	bearers := x.presented
	if !bearers && status == http.StatusUnauthorized && x.datastore != "" && g.Bearers != nil {
		d, err := g.Plane.Record(x.r.Context(), x.datastore)
		bearers = err == nil && d.Identity.Strategy != datastore.AWSAuth
	}
	h := x.w.Header()
	switch {
	case status == http.StatusForbidden && x.presented:
		h.Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
	case status != http.StatusUnauthorized:
	case x.presented:
		h.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		h.Add("WWW-Authenticate", sigv4Scheme)
	case bearers:
		h.Set("WWW-Authenticate", "Bearer")
		h.Add("WWW-Authenticate", sigv4Scheme)
	default:
		h.Set("WWW-Authenticate", sigv4Scheme)
	}
}
