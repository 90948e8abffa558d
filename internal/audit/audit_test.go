package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/audit"
)

const (
	account   = "111122223333"
	datastore = "0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c"
)

// zeros are the randomness of ids that a test can name.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// recorded is an event's line.
func recorded(t *testing.T, e audit.Event) string {
	t.Helper()
	var out bytes.Buffer
	trail := audit.NewTrail(audit.TrailOptions{Out: &out, Partition: "aws", Region: "us-east-1", Account: account, Random: zeros{}, Log: slog.New(slog.DiscardHandler)})
	trail.Record(context.Background(), e)
	return out.String()
}

func TestRecord(t *testing.T) {
	got := recorded(t, audit.Event{
		Time: time.Date(2026, 11, 23, 11, 0, 0, 5, time.FixedZone("", 3600)), RequestID: "r-1", Plane: "data",
		Principal: "arn:aws:iam::111122223333:user/nurse", AccessKey: "AKIANURSE00000000001", Action: "ReadResource", Datastore: datastore,
		Resources: []audit.Target{{Type: "Patient", ID: "p1", Version: 3}}, Source: "192.0.2.7", Agent: "curl/8", TLS: true, Status: 200,
	})
	want := `{"eventVersion":"1.08",` +
		`"userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/nurse","accountId":"111122223333","accessKeyId":"AKIANURSE00000000001"},` +
		`"eventTime":"2026-11-23T10:00:00Z","eventSource":"healthlake.amazonaws.com","eventName":"ReadResource","awsRegion":"us-east-1",` +
		`"sourceIPAddress":"192.0.2.7","userAgent":"curl/8","requestParameters":null,"responseElements":null,` +
		`"additionalEventData":{"httpStatus":200,"plane":"data","datastoreId":"` + datastore + `","fhirResources":[{"type":"Patient","id":"p1","version":3}],"tls":true},` +
		`"requestID":"r-1","eventID":"00000000-0000-4000-8000-000000000000","readOnly":true,` +
		`"resources":[{"ARN":"arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/` + datastore + `","accountId":"111122223333","type":"AWS::HealthLake::FHIRDatastore"}],` +
		`"eventType":"AwsApiCall","managementEvent":false,"recipientAccountId":"111122223333","eventCategory":"Data"}` + "\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRecordSays(t *testing.T) {
	for name, c := range map[string]struct {
		event audit.Event
		want  []string
		not   []string
	}{
		"a denial": {
			audit.Event{Plane: "control", Action: "DeleteFHIRDatastore", Status: 403, Denied: "forbidden", Code: "AccessDeniedException", Message: "Not authorized"},
			[]string{`"errorCode":"AccessDeniedException","errorMessage":"Not authorized"`, `"reason":"forbidden"`, `"readOnly":false`, `"managementEvent":true`, `"eventCategory":"Management"`, `"type":"Unknown"`},
			[]string{`"resources"`},
		},
		"the root":       {audit.Event{Principal: "arn:aws:iam::111122223333:root"}, []string{`"type":"Root"`}, nil},
		"a session":      {audit.Event{Principal: "arn:aws:sts::111122223333:assumed-role/loader/night"}, []string{`"type":"AssumedRole"`}, nil},
		"STS":            {audit.Event{Plane: "identity", Service: "sts", Action: "AssumeRole"}, []string{`"eventSource":"sts.amazonaws.com"`, `"readOnly":false`}, nil},
		"IAM reads":      {audit.Event{Plane: "identity", Service: "iam", Action: "GetUser"}, []string{`"readOnly":true`}, nil},
		"jobs":           {audit.Event{Action: "DescribeJob"}, []string{`"readOnly":true`}, nil},
		"a poll":         {audit.Event{Action: "SearchWithPost"}, []string{`"readOnly":true`}, nil},
		"no known deed":  {audit.Event{Action: "Unknown"}, []string{`"readOnly":false`}, nil},
		"a claimed key":  {audit.Event{Claimed: "AKIAIOSFODNN7EXAMPLE"}, []string{`"claimedAccessKeyId":"AKIAIOSFODNN7EXAMPLE"`}, []string{`"accessKeyId"`}},
		"a secret there": {audit.Event{Claimed: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}, nil, []string{"wJalr"}},
		"an entry":       {audit.Event{Forbidden: []string{"DeleteResource"}}, []string{`"forbiddenActions":["DeleteResource"]`}, nil},
		"an app": {
			audit.Event{App: &audit.App{Issuer: "https://idp", Client: "app-1", Subject: "s1", Patient: "p1"}},
			[]string{`"userIdentity":{"type":"WebIdentityUser","userName":"s1","identityProvider":"https://idp"}`, `"app":{"issuer":"https://idp","clientId":"app-1","subject":"s1","patient":"p1"}`}, nil,
		},
		"a long agent":    {audit.Event{Agent: strings.Repeat("é", 5000)}, []string{`"userAgent":"` + strings.Repeat("é", 512) + `"`}, nil},
		"two lines":       {audit.Event{Agent: "a\n{\"eventName\":\"Forged\"}"}, []string{`"a\n{\"eventName\":\"Forged\"}"`}, nil},
		"no UTF-8 at all": {audit.Event{Agent: "a\xffb"}, []string{`"userAgent":"ab"`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := recorded(t, c.event)
			if !json.Valid([]byte(got)) || strings.Count(got, "\n") != 1 {
				t.Errorf("not one line of JSON: %s", got)
			}
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("%s\nlacks %s", got, want)
				}
			}
			for _, not := range c.not {
				if strings.Contains(got, not) {
					t.Errorf("%s\nholds %s", got, not)
				}
			}
		})
	}
}

// An event that cannot be written is told to the log.
func TestLost(t *testing.T) {
	var log bytes.Buffer
	trail := audit.NewTrail(audit.TrailOptions{Out: full{}, Random: zeros{}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	trail.Record(t.Context(), audit.Event{RequestID: "r-1"})
	if !strings.Contains(log.String(), "r-1") || !strings.Contains(log.String(), "no space") {
		t.Errorf("the log says %q", log.String())
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

// opened is an audit file whose lines fill it at ten bytes.
func opened(t *testing.T, path string, keep int) *audit.File {
	t.Helper()
	f, err := audit.OpenFile(audit.FileOptions{Path: path, MaxBytes: 10, Keep: keep, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, f *audit.File, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if _, err := f.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
	}
}

// wantFiles holds the files beside path to what they should say, the current one
// first, "-" for none; beyond them there is none.
func wantFiles(t *testing.T, path string, want ...string) {
	t.Helper()
	for n, text := range append(want, "-") {
		name := path
		if n > 0 {
			name = fmt.Sprintf("%s.%d", path, n)
		}
		raw, err := os.ReadFile(name)
		if text == "-" {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is there: %q %v", name, raw, err)
			}
			continue
		}
		if got := strings.ReplaceAll(string(raw), "\n", " "); err != nil || got != text {
			t.Errorf("%s: %q %v, want %q", name, got, err, text)
		}
	}
}

func TestFileTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f := opened(t, path, 2)
	write(t, f, "aaaa", "bbbb")
	wantFiles(t, path, "aaaa bbbb ")
	write(t, f, "cccc")
	wantFiles(t, path, "cccc ", "aaaa bbbb ")
	write(t, f, "a line that is longer than a file", "d")
	wantFiles(t, path, "d ", "a line that is longer than a file ", "cccc ")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = opened(t, path, 2) // goes on where it was
	write(t, f, "e", "ffffffffff")
	wantFiles(t, path, "ffffffffff ", "d e ", "a line that is longer than a file ")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v %v", info.Mode(), err)
	}
}

// Whatever a crash in the midst of a turn left, nothing is lost that a turn
// without one would have kept.
func TestFileAfterCrash(t *testing.T) {
	for name, c := range map[string]struct {
		before, after []string
	}{
		"within a line":               {[]string{"aa\nbb"}, []string{"aa bb new ", "-", "-"}},
		"between the renames":         {[]string{"aaaaaaaa\n", "-", "bbbb\n", "cccc\n"}, []string{"new ", "aaaaaaaa ", "bbbb ", "cccc "}},
		"before the new file is made": {[]string{"-", "aaaa\n", "bbbb\n"}, []string{"new ", "aaaa ", "bbbb "}},
		"before all":                  {[]string{"aaaaaaaa\n", "bbbb\n", "cccc\n", "dddd\n"}, []string{"new ", "aaaaaaaa ", "bbbb ", "cccc "}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.jsonl")
			for n, text := range c.before {
				name := path
				if n > 0 {
					name = fmt.Sprintf("%s.%d", path, n)
				}
				if text == "-" {
					continue
				}
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f := opened(t, path, 3)
			write(t, f, "new")
			wantFiles(t, path, c.after...)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Where the folder lets no file be renamed the file goes on, and where somebody
// took it away a new one begins.
func TestFileGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f := opened(t, path, 1)
	if err := os.MkdirAll(path+".1/in the way", 0o700); err != nil { // no file can take this name
		t.Fatal(err)
	}
	write(t, f, "aaaa", "bbbb", "cccc", "dddd")
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "aaaa\nbbbb\ncccc\ndddd\n" {
		t.Errorf("the file says %q, %v", raw, err)
	}
	if err := errors.Join(os.RemoveAll(path+".1"), os.Rename(path, path+".taken")); err != nil {
		t.Fatal(err)
	}
	write(t, f, "eeee", "ffff")
	wantFiles(t, path, "eeee ffff ")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFileOptions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for _, o := range []audit.FileOptions{{MaxBytes: 1}, {MaxBytes: 1, Keep: audit.MaxKeep + 1}, {MaxBytes: -1, Keep: 1}} {
		o.Path = path
		if _, err := audit.OpenFile(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	f, err := audit.OpenFile(audit.FileOptions{Path: path}) // never turns
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, strings.Repeat("a", 5000), "b")
	wantFiles(t, path, strings.Repeat("a", 5000)+" b ")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Lines of many goroutines stand whole and once in the files, over many turns.
func TestFileRaced(t *testing.T) {
	const writers, lines = 8, 50
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f, err := audit.OpenFile(audit.FileOptions{Path: path, MaxBytes: 200, Keep: 1000, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := range lines {
				if _, err := fmt.Fprintf(f, "writer %d line %d\n", w, n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) < 2 {
		t.Fatalf("%d files: %v", len(names), err)
	}
	seen := map[string]int{}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil || len(raw) > 200 {
			t.Errorf("%s: %d bytes, %v", name, len(raw), err)
		}
		for line := range strings.Lines(string(raw)) {
			seen[line]++
		}
	}
	for w := range writers {
		for n := range lines {
			if line := fmt.Sprintf("writer %d line %d\n", w, n); seen[line] != 1 {
				t.Errorf("%q is there %d times", line, seen[line])
			}
		}
	}
	if len(seen) != writers*lines {
		t.Errorf("%d different lines", len(seen))
	}
}
