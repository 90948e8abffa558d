package gateway

import (
	"net/http"
	"strings"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/sigv4"
	"github.com/tarn-fhir/tarn/internal/throttle"
)

const dataPrefix = "/datastore/"

// MaxDataBody bounds a data plane request's body in bytes as sent. HealthLake
// takes 5 MB for one resource (fhirapi holds single resources to that) and
// Synthea's largest transaction needs more.
const MaxDataBody = 128 << 20

// SessionMaker makes the session of one request on a leased store.
type SessionMaker interface {
	Session(lease *datastore.Lease, p iam.Principal, record func(audit.Target)) (*interaction.Session, error)
}

// serveData answers /datastore/{id}/r4/….
func (g *Gateway) serveData(x *exchange, path string) error {
	id, rest, uriType, ok := splitData(path)
	x.uriType = uriType
	if ok && arn.IsDatastoreID(id) {
		x.datastore = id
	}
	if !ok {
		return fault.New(fault.NotFound, "gateway", "the path is not /datastore/{id}/r4/…")
	}
	x.action = fhirapi.Action(x.r.Method, rest)
	if x.r.Method == http.MethodOptions {
		return g.Data.Preflight(x.w, x.r)
	}
	if token, ok := bearer(x.r); ok {
		return g.serveToken(x, id, rest, token)
	}
	body, err := g.admitData(x, rest)
	if err != nil {
		return err
	}
	if err := g.allow(x, g.Plane.ARN(id), awsapi.Subject{Datastore: x.datastore}); err != nil {
		return err
	}
	return g.serveStore(x, id, rest, body, func(*interaction.Session) error { return nil })
}

// serveStore leases the store and carries the request out; narrow puts on the
// session what its principal may see.
func (g *Gateway) serveStore(x *exchange, id, rest string, body []byte, narrow func(*interaction.Session) error) error {
	lease, err := g.Plane.Open(x.r.Context(), id)
	if err != nil {
		return err
	}
	defer lease.Release()
	if err := g.throttle(x, id, body); err != nil {
		return err
	}
	session, err := g.Sessions.Session(lease, x.principal, x.touch)
	if err != nil {
		return err
	}
	x.query = asked(x, rest, body)
	session.Limits = g.Searches
	if session.SlowFrom = g.SlowSearch; g.SlowSearch > 0 {
		session.Slow = func(slow interaction.SlowSearch) { g.slow(x, slow) }
	}
	if x.asked.Action != "" { // the policy has a say: not of tokens that name no role
		session.Forbids = func(action string) error { return g.unless(x, action) }
	}
	if err := narrow(session); err != nil {
		return err
	}
	return g.Data.Serve(x.w, x.r, fhirapi.Request{
		Session: session, Path: rest, RawQuery: sigv4.WithoutAuth(x.r.URL.RawQuery), Body: body, SMART: lease.Datastore.Identity.Metadata,
	})
}

// maxQuery bounds what is told of a search, in bytes: what is longer is cut.
const maxQuery = 16 << 10

// asked is what a search asks, as sent: its path, the parameters of its URL, and
// those of its body.
func asked(x *exchange, rest string, body []byte) string {
	if x.action != "SearchWithGet" && x.action != "SearchWithPost" {
		return ""
	}
	text := strings.TrimLeft(rest, "/") + "?" + sigv4.WithoutAuth(x.r.URL.RawQuery)
	if x.action == "SearchWithPost" && len(body) > 0 {
		text += "&" + string(body)
	}
	return text[:min(len(text), maxQuery)]
}

// throttle takes the request out of its data store's bucket and its quotas.
func (g *Gateway) throttle(x *exchange, id string, body []byte) error {
	if err := g.Limiter.Store(id, x.began); err != nil {
		return err
	}
	call := throttle.Call{Action: x.action, Datastore: id}
	if g.Limiter.Weighs() {
		call.Units = fhirapi.WriteUnits(x.r, x.action, body)
	}
	return g.Limiter.Take(call, x.began)
}

// slow logs a search that took long: by its shape, which holds no value of the
// client's.
func (g *Gateway) slow(x *exchange, s interaction.SlowSearch) {
	g.Log.Warn("slow search", "request", x.id, "datastore", x.datastore, "shape", s.Shape, "took", s.Took, "found", s.Found, "refused", s.Refused)
}

// admitData verifies who asks; discovery is public unless the operator wants a
// signature.
func (g *Gateway) admitData(x *exchange, rest string) ([]byte, error) {
	if g.PublicDiscovery && x.r.Header.Get("Authorization") == "" && reads(x.r.Method) && fhirapi.Discovery(rest) {
		x.principal = iam.Anonymous
		return nil, nil
	}
	return g.admit(x, MaxDataBody)
}

func reads(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// uriTypes are the path prefixes by which HealthLake lets payers tell their CMS
// interfaces apart, and the dimension that metrics show for each: no difference
// otherwise (HealthLake developer guide, "CMS compliance").
var uriTypes = [...]struct{ prefix, dimension string }{
	{"patientaccess/v2/", "patient-access"},
	{"provideraccess/v2/", "provider-access"},
	{"payertopayerdx/v2/", "payer-to-payer"},
	{"priorauthservice/v2/", "prior-authorization"},
}

// splitData takes /datastore/{id}/r4/rest apart, also behind one of uriTypes;
// rest begins with a slash or is empty.
func splitData(path string) (id, rest, uriType string, ok bool) {
	id, after, found := strings.Cut(strings.TrimPrefix(path, dataPrefix), "/")
	if !found || id == "" {
		return "", "", "", false
	}
	after = strings.TrimLeft(after, "/")
	for _, of := range uriTypes {
		if behind, is := strings.CutPrefix(after, of.prefix); is {
			after, uriType = behind, of.dimension
			break
		}
	}
	if after != "r4" && !strings.HasPrefix(after, "r4/") {
		return "", "", "", false
	}
	return id, after[len("r4"):], uriType, true
}
