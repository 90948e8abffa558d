package smart

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/tarn-fhir/tarn/internal/fault"
)

var dependency = fault.FailedDependency.String()

// judgeOf verifies without memory of tokens, so that keys are asked each time.
func (i *issuer) judge(t *testing.T, a *Authority, alg, kid string) string {
	t.Helper()
	_, err := a.tenant(i.store()).judge.Verify(t.Context(), i.token(t, alg, kid, nil), Call{Endpoint: testEndpoint, Operation: read})
	return verdict(err)
}

// A new key is found when its first token comes, at most one fetch a minute; an
// old one counts until the set is renewed.
func TestRotation(t *testing.T) {
	i := newIssuer(t, "rsa")
	a := i.authority(t)
	steps := []struct {
		pass    time.Duration
		publish []string
		kid     string
		want    string
		fetches int64
	}{
		{0, nil, "rsa", "", 1},
		{0, []string{"rsa2"}, "rsa2", refused, 1}, // asked just now
		{refetchPause - 1, nil, "rsa2", refused, 1},
		{1, nil, "rsa2", "", 2},
		{0, nil, "rsa", refused, 2}, // gone with the renewal
		{refetchPause, nil, "rsa", refused, 3},
		{0, []string{"rsa", "rsa2"}, "rsa", refused, 3},
		{defaultKeyAge, nil, "rsa", "", 4},
		{defaultKeyAge - 1, nil, "rsa2", "", 4},
		{1, nil, "rsa2", "", 5},
	}
	for n, s := range steps {
		i.clock.pass(s.pass)
		if s.publish != nil {
			i.publish(t, s.publish...)
		}
		if got := i.judge(t, a, "RS256", s.kid); got != s.want || i.fetches.Load() != s.fetches {
			t.Fatalf("step %d: %q after %d fetches, want %q, %d", n, got, i.fetches.Load(), s.want, s.fetches)
		}
	}
}

// Strangers' key ids bring about no more than one fetch a minute.
func TestUnknownKeyIDsMakeNoTraffic(t *testing.T) {
	i := newIssuer(t, "rsa")
	a := i.authority(t)
	i.judge(t, a, "RS256", "rsa")
	i.clock.pass(refetchPause)
	for n := range 50 {
		token := sign(t, map[string]any{"alg": "RS256", "kid": fmt.Sprint(n)}, i.claims(nil), testKeys()["rsa2"])
		if _, err := a.Authorize(t.Context(), i.store(), read, token); verdict(err) != refused {
			t.Fatal(err)
		}
	}
	if n := i.fetches.Load(); n != 2 {
		t.Errorf("%d fetches", n)
	}
}

// An issuer that is down locks nobody out for a day; after it, or where keys
// never came, the judge cannot say, and asks again every few seconds.
func TestIssuerDown(t *testing.T) {
	i := newIssuer(t, "rsa")
	i.set(func() { i.status = http.StatusInternalServerError })
	a := i.authority(t)
	expect := func(pass time.Duration, want string, fetches int64) {
		t.Helper()
		i.clock.pass(pass)
		if got := i.judge(t, a, "RS256", "rsa"); got != want || i.fetches.Load() != fetches {
			t.Fatalf("%q after %d fetches, want %q, %d", got, i.fetches.Load(), want, fetches)
		}
	}
	expect(0, dependency, 1)
	expect(failurePause-1, dependency, 1)
	i.set(func() { i.status = http.StatusOK })
	expect(1, "", 2)
	i.set(func() { i.status = http.StatusInternalServerError })
	expect(defaultKeyAge, "", 3)
	expect(failurePause-1, "", 3)
	expect(maxStale-defaultKeyAge-failurePause+1, "", 4)
	expect(failurePause, dependency, 5)
	i.set(func() { i.status = http.StatusOK })
	expect(failurePause, "", 6)
}

// The issuer's Cache-Control is heeded within bounds.
func TestKeyAge(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   time.Duration
	}{
		{"", defaultKeyAge}, {"no-store", defaultKeyAge}, {"max-age=1", minKeyAge}, {"public, Max-Age=600", 10 * time.Minute},
		{"max-age=99999999", maxKeyAge}, {"max-age=x", defaultKeyAge}, {"max-age=-5", defaultKeyAge}, {"max-age=99999999999999999999", defaultKeyAge},
	} {
		if got := clampAge(maxAge(http.Header{"Cache-Control": {tt.header}})); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.header, got, tt.want)
		}
	}
}

// Many first tokens at once make one fetch.
func TestKeysAreFetchedOnce(t *testing.T) {
	i := newIssuer(t, "rsa")
	a, token := i.authority(t), i.token(t, "RS256", "rsa", nil)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, err := a.Authorize(t.Context(), i.store(), read, token); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := i.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// Who looked before the last fetch takes what it brought, whatever comes of it;
// who looked after it brings about the next.
func TestRenewalIsOfWhatWasSeen(t *testing.T) {
	i := newIssuer(t, "rsa")
	s := i.authority(t).keySet(metadata{Issuer: i.URL, JWKSURI: i.URL + "/keys"})
	renew := func(seen time.Time, keys int, fetches int64) {
		t.Helper()
		found, err := s.renew(t.Context(), seen)
		if len(found) != keys || (err == nil) != (keys > 0) || i.fetches.Load() != fetches {
			t.Fatalf("%d keys, %v, after %d fetches; want %d, %d", len(found), err, i.fetches.Load(), keys, fetches)
		}
	}
	i.set(func() { i.status = http.StatusInternalServerError })
	renew(time.Time{}, 0, 1)
	renew(time.Time{}, 0, 1)
	i.set(func() { i.status = http.StatusOK })
	failed := i.clock.Now()
	i.clock.pass(time.Minute)
	renew(failed, 1, 2)
	renew(failed, 1, 2)
	renew(i.clock.Now(), 1, 3)
}

// Keys that are not for checking signatures under an allowed algorithm are no
// keys.
func TestKeysThatAreNoKeys(t *testing.T) {
	private, err := jwk.Import(testKeys()["rsa"])
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(private)
	if err != nil {
		t.Fatal(err)
	}
	var secret map[string]any
	if err := json.Unmarshal(text, &secret); err != nil {
		t.Fatal(err)
	}
	with := func(id string, changes map[string]any) map[string]any {
		key := publicJWK(t, id)
		maps.Copy(key, changes)
		return key
	}
	large := base64.RawURLEncoding.EncodeToString(slices.Repeat([]byte{0xff}, maxRSABits/8+1))
	tests := []struct {
		name string
		key  map[string]any
		ok   bool
	}{
		{"RSA", with("rsa", nil), true},
		{"EC", with("p384", nil), true},
		{"for signatures", with("rsa", map[string]any{"use": "sig", "alg": "RS384"}), true},
		{"for encryption", with("rsa", map[string]any{"use": "enc"}), false},
		{"for another algorithm", with("rsa", map[string]any{"alg": "PS256"}), false},
		{"for encryption by alg", with("rsa", map[string]any{"alg": "RSA-OAEP"}), false},
		{"algorithm of another curve", with("p256", map[string]any{"alg": "ES384"}), false},
		{"a curve that is not taken", with("p521", nil), false},
		{"a shared secret", map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "x"}, false},
		{"a private key", secret, false},
		{"a short RSA key", with("rsa", map[string]any{"n": "AQAB"}), false},
		{"a giant RSA key", with("rsa", map[string]any{"n": large}), false},
		{"an unknown kind", map[string]any{"kty": "ZZZ", "kid": "x"}, false},
		{"a point off the curve", with("p256", map[string]any{"x": "AAAA", "y": "AAAA"}), false},
		{"no object", nil, false},
	}
	for _, tt := range tests {
		text, err := json.Marshal(map[string]any{"keys": []any{tt.key}})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := parseKeys(text)
		if tt.ok != (err == nil && len(keys) == 1) {
			t.Errorf("%s: %d keys, %v", tt.name, len(keys), err)
		}
	}
	many, err := json.Marshal(map[string]any{"keys": slices.Repeat([]any{publicJWK(t, "p256")}, maxKeys+10)})
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := parseKeys(many); err != nil || len(keys) != maxKeys {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

// A key that says its algorithm is used for no other, and one of two with the
// same id that fit is nobody's.
func TestPick(t *testing.T) {
	set := func(keys ...map[string]any) []verifyKey {
		text, err := json.Marshal(map[string]any{"keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parseKeys(text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	narrow := publicJWK(t, "rsa")
	narrow["alg"] = "RS384"
	twin := publicJWK(t, "rsa2")
	twin["kid"] = "rsa"
	for _, tt := range []struct {
		name    string
		keys    []verifyKey
		id, alg string
		want    bool
	}{
		{"the algorithm it says", set(narrow), "rsa", "RS384", true},
		{"another algorithm", set(narrow), "rsa", "RS256", false},
		{"two of one id", set(publicJWK(t, "rsa"), twin), "rsa", "RS256", false},
		{"two of one id, told apart by algorithm", set(narrow, twin), "rsa", "RS256", true},
		{"one of another kind", set(publicJWK(t, "rsa"), publicJWK(t, "p256")), "", "ES256", true},
	} {
		if _, got := pick(tt.keys, tt.id, tt.alg); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// Where the metadata names no keys, the issuer's discovery document does; it
// must be the issuer's own.
func TestDiscovery(t *testing.T) {
	tests := []struct {
		name, path, page string
		want             string
	}{
		{"OpenID Connect", "/.well-known/openid-configuration", `{"issuer":"{}","jwks_uri":"{}/keys"}`, ""},
		{"RFC 8414", "/.well-known/oauth-authorization-server", `{"issuer":"{}","jwks_uri":"{}/keys"}`, ""},
		{"another issuer's", "/.well-known/openid-configuration", `{"issuer":"https://evil.example","jwks_uri":"{}/keys"}`, dependency},
		{"no keys", "/.well-known/openid-configuration", `{"issuer":"{}"}`, dependency},
		{"keys elsewhere", "/.well-known/openid-configuration", `{"issuer":"{}","jwks_uri":"http://169.254.169.254/keys"}`, dependency},
		{"not JSON", "/.well-known/openid-configuration", `<html>`, dependency},
		{"none", "/x", "", dependency},
	}
	for _, tt := range tests {
		i := newIssuer(t, "rsa")
		i.set(func() { i.pages[tt.path] = strings.ReplaceAll(tt.page, "{}", i.URL) })
		s := i.store()
		s.Metadata = `{"issuer":"` + i.URL + `","capabilities":[]}`
		_, err := i.authority(t).Authorize(t.Context(), s, read, i.token(t, "RS256", "rsa", nil))
		if verdict(err) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	for _, id := range []string{"rsa", "p384"} {
		key, err := jwk.Import(testKeys()[id].Public())
		if err != nil {
			f.Fatal(err)
		}
		text, err := json.Marshal(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(`{"keys":[` + string(text) + `]}`))
	}
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"},{"kty":"EC","crv":"P-256"},7,null]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseKeys(text)
		if err == nil && (len(keys) == 0 || len(keys) > maxKeys) {
			t.Fatalf("%d keys", len(keys))
		}
		for _, k := range keys {
			if !k.fitsAny() {
				t.Fatalf("a key of no use: %+v", k)
			}
		}
	})
}
