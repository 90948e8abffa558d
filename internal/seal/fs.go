package seal

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tarn-fhir/tarn/internal/fault"
)

// FS is a vfs.FS for Pebble whose files hold ciphertext only. Names, sizes,
// times and the empty LOCK file stay as they are.
//
// Files are write-once: Create, append by Write, Close; OpenReadWrite and
// WriteAt are refused (Pebble 2.1.7 needs OpenReadWrite only for the cache of
// remote objects, WriteAt only there). So no byte of a keystream ever covers
// two contents:
//
//   - every Create draws a new salt, ReuseForWrite deletes and creates;
//   - a file that failed to write takes no more bytes (ErrPoisoned);
//   - Link and Rename keep file, salt and content; a copy is a new file.
//
// A FS may open files under keys of before (AddOlder, Rekey) and seals new ones
// under the present key only; Reseal puts a file under the present key, also one
// that is being written: see reseal.go.
//
// A file made before a crash reads as empty until its first Write has put the
// header on disk: Write syncs the header before it writes content, so that a
// header lost or changed later is damage and never an empty file.
type FS struct {
	base   vfs.FS
	random io.Reader

	mu    sync.RWMutex // guards the keys
	files [KeySize]byte
	older [][KeySize]byte // keys of before, the newest first
	wiped bool

	// names is held for reading while a name is given or taken away, for writing
	// while Reseal puts a file in another's place.
	names   sync.RWMutex
	writing writers
}

var _ vfs.FS = (*FS)(nil)

// ErrPoisoned is what Write gives after a failed Write to the same file: how
// many bytes reached the disk is unknown, and going on could cover two contents
// with one keystream.
var ErrPoisoned = fault.New(fault.Internal, "seal.Write", "an earlier write to this file failed")

// filesLabel derives the key under which a store's files are sealed.
const filesLabel = "files"

// NewFS seals base under the data key. The FS keeps a key of its own: the data
// key may be wiped at once. It panics as DataKey.Derive does.
func NewFS(base vfs.FS, key DataKey) *FS {
	return newFS(base, key, rand.Reader)
}

func newFS(base vfs.FS, key DataKey, random io.Reader) *FS {
	return &FS{base: base, files: key.Derive(filesLabel), random: random}
}

// Wipe forgets the FS's key: nothing can be created or opened any more
// (fault.Forbidden). Files that are open stay so.
func (s *FS) Wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.files[:])
	s.clearOlder()
	s.wiped = true
}

// withKey runs f with the key under which files are sealed. f must not wait for
// anything: Rekey waits for it.
func (s *FS) withKey(f func(files *[KeySize]byte) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.wiped {
		return &fault.Error{Kind: fault.Forbidden, Op: "seal.FS", Detail: "the key of this file system was wiped"}
	}
	return f(&s.files)
}

// newFile makes header and keystream of a new file.
func (s *FS) newFile() (h *header, stream *keystream, err error) {
	err = s.withKey(func(files *[KeySize]byte) (err error) {
		if h, err = newHeader(files, s.random); err == nil {
			stream, err = h.keystream(files)
		}
		return err
	})
	return h, stream, err
}

// keystream gives the keystream of a file with this header: under the present
// key, or under one of before.
func (s *FS) keystream(h *header) (stream *keystream, err error) {
	err = s.withKey(func(files *[KeySize]byte) (err error) {
		stream, err = h.keystream(files)
		for i := 0; err != nil && i < len(s.older); i++ {
			stream, err = h.keystream(&s.older[i])
		}
		return err
	})
	return stream, err
}

// Create makes an empty file for writing, in place of the one of that name.
func (s *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	s.names.RLock()
	defer s.names.RUnlock()
	h, stream, err := s.newFile()
	if err != nil {
		return nil, err
	}
	base, err := s.base.Create(name, category)
	if err != nil {
		return nil, err
	}
	w := newWriter(base, h, stream)
	w.fs = s
	s.writing.add(name, w)
	return w, nil
}

// Open opens a file for reading. A file under another key is fault.Forbidden.
func (s *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	base, err := s.base.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	r := &reader{content: content{base: base}, fs: s}
	if _, err := r.open(); err != nil {
		_ = base.Close() // only read from: nothing can be lost
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// OpenReadWrite is refused: files are write-once.
func (s *FS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, fmt.Errorf("seal: OpenReadWrite %s: sealed files are write-once: %w", name, vfs.ErrUnsupported)
}

// ReuseForWrite deletes the old file and makes a new one: its keystream is not
// used twice.
func (s *FS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := s.Remove(oldname); err != nil {
		return nil, err
	}
	return s.Create(newname, category)
}

// Stat gives the size of the content.
func (s *FS) Stat(name string) (vfs.FileInfo, error) { return contentInfo(s.base.Stat(name)) }

// Link gives a file a second name.
func (s *FS) Link(oldname, newname string) error {
	s.names.RLock()
	defer s.names.RUnlock()
	return s.base.Link(oldname, newname)
}

// OpenDir opens a folder, to sync it.
func (s *FS) OpenDir(name string) (vfs.File, error) { return s.base.OpenDir(name) }

// Remove removes a file or an empty folder.
func (s *FS) Remove(name string) error {
	s.names.RLock()
	defer s.names.RUnlock()
	err := s.base.Remove(name)
	if err == nil {
		s.writing.forget(name)
	}
	return err
}

// RemoveAll removes a folder and all in it.
func (s *FS) RemoveAll(name string) error {
	s.names.RLock()
	defer s.names.RUnlock()
	return s.base.RemoveAll(name)
}

// Rename gives a file another name.
func (s *FS) Rename(oldname, newname string) error {
	s.names.RLock()
	defer s.names.RUnlock()
	err := s.base.Rename(oldname, newname)
	if err == nil {
		s.writing.rename(oldname, newname)
	}
	return err
}

// MkdirAll makes a folder and its parents.
func (s *FS) MkdirAll(dir string, perm os.FileMode) error { return s.base.MkdirAll(dir, perm) }

// Lock locks a file, which stays empty.
func (s *FS) Lock(name string) (io.Closer, error) { return s.base.Lock(name) }

// List lists a folder.
func (s *FS) List(dir string) ([]string, error) { return s.base.List(dir) }

// PathBase is the last element of a path.
func (s *FS) PathBase(path string) string { return s.base.PathBase(path) }

// PathJoin joins elements to a path.
func (s *FS) PathJoin(elem ...string) string { return s.base.PathJoin(elem...) }

// PathDir is a path without its last element.
func (s *FS) PathDir(path string) string { return s.base.PathDir(path) }

// GetDiskUsage tells how full the disk is.
func (s *FS) GetDiskUsage(path string) (vfs.DiskUsage, error) { return s.base.GetDiskUsage(path) }

// Unwrap gives the file system below. Files linked there into the folder of a
// store with another key cannot be opened: they are refused, not misread.
func (s *FS) Unwrap() vfs.FS { return s.base }

// info is a file's FileInfo with the size of its content.
type info struct{ vfs.FileInfo }

func contentInfo(base vfs.FileInfo, err error) (vfs.FileInfo, error) {
	if err != nil || base.IsDir() {
		return base, err
	}
	return info{base}, nil
}

// Size is the content's size in bytes.
func (i info) Size() int64 { return max(0, i.FileInfo.Size()-headerSize) }
