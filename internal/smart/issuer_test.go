package smart

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
)

const testEndpoint = "https://tarn.example/datastore/d/r4/"

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// The keys of all tests: making one takes a while.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	keys := map[string]crypto.Signer{}
	for _, id := range []string{"rsa", "rsa2"} {
		keys[id], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	for id, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		keys[id], _ = ecdsa.GenerateKey(curve, rand.Reader)
	}
	return keys
})

// issuer is an identity provider.
type issuer struct {
	*httptest.Server
	clock   *clock
	fetches atomic.Int64 // of keys

	mu     sync.Mutex
	keys   []map[string]any
	status int
	header http.Header
	pages  map[string]string // further documents by path
}

func newIssuer(t testing.TB, keyIDs ...string) *issuer {
	t.Helper()
	i := &issuer{clock: newClock(), status: http.StatusOK, header: http.Header{}, pages: map[string]string{}}
	i.Server = httptest.NewServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.Close)
	i.publish(t, keyIDs...)
	return i
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if page, ok := i.pages[r.URL.Path]; ok {
		w.Write([]byte(page))
		return
	}
	if r.URL.Path != "/keys" {
		http.NotFound(w, r)
		return
	}
	i.fetches.Add(1)
	maps.Copy(w.Header(), i.header)
	w.WriteHeader(i.status)
	json.NewEncoder(w).Encode(map[string]any{"keys": i.keys})
}

// set changes the issuer between requests.
func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// publish makes the key set from these of testKeys.
func (i *issuer) publish(t testing.TB, ids ...string) {
	t.Helper()
	var keys []map[string]any
	for _, id := range ids {
		keys = append(keys, publicJWK(t, id))
	}
	i.set(func() { i.keys = keys })
}

func publicJWK(t testing.TB, id string) map[string]any {
	t.Helper()
	key, err := jwk.Import(testKeys()[id].Public())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	members["kid"] = id
	return members
}

// store is a data store whose tokens this issuer makes.
func (i *issuer) store() Store {
	metadata, _ := json.Marshal(map[string]any{
		"issuer": i.URL, "jwks_uri": i.URL + "/keys", "capabilities": []string{"permission-v2", "permission-v2.2"},
	})
	return Store{ID: "d", Endpoint: testEndpoint, Strategy: All, Metadata: string(metadata)}
}

func (i *issuer) authority(t testing.TB) *Authority {
	t.Helper()
	a, err := New(Options{Allow: []string{i.URL}, Clock: i.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// claims are those of a good token, with changes; a nil value takes one away.
func (i *issuer) claims(changes map[string]any) map[string]any {
	now := i.clock.Now()
	c := map[string]any{
		"iss": i.URL, "aud": testEndpoint, "sub": "s1", "client_id": "app", "scope": "patient/*.read launch/patient", "patient": "a",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// token signs claims with a key of testKeys.
func (i *issuer) token(t testing.TB, alg, kid string, changes map[string]any) string {
	t.Helper()
	return sign(t, map[string]any{"alg": alg, "kid": kid, "typ": "JWT"}, i.claims(changes), testKeys()[kid])
}

func encode(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// sign makes a compact JWS by hand, right or wrong as header and key are; a
// []byte signs with HMAC, nil not at all.
func sign(t testing.TB, header, claims map[string]any, key any) string {
	t.Helper()
	input := encode(t, header) + "." + encode(t, claims)
	alg, _ := header["alg"].(string)
	hash, sum := crypto.SHA256, sha256.Sum256([]byte(input))
	digest := sum[:]
	if alg == "RS384" || alg == "ES384" {
		wide := sha512.Sum384([]byte(input))
		hash, digest = crypto.SHA384, wide[:]
	}
	var signature []byte
	switch key := key.(type) {
	case nil:
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(input))
		signature = mac.Sum(nil)
	case *rsa.PrivateKey:
		signature, _ = rsa.SignPKCS1v15(rand.Reader, key, hash, digest)
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			t.Fatal(err)
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		signature = make([]byte, 2*size)
		r.FillBytes(signature[:size])
		s.FillBytes(signature[size:])
	default:
		t.Fatalf("no signature by %T", key)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}
