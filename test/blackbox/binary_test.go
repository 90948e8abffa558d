package blackbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
)

// A Binary larger than any request may write comes by import, and is read in
// every form.
func TestLargeBinary(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	content := make([]byte, 52<<20) // more than 64 MiB as JSON
	for at, block := 0, sha256.Sum256([]byte("a large one")); at < len(content); block = sha256.Sum256(block[:]) {
		at += copy(content[at:], block[:])
	}
	line := []byte(`{"resourceType":"Binary","id":"large","contentType":"application/dicom","data":"`)
	line = append(base64.StdEncoding.AppendEncode(line, content), `"}`...)
	s := start(t, "--file-dir", folder)
	s.must(os.MkdirAll(filepath.Join(folder, "in"), 0o700))
	s.must(os.MkdirAll(filepath.Join(folder, "out"), 0o700))
	s.must(os.WriteFile(filepath.Join(folder, "in", "Binary.ndjson"), line, 0o600))
	d := s.store(nil)
	j := s.awaitImport(d.id, s.startImport(importMembers(d.id, "file://"+folder+"/in/", "file://"+folder+"/out/", "strict")))
	if j.JobStatus != "COMPLETED" || j.JobProgressReport.TotalNumberOfResourcesImported != 1 {
		t.Fatalf("%+v", j)
	}
	if got := d.get("/Binary/large", "Accept", "application/dicom").want(200); !bytes.Equal(got.Body, content) {
		t.Errorf("the content came back as %d bytes, or others", len(got.Body))
	}
	for accept, form := range map[string]string{"application/fhir+json": `"data":"`, "application/fhir+xml": `<data value="`} {
		got := d.get("/Binary/large", "Accept", accept).want(200)
		_, text, _ := bytes.Cut(got.Body, []byte(form))
		text, _, _ = bytes.Cut(text, []byte{'"'})
		if back, err := base64.StdEncoding.AppendDecode(nil, text); err != nil || !bytes.Equal(back, content) {
			t.Errorf("%s: the data came back as %d bytes, or others: %v", accept, len(back), err)
		}
	}
	if got := d.get("/Binary/large?_elements=contentType").want(200); len(got.Body) > 1000 || got.text("contentType") != "application/dicom" {
		t.Errorf("%s", short(got.Body))
	}
	d.get("/Binary/large/$meta").want(200)
	// Nothing of that size can be written by a request.
	d.fhir("PUT", "/Binary/large", content, "Content-Type", "application/dicom").want(413)
	d.fhir("PATCH", "/Binary/large", `[{"op":"replace","path":"/contentType","value":"text/plain"}]`, "Content-Type", "application/json-patch+json").want(413)
	d.fhir("DELETE", "/Binary/large", nil).want(204)
}
