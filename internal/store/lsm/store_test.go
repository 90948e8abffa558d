package lsm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

func testKey(t testing.TB) seal.DataKey {
	t.Helper()
	key, err := seal.DataKeyFrom(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// made opens a new store in an engine.
func made(t testing.TB, e *lsm.Engine) *lsm.Store {
	t.Helper()
	if err := e.Create(t.Context(), "s", testKey(t)); err != nil {
		t.Fatal(err)
	}
	return opened(t, e)
}

func opened(t testing.TB, e *lsm.Engine) *lsm.Store {
	t.Helper()
	s, err := e.Open(t.Context(), "s", testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return s.(*lsm.Store)
}

func patient(id string) plan.Key { return plan.Key{Type: 1, ID: id} }

// name is the entry by which tests find patients.
func name(value string) plan.Entry { return plan.Entry{Param: 7, Value: []byte(value)} }

func put(key plan.Key, body string, entries ...plan.Entry) store.Op {
	return store.Op{Kind: store.Put, Key: key, Body: []byte(body), Entries: entries}
}

func commit(t testing.TB, s store.Store, ops ...store.Op) []store.Outcome {
	t.Helper()
	outcomes, err := s.Commit(t.Context(), ops)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes
}

func viewed(t testing.TB, s store.Store, at store.Moment) store.View {
	t.Helper()
	v, err := s.View(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func count(t testing.TB, s store.Store, where plan.Node) int64 {
	t.Helper()
	v := viewed(t, s, "")
	defer v.Close()
	n, err := v.Count(t.Context(), &plan.Plan{Arms: []plan.Arm{{Type: 1, Where: where}}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mustCheck(t testing.TB, s *lsm.Store) store.Report {
	t.Helper()
	report, err := s.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Error(p)
	}
	return report
}

// memory gives options for a file system in memory.
func memory(fs vfs.FS) lsm.Options {
	return lsm.Options{Root: "data", FS: fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 20}
}

// Many versions over many blocks, with updates, deletions and purges: whatever
// leads to a row and back agrees.
func TestCheckFindsNothing(t *testing.T) {
	opts := memory(vfs.NewMem())
	opts.BlockRows = 64
	s := made(t, engine(t, opts))
	for i := range 400 {
		key := patient(fmt.Sprint(i * 7 % 90))
		switch {
		case i%17 == 3:
			commit(t, s, store.Op{Kind: store.Delete, Key: key})
		case i%23 == 5:
			commit(t, s, store.Op{Kind: store.Purge, Key: key}, put(patient(fmt.Sprint("x", i)), "{}", name("x")))
		default:
			commit(t, s, put(key, fmt.Sprintf(`{"n":%d}`, i), name(fmt.Sprint(i%5)), name("all")))
		}
	}
	report := mustCheck(t, s)
	if report.Rows < 300 || report.Postings < 600 {
		t.Errorf("only %d rows and %d postings were looked at", report.Rows, report.Postings)
	}
	if stats := s.Stats(); stats.Rows < 400 || stats.Commits < 390 {
		t.Errorf("%+v", stats)
	}
}

// Containers that are bitmaps: more than 4,096 rows of a block have the entry.
func TestManyRowsOfOneEntry(t *testing.T) {
	s := made(t, engine(t, memory(vfs.NewMem())))
	const n = 9000
	im, err := s.Import(t.Context(), "many")
	if err != nil {
		t.Fatal(err)
	}
	p, err := im.Part(t.Context(), "part")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; i += 500 {
		var ops []store.Op
		for j := range 500 {
			ops = append(ops, put(patient(fmt.Sprint(i+j)), "{}", name("all"), name([]string{"even", "odd"}[j%2])))
		}
		if err := p.Add(t.Context(), ops, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := im.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := viewed(t, s, "")
	commit(t, s, store.Op{Kind: store.Purge, Key: patient("10")}, store.Op{Kind: store.Delete, Key: patient("12")}, put(patient("14"), "{}", name("all")))
	all, even := plan.Term{Param: 7, Value: []byte("all")}, plan.Term{Param: 7, Value: []byte("even")}
	for _, c := range []struct {
		name  string
		where plan.Node
		want  int64
	}{
		{"all", all, n - 2}, {"even", even, n/2 - 3}, {"both", plan.And{all, even}, n/2 - 3},
		{"not", plan.And{all, plan.Not{Of: even}}, n/2 + 1}, {"either", plan.Or{even, all}, n - 2},
	} {
		if got := count(t, s, c.where); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if got, err := viewed(t, s, before.Moment()).Count(t.Context(), &plan.Plan{Arms: []plan.Arm{{Type: 1, Where: even}}}); err != nil || got != n/2-1 {
		t.Errorf("before: %d, %v", got, err)
	}
	mustCheck(t, s)
}

// What is purged cannot be found in any file after Scrub, not even under the
// store's own key, and what is not purged can.
func TestScrub(t *testing.T) {
	mem := vfs.NewMem()
	opts := memory(mem)
	opts.Uncompressed = true
	s := made(t, engine(t, opts))
	commit(t, s, put(patient("gone"), `{"x":"body of gone"}`, name("entry of gone")))
	commit(t, s, put(patient("gone"), `{"x":"body two of gone"}`, name("entry two of gone")), put(patient("kept"), `{"x":"body of kept"}`, name("entry of kept")))
	commit(t, s, store.Op{Kind: store.Purge, Key: patient("gone")})
	for range 2 { // the second has nothing to do
		if err := s.Scrub(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Deletions(); n != 0 || err != nil {
		t.Errorf("%d tables hold deletions, and so keys of what was purged: %v", n, err)
	}
	mustCheck(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	sealed := seal.NewFS(mem, testKey(t))
	names, err := sealed.List("data/s/db")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if f, err := sealed.Open("data/s/db/" + n); err == nil {
			content := make([]byte, 1<<20)
			size, _ := f.ReadAt(content, 0)
			for _, what := range []string{"body of gone", "body two of gone", "entry of gone", "entry two of gone", "entry of kept"} {
				found[what] = found[what] || bytes.Contains(content[:size], []byte(what))
			}
			_ = f.Close()
		}
	}
	for what, is := range found {
		if is != strings.Contains(what, "kept") {
			t.Errorf("%q is found: %t", what, is)
		}
	}
}

// Nothing of a resource is readable in the files.
func TestFilesAreSealed(t *testing.T) {
	root := t.TempDir()
	e := engine(t, lsm.Options{Root: root})
	s := made(t, e)
	for i := range 500 {
		commit(t, s, put(patient(fmt.Sprint("bodenheimer-", i)), `{"family":"Bodenheimer"}`, name("bodenheimer")))
	}
	files := 0
	look := func() {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			files++
			if bytes.Contains(bytes.ToLower(content), []byte("bodenheimer")) {
				t.Errorf("%s holds a name", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	look()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	look()
	if files < 10 {
		t.Errorf("only %d files", files)
	}
}

// At every sync of a run of commits the file system is cloned as a power failure
// would leave it: what was acknowledged by then is there, and all is whole.
func TestCrashAtEverySync(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var acknowledged atomic.Int64
	type clone struct {
		fs   *vfs.MemFS
		acks int64
	}
	var mu sync.Mutex
	var clones []clone
	syncs := 0
	watch := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpRename || op.Kind == errorfs.OpRemove {
			mu.Lock()
			defer mu.Unlock()
			if syncs++; syncs%5 == 0 || syncs < 30 {
				clones = append(clones, clone{mem.CrashClone(vfs.CrashCloneCfg{}), acknowledged.Load()})
			}
		}
		return nil
	}))
	opts := memory(watch)
	opts.BlockRows, opts.MemTableBytes = 64, 256<<10
	s := made(t, engine(t, opts))
	filler := strings.Repeat("x", 3000)
	for i := range 150 {
		body := fmt.Sprintf(`{"n":%d,"f":"%s%x"}`, i, filler, i*7919)
		commit(t, s, put(patient(fmt.Sprint("a", i)), body, name("both")), put(patient(fmt.Sprint("b", i)), body, name("both")))
		acknowledged.Store(int64(i + 1))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(clones) < 40 {
		t.Fatalf("only %d crashes", len(clones))
	}
	for i, c := range clones {
		if c.acks == 0 && i%3 > 0 {
			continue // many clones lie before the store was made
		}
		e := engine(t, memory(c.fs))
		opened, err := e.Open(t.Context(), "s", testKey(t))
		if fault.Is(err, fault.NotFound) && c.acks == 0 {
			continue
		}
		if err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
		after := opened.(*lsm.Store)
		n := count(t, after, both)
		if n < 2*c.acks || n%2 != 0 || n > 2*c.acks+2 {
			t.Errorf("crash %d: %d resources, %d were acknowledged", i, n, 2*c.acks)
		}
		mustCheck(t, after)
		commit(t, after, put(patient("after"), "{}"))
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// failing is a file system whose log writes begin to fail.
func failing(mem vfs.FS, on *atomic.Bool, with error) vfs.FS {
	return errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		write := op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
		if on.Load() && write && strings.HasSuffix(op.Path, ".log") {
			return with
		}
		return nil
	}))
}

// A log that cannot be written ends the commits, not the reads: the store opens
// again with all that was acknowledged. A store to which that happens again at
// once is kept closed until somebody looks.
func TestQuarantine(t *testing.T) {
	mem := vfs.NewCrashableMem()
	for attempt := range 3 {
		var broken atomic.Bool
		opts := memory(failing(mem, &broken, syscall.EIO))
		opts.Log, opts.Exit = discard, runtime.Goexit
		e, err := lsm.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Create(t.Context(), "s", testKey(t)); err != nil {
			t.Fatal(err)
		}
		s, err := e.Open(t.Context(), "s", testKey(t))
		if attempt == 2 {
			if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "quarantine") {
				t.Fatalf("after two ends: %v", err)
			}
			break
		}
		if err != nil {
			t.Fatalf("after %d ends: %v", attempt, err)
		}
		if attempt == 0 {
			commit(t, s, put(patient("a"), "{}"))
		}
		broken.Store(true)
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if _, err := s.Commit(ctx, []store.Op{put(patient("lost"), "{}")}); !fault.Is(err, fault.Unavailable) {
				t.Fatalf("a commit that is not in the log: %v", err)
			}
			cancel()
		}
		if _, err := viewed(t, s, "").Get(t.Context(), patient("a")); err != nil {
			t.Fatal(err)
		}
		_ = e.Close()                             // fails for the log; it must not hang
		mem = mem.CrashClone(vfs.CrashCloneCfg{}) // the process goes, and its locks with it
	}
	if err := mem.Remove("data/s/QUARANTINE"); err != nil {
		t.Fatal(err)
	}
	s := opened(t, engine(t, memory(mem)))
	commit(t, s, put(patient("b"), "{}"))
	if n := count(t, s, nil); n != 2 {
		t.Errorf("%d resources, 2 were acknowledged", n)
	}
}

// full is a disk with a given free space.
type full struct {
	vfs.FS
	free atomic.Uint64
}

func (f *full) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free.Load(), TotalBytes: 1 << 40}, nil
}

// Below the floor writes are refused; what makes space is not, and reads go on.
func TestFreeSpaceFloor(t *testing.T) {
	disk := &full{FS: vfs.NewMem()}
	disk.free.Store(1 << 30)
	opts := memory(disk)
	opts.MinFreeBytes, opts.BallastBytes = 100<<20, 3<<20
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opts.Clock = func() time.Time { now = now.Add(2 * time.Second); return now }
	s := made(t, engine(t, opts))
	if info, err := disk.Stat("data/ballast"); err != nil || info.Size() != 3<<20 {
		t.Errorf("ballast: %v, %v", info, err)
	}
	commit(t, s, put(patient("a"), "{}"))
	disk.free.Store(99 << 20)
	if _, err := s.Commit(t.Context(), []store.Op{put(patient("b"), "{}")}); !fault.Is(err, fault.Full) {
		t.Errorf("on a full disk: %v", err)
	}
	commit(t, s, store.Op{Kind: store.Purge, Key: patient("a")})
	if n := count(t, s, nil); n != 0 {
		t.Errorf("%d are left", n)
	}
	disk.free.Store(1 << 30)
	commit(t, s, put(patient("b"), "{}"))
}

// A clock that went back by more than five minutes stops commits; one that went
// back by less does not turn time back.
func TestClockBehind(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opts := memory(vfs.NewMem())
	opts.Clock = func() time.Time { return now }
	s := made(t, engine(t, opts))
	commit(t, s, put(patient("a"), "{}"))
	now = now.Add(-4 * time.Minute)
	if got := commit(t, s, put(patient("b"), "{}"))[0].Updated; !got.Equal(now.Add(4 * time.Minute)) {
		t.Errorf("dated %v", got)
	}
	now = now.Add(-2 * time.Minute)
	if _, err := s.Commit(t.Context(), []store.Op{put(patient("c"), "{}")}); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "clock") {
		t.Errorf("six minutes behind: %v", err)
	}
}

// Nothing goes on after Close, and calls under way end.
func TestCloseLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	e, err := lsm.New(memory(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	s := made(t, e)
	commit(t, s, put(patient("a"), "{}"))
	v := viewed(t, s, "")
	var followed sync.WaitGroup
	seen := make(chan struct{})
	followed.Go(func() {
		var last error
		for c, err := range s.Follow(t.Context(), "") {
			if last = err; err == nil && c.Key == patient("a") {
				close(seen)
			}
		}
		if !fault.Is(last, fault.Unavailable) {
			t.Errorf("Follow ended with %v", last)
		}
	})
	<-seen
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	followed.Wait()
	if _, err := v.Get(t.Context(), patient("a")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a view of a closed store: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.Close(), e.Close()); err != nil {
		t.Error(err)
	}
	if got := e.Memory(); got.BlockCache != 0 || got.Memtables != 0 || got.Claimed != 0 || got.Stores != 0 {
		t.Errorf("%+v is left", got)
	}
}

// A newer format is refused with words that help.
func TestNewerFormat(t *testing.T) {
	mem := vfs.NewMem()
	e := engine(t, memory(mem))
	if err := made(t, e).Close(); err != nil {
		t.Fatal(err)
	}
	f, err := mem.Create("data/s/FORMAT", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("tarn-lsm 9\n")); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if _, err := e.Open(t.Context(), "s", testKey(t)); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "format 9") {
		t.Errorf("format 9: %v", err)
	}
}

// Two processes cannot hold a store.
func TestLockedElsewhere(t *testing.T) {
	opts := lsm.Options{Root: t.TempDir()}
	s := made(t, engine(t, opts))
	other := engine(t, opts)
	if _, err := other.Open(t.Context(), "s", testKey(t)); !fault.Is(err, fault.Conflict) {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	opened(t, other)
}
