package blackbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// tarn's own commands, through the life of a data store.
func TestCommands(t *testing.T) {
	t.Parallel()
	s := start(t)
	identity := filepath.Join(t.TempDir(), "identity.json")
	s.must(os.WriteFile(identity, []byte(jsonOf(t, map[string]any{"AuthorizationStrategy": "SMART_ON_FHIR", "Metadata": smart})), 0o600))

	made := s.tarnOn("datastore", "create", "clinic", "--tag", "team=cardiology", "--token", "t-1")
	id, _ := dig(made, "DatastoreId").(string)
	if dig(made, "DatastoreStatus") != "ACTIVE" || dig(made, "DatastoreName") != "clinic" {
		t.Errorf("created %v", made)
	}
	if again := s.tarnOn("datastore", "create", "clinic", "--tag", "team=cardiology", "--token", "t-1"); dig(again, "DatastoreId") != id {
		t.Errorf("the same token made %v", again)
	}
	if other := s.tarnOn("datastore", "create", "ward", "--no-wait"); dig(other, "DatastoreId") == id {
		t.Errorf("another store has the same id")
	}
	if list := s.tarnOn("datastore", "list", "--name", "clinic"); dig(list, 0, "DatastoreId") != id || dig(list, 1) != nil {
		t.Errorf("listed %v", list)
	}
	if updated := s.tarnOn("datastore", "update", id, "--name", "hospital", "--identity", identity); dig(updated, "DatastoreName") != "hospital" ||
		dig(updated, "IdentityProviderConfiguration", "Metadata") != smart {
		t.Errorf("updated %v", updated)
	}
	table := s.program(tarn(s.t), "datastore", "describe", id, "--endpoint", s.url(), "--data", s.Data)
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 2 || !strings.Contains(lines[1], "hospital") {
		t.Errorf("the table is\n%s", table)
	}
	s.tarnOn("datastore", "wait", id)
	if deleted := s.tarnOn("datastore", "delete", id); dig(deleted, "DatastoreStatus") != "DELETED" {
		t.Errorf("deleted %v", deleted)
	}
	s.tarnOn("datastore", "wait", id, "--for", "deleted")
	if list := s.tarnOn("datastore", "list", "--status", "deleted"); dig(list, 0, "DatastoreId") != id {
		t.Errorf("listed %v", list)
	}
	s.checkCredentialsCommand()
}

func (s *server) checkCredentialsCommand() {
	s.t.Helper()
	if key := s.tarn("credentials", "--data", s.Data); dig(key, "AccessKeyId") != s.Key.AccessKeyID || dig(key, "SecretAccessKey") != s.Key.SecretAccessKey {
		s.t.Errorf("tarn credentials --output json gives %v", key)
	}
	if exports := s.program(tarn(s.t), "credentials", "--data", s.Data); !strings.Contains(exports, "export AWS_ACCESS_KEY_ID="+s.Key.AccessKeyID) {
		s.t.Errorf("tarn credentials prints %s", exports)
	}
}

// What goes wrong ends with a status other than 0 and one line that says why;
// what was not understood with 2.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	s := start(t)
	here := []string{"--endpoint", s.url(), "--data", s.Data}
	for _, scene := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"help"}, 0, "serve"},
		{[]string{"version"}, 0, "tarn"},
		{[]string{"datastore", "--help"}, 0, "create"},
		{append([]string{"datastore", "list"}, here...), 0, "ENDPOINT"},
		{append([]string{"datastore", "describe", strings.Repeat("0", 32)}, here...), 1, "ResourceNotFoundException"},
		{append([]string{"datastore", "create", "no!"}, here...), 1, "ValidationException"},
		{append([]string{"datastore", "update", strings.Repeat("0", 32)}, here...), 1, "nothing to change"},
		{[]string{"datastore", "list", "--endpoint", "http://127.0.0.1:1", "--data", s.Data}, 1, "refused"},
		{[]string{"datastore", "list", "--endpoint", s.url(), "--data", t.TempDir()}, 1, "credentials"},
		{[]string{"key", "disable", "alias/nobody", "--data", s.Data}, 1, ""},
		{[]string{"key", "delete", "alias/nobody", "--data", s.Data}, 1, "--yes"},
		{[]string{"serve", "--account", "12", "--data", t.TempDir()}, 1, "--account"},
		{[]string{"serve", "--listen", s.Listen, "--data", t.TempDir()}, 1, "in use"},
		{[]string{"serve", "--listen", "127.0.0.1:0", "--data", s.Data}, 1, ""},
		{[]string{"dance"}, 2, "dance"},
		{[]string{"serve", "--no-such-flag"}, 2, "no-such-flag"},
		{nil, 2, ""},
	} {
		t.Run(strings.Join(scene.args, " "), func(t *testing.T) {
			out, errOut, status := s.attempt(tarn(t), scene.args...)
			if status != scene.status || !strings.Contains(out+errOut, scene.says) {
				t.Errorf("exit status %d, want %d with %q\n%s%s", status, scene.status, scene.says, out, errOut)
			}
		})
	}
}

// Flags are environment variables and keys of the configuration file too; a
// flag rules over the environment, the environment over the file.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "tarn.json")
	if err := os.WriteFile(config, []byte(`{"region":"eu-west-1","account":"222233334444","public-url":"https://fhir.example/"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t}
	address, err := process.FreeAddress(t.Context())
	s.must(err)
	o := process.Options{Binary: tarn(t), Listen: address, Data: filepath.Join(t.TempDir(), "data"), Flags: []string{"--config", config, "--region", "us-west-2"},
		Env: []string{"TARN_ACCOUNT=333344445555", "TARN_ROOT_ACCESS_KEY_ID=AKIDEXAMPLE", "TARN_ROOT_SECRET_ACCESS_KEY=secret"}}
	s.Server, err = process.Start(t.Context(), o)
	s.must(err)
	t.Cleanup(func() { s.must(s.Kill()) })
	s.Client = process.NewClient(s.url(), process.Key("AKIDEXAMPLE", "secret"))
	s.Region = "us-west-2"
	d := s.mustDescribe(s.store(nil).id)
	if want := "arn:aws:healthlake:us-west-2:333344445555:datastore/fhir/" + d.DatastoreID; d.DatastoreArn != want {
		t.Errorf("the ARN is %s, want %s", d.DatastoreArn, want)
	}
	if want := "https://fhir.example/datastore/" + d.DatastoreID + "/r4/"; d.DatastoreEndpoint != want {
		t.Errorf("the endpoint is %s, want %s", d.DatastoreEndpoint, want)
	}
	if _, err := os.Stat(filepath.Join(s.Data, "credentials")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key was made although one was given: %v", err)
	}
}

// SIGTERM lets the request under way finish, takes no new ones, and exits 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := start(t, "--drain", "3m") // a busy machine may take its time between the steps
	d := s.store(nil)
	body := `{"resourceType":"Patient","id":"slow"}`
	conn, answers := s.beginRequest(d, body)
	defer conn.Close()
	s.must(s.Signal(syscall.SIGTERM))
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		answer, err := http.Get(s.url() + "/readyz")
		if err != nil {
			break
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusServiceUnavailable {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a server that drains is still ready")
		}
	}
	_, err := io.WriteString(conn, body)
	s.must(err)
	answer, err := http.ReadResponse(answers, nil)
	s.must(err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		t.Errorf("the request under way was answered with %s", answer.Status)
	}
	select {
	case <-s.Ended():
	case <-time.After(activeTimeout):
		t.Fatal("the server drained and did not end")
	}
	s.must(s.Stop()) // tells of an exit status other than 0
	s.restart()
	d.server = s
	d.get("/Patient/slow").want(200)
}

// beginRequest sends a signed request's head, and returns once the server waits
// for its body: it has said 100 Continue.
func (s *server) beginRequest(d *datastore, body string) (net.Conn, *bufio.Reader) {
	s.t.Helper()
	req, err := s.Sign(s.t.Context(), process.Request{Method: "PUT", URL: d.base() + "/Patient/slow", Body: []byte(body),
		Header: map[string]string{"Content-Type": "application/fhir+json"}})
	s.must(err)
	conn, err := net.Dial("tcp", s.Listen)
	s.must(err)
	var head strings.Builder
	fmt.Fprintf(&head, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n", req.URL.RequestURI(), req.Host, len(body))
	s.must(req.Header.Write(&head))
	_, err = io.WriteString(conn, head.String()+"\r\n")
	s.must(err)
	answers := bufio.NewReader(conn)
	line, err := answers.ReadString('\n')
	s.must(err)
	if !strings.Contains(line, "100 Continue") {
		s.t.Fatalf("the server said %q", line)
	}
	_, err = answers.ReadString('\n') // the empty line behind it
	s.must(err)
	return conn, answers
}

// The server says how it is, and its metrics count what was asked.
func TestHealthAndMetrics(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(nil)
	d.get("/Patient").want(200)
	d.get("/Patient/none").want(404)
	for path, want := range map[string]string{
		"/healthz": "ok",
		"/readyz":  "ready",
		// Both answers are small enough to be sent when their handlers have ended,
		// and so when they are counted.
		"/metrics": `tarn_requests_total{action="SearchWithGet",plane="data",status="200",uri_type=""} 1`,
	} {
		answer, err := http.Get(s.url() + path)
		s.must(err)
		body, err := io.ReadAll(answer.Body)
		s.must(errors.Join(err, answer.Body.Close()))
		if answer.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, lacks %q", path, answer.Status, want)
		}
	}
}

// The log has a line a request, and nothing of a patient in any of them: no
// name, no query, no id of a resource, at the most talkative level.
func TestLogHoldsNoPatient(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"text", "json"} {
		t.Run(form, func(t *testing.T) {
			s := start(t, "--log-level", "debug", "--log-format", form, "--debug-auth")
			d := s.store(nil)
			patient := `{"resourceType":"Patient","id":"Secretid","name":[{"family":"Secretname"}],"identifier":[{"value":"Secretnumber"}]}`
			d.fhir("PUT", "/Patient/Secretid", patient).want(201)
			d.get("/Patient/Secretid").want(200)
			d.get("/Patient?family=Secretname&identifier=Secretnumber").want(200)
			d.get("/Patient?birthdate=Secretdate").want(400)
			d.get("/Patient/Secretid/_history").want(200)
			d.fhir("POST", "/Patient/_search", "family=Secretname", "Content-Type", "application/x-www-form-urlencoded").want(200)
			d.fhir("POST", "/Patient", strings.Replace(patient, `"Secretname"`, `"Secretname`, 1)).want(400)
			d.fhir("PUT", "/Patient/Secretid", strings.Replace(patient, `"id":"Secretid"`, `"id":"Secretother"`, 1)).want(400)
			d.fhir("DELETE", "/Patient/Secretid", nil).want(204)
			stranger := *s.Client
			stranger.Key.SecretAccessKey = "wrong"
			_, err := stranger.Do(t.Context(), process.Request{Method: "GET", URL: d.base() + "/Patient?family=Secretname"})
			s.must(err)
			s.must(s.Stop())
			log := s.Log()
			if at := strings.Index(log, "Secret"); at >= 0 {
				t.Errorf("the log says …%s…", log[max(0, at-200):min(len(log), at+40)])
			}
			if n := strings.Count(log, "SearchWithGet"); n < 2 {
				t.Errorf("the log tells of %d searches", n)
			}
			if strings.Contains(log, s.Key.SecretAccessKey) {
				t.Error("the log holds the secret access key")
			}
		})
	}
}

// idleMemory is what a server with three stores may hold once they are closed,
// in bytes.
const idleMemory = 80 << 20

// Three stores, one of them preloaded, closed when idle: the memory goes back.
func TestIdleMemory(t *testing.T) {
	t.Parallel()
	s := start(t, "--idle-close", "2s")
	s.store(synthea).get("/Observation?_count=100").want(200)
	for range 2 {
		s.store(nil).fhir("PUT", "/Patient/p", `{"resourceType":"Patient","id":"p"}`).want(201)
	}
	least := int64(1 << 62)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && least >= idleMemory; time.Sleep(200 * time.Millisecond) {
		now, err := s.Resident()
		s.must(err)
		least = min(least, now)
	}
	t.Logf("%d MiB resident", least>>20)
	if least >= idleMemory {
		answer, err := http.Get(s.url() + "/metrics")
		s.must(err)
		defer answer.Body.Close()
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "go_memstats_heap") || strings.HasPrefix(lines.Text(), "go_goroutines") {
				t.Log(lines.Text())
			}
		}
		t.Errorf("%d MiB resident with three idle stores, want less than %d", least>>20, idleMemory>>20)
	}
}
