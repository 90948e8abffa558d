package lsm_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// shelf keeps backups in memory.
type shelf struct {
	kept  map[string][]byte
	given int // files that were kept since it was last set to 0
	files []store.BackupFile
	key   seal.DataKey
}

func (s *shelf) Has(id string) (bool, error) { _, has := s.kept[id]; return has, nil }

func (s *shelf) Keep(_ context.Context, id string, size int64, content io.Reader) error {
	raw, err := io.ReadAll(content)
	if err == nil && int64(len(raw)) != size {
		err = io.ErrUnexpectedEOF
	}
	s.kept[id] = raw
	s.given++
	return err
}

func (s *shelf) Key() seal.DataKey         { return s.key }
func (s *shelf) Files() []store.BackupFile { return s.files }
func (s *shelf) Open(id string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.kept[id])), nil
}

func (s *shelf) take(t *testing.T, from *lsm.Store) {
	t.Helper()
	s.given = 0
	var err error
	if s.files, err = from.Backup(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

func otherKey(t *testing.T) seal.DataKey {
	t.Helper()
	key, err := seal.DataKeyFrom(bytes.Repeat([]byte{9}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// tape is a history of one commit a second: op gives the n-th.
func tapeOp(n int) []store.Op {
	key := patient(fmt.Sprint(n * 7 % 40))
	switch {
	case n%17 == 3:
		return []store.Op{{Kind: store.Delete, Key: key}}
	case n%29 == 5:
		return []store.Op{{Kind: store.Purge, Key: key}}
	default:
		return []store.Op{put(key, fmt.Sprintf(`{"n":%d}`, n), name(fmt.Sprint(n%5)), name("all")), put(patient(fmt.Sprint("x", n)), "{}", name("once"))}
	}
}

var tapeStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func tapeTime(n int) time.Time { return tapeStart.Add(time.Duration(n) * time.Second) }

// played is a store with the first n commits of the tape.
func played(t *testing.T, n int) (*lsm.Engine, *lsm.Store) {
	t.Helper()
	now := tapeStart
	opts := memory(vfs.NewMem())
	opts.BlockRows, opts.Clock = 64, func() time.Time { return now }
	e := engine(t, opts)
	s := made(t, e)
	for i := range n {
		now = tapeTime(i)
		commit(t, s, tapeOp(i)...)
	}
	return e, s
}

// told is everything that a store tells of its versions, oldest first.
func told(t *testing.T, s store.Store) (lines []string) {
	t.Helper()
	v := viewed(t, s, "")
	q := store.HistoryQuery{OldestFirst: true, Limit: 1000}
	for {
		page, err := v.History(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			lines = append(lines, fmt.Sprint(r.Key, r.Version, r.Updated, r.Created, r.Deleted, string(r.Body)))
		}
		if q.After = page.Next; q.After == nil {
			return lines
		}
	}
}

// A backup restored under another key and cut off at a moment is the store of
// that moment, with all its history but what was purged since.
func TestRestoreToMoment(t *testing.T) {
	const all = 240
	_, source := played(t, all)
	backup := &shelf{kept: map[string][]byte{}, key: testKey(t)}
	backup.take(t, source)
	for _, n := range []int{1, 60, 100, 199, all} {
		e := engine(t, memory(vfs.NewMem()))
		for range 2 { // repeated after a crash
			if err := e.Restore(t.Context(), "s", otherKey(t), backup); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := e.Open(t.Context(), "s", testKey(t)); !fault.Is(err, fault.Forbidden) {
			t.Errorf("opened with the backup's key: %v", err)
		}
		open := func() *lsm.Store {
			s, err := e.Open(t.Context(), "s", otherKey(t))
			if err != nil {
				t.Fatal(err)
			}
			return s.(*lsm.Store)
		}
		s := open()
		if err := s.Truncate(t.Context(), tapeTime(n-1)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
		mustCheck(t, s)
		_, want := played(t, n)
		for i := n; i < all; i++ {
			if ops := tapeOp(i); ops[0].Kind == store.Purge {
				commit(t, want, ops...)
			}
		}
		if got, want := fmt.Sprint(told(t, s)), fmt.Sprint(told(t, want)); got != want {
			t.Errorf("after %d commits:\n%s\nwant\n%s", n, got, want)
		}
		commit(t, s, put(patient("new"), "{}", name("new")))
		mustCheck(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A second backup takes what changed; one beside writers is a moment: commits
// are whole in it.
func TestBackupTakesWhatChanged(t *testing.T) {
	_, source := played(t, 200)
	backup := &shelf{kept: map[string][]byte{}, key: testKey(t)}
	backup.take(t, source)
	tables := len(backup.files)
	backup.take(t, source)
	if backup.given > 4 { // manifest, log and options are written anew
		t.Errorf("%d of %d files were given again", backup.given, tables)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 300 && err == nil; i++ {
			_, err = source.Commit(context.Background(), []store.Op{put(patient(fmt.Sprint("a", i)), "{}", name("pair")), put(patient(fmt.Sprint("b", i)), "{}", name("pair"))})
		}
		done <- err
	}()
	for range 5 {
		backup.take(t, source)
		e := engine(t, memory(vfs.NewMem()))
		if err := e.Restore(t.Context(), "s", testKey(t), backup); err != nil {
			t.Fatal(err)
		}
		s := opened(t, e)
		mustCheck(t, s)
		v := viewed(t, s, "")
		for i := range 300 {
			_, a := v.Get(t.Context(), patient(fmt.Sprint("a", i)))
			_, b := v.Get(t.Context(), patient(fmt.Sprint("b", i)))
			if (a == nil) != (b == nil) {
				t.Errorf("half of commit %d: %v, %v", i, a, b)
			}
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A backup whose files name places outside of the store is refused.
func TestRestoreRefusesForeignNames(t *testing.T) {
	for _, name := range []string{"../x", "db/../x", "db/", "/x", "db/a/b"} {
		e := engine(t, memory(vfs.NewMem()))
		backup := &shelf{kept: map[string][]byte{"1": {1}}, key: testKey(t), files: []store.BackupFile{{Name: name, ID: "1", Size: 1}}}
		if err := e.Restore(t.Context(), "s", otherKey(t), backup); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}
