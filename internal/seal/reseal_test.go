package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
)

func never() error { return nil }

func mustReseal(t *testing.T, fs *FS, name string, want bool) {
	t.Helper()
	done, err := fs.Reseal(name, "beside", never)
	if err != nil || done != want {
		t.Fatalf("Reseal(%s): %t, %v, want %t", name, done, err, want)
	}
	if older, err := fs.Outdated(name); older || ignoreGone(err) != nil {
		t.Fatalf("Outdated(%s) after it: %t, %v", name, older, err)
	}
}

// After Rekey files of before open, new ones are under the new key; after Reseal
// and Forget the old key opens nothing any more.
func TestRekey(t *testing.T) {
	base := vfs.NewMem()
	fs := NewFS(base, testKey(t, 1))
	write(t, fs, "old", []byte("of before"))
	write(t, fs, "empty")
	fs.Rekey(testKey(t, 2))
	fs.Rekey(testKey(t, 2)) // again: nothing more
	if n := len(fs.FilesKeys()); n != 2 {
		t.Fatalf("%d keys open files", n)
	}
	write(t, fs, "new", []byte("of now"))
	if got := mustRead(t, fs, "old"); string(got) != "of before" {
		t.Errorf("old reads %q", got)
	}
	if _, err := NewFS(base, testKey(t, 1)).Open("new"); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a new file under the old key: %v", err)
	}
	again := NewFS(base, testKey(t, 2))
	again.AddOlder(fs.FilesKeys()[1:]...)
	if got := mustRead(t, again, "old"); string(got) != "of before" {
		t.Errorf("another FS with the older key reads %q", got)
	}
	mustReseal(t, fs, "old", true)
	mustReseal(t, fs, "old", false)
	mustReseal(t, fs, "new", false)
	mustReseal(t, fs, "empty", false)
	mustReseal(t, fs, "absent", false)
	fs.Forget()
	for name, want := range map[string]string{"old": "of before", "new": "of now", "empty": ""} {
		if got := mustRead(t, fs, name); string(got) != want {
			t.Errorf("%s reads %q", name, got)
		}
		if _, err := NewFS(base, testKey(t, 1)).Open(name); name != "empty" && !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s under the old key: %v", name, err)
		}
	}
	if _, err := base.Stat("beside"); !isNotExist(err) {
		t.Errorf("beside is left: %v", err)
	}
}

func isNotExist(err error) bool { return ignoreGone(err) == nil && err != nil }

// A file that is being written goes on in its copy, whatever was written before,
// and reads the same through a handle that was open.
func TestResealOfOpenFile(t *testing.T) {
	for _, before := range []string{"", "a few bytes", string(bytes.Repeat([]byte("many bytes "), 30_000))} {
		t.Run(fmt.Sprint(len(before)), func(t *testing.T) {
			base := vfs.NewMem()
			fs := NewFS(base, testKey(t, 1))
			f, err := fs.Create("first", vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			mustWrite(t, f, before)
			if err := fs.Rename("first", "log"); err != nil {
				t.Fatal(err)
			}
			reader, err := fs.Open("log")
			if err != nil {
				t.Fatal(err)
			}
			fs.Rekey(testKey(t, 2))
			mustReseal(t, fs, "log", true)
			mustWrite(t, f, " and after")
			if err := errors.Join(f.Sync(), f.SyncData(), f.Close()); err != nil {
				t.Fatal(err)
			}
			fs.Forget()
			if got := mustRead(t, fs, "log"); string(got) != before+" and after" {
				t.Errorf("%d bytes are read, ending in %q", len(got), got[max(0, len(got)-20):])
			}
			if got, err := io.ReadAll(reader); before != "" && (err != nil || string(got) != before) {
				t.Errorf("a handle of before reads %d bytes, %v", len(got), err)
			}
			if err := reader.Close(); err != nil {
				t.Fatal(err)
			}
			if len(fs.writing.by) != 0 {
				t.Errorf("%d files are still said to be written", len(fs.writing.by))
			}
		})
	}
}

func mustWrite(t *testing.T, f vfs.File, text string) {
	t.Helper()
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// Whenever the power fails, a file that is resealed while it is written holds
// what was synced, under one of the two keys.
func TestResealSurvivesCrashes(t *testing.T) {
	mem := vfs.NewCrashableMem()
	fs := NewFS(mem, testKey(t, 1))
	f, err := fs.Create("log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	write(t, fs, "table", []byte("table"))
	syncRoot(t, mem)
	synced := ""
	check := func() {
		t.Helper()
		after := NewFS(mem.CrashClone(vfs.CrashCloneCfg{}), testKey(t, 2))
		after.AddOlder(fs.FilesKeys()[len(fs.FilesKeys())-1])
		if got := mustRead(t, after, "log"); string(got) != synced {
			t.Fatalf("the log reads %q after a crash, %q was synced", got, synced)
		}
		if got := mustRead(t, after, "table"); string(got) != "table" {
			t.Fatalf("the table reads %q after a crash", got)
		}
	}
	step := func(text string) {
		t.Helper()
		mustWrite(t, f, text)
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		synced += text
		check()
	}
	step("one")
	fs.Rekey(testKey(t, 2))
	step(" two")
	mustWrite(t, f, " three")
	mustReseal(t, fs, "log", true)
	synced += " three" // the copy is synced
	check()
	mustReseal(t, fs, "table", true)
	step(" four")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func syncRoot(t *testing.T, fs vfs.FS) {
	t.Helper()
	dir, err := fs.OpenDir("")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		t.Fatal(err)
	}
}

// What stops Reseal leaves the file as it was, and nothing beside.
func TestResealGivesUp(t *testing.T) {
	base := vfs.NewMem()
	fs := NewFS(base, testKey(t, 1))
	write(t, fs, "closed", []byte("content"))
	f, err := fs.Create("open", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "content")
	fs.Rekey(testKey(t, 2))
	enough := errors.New("enough")
	for _, name := range []string{"closed", "open"} {
		if done, err := fs.Reseal(name, "beside", func() error { return enough }); done || !errors.Is(err, enough) {
			t.Errorf("%s: %t, %v", name, done, err)
		}
		if older, err := fs.Outdated(name); !older || err != nil {
			t.Errorf("%s is outdated: %t, %v", name, older, err)
		}
		// Removed while it is copied: nothing comes back.
		if done, err := fs.Reseal(name, "beside", func() error { return ignoreGone(fs.Remove(name)) }); done || err != nil {
			t.Errorf("%s, removed meanwhile: %t, %v", name, done, err)
		}
		for _, left := range []string{name, "beside"} {
			if _, err := base.Stat(left); !isNotExist(err) {
				t.Errorf("%s is there: %v", left, err)
			}
		}
	}
	mustWrite(t, f, " of a file without a name")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Pebble's database is rekeyed while it is written to: under the race detector
// too nothing is lost, and the old key opens no file.
func TestPebbleWhileRekeyed(t *testing.T) {
	base := vfs.NewMem()
	fs := NewFS(base, testKey(t, 1))
	db := open(t, fs, "db")
	put(t, db, 0, 3000)
	var writer sync.WaitGroup
	writer.Go(func() { put(t, db, 3000, 9000) })
	fs.Rekey(testKey(t, 2))
	for left := true; left; {
		names, err := fs.List("db")
		if err != nil {
			t.Fatal(err)
		}
		left = false
		for _, name := range names {
			done, err := fs.Reseal("db/"+name, "beside", never)
			if err != nil {
				t.Fatal(err)
			}
			left = left || done
		}
	}
	writer.Wait()
	fs.Forget()
	holds(t, db, 9000)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if h, err := fs.headerOf("db/" + name); err != nil || h == nil {
			continue
		}
		if _, err := NewFS(base, testKey(t, 1)).Open("db/" + name); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s under the old key: %v", name, err)
		}
	}
	db = open(t, NewFS(base, testKey(t, 2)), "db")
	holds(t, db, 9000)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
