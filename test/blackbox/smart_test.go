package blackbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

// outside sends an unsigned request and gives status and body.
func (s *server) outside(method, address, body string, headers ...string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, address, strings.NewReader(body))
	s.must(err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	s.must(err)
	raw, err := io.ReadAll(answer.Body)
	s.must(err)
	s.must(answer.Body.Close())
	return answer.StatusCode, string(raw)
}

// smartStore is a data store with patients whose tokens the development
// authorization server makes.
func (s *server) smartStore() *datastore {
	s.t.Helper()
	status, metadata := s.outside("GET", s.url()+"/dev-idp/.well-known/smart-configuration", "")
	if status != 200 {
		s.t.Fatalf("no metadata: %d %s", status, metadata)
	}
	members := map[string]any{"IdentityProviderConfiguration": map[string]any{"AuthorizationStrategy": "SMART_ON_FHIR", "Metadata": metadata}}
	for name, value := range synthea {
		members[name] = value
	}
	return s.store(members)
}

// A real SMART app, fhirclient in Chromium, completes a standalone launch and
// shows the patient that was picked: testdata/smart_scene.mjs.
func TestSMARTAppInABrowser(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		lacking(t, "chromium is not installed: `make browser` installs it")
	}
	if _, err := os.Stat(filepath.Join(nodeModules(t), "node_modules", "playwright-core")); err != nil {
		lacking(t, "playwright-core is not installed: `make clients` installs it")
	}
	s := start(t, append(fewPatients(t), "--dev-idp")...)
	t.Setenv("SMART_ISS", s.smartStore().base()+"/")
	t.Setenv("SMART_BROWSER", browser)
	wantDone(t, s.script("testdata/smart_scene.mjs"))
}

// A backend service registers its key, gets a token for its assertion, and
// searches the whole data store; a token is not read where it does not belong.
func TestBackendService(t *testing.T) {
	t.Parallel()
	trail := filepath.Join(t.TempDir(), "audit.jsonl")
	s := start(t, append(fewPatients(t), "--dev-idp", "--log-level", "debug", "--audit-file", trail)...)
	d, plain := s.smartStore(), s.store(nil)
	client, key := s.backendService()
	token := s.backendToken(client, key, "system/*.rs")
	search := func(d *datastore, query string) (int, string) {
		return s.outside("GET", d.base()+"/"+query, "", "Authorization", "Bearer "+token)
	}
	status, body := search(d, "Patient?_summary=count")
	if status != 200 || dig(parse(t, []byte(body)), "total") == json.Number("0") {
		t.Errorf("the search: %d %s", status, body)
	}
	if want := d.total("Patient"); dig(parse(t, []byte(body)), "total") != json.Number(jsonNumber(want)) {
		t.Errorf("the search finds %s, signed it finds %d", body, want)
	}
	if status, body := s.outside("DELETE", d.base()+"/Patient/x", "", "Authorization", "Bearer "+token); status != 403 {
		t.Errorf("a delete beyond the scope: %d %s", status, body)
	}
	if status, body := search(plain, "Patient"); status != 401 {
		t.Errorf("a store without tokens: %d %s", status, body)
	}
	if status, body := s.outside("GET", d.base()+"/Patient", "", "Authorization", "Bearer "+token+"x"); status != 401 {
		t.Errorf("a spoilt token: %d %s", status, body)
	}
	records, text := s.auditLines(trail)
	if _, signature, _ := strings.Cut(token, "."); strings.Contains(s.Log()+text, signature) {
		t.Error("the log or the audit file shows a token")
	}
	if !slices.ContainsFunc(records, func(r auditRecord) bool {
		return r.UserIdentity.Type == "WebIdentityUser" && r.EventName == "DeleteResource" && r.AdditionalEventData.HTTPStatus == 403
	}) {
		t.Errorf("no record of the delete beyond the scope: %s", text)
	}
}

func jsonNumber(n int) string {
	raw, err := json.Marshal(n)
	if err != nil {
		return ""
	}
	return string(raw)
}

// serviceKey names the backend service's key.
const serviceKey = "k1"

// backendService registers a client of the development authorization server with
// a new key.
func (s *server) backendService() (client string, key *ecdsa.PrivateKey) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	s.must(err)
	public, err := jwk.Import(&key.PublicKey)
	s.must(err)
	s.must(public.Set(jwk.KeyIDKey, serviceKey))
	registration, err := json.Marshal(map[string]any{"client_name": "nightly", "jwks": map[string]any{"keys": []jwk.Key{public}}})
	s.must(err)
	status, body := s.outside("POST", s.url()+"/dev-idp/register", string(registration), "Content-Type", "application/json")
	if status != 201 {
		s.t.Fatalf("registration: %d %s", status, body)
	}
	client, _ = dig(parse(s.t, []byte(body)), "client_id").(string)
	return client, key
}

// backendToken asks for a token by private_key_jwt.
func (s *server) backendToken(client string, key *ecdsa.PrivateKey, scope string) string {
	s.t.Helper()
	endpoint := s.url() + "/dev-idp/token"
	claims, err := jwt.NewBuilder().Issuer(client).Subject(client).Audience([]string{endpoint}).JwtID(rand.Text()).Expiration(time.Now().Add(4 * time.Minute)).Build()
	s.must(err)
	header := jws.NewHeaders()
	s.must(header.Set(jws.KeyIDKey, serviceKey))
	assertion, err := jwt.Sign(claims, jwt.WithKey(jwa.ES384(), key, jws.WithProtectedHeaders(header)))
	s.must(err)
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {scope}, "client_assertion": {string(assertion)},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	}
	status, body := s.outside("POST", endpoint, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	token, _ := dig(parse(s.t, []byte(body)), "access_token").(string)
	if status != 200 || token == "" {
		s.t.Fatalf("no token: %d %s", status, body)
	}
	return token
}
