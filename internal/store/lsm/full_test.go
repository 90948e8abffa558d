package lsm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// noRoom is a disk on which nothing can be made or written while on.
func noRoom(mem vfs.FS, on *atomic.Bool) vfs.FS {
	return errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileWrite, errorfs.OpCreate, errorfs.OpLink:
			if on.Load() {
				return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
			}
		}
		return nil
	}))
}

// onFullDisk is an engine whose disk is full when the flag is set.
func onFullDisk(t *testing.T, mem vfs.FS) (*lsm.Engine, *atomic.Bool) {
	t.Helper()
	on := new(atomic.Bool)
	opts := memory(noRoom(mem, on))
	opts.Log = discard
	opts.Exit = func() {
		t.Error("the process would have ended")
		runtime.Goexit()
	}
	return engine(t, opts), on
}

// untilRefused commits until the disk is known to be full.
func untilRefused(t *testing.T, s *lsm.Store) {
	t.Helper()
	for {
		_, err := s.Commit(t.Context(), []store.Op{put(patient("refused"), "{}")})
		if fault.Is(err, fault.Full) {
			return
		}
		if !fault.Is(err, fault.Unavailable) {
			t.Fatalf("on a full disk: %v", err)
		}
	}
}

// When others take the last byte, what is under way waits, what comes is refused,
// reads go on; when space returns, so does everything, in the same process.
func TestFullDiskWaits(t *testing.T) {
	t.Parallel()
	e, full := onFullDisk(t, vfs.NewMem())
	e.TakeEveryWay()
	s := scattered(t, e)
	rows := count(t, s, nil)
	for round := range 3 {
		full.Store(true)
		settled := make(chan error, 1)
		go func() { settled <- s.SettleTables(t.Context()) }() // it begins another log
		outcome := make(chan error, 1)
		held := patient(fmt.Sprint("held", round))
		go func() {
			_, err := s.Commit(t.Context(), []store.Op{put(held, "{}")})
			outcome <- err
		}()
		untilRefused(t, s)
		if n := count(t, s, nil); n != rows {
			t.Errorf("%d resources on a full disk, %d were acknowledged", n, rows)
		}
		full.Store(false)
		switch err := <-outcome; {
		case err == nil:
			if _, err := viewed(t, s, "").Get(t.Context(), held); err != nil {
				t.Error(err)
			}
		case !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Full):
			t.Errorf("the commit under way: %v", err)
		}
		if err := <-settled; err != nil && !errors.Is(err, syscall.ENOSPC) && !fault.Is(err, fault.Full) {
			t.Errorf("settling: %v", err)
		}
		for { // until what waited is written
			if _, err := s.Commit(t.Context(), []store.Op{put(patient(fmt.Sprint("after", round)), "{}")}); err == nil {
				break
			} else if !fault.Is(err, fault.Full) {
				t.Fatalf("with space again: %v", err)
			}
		}
		n := count(t, s, nil)
		if n <= rows {
			t.Errorf("%d resources with space again, more than %d were acknowledged", n, rows)
		}
		rows = n
	}
	mustCheck(t, s)
}

// A store is closed on a full disk, whatever goes on, and has everything that was
// acknowledged when there is space again. Without space it is not opened, for which
// nobody is to blame.
func TestCloseOnFullDisk(t *testing.T) {
	t.Parallel()
	for _, under := range []string{"nothing", "a commit", "settling", "an import"} {
		t.Run(under, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			e, full := onFullDisk(t, mem)
			e.TakeEveryWay()
			s := scattered(t, e)
			rows := count(t, s, nil)
			full.Store(true)
			ended := make(chan error, 1)
			switch under {
			case "nothing":
				ended <- nil
			case "a commit":
				go func() {
					_, err := s.Commit(t.Context(), []store.Op{put(patient("held"), "{}")})
					ended <- err
				}()
				for !s.WritesWait() { // and its answer is still to come
					runtime.Gosched()
				}
			case "settling":
				go func() { ended <- s.SettleTables(t.Context()) }()
				untilRefused(t, s)
			case "an import":
				go func() { ended <- importOnto(t.Context(), s, 100) }()
			}
			_ = s.Close() // may tell of the disk; it must not hang
			if err := <-ended; under == "a commit" && err == nil {
				t.Error("a commit was acknowledged that is not on disk")
			}
			if _, err := e.Open(t.Context(), "s", testKey(t)); !fault.Is(err, fault.Full) {
				t.Errorf("opened on a full disk: %v", err)
			}
			full.Store(false)
			if _, err := mem.Stat("data/s/QUARANTINE"); err == nil {
				t.Error("a full disk was held against the store")
			}
			again := opened(t, e)
			if n := count(t, again, nil); n < rows || n > rows+100 {
				t.Errorf("%d resources, %d were acknowledged", n, rows)
			}
			mustCheck(t, again)
		})
	}
}

// importOnto imports so many patients.
func importOnto(ctx context.Context, s *lsm.Store, n int) error {
	im, err := s.Import(ctx, "full")
	if err != nil {
		return err
	}
	p, err := im.Part(ctx, "p")
	if err != nil {
		return err
	}
	for i := range n {
		if err := p.Add(ctx, []store.Op{put(patient(fmt.Sprint("full", i)), "{}")}, nil); err != nil {
			return err
		}
	}
	return im.Close(ctx)
}

// An import that finds the disk full says so, leaves no table behind, and goes on
// when there is space.
func TestImportOnFullDisk(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	e, full := onFullDisk(t, mem)
	e.TakeEveryWay()
	s := scattered(t, e)
	rows := count(t, s, nil)
	im, err := s.Import(t.Context(), "late")
	if err != nil {
		t.Fatal(err)
	}
	p, err := im.Part(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := p.Add(t.Context(), []store.Op{put(patient(fmt.Sprint("late", i)), "{}")}, []byte("at")); err != nil {
			t.Fatal(err)
		}
	}
	full.Store(true)
	if err := p.Flush(t.Context()); !fault.Is(err, fault.Full) {
		t.Errorf("on a full disk: %v", err)
	}
	if left, err := mem.List("data/s/ingest"); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
	full.Store(false)
	if err := im.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := count(t, s, nil); n != rows+100 {
		t.Errorf("%d resources, want %d", n, rows+100)
	}
	mustCheck(t, s)
}

// A piece of an import for whose tables there is no room above the floor is refused
// before they are written.
func TestPieceFitsAboveFloor(t *testing.T) {
	t.Parallel()
	disk := &full{FS: vfs.NewMem()}
	opts := memory(disk)
	opts.MinFreeBytes = 100 << 20
	disk.free.Store(opts.MinFreeBytes)
	e := engine(t, opts)
	e.TakeEveryWay()
	s := made(t, e)
	if err := importOnto(t.Context(), s, 100); !fault.Is(err, fault.Full) {
		t.Errorf("without room for its tables: %v", err)
	}
	disk.free.Store(opts.MinFreeBytes + 1<<20)
	if err := importOnto(t.Context(), s, 100); err != nil {
		t.Error(err)
	}
	if n := count(t, s, nil); n != 100 {
		t.Errorf("%d resources, want 100", n)
	}
}

// Compactions leave the log half of the floor, and are carried out when there is
// space again.
func TestCompactionLeavesReserve(t *testing.T) {
	t.Parallel()
	disk := &full{FS: vfs.NewMem()}
	disk.free.Store(1 << 30)
	opts := memory(disk)
	opts.MinFreeBytes, opts.Log = 100<<20, discard
	e := engine(t, opts)
	e.TakeEveryWay()
	s := scattered(t, e)
	disk.free.Store(49 << 20)
	if err := s.Compact(t.Context()); !fault.Is(err, fault.Full) {
		t.Errorf("below the reserve: %v", err)
	}
	disk.free.Store(51 << 20)
	if err := s.Compact(t.Context()); err != nil {
		t.Errorf("above the reserve: %v", err)
	}
	mustCheck(t, s)
}

// The server's own records are written down to half of the floor, so that stores
// can be deleted; no store is made below it.
func TestOwnRecordsFloor(t *testing.T) {
	t.Parallel()
	disk := &full{FS: vfs.NewMem()}
	disk.free.Store(1 << 30)
	opts := memory(disk)
	opts.MinFreeBytes, opts.OwnRecords = 100<<20, "own"
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opts.Clock = func() time.Time { now = now.Add(2 * time.Second); return now }
	e := engine(t, opts)
	other := made(t, e)
	if err := e.Create(t.Context(), "own", testKey(t)); err != nil {
		t.Fatal(err)
	}
	own, err := e.Open(t.Context(), "own", testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	write := func(s store.Store) error {
		_, err := s.Commit(t.Context(), []store.Op{put(patient("a"), "{}")})
		return err
	}
	disk.free.Store(99 << 20)
	if err := write(other); !fault.Is(err, fault.Full) || !strings.Contains(err.Error(), "full") {
		t.Errorf("below the floor: %v", err)
	}
	if err := write(own); err != nil {
		t.Errorf("own records below the floor: %v", err)
	}
	if err := e.Create(t.Context(), "third", testKey(t)); !fault.Is(err, fault.Full) {
		t.Errorf("made below the floor: %v", err)
	}
	if _, err := other.Commit(t.Context(), []store.Op{{Kind: store.Put, Key: patient("job"), Body: []byte("{}"), Frees: true}}); err != nil {
		t.Errorf("what makes space, below the floor: %v", err)
	}
	disk.free.Store(49 << 20)
	if err := write(own); !fault.Is(err, fault.Full) {
		t.Errorf("own records below half of the floor: %v", err)
	}
}

// The ballast that was given up is made again when there is space.
func TestBallastReturns(t *testing.T) {
	t.Parallel()
	disk := &full{FS: vfs.NewMem()}
	disk.free.Store(1 << 30)
	opts := memory(disk)
	opts.MinFreeBytes, opts.BallastBytes = 100<<20, 3<<20
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opts.Clock = func() time.Time { now = now.Add(2 * time.Second); return now }
	e := engine(t, opts)
	s := made(t, e)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Remove("data/ballast"); err != nil { // as a server of before may have
		t.Fatal(err)
	}
	s = opened(t, engine(t, opts))
	disk.free.Store(105 << 20)
	commit(t, s, put(patient("a"), "{}"))
	if _, err := disk.Stat("data/ballast"); err == nil {
		t.Error("the ballast takes what writes need")
	}
	disk.free.Store(1 << 30)
	commit(t, s, put(patient("b"), "{}"))
	for {
		if info, err := disk.Stat("data/ballast"); err == nil && info.Size() == 3<<20 {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("the ballast does not return")
		}
		runtime.Gosched()
	}
}
