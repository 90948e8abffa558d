package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/tarn-fhir/tarn/internal/gateway"
	"github.com/tarn-fhir/tarn/internal/smart"
)

// BenchmarkReads compares reads by signature with reads by a token that was
// verified before, bound to a patient or to nobody, through the same door.
func BenchmarkReads(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	public, err := jwk.Import(&key.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	keys, err := json.Marshal(map[string]any{"keys": []jwk.Key{public}})
	if err != nil {
		b.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(keys) }))
	defer issuer.Close()
	authority, err := smart.New(smart.Options{Allow: []string{issuer.URL}})
	if err != nil {
		b.Fatal(err)
	}
	var w *world
	w = newWorld(b, func(o *gateway.Options) {
		o.Bearers, o.Endpoint = authority, func(id string) string { return w.base(id) + "/" }
	})
	metadata := discoveryDocument[:len(discoveryDocument)-1] + `,"issuer":"` + issuer.URL + `","jwks_uri":"` + issuer.URL + `/keys"}`
	request, err := json.Marshal(map[string]any{"DatastoreTypeVersion": "R4", "IdentityProviderConfiguration": map[string]any{"AuthorizationStrategy": "SMART_ON_FHIR", "Metadata": metadata}})
	if err != nil {
		b.Fatal(err)
	}
	id := w.create(string(request))
	path := "/datastore/" + id + "/r4/Patient/a"
	w.signed("PUT", path, `{"resourceType":"Patient","id":"a"}`, "Content-Type", fhirJSON)
	bearer := func(scope string) *http.Request {
		claims, err := json.Marshal(map[string]any{
			"iss": issuer.URL, "aud": w.base(id) + "/", "exp": time.Now().Add(time.Hour).Unix(), "scope": scope, "patient": "a",
		})
		if err != nil {
			b.Fatal(err)
		}
		token, err := jws.Sign(claims, jws.WithKey(jwa.ES384(), key))
		if err != nil {
			b.Fatal(err)
		}
		return w.request("GET", path, "", "Authorization", "Bearer "+string(token))
	}
	for name, r := range map[string]*http.Request{
		"signed": w.sign(w.request("GET", path, ""), keyID, secret), "patient": bearer("patient/*.read launch/patient"), "system": bearer("system/*.*"),
	} {
		r.RequestURI, r.RemoteAddr, r.Host = r.URL.RequestURI(), "127.0.0.1:1", r.URL.Host
		b.Run(name, func(b *testing.B) {
			began := processorTime(b)
			for b.Loop() {
				answer := httptest.NewRecorder()
				again := r.Clone(b.Context())
				again.Body = http.NoBody
				w.door.ServeHTTP(answer, again)
				if answer.Code != http.StatusOK {
					b.Fatalf("%d %s", answer.Code, answer.Body)
				}
			}
			b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime is what the process has used, which a busy machine does not
// change.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
