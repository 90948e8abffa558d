package blackbox

import (
	"bufio"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

// A store that cannot be opened tells why where it is described, counts among the
// metrics, and leaves the others alone; mended, it is back.
func TestFaultyStore(t *testing.T) {
	t.Parallel()
	s := start(t)
	good, bad := s.store(nil), s.store(nil)
	for _, d := range []*datastore{good, bad} {
		d.fhir("PUT", "/Patient/p", `{"resourceType":"Patient","id":"p"}`).want(201)
	}
	s.must(s.Stop())
	note := filepath.Join(s.Data, "stores", bad.id, "QUARANTINE")
	s.must(os.WriteFile(note, []byte("2\nthe disk was on fire\n"), 0o600))
	s.restart()
	good.get("/Patient/p").want(200)
	bad.get("/Patient/p").want(503)
	cause := func() string {
		var answer struct {
			DatastoreProperties struct {
				ErrorCause struct{ ErrorMessage, ErrorCategory string }
			}
		}
		s.must(s.Control(t.Context(), "DescribeFHIRDatastore", map[string]any{"DatastoreId": bad.id}, &answer))
		return answer.DatastoreProperties.ErrorCause.ErrorMessage
	}
	if text := cause(); !strings.Contains(text, "quarantine") || strings.Contains(text, s.Data) {
		t.Errorf("DescribeFHIRDatastore says %q", text)
	}
	if text := s.metric("tarn_datastores_faulty"); text != "1" {
		t.Errorf("%q data stores are faulty", text)
	}
	good.fhir("PUT", "/Patient/q", `{"resourceType":"Patient","id":"q"}`).want(201)
	s.must(os.Remove(note))
	for deadline := time.Now().Add(patience); bad.get("/Patient/p").Status != 200; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the mended store does not come back")
		}
	}
	if text := cause(); text != "" {
		t.Errorf("mended, DescribeFHIRDatastore says %q", text)
	}
}

// metric is the value of one of the server's metrics.
func (s *server) metric(name string) string {
	s.t.Helper()
	answer, err := http.Get(s.url() + "/metrics")
	s.must(err)
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			return value
		}
	}
	return ""
}
