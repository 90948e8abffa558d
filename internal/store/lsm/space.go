package lsm

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
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
	// spare is told what is free when it is enough for writes.
	spare func(free uint64)

	checked time.Time
	looked  bool
	written int64 // bytes since
	below   bool
	free    atomic.Uint64 // for Stats
}

// check says fault.Full when the free space was below the floor at last sight,
// which is at most spaceInterval or spaceBytes ago. A file system that cannot
// tell has enough.
func (f *floor) check() error {
	now, stale := f.checked, !f.looked
	if f.min > 0 { // without a floor what is written paces: a clock that tests set is left alone
		now = f.clock()
		stale = stale || now.Sub(f.checked) >= spaceInterval || now.Before(f.checked)
	}
	if stale || f.written >= spaceBytes || f.below {
		usage, err := f.fs.GetDiskUsage(f.path)
		f.below = err == nil && usage.AvailBytes < f.min
		f.free.Store(usage.AvailBytes)
		if err == nil && !f.below {
			f.spare(usage.AvailBytes)
		}
		f.checked, f.looked, f.written = now, true, 0
	}
	if f.below {
		return full("the disk is nearly full")
	}
	return nil
}

func full(detail string) error {
	return &fault.Error{
		Kind: fault.Full, Op: "lsm.Commit", Detail: detail,
		Hint: "free some space, delete a data store that is not needed any more, or purge resources",
	}
}

// floorOf is the floor of a store. That of the server's own records is half as high
// as the others': where these refuse writes, what makes space (deletions of stores,
// jobs that purge) is still written there.
func (e *Engine) floorOf(id store.ID) *floor {
	least := e.opts.MinFreeBytes
	if id == e.opts.OwnRecords {
		least /= 2
	}
	return &floor{fs: e.opts.FS, path: e.opts.Root, min: least, clock: e.opts.Clock, spare: e.spare}
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

const (
	// ampleRoom is the free space from which on nobody asks what an opening takes.
	ampleRoom = 256 << 20
	// openingRoom is what it takes at least: manifest, options and a log.
	openingRoom = 1 << 20
)

// roomToOpen refuses to open a store where there is no room for what its logs hold to
// be written into tables, even when the ballast is given up.
func (e *Engine) roomToOpen(dir storeDir) error {
	need := uint64(openingRoom)
	for try := range 2 {
		usage, err := dir.fs.GetDiskUsage(dir.path)
		if err != nil || usage.AvailBytes >= ampleRoom {
			return nil //nolint:nilerr // a file system that cannot tell has enough
		}
		if try == 0 {
			logs, err := dir.logBytes()
			if err != nil {
				return err
			}
			need += logs
		}
		if usage.AvailBytes >= need {
			return nil
		}
		e.dropBallast(dir.fs)
	}
	return full(noRoomToOpen)
}

const noRoomToOpen = "the disk is full: there is no room for the store to be opened"

// logBytes is how large the logs are.
func (d storeDir) logBytes() (sum uint64, err error) {
	names, err := d.fs.List(d.join(databaseName))
	for _, name := range names {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		if info, err := d.fs.Stat(d.fs.PathJoin(d.join(databaseName), name)); err == nil {
			sum += uint64(info.Size())
		}
	}
	return sum, err
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
	if err == nil && usage.AvailBytes < e.ballasted() {
		e.noBallast.Store(true)
		return nil
	}
	err = writeBallast(fs, name, e.opts.BallastBytes)
	if err != nil { // a part of one would be taken for the whole
		e.noBallast.Store(true)
		_ = fs.Remove(name) // it may not be there
	}
	return err
}

// ballasted is the free space from which on there is some for the ballast.
func (e *Engine) ballasted() uint64 { return e.opts.MinFreeBytes + 2*uint64(e.opts.BallastBytes) }

// spare is told of free space, and makes the ballast again that was given up.
func (e *Engine) spare(free uint64) {
	if free < e.ballasted() || !e.noBallast.CompareAndSwap(true, false) {
		return
	}
	e.restocking.Go(func() {
		if err := e.keepBallast(); err != nil {
			e.opts.Log.Warn("the ballast file was not made", "error", err)
		}
	})
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
		e.noBallast.Store(true)
		e.opts.Log.Error("the disk is full: the ballast file was removed so that writes under way can end")
	}
}
