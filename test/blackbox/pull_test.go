package blackbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// bulkSource is a server that has an export: it wants a token, makes the export
// when asked to, and is not ready at the first look.
func bulkSource(t *testing.T, token string, files map[string]string) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var looks atomic.Int64
	var source *httptest.Server
	answer := func(w http.ResponseWriter, r *http.Request) {
		content, known := files[strings.TrimPrefix(r.URL.Path, "/files/")]
		switch {
		case r.Header.Get("Authorization") != "Bearer "+token:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/$export" && r.Header.Get("Prefer") == "respond-async":
			w.Header().Set("Content-Location", source.URL+"/status")
			w.WriteHeader(http.StatusAccepted)
		case r.URL.Path == "/status" && looks.Add(1) == 1:
			w.WriteHeader(http.StatusAccepted)
		case r.URL.Path == "/status" || r.URL.Path == "/manifest.json":
			output := []map[string]string{}
			for name := range files {
				output = append(output, map[string]string{"type": "Patient", "url": source.URL + "/files/" + name})
			}
			if err := json.NewEncoder(w).Encode(map[string]any{"output": output}); err != nil {
				t.Error(err)
			}
		case r.URL.Path == "/away":
			http.Redirect(w, r, "http://127.0.0.2:1/manifest.json", http.StatusFound)
		case known:
			fmt.Fprint(w, content)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}
	source = httptest.NewServer(http.HandlerFunc(answer))
	t.Cleanup(source.Close)
	return source, &looks
}

// $import fetches what a Bulk Data export made: by its manifest, by asking for the
// export, and by a list of files; and from nowhere that is not allowed.
func TestImportByManifest(t *testing.T) {
	t.Parallel()
	text, good, bad := ndjson("p", 2500)
	source, looks := bulkSource(t, "the-token", map[string]string{"a.ndjson": text, "b.ndjson": `{"resourceType":"Patient","id":"other"}`})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("the-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--import-from", source.URL+"="+token)
	ended := func(d *datastore, body string) *reply {
		t.Helper()
		poll := d.poll(d.fhir("POST", "/$import", body).want(202))
		return d.settle(poll, func(r *reply) bool { return r.Status != 202 }).want(200)
	}
	parameters := func(url, kind string) string {
		return `{"resourceType":"Parameters","parameter":[{"name":"exportUrl","valueUrl":"` + url + `"},{"name":"exportType","valueCode":"` + kind + `"}]}`
	}
	for name, body := range map[string]string{
		"static": parameters(source.URL+"/manifest.json", "static"), "dynamic": parameters(source.URL+"/$export", "dynamic"),
		"list": `{"inputFormat":"application/fhir+ndjson","input":[{"type":"Patient","url":"` + source.URL + `/files/a.ndjson"},{"type":"Patient","url":"` + source.URL + `/files/b.ndjson"}]}`,
	} {
		d := s.store(nil)
		r := ended(d, body)
		if r.text("jobStatus") != "COMPLETED_WITH_ERRORS" || fmt.Sprint(r.at("resourcesImported")) != fmt.Sprint(good+1) ||
			fmt.Sprint(r.at("resourcesRefused")) != fmt.Sprint(bad) || !strings.Contains(string(r.Body), "Invalid JSON found in input file") {
			t.Errorf("%s: %s", name, r.Body)
		}
		if n := d.total("Patient"); n != good+1 {
			t.Errorf("%s: %d patients, want %d", name, n, good+1)
		}
	}
	if looks.Load() < 2 {
		t.Errorf("the export was looked at %d times", looks.Load())
	}
	d := s.store(nil)
	d.fhir("POST", "/$import", parameters("http://127.0.0.2:1/manifest.json", "static")).want(403)
	d.fhir("POST", "/$import", parameters("file:///etc/passwd", "static")).want(400)
	d.fhir("POST", "/$import", parameters(source.URL+"/manifest.json", "often")).want(400)
	d.fhir("POST", "/$import", `{"input":[]}`).want(400)
	d.get("/import/" + strings.Repeat("0", 32)).want(404)
	for _, nowhere := range []string{"/away", "/nothing"} {
		if r := ended(d, parameters(source.URL+nowhere, "static")); r.text("jobStatus") != "FAILED" || r.text("message") == "" {
			t.Errorf("%s: %s", nowhere, r.Body)
		}
	}
}
