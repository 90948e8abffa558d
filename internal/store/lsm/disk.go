package lsm

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is the file system of one store, below its seal. It keeps a full disk from
// Pebble where Pebble could not bear it: when log or manifest cannot be written, it
// ends the process, and a flush that fails it tries again at once, without end, also
// while it opens.
//
//	what is written       on a full disk, while the store serves
//	log, manifest, flush  waits until there is space
//	compaction            fails when less than the reserve is left, so that the log has it
//	anything else         fails
//
// A store that is opened or closed must not wait for anybody. The first of these
// writes that finds no space then makes the disk lost: nothing is written, removed or
// renamed on it any more, and log, manifest and flush seem to be written, so that
// Pebble comes to its end. On disk is what a crash at that moment would have left.
// Whoever takes a write for done asks lost first.
type disk struct {
	vfs.FS
	dir     string // of the database
	reserve uint64 // bytes
	log     *slog.Logger

	opened  atomic.Bool   // Pebble is there, and what it has is all
	serving atomic.Bool   // writes wait for space
	leave   chan struct{} // closed by hurry: no more
	hurried sync.Once
	gone    atomic.Bool // lost

	mu      sync.Mutex
	removed []string      // before it was opened
	waiting int           // writes that wait for space
	patient *time.Timer   // ends stall's patience, while there are such
	stall   chan struct{} // closed when some waited for stallAfter
	tight   chan struct{} // closed when a compaction finds no space
}

const (
	// retryEvery is how often a write that waits for space is tried.
	retryEvery = 50 * time.Millisecond
	// stallAfter is how long commits that are under way wait for space with it.
	stallAfter = 2 * time.Second
	// reserveLook is how much a compaction writes between looks at the free space.
	reserveLook = 4 << 20
)

// What Pebble says its writes are for.
const (
	flushCategory      vfs.DiskWriteCategory = "pebble-memtable-flush"
	compactionCategory vfs.DiskWriteCategory = "pebble-compaction"
)

func newDisk(fs vfs.FS, dir string, reserve uint64, log *slog.Logger) *disk {
	return &disk{FS: fs, dir: dir, reserve: reserve, log: log, leave: make(chan struct{}), stall: make(chan struct{}), tight: make(chan struct{})}
}

// serve has writes wait for space from now on, and removes what was not needed any more
// when the store was opened.
func (d *disk) serve() {
	d.mu.Lock()
	d.opened.Store(true)
	removed := d.removed
	d.removed = nil
	d.mu.Unlock()
	for _, name := range removed {
		if err := d.FS.Remove(name); err != nil && !isNotExist(err) {
			d.log.Warn("a file was not removed", "error", err)
		}
	}
	d.serving.Store(true)
}

// hurry ends that for good.
func (d *disk) hurry() {
	d.hurried.Do(func() {
		d.serving.Store(false)
		close(d.leave)
	})
}

// lost gives an error (isFull) when what seems to be written is not.
func (d *disk) lost() error {
	if d.gone.Load() {
		return noSpace("the store was closed before there was any")
	}
	return nil
}

func noSpace(why string) error { return fmt.Errorf("%s: %w", why, syscall.ENOSPC) }

// held reports whether a write waits for space, so that no other is worth trying.
func (d *disk) held() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting > 0
}

// stalled is closed when writes wait for space and have done so for a while.
func (d *disk) stalled() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stall
}

// tightened is closed at the next compaction for which there is no space.
func (d *disk) tightened() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tight
}

// tighten tells of one.
func (d *disk) tighten() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.tight)
	d.tight = make(chan struct{})
}

// patiently tries again what finds the disk full, until there is space or the store
// is closed.
func (d *disk) patiently(try func() error) error {
	err := try()
	if !isFull(err) || !d.serving.Load() {
		return err
	}
	d.wait()
	defer d.waited()
	for isFull(err) {
		again := time.NewTimer(retryEvery)
		select {
		case <-d.leave:
			again.Stop()
			return try()
		case <-again.C:
			err = try()
		}
	}
	return err
}

func (d *disk) wait() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting++; d.waiting == 1 {
		d.log.Error("the disk is full: nothing is written until there is space again")
		stall := d.stall
		d.patient = time.AfterFunc(stallAfter, func() { close(stall) })
	}
}

func (d *disk) waited() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting--; d.waiting > 0 {
		return
	}
	if !d.patient.Stop() {
		d.stall = make(chan struct{})
	}
	d.log.Info("what waited for space is written")
}

// vital reports whether Pebble could not bear that a file is not written: log,
// manifest, what tells the newest manifest, and its options, which it renames.
func (d *disk) vital(name string) bool {
	if d.PathDir(name) != d.dir {
		return false
	}
	base := d.PathBase(name)
	for _, begin := range []string{"MANIFEST-", "marker.", "OPTIONS-"} {
		if strings.HasPrefix(base, begin) {
			return true
		}
	}
	return strings.HasSuffix(base, ".log") || strings.HasSuffix(base, ".dbtmp")
}

// Create implements vfs.FS.
func (d *disk) Create(name string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	try := func() (err error) {
		if err = d.lost(); err == nil {
			d.made(name)
			f, err = d.FS.Create(name, category)
		}
		return err
	}
	switch {
	case category == flushCategory || d.vital(name):
		if err = d.patiently(try); isFull(err) {
			d.lose(err)
			return vitalFile{void{}, d}, nil
		}
		return vitalFile{f, d}, err
	case category == compactionCategory:
		err = try()
		return &compactedFile{File: f, disk: d}, err
	}
	err = try()
	return f, err
}

func (d *disk) lose(err error) {
	if !d.gone.Swap(true) {
		d.log.Error("the disk is full: the store is left as it is there", "error", err)
	}
}

// unlessLost carries out what a lost disk refuses.
func (d *disk) unlessLost(do func() error) error {
	if err := d.lost(); err != nil {
		return err
	}
	return do()
}

// Link implements vfs.FS: an import's tables come into the database by it.
func (d *disk) Link(oldname, newname string) error {
	return d.patiently(func() error {
		return d.unlessLost(func() error { return d.FS.Link(oldname, newname) })
	})
}

// Remove implements vfs.FS. Before the store is opened nothing is removed: Pebble may
// have taken a part of it for the whole (last.go).
func (d *disk) Remove(name string) error {
	if d.keeps(name) {
		return nil
	}
	return d.unlessLost(func() error { return d.FS.Remove(name) })
}

// keeps reports whether a file is kept until the store is opened.
func (d *disk) keeps(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened.Load() || d.PathDir(name) != d.dir {
		return false
	}
	d.removed = append(d.removed, name)
	return true
}

// made says that a file that was removed is there again.
func (d *disk) made(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.removed = slices.DeleteFunc(d.removed, func(known string) bool { return known == name })
}

// RemoveAll implements vfs.FS.
func (d *disk) RemoveAll(name string) error {
	return d.unlessLost(func() error { return d.FS.RemoveAll(name) })
}

// Rename implements vfs.FS. Pebble renames its new options while it opens, and does not
// take well what makes it give up then.
func (d *disk) Rename(oldname, newname string) error {
	if !d.opened.Load() && d.lost() != nil && d.vital(newname) {
		return nil
	}
	return d.unlessLost(func() error { return d.FS.Rename(oldname, newname) })
}

// MkdirAll implements vfs.FS.
func (d *disk) MkdirAll(dir string, perm os.FileMode) error {
	return d.unlessLost(func() error { return d.FS.MkdirAll(dir, perm) })
}

// ReuseForWrite implements vfs.FS; the seal above never asks for it.
func (d *disk) ReuseForWrite(string, string, vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, vfs.ErrUnsupported
}

// OpenReadWrite implements vfs.FS; the seal above never asks for it.
func (d *disk) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, vfs.ErrUnsupported
}

// Unwrap implements vfs.FS.
func (d *disk) Unwrap() vfs.FS { return d.FS }

// vitalFile is a file whose writes wait for space, and lose the disk when there is no
// waiting.
type vitalFile struct {
	vfs.File
	disk *disk
}

func (f vitalFile) Write(p []byte) (done int, err error) {
	err = f.disk.patiently(func() error {
		return f.disk.unlessLost(func() error {
			n, err := f.File.Write(p[done:])
			done += n
			return err
		})
	})
	if isFull(err) {
		f.disk.lose(err)
		return len(p), nil
	}
	return done, err
}

func (f vitalFile) Sync() error {
	if f.disk.gone.Load() {
		return nil
	}
	return f.File.Sync()
}

func (f vitalFile) SyncData() error {
	if f.disk.gone.Load() {
		return nil
	}
	return f.File.SyncData()
}

func (f vitalFile) SyncTo(length int64) (bool, error) {
	if f.disk.gone.Load() {
		return false, nil
	}
	return f.File.SyncTo(length)
}

// compactedFile is a table that a compaction writes.
type compactedFile struct {
	vfs.File
	disk *disk
	left int // to be written before the next look
}

func (f *compactedFile) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		f.left = reserveLook
		usage, err := f.disk.GetDiskUsage(f.disk.dir)
		if err == nil && usage.AvailBytes < f.disk.reserve {
			return 0, noSpace("a compaction leaves what there is")
		}
	}
	n := 0
	err := f.disk.unlessLost(func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

// void is a file of which nothing is kept.
type void struct{}

func (void) Close() error                       { return nil }
func (void) Read([]byte) (int, error)           { return 0, io.EOF }
func (void) ReadAt([]byte, int64) (int, error)  { return 0, io.EOF }
func (void) Write(p []byte) (int, error)        { return len(p), nil }
func (void) WriteAt([]byte, int64) (int, error) { return 0, vfs.ErrUnsupported }
func (void) Preallocate(int64, int64) error     { return nil }
func (void) Stat() (vfs.FileInfo, error)        { return nil, vfs.ErrUnsupported }
func (void) Sync() error                        { return nil }
func (void) SyncTo(int64) (bool, error)         { return false, nil }
func (void) SyncData() error                    { return nil }
func (void) Prefetch(int64, int64) error        { return nil }
func (void) Fd() uintptr                        { return vfs.InvalidFd }
