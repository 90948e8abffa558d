// Package blackbox tests the built binary from outside: it starts the server,
// drives it with AWS's own clients and with signed requests, kills it, looks at
// its files, its log and its memory.
//
//	control_test.go    life of a data store: members, lists, tags, errors
//	clients_test.go    AWS CLI, boto3, SDKs for Go and JavaScript, fhir-kit-client, fhirclient, curl
//	fhir_test.go       the data plane over signed requests
//	bundles_test.go    Synthea's own transaction bundles, as they are
//	kill_test.go       kill -9 under create, preload and load
//	linear_test.go     raced requests over a kill -9, judged by a linearizability checker
//	sealed_test.go     files, keys and modes on disk
//	operate_test.go    tarn's own commands, drain, log, metrics, memory
//
// What the tests need that is not Go (AWS CLI, boto3, AWS SDK for JavaScript)
// `make clients` installs; TARN_TEST_PYTHON and TARN_TEST_NODE say where. Tests
// skip without them, unless TARN_REQUIRE_SUITES=1. TARN_TEST_BINARY names a
// binary to test instead of one built from this checkout.
package blackbox

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

func TestMain(m *testing.M) { os.Exit(process.Main(m)) }

// tarn is the binary under test.
func tarn(t testing.TB) string {
	t.Helper()
	executable, err := process.Built()
	if err != nil {
		t.Fatal(err)
	}
	return executable
}

// server is a running server with a client that holds its root's key.
type server struct {
	*process.Server
	*process.Client
	t testing.TB
}

// start starts a server on fresh data; it is killed at the test's end, and the
// end of its log shown when the test failed.
func start(t testing.TB, flags ...string) *server {
	t.Helper()
	return startIn(t, filepath.Join(t.TempDir(), "data"), flags...)
}

// startIn starts one on a data folder.
func startIn(t testing.TB, data string, flags ...string) *server {
	t.Helper()
	s := &server{t: t}
	s.begin(process.Options{Binary: tarn(t), Data: data, Flags: flags})
	t.Cleanup(func() {
		s.must(s.Kill())
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", tail(s.Log(), 40))
		}
	})
	return s
}

func (s *server) begin(o process.Options) {
	s.t.Helper()
	var err error
	s.Server, err = process.Start(s.t.Context(), o)
	s.must(err)
	s.Client, err = s.Server.Client()
	s.must(err)
}

// restart starts the server again on the same data and address.
func (s *server) restart() {
	s.t.Helper()
	s.begin(s.Options)
}

func (s *server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// url is the server's address, which both Server and Client know.
func (s *server) url() string { return s.Server.URL }

// activeTimeout bounds the wait for a state; far beyond what is expected, as the
// machine may be busy.
const activeTimeout = 8 * time.Minute

func (s *server) await(id, status string) process.Datastore {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), activeTimeout)
	defer cancel()
	d, err := s.Await(ctx, id, status)
	s.must(err)
	return d
}

// store creates a data store and waits until it is ACTIVE. Members are those of
// CreateFHIRDatastore, beside the version.
func (s *server) store(members map[string]any) *datastore {
	s.t.Helper()
	made, err := s.Create(s.t.Context(), members)
	s.must(err)
	s.await(made.DatastoreID, "ACTIVE")
	return &datastore{server: s, id: made.DatastoreID}
}

// fewPatients are flags for a server whose preloads take milliseconds: where a
// test is about the client, not about the preload.
func fewPatients(t testing.TB) []string {
	t.Helper()
	folder, err := filepath.Abs("testdata/few")
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--synthea-dir", folder}
}

// synthea asks for a store with patients in it.
var synthea = map[string]any{"PreloadDataConfig": map[string]any{"PreloadDataType": "SYNTHEA"}}

// datastore is one data store's data plane.
type datastore struct {
	*server
	id string
}

func (d *datastore) base() string { return d.Base(d.id) }

// fhir sends one signed FHIR request; headers are name, value, name, value ….
func (d *datastore) fhir(method, path string, body any, headers ...string) *reply {
	d.t.Helper()
	req := process.Request{Method: method, URL: d.base() + path, Header: map[string]string{}}
	switch b := body.(type) {
	case nil:
	case string:
		req.Body = []byte(b)
	case []byte:
		req.Body = b
	default:
		raw, err := json.Marshal(b)
		d.must(err)
		req.Body = raw
	}
	if req.Body != nil {
		req.Header["Content-Type"] = "application/fhir+json"
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = headers[i+1]
	}
	answer, err := d.Do(d.t.Context(), req)
	d.must(err)
	return &reply{Response: answer, t: d.t, what: method + " " + path}
}

func (d *datastore) get(path string, headers ...string) *reply {
	d.t.Helper()
	return d.fhir("GET", path, nil, headers...)
}

// total is what _summary=count answers.
func (d *datastore) total(query string) int {
	d.t.Helper()
	join := "?"
	if strings.Contains(query, "?") {
		join = "&"
	}
	n, ok := d.get("/" + query + join + "_summary=count").want(200).at("total").(json.Number)
	if !ok {
		d.t.Fatalf("%s: the count has no total", query)
	}
	count, err := strconv.Atoi(n.String())
	d.must(err)
	return count
}

// pages follows a search to its last page and gives every entry's resource.
func (d *datastore) pages(query string) []map[string]any {
	d.t.Helper()
	const maxPages = 10000
	var all []map[string]any
	page := d.get("/" + query).want(200)
	for range maxPages {
		entries, _ := page.at("entry").([]any)
		for _, e := range entries {
			all = append(all, e.(map[string]any)["resource"].(map[string]any))
		}
		next := page.link("next")
		if next == "" {
			return all
		}
		page = d.get(strings.TrimPrefix(next, d.base())).want(200)
	}
	d.t.Fatalf("%s has no last page", query)
	return nil
}

// reply is an answer of the data plane under test.
type reply struct {
	*process.Response
	t    testing.TB
	what string
}

// want ends the test unless the status is as wanted.
func (r *reply) want(status int) *reply {
	r.t.Helper()
	if r.Status != status {
		r.t.Fatalf("%s: status %d, want %d: %s", r.what, r.Status, status, short(r.Body))
	}
	return r
}

func short(b []byte) []byte { return b[:min(len(b), 2000)] }

// at gives what stands at a path into the JSON body, nil where nothing does:
// at("entry", 0, "resource", "id").
func (r *reply) at(path ...any) any {
	r.t.Helper()
	return dig(parse(r.t, r.Body), path...)
}

// text is at as a string, empty where there is none.
func (r *reply) text(path ...any) string {
	r.t.Helper()
	s, _ := r.at(path...).(string)
	return s
}

func (r *reply) link(relation string) string {
	r.t.Helper()
	links, _ := r.at("link").([]any)
	for _, l := range links {
		if dig(l, "relation") == relation {
			url, _ := dig(l, "url").(string)
			return url
		}
	}
	return ""
}

// parse reads JSON, numbers as they are written.
func parse(t testing.TB, raw []byte) any {
	t.Helper()
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v: %s", err, short(raw))
	}
	return v
}

func dig(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			object, _ := v.(map[string]any)
			v = object[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return nil
			}
			v = list[step]
		}
	}
	return v
}

// pythonBin is the folder of a virtual environment's executables, with AWS CLI
// and boto3.
func pythonBin(t testing.TB) string { return tool(t, "TARN_TEST_PYTHON", "python", "aws") }

// nodeModules is a folder with node_modules of test/clients in it.
func nodeModules(t testing.TB) string { return tool(t, "TARN_TEST_NODE", "node_modules") }

func tool(t testing.TB, variable string, holds ...string) string {
	t.Helper()
	folder := os.Getenv(variable)
	missing := variable + " is not set: `make clients` installs what this test drives"
	for _, name := range holds {
		if _, err := os.Stat(filepath.Join(folder, name)); folder != "" && err != nil {
			folder, missing = "", variable+": "+err.Error()
		}
	}
	if folder != "" {
		return folder
	}
	lacking(t, missing)
	return ""
}

// lacking skips the test, or fails it where nothing may be lacking.
func lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("TARN_REQUIRE_SUITES") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// commandTimeout bounds one run of an outside program.
const commandTimeout = 5 * time.Minute

// awsEnvironment is the environment of an AWS client that is to use this
// server: what the server's greeting tells to set, and nothing else of AWS's.
func (s *server) awsEnvironment() []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "AWS_") && !strings.HasPrefix(pair, "TARN_") {
			env = append(env, pair)
		}
	}
	return append(env,
		"AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(s.Data, "credentials"), "AWS_PROFILE=tarn", "AWS_REGION=us-east-1",
		"AWS_DEFAULT_REGION=us-east-1", "AWS_ENDPOINT_URL_HEALTHLAKE="+s.url(), "AWS_CONFIG_FILE="+os.DevNull,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "TARN_URL="+s.url(),
		"NO_PROXY=127.0.0.1,localhost", "no_proxy=127.0.0.1,localhost")
}

// program runs an outside program against the server and gives its standard
// output; anything but exit status 0 ends the test.
func (s *server) program(name string, args ...string) string {
	s.t.Helper()
	out, errOut, status := s.attempt(name, args...)
	if status != 0 {
		s.t.Fatalf("%s %s: exit status %d\n%s%s", filepath.Base(name), strings.Join(args, " "), status, out, errOut)
	}
	return out
}

// attempt runs an outside program and gives its output, its errors and its exit
// status.
func (s *server) attempt(name string, args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	return execute(s.t, s.awsEnvironment(), "", name, args...)
}

func execute(t testing.TB, env []string, folder, name string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	var out, errOut bytes.Buffer
	command.Env, command.Dir, command.Stdout, command.Stderr = env, folder, &out, &errOut
	err := command.Run()
	if err != nil && command.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), command.ProcessState.ExitCode()
}

// rounds is how often a crash is tried: TARN_CRASH_ROUNDS, else 3.
func rounds(t testing.TB) int {
	t.Helper()
	text := os.Getenv("TARN_CRASH_ROUNDS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("TARN_CRASH_ROUNDS: %q is not a count", text)
	}
	return n
}
