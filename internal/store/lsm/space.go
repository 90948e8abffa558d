package lsm

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
)

const (
	// spaceInterval and spaceBytes are how often a store asks for the free
	// space: after so much time or so many bytes written.
	spaceInterval = time.Second
	spaceBytes    = 16 << 20

	// ballastName is the file under Root that holds space back.
	ballastName = "ballast"
	// ballastPiece is how much of it is written at once.
	ballastPiece = 1 << 20
)

func isNotExist(err error) bool { return errors.Is(err, os.ErrNotExist) }
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// wrapDisk gives an error from the file system its kind.
func wrapDisk(op string, err error) error {
	if isFull(err) {
		return fault.Wrap(fault.Full, op, err)
	}
	return fault.Wrap(fault.Internal, op, err)
}

// floor refuses writes while the disk is nearly full. It is used by one
// goroutine.
type floor struct {
	fs    vfs.FS
	path  string
	min   uint64 // bytes; 0: no floor
	clock func() time.Time

	checked time.Time
	written int64 // bytes since
	below   bool
	free    atomic.Uint64 // for Stats
}

// check says fault.Full when the free space was below the floor at last sight,
// which is at most spaceInterval or spaceBytes ago. A file system that cannot
// tell has enough.
func (f *floor) check() error {
	if f.min == 0 {
		return nil
	}
	now := f.clock()
	stale := f.checked.IsZero() || now.Sub(f.checked) >= spaceInterval || now.Before(f.checked)
	if stale || f.written >= spaceBytes || f.below {
		usage, err := f.fs.GetDiskUsage(f.path)
		f.below = err == nil && usage.AvailBytes < f.min
		f.free.Store(usage.AvailBytes)
		f.checked, f.written = now, 0
	}
	if f.below {
		return &fault.Error{
			Kind: fault.Full, Op: "lsm.Commit", Detail: "the disk is nearly full",
			Hint: "free some space, or delete what is not needed any more",
		}
	}
	return nil
}

// room says fault.Full when a copy of a file does not fit above the floor. Any
// goroutine may ask.
func (f *floor) room(name string) error {
	info, err := f.fs.Stat(name)
	if err != nil {
		return nil //nolint:nilerr // it is gone, or whoever copies it finds out
	}
	if !f.fits(uint64(info.Size())) {
		return &fault.Error{Kind: fault.Full, Op: "lsm.Reseal", Detail: "the disk has no room for a copy of a file", Hint: "free some space"}
	}
	return nil
}

// fits reports whether so many bytes fit above the floor; a file system that cannot
// tell has enough. Any goroutine may ask.
func (f *floor) fits(bytes uint64) bool {
	usage, err := f.fs.GetDiskUsage(f.path)
	return err != nil || usage.AvailBytes >= f.min+bytes
}

// keepBallast makes the ballast file when it is not there and leaves enough
// space.
func (e *Engine) keepBallast() error {
	fs := e.opts.FS
	if e.opts.BallastBytes <= 0 {
		return nil
	}
	name := fs.PathJoin(e.opts.Root, ballastName)
	if there, err := fileExists(fs, name); there || err != nil {
		return err
	}
	usage, err := fs.GetDiskUsage(e.opts.Root)
	if err == nil && usage.AvailBytes < e.opts.MinFreeBytes+2*uint64(e.opts.BallastBytes) {
		return nil
	}
	return writeBallast(fs, name, e.opts.BallastBytes)
}

func writeBallast(fs vfs.FS, name string, size int64) (err error) {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	piece := make([]byte, ballastPiece)
	for size > 0 && err == nil {
		var n int
		n, err = f.Write(piece[:min(size, ballastPiece)])
		size -= int64(n)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// dropBallast gives the ballast back, on a file system that does not call it.
func (e *Engine) dropBallast(fs vfs.FS) {
	if fs.Remove(fs.PathJoin(e.opts.Root, ballastName)) == nil {
		e.opts.Log.Error("the disk is full: the ballast file was removed so that writes under way can end")
	}
}
