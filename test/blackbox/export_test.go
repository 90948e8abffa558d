package blackbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// kick starts an export and gives the path of its status, below the store's base.
func (d *datastore) kick(path string) string {
	d.t.Helper()
	return d.poll(d.get(path, "Prefer", "respond-async", "Accept", "application/fhir+json").want(202))
}

func (d *datastore) poll(r *reply) string {
	d.t.Helper()
	poll, found := strings.CutPrefix(r.Header.Get("Content-Location"), d.base())
	if !found {
		d.t.Fatalf("Content-Location is %q", r.Header.Get("Content-Location"))
	}
	return poll
}

// jobTimeout bounds the wait for a job; far beyond what is expected, as the
// machine may be busy.
const jobTimeout = 5 * time.Minute

// settle asks for a status until done says so.
func (d *datastore) settle(path string, done func(*reply) bool) *reply {
	d.t.Helper()
	for began := time.Now(); time.Since(began) < jobTimeout; time.Sleep(20 * time.Millisecond) {
		if r := d.get(path); done(r) {
			return r
		}
	}
	d.t.Fatalf("%s does not end: %s", path, d.get(path).Body)
	return nil
}

// exported waits for an export and reads its files: how often each resource
// stands in them.
func (d *datastore) exported(path string) (manifest *reply, resources map[string]int) {
	d.t.Helper()
	manifest = d.settle(path, func(r *reply) bool { return r.Status != 202 }).want(200)
	resources = map[string]int{}
	files, _ := manifest.at("output").([]any)
	for _, file := range files {
		raw := d.get(strings.TrimPrefix(dig(file, "url").(string), d.base())).want(200)
		if got := raw.Header.Get("Content-Type"); got != "application/fhir+ndjson" {
			d.t.Errorf("Content-Type is %q", got)
		}
		if n := d.countLines(raw.Body, resources); fmt.Sprint(n) != fmt.Sprint(dig(file, "count")) {
			d.t.Errorf("%v has %d lines", file, n)
		}
	}
	return manifest, resources
}

func (d *datastore) countLines(raw []byte, resources map[string]int) int {
	d.t.Helper()
	n := 0
	for line := range bytes.Lines(raw) {
		var resource struct{ ResourceType, ID string }
		d.must(json.Unmarshal(line, &resource))
		resources[resource.ResourceType+"/"+resource.ID]++
		n++
	}
	return n
}

func (d *datastore) wantOnce(resources map[string]int, want int) {
	d.t.Helper()
	for key, n := range resources {
		if n != 1 {
			d.t.Errorf("%s stands there %d times", key, n)
		}
	}
	if len(resources) != want {
		d.t.Errorf("%d resources, want %d", len(resources), want)
	}
}

// $export from kick-off to clean-up, in the form of Bulk Data Access 2.0.
func TestBulkDataExport(t *testing.T) {
	t.Parallel()
	d := start(t, fewPatients(t)...).store(synthea)
	before := d.total("")
	poll := d.kick("/$export")
	d.fhir("PUT", "/Patient/late", `{"resourceType":"Patient","id":"late"}`).want(201)
	manifest, resources := d.exported(poll)
	d.wantOnce(resources, before)
	if manifest.at("requiresAccessToken") != true || manifest.text("transactionTime") == "" || !strings.HasSuffix(manifest.text("request"), "/$export") ||
		manifest.text("exportJobProperties", "jobStatus") != "COMPLETED" || manifest.at("deleted") == nil || manifest.at("error") == nil {
		t.Errorf("%s", manifest.Body)
	}
	file := strings.TrimPrefix(manifest.text("output", 0, "url"), d.base())
	if part := d.get(file, "Range", "bytes=0-15"); part.Status != 206 || string(part.Body[:15]) != `{"resourceType"` {
		t.Errorf("%d %s", part.Status, part.Body)
	}
	if found := leaks(t, filepath.Join(d.Data, "exports"), fhirWords); len(found) > 0 {
		t.Errorf("%v", found)
	}
	d.get("/export/" + strings.Repeat("0", 32)).want(404)
	d.get(poll + "/Secret-0.ndjson").want(404)
	d.fhir("DELETE", poll, nil).want(202)
	d.get(poll).want(404)
	d.get(file).want(404)
	left, err := os.ReadDir(filepath.Join(d.Data, "exports", d.id))
	if err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
}

// What the parameters of $export leave.
func TestBulkDataParameters(t *testing.T) {
	t.Parallel()
	d := start(t).store(nil)
	for _, id := range []string{"a", "b", "out"} {
		d.fhir("PUT", "/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`","birthDate":"1980-01-01","meta":{"tag":[{"system":"urn:t","code":"`+id+`"}]}}`).want(201)
		d.fhir("PUT", "/Observation/o-"+id, `{"resourceType":"Observation","id":"o-`+id+`","status":"final","code":{"coding":[{"code":"`+id+`"}],"text":"x"},"subject":{"reference":"Patient/`+id+`"}}`).want(201)
		d.fhir("PUT", "/Provenance/v-"+id, `{"resourceType":"Provenance","id":"v-`+id+`","recorded":"2026-01-01T00:00:00Z","target":[{"reference":"Observation/o-`+id+`"}],"agent":[{"who":{"display":"x"}}]}`).want(201)
	}
	d.fhir("PUT", "/Observation/nobody", `{"resourceType":"Observation","id":"nobody","status":"final","code":{"text":"x"}}`).want(201)
	d.fhir("PUT", "/Organization/org", `{"resourceType":"Organization","id":"org","name":"x"}`).want(201)
	d.fhir("PUT", "/Group/g", `{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/a"}},
		{"entity":{"reference":"Patient/b"}},{"entity":{"reference":"Patient/out"},"inactive":true}]}`).want(201)
	since := d.get("/Group/g").want(200).text("meta", "lastUpdated")
	d.createdLater(since, "/Basic/new", `{"resourceType":"Basic","id":"new","code":{"text":"x"}}`)
	d.fhir("DELETE", "/Organization/org", nil).want(204)

	for path, want := range map[string]string{
		"/$export": "Basic/new Group/g Observation/nobody Observation/o-a Observation/o-b Observation/o-out Patient/a Patient/b Patient/out Provenance/v-a Provenance/v-b Provenance/v-out",
		"/$export?_type=Patient,Basic&_outputFormat=ndjson":                                                                                       "Basic/new Patient/a Patient/b Patient/out",
		"/$export?_type=Basic&_type=Group":                                                                                                        "Basic/new Group/g",
		"/$export?_since=" + url.QueryEscape(since):                                                                                               "Basic/new Group/g",
		"/$export?_until=" + url.QueryEscape(since) + "&_type=Basic,Patient":                                                                      "Patient/a Patient/b Patient/out",
		"/$export?_type=Observation&_typeFilter=" + url.QueryEscape("Observation?code=a,b"):                                                       "Observation/o-a Observation/o-b",
		"/$export?_type=Observation,Patient&_typeFilter=" + url.QueryEscape("Observation?code=a,Observation?code=b"):                              "Observation/o-a Observation/o-b Patient/a Patient/b Patient/out",
		"/$export?_tag=" + url.QueryEscape("urn:t|a"):                                                                                             "Patient/a",
		"/$export?_type=Patient&_tag=" + url.QueryEscape("urn:t|"):                                                                                "Patient/a Patient/b Patient/out",
		"/$export?_type=Patient&_typeFilter=" + url.QueryEscape("Patient?_id=b") + "&includeAssociatedData=RelevantProvenanceResources":           "Patient/b",
		"/$export?_type=Observation&_typeFilter=" + url.QueryEscape("Observation?_id=o-b") + "&includeAssociatedData=RelevantProvenanceResources": "Observation/o-b Provenance/v-b",
		"/Patient/$export?_type=Patient,Observation":                                                                                              "Observation/o-a Observation/o-b Observation/o-out Patient/a Patient/b Patient/out",
		"/Patient/$export?_type=Observation&patient=Patient/a":                                                                                    "Observation/o-a",
		"/Group/g/$export?_type=Patient,Observation,Group":                                                                                        "Group/g Observation/o-a Observation/o-b Patient/a Patient/b",
		"/Group/g/$export?_type=Patient&patient=Patient/b,Patient/out":                                                                            "Patient/b",
	} {
		_, resources := d.exported(d.kick(path))
		if keys := strings.Join(slices.Sorted(maps.Keys(resources)), " "); keys != want {
			t.Errorf("%s:\n%s, want\n%s", path, keys, want)
		}
	}
	d.checkLatestProvenance()
	d.checkDeleted(since)
	d.checkRefusedExports()
}

// createdLater puts a resource whose date is another than this one: two writes
// may come in one millisecond.
func (d *datastore) createdLater(than, path, resource string) {
	d.t.Helper()
	for {
		d.fhir("PUT", path, resource)
		if d.get(path).want(200).text("meta", "lastUpdated") != than {
			return
		}
	}
}

func (d *datastore) checkDeleted(since string) {
	d.t.Helper()
	manifest, _ := d.exported(d.kick("/$export?_since=" + url.QueryEscape(since)))
	file := strings.TrimPrefix(manifest.text("deleted", 0, "url"), d.base())
	bundle := d.get(file).want(200)
	if bundle.text("type") != "transaction" || bundle.text("entry", 0, "request", "method") != "DELETE" || bundle.text("entry", 0, "request", "url") != "Organization/org" {
		d.t.Errorf("%s", bundle.Body)
	}
	manifest, _ = d.exported(d.kick("/$export?_type=Patient&_elements=birthDate"))
	lines := d.get(strings.TrimPrefix(manifest.text("output", 0, "url"), d.base())).want(200).Body
	if bytes.Contains(lines, []byte("urn:t")) && !bytes.Contains(lines, []byte("SUBSETTED")) || !bytes.Contains(lines, []byte("1980")) {
		d.t.Errorf("%s", lines)
	}
}

func (d *datastore) checkRefusedExports() {
	d.t.Helper()
	for path, status := range map[string]int{
		"/$export?_type=Nothing": 400, "/$export?_outputFormat=text/csv": 400, "/$export?_since=soon": 400, "/$export?_typeFilter=x": 400,
		"/$export?_typeFilter=" + url.QueryEscape("Patient?nothing=1"): 400, "/$export?organizeOutputBy=Patient": 400, "/$export?patient=Patient/a": 400,
		"/Patient/$export?_type=Organization": 400, "/Patient/$export?patient=Group/g": 400, "/Group/none/$export": 404,
		"/Observation/$export": 404,
	} {
		d.get(path).want(status)
	}
	manifest, _ := d.exported(d.poll(d.get("/$export?_type=Patient&organizeOutputBy=Patient", "Prefer", "respond-async, handling=lenient").want(202)))
	outcome := d.get(strings.TrimPrefix(manifest.text("error", 0, "url"), d.base())).want(200)
	if outcome.text("resourceType") != "OperationOutcome" || !strings.Contains(string(outcome.Body), "organizeOutputBy") {
		d.t.Errorf("%s", outcome.Body)
	}
}

// exportForm is the body of HealthLake's form.
func exportForm(bucket string) string {
	return `{"DataAccessRoleArn":"arn:aws:iam::111122223333:role/hl","JobName":"nightly","OutputDataConfig":{"S3Configuration":
		{"S3Uri":"s3://` + bucket + `/exp/","KmsKeyId":"arn:aws:kms:us-east-1:111122223333:key/00000000-0000-4000-8000-000000000000"}}}`
}

// $export in HealthLake's form writes to the bucket and is polled in its shape
// (healthlake.md 4.2).
func TestExportToBucket(t *testing.T) {
	t.Parallel()
	buckets := t.TempDir()
	if err := os.Mkdir(filepath.Join(buckets, "out"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := start(t, append(fewPatients(t), "--s3-dir", buckets)...).store(synthea)
	started := d.fhir("POST", "/$export", exportForm("out")).want(202)
	if started.text("jobStatus") != "SUBMITTED" || started.text("datastoreId") != d.id {
		t.Errorf("%s", started.Body)
	}
	poll := d.poll(started)
	done := d.settle(poll, func(r *reply) bool { return r.text("exportJobProperties", "jobStatus") == "COMPLETED" }).want(200)
	folder := "s3://out/exp/" + d.id + "-FHIR_EXPORT-" + started.text("jobId") + "/"
	if done.text("exportJobProperties", "outputDataConfig", "s3Configuration", "S3Uri") != folder || done.text("exportJobProperties", "JobName") != "nightly" ||
		!strings.HasPrefix(done.text("output", 0, "url"), folder) {
		t.Errorf("%s", done.Body)
	}
	resources := map[string]int{}
	files, _ := done.at("output").([]any)
	for _, file := range files {
		typ := dig(file, "type").(string)
		key := strings.TrimPrefix(dig(file, "url").(string), "s3://out/")
		if !strings.HasSuffix(key, "/"+typ+"/"+typ+"-0.ndjson") {
			t.Errorf("%s", key)
		}
		raw, err := os.ReadFile(filepath.Join(buckets, "out", key))
		d.must(err)
		d.countLines(raw, resources)
	}
	d.wantOnce(resources, d.total(""))
	d.fhir("POST", "/$export", exportForm("nowhere")).want(424)
	d.fhir("POST", "/$export", `{"JobName":"x"}`).want(400)
	if cancel := d.fhir("DELETE", poll, nil); cancel.Status < 400 {
		t.Errorf("%d %s", cancel.Status, cancel.Body)
	}
}

// The S3 server dies in the middle of an export and comes back: the job waits, and
// what it wrote is complete, with no line twice.
func TestExportOutlivesItsS3(t *testing.T) {
	t.Parallel()
	s3 := startS3(t, false)
	s := &server{t: t}
	s.begin(process.Options{Binary: tarn(t), Data: filepath.Join(t.TempDir(), "data"), Env: s3.environment(),
		Flags: append(fewPatients(t), "--s3-addressing", "path", "--s3-sealing", "none")})
	t.Cleanup(func() { s.must(s.Kill()) })
	s3.aws("mb", "s3://out")
	d := s.store(synthea)
	var poll string
	for now := "COMPLETED"; now == "COMPLETED"; s3.start() { // again, should the job have been faster
		started := d.fhir("POST", "/$export", exportForm("out")).want(202)
		s3.kill()
		poll = d.poll(started)
		now = d.get(poll).want(200).text("exportJobProperties", "jobStatus")
		if now == "FAILED" {
			t.Fatal("the job did not wait")
		}
	}
	done := d.settle(poll, func(r *reply) bool { return r.text("exportJobProperties", "jobStatus") == "COMPLETED" }).want(200)
	folder := t.TempDir()
	s3.aws("cp", "--quiet", "--recursive", "s3://out/", folder)
	resources := map[string]int{}
	files, _ := done.at("output").([]any)
	for _, file := range files {
		raw, err := os.ReadFile(filepath.Join(folder, strings.TrimPrefix(dig(file, "url").(string), "s3://out/")))
		d.must(err)
		d.countLines(raw, resources)
	}
	d.wantOnce(resources, d.total(""))
}

// The AWS CLI starts, describes and lists an export; the files hold every resource
// once (healthlake.md 1.2, 1.3).
func TestExportJobByCLI(t *testing.T) {
	t.Parallel()
	buckets := t.TempDir()
	if err := os.Mkdir(filepath.Join(buckets, "out"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := start(t, append(fewPatients(t), "--s3-dir", buckets)...).store(synthea)
	cli := awsCLI{d.server, filepath.Join(pythonBin(t), "aws")}
	begin := func(name, to string) []string {
		return []string{"start-fhir-export-job", "--datastore-id", d.id, "--data-access-role-arn", importRole, "--job-name", name,
			"--output-data-config", "S3Configuration={S3Uri=s3://" + to + ",KmsKeyId=alias/jobs}", "--client-token", "export-1"}
	}
	started := cli.run(begin("nightly", "out/exp/")...)
	id, _ := dig(started, "JobId").(string)
	if len(started.(map[string]any)) != 3 || dig(started, "DatastoreId") != d.id || dig(started, "JobStatus") != "SUBMITTED" {
		t.Errorf("%v", started)
	}
	want := d.total("")
	d.fhir("PUT", "/Patient/late", `{"resourceType":"Patient","id":"late"}`).want(201)
	if again := cli.run(begin("nightly", "out/exp/")...); dig(again, "JobId") != id {
		t.Errorf("the same token made another job: %v", again)
	}
	cli.refusedAs("ValidationException", begin("weekly", "out/exp/")...)
	cli.refusedAs("FailedDependencyException", begin("nightly", "nobody-has-it/")...)
	d.settle("/export/"+id, func(r *reply) bool { return r.text("exportJobProperties", "endTime") != "" })
	cli.run("wait", "fhir-export-job-completed", "--datastore-id", d.id, "--job-id", id)
	described := dig(cli.run("describe-fhir-export-job", "--datastore-id", d.id, "--job-id", id), "ExportJobProperties")
	folder := "exp/" + d.id + "-FHIR_EXPORT-" + id + "/"
	for member, want := range map[string]any{"JobId": id, "JobName": "nightly", "JobStatus": "COMPLETED", "DatastoreId": d.id, "DataAccessRoleArn": importRole} {
		if got := dig(described, member); got != want {
			t.Errorf("%s is %v, want %v", member, got, want)
		}
	}
	if dig(described, "OutputDataConfig", "S3Configuration", "S3Uri") != "s3://out/"+folder || dig(described, "OutputDataConfig", "S3Configuration", "KmsKeyId") != "alias/jobs" ||
		dig(described, "SubmitTime") == nil || dig(described, "EndTime") == nil {
		t.Errorf("%v", described)
	}
	resources := map[string]int{}
	files, err := filepath.Glob(filepath.Join(buckets, "out", folder, "*", "*.ndjson"))
	d.must(err)
	for _, file := range files {
		if typ := filepath.Base(filepath.Dir(file)); !strings.HasPrefix(filepath.Base(file), typ+"-") {
			t.Errorf("%s", file)
		}
		raw, err := os.ReadFile(file)
		d.must(err)
		d.countLines(raw, resources)
	}
	d.wantOnce(resources, want)
	cli.listedExports(d, id)
}

// listedExports holds the list of a data store's exports against the one job that
// it has; one whose files the server keeps is not of it.
func (a awsCLI) listedExports(d *datastore, id string) {
	a.t.Helper()
	kept := strings.TrimPrefix(d.kick("/$export?_type=Patient"), "/export/")
	nobody := strings.Repeat("0", 32)
	for _, c := range []struct{ operation, store, job string }{
		{"DescribeFHIRExportJob", d.id, kept}, {"DescribeFHIRImportJob", d.id, id}, {"DescribeFHIRExportJob", nobody, id},
		{"DescribeFHIRExportJob", d.id, nobody}, {"ListFHIRExportJobs", nobody, ""},
	} {
		err := a.Control(a.t.Context(), c.operation, map[string]string{"DatastoreId": c.store, "JobId": c.job}, &struct{}{})
		if err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
			a.t.Errorf("%v: %v", c, err)
		}
	}
	if listed := a.run("list-fhir-export-jobs", "--datastore-id", d.id, "--job-name", "nightly"); dig(listed, "ExportJobPropertiesList", 0, "JobId") != id {
		a.t.Errorf("%v", listed)
	}
	for _, c := range []struct {
		member string
		value  any
		want   int
	}{
		{"MaxResults", 1, 1}, {"JobName", "nightly", 1}, {"JobName", "weekly", 0}, {"JobStatus", "COMPLETED", 1}, {"JobStatus", "FAILED", 0},
		{"SubmittedAfter", 1.5e9, 1}, {"SubmittedBefore", 1.5e9, 0},
	} {
		in := map[string]any{"DatastoreId": d.id, c.member: c.value}
		var found []string
		for more := true; more; {
			var page struct {
				ExportJobPropertiesList []struct {
					JobID string `json:"JobId"`
				}
				NextToken string
			}
			a.must(a.Control(a.t.Context(), "ListFHIRExportJobs", in, &page))
			for _, j := range page.ExportJobPropertiesList {
				found = append(found, j.JobID)
			}
			in["NextToken"], more = page.NextToken, page.NextToken != ""
		}
		if len(found) != c.want || c.want == 1 && found[0] != id {
			a.t.Errorf("%s %v: %v, want %d", c.member, c.value, found, c.want)
		}
	}
}

// tarn export watches to the end and names the folder.
func TestExportCommand(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d := start(t, "--file-dir", folder).store(nil)
	for i := range 3 {
		d.fhir("PUT", fmt.Sprintf("/Patient/p%d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"p%d"}`, i)).want(201)
	}
	out := filepath.Join(folder, "out")
	args := []string{"export", "--datastore", d.id, "--out", out, "--name", "nightly", "--token", "t-1"}
	job := d.tarnOn(args...)
	id, _ := dig(job, 0, "JobId").(string)
	if dig(job, 0, "JobStatus") != "COMPLETED" || dig(job, 0, "JobKind") != "fhir.export" || dig(job, 0, "JobName") != "nightly" ||
		fmt.Sprint(dig(job, 0, "Progress", "Done")) != "3" {
		t.Errorf("%v", job)
	}
	made := filepath.Join(out, d.id+"-FHIR_EXPORT-"+id)
	raw, err := os.ReadFile(filepath.Join(made, "Patient", "Patient-0.ndjson"))
	d.must(err)
	resources := map[string]int{}
	d.countLines(raw, resources)
	d.wantOnce(resources, 3)
	table := d.program(tarn(t), append(args, "--endpoint", d.url(), "--data", d.Data)...)
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 3 || !strings.Contains(lines[1], id) || strings.TrimRight(lines[2], "/") != "file://"+made {
		t.Errorf("the same token printed\n%s", table)
	}
	if _, errOut, status := d.attempt(tarn(t), "export", "--datastore", d.id, "--out", t.TempDir(), "--endpoint", d.url(), "--data", d.Data); status != 1 || errOut == "" {
		t.Errorf("a folder that is not allowed: %d %s", status, errOut)
	}
}

// Who starts a job hands a role over, and needs iam:PassRole for it.
func TestJobsNeedPassRole(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "iam.yaml")
	if err := errors.Join(os.WriteFile(file, []byte(iamFile), 0o600), os.Mkdir(filepath.Join(folder, "out"), 0o700)); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--iam", file, "--s3-dir", folder)
	d := s.store(map[string]any{"Tags": []map[string]string{{"Key": "team", "Value": "cardiology"}}})
	export := map[string]any{"DatastoreId": d.id, "DataAccessRoleArn": importRole,
		"OutputDataConfig": map[string]any{"S3Configuration": map[string]any{"S3Uri": "s3://out/", "KmsKeyId": "alias/jobs"}}}
	heart, reader, writer := s.as("AKIAHEART", "the secret of the heart"), s.as("AKIAREADER", "the secret of the reader"), s.as("AKIAWRITER", "the secret of the writer")
	heart.wantException("AccessDeniedException", "StartFHIRExportJob", export)
	heart.wantException("AccessDeniedException", "StartFHIRImportJob", importMembers(d.id, "s3://out/", "s3://out/", "minimal"))
	heart.wantException("", "ListFHIRExportJobs", map[string]any{"DatastoreId": d.id})
	reader.wantException("AccessDeniedException", "StartFHIRExportJob", export)
	reader.wantException("ResourceNotFoundException", "DescribeFHIRExportJob", map[string]any{"DatastoreId": d.id, "JobId": strings.Repeat("0", 32)})
	writer.wantException("", "StartFHIRExportJob", export)
}

// Of the Provenance about what is exported, the newest about each resource.
func (d *datastore) checkLatestProvenance() {
	d.t.Helper()
	for _, v := range []string{`v-ab","target":[{"reference":"Observation/o-a"},{"reference":"Observation/o-b"}]`, `v-b2","target":[{"reference":"Observation/o-b"}]`} {
		id, _, _ := strings.Cut(v, `"`)
		d.fhir("PUT", "/Provenance/"+id, `{"resourceType":"Provenance","recorded":"2026-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}],"id":"`+v+`}`).want(201)
	}
	const which = "/$export?_type=Observation&includeAssociatedData=LatestProvenanceResources&_typeFilter="
	for filter, want := range map[string]string{
		"Observation?code=a,b": "Observation/o-a Observation/o-b Provenance/v-ab Provenance/v-b2",
		"Observation?_id=o-b":  "Observation/o-b Provenance/v-b2", // of o-a, which is not exported, v-ab is the newest
	} {
		_, resources := d.exported(d.kick(which + url.QueryEscape(filter)))
		if keys := strings.Join(slices.Sorted(maps.Keys(resources)), " "); keys != want {
			d.t.Errorf("%s:\n%s, want\n%s", filter, keys, want)
		}
	}
}

// kill -9 while exports run: every one ends, complete, with no line twice.
func TestKillExport(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(synthea)
	const types = "Patient,Encounter,Immunization,Condition"
	want := d.total("?_type=" + types)
	for round := range rounds(t) {
		r := moments(t, round)
		poll := d.kick("/$export?_type=" + types)
		time.Sleep(between(r, 0, 400*time.Millisecond)) // the seeded moment
		s.must(s.Kill())
		s.revive(r, round)
		manifest, resources := d.exported(poll)
		d.wantOnce(resources, want)
		if manifest.text("exportJobProperties", "jobStatus") != "COMPLETED" {
			t.Errorf("%s", manifest.Body)
		}
		d.fhir("DELETE", poll, nil).want(202)
	}
}

// The deletions, from outside: a job of the built server ends and leaves nothing
// to find.
func TestPurgeJob(t *testing.T) {
	t.Parallel()
	d := start(t).store(nil)
	d.fhir("PUT", "/Patient/p", `{"resourceType":"Patient","id":"p"}`).want(201)
	d.fhir("PUT", "/Observation/o", `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}}`).want(201)
	poll := d.poll(d.fhir("POST", "/Patient/p/$purge", nil).want(202))
	d.settle(poll, func(r *reply) bool { return r.want(200).text("status") == "COMPLETED" })
	d.get("/Observation/o").want(404)
	d.get("/Patient/p/_history/1").want(404)
	if n := d.total(""); n != 0 {
		t.Errorf("%d resources", n)
	}
}
