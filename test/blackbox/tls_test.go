package blackbox

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// certify writes a self-signed certificate for names and its key.
func certify(t *testing.T, folder string, serial int64, names ...string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "tarn"}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: raw}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return cert, key, pool
}

// Over TLS with HTTP/2, under AWS's own names, with a certificate that changes
// while the server runs.
func TestTLS(t *testing.T) {
	t.Parallel()
	const control, transform = "healthlake.us-east-1.amazonaws.com", "datatransformation.healthlake.us-east-1.amazonaws.com"
	folder := t.TempDir()
	cert, key, pool := certify(t, folder, 1, control, transform)
	ctx, cancel := context.WithTimeout(t.Context(), activeTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, tarn(t), "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(folder, "data"), "--tls-cert", cert, "--tls-key", key)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = command.Process.Kill(); _ = command.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	_, at, found := strings.Cut(strings.TrimSpace(line), " answers at https://")
	if err != nil || !found {
		t.Fatalf("the server says %q, %v", line, err)
	}
	credentials, err := process.Credentials(filepath.Join(folder, "data", "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	// The client asks for AWS's name and is led here, as DNS would.
	client := func(name string, pool *x509.CertPool) *process.Client {
		c := process.NewClient("https://"+name, credentials)
		c.HTTP.Transport = &http.Transport{ForceAttemptHTTP2: true, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, at)
			}}
		return c
	}
	for _, name := range []string{control, transform} {
		request := process.Request{Method: "POST", URL: "https://" + name + "/", Body: []byte("{}"), Header: map[string]string{
			"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "HealthLake.ListFHIRDatastores"}}
		c := client(name, pool)
		signed, err := c.Sign(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.HTTP.Do(signed)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK || answer.ProtoMajor != 2 || answer.Header.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s: %s %s %v", name, answer.Proto, answer.Status, answer.Header)
		}
	}
	_, _, next := certify(t, folder, 2, control)
	await(t, "the new certificate", func() bool {
		_, err := client(control, next).List(ctx)
		return err == nil
	})
}

// tarn proxy signs for a tool that cannot, and not for web pages.
func TestProxy(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(nil)
	d.fhir("PUT", "/Patient/one", `{"resourceType":"Patient","id":"one"}`).want(201)
	command := exec.CommandContext(t.Context(), tarn(t), "proxy", "--listen", "127.0.0.1:0", "--endpoint", s.url(), "--data", s.Data)
	out, err := command.StdoutPipe()
	s.must(err)
	s.must(command.Start())
	defer func() { _ = command.Process.Kill(); _ = command.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	s.must(err)
	_, at, _ := strings.Cut(strings.TrimSpace(line), " answers at ")
	ask := func(method, path, body, origin string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, at+"/datastore/"+d.id+"/r4"+path, strings.NewReader(body))
		s.must(err)
		r.Header.Set("Content-Type", "application/fhir+json")
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		answer, err := s.HTTP.Do(r)
		s.must(err)
		answer.Body.Close()
		return answer.StatusCode
	}
	for _, c := range []struct {
		method, path, body, origin string
		status                     int
	}{
		{"GET", "/Patient/one", "", "", 200},
		{"GET", "/Patient?_id=one%7Ctwo&name=a+b", "", "", 200},
		{"POST", "/Patient", `{"resourceType":"Patient"}`, "", 201},
		{"GET", "/Patient/one", "", "https://evil.example", 403},
	} {
		if got := ask(c.method, c.path, c.body, c.origin); got != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, got, c.status)
		}
	}
	if _, errOut, status := s.attempt(tarn(t), "proxy", "--listen", "0.0.0.0:0", "--endpoint", s.url(), "--data", s.Data); status != 1 || !strings.Contains(errOut, "loopback") {
		t.Errorf("a proxy for everybody: %d %s", status, errOut)
	}
}
