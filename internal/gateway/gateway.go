// Package gateway is the one door of the server: it gives every request an id,
// bounds and reads its body, verifies who sent it, throttles, asks whether the
// action is allowed, hands it to the wire it belongs to, and tells log, metrics
// and audit how it ended.
//
//	POST /                           → awsapi   (X-Amz-Target)
//	                                 → awsquery (a form; signed for sts or iam)
//	     /datastore/{id}/r4/…        → fhirapi
//	GET  /healthz /readyz /metrics   → itself, unsigned
//
// It decides nothing about FHIR or AWS: paths are taken raw, as they were
// signed, and never cleaned or redirected.
package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/awsquery"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/sigv4"
	"github.com/tarn-fhir/tarn/internal/throttle"
)

// Options are what the door needs.
type Options struct {
	Verifier *sigv4.Verifier
	Policy   iam.Policy
	Plane    *datastore.Plane
	Control  *awsapi.API
	Data     *fhirapi.API
	// Query answers the token and identity services, whose requests are verified
	// by service; nil: they are not offered.
	Query          *awsquery.API
	QueryVerifiers map[string]*sigv4.Verifier
	// Sessions makes what one data plane request works with.
	Sessions SessionMaker
	Limiter  *throttle.Limiter
	// Failures slows down those whose credentials fail; nil: nobody is.
	Failures *throttle.Failures
	Recorder audit.Recorder
	Metrics  *Metrics
	Log      *slog.Logger
	Clock    func() time.Time
	Random   io.Reader
	// PublicDiscovery lets anyone read a store's capability statement and SMART
	// configuration; false asks for a signature, as HealthLake does.
	PublicDiscovery bool
	// Bearers judges bearer tokens; nil: every one is refused. Roles finds the
	// roles that token Lambdas name; nil: each is unknown.
	Bearers Bearers
	Roles   Roles
	// DevIDP is the authorization server for development; nil: there is none.
	DevIDP http.Handler
	// Searches bound each search; one that takes SlowSearch or longer is logged by
	// its shape, 0: none is.
	Searches   interaction.SearchLimits
	SlowSearch time.Duration
	// Endpoint is a data store's URL as the audience of its tokens names it.
	Endpoint func(id string) string
}

// Gateway is the server's http.Handler.
type Gateway struct {
	Options
	ready atomic.Bool
}

// New makes the door; it answers /readyz with 503 until Ready(true).
func New(o Options) *Gateway { return &Gateway{Options: o} }

// Ready says whether the server takes work: it does not while it starts and
// while it drains.
func (g *Gateway) Ready(yes bool) { g.ready.Store(yes) }

// sigv4Scheme is the authentication scheme of Signature Version 4.
const sigv4Scheme = "AWS4-HMAC-SHA256"

// The planes, as log and metrics name them.
const (
	planeControl = "control"
	planeData    = "data"
	planeQuery   = "identity"
	planeServer  = "server"
)

// exchange is one request on its way through.
type exchange struct {
	w         *answer
	r         *http.Request
	id        string // request id
	began     time.Time
	plane     string
	action    string        // IAM action, once known
	uriType   string        // one of uriTypes, or empty
	datastore string        // id; only ever in the form of one
	signed    *sigv4.Signed // the signature, once it was read
	unsigned  error         // why there is none in form
	address   string        // see source
	principal iam.Principal
	asked     iam.Request // what the policy was asked, once it was
	app       *audit.App  // who a bearer token speaks for; nil without one
	presented bool        // a token came to a store that takes them
	service   string      // that answers, where it is not HealthLake
	query     string      // what a search asks, as sent
	refusal   fault.Row   // of the sheet; zero without one

	mu        sync.Mutex
	targets   []audit.Target
	forbidden map[string]bool // actions denied within an allowed request
}

// touch notes a resource that the request read or changed.
func (x *exchange) touch(t audit.Target) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.targets = append(x.targets, t)
}

// deny notes an action that was denied within an allowed request.
func (x *exchange) deny(action string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.forbidden == nil {
		x.forbidden = map[string]bool{}
	}
	x.forbidden[action] = true
}

// event is the exchange as audit is told of it: nothing of the request's content
// and nothing that authenticates.
func (x *exchange) event(status int) audit.Event {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := audit.Event{
		Time: x.began, RequestID: x.id, Plane: x.plane, Service: x.service, Principal: x.principal.ARN, AccessKey: x.principal.AccessKeyID,
		App: x.app, Action: x.action, Query: x.query, Datastore: x.datastore, Resources: x.targets,
		Source: x.source(), Agent: x.r.UserAgent(), TLS: x.r.TLS != nil, Status: status,
		Denied: x.refusal.Name, Code: x.refusal.AWSType, Message: x.refusal.Sentence,
	}
	if len(x.forbidden) > 0 {
		e.Forbidden = slices.Sorted(maps.Keys(x.forbidden))
	}
	if e.AccessKey == "" && e.Denied != "" {
		e.Claimed = x.claimedKey()
	}
	return e
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := arn.NewRequestID(g.Random)
	if err != nil {
		http.Error(w, "no randomness", http.StatusInternalServerError)
		return
	}
	x := &exchange{w: &answer{ResponseWriter: w, r: r}, r: r, id: id, began: g.Clock()}
	x.w.Header()[requestIDHeader] = []string{id}
	secureHeaders(x.w.Header(), r)
	defer x.w.release()
	defer g.finish(x)
	defer g.recovered(x)
	switch path := rawPath(r); {
	case path == "/" && g.Query != nil && awsquery.Presented(r):
		x.plane = planeQuery
		g.refuse(x, g.serveQuery(x), awsquery.WriteFault)
	case path == "/" && r.Method == http.MethodPost:
		x.plane = planeControl
		g.refuse(x, g.serveControl(x), awsapi.WriteFault)
	case strings.HasPrefix(path, dataPrefix):
		x.plane = planeData
		g.refuse(x, g.serveData(x, path), fhirapi.WriteFault)
	default:
		x.plane = planeServer
		g.serveOwn(x, path)
	}
}

// requestIDHeader is x-amzn-RequestId as net/http keeps it.
const requestIDHeader = "X-Amzn-Requestid"

// The headers of secureHeaders, whose values all answers share: whoever sets one
// anew puts another list in its place. Browsers are to ask by TLS alone for a
// year, where TLS is spoken.
var (
	noSniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	noStore    = []string{"no-store"}
	hstsAge    = []string{"max-age=31536000"}
)

// secureHeaders keeps browsers from guessing types, from telling others where
// they were, and from keeping what they saw.
func secureHeaders(h http.Header, r *http.Request) {
	h["X-Content-Type-Options"] = noSniff
	h["Referrer-Policy"] = noReferrer
	h["Cache-Control"] = noStore
	if r.TLS != nil {
		h["Strict-Transport-Security"] = hstsAge
	}
}

// recovered answers a panic like any other mistake of ours, so that log, metrics
// and audit hear of it; net/http would cut the connection without a word.
func (g *Gateway) recovered(x *exchange) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	write := fhirapi.WriteFault
	switch x.plane {
	case planeControl:
		write = awsapi.WriteFault
	case planeQuery:
		write = awsquery.WriteFault
	}
	g.refuse(x, fault.New(fault.Internal, "gateway", "panic: %v\n%s", p, debug.Stack()), write)
}

// rawPath is the path as sent, undecoded and uncleaned.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if at := strings.Index(path, "://"); at > 0 { // absolute-form
		if slash := strings.IndexByte(path[at+3:], '/'); slash >= 0 {
			return path[at+3+slash:]
		}
		return "/"
	}
	return path
}

func (g *Gateway) refuse(x *exchange, err error, write func(http.ResponseWriter, error)) {
	if err == nil {
		return
	}
	found := fault.From(err)
	x.refusal = found.Kind.Row()
	if found.Kind == fault.Internal {
		g.Log.Error("internal error", "request", x.id, "action", x.action, "error", err)
	}
	if x.w.wrote {
		return
	}
	if x.plane == planeData {
		g.challenge(x, found.Kind.Row().FHIRStatus)
	}
	write(x.w, err)
}

// DevIDPPrefix begins the paths of the authorization server for development.
const DevIDPPrefix = "/dev-idp/"

// serveOwn answers what belongs to neither plane.
func (g *Gateway) serveOwn(x *exchange, path string) {
	switch {
	case path == "/healthz":
		io.WriteString(x.w, "ok\n")
	case path == "/readyz" && g.ready.Load():
		io.WriteString(x.w, "ready\n")
	case path == "/readyz":
		http.Error(x.w, "not ready", http.StatusServiceUnavailable)
	case g.DevIDP != nil && strings.HasPrefix(path, DevIDPPrefix):
		g.DevIDP.ServeHTTP(x.w, x.r)
	case path == "/metrics" && g.Metrics != nil:
		g.Metrics.ServeHTTP(x.w, x.r)
	default:
		http.Error(x.w, "Tarn: POST / is the control plane, /datastore/{id}/r4/ the FHIR data plane", http.StatusNotFound)
	}
}

func (g *Gateway) serveControl(x *exchange) error {
	operation, err := awsapi.Operation(x.r)
	if err != nil {
		operation = "" // told after the signature: strangers learn nothing
	}
	x.action = operation
	body, verr := g.admit(x, awsapi.MaxBody)
	if verr != nil {
		return verr
	}
	if err != nil {
		return err
	}
	if err := g.Limiter.Control(x.began); err != nil {
		return err
	}
	request, err := g.Control.Read(x.r, body)
	if err != nil {
		return err
	}
	if err := g.allow(x, "*", request.Subject); err != nil {
		return err
	}
	if err := g.Limiter.Take(throttle.Call{Action: operation, Datastore: x.datastore}, x.began); err != nil {
		return err
	}
	about, err := request.Serve(x.r.Context(), x.w)
	if about != "" {
		x.datastore = about
	}
	return err
}

// allow asks the policy. An action on a data store is judged by its ARN and
// tags, whether it is there or not; any other by the resource given. A role that
// the request hands to the service needs iam:PassRole too.
func (g *Gateway) allow(x *exchange, resource string, about awsapi.Subject) error {
	asked, err := g.question(x, actionPrefix+x.action, resource, about)
	if err != nil {
		return err
	}
	x.asked = asked
	if err := iam.Authorize(x.r.Context(), g.Policy, asked); err != nil || about.Role == "" {
		return err
	}
	asked.Action, asked.Resource = passRole, about.Role
	asked.Values.PassedToService, asked.Values.ResourceTags = iam.HealthLakeService, nil
	return iam.Authorize(x.r.Context(), g.Policy, asked)
}

// passRole is the action of handing a role to a service.
const passRole = "iam:PassRole"

// unless asks whether an action within an allowed request is denied.
func (g *Gateway) unless(x *exchange, action string) error {
	asked := x.asked
	asked.Action = actionPrefix + action
	err := iam.Unless(x.r.Context(), g.Policy, asked)
	if err != nil {
		x.deny(action)
	}
	return err
}

// question is what the policy is asked.
func (g *Gateway) question(x *exchange, action, resource string, about awsapi.Subject) (iam.Request, error) {
	asked := iam.Request{Principal: x.principal, Action: action, Resource: resource, Values: g.values(x, about)}
	if about.Datastore == "" {
		return asked, nil
	}
	x.datastore, asked.Resource = about.Datastore, g.Plane.ARN(about.Datastore)
	tags, err := g.Plane.ResourceTags(x.r.Context(), about.Datastore)
	asked.Values.ResourceTags = tags
	return asked, err
}

// values are what conditions of policies may look at.
func (g *Gateway) values(x *exchange, about awsapi.Subject) iam.Values {
	return iam.Values{
		Time: x.began, SourceIP: x.sourceAddr(), SecureTransport: x.r.TLS != nil, UserAgent: x.r.UserAgent(),
		Region: g.Plane.Region, RequestTags: about.Tags, TagKeys: about.TagKeys,
	}
}

// actionPrefix is the service in the names of actions.
const actionPrefix = arn.Service + ":"

// admit reads the body and verifies the signature. An Authorization header that
// is not even in form is refused before the body is read.
func (g *Gateway) admit(x *exchange, maxBody int64) ([]byte, error) {
	return g.admitBy(g.Verifier, x, maxBody)
}

func (g *Gateway) admitBy(verifier *sigv4.Verifier, x *exchange, maxBody int64) ([]byte, error) {
	var body []byte
	err := g.guarded(x, x.claimedKey(), func() (err error) {
		body, err = g.verified(verifier, x, maxBody)
		return err
	})
	return body, err
}

// guarded verifies credentials unless their source, alone or with these, failed
// too often; key names them without telling them.
func (g *Gateway) guarded(x *exchange, key string, verify func() error) error {
	if g.Failures == nil {
		return verify()
	}
	if err := g.Failures.Locked(x.source(), key, x.began); err != nil {
		return err
	}
	err := verify()
	if err != nil && wrongCredentials[fault.From(err).Kind] {
		g.Failures.Failed(x.source(), key, x.began)
	}
	return err
}

// read reads the request's signature, once; nil where it has none in form.
func (x *exchange) read() (*sigv4.Signed, error) {
	if x.signed == nil && x.unsigned == nil {
		x.signed, x.unsigned = sigv4.Read(x.r)
	}
	return x.signed, x.unsigned
}

// claimedKey is the access key id that the signature names, empty where there is
// none in form. Nothing is verified.
func (x *exchange) claimedKey() string {
	signed, err := x.read()
	if err != nil {
		return ""
	}
	return signed.AccessKeyID()
}

// wrongCredentials are the refusals that count towards a lock-out. What was right
// once and is expired is not among them: many clients come back with it.
var wrongCredentials = map[fault.Kind]bool{fault.UnknownKey: true, fault.BadSignature: true}

func (g *Gateway) verified(verifier *sigv4.Verifier, x *exchange, maxBody int64) ([]byte, error) {
	signed, err := x.read()
	if err != nil {
		return nil, err
	}
	if err := verifier.Precheck(signed); err != nil {
		return nil, err
	}
	body, err := readBody(x.w.ResponseWriter, x.r, maxBody)
	if err != nil {
		return nil, err
	}
	identity, err := verifier.Judge(signed, body)
	if err != nil {
		return nil, err
	}
	x.principal = iam.Principal{ARN: identity.Principal, AccessKeyID: identity.AccessKeyID}
	return body, nil
}

// maxTrusted is how large a buffer a Content-Length alone is worth, in bytes: a
// stranger who announces much and sends little takes no more.
const maxTrusted = 256 << 10

// readBody reads the whole body, fault.TooLarge beyond limit.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		drain(r)
		return nil, tooLarge(limit)
	}
	buf := make([]byte, 0, min(max(r.ContentLength, 0), maxTrusted)+1)
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), buf)
	if err == nil {
		return body, nil
	}
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		drain(r)
		return nil, tooLarge(limit)
	}
	return nil, fault.Wrap(fault.Canceled, "gateway.readBody", err)
}

// maxDrained is how much of a body that is too large is read and thrown away, in
// bytes: many clients send all of it before they look at the answer, and would
// see a broken connection instead of the refusal.
const maxDrained = 256 << 20

func drain(r *http.Request) {
	if r.ContentLength > maxDrained || r.Header.Get("Expect") != "" {
		return // it is told before it sends, or is beyond all measure
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxDrained)) // how it ends is the client's affair
}

// readAll is io.ReadAll into a buffer of the size that is likely right.
func readAll(r io.Reader, b []byte) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

func tooLarge(limit int64) error {
	return fault.New(fault.TooLarge, "gateway.readBody", "the body is larger than %d bytes", limit)
}

// finish tells log, metrics and audit.
func (g *Gateway) finish(x *exchange) {
	took := g.Clock().Sub(x.began)
	status := x.w.status()
	if g.Metrics != nil {
		g.Metrics.observe(x, status, took)
	}
	if x.plane == planeServer {
		return
	}
	ctx := context.WithoutCancel(x.r.Context())
	if g.Log.Enabled(ctx, slog.LevelInfo) { // the attributes cost more than the question
		g.Log.LogAttrs(ctx, slog.LevelInfo, "request",
			slog.String("id", x.id), slog.String("plane", x.plane), slog.String("method", x.r.Method),
			slog.String("action", x.action), slog.String("datastore", x.datastore), slog.Int("status", status),
			slog.Duration("took", took), slog.Int64("in", x.r.ContentLength), slog.Int64("out", x.w.bytes), slog.String("refused", x.refusal.Name))
	}
	g.Recorder.Record(ctx, x.event(status))
}

// sourceAddr is source as an address, the zero one where it is none.
func (x *exchange) sourceAddr() netip.Addr {
	addr, err := netip.ParseAddr(x.source())
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// source is the address that the request came from, without its port.
func (x *exchange) source() string {
	if x.address != "" {
		return x.address
	}
	host, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		host = x.r.RemoteAddr
	}
	x.address = host
	return host
}

// answer watches what is answered.
type answer struct {
	http.ResponseWriter
	r     *http.Request
	conn  *conn // that holds what is written; nil: none does
	code  int
	bytes int64
	wrote bool
}

func (a *answer) WriteHeader(code int) {
	if !a.wrote {
		a.code, a.wrote = code, true
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(b []byte) (int, error) {
	a.wrote = true
	a.gather(len(b))
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the writer below.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) status() int {
	if a.code == 0 {
		return http.StatusOK
	}
	return a.code
}
