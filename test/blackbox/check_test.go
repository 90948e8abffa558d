package blackbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tarn check looks a store through beside the server and without it, and fails
// when a file was damaged.
func TestCheckCommand(t *testing.T) {
	t.Parallel()
	s := start(t, fewPatients(t)...)
	d := s.store(synthea)
	d.fhir("PUT", "/Patient/p", `{"resourceType":"Patient","id":"p"}`).want(201)
	d.fhir("PUT", "/Patient/p", `{"resourceType":"Patient","id":"p","active":true}`).want(200)
	s.program(tarn(t), "compact", d.id, "--endpoint", s.url(), "--data", s.Data)
	if out := s.program(tarn(t), "check", "--running", "--endpoint", s.url(), "--data", s.Data); !strings.Contains(out, d.id+": ") || !strings.Contains(out, " 0 problems") {
		t.Errorf("beside the server: %s", out)
	}
	if _, errOut, status := s.attempt(tarn(t), "check", "--data", s.Data); status != 1 || !strings.Contains(errOut, "stop it first") {
		t.Errorf("without --running: status %d, %s", status, errOut)
	}
	s.must(s.Stop())
	if out := s.program(tarn(t), "check", "--repair", "--data", s.Data); strings.Count(out, " 0 problems") != 2 {
		t.Errorf("without the server: %s", out)
	}
	tables, err := filepath.Glob(filepath.Join(s.Data, "stores", d.id, "db", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%v, %v", tables, err)
	}
	raw, err := os.ReadFile(tables[0])
	s.must(err)
	raw[100] ^= 1
	s.must(os.WriteFile(tables[0], raw, 0o600))
	out, _, status := s.attempt(tarn(t), "check", d.id, "--data", s.Data)
	if status != 1 || !strings.Contains(out, filepath.Base(tables[0])) && !strings.Contains(out, strings.TrimSuffix(filepath.Base(tables[0]), ".sst")) {
		t.Errorf("a damaged table: status %d, %s", status, out)
	}
}
