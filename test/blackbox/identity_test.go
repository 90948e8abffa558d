package blackbox

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// iamFile declares three users: one who may read, one who may do everything but
// delete, and one who may do everything to stores of team cardiology alone.
const iamFile = `
users:
  - name: reader
    accessKeys: [{accessKeyId: AKIAREADER, secretAccessKey: the secret of the reader}]
    policies: [AmazonHealthLakeReadOnlyAccess]
  - name: writer
    accessKeys: [{accessKeyId: AKIAWRITER, secretAccessKey: the secret of the writer}]
    policies: [AmazonHealthLakeFullAccess, keep]
  - name: heart
    accessKeys: [{accessKeyId: AKIAHEART, secretAccessKey: the secret of the heart}]
    policies: [cardiology]
policies:
  - name: keep
    document:
      Version: "2012-10-17"
      Statement: [{Effect: Deny, Action: ["healthlake:Delete*"], Resource: "*"}]
  - name: cardiology
    document:
      Version: "2012-10-17"
      Statement:
        - {Effect: Allow, Action: "healthlake:*", Resource: "*", Condition: {StringEquals: {"aws:ResourceTag/team": cardiology}}}
        - {Effect: Allow, Action: "healthlake:CreateFHIRDatastore", Resource: "*", Condition: {StringEquals: {"aws:RequestTag/team": cardiology}}}
`

// as is the server seen by another principal.
func (s *server) as(id, secret string) *server {
	return &server{Server: s.Server, Client: process.NewClient(s.url(), process.Key(id, secret)), t: s.t}
}

func (d *datastore) as(id, secret string) *datastore {
	return &datastore{server: d.server.as(id, secret), id: d.id}
}

// wantException holds an operation to the exception it ends with, "" for none.
func (s *server) wantException(exception, operation string, in any) {
	s.t.Helper()
	var out any
	err := s.Control(s.t.Context(), operation, in, &out)
	if exception == "" && err != nil || exception != "" && (err == nil || !strings.Contains(err.Error(), exception)) {
		s.t.Errorf("%s: %v, want %q", operation, err, exception)
	}
}

// Users of the IAM file may do what their policies say, on both planes and
// inside bundles; a changed file is in force without a restart.
func TestIAMFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "iam.yaml")
	if err := os.WriteFile(file, []byte(iamFile), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--iam", file)
	d := s.store(nil)
	tagged := s.store(map[string]any{"Tags": []map[string]string{{"Key": "team", "Value": "cardiology"}}})
	d.fhir("PUT", "/Patient/one", `{"resourceType":"Patient","id":"one"}`).want(201)
	tagged.fhir("PUT", "/Patient/one", `{"resourceType":"Patient","id":"one"}`).want(201)

	reader := d.as("AKIAREADER", "the secret of the reader")
	reader.get("/Patient/one").want(200)
	reader.get("/Patient?_id=one").want(200)
	reader.fhir("POST", "/Patient/_search", nil).want(200)
	reader.get("/Patient/one/_history").want(403)
	reader.fhir("POST", "/Patient", `{"resourceType":"Patient"}`).want(403)
	reader.fhir("POST", "", `{"resourceType":"Bundle","type":"batch"}`).want(403)
	reader.wantException("", "ListFHIRDatastores", map[string]any{})
	reader.wantException("AccessDeniedException", "DeleteFHIRDatastore", map[string]any{"DatastoreId": d.id})

	writer := d.as("AKIAWRITER", "the secret of the writer")
	writer.fhir("POST", "/Patient", `{"resourceType":"Patient"}`).want(201)
	writer.fhir("DELETE", "/Patient/one", nil).want(403)
	batch := `{"resourceType":"Bundle","type":"%","entry":[{"request":{"method":"DELETE","url":"Patient/one"}},{"request":{"method":"GET","url":"Patient/one"}}]}`
	answer := writer.fhir("POST", "", strings.Replace(batch, "%", "batch", 1)).want(200)
	if first, second := answer.text("entry", 0, "response", "status"), answer.text("entry", 1, "response", "status"); first != "403 Forbidden" || second != "200 OK" {
		t.Errorf("a batch with a denied entry: %s", answer.Body)
	}
	writer.fhir("POST", "", strings.Replace(batch, "%", "transaction", 1)).want(403)
	writer.fhir("POST", "", strings.Replace(batch, "%", "transaction", 1), "Prefer", "respond-async").want(403)
	d.get("/Patient/one").want(200)

	heart := d.as("AKIAHEART", "the secret of the heart")
	heart.get("/Patient/one").want(403)
	(&datastore{heart.server, tagged.id}).get("/Patient/one").want(200)
	heart.wantException("AccessDeniedException", "CreateFHIRDatastore", map[string]any{"DatastoreTypeVersion": "R4"})
	heart.wantException("", "CreateFHIRDatastore", map[string]any{"DatastoreTypeVersion": "R4", "Tags": []map[string]string{{"Key": "team", "Value": "cardiology"}}})

	s.must(os.WriteFile(file, []byte("users: [{name: x, polices: []}]"), 0o600))
	s.awaitLog("what was in force stays so")
	reader.get("/Patient/one").want(200)
	s.must(os.WriteFile(file, []byte(strings.Replace(iamFile, "AmazonHealthLakeReadOnlyAccess", "AmazonHealthLakeFullAccess", 1)), 0o600))
	await(t, "the reader to become a writer", func() bool {
		return reader.fhir("POST", "/Patient", `{"resourceType":"Patient"}`).Status == http.StatusCreated
	})
	for _, secret := range []string{"the secret of", s.Key.SecretAccessKey} {
		if strings.Contains(s.Log(), secret) {
			t.Error("the log holds a secret")
		}
	}
}

// awaitLog waits for a line of the log, asking the server something meanwhile.
func (s *server) awaitLog(line string) {
	s.t.Helper()
	await(s.t, "the log to say "+line, func() bool {
		s.wantException("", "ListFHIRDatastores", map[string]any{})
		return strings.Contains(s.Log(), line)
	})
}

// eventPoll is how often await looks; awaitBound is when it gives up.
const (
	eventPoll  = 50 * time.Millisecond
	awaitBound = 90 * time.Second
)

// await looks again until something has come about.
func await(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(awaitBound); !happened(); time.Sleep(eventPoll) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
