package blackbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// What an operator sets holds at once, for this store only, over restarts; what
// makes no sense is refused with the member's name.
func TestDatastoreSettings(t *testing.T) {
	t.Parallel()
	s := start(t)
	d, other := s.store(nil), s.store(nil)
	number := func(v any) string { return v.(json.Number).String() }
	shown := s.tarnOn("datastore", "settings", d.id)
	if got := number(dig(shown, "Effective", "MaxTransactionEntries")); got != "20000" || dig(shown, "Settings", "MaxTransactionEntries") != nil {
		t.Errorf("the defaults are %v", shown)
	}
	s.tarnOn("datastore", "settings", d.id, "--preset", "healthlake", "--set", "MultipleConditionalDelete=true")
	d.get("/Patient?_count=101").want(400)
	other.get("/Patient?_count=101").want(200)
	if got := d.get("/metadata").want(200).text("rest", 0, "resource", 0, "conditionalDelete"); got != "multiple" {
		t.Errorf("the statement says %q", got)
	}
	s.must(s.Kill())
	s.restart()
	d.get("/Patient?_count=101").want(400)

	file := filepath.Join(t.TempDir(), "settings.json")
	s.must(os.WriteFile(file, []byte(`{"RefuseLargeCount":null,"IgnoreUnknownParameters":true}`), 0o600))
	changed := s.tarnOn("datastore", "settings", d.id, "--file", file, "--set", "MaxBatchEntries=7", "--reset", "MaxResourceBytes")
	if dig(changed, "Settings", "RefuseLargeCount") != nil || dig(changed, "Settings", "MaxResourceBytes") != nil ||
		number(dig(changed, "Effective", "MaxBatchEntries")) != "7" || number(dig(changed, "Settings", "MaxTransactionEntries")) != "100" {
		t.Errorf("changed to %v", changed)
	}
	d.get("/Patient?_count=101&shoe=9").want(200)

	update := func(in map[string]any) error {
		return s.Control(t.Context(), "UpdateDatastoreSettings", in, &struct{}{})
	}
	for says, in := range map[string]map[string]any{
		"MaxBatchEntries":           {"DatastoreId": d.id, "Settings": map[string]any{"Shoes": 1}},
		"settings.maxBatchEntries":  {"DatastoreId": d.id, "Settings": map[string]any{"MaxBatchEntries": 20001}},
		"settings.MaxCount":         {"DatastoreId": d.id, "Settings": map[string]any{"MaxCount": "many"}},
		"settings.maxResourceBytes": {"DatastoreId": d.id, "Settings": map[string]any{"MaxResourceBytes": 12}},
		"preset":                    {"DatastoreId": d.id, "Preset": "AZURE"},
		"null without a preset":     {"DatastoreId": d.id},
	} {
		s.refused(update(in), 400, "ValidationException", says)
	}
	s.refused(update(map[string]any{"DatastoreId": "00000000000000000000000000000000", "Preset": "TARN"}), 404, "ResourceNotFoundException", "")
	if again := s.tarnOn("datastore", "settings", d.id); number(dig(again, "Effective", "MaxBatchEntries")) != "7" {
		t.Errorf("a refusal changed %v", again)
	}
}
