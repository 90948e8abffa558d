package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/gateway"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/seal/localkms"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/sigv4"
	"github.com/tarn-fhir/tarn/internal/store/memory"
	"github.com/tarn-fhir/tarn/internal/throttle"
)

const (
	account = "111122223333"
	region  = "us-east-1"
	keyID   = "AKIATESTTESTTESTTEST"
	secret  = "a secret access key"
)

// keys knows one access key.
type keys struct{}

func (keys) Secret(_ context.Context, id string) (sigv4.Credential, error) {
	if id != keyID {
		return sigv4.Credential{}, &fault.Error{Kind: fault.UnknownKey}
	}
	return sigv4.Credential{SecretAccessKey: secret, Principal: arn.Root("aws", account)}, nil
}

// root is a directory of the root alone.
func root(t testing.TB) *iam.Directory {
	t.Helper()
	d, err := iam.NewDirectory(iam.Options{Account: account, Root: iam.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// events keeps what audit is told.
type events struct {
	mu   sync.Mutex
	list []audit.Event
}

func (e *events) Record(_ context.Context, event audit.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

func (e *events) last(t *testing.T) audit.Event {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.list) == 0 {
		t.Fatal("audit was told nothing")
	}
	return e.list[len(e.list)-1]
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is a server's door with everything behind it, over the plain engine.
type world struct {
	t      testing.TB
	door   *gateway.Gateway
	server *httptest.Server
	audit  *events
	log    *lines
	box    *seal.Box
}

func newWorld(t testing.TB, change ...func(*gateway.Options)) *world {
	t.Helper()
	w := &world{t: t, audit: new(events), log: new(lines)}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	kms, err := localkms.Open(filepath.Join(t.TempDir(), "keyring"), account, region, rand.Reader, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := kms.GenerateDataKey(t.Context(), kms.OwnedKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.box = seal.NewBox(key.Derive("test"))
	engine := memory.New(memory.Options{Clock: time.Now, Rand: rand.Reader})
	if err := engine.Create(t.Context(), "system", key); err != nil {
		t.Fatal(err)
	}
	system, err := engine.Open(t.Context(), "system", key)
	if err != nil {
		t.Fatal(err)
	}
	queue := job.NewQueue(job.Options{System: system, Workers: 2, Clock: time.Now, Log: log, NewID: func() string { return strings.ToLower(rand.Text()) }})
	plane := datastore.New(datastore.Options{
		Partition: "aws", Region: region, Account: account, Engine: engine, System: system, Jobs: queue,
		Keyring: kms, OwnedKey: kms.OwnedKey(), Clock: time.Now, Random: rand.Reader, Log: log,
	})
	verifier, err := sigv4.New(sigv4.Config{Region: region, Service: "healthlake", Clock: time.Now, Keys: keys{}, MaxBody: gateway.MaxDataBody})
	if err != nil {
		t.Fatal(err)
	}
	o := gateway.Options{
		Verifier: verifier, Policy: root(t), Plane: plane, Data: &fhirapi.API{}, Sessions: w,
		Control: &awsapi.API{Plane: plane, Endpoint: func(id string) string { return w.base(id) + "/" }},
		Limiter: throttle.New(throttle.Limits{}), Recorder: w.audit, Metrics: gateway.NewMetrics(), Log: log,
		Clock: time.Now, Random: rand.Reader, PublicDiscovery: true,
	}
	for _, f := range change {
		f(&o)
	}
	w.door = gateway.New(o)
	if err := queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewServer(w.door)
	t.Cleanup(func() { w.server.Close(); queue.Stop(); plane.Close() })
	return w
}

func (w *world) base(id string) string { return w.server.URL + "/datastore/" + id + "/r4" }

// registry is R4's, shared: its tables are made once.
var registry = searchparam.NewRegistry()

// Session implements gateway.SessionMaker.
func (w *world) Session(lease *datastore.Lease, _ iam.Principal, touched func(audit.Target)) (*interaction.Session, error) {
	id := lease.Datastore.ID
	return &interaction.Session{
		StoreID: id, Store: lease.Store, Grant: search.Everything(), Registry: registry,
		Extractor: searchparam.NewExtractor(registry, lease.Store.HashKey(), w.base(id)+"/"), Base: w.base(id), Pages: w.box,
		Clock: time.Now, NewID: func() (string, error) { return arn.NewRequestID(rand.Reader) }, Touched: touched,
	}, nil
}

// request makes an unsigned request of a raw path.
func (w *world) request(method, path, body string, header ...string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// sign signs as AWS's clients do.
func (w *world) sign(r *http.Request, id, key string) *http.Request {
	w.t.Helper()
	body, err := r.GetBody()
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	err = v4.NewSigner().SignHTTP(w.t.Context(), aws.Credentials{AccessKeyID: id, SecretAccessKey: key}, r, hex.EncodeToString(sum[:]), "healthlake", region, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// reply is an answer, read.
type reply struct {
	status int
	header http.Header
	body   string
}

func (w *world) do(r *http.Request) reply {
	w.t.Helper()
	resp, err := w.server.Client().Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

// signed is a request that is signed as it should be.
func (w *world) signed(method, path, body string, header ...string) reply {
	w.t.Helper()
	return w.do(w.sign(w.request(method, path, body, header...), keyID, secret))
}

func control(operation string) []string {
	return []string{"X-Amz-Target", "HealthLake." + operation, "Content-Type", "application/x-amz-json-1.0"}
}

// active creates a store and waits for it.
func (w *world) active() string {
	w.t.Helper()
	return w.create(`{"DatastoreTypeVersion":"R4"}`)
}

// create is active for a CreateFHIRDatastore of the test's own.
func (w *world) create(request string) string {
	w.t.Helper()
	got := w.signed("POST", "/", request, control("CreateFHIRDatastore")...)
	var made struct{ DatastoreId string }
	if err := json.Unmarshal([]byte(got.body), &made); err != nil || got.status != 200 {
		w.t.Fatalf("%d %s", got.status, got.body)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		got = w.signed("POST", "/", `{"DatastoreId":"`+made.DatastoreId+`"}`, control("DescribeFHIRDatastore")...)
		if strings.Contains(got.body, `"DatastoreStatus":"ACTIVE"`) {
			return made.DatastoreId
		}
	}
	w.t.Fatalf("not ACTIVE: %s", got.body)
	return ""
}

const fhirJSON = "application/fhir+json"

func TestBothPlanesThroughTheDoor(t *testing.T) {
	w := newWorld(t)
	id := w.active()
	if e := w.audit.last(t); e.Action != "DescribeFHIRDatastore" || e.Datastore != id || e.Principal != arn.Root("aws", account) || e.Status != 200 || e.Denied != "" {
		t.Errorf("audit of describe: %+v", e)
	}
	if i := slices.IndexFunc(w.audit.list, func(e audit.Event) bool { return e.Action == "CreateFHIRDatastore" }); i < 0 || w.audit.list[i].Datastore != id {
		t.Errorf("audit of create does not name what was made: %+v", w.audit.list)
	}
	made := w.signed("POST", "/datastore/"+id+"/r4//Patient", `{"resourceType":"Patient","name":[{"family":"Zhivago"}]}`, "Content-Type", fhirJSON)
	if made.status != 201 || made.header.Get("x-amzn-RequestId") == "" {
		t.Fatalf("%d %v %s", made.status, made.header, made.body)
	}
	e := w.audit.last(t)
	if e.Action != "CreateResource" || e.Datastore != id || len(e.Resources) != 1 || e.Resources[0].Type != "Patient" || e.RequestID != made.header.Get("x-amzn-RequestId") || e.Source != "127.0.0.1" {
		t.Errorf("audit of create: %+v", e)
	}
	found := w.signed("GET", "/datastore/"+id+"/r4/Patient?family=zhivago&_format=json", "")
	if found.status != 200 || !strings.Contains(found.body, "Zhivago") {
		t.Errorf("%d %s", found.status, found.body)
	}
	metrics := w.do(w.request("GET", "/metrics", "")).body
	for _, want := range []string{
		`tarn_requests_total{action="CreateResource",plane="data",status="201",uri_type=""} 1`,
		`tarn_requests_total{action="SearchWithGet",plane="data",status="200",uri_type=""} 1`,
		`tarn_requests_total{action="CreateFHIRDatastore",plane="control",status="200",uri_type=""} 1`,
		"go_goroutines", "process_resident_memory_bytes",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s among the metrics", want)
		}
	}
}

// What patients are called, searched by or found under does not reach the log,
// nor the labels of metrics, nor audit beyond type and id.
func TestLogHoldsNoPatientData(t *testing.T) {
	w := newWorld(t)
	id := w.active()
	for _, path := range []string{"/Patient?family=Zhivago", "/Patient/Zhivago", "/Zhivago/1", "/Patient/1/$Zhivago", "/Patient/%5AZhivago"} {
		w.signed("GET", "/datastore/"+id+"/r4"+path, "")
	}
	w.signed("POST", "/datastore/"+id+"/r4/Patient", `{"resourceType":"Patient","Zhivago":[{"family":"Zhivago"}]`, "Content-Type", fhirJSON)
	w.signed("GET", "/datastore/Zhivago/r4/Patient", "")
	w.signed("POST", "/", `{"DatastoreId":"Zhivago"}`, control("DescribeFHIRDatastore")...)
	w.signed("POST", "/", `{}`, control("Zhivago")...)
	w.do(w.request("GET", "/Zhivago", ""))
	if log := w.log.String(); strings.Contains(log, "Zhivago") || strings.Count(log, "msg=request") < 9 {
		t.Errorf("the log:\n%s", log)
	}
	if metrics := w.do(w.request("GET", "/metrics", "")).body; strings.Contains(metrics, "Zhivago") {
		t.Error("the metrics name a patient")
	}
}

// denyAll is a policy under which nobody may do anything.
type denyAll struct{}

func (denyAll) Judge(context.Context, iam.Request) iam.Decision { return iam.Decision{} }

func TestRefusals(t *testing.T) {
	open := newWorld(t)
	id := open.active()
	r4 := "/datastore/" + id + "/r4"
	const absent = "/datastore/0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c/r4"
	describe := func() *http.Request {
		return open.request("POST", "/", `{"DatastoreId":"`+id+`"}`, control("DescribeFHIRDatastore")...)
	}
	read := func() *http.Request { return open.request("GET", r4+"/Patient/1", "") }
	for name, c := range map[string]struct {
		r      *http.Request
		status int
		code   string // __type, or issue.code
		denied string
	}{
		"control, unsigned":      {describe(), 403, "MissingAuthenticationTokenException", "missing credentials"},
		"control, unknown key":   {open.sign(describe(), "AKIANOBODY", secret), 403, "UnrecognizedClientException", "unknown credentials"},
		"control, wrong secret":  {open.sign(describe(), keyID, "guess"), 403, "InvalidSignatureException", "bad signature"},
		"control, bearer":        {withHeader(describe(), "Authorization", "Bearer abc"), 400, "IncompleteSignatureException", "incomplete signature"},
		"control, unknown op":    {open.sign(open.request("POST", "/", `{}`, control("Nothing")...), keyID, secret), 400, "UnknownOperationException", "unknown operation"},
		"control, stranger's op": {open.request("POST", "/", `{}`, control("Nothing")...), 403, "MissingAuthenticationTokenException", "missing credentials"},
		"control, media type":    {open.sign(open.request("POST", "/", `{}`, "X-Amz-Target", "HealthLake.ListFHIRDatastores"), keyID, secret), 415, "SerializationException", "unsupported media type"},
		"control, too large":     {open.sign(open.request("POST", "/", strings.Repeat(" ", awsapi.MaxBody+1), control("ListFHIRDatastores")...), keyID, secret), 413, "RequestEntityTooLargeException", "too large"},
		"control, absent":        {open.sign(open.request("POST", "/", `{"DatastoreId":"x"}`, control("DescribeFHIRDatastore")...), keyID, secret), 404, "ResourceNotFoundException", "not found"},

		"data, unsigned":     {read(), 401, "login", "missing credentials"},
		"data, unknown key":  {open.sign(read(), "AKIANOBODY", secret), 401, "login", "unknown credentials"},
		"data, wrong secret": {open.sign(read(), keyID, "guess"), 403, "security", "bad signature"},
		"data, bearer":       {withHeader(read(), "Authorization", "bearer abc"), 401, "login", "unknown credentials"},
		"data, bearer, meta": {withHeader(open.request("GET", r4+"/metadata", ""), "Authorization", "Bearer abc"), 401, "login", "unknown credentials"},
		"data, basic":        {withHeader(read(), "Authorization", "Basic YTpi"), 401, "security", "incomplete signature"},
		"data, absent":       {open.sign(read(), keyID, secret), 404, "not-found", "not found"},
		"data, no store":     {open.sign(open.request("GET", absent+"/Patient/1", ""), keyID, secret), 404, "not-found", "not found"},
		"data, odd store":    {open.sign(open.request("GET", "/datastore/Jane%20Doe/r4/Patient/1", ""), keyID, secret), 404, "not-found", "not found"},
		"data, stranger":     {open.request("GET", absent+"/Patient/1", ""), 401, "login", "missing credentials"},
		"data, not r4":       {open.sign(open.request("GET", "/datastore/"+id+"/r5/Patient/1", ""), keyID, secret), 404, "not-found", "not found"},
		"data, no id":        {open.sign(open.request("GET", "/datastore/", ""), keyID, secret), 404, "not-found", "not found"},
		"data, r40":          {open.sign(open.request("GET", "/datastore/"+id+"/r40/Patient", ""), keyID, secret), 404, "not-found", "not found"},
		"data, method":       {open.sign(open.request("PUT", r4+"/metadata", ""), keyID, secret), 405, "not-supported", "method not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			got := open.do(c.r)
			code := refusalCode(t, got)
			if got.status != c.status || code != c.code {
				t.Errorf("%d %s, want %d %s: %s", got.status, code, c.status, c.code, got.body)
			}
			if got.header.Get("x-amzn-RequestId") == "" {
				t.Error("no request id")
			}
			if (got.status == 401) != (got.header.Get("WWW-Authenticate") == "AWS4-HMAC-SHA256") {
				t.Errorf("%d with WWW-Authenticate %q", got.status, got.header.Get("WWW-Authenticate"))
			}
			e := open.audit.last(t)
			if e.RequestID != got.header.Get("x-amzn-RequestId") || e.Status != c.status || e.Denied != c.denied {
				t.Errorf("audit: %+v, want %s", e, c.denied)
			}
		})
	}
}

func withHeader(r *http.Request, name, value string) *http.Request {
	r.Header.Set(name, value)
	return r
}

// refusalCode is __type of an exception, or issue.code of an OperationOutcome.
func refusalCode(t *testing.T, r reply) string {
	t.Helper()
	var said struct {
		Type  string `json:"__type"`
		Issue []struct{ Code string }
	}
	if err := json.Unmarshal([]byte(r.body), &said); err != nil {
		t.Fatalf("%d %q: %v", r.status, r.body, err)
	}
	if len(said.Issue) > 0 {
		return said.Issue[0].Code
	}
	if said.Type != r.header.Get("X-Amzn-ErrorType") {
		t.Errorf("__type %s, header %s", said.Type, r.header.Get("X-Amzn-ErrorType"))
	}
	return said.Type
}

// A policy's no is told alike whether the store is there or not, and comes
// before anything is opened.
func TestPolicyIsAskedFirst(t *testing.T) {
	w := newWorld(t, func(o *gateway.Options) { o.Policy = denyAll{} })
	const id = "0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c"
	const name = "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/" + id
	for _, c := range []struct {
		got            reply
		code, resource string
	}{
		{w.signed("GET", "/datastore/"+id+"/r4/Patient/1", ""), "forbidden", "healthlake:ReadResource on resource: " + name},
		{w.signed("POST", "/", `{"DatastoreId":"`+id+`"}`, control("DeleteFHIRDatastore")...), "AccessDeniedException", "healthlake:DeleteFHIRDatastore on resource: " + name},
		{w.signed("POST", "/", `{"ResourceARN":"`+name+`","Tags":[]}`, control("TagResource")...), "AccessDeniedException", "healthlake:TagResource on resource: " + name},
		{w.signed("POST", "/", `{}`, control("ListFHIRDatastores")...), "AccessDeniedException", "healthlake:ListFHIRDatastores on resource: *"},
	} {
		if c.got.status != 403 || refusalCode(t, c.got) != c.code || !strings.Contains(c.got.body, c.resource) {
			t.Errorf("%d %s, want %s", c.got.status, c.got.body, c.resource)
		}
	}
}

func TestThrottling(t *testing.T) {
	slow := newWorld(t, func(o *gateway.Options) { o.Limiter = throttle.New(throttle.Limits{Control: 0.001, ControlBurst: 1}) })
	list := func() reply { return slow.signed("POST", "/", `{}`, control("ListFHIRDatastores")...) }
	if got := list(); got.status != 200 {
		t.Fatalf("within the burst: %d %s", got.status, got.body)
	}
	if got := list(); got.status != 429 || refusalCode(t, got) != "ThrottlingException" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
}

func TestDataPlaneThrottling(t *testing.T) {
	w := newWorld(t, func(o *gateway.Options) { o.Limiter = throttle.New(throttle.Limits{Store: 0.001, StoreBurst: 2}) })
	one, other := "/datastore/"+w.active()+"/r4/Patient/1", "/datastore/"+w.active()+"/r4/Patient/1"
	for range 2 {
		if got := w.signed("GET", one, ""); got.status != 404 {
			t.Fatalf("within the burst: %d %s", got.status, got.body)
		}
	}
	if got := w.signed("GET", one, ""); got.status != 429 || refusalCode(t, got) != "throttled" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if got := w.signed("GET", other, ""); got.status != 404 {
		t.Errorf("another store: %d %s", got.status, got.body)
	}
}

// Quotas hold per action, data store and account on both planes, each refused in
// its plane's form; what the policy denies takes nothing from them.
func TestQuotas(t *testing.T) {
	hour := throttle.Rate{Units: 1, Per: time.Hour}
	policy := new(deniesOne)
	w := newWorld(t, func(o *gateway.Options) {
		o.Policy = policy
		o.Limiter = throttle.New(throttle.Limits{Quotas: map[throttle.Key]throttle.Rate{
			{Name: "ListTagsForResource", Scope: throttle.PerStore}: hour, {Name: "SearchWithGet", Scope: throttle.PerStore}: hour,
			{Name: "Discovery", Scope: throttle.PerAccount}: hour, {Name: "writes", Scope: throttle.PerStore}: {Units: 6, Per: time.Hour},
		}})
	})
	one, other := w.active(), w.active()
	r4 := func(id string) string { return "/datastore/" + id + "/r4" }
	tags := func(id string) reply {
		return w.signed("POST", "/", `{"ResourceARN":"`+arn.Datastore("aws", region, account, id)+`"}`, control("ListTagsForResource")...)
	}
	refused := func(what string, got reply, code string) {
		t.Helper()
		if got.status != 429 || refusalCode(t, got) != code || got.header.Get("Retry-After") != "3600" {
			t.Errorf("%s: %d %v %s", what, got.status, got.header, got.body)
		}
	}
	taken := func(what string, got reply) {
		t.Helper()
		if got.status >= 300 {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	policy.deny("ListTagsForResource")
	tags(one)
	policy.deny("")
	taken("tags", tags(one))
	refused("tags again", tags(one), "ThrottlingException")
	taken("another store's tags", tags(other))
	taken("a search", w.signed("GET", r4(one)+"/Patient", ""))
	refused("a search again", w.signed("GET", r4(one)+"/Observation?_count=1", ""), "throttled")
	taken("a search of another store", w.signed("GET", r4(other)+"/Patient", ""))
	taken("a search by POST", w.signed("POST", r4(one)+"/Patient/_search", "", "Content-Type", "application/x-www-form-urlencoded"))
	w.do(w.request("GET", r4(one)+"/.well-known/smart-configuration", ""))
	if got := w.do(w.request("GET", r4(other)+"/.well-known/smart-configuration", "")); got.status != 429 {
		t.Errorf("discovery, for the account: %d %s", got.status, got.body)
	}
	// 2 units: over a kilobyte; 2: a transaction; 2: strong; and none is left.
	wide := `{"resourceType":"Patient","name":[{"family":"` + strings.Repeat("x", 1100) + `"}]}`
	taken("a wide write", w.signed("POST", r4(one)+"/Patient", wide, "Content-Type", fhirJSON))
	taken("a transaction", w.signed("POST", r4(one), `{"resourceType":"Bundle","type":"transaction"}`, "Content-Type", fhirJSON))
	taken("a strong write", w.signed("POST", r4(one)+"/Patient", `{"resourceType":"Patient"}`, "Content-Type", fhirJSON, "x-amz-fhir-history-consistency-level", "strong"))
	got := w.signed("POST", r4(one), `{"resourceType":"Bundle","type":"batch"}`, "Content-Type", fhirJSON)
	if got.status != 429 || got.header.Get("Retry-After") != "600" {
		t.Errorf("one unit more: %d %v %s", got.status, got.header, got.body)
	}
}

func TestDiscovery(t *testing.T) {
	for _, public := range []bool{true, false} {
		w := newWorld(t, func(o *gateway.Options) { o.PublicDiscovery = public })
		r4 := "/datastore/" + w.active() + "/r4"
		want := 200
		if !public {
			want = 401
		}
		for _, r := range []*http.Request{w.request("GET", r4+"/metadata", ""), w.request("HEAD", r4+"/metadata", ""), w.request("GET", r4+"//metadata", "")} {
			if got := w.do(r); got.status != want {
				t.Errorf("public %v: %s %s: %d %s", public, r.Method, r.URL.Path, got.status, got.body)
			}
		}
		if got := w.do(w.request("POST", r4+"/metadata", "")); got.status == 200 {
			t.Errorf("POST unsigned: %d", got.status)
		}
		if got := w.do(w.request("GET", r4+"/Patient", "")); got.status != 401 {
			t.Errorf("search unsigned: %d", got.status)
		}
		if got := w.signed("GET", r4+"/metadata", ""); got.status != 200 {
			t.Errorf("signed: %d %s", got.status, got.body)
		}
		if got := w.do(w.request("OPTIONS", r4+"/Patient", "", "Origin", "https://app", "Access-Control-Request-Method", "GET")); got.status >= 300 {
			t.Errorf("preflight: %d %s", got.status, got.body)
		}
	}
}

func TestOwnPages(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		ready  bool
		path   string
		status int
	}{
		{false, "/healthz", 200}, {false, "/readyz", 503}, {true, "/readyz", 200}, {true, "/healthz", 200},
		{false, "/readyz", 503}, {true, "/metrics", 200}, {true, "/", 404}, {true, "/anything", 404}, {true, "//", 404},
	} {
		w.door.Ready(c.ready)
		if got := w.do(w.request("GET", c.path, "")); got.status != c.status {
			t.Errorf("ready %v: %s: %d", c.ready, c.path, got.status)
		}
	}
	if len(w.audit.list) != 0 {
		t.Errorf("audit hears of %+v", w.audit.list)
	}
}

// A client in front of a proxy may send the absolute form (RFC 9112 3.2.2).
func TestAbsoluteForm(t *testing.T) {
	w := newWorld(t)
	for target, want := range map[string]int{
		"http://tarn.test/healthz": 200, "http://tarn.test/healthz?x=1": 200, "http://tarn.test": 404, "/healthz?http://x/y": 200,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RequestURI = target
		out := httptest.NewRecorder()
		w.door.ServeHTTP(out, r)
		if out.Code != want {
			t.Errorf("%s: %d, want %d", target, out.Code, want)
		}
	}
}

// asked is a policy that keeps what it was asked and says yes.
type asked struct {
	mu   sync.Mutex
	last iam.Request
}

func (a *asked) Judge(_ context.Context, r iam.Request) iam.Decision {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = r
	return iam.Decision{Outcome: iam.Allowed}
}

// Policies see the circumstances of a request, and the tags as they are now.
func TestPolicySeesTheRequest(t *testing.T) {
	policy := new(asked)
	w := newWorld(t, func(o *gateway.Options) { o.Policy = policy })
	id := w.active()
	name := "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/" + id
	expect := func(what, action string, tags, set map[string]string, keys []string) {
		t.Helper()
		policy.mu.Lock()
		defer policy.mu.Unlock()
		r := policy.last
		v := r.Values
		if r.Principal.ARN != arn.Root("aws", account) || r.Action != "healthlake:"+action || r.Resource != name {
			t.Errorf("%s: %+v", what, r)
		}
		if !maps.Equal(v.ResourceTags, tags) || !maps.Equal(v.RequestTags, set) || !slices.Equal(v.TagKeys, keys) {
			t.Errorf("%s: tags of the store %v, set %v, named %v", what, v.ResourceTags, v.RequestTags, v.TagKeys)
		}
		if v.SourceIP.String() != "127.0.0.1" || v.SecureTransport || v.UserAgent != "tester" || v.Region != region || time.Since(v.Time).Abs() > time.Minute {
			t.Errorf("%s: %+v", what, v)
		}
	}
	agent := []string{"User-Agent", "tester"}
	read := func() { w.signed("GET", "/datastore/"+id+"/r4/Patient/1", "", agent...) }
	read()
	expect("before", "ReadResource", nil, nil, nil)
	w.signed("POST", "/", `{"ResourceARN":"`+name+`","Tags":[{"Key":"team","Value":"a"}]}`, append(control("TagResource"), agent...)...)
	expect("tagging", "TagResource", nil, map[string]string{"team": "a"}, nil)
	read()
	expect("tagged", "ReadResource", map[string]string{"team": "a"}, nil, nil)
	w.signed("POST", "/", `{"ResourceARN":"`+name+`","TagKeys":["team"]}`, append(control("UntagResource"), agent...)...)
	expect("untagging", "UntagResource", map[string]string{"team": "a"}, nil, []string{"team"})
	read()
	expect("untagged", "ReadResource", nil, nil, nil)
}

// panics is a SessionMaker with a mistake in it.
type panics struct{}

func (panics) Session(*datastore.Lease, iam.Principal, func(audit.Target)) (*interaction.Session, error) {
	panic("a mistake")
}

func TestPanicIsAnswered(t *testing.T) {
	w := newWorld(t, func(o *gateway.Options) { o.Sessions = panics{} })
	got := w.signed("GET", "/datastore/"+w.active()+"/r4/Patient/1", "")
	if got.status != 500 || refusalCode(t, got) != "exception" || strings.Contains(got.body, "mistake") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if !strings.Contains(w.log.String(), "a mistake") || w.audit.last(t).Status != 500 {
		t.Errorf("log and audit do not know of it:\n%s", w.log)
	}
}

// A body without a length is held to the same bound.
func TestChunkedBodyIsBounded(t *testing.T) {
	w := newWorld(t)
	r := w.request("POST", "/", `{}`, control("ListFHIRDatastores")...)
	r = w.sign(r, keyID, secret)
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat(" ", awsapi.MaxBody+1))), -1
	if got := w.do(r); got.status != 413 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestNoRandomnessNoAnswer(t *testing.T) {
	w := newWorld(t, func(o *gateway.Options) { o.Random = strings.NewReader("") })
	if got := w.do(w.request("GET", "/healthz", "")); got.status != 500 {
		t.Errorf("%d", got.status)
	}
}
