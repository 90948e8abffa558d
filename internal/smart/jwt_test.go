package smart

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

const read = "ReadResource"

// verdict is the name of an error's kind, "" for none.
func verdict(err error) string {
	if err == nil {
		return ""
	}
	return fault.From(err).Kind.String()
}

var (
	refused = fault.UnknownKey.String()
	expired = fault.ExpiredToken.String()
)

// A good token is taken under each algorithm, and its claims are those it says.
func TestGoodTokens(t *testing.T) {
	i := newIssuer(t, "rsa", "p256", "p384")
	for alg, kid := range map[string]string{"RS256": "rsa", "RS384": "rsa", "ES256": "p256", "ES384": "p384"} {
		auth, err := i.authority(t).Authorize(t.Context(), i.store(), read, i.token(t, alg, kid, nil))
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		c := auth.Claims
		if c.Subject != "s1" || c.ClientID != "app" || c.Patient != "a" || c.Issuer != i.URL || !c.Expires.Equal(i.clock.Now().Add(time.Hour)) ||
			c.RoleARN != "" || len(auth.Scopes.Resources) != 1 {
			t.Errorf("%s: claims %+v, scopes %+v", alg, c, auth.Scopes)
		}
	}
}

// What a token must say, and must not.
func TestTokenClaims(t *testing.T) {
	i := newIssuer(t, "rsa")
	now := i.clock.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	tests := []struct {
		name    string
		changes map[string]any
		want    string
	}{
		{"audience in a list", map[string]any{"aud": []string{"x", testEndpoint}}, ""},
		{"audience without slash", map[string]any{"aud": strings.TrimSuffix(testEndpoint, "/")}, ""},
		{"another audience", map[string]any{"aud": "https://tarn.example/datastore/e/r4/"}, refused},
		{"audience of a prefix", map[string]any{"aud": "https://tarn.example/datastore/d/"}, refused},
		{"no audience", map[string]any{"aud": nil}, refused},
		{"empty audience", map[string]any{"aud": []string{}}, refused},
		{"audience of a wrong kind", map[string]any{"aud": map[string]any{}}, refused},
		{"another issuer", map[string]any{"iss": "https://evil.example"}, refused},
		{"issuer with a slash", map[string]any{"iss": i.URL + "/"}, refused},
		{"no issuer", map[string]any{"iss": nil}, refused},
		{"expired", map[string]any{"exp": at(-Skew)}, expired},
		{"expired within the skew", map[string]any{"exp": at(-Skew + time.Second)}, ""},
		{"no expiry", map[string]any{"exp": nil}, refused},
		{"expiry is text", map[string]any{"exp": "tomorrow"}, refused},
		{"expiry beyond time", map[string]any{"exp": 1e300}, refused},
		{"negative expiry", map[string]any{"exp": -1}, refused},
		{"expiry with a fraction", map[string]any{"exp": float64(at(time.Minute)) + 0.5}, ""},
		{"not yet valid", map[string]any{"nbf": at(Skew + time.Second)}, refused},
		{"not yet valid within the skew", map[string]any{"nbf": at(Skew)}, ""},
		{"no nbf, no iat", map[string]any{"nbf": nil, "iat": nil}, ""},
		{"issued in the future", map[string]any{"iat": at(Skew + time.Second)}, refused},
		{"scope as a list", map[string]any{"scope": []string{"patient/*.read", "openid"}}, ""},
		{"scp instead of scope", map[string]any{"scope": nil, "scp": []string{"patient/*.read"}}, ""},
		{"scope of a wrong kind", map[string]any{"scope": 7}, refused},
		{"patient of a wrong kind", map[string]any{"patient": 7}, refused},
		{"foreign members", map[string]any{"isAuthorized": 5, "active": "x", "uid": 3, "cnf": map[string]any{"x": 1}}, ""},
	}
	for _, tt := range tests {
		_, err := i.authority(t).Authorize(t.Context(), i.store(), read, i.token(t, "RS256", "rsa", tt.changes))
		if verdict(err) != tt.want {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// The ways in which tokens were forged before.
func TestForgedTokens(t *testing.T) {
	i := newIssuer(t, "rsa", "p256", "p384")
	good := i.token(t, "RS256", "rsa", nil)
	parts := strings.Split(good, ".")
	public, err := x509.MarshalPKIXPublicKey(testKeys()["rsa"].Public())
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	modulus := testKeys()["rsa"].Public().(*rsa.PublicKey).N.Bytes()
	head := func(alg, kid string, more ...any) map[string]any {
		h := map[string]any{"alg": alg, "kid": kid, "typ": "JWT"}
		for n := 0; n < len(more); n += 2 {
			h[more[n].(string)] = more[n+1]
		}
		return h
	}
	claims := i.claims(nil)
	rsaKey, ecKey := testKeys()["rsa"], testKeys()["p256"]
	tokens := map[string]string{
		"no algorithm":           sign(t, head("none", "rsa"), claims, nil),
		"no algorithm, spelt":    sign(t, head("nOnE", "rsa"), claims, nil),
		"algorithm is missing":   sign(t, map[string]any{"kid": "rsa"}, claims, rsaKey),
		"shared secret: PEM":     sign(t, head("HS256", "rsa"), claims, text),
		"shared secret: DER":     sign(t, head("HS256", "rsa"), claims, public),
		"shared secret: modulus": sign(t, head("HS256", "rsa"), claims, modulus),
		"algorithm not allowed":  sign(t, head("RS512", "rsa"), claims, rsaKey),
		"PSS":                    sign(t, head("PS256", "rsa"), claims, rsaKey),
		"EC key as RSA":          sign(t, head("RS256", "p256"), claims, ecKey),
		"RSA key as EC":          sign(t, head("ES256", "rsa"), claims, rsaKey),
		"curve of the other":     sign(t, head("ES384", "p256"), claims, ecKey),
		"key of another":         sign(t, head("RS256", "rsa"), claims, testKeys()["rsa2"]),
		"unknown key":            sign(t, head("RS256", "other"), claims, testKeys()["rsa2"]),
		"key in the header":      sign(t, head("RS256", "other", "jwk", publicJWK(t, "rsa2")), claims, testKeys()["rsa2"]),
		"key behind a URL":       sign(t, head("RS256", "other", "jku", i.URL+"/evil"), claims, testKeys()["rsa2"]),
		"critical extension":     sign(t, head("RS256", "rsa", "crit", []string{"b64"}, "b64", false), claims, rsaKey),
		"another kind of token":  sign(t, head("RS256", "rsa", "typ", "logout+jwt"), claims, rsaKey),
		"a DPoP proof":           sign(t, head("RS256", "rsa", "typ", "dpop+jwt"), claims, rsaKey),
		"header is no object":    base64.RawURLEncoding.EncodeToString([]byte(`"x"`)) + "." + parts[1] + "." + parts[2],
		"header names alg twice": base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"rsa","alg":"none"}`)) + "." + parts[1] + "." + parts[2],
		"claims changed":         parts[0] + "." + encode(t, i.claims(map[string]any{"patient": "b"})) + "." + parts[2],
		"signature cut":          parts[0] + "." + parts[1] + ".",
		"signature of another":   parts[0] + "." + parts[1] + "." + strings.Split(i.token(t, "RS256", "rsa", map[string]any{"sub": "x"}), ".")[2],
		"zero signature":         sign(t, head("ES256", "p256"), claims, nil) + strings.Repeat("A", 86),
		"two parts":              parts[0] + "." + parts[1],
		"five parts (encrypted)": good + ".x.y",
		"padded":                 parts[0] + "=." + parts[1] + "." + parts[2],
		"JSON serialization":     `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"opaque":                 "abcdef",
		"empty":                  "",
		"too long":               good + strings.Repeat("A", MaxTokenBytes),
		"leading blank":          " " + good,
		"claims are no object":   sign2(t, head("RS256", "rsa"), `[]`, rsaKey),
		"claims name exp twice":  sign2(t, head("RS256", "rsa"), `{"exp":1,"exp":9999999999}`, rsaKey),
		"claims are not UTF-8":   sign2(t, head("RS256", "rsa"), "{\"iss\":\"\xff\"}", rsaKey),
	}
	a := i.authority(t)
	if _, err := a.Authorize(t.Context(), i.store(), read, good); err != nil {
		t.Fatal(err)
	}
	for name, token := range tokens {
		if _, err := a.Authorize(t.Context(), i.store(), read, token); verdict(err) != refused {
			t.Errorf("%s: %v", name, err)
		} else if token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("%s: the error shows the token: %v", name, err)
		}
	}
}

// sign2 signs claims given as text.
func sign2(t *testing.T, header map[string]any, claims string, key any) string {
	t.Helper()
	// A valid signature would be needed only behind the check this is about.
	token := sign(t, header, map[string]any{}, key)
	parts := strings.Split(token, ".")
	return parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + parts[2]
}

// A token without kid is taken where only one key can be meant.
func TestTokenWithoutKeyID(t *testing.T) {
	i := newIssuer(t, "rsa", "p256")
	head := map[string]any{"alg": "RS256"}
	token := sign(t, head, i.claims(nil), testKeys()["rsa"])
	if _, err := i.authority(t).Authorize(t.Context(), i.store(), read, token); err != nil {
		t.Error(err)
	}
	i.publish(t, "rsa", "rsa2")
	if _, err := i.authority(t).Authorize(t.Context(), i.store(), read, token); verdict(err) != refused {
		t.Errorf("with two keys: %v", err)
	}
}

// cold measures one check of a token that was never seen.
func cold(b *testing.B, alg, kid string) {
	i := newIssuer(b, "rsa", "p256", "p384")
	token := i.token(b, alg, kid, nil)
	judge := i.authority(b).tenant(i.store()).judge
	call := Call{Endpoint: testEndpoint, Operation: read}
	if _, err := judge.Verify(context.Background(), token, call); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := judge.Verify(context.Background(), token, call); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkColdRS256(b *testing.B) { cold(b, "RS256", "rsa") }
func BenchmarkColdRS384(b *testing.B) { cold(b, "RS384", "rsa") }
func BenchmarkColdES256(b *testing.B) { cold(b, "ES256", "p256") }
func BenchmarkColdES384(b *testing.B) { cold(b, "ES384", "p384") }

// BenchmarkWarm is what each further request with the same token costs, its
// Grant included.
func BenchmarkWarm(b *testing.B) {
	i := newIssuer(b, "p384")
	token, a, store := i.token(b, "ES384", "p384", nil), i.authority(b), i.store()
	b.ReportAllocs()
	for b.Loop() {
		auth, err := a.Authorize(context.Background(), store, read, token)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := auth.Permit(testWorld, read, "Observation"); err != nil {
			b.Fatal(err)
		}
	}
}

// Whatever claims say, they are read or refused, and dates stay within time.
func FuzzParsePayload(f *testing.F) {
	f.Add([]byte(`{"iss":"x","aud":["a","b"],"exp":1.5,"scope":"a b","isAuthorized":"true","uid":null,"patient":"p"}`))
	f.Add([]byte(`{"aud":null,"exp":1e400,"isAuthorized":{"true":true}}`))
	f.Add([]byte(`{"exp":-0,"nbf":253402300799,"scp":[[]],"active":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parsePayload(text)
		if err != nil {
			return
		}
		c := p.claims()
		for _, at := range []time.Time{c.Expires, c.NotBefore, c.IssuedAt} {
			if !at.IsZero() && (at.Year() < 1969 || at.Year() > 10000) {
				t.Fatalf("%s gives %v", text, at)
			}
		}
	})
}

func FuzzSplitJWT(f *testing.F) {
	f.Add("eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.e30.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		h, _, err := splitJWT(token)
		if err == nil && (!strings.HasPrefix(h.Algorithm, "RS") && !strings.HasPrefix(h.Algorithm, "ES") || len(h.Critical) > 0) {
			t.Fatalf("%q has header %+v", token, h)
		}
	})
}
