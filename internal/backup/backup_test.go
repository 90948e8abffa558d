package backup_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/backup"
	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

func key(t *testing.T, b byte) seal.DataKey {
	t.Helper()
	k, err := seal.DataKeyFrom(bytes.Repeat([]byte{b}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func take(t *testing.T, s *backup.Store, second int, ids ...string) {
	t.Helper()
	m := backup.Manifest{Store: "s", Taken: time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC), Key: seal.Wrapped{KeyARN: "arn", Ciphertext: []byte{1}}, Datastore: []byte(`{"a": 1}`)}
	for _, id := range ids {
		if has, err := s.Has(id); err != nil {
			t.Fatal(err)
		} else if !has {
			if err := s.Keep(t.Context(), id, int64(len(id)), strings.NewReader(id)); err != nil {
				t.Fatal(err)
			}
		}
		m.Files = append(m.Files, store.BackupFile{Name: "db/" + id, ID: id, Size: int64(len(id))})
	}
	if err := s.Commit(m, key(t, 1)); err != nil {
		t.Fatal(err)
	}
}

// The newest backup is what is opened; files that no kept manifest names go.
func TestBackups(t *testing.T) {
	t.Run("in a folder", func(t *testing.T) { backups(t, &backup.Dir{Root: t.TempDir()}) })
	t.Run("in a bucket", func(t *testing.T) {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "bucket"), 0o700); err != nil {
			t.Fatal(err)
		}
		bucket, err := blob.Dir{Root: root}.Bucket(t.Context(), blob.Location{Scheme: "s3", Bucket: "bucket"}, blob.Access{})
		if err != nil {
			t.Fatal(err)
		}
		if err := blob.WriteAll(t.Context(), bucket, "of/another/moments/x", nil); err != nil {
			t.Fatal(err)
		}
		backups(t, &backup.Dir{Bucket: bucket, Prefix: "of/tarn/"})
		var left []string
		for object := range bucket.List(t.Context(), "") {
			left = append(left, object.Key)
		}
		if len(left) != 1 || left[0] != "of/another/moments/x" {
			t.Errorf("left in the bucket: %v", left)
		}
	})
}

func backups(t *testing.T, dir *backup.Dir) {
	s := dir.Store("s")
	if _, err := s.Newest(); !fault.Is(err, fault.NotFound) {
		t.Errorf("without a backup: %v", err)
	}
	take(t, s, 1, "a", "b")
	take(t, s, 2, "b", "c")
	take(t, s, 3, "c", "d")
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"a": false, "b": true, "c": true, "d": true} {
		if has, err := s.Has(id); has != want || err != nil {
			t.Errorf("%s is kept: %t, %v", id, has, err)
		}
	}
	b, err := s.Opened(key(t, 1))
	if err != nil || len(b.Files()) != 2 || b.Files()[1].ID != "d" || b.Taken.Second() != 3 {
		t.Fatalf("%+v, %v", b, err)
	}
	f, err := b.Open("d")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if raw, err := io.ReadAll(f); string(raw) != "d" || err != nil {
		t.Errorf("%q, %v", raw, err)
	}
	if _, err := s.Opened(key(t, 2)); !fault.Is(err, fault.Internal) {
		t.Errorf("under another key: %v", err)
	}
	if err := s.Keep(t.Context(), "short", 9, strings.NewReader("x")); err == nil {
		t.Error("a file that was cut short was kept")
	}
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Newest(); !fault.Is(err, fault.NotFound) {
		t.Errorf("after Remove: %v", err)
	}
}

// A manifest that somebody changed is refused.
func TestForgedManifest(t *testing.T) {
	root := t.TempDir()
	s := (&backup.Dir{Root: root}).Store("s")
	take(t, s, 1, "a", "b")
	names, err := filepath.Glob(filepath.Join(root, "s", "moments", "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	raw, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, forged := range [][]byte{bytes.Replace(raw, []byte("db/a"), []byte("db/b"), 1), raw[:len(raw)/2], []byte("{}")} {
		if err := os.WriteFile(names[0], forged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Opened(key(t, 1)); err == nil {
			t.Errorf("opened: %s", forged)
		}
	}
}
