package lsm_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// written is a store with something in its log.
func written(t *testing.T, e *lsm.Engine) *lsm.Store {
	t.Helper()
	s := made(t, e)
	for i := range 50 {
		commit(t, s, put(patient(fmt.Sprint(i)), "{}", name("all"), name(fmt.Sprint(i))))
	}
	if s.Stats().LogBytes == 0 || s.TablesFlushed() != 0 {
		t.Fatal("nothing is in the log only")
	}
	return s
}

// opening closes a store and opens it again; replayed: its log had to be read.
// Pebble writes what it reads from a log into tables before it is open.
func opening(t *testing.T, e *lsm.Engine, s *lsm.Store) (replayed bool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opened(t, e)
	replayed = s.TablesFlushed() > 0
	if took := s.Stats().MemBytes; !replayed && took != 256<<10 {
		t.Errorf("memtables take %d bytes, and could begin with 256 KiB", took)
	}
	if n := count(t, s, nil); n != 50 {
		t.Errorf("%d resources, 50 were acknowledged", n)
	}
	mustCheck(t, s)
	return replayed
}

// A store that is closed has everything in tables: the next opening reads no log.
func TestClosedStoreHasNoLog(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	if opening(t, e, written(t, e)) {
		t.Error("a log was read again")
	}
}

// On a disk without room the log is left as it is when a store is closed, and
// nothing is lost.
func TestClosedOnAFullDisk(t *testing.T) {
	disk := &full{FS: vfs.NewMem()}
	disk.free.Store(1 << 30)
	opts := memory(disk)
	opts.MinFreeBytes = 100 << 20
	e := engine(t, opts)
	s := written(t, e)
	disk.free.Store(101 << 20)
	if !opening(t, e, s) {
		t.Error("tables were written without room for them")
	}
}

// Where tables cannot be written though there seemed to be room, a store is closed
// after a while all the same, and nothing is lost.
func TestClosedWhereNoTableIsWritten(t *testing.T) {
	var broken atomic.Bool
	opts := memory(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.HasSuffix(op.Path, ".sst") {
			return syscall.ENOSPC
		}
		return nil
	})))
	opts.Log = discard
	e := engine(t, opts)
	e.RestFrom(1, time.Millisecond)
	s := written(t, e)
	broken.Store(true)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	broken.Store(false)
	s = opened(t, e)
	if n := count(t, s, nil); n != 50 || s.TablesFlushed() == 0 {
		t.Errorf("%d resources, 50 were acknowledged; %d tables of a log that was not in any", n, s.TablesFlushed())
	}
}

// What is in the log is brought into tables when nothing is written for a while, if
// it is worth them.
func TestLogIsBroughtIntoTables(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	e.RestFrom(1<<20, time.Minute)
	s := written(t, e)
	if err := s.SettleTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Stats().LogBytes == 0 {
		t.Error("little was brought into tables")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	e.SettleSoon()
	e.RestFrom(1, time.Minute)
	s = opened(t, e)
	commit(t, s, put(patient("more"), "{}"))
	for s.Stats().LogBytes > 0 {
		if err := t.Context().Err(); err != nil {
			t.Fatal("the log is left as it is")
		}
		runtime.Gosched()
	}
}
