package blackbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jwk"
)

// smart-fetch, a Bulk Data client of others, finds the token endpoint, gets tokens
// for its key, and completes an export of everything and one of a group.
func TestBulkDataClient(t *testing.T) {
	t.Parallel()
	client := filepath.Join(tool(t, "TARN_TEST_BULKDATA", "smart-fetch"), "smart-fetch")
	s := start(t, append(fewPatients(t), "--dev-idp")...)
	d := s.smartStore()
	id, private := s.backendService()
	key, err := jwk.Import(private)
	s.must(err)
	s.must(key.Set(jwk.KeyIDKey, serviceKey))
	s.must(key.Set(jwk.AlgorithmKey, "ES384"))
	s.must(key.Set(jwk.KeyOpsKey, jwk.KeyOperationList{jwk.KeyOpSign}))
	keys, err := json.Marshal(map[string]any{"keys": []jwk.Key{key}})
	s.must(err)
	file := filepath.Join(t.TempDir(), "keys.jwks")
	s.must(os.WriteFile(file, keys, 0o600))
	fetch := func(more ...string) map[string]int {
		t.Helper()
		out := t.TempDir()
		args := append([]string{"bulk", "--fhir-url", d.base(), "--smart-client-id", id, "--smart-key", file, "--no-compression", "--no-default-filters",
			"--type", "Patient,Condition,Encounter"}, more...)
		stdout, stderr, status := execute(t, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, "", client, append(args, out)...)
		if status != 0 {
			t.Fatalf("smart-fetch %v: %d\n%s\n%s\n%s", more, status, stdout, stderr, s.Log())
		}
		resources := map[string]int{}
		files, err := filepath.Glob(filepath.Join(out, "[A-Z]*.ndjson"))
		s.must(err)
		for _, name := range files {
			raw, err := os.ReadFile(name)
			s.must(err)
			d.countLines(raw, resources)
		}
		return resources
	}
	want := d.total("Patient") + d.total("Condition") + d.total("Encounter")
	d.wantOnce(fetch(), want)
	patient := dig(d.pages("Patient?_count=100")[0], "id").(string)
	d.fhir("PUT", "/Group/g", `{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/`+patient+`"}}]}`).want(201)
	of := 1 + d.total("Condition?patient="+patient) + d.total("Encounter?patient="+patient)
	d.wantOnce(fetch("--group", "g"), of)
}
