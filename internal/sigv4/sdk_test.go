package sigv4_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/sigv4"
)

// awkwardTargets are request targets that FHIR clients send and signers differ
// on.
var awkwardTargets = []string{
	"/",
	"/datastore/x/r4/Patient",
	"/datastore/x/r4//Patient",
	"/datastore/x/r4/Patient/",
	"/datastore/x/r4/./Patient/../Observation",
	"/datastore/x/r4/Patient/1/$everything",
	"/datastore/x/r4/Patient/1/%24everything",
	"/datastore/x/r4/Patient/%E2%98%83",
	"/datastore/x/r4/Patient/a%2Fb",
	"/datastore/x/r4/Patient/a%20b",
	"/datastore/x/r4/Patient/a+b@c:d,e;f!(g)*'h'",
	"/datastore/x/r4/Patient?name=a%20b&name=B",
	"/datastore/x/r4/Patient?name=a+b",
	"/datastore/x/r4/Patient?_id=a,b",
	"/datastore/x/r4/Observation?code=http://loinc.org|1234-5",
	"/datastore/x/r4/Observation?code=http%3A%2F%2Floinc.org%7C1234-5",
	"/datastore/x/r4/Patient?page=QUJD==",
	"/datastore/x/r4/Patient?page=a%2Fb&page=a-b",
	"/datastore/x/r4/Patient?name:exact=a&name=b&name-x=c",
	"/datastore/x/r4/Patient?_lastUpdated=ge2020-01-01T00:00:00%2B01:00",
	"/datastore/x/r4/Patient?_summary",
	"/datastore/x/r4/Patient?=&a=",
	"/datastore/x/r4/Patient?name=%E2%98%83",
	"/datastore/x/r4/Patient?_has:Observation:patient:code=1234-5&_sort=-_lastUpdated",
}

// signedBy is how the test server answers: who signed, or why not.
func signedBy(v *sigv4.Verifier) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := v.ReadBody(r)
		if err == nil {
			var who *sigv4.Identity
			if who, err = v.Verify(r, body); err == nil {
				io.WriteString(w, who.AccessKeyID)
				return
			}
		}
		refusal := fault.From(err)
		w.WriteHeader(refusal.Kind.Row().AWSStatus)
		io.WriteString(w, refusal.Kind.Row().AWSType+": "+refusal.Message())
	}
}

var sdkNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// sdk is AWS's own signer for Go and a server that verifies.
type sdk struct {
	server      *httptest.Server
	signer      *v4.Signer
	credentials aws.Credentials
}

func newSDK(t *testing.T, config sigv4.Config, options ...func(*v4.SignerOptions)) *sdk {
	config.Debug = true
	server := httptest.NewServer(signedBy(mustNew(t, config)))
	t.Cleanup(server.Close)
	return &sdk{server, v4.NewSigner(options...), aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}}
}

func (s *sdk) request(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, s.server.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/fhir+json")
	}
	return r
}

func (s *sdk) sign(t *testing.T, r *http.Request, hash string) {
	t.Helper()
	if err := s.signer.SignHTTP(context.Background(), s.credentials, r, hash, "healthlake", "us-east-1", sdkNow); err != nil {
		t.Fatal(err)
	}
}

// expect sends r and holds the answer against a status.
func (s *sdk) expect(t *testing.T, r *http.Request, status int) string {
	t.Helper()
	answer, err := s.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != status {
		t.Errorf("%s %s: status %d, want %d: %s", r.Method, r.URL, answer.StatusCode, status, text)
	}
	return string(text)
}

func hashOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

func TestSDKSigner(t *testing.T) {
	escapes := map[string]func(*v4.SignerOptions){
		"paths escaped twice": func(*v4.SignerOptions) {},
		"paths escaped once":  func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true },
	}
	for name, option := range escapes {
		s := newSDK(t, healthlake(sdkNow), option)
		for _, target := range awkwardTargets {
			t.Run(name+" GET "+target, func(t *testing.T) {
				r := s.request(t, http.MethodGet, target, "")
				s.sign(t, r, hashOf(""))
				s.expect(t, r, http.StatusOK)
			})
			t.Run(name+" presigned "+target, func(t *testing.T) {
				s.expect(t, s.presign(t, s.request(t, http.MethodGet, target, ""), "600"), http.StatusOK)
			})
		}
	}
}

func (s *sdk) presign(t *testing.T, r *http.Request, expires string) *http.Request {
	t.Helper()
	query := r.URL.Query()
	if expires != "" {
		query.Set("X-Amz-Expires", expires)
	}
	r.URL.RawQuery = query.Encode()
	address, headers, err := s.signer.PresignHTTP(context.Background(), s.credentials, r, hashOf(""), "healthlake", "us-east-1", sdkNow)
	if err != nil {
		t.Fatal(err)
	}
	presigned, err := http.NewRequest(r.Method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	presigned.Header = headers
	return presigned
}

func TestSDKSignerBody(t *testing.T) {
	const body = `{"resourceType":"Patient"}`
	s := newSDK(t, healthlake(sdkNow))

	r := s.request(t, http.MethodPost, "/datastore/x/r4/Patient", body)
	s.sign(t, r, hashOf(body))
	s.expect(t, r, http.StatusOK)

	r = s.request(t, http.MethodPost, "/datastore/x/r4/Patient", body)
	r.Header.Set("X-Amz-Content-Sha256", hashOf(body))
	s.sign(t, r, hashOf(body))
	s.expect(t, r, http.StatusOK)

	r = s.request(t, http.MethodPost, "/datastore/x/r4/Patient", strings.ToUpper(body))
	r.Header.Set("X-Amz-Content-Sha256", hashOf(body))
	s.sign(t, r, hashOf(body))
	if text := s.expect(t, r, http.StatusForbidden); !strings.Contains(text, "'x-amz-content-sha256' header does not match") {
		t.Errorf("another body than was hashed: %s", text)
	}

	r = s.request(t, http.MethodPost, "/datastore/x/r4/Patient", strings.ToUpper(body))
	s.sign(t, r, hashOf(body))
	s.expect(t, r, http.StatusForbidden)
}

func TestSDKSignerUnsignedPayload(t *testing.T) {
	const body = `{"resourceType":"Patient"}`
	unsigned := func(s *sdk) *http.Request {
		r := s.request(t, http.MethodPost, "/datastore/x/r4/Patient", body)
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		s.sign(t, r, "UNSIGNED-PAYLOAD")
		return r
	}
	config := healthlake(sdkNow)
	s := newSDK(t, config)
	s.expect(t, unsigned(s), http.StatusForbidden)

	config.AllowUnsignedPayload = func(r *http.Request) bool { return strings.HasPrefix(r.RemoteAddr, "127.0.0.1:") }
	s = newSDK(t, config)
	s.expect(t, unsigned(s), http.StatusOK)

	r := unsigned(s)
	r.Header.Del("X-Amz-Content-Sha256")
	s.expect(t, r, http.StatusBadRequest) // named as signed, and gone
}

func TestSDKSignerSessionToken(t *testing.T) {
	config := healthlake(sdkNow)
	config.Keys = oneKey{exampleKey, sigv4.Credential{
		SecretAccessKey: exampleSecret, SessionToken: "to/ke+n==", Principal: principal, Expiry: sdkNow.Add(time.Hour),
	}}
	s := newSDK(t, config)
	for token, status := range map[string]int{"to/ke+n==": http.StatusOK, "other": http.StatusForbidden, "": http.StatusForbidden} {
		s.credentials.SessionToken = token
		r := s.request(t, http.MethodGet, "/datastore/x/r4/Patient", "")
		s.sign(t, r, hashOf(""))
		s.expect(t, r, status)
		s.expect(t, s.presign(t, s.request(t, http.MethodGet, "/datastore/x/r4/Patient?name=a", ""), "60"), status)
	}
}

// TestPresignedSearchIsWhatWasAsked checks that a presigned query, without the
// parameters of its signature, is the query it was made of.
func TestPresignedSearchIsWhatWasAsked(t *testing.T) {
	s := newSDK(t, healthlake(sdkNow))
	s.credentials.SessionToken = "token"
	for _, target := range awkwardTargets {
		r := s.request(t, http.MethodGet, target, "")
		want := r.URL.Query()
		presigned := s.presign(t, r, "60")
		got, err := url.ParseQuery(sigv4.WithoutAuth(presigned.URL.RawQuery))
		for _, values := range []url.Values{want, got} {
			for _, list := range values {
				slices.Sort(list) // the SDK sorts values when it presigns
			}
		}
		if err != nil || got.Encode() != want.Encode() {
			t.Errorf("%s: %v, %v; want %v", target, got, err, want)
		}
	}
}

// TestPresignedAsS3Does verifies what presigners made for S3 produce: a GET
// whose payload line says UNSIGNED-PAYLOAD, and nothing on the wire that tells.
func TestPresignedAsS3Does(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		config := healthlake(sdkNow)
		config.AllowUnsignedPayload = func(*http.Request) bool { return allowed }
		s := newSDK(t, config)
		r := s.request(t, http.MethodGet, "/datastore/x/r4/Patient?X-Amz-Expires=60", "")
		address, _, err := s.signer.PresignHTTP(context.Background(), s.credentials, r, "UNSIGNED-PAYLOAD", "healthlake", "us-east-1", sdkNow)
		if err != nil {
			t.Fatal(err)
		}
		for body, taken := range map[string]bool{"": allowed, "added": false} {
			status := http.StatusForbidden
			if taken {
				status = http.StatusOK
			}
			sent, err := http.NewRequest(http.MethodGet, address, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			s.expect(t, sent, status)
		}
	}
}

// TestVerifyConcurrently verifies with few signing keys and many goroutines.
func TestVerifyConcurrently(t *testing.T) {
	s := newSDK(t, healthlake(sdkNow))
	var group sync.WaitGroup
	for i := range 16 {
		r := s.request(t, http.MethodGet, awkwardTargets[i%len(awkwardTargets)], "")
		s.sign(t, r, hashOf(""))
		group.Go(func() {
			answer, err := s.server.Client().Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Errorf("%s: status %d", r.URL, answer.StatusCode)
			}
		})
	}
	group.Wait()
}
