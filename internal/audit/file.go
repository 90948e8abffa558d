package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/tarn-fhir/tarn/internal/durable"
)

// MaxKeep is the most full files that are kept: each turn renames them all.
const MaxKeep = 10_000

// FileOptions says where lines go, and when the file begins anew.
type FileOptions struct {
	Path     string
	MaxBytes int64 // a file is full with so many; 0: it grows for ever
	Keep     int   // full files kept beside the current one, 1 to MaxKeep
	Log      *slog.Logger
}

// File takes lines. When a line would make it larger than MaxBytes it is set
// aside as Path.1, the one before as Path.2 and so on, what is beyond Path.<Keep>
// is removed, and a new file begins. A line is always whole in one file, also one
// that is longer than MaxBytes.
//
// What Write took survives a crash of the process at once, and one of the machine
// when the system has written it back; a file set aside is synced first. It is
// safe for use by several goroutines, and for one process at a time.
type File struct {
	o FileOptions

	mu    sync.Mutex
	out   *os.File
	size  int64
	limit int64 // size at which to turn
	torn  bool  // the last line is not whole
}

// OpenFile goes on with the file at o.Path, mode 0600 where it is new. What a
// crash left of a line stays, on a line of its own.
func OpenFile(o FileOptions) (*File, error) {
	if o.MaxBytes < 0 || o.MaxBytes > 0 && (o.Keep < 1 || o.Keep > MaxKeep) {
		return nil, fmt.Errorf("audit: files of %d bytes, %d kept: the size is 0 or more, and 1 to %d are kept", o.MaxBytes, o.Keep, MaxKeep)
	}
	f := &File{o: o}
	return f, f.open()
}

func (f *File) open() error {
	out, err := os.OpenFile(f.o.Path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := out.Stat()
	if err != nil {
		return errors.Join(err, out.Close())
	}
	torn, err := endsTorn(out, info)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	f.out, f.size, f.limit, f.torn = out, info.Size(), f.o.MaxBytes, torn
	if !info.Mode().IsRegular() {
		f.limit = 0 // a pipe or terminal is not set aside
	}
	return nil
}

// endsTorn reports whether a file's last line is not whole. What is no regular
// file (a pipe, /dev/stdout) has no end to look at.
func endsTorn(file *os.File, info fs.FileInfo) (bool, error) {
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return false, nil
	}
	last := make([]byte, 1)
	_, err := file.ReadAt(last, info.Size()-1)
	return last[0] != '\n', err
}

// Write appends a line, which ends with a line feed.
func (f *File) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limit > 0 && f.size > 0 && f.size+int64(len(line)) > f.limit {
		f.turn()
	}
	if f.torn {
		n, err := f.out.Write([]byte{'\n'})
		f.size += int64(n)
		if err != nil {
			return 0, err
		}
		f.torn = false
	}
	n, err := f.out.Write(line)
	f.size += int64(n)
	f.torn = n > 0 && n < len(line)
	return n, err
}

// turn begins a new file. Where that fails the old one goes on for another
// MaxBytes, so that no line is lost.
func (f *File) turn() {
	old := f.out
	err := old.Sync()
	if err == nil {
		err = f.aside()
	}
	if err == nil {
		err = f.open()
	}
	if err != nil {
		f.limit += f.o.MaxBytes
		f.o.Log.Error("the audit file cannot begin anew and goes on", "file", f.o.Path, "error", err)
		return
	}
	if err := old.Close(); err != nil {
		f.o.Log.Warn("the full audit file does not close", "error", err)
	}
}

// aside makes room and renames the file to Path.1. A crash at any point loses
// nothing: it leaves a gap in the numbers, which the next turn fills first.
func (f *File) aside() error {
	gap, err := f.gap()
	if err != nil {
		return err
	}
	for n := gap; n > 0; n-- {
		err := os.Rename(f.numbered(n-1), f.numbered(n))
		if n == 1 && errors.Is(err, fs.ErrNotExist) {
			continue // somebody took the file away: a new one begins all the same
		}
		if err != nil {
			return err
		}
	}
	return durable.SyncFolder(filepath.Dir(f.o.Path))
}

// gap is the least number that no file has; where all are taken the oldest file
// makes place.
func (f *File) gap() (int, error) {
	for n := 1; n <= f.o.Keep; n++ {
		_, err := os.Lstat(f.numbered(n))
		if errors.Is(err, fs.ErrNotExist) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	f.o.Log.Info("the oldest audit file makes place", "file", f.numbered(f.o.Keep))
	return f.o.Keep, nil // the rename replaces it
}

// numbered is the name of the n-th full file, newest first; 0 is the current one.
func (f *File) numbered(n int) string {
	if n == 0 {
		return f.o.Path
	}
	return f.o.Path + "." + strconv.Itoa(n)
}

// Close syncs and closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if info, err := f.out.Stat(); err == nil && !info.Mode().IsRegular() { // nothing to sync
		return f.out.Close()
	}
	return errors.Join(f.out.Sync(), f.out.Close())
}
