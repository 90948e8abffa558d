package blackbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/seal/localkms"
)

// wrappedKey is the data key of a store as the newest manifest of its backups
// carries it.
func (d *datastore) wrappedKey(backups string) (w seal.Wrapped, bound map[string]string) {
	d.t.Helper()
	moments, err := filepath.Glob(filepath.Join(backups, d.id, "moments", "*Z"))
	d.must(err)
	if len(moments) == 0 {
		d.t.Fatal("there is no backup")
	}
	slices.Sort(moments)
	raw, err := os.ReadFile(moments[len(moments)-1])
	d.must(err)
	var kept struct {
		Manifest struct {
			Key     seal.Wrapped
			Context map[string]string
		}
	}
	d.must(json.Unmarshal(raw, &kept))
	return kept.Manifest.Key, kept.Manifest.Context
}

// opensUnder counts the files of a store that a data key opens, and those with
// content that it does not.
func (d *datastore) opensUnder(key seal.DataKey) (opens, refuses int) {
	d.t.Helper()
	sealed := seal.NewFS(vfs.Default, key)
	err := filepath.WalkDir(filepath.Join(d.Data, "stores", d.id), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "FORMAT" {
			return err
		}
		if info, err := e.Info(); err != nil || info.Size() == 0 {
			return err
		}
		f, err := sealed.Open(path)
		if fault.Is(err, fault.Forbidden) {
			refuses++
			return nil
		}
		d.must(err)
		opens++
		return f.Close()
	})
	d.must(err)
	return opens, refuses
}

// rotate begins an exchange of the data key, and gives the job's id; empty when
// the server died meanwhile.
func (d *datastore) rotate(ctx context.Context) string {
	var begun struct{ JobId string }
	if err := d.Control(ctx, "RotateDatastoreKey", map[string]any{"DatastoreId": d.id}, &begun); err != nil {
		return ""
	}
	return begun.JobId
}

// awaitJobs waits until no job of a kind is unfinished.
func (d *datastore) awaitJobs(kind string) {
	d.t.Helper()
	for deadline := time.Now().Add(activeTimeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var list struct {
			Jobs []struct{ JobKind, JobStatus, Message string }
		}
		d.must(d.Control(d.t.Context(), "ListJobs", map[string]any{"DatastoreId": d.id}, &list))
		open := false
		for _, j := range list.Jobs {
			if j.JobKind != kind {
				continue
			}
			if j.JobStatus == "FAILED" {
				d.t.Fatalf("a job of kind %s failed: %s", kind, j.Message)
			}
			open = open || j.JobStatus != "COMPLETED"
		}
		if !open {
			return
		}
	}
	d.t.Fatalf("jobs of kind %s do not end", kind)
}

// kill -9 while the data key is exchanged under load: every acknowledged write is
// there, the exchange goes on to its end, and then no file opens under the key of
// before. Backups of before restore by their own wrapped key.
func TestKillRotate(t *testing.T) {
	t.Parallel()
	backups, ring := filepath.Join(t.TempDir(), "backups"), filepath.Join(t.TempDir(), "ring")
	s := start(t, "--backup-dir", backups, "--backup-every", "1h", "--key-file", ring)
	d := s.store(map[string]any{"BackupConfiguration": map[string]any{"Status": "ENABLED"}})
	model := newModel()
	for round := range rounds(t) {
		r := moments(t, round)
		backUp := func() { s.program(tarn(t), "backup", d.id, "--endpoint", s.url(), "--data", s.Data) }
		backUp()
		wrapped, bound := d.wrappedKey(backups)
		var rotating sync.WaitGroup
		after := between(r, 0, 60*time.Millisecond)
		rotating.Go(func() {
			time.Sleep(after) // the seeded moment
			d.rotate(t.Context())
		})
		d.writeUntilKilled(model, round, 20+r.Int64N(600))
		rotating.Wait()
		s.revive(r, round)
		model.check(d, r)
		if s.mustDescribe(d.id).DatastoreStatus != "ACTIVE" {
			t.Error("an exchange changes the status of the data store")
		}
		d.rotate(t.Context()) // unless one is under way: most rounds' died before they were asked for
		d.awaitJobs("datastore.rekey")
		kms, err := localkms.Open(ring, "111122223333", "us-east-1", rand.Reader, time.Now)
		s.must(err)
		old, err := kms.Unwrap(t.Context(), wrapped, bound)
		s.must(err)
		if opens, refuses := d.opensUnder(old); opens > 0 || refuses < 4 {
			t.Errorf("%d files open under the data key of before, %d do not", opens, refuses)
		}
		out := s.program(tarn(t), "check", "--running", d.id, "--endpoint", s.url(), "--data", s.Data)
		if !strings.Contains(out, " 0 problems") {
			t.Error(out)
		}
		if t.Failed() {
			t.Fatalf("round %d, rotated after %v", round, after)
		}
	}
	restored := s.restored(d.id, 0, nil)
	if got, want := restored.total("Patient"), d.total("Patient"); got != want || want == 0 {
		t.Errorf("%d patients were restored, there are %d", got, want)
	}
}

// A KMS key that is rotated wraps the data keys of stores anew, the store's and
// the server's own; what was wrapped before opens still.
func TestRotateKMSKey(t *testing.T) {
	t.Parallel()
	ring := filepath.Join(t.TempDir(), "ring")
	s := start(t, "--key-file", ring)
	key := dig(s.tarn("key", "create", "--alias", "alias/mine", "--key-file", ring), 0, "KeyId").(string)
	d := s.store(map[string]any{"SseConfiguration": map[string]any{"KmsEncryptionConfig": map[string]any{"CmkType": "CUSTOMER_MANAGED_KMS_KEY", "KmsKeyId": key}}})
	d.fhir("PUT", "/Patient/p", `{"resourceType":"Patient","id":"p"}`).want(201)
	before, err := os.ReadFile(filepath.Join(s.Data, "system-key"))
	s.must(err)
	if rotated := s.tarn("key", "rotate", "alias/mine", "--key-file", ring); dig(rotated, 0, "Version").(json.Number).String() != "2" {
		t.Errorf("rotated: %v", rotated)
	}
	s.tarn("key", "rotate", "--own", "--key-file", ring)
	if _, errOut, status := s.attempt(tarn(t), "key", "rotate", "--key-file", ring); status != 1 || !strings.Contains(errOut, "--datastore") {
		t.Errorf("key rotate of nothing: %d, %s", status, errOut)
	}
	d.get("/Patient/p").want(200)
	s.must(s.Stop())
	s.restart() // at start the tender looks at once
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		now, err := os.ReadFile(filepath.Join(s.Data, "system-key"))
		s.must(err)
		if string(now) != string(before) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the system key was not wrapped anew")
		}
	}
	d.server = s
	d.get("/Patient/p").want(200)
	if done := s.tarnOn("key", "rotate", "--datastore", d.id); dig(done, 0, "JobStatus") != "COMPLETED" {
		t.Errorf("key rotate --datastore: %v", done)
	}
	d.get("/Patient/p").want(200)
	system := []string{"key", "rotate", "--system", "--key-file", ring, "--data", s.Data}
	if _, errOut, status := s.attempt(tarn(t), system...); status != 1 || !strings.Contains(errOut, "stop it first") {
		t.Errorf("key rotate --system beside the server: %d, %s", status, errOut)
	}
	s.must(s.Stop())
	s.program(tarn(t), system...)
	s.restart()
	d.server = s
	d.get("/Patient/p").want(200)
}
