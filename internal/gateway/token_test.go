package gateway_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/tarn-fhir/tarn/internal/gateway"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/smart"
	"github.com/tarn-fhir/tarn/internal/smart/awslambda"
	"github.com/tarn-fhir/tarn/internal/throttle"
)

const (
	tokenLambda = "arn:aws:lambda:us-east-1:111122223333:function:tokens"
	appRole     = "arn:aws:iam::111122223333:role/app"
	idleRole    = "arn:aws:iam::111122223333:role/idle" // known, and allowed nothing
)

// identities declares two roles: appRole may do everything but delete.
const identities = `
roles:
  - {arn: "` + appRole + `", policies: [app]}
  - {arn: "` + idleRole + `"}
policies:
  - name: app
    document: {Version: "2012-10-17", Statement: [
      {Effect: Allow, Action: "healthlake:*", Resource: "*"}, {Effect: Deny, Action: "healthlake:DeleteResource", Resource: "*"}]}
`

// people is a directory of the root and of identities.
func people(t *testing.T) *iam.Directory {
	t.Helper()
	file := filepath.Join(t.TempDir(), "iam.yaml")
	if err := os.WriteFile(file, []byte(identities), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := iam.NewDirectory(iam.Options{
		Account: account, Root: iam.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, File: file, Clock: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tokenFunction is a token Lambda behind a URL and behind the Invoke API: tokens
// are names of its answers.
type tokenFunction struct {
	*httptest.Server
	mu      sync.Mutex
	events  []map[string]string
	answers map[string]func(event map[string]string) any
}

func newTokenFunction(t *testing.T) *tokenFunction {
	f := &tokenFunction{answers: map[string]func(map[string]string) any{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *tokenFunction) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	var event map[string]string
	if err != nil || json.Unmarshal(raw, &event) != nil {
		http.Error(w, "no event", http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	f.events = append(f.events, event)
	answer := f.answers[event["bearerToken"]]
	f.mu.Unlock()
	if answer == nil {
		answer = func(map[string]string) any { return map[string]any{} }
	}
	switch said := answer(event).(type) {
	case int: // the function fails
		if strings.HasPrefix(r.URL.Path, "/2015-03-31/") {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
			said = http.StatusOK
		}
		w.WriteHeader(said)
	case string:
		io.WriteString(w, said)
	case time.Duration: // the function is slow
		select {
		case <-r.Context().Done():
		case <-time.After(said):
		}
	default:
		json.NewEncoder(w).Encode(said)
	}
}

// on sets what a token gets.
func (f *tokenFunction) on(token string, answer func(event map[string]string) any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[token] = answer
}

func (f *tokenFunction) seen() []map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events)
}

// allowed is the answer of a Lambda that lets a token in, with changes to its
// authPayload; a nil takes a member away.
func allowed(changes map[string]any) func(map[string]string) any {
	return allowedAs(appRole, changes)
}

func allowedAs(role string, changes map[string]any) func(map[string]string) any {
	return func(event map[string]string) any {
		now := time.Now()
		auth := map[string]any{
			"iss": "https://idp.example", "aud": event["datastoreEndpoint"], "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
			"isAuthorized": true, "uid": "u1", "scope": "patient/*.read launch/patient", "patient": "a", "sub": "s1", "client_id": "app-1",
		}
		maps.Copy(auth, changes)
		maps.DeleteFunc(auth, func(_ string, v any) bool { return v == nil })
		return map[string]any{"authPayload": auth, "iamRoleARN": role}
	}
}

// invokers are the two ways to a Lambda.
func invokers(f *tokenFunction) map[string]smart.Invoker {
	client := lambda.New(lambda.Options{
		Region: region, BaseEndpoint: aws.String(f.URL), Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "x", ""),
	})
	return map[string]smart.Invoker{
		"invoke": awslambda.New(client),
		"url":    &smart.HTTPInvoker{URLs: map[string]string{tokenLambda: f.URL}},
	}
}

func tokenWorld(t *testing.T, invoker smart.Invoker, change ...func(*gateway.Options)) *world {
	t.Helper()
	authority, err := smart.New(smart.Options{Invoker: invoker})
	if err != nil {
		t.Fatal(err)
	}
	known := people(t)
	var w *world
	w = newWorld(t, func(o *gateway.Options) {
		o.Bearers, o.Roles, o.Policy = authority, known, known
		o.Endpoint = func(id string) string { return w.base(id) + "/" }
		for _, f := range change {
			f(o)
		}
	})
	return w
}

const discoveryDocument = `{"authorization_endpoint":"https://idp.example/authorize","token_endpoint":"https://idp.example/token",` +
	`"grant_types_supported":["authorization_code"],"capabilities":["launch-standalone","permission-v1"],"code_challenge_methods_supported":["S256"]}`

// smartStore creates a SMART data store with two patients in it.
func (w *world) smartStore(strategy string) string {
	w.t.Helper()
	request, err := json.Marshal(map[string]any{"DatastoreTypeVersion": "R4", "IdentityProviderConfiguration": map[string]any{
		"AuthorizationStrategy": strategy, "IdpLambdaArn": tokenLambda, "Metadata": discoveryDocument,
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	id := w.create(string(request))
	for _, patient := range []string{"a", "b"} {
		w.signed("PUT", "/datastore/"+id+"/r4/Patient/"+patient, `{"resourceType":"Patient","id":"`+patient+`"}`, "Content-Type", fhirJSON)
	}
	return id
}

func (w *world) token(method, path, body, token string) reply {
	w.t.Helper()
	return w.do(w.request(method, path, body, "Authorization", "Bearer "+token, "Content-Type", fhirJSON))
}

// The contract of token Lambdas, over the wire, both ways: each outcome has its
// status and its outcome, and none is an open door.
func TestLambdaContract(t *testing.T) {
	t.Parallel()
	past, future := time.Now().Add(-time.Hour).Unix(), time.Now().Add(time.Hour).Unix()
	cases := map[string]struct {
		answer func(map[string]string) any
		status int
		code   string
	}{
		"allowed":               {allowed(nil), 200, ""},
		"allowed by text":       {allowed(map[string]any{"isAuthorized": "true"}), 200, ""},
		"allowed, least":        {allowed(map[string]any{"iss": nil, "iat": nil, "uid": nil, "sub": nil, "client_id": nil}), 200, ""},
		"refused":               {allowed(map[string]any{"isAuthorized": false}), 401, "login"},
		"refused by text":       {allowed(map[string]any{"isAuthorized": "false"}), 401, "login"},
		"not said":              {allowed(map[string]any{"isAuthorized": nil}), 401, "login"},
		"wrong audience":        {allowed(map[string]any{"aud": "https://other.example/datastore/x/r4/"}), 401, "login"},
		"no audience":           {allowed(map[string]any{"aud": nil}), 424, "transient"},
		"expired":               {allowed(map[string]any{"exp": past}), 401, "expired"},
		"not yet valid":         {allowed(map[string]any{"nbf": future}), 401, "login"},
		"no exp":                {allowed(map[string]any{"exp": nil}), 424, "transient"},
		"no nbf":                {allowed(map[string]any{"nbf": nil}), 424, "transient"},
		"no role":               {allowedAs("", nil), 424, "transient"},
		"unknown role":          {allowedAs("arn:aws:iam::111122223333:role/stranger", nil), 403, "forbidden"},
		"role without rights":   {allowedAs(idleRole, nil), 403, "forbidden"},
		"scope too small":       {allowed(map[string]any{"scope": "patient/Observation.read"}), 403, "forbidden"},
		"no scope":              {allowed(map[string]any{"scope": nil}), 403, "forbidden"},
		"no patient in context": {allowed(map[string]any{"patient": nil}), 403, "forbidden"},
		"V2 scope under V1":     {allowed(map[string]any{"scope": "patient/*.rs"}), 403, "forbidden"},
		"other patient":         {allowed(map[string]any{"patient": "b"}), 404, "not-found"},
		"nothing":               {func(map[string]string) any { return map[string]any{} }, 424, "transient"},
		"malformed":             {func(map[string]string) any { return `{"authPayload":` }, 424, "transient"},
		"an array":              {func(map[string]string) any { return `[true]` }, 424, "transient"},
		"failing":               {func(map[string]string) any { return http.StatusInternalServerError }, 424, "transient"},
		"slow":                  {func(map[string]string) any { return time.Minute }, 504, "timeout"},
	}
	f := newTokenFunction(t)
	for name, c := range cases {
		f.on(strings.ReplaceAll(name, " ", "_"), c.answer)
	}
	for way, invoker := range invokers(f) {
		w := tokenWorld(t, invoker)
		path := "/datastore/" + w.smartStore("SMART_ON_FHIR_V1") + "/r4/Patient/a"
		for name, c := range cases {
			t.Run(way+", "+name, func(t *testing.T) {
				got := w.token("GET", path, "", strings.ReplaceAll(name, " ", "_"))
				if got.status != c.status {
					t.Fatalf("%d, want %d: %s", got.status, c.status, got.body)
				}
				if c.status == 200 {
					return
				}
				if code := refusalCode(t, got); code != c.code {
					t.Errorf("code %s, want %s", code, c.code)
				}
				if strings.Contains(got.body, "Patient") && c.status != 404 {
					t.Errorf("the refusal shows %s", got.body)
				}
				challenge := strings.Join(got.header.Values("WWW-Authenticate"), ", ")
				want := map[int]string{401: `Bearer error="invalid_token", AWS4-HMAC-SHA256`, 403: `Bearer error="insufficient_scope"`}[c.status]
				if challenge != want {
					t.Errorf("WWW-Authenticate %q, want %q", challenge, want)
				}
			})
		}
	}
}

// The event names the store's endpoint, the IAM action and the token, and
// nothing else; each request asks.
func TestLambdaIsAskedForEachRequest(t *testing.T) {
	t.Parallel()
	f := newTokenFunction(t)
	f.on("t", allowed(map[string]any{"scope": "patient/*.* user/*.*"}))
	w := tokenWorld(t, &smart.HTTPInvoker{URLs: map[string]string{tokenLambda: f.URL}})
	id := w.smartStore("SMART_ON_FHIR")
	r4 := "/datastore/" + id + "/r4"
	for _, c := range []struct{ method, path, action string }{
		{"GET", "/Patient/a", "ReadResource"}, {"GET", "/Patient/a", "ReadResource"}, {"GET", "/Patient", "SearchWithGet"},
		{"GET", "/Patient/a/_history/1", "VersionReadResource"}, {"GET", "/_history", "GetFullHistory"},
		{"GET", "/Patient/a/$everything", "SearchEverything"}, {"DELETE", "/Patient/a", "DeleteResource"},
	} {
		before := len(f.seen())
		got := w.token(c.method, r4+c.path, "", "t")
		want := map[string]string{"datastoreEndpoint": w.base(id) + "/", "operationName": c.action, "bearerToken": "t"}
		if seen := f.seen(); len(seen) != before+1 || !maps.Equal(seen[before], want) {
			t.Errorf("%s: the function was given %v, want %v", c.path, seen[before:], want)
		}
		if (got.status == 403) != (c.action == "DeleteResource") { // which the role may not
			t.Errorf("%s %s: %d %s", c.method, c.path, got.status, got.body)
		}
		if e := w.audit.last(t); e.Principal != appRole || e.App == nil || e.App.Client != "app-1" || e.App.Subject != "s1" || e.App.Patient != "a" || e.Action != c.action {
			t.Errorf("audit: %+v %+v", e, e.App)
		}
	}
	got := w.token("POST", r4, `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"DELETE","url":"Patient/a"}}]}`, "t")
	if got.status != 200 || !strings.Contains(got.body, "403 Forbidden") {
		t.Errorf("a delete in a batch, which the role may not: %d %s", got.status, got.body)
	}
	if strings.Contains(w.log.String(), "bearerToken") {
		t.Error("the log shows a token")
	}
}

// A SMART store takes signatures too, one of AWS_AUTH takes no token, and a
// token of one store opens no other.
func TestWhoTakesTokens(t *testing.T) {
	t.Parallel()
	f := newTokenFunction(t)
	w := tokenWorld(t, &smart.HTTPInvoker{URLs: map[string]string{tokenLambda: f.URL}})
	id, other, plain := w.smartStore("SMART_ON_FHIR"), w.smartStore("SMART_ON_FHIR"), w.active()
	f.on("t", allowed(map[string]any{"aud": w.base(id) + "/"}))
	r4 := func(id string) string { return "/datastore/" + id + "/r4" }
	if got := w.signed("GET", r4(id)+"/Patient/b", ""); got.status != 200 {
		t.Errorf("a signed read: %d %s", got.status, got.body)
	}
	if got := w.token("GET", r4(id)+"/Patient/a", "", "t"); got.status != 200 {
		t.Errorf("a read: %d %s", got.status, got.body)
	}
	if got := w.token("GET", r4(other)+"/Patient/a", "", "t"); got.status != 401 {
		t.Errorf("another store: %d %s", got.status, got.body)
	}
	before := len(f.seen())
	if got := w.token("GET", r4(plain)+"/Patient/a", "", "t"); got.status != 401 || got.header.Get("WWW-Authenticate") != "AWS4-HMAC-SHA256" || len(f.seen()) != before {
		t.Errorf("a store without tokens: %d %v %s", got.status, got.header, got.body)
	}
	if got := w.do(w.request("GET", r4(id)+"/Patient/a", "")); got.status != 401 || !slices.Equal(got.header.Values("WWW-Authenticate"), []string{"Bearer", "AWS4-HMAC-SHA256"}) {
		t.Errorf("nobody: %d %v", got.status, got.header)
	}
	for path, status := range map[string]int{"/Patient/a/b/c/d": 404, "/Patient/b": 404} {
		if got := w.token("GET", r4(id)+path, "", "t"); got.status != status {
			t.Errorf("%s: %d, want %d: %s", path, got.status, status, got.body)
		}
	}
	if got := w.token("GET", "/datastore/0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c/r4/Patient/a", "", "t"); got.status != 404 {
		t.Errorf("no store: %d", got.status)
	}
}

// Discovery needs nobody's token: any origin may ask, and the capability
// statement names the same URIs as the discovery document.
func TestSMARTDiscovery(t *testing.T) {
	t.Parallel()
	f := newTokenFunction(t)
	w := tokenWorld(t, &smart.HTTPInvoker{URLs: map[string]string{tokenLambda: f.URL}})
	id, plain := w.smartStore("SMART_ON_FHIR"), w.active()
	got := w.do(w.request("GET", "/datastore/"+id+"/r4/.well-known/smart-configuration", ""))
	if got.status != 200 || got.body != discoveryDocument || got.header.Get("Access-Control-Allow-Origin") != "*" || !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
		t.Errorf("discovery: %d %v %s", got.status, got.header, got.body)
	}
	got = w.do(w.request("GET", "/datastore/"+id+"/r4/metadata", ""))
	for _, want := range []string{
		`{"url":"authorize","valueUri":"https://idp.example/authorize"}`, `{"url":"token","valueUri":"https://idp.example/token"}`,
		`"code":"SMART-on-FHIR"`, `"cors":true`, w.base(id) + `"`,
	} {
		if got.status != 200 || !strings.Contains(got.body, want) {
			t.Errorf("the capability statement lacks %s", want)
		}
	}
	if !json.Valid([]byte(got.body)) {
		t.Error("the capability statement is not JSON")
	}
	if got := w.do(w.request("GET", "/datastore/"+plain+"/r4/metadata", "")); strings.Contains(got.body, "SMART") || !json.Valid([]byte(got.body)) {
		t.Error("the statement of a store without SMART speaks of it")
	}
	if got := w.do(w.request("GET", "/datastore/"+plain+"/r4/.well-known/smart-configuration", "")); got.status != 404 {
		t.Errorf("a store without SMART: %d", got.status)
	}
	preflight := w.do(w.request("OPTIONS", "/datastore/"+id+"/r4/Patient/a", ""))
	if preflight.status != 204 || !strings.Contains(preflight.header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("preflight: %d %v", preflight.status, preflight.header)
	}
}

// An idempotency key belongs to the app that used it: another app's same key
// makes a resource of its own, and only the same one again is a duplicate.
func TestIdempotencyKeysOfApps(t *testing.T) {
	t.Parallel()
	f := newTokenFunction(t)
	for _, app := range []string{"one", "two"} {
		f.on(app, allowed(map[string]any{"scope": "patient/*.*", "client_id": app}))
	}
	w := tokenWorld(t, &smart.HTTPInvoker{URLs: map[string]string{tokenLambda: f.URL}})
	path := "/datastore/" + w.smartStore("SMART_ON_FHIR") + "/r4/Observation"
	const key, body = "6f1ad3f4-3d06-4c4d-93b7-aa4d4a4e5ef1", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/a"}}`
	for _, c := range []struct {
		app    string
		status int
	}{{"one", 201}, {"two", 201}, {"one", 409}, {"two", 409}} {
		got := w.do(w.request("POST", path, body, "Authorization", "Bearer "+c.app, "Content-Type", fhirJSON, "x-amz-fhir-idempotency-key", key))
		if got.status != c.status {
			t.Errorf("by %s: %d, want %d: %s", c.app, got.status, c.status, got.body)
		}
	}
}

// Whoever keeps sending tokens that are not accepted is held off before anybody
// is asked about them, in 429s of the data plane; expired ones do not count.
func TestTokenLockOut(t *testing.T) {
	t.Parallel()
	f := newTokenFunction(t)
	f.on("expired", allowed(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}))
	f.on("refused", allowed(map[string]any{"isAuthorized": false}))
	f.on("good", allowed(nil))
	w := tokenWorld(t, &smart.HTTPInvoker{URLs: map[string]string{tokenLambda: f.URL}}, func(o *gateway.Options) { o.Failures = throttle.NewFailures() })
	path := "/datastore/" + w.smartStore("SMART_ON_FHIR") + "/r4/Patient/a"
	const many = 60 // more than are borne of one token
	for range many {
		if got := w.token("GET", path, "", "expired"); got.status != 401 {
			t.Fatalf("expired: %d %s", got.status, got.body)
		}
	}
	for i := range many {
		got := w.token("GET", path, "", "refused")
		if got.status == 429 {
			if refusalCode(t, got) != "throttled" || got.header.Get("Retry-After") == "" {
				t.Errorf("%v %s", got.header, got.body)
			}
			break
		}
		if i == many-1 || got.status != 401 {
			t.Fatalf("%d after %d refusals", got.status, i)
		}
	}
	before := len(f.seen())
	if got := w.token("GET", path, "", "refused"); got.status != 429 || len(f.seen()) != before {
		t.Errorf("held off: %d, and the function was asked %d times", got.status, len(f.seen())-before)
	}
	if got := w.token("GET", path, "", "good"); got.status != 200 {
		t.Errorf("another token: %d %s", got.status, got.body)
	}
}
