package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "file")
	if err := os.WriteFile(path, []byte("what was there, and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"first", ""} {
		if err := Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("the file holds %q, %v; want %q", got, err, content)
		}
		if stat, err := os.Stat(path); err != nil || stat.Mode() != 0o600 {
			t.Errorf("the file is %v, %v; want mode 0600", stat, err)
		}
	}
	wantNames(t, folder, "file")
}

func TestWriteRefused(t *testing.T) {
	folder := t.TempDir()
	taken := filepath.Join(folder, "folder")
	if err := os.MkdirAll(filepath.Join(taken, "child"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(taken, []byte("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	wantNames(t, folder, "folder")
	if err := Write(filepath.Join(folder, "absent", "file"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
}

// wantNames checks that only one thing is in a folder: no temporary file stays.
func wantNames(t *testing.T, folder, only string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 || entries[0].Name() != only {
		t.Errorf("the folder holds %v, %v; want %s alone", entries, err, only)
	}
}
