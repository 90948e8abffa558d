package devidp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/tarn-fhir/tarn/internal/devidp"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/smart"
)

const endpoint = "https://tarn.example/datastore/d/r4/"

// idp is a running server with a browser that follows no redirects.
type idp struct {
	*httptest.Server
	t       *testing.T
	issuer  string
	browser *http.Client
	now     time.Time
}

func newIDP(t *testing.T) *idp {
	i := &idp{t: t, now: time.Now()}
	var server *devidp.Server
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { server.ServeHTTP(w, r) }))
	t.Cleanup(i.Close)
	i.issuer = i.URL + "/dev-idp"
	i.browser = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var err error
	server, err = devidp.New(devidp.Options{
		Issuer: i.issuer, Clock: func() time.Time { return i.now },
		Patients: func(_ context.Context, at, name string) ([]devidp.Patient, error) {
			if at != endpoint {
				return nil, fault.New(fault.NotFound, "test", "no data store")
			}
			return []devidp.Patient{{ID: "p1", Name: "Amal <Noor>"}}, nil
		},
		Endpoints: func(context.Context) ([]string, error) { return []string{endpoint}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// send gives status, body and Location.
func (i *idp) send(method, path string, form url.Values, header ...string) (int, string, *url.URL) {
	i.t.Helper()
	target := i.issuer + path
	var body io.Reader
	if method == "GET" && form != nil {
		target += "?" + form.Encode()
	} else if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(i.t.Context(), method, target, body)
	if err != nil {
		i.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	answer, err := i.browser.Do(r)
	if err != nil {
		i.t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	to, err := answer.Location()
	if err != nil {
		to = &url.URL{}
	}
	return answer.StatusCode, string(raw), to
}

// verifier is a PKCE verifier, and challenge its S256.
const verifier = "a-verifier-of-forty-three-characters-or-more-0123"

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func request(changes ...string) url.Values {
	form := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {"http://127.0.0.1:9/back?x=1"}, "scope": {"launch/patient patient/*.rs openid fhirUser offline_access"},
		"state": {"s1"}, "aud": {endpoint}, "code_challenge": {challenge()}, "code_challenge_method": {"S256"}, "nonce": {"n1"},
	}
	for n := 0; n < len(changes); n += 2 {
		form.Set(changes[n], changes[n+1])
	}
	return form
}

// tokens reads the answer of the token endpoint.
func (i *idp) tokens(form url.Values) (int, map[string]any) {
	i.t.Helper()
	status, body, _ := i.send("POST", "/token", form)
	var said map[string]any
	if err := json.Unmarshal([]byte(body), &said); err != nil {
		i.t.Fatalf("%d %s", status, body)
	}
	return status, said
}

func exchange(code string, changes ...string) url.Values {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {"http://127.0.0.1:9/back?x=1"}, "client_id": {"app"}, "code_verifier": {verifier}}
	for n := 0; n < len(changes); n += 2 {
		form.Set(changes[n], changes[n+1])
	}
	return form
}

// judge verifies an access token as a data store does.
func (i *idp) judge(token string) (*smart.Authorization, error) {
	i.t.Helper()
	authority, err := smart.New(smart.Options{Allow: []string{i.URL}, Clock: func() time.Time { return i.now }})
	if err != nil {
		i.t.Fatal(err)
	}
	_, metadata, _ := i.send("GET", "/.well-known/smart-configuration", nil)
	return authority.Authorize(i.t.Context(), smart.Store{ID: "d", Endpoint: endpoint, Strategy: smart.All, Metadata: metadata}, "ReadResource", token)
}

func TestStandaloneLaunch(t *testing.T) {
	i := newIDP(t)
	status, page, _ := i.send("GET", "/authorize", request())
	if status != 200 || !strings.Contains(page, "not use it with real patients") || !strings.Contains(page, `value="p1"`) || !strings.Contains(page, "Amal &lt;Noor&gt;") {
		t.Fatalf("the picker: %d %s", status, page)
	}
	status, _, to := i.send("POST", "/authorize", request("patient", "p1", "user", "Practitioner/x", "decision", "allow"))
	code := to.Query().Get("code")
	if status != 302 || code == "" || to.Query().Get("state") != "s1" || to.Query().Get("x") != "1" {
		t.Fatalf("%d %s", status, to)
	}
	status, said := i.tokens(exchange(code))
	if status != 200 || said["patient"] != "p1" || said["token_type"] != "Bearer" || said["id_token"] == nil {
		t.Fatalf("%d %v", status, said)
	}
	auth, err := i.judge(said["access_token"].(string))
	if err != nil || auth.Claims.Patient != "p1" || auth.Claims.FHIRUser != "Practitioner/x" || auth.Claims.ClientID != "app" {
		t.Errorf("%v %+v", err, auth)
	}
	if status, said := i.tokens(exchange(code)); status != 400 || said["error"] != "invalid_grant" {
		t.Errorf("a code twice: %d %v", status, said)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {said["refresh_token"].(string)}, "client_id": {"app"}}
	status, again := i.tokens(refresh)
	if status != 200 || again["patient"] != "p1" || again["refresh_token"] == said["refresh_token"] {
		t.Errorf("refresh: %d %v", status, again)
	}
	if status, said := i.tokens(refresh); status != 400 {
		t.Errorf("a refresh token twice: %d %v", status, said)
	}
	more := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {again["refresh_token"].(string)}, "client_id": {"app"}, "scope": {"user/*.cruds"}}
	if status, said := i.tokens(more); status != 400 || said["error"] != "invalid_scope" {
		t.Errorf("more than granted: %d %v", status, said)
	}
}

func TestEHRLaunch(t *testing.T) {
	i := newIDP(t)
	if status, page, _ := i.send("GET", "/launch", url.Values{"iss": {endpoint}}); status != 200 || !strings.Contains(page, `name="app"`) {
		t.Fatalf("%d %s", status, page)
	}
	_, _, to := i.send("POST", "/launch", url.Values{"iss": {endpoint}, "app": {"http://127.0.0.1:9/launch"}, "patient": {"p1"}, "decision": {"allow"}})
	if to.Query().Get("iss") != endpoint || to.Query().Get("launch") == "" {
		t.Fatalf("%s", to)
	}
	asked := request("launch", to.Query().Get("launch"), "scope", "launch patient/*.rs")
	_, _, back := i.send("GET", "/authorize", asked)
	status, said := i.tokens(exchange(back.Query().Get("code")))
	if status != 200 || said["patient"] != "p1" || said["refresh_token"] != nil || said["id_token"] != nil {
		t.Errorf("%d %v", status, said)
	}
	if _, _, back := i.send("GET", "/authorize", asked); back.Query().Get("error") != "invalid_request" {
		t.Errorf("a launch twice: %s", back)
	}
}

func TestWrongAuthorizations(t *testing.T) {
	i := newIDP(t)
	for name, c := range map[string]struct {
		form url.Values
		want string // error at the app; empty: told to the user
	}{
		"redirect elsewhere": {request("redirect_uri", "https://evil.example/"), ""},
		"redirect scheme":    {request("redirect_uri", "javascript:alert(1)"), ""},
		"no challenge":       {request("code_challenge", ""), "invalid_request"},
		"plain challenge":    {request("code_challenge_method", "plain"), "invalid_request"},
		"implicit":           {request("response_type", "token"), "unsupported_response_type"},
		"no audience":        {request("aud", ""), "invalid_request"},
		"system scope":       {request("scope", "system/*.rs"), "invalid_scope"},
		"no such launch":     {request("launch", "x"), "invalid_request"},
		"denied":             {request("decision", "deny"), "access_denied"},
	} {
		status, _, to := i.send("POST", "/authorize", c.form)
		if got := to.Query().Get("error"); got != c.want || to.Query().Get("code") != "" || c.want == "" && status != 400 {
			t.Errorf("%s: %d %s", name, status, to)
		}
	}
	if status, _, _ := i.send("GET", "/authorize", request("aud", "https://other.example/r4")); status != 400 {
		t.Errorf("an unknown data store: %d", status)
	}
	for name, changes := range map[string][]string{
		"verifier": {"code_verifier", "other"}, "redirect": {"redirect_uri", "http://127.0.0.1:9/"}, "client": {"client_id", "other"},
	} {
		_, _, to := i.send("POST", "/authorize", request("patient", "p1", "decision", "allow"))
		if status, said := i.tokens(exchange(to.Query().Get("code"), changes...)); status < 400 || said["access_token"] != nil {
			t.Errorf("another %s: %d %v", name, status, said)
		}
	}
	_, _, to := i.send("POST", "/authorize", request("patient", "p1", "decision", "allow"))
	i.now = i.now.Add(2 * time.Minute)
	if status, said := i.tokens(exchange(to.Query().Get("code"))); status != 400 {
		t.Errorf("an old code: %d %v", status, said)
	}
}

// Another site's page in the developer's browser gets nowhere.
func TestOtherSites(t *testing.T) {
	i := newIDP(t)
	for _, path := range []string{"/authorize", "/register", "/launch"} {
		if status, _, _ := i.send("POST", path, request("decision", "allow"), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); status != 403 {
			t.Errorf("%s: %d", path, status)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", i.issuer+"/authorize?"+request().Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example"
	answer, err := i.browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 403 {
		t.Errorf("another name: %d", answer.StatusCode)
	}
}

// backend is a registered backend service.
type backend struct {
	id  string
	key *ecdsa.PrivateKey
}

func (i *idp) backend() backend {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	public, err := jwk.Import(&key.PublicKey)
	if err != nil {
		i.t.Fatal(err)
	}
	if err := public.Set(jwk.KeyIDKey, "k1"); err != nil {
		i.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"client_name": "loader", "jwks": map[string]any{"keys": []jwk.Key{public}}})
	if err != nil {
		i.t.Fatal(err)
	}
	answer, err := http.Post(i.issuer+"/register", "application/json", strings.NewReader(string(body)))
	if err != nil {
		i.t.Fatal(err)
	}
	defer answer.Body.Close()
	var made struct {
		ID string `json:"client_id"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&made); err != nil || answer.StatusCode != 201 || made.ID == "" {
		i.t.Fatalf("%d %v", answer.StatusCode, err)
	}
	return backend{made.ID, key}
}

// assertion is the service's private_key_jwt, with changes.
func (b backend) assertion(i *idp, changes map[string]any) string {
	i.t.Helper()
	claims := map[string]any{"iss": b.id, "sub": b.id, "aud": i.issuer + "/token", "exp": i.now.Add(4 * time.Minute).Unix(), "jti": rand.Text()}
	for name, v := range changes {
		claims[name] = v
		if v == nil {
			delete(claims, name)
		}
	}
	token := jwt.New()
	for name, v := range claims {
		if err := token.Set(name, v); err != nil {
			i.t.Fatal(err)
		}
	}
	h := jws.NewHeaders()
	if err := h.Set(jws.KeyIDKey, "k1"); err != nil {
		i.t.Fatal(err)
	}
	signed, err := jwt.Sign(token, jwt.WithKey(jwa.ES384(), b.key, jws.WithProtectedHeaders(h)))
	if err != nil {
		i.t.Fatal(err)
	}
	return string(signed)
}

func credentials(assertion, scope string) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "scope": {scope}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	}
}

func TestBackendServices(t *testing.T) {
	i := newIDP(t)
	b := i.backend()
	once := b.assertion(i, nil)
	status, said := i.tokens(credentials(once, "system/*.rs"))
	if status != 200 || said["scope"] != "system/*.rs" {
		t.Fatalf("%d %v", status, said)
	}
	auth, err := i.judge(said["access_token"].(string))
	if err != nil || auth.Claims.ClientID != b.id || !slices.Equal(auth.Claims.Audience, []string{endpoint}) {
		t.Errorf("%v %+v", err, auth)
	}
	stranger := backend{b.id, i.backend().key}
	for name, form := range map[string]url.Values{
		"used before":   credentials(once, "system/*.rs"),
		"another key":   credentials(stranger.assertion(i, nil), "system/*.rs"),
		"another aud":   credentials(b.assertion(i, map[string]any{"aud": "https://other.example/token"}), "system/*.rs"),
		"another sub":   credentials(b.assertion(i, map[string]any{"sub": "x"}), "system/*.rs"),
		"expired":       credentials(b.assertion(i, map[string]any{"exp": i.now.Add(-time.Minute).Unix()}), "system/*.rs"),
		"too long":      credentials(b.assertion(i, map[string]any{"exp": i.now.Add(time.Hour).Unix()}), "system/*.rs"),
		"no jti":        credentials(b.assertion(i, map[string]any{"jti": nil}), "system/*.rs"),
		"no exp":        credentials(b.assertion(i, map[string]any{"exp": nil}), "system/*.rs"),
		"unknown":       credentials(backend{"x", b.key}.assertion(i, nil), "system/*.rs"),
		"nothing":       credentials("", "system/*.rs"),
		"nonsense":      credentials("a.b.c", "system/*.rs"),
		"patient scope": credentials(b.assertion(i, nil), "patient/*.rs"),
	} {
		if status, said := i.tokens(form); status < 400 || said["access_token"] != nil {
			t.Errorf("%s: %d %v", name, status, said)
		}
	}
}

// Memory is bounded, whoever asks how often.
func TestManyClients(t *testing.T) {
	i := newIDP(t)
	first := ""
	for n := range 1100 {
		answer, err := http.Post(i.issuer+"/register", "application/json", strings.NewReader(fmt.Sprintf(`{"redirect_uris":["https://app.example/%d"]}`, n)))
		if err != nil {
			t.Fatal(err)
		}
		var made struct {
			ID string `json:"client_id"`
		}
		if err := json.NewDecoder(answer.Body).Decode(&made); err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		i.now = i.now.Add(time.Second)
		if n == 0 {
			first = made.ID
		}
	}
	if status, _, _ := i.send("GET", "/authorize", request("client_id", first, "redirect_uri", "https://app.example/0")); status != 400 {
		t.Errorf("the first of many is still there: %d", status)
	}
}

func FuzzAssertion(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.")
	server, err := devidp.New(devidp.Options{Issuer: "http://h/dev-idp"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest("POST", "http://h/dev-idp/token", strings.NewReader(credentials(text, "system/*.rs").Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if w.Code < 400 {
			t.Errorf("%q gets %d", text, w.Code)
		}
	})
}
