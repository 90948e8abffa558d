package sigv4_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/sigv4"
)

// The credentials of AWS's published signing examples.
const (
	exampleKey    = "AKIDEXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

const principal = "arn:aws:iam::111122223333:root"

// oneKey knows one access key.
type oneKey struct {
	id string
	sigv4.Credential
}

func (k oneKey) Secret(_ context.Context, id string) (sigv4.Credential, error) {
	if id != k.id {
		return sigv4.Credential{}, &fault.Error{Kind: fault.UnknownKey, Op: "oneKey.Secret"}
	}
	return k.Credential, nil
}

func exampleKeys() oneKey {
	return oneKey{exampleKey, sigv4.Credential{SecretAccessKey: exampleSecret, Principal: principal}}
}

// healthlake is the configuration of a server; tests change what they are about.
func healthlake(now time.Time) sigv4.Config {
	return sigv4.Config{
		Region: "us-east-1", Service: "healthlake",
		Clock: func() time.Time { return now },
		Keys:  exampleKeys(), MaxBody: 1 << 20,
	}
}

func mustNew(t testing.TB, config sigv4.Config) *sigv4.Verifier {
	t.Helper()
	v, err := sigv4.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRealClients verifies requests that were recorded from real clients, byte
// for byte but for headers that are not signed.
func TestRealClients(t *testing.T) {
	files, err := filepath.Glob("testdata/clients/*.http")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, recordings, _ := strings.Cut(string(text), "\n")
		for recording := range strings.SplitSeq(strings.TrimSuffix(recordings, "\n"), "\n=====\n") {
			line, _, _ := strings.Cut(recording, "\n")
			t.Run(filepath.Base(file)+" "+line, func(t *testing.T) {
				r, body := parseRequest(t, recording)
				who, err := mustNew(t, healthlake(recordedAt(t, r))).Verify(r, body)
				if err != nil {
					t.Fatal(err)
				}
				if who.AccessKeyID != exampleKey || who.Principal != principal {
					t.Errorf("signed by %+v", who)
				}
			})
		}
	}
}

func recordedAt(t *testing.T, r *http.Request) time.Time {
	t.Helper()
	stamp := r.Header.Get("X-Amz-Date")
	if stamp == "" {
		stamp = r.URL.Query().Get("X-Amz-Date")
	}
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
