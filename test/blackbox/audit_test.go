package blackbox

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// auditRecord is what the test looks at of a record.
type auditRecord struct {
	EventTime, EventSource, EventName, RequestID, EventID, ErrorCode, ErrorMessage, SourceIPAddress string
	UserIdentity                                                                                    struct{ Type, ARN, AccessKeyID string }
	AdditionalEventData                                                                             struct {
		HTTPStatus       int
		DatastoreID      string
		FHIRResources    []struct{ Type, ID string }
		ForbiddenActions []string
	}
}

// auditLines reads an audit file and those set aside.
func (s *server) auditLines(path string) (records []auditRecord, text string) {
	s.t.Helper()
	names, err := filepath.Glob(path + "*")
	s.must(err)
	for _, name := range names {
		raw, err := os.ReadFile(name)
		s.must(err)
		text += string(raw)
		for line := range strings.Lines(string(raw)) {
			var one auditRecord
			s.must(json.Unmarshal([]byte(line), &one))
			records = append(records, one)
		}
	}
	return records, text
}

// auditUsers declares a writer who may not delete.
const auditUsers = `
users:
  - name: writer
    accessKeys: [{accessKeyId: AKIAWRITER0000000001, secretAccessKey: leak-secret-of-the-writer}]
    policies: [AmazonHealthLakeFullAccess, keep]
policies:
  - name: keep
    document: {Version: "2012-10-17", Statement: [{Effect: Deny, Action: ["healthlake:Delete*"], Resource: "*"}]}
`

// What authenticates carries this, so that one search finds it wherever it leaks.
const leak = "leak-secret"

// Every access and denial is recorded once, with who, what and where from, over
// the turns of the file; and nothing that authenticates is in the records or in
// the log at its most talkative, wherever in a request it was put.
func TestAudit(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path, users := filepath.Join(folder, "audit.jsonl"), filepath.Join(folder, "iam.yaml")
	if err := os.WriteFile(users, []byte(auditUsers), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--iam", users, "--audit-file", path, "--audit-max-mib", "1", "--audit-keep", "50", "--log-level", "debug", "--debug-auth", "--dev-idp")
	d, smart := s.store(nil), s.smartStore()
	writer := d.as("AKIAWRITER0000000001", "leak-secret-of-the-writer")
	writer.fhir("PUT", "/Patient/one", `{"resourceType":"Patient","id":"one"}`).want(201)
	writer.get("/Patient/one").want(200)
	writer.fhir("DELETE", "/Patient/one", nil).want(403)
	batch := `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"DELETE","url":"Patient/one"}}]}`
	writer.fhir("POST", "", batch).want(200)
	writer.wantException("AccessDeniedException", "DeleteFHIRDatastore", map[string]any{"DatastoreId": d.id})
	d.as("AKIAWRITER0000000001", "leak-secret-that-is-wrong").get("/Patient/one").want(403)
	d.as(leak+"/0123456789012345678901234567890", "leak-secret").get("/Patient/one").want(401)
	d.get("/Patient?family=leak-secret-name&access_token=leak-secret-in-a-url").want(400)
	made := d.keyOf(s.iamTool("user", "create", "made", "--policy", "AmazonHealthLakeReadOnlyAccess")) // its secret is in the answer
	made.get("/Patient/one").want(200)
	shouted := s.leakWays(d, smart)

	for range 900 { // records of more than 1.2 kB, so that the file turns
		s.outside("GET", d.base()+"/Patient/one", "", "User-Agent", strings.Repeat("long ", 200))
	}
	if _, err := os.Stat(path + ".1"); err != nil {
		t.Errorf("the file did not turn: %v", err)
	}
	records, text := s.auditLines(path)
	text += s.Log()
	for _, secret := range []string{leak, "bGVhay1zZWNyZXQ", s.Key.SecretAccessKey, made.Key.SecretAccessKey, "Signature=", "X-Amz-Signature"} {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%q is in the log or the audit file: %s", secret, text[max(0, at-300):min(len(text), at+100)])
		}
	}
	wantAudit(t, records, d.id)
	if got := len(slices.DeleteFunc(slices.Clone(records), func(r auditRecord) bool { return r.AdditionalEventData.HTTPStatus != http.StatusUnauthorized })); got < shouted {
		t.Errorf("%d records of strangers, %d asked", got, shouted)
	}
}

// leakWays puts secrets wherever a request can carry them, and says how many of
// the requests a data plane refused as a stranger's.
func (s *server) leakWays(d, smart *datastore) (strangers int) {
	s.t.Helper()
	for _, headers := range [][]string{
		{"Authorization", "Bearer leak-secret-token"},
		{"Authorization", "bearer  leak-secret.two.three"},
		{"Authorization", "Basic bGVhay1zZWNyZXQ6cGFzcw=="},
		{"Authorization", "leak-secret"},
		{"Authorization", "AWS4-HMAC-SHA256 Credential=leak-secret/20261123/us-east-1/healthlake/aws4_request, SignedHeaders=host, Signature=leak-secret"},
		{"X-Amz-Security-Token", "leak-secret-session"},
		{"Cookie", "session=leak-secret"},
	} {
		for _, store := range []*datastore{d, smart} {
			for _, path := range []string{"/Patient/one", "/Patient?_id=leak-secret", "/leak-secret"} {
				status, answer := s.outside("GET", store.base()+path, "", headers...)
				if status < 400 {
					s.t.Errorf("%v is let in: %d %s", headers, status, answer)
				}
				if status == http.StatusUnauthorized {
					strangers++
				}
			}
		}
		s.outside("POST", s.url()+"/", `{"DatastoreName":"leak-secret"}`, append(headers, "X-Amz-Target", "HealthLake.leak-secret", "Content-Type", "application/x-amz-json-1.0")...)
		s.outside("POST", s.url()+"/", "Action=leak-secret&Version=2011-06-15&SecretAccessKey=leak-secret", append(headers, "Content-Type", "application/x-www-form-urlencoded")...)
	}
	presigned := "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAWRITER0000000001%2F20261123%2Fus-east-1%2Fhealthlake%2Faws4_request" +
		"&X-Amz-Date=20261123T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Security-Token=leak-secret&X-Amz-Signature=leak-secret"
	s.outside("GET", d.base()+"/Patient/one"+presigned, "")
	s.outside("POST", s.url()+"/dev-idp/token", "grant_type=refresh_token&refresh_token=leak-secret&client_id=x&client_secret=leak-secret",
		"Content-Type", "application/x-www-form-urlencoded", "Authorization", "Basic bGVhay1zZWNyZXQ6cGFzcw==")
	return strangers
}

// wantAudit looks for what the writer did, and for ids that are given twice.
func wantAudit(t *testing.T, records []auditRecord, id string) {
	t.Helper()
	const arn = "arn:aws:iam::111122223333:user/writer"
	find := func(what string, is func(r *auditRecord) bool) {
		t.Helper()
		if n := len(slices.DeleteFunc(slices.Clone(records), func(r auditRecord) bool { return !is(&r) })); n != 1 {
			t.Errorf("%d records of %s", n, what)
		}
	}
	mine := func(r *auditRecord, name string, status int) bool {
		return r.UserIdentity.ARN == arn && r.UserIdentity.AccessKeyID == "AKIAWRITER0000000001" && r.EventName == name &&
			r.AdditionalEventData.HTTPStatus == status && r.AdditionalEventData.DatastoreID == id && r.SourceIPAddress == "127.0.0.1"
	}
	find("the read", func(r *auditRecord) bool {
		of := r.AdditionalEventData.FHIRResources
		return mine(r, "ReadResource", 200) && r.ErrorCode == "" && len(of) == 1 && of[0].Type == "Patient" && of[0].ID == "one"
	})
	find("the write", func(r *auditRecord) bool { return mine(r, "UpdateResource", 201) })
	find("the denied delete", func(r *auditRecord) bool {
		return mine(r, "DeleteResource", 403) && r.ErrorCode == "AccessDeniedException" && r.ErrorMessage != ""
	})
	find("the denied entry", func(r *auditRecord) bool {
		return mine(r, "ProcessBundle", 200) && slices.Equal(r.AdditionalEventData.ForbiddenActions, []string{"DeleteResource"})
	})
	find("the denied operation", func(r *auditRecord) bool {
		return r.EventName == "DeleteFHIRDatastore" && r.ErrorCode == "AccessDeniedException" && r.EventSource == "healthlake.amazonaws.com"
	})
	find("the new key", func(r *auditRecord) bool {
		return r.EventName == "CreateAccessKey" && r.EventSource == "iam.amazonaws.com" && r.UserIdentity.Type == "Root" && r.ErrorCode == ""
	})
	requests, events := map[string]bool{}, map[string]bool{}
	for _, r := range records {
		if r.RequestID == "" || requests[r.RequestID] || r.EventID == "" || events[r.EventID] {
			t.Errorf("an id is missing or given twice: %+v", r)
		}
		requests[r.RequestID], events[r.EventID] = true, true
	}
}

// A data store that asks for it keeps every access as FHIR AuditEvents, durable
// when the answer is there; strangers write none, and turned off is off.
func TestAuditEvents(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(nil)
	set := func(on bool) {
		t.Helper()
		s.must(s.Control(t.Context(), "UpdateDatastoreSettings", map[string]any{"DatastoreId": d.id, "Settings": map[string]any{"AuditEvents": on}}, &struct{}{}))
	}
	events := func() int { return d.total("AuditEvent") }
	d.fhir("PUT", "/Patient/one", `{"resourceType":"Patient","id":"one"}`).want(201)
	set(true)
	d.get("/Patient/one").want(200)
	d.get("/Patient/two").want(404)
	d.fhir("POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"POST","url":"Observation"},"resource":{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/one"}}}]}`).want(200)
	s.outside("GET", d.base()+"/Patient/one", "")
	s.outside("GET", d.base()+"/metadata", "")
	s.must(s.Kill())
	s.restart()
	for query, want := range map[string]int{
		"AuditEvent?subtype=read&outcome=0&patient=one": 1, "AuditEvent?subtype=read&outcome=4": 1, "AuditEvent?action=E&patient=one&subtype=healthlake:ProcessBundle": 1,
		"AuditEvent?subtype=healthlake:UpdateDatastoreSettings": 1, "AuditEvent?subtype=capabilities": 0,
	} {
		if got := d.total(query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	before := events()
	if after := events(); after != before+1 { // the search before
		t.Errorf("%d events, then %d", before, after)
	}
	set(false)
	before = events()
	d.get("/Patient/one").want(200)
	if after := events(); after != before {
		t.Errorf("turned off, and %d became %d", before, after)
	}
}
