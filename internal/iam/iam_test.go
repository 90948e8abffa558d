package iam

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

func TestLoadOrMakeKeepsTheKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials")
	made, err := LoadOrMake(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrMake(path)
	if err != nil || again != made {
		t.Fatalf("second start: %v %v, want the key of the first", again, err)
	}
	if len(made.AccessKeyID) != 20 || len(made.SecretAccessKey) != 40 {
		t.Errorf("sizes %d and %d, want AWS's 20 and 40", len(made.AccessKeyID), len(made.SecretAccessKey))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"readable by others": {"[tarn]\naws_access_key_id = a\naws_secret_access_key = b\n", 0o644},
		"no secret":          {"[tarn]\naws_access_key_id = a\n", 0o600},
		"another profile":    {"[default]\naws_access_key_id = a\naws_secret_access_key = b\n", 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "credentials")
			if err := os.WriteFile(path, []byte(file.text), file.mode); err != nil {
				t.Fatal(err)
			}
			if c, err := LoadOrMake(path); err == nil {
				t.Errorf("accepted: %v", c.AccessKeyID)
			}
		})
	}
}

// Without a file there is the root and nobody else.
func TestRootAlone(t *testing.T) {
	root := Credentials{AccessKeyID: "AKIAROOT", SecretAccessKey: "a secret of the root"}
	d, err := NewDirectory(Options{Account: "111122223333", Root: root, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who    Principal
		action string
		ok     bool
	}{
		{Principal{ARN: "arn:aws:iam::111122223333:root", AccessKeyID: "AKIAROOT"}, "healthlake:DeleteResource", true},
		{Anonymous, "healthlake:GetCapabilities", true},
		{Anonymous, "healthlake:ReadResource", false},
		{Principal{ARN: "arn:aws:iam::111122223333:user/eve"}, "healthlake:GetCapabilities", false},
	} {
		err := Authorize(t.Context(), d, Request{Principal: c.who, Action: c.action, Resource: "*"})
		if (err == nil) != c.ok || err != nil && !fault.Is(err, fault.Forbidden) {
			t.Errorf("%v %s: %v", c.who, c.action, err)
		}
	}
}
