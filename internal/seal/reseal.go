package seal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// How the key of a file system is exchanged while it is in use:
//
//	Rekey     new files are sealed under another key; files of before still open
//	Outdated  is this file under a key of before?
//	Reseal    the same content, in a new file under the present key, in its place
//	Forget    only the present key opens files from now on
//
// A file that is closed is copied beside, synced, and renamed over the old one,
// unless that was removed meanwhile. A file that is being written is copied while
// its writer waits; the writer then goes on in the copy. Either way the old file
// is whole until the new one is, and a name never leads to less than was synced.
// Who has the old file open reads on in it.

// errChanged says that a name leads to another file than it did.
var errChanged = errors.New("seal: the file was removed or replaced meanwhile")

// clearOlder forgets the keys of before; mu is held.
func (s *FS) clearOlder() {
	for i := range s.older {
		clear(s.older[i][:])
	}
	s.older = nil
}

// Rekey seals what is created from now on under another data key. What was sealed
// before still opens. It panics as DataKey.Derive does.
func (s *FS) Rekey(key DataKey) {
	fresh := key.Derive(filesLabel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files != fresh {
		s.older = append([][KeySize]byte{s.files}, s.older...)
		s.files = fresh
	}
}

// FilesKeys are the keys that open files of this FS, the present one first: for
// whoever keeps those of before, sealed under the present one.
func (s *FS) FilesKeys() [][KeySize]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return append([][KeySize]byte{s.files}, s.older...)
}

// AddOlder lets files open that are sealed under keys of before, as FilesKeys
// gave them.
func (s *FS) AddOlder(files ...[KeySize]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.older = append(s.older, files...)
}

// Forget drops the keys of before. Files that are open stay so.
func (s *FS) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearOlder()
}

// Outdated reports whether a file is sealed under a key of before. A file without
// content is not: it has no key yet.
func (s *FS) Outdated(name string) (bool, error) {
	if w := s.writing.of(name); w != nil {
		return w.outdated()
	}
	h, err := s.headerOf(name)
	if h == nil || err != nil {
		return false, err
	}
	return s.under(h)
}

// under reports whether a header was made under a key of before.
func (s *FS) under(h *header) (older bool, err error) {
	err = s.withKey(func(files *[KeySize]byte) error {
		check := h.check(files)
		older = !bytes.Equal(check[:], h[checkAt:])
		return nil
	})
	return older, err
}

func (s *FS) headerOf(name string) (h *header, err error) {
	f, err := s.base.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var raw [headerSize + 1]byte
	n, err := f.ReadAt(raw[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return parseHeader(raw[:n])
}

// Reseal puts a file under the present key, by way of the file beside, which
// must be on the same file system and is not there afterwards. Whether it still
// had to and could be done, it reports; a file that was removed meanwhile is no
// error. stop is asked between pieces; its error ends the work.
func (s *FS) Reseal(name, beside string, stop func() error) (done bool, err error) {
	outdated, err := s.Outdated(name)
	if err != nil || !outdated {
		return false, ignoreGone(err)
	}
	if w := s.writing.of(name); w != nil {
		done, err = w.reseal(name, beside, stop)
	} else {
		done, err = s.resealClosed(name, beside, stop)
	}
	if err == nil {
		return done, nil
	}
	if gone := s.base.Remove(beside); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return false, ignoreGone(err)
}

func ignoreGone(err error) error {
	if errors.Is(err, errChanged) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// resealClosed is Reseal of a file that nobody writes to.
func (s *FS) resealClosed(name, beside string, stop func() error) (bool, error) {
	old, err := s.headerOf(name)
	if old == nil || err != nil {
		return false, err
	}
	from, err := s.Open(name)
	if err != nil {
		return false, err
	}
	h, stream, err := s.newFile()
	if err != nil {
		return false, errors.Join(err, from.Close())
	}
	to, err := s.copyTo(beside, from, h, stream, stop)
	if err = errors.Join(err, from.Close()); err != nil {
		return false, err
	}
	if err := to.Close(); err != nil {
		return false, err
	}
	s.names.Lock()
	defer s.names.Unlock()
	now, err := s.headerOf(name)
	if err != nil {
		return false, err
	}
	if now == nil || *now != *old || s.writing.of(name) != nil {
		return false, errChanged
	}
	return true, s.replace(beside, name)
}

// replace renames a file over another, durably.
func (s *FS) replace(from, to string) error {
	if err := s.base.Rename(from, to); err != nil {
		return err
	}
	dir, err := s.base.OpenDir(s.base.PathDir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// copyTo writes content into a new sealed file, syncs it and leaves it open.
func (s *FS) copyTo(name string, from io.Reader, h *header, stream *keystream, stop func() error) (_ vfs.File, err error) {
	base, err := s.base.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, base.Close())
		}
	}()
	w := newWriter(base, h, stream)
	buffer := make([]byte, chunk)
	for {
		if err := stop(); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(from, buffer)
		if _, failed := w.Write(buffer[:n]); failed != nil {
			return nil, failed
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return base, base.Sync()
		}
		if err != nil {
			return nil, err
		}
	}
}

// outdated is Outdated of a file that is being written.
func (w *writer) outdated() (bool, error) {
	w.turn.RLock()
	defer w.turn.RUnlock()
	return w.fs.under(&w.head)
}

// reseal is Reseal of a file that is being written: its writer goes on in the
// copy.
func (w *writer) reseal(name, beside string, stop func() error) (bool, error) {
	w.turn.Lock()
	defer w.turn.Unlock()
	if w.closed {
		return false, errChanged // the next Reseal finds it closed
	}
	if w.poisoned {
		return false, ErrPoisoned
	}
	h, stream, err := w.fs.newFile()
	if err != nil {
		return false, err
	}
	if !w.begun { // nothing is written yet
		w.head, w.stream = *h, stream
		return true, nil
	}
	from, err := w.fs.base.Open(name)
	if err != nil {
		return false, err
	}
	plain := content{from}
	section := io.NewSectionReader(readerAt(func(p []byte, offset int64) (int, error) { return plain.readAt(w.stream, p, offset) }), 0, w.written.Load())
	to, err := w.fs.copyTo(beside, section, h, stream, stop)
	if err = errors.Join(err, from.Close()); err != nil {
		return false, err
	}
	w.fs.names.Lock()
	defer w.fs.names.Unlock()
	if w.fs.writing.of(name) != w {
		return false, errors.Join(errChanged, to.Close())
	}
	if err := w.fs.replace(beside, name); err != nil {
		// Which of the two files the name leads to after a crash is unknown.
		w.poisoned = true
		return false, errors.Join(err, to.Close())
	}
	old := w.base
	w.base, w.head, w.stream = to, *h, stream
	return true, old.Close()
}

type readerAt func(p []byte, offset int64) (int, error)

func (r readerAt) ReadAt(p []byte, offset int64) (int, error) { return r(p, offset) }

// writers are the files that are being written, by name.
type writers struct {
	mu sync.Mutex
	by map[string]*writer
}

func (w *writers) of(name string) *writer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.by[name]
}

func (w *writers) add(name string, one *writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[string]*writer{}
	}
	w.by[name] = one
}

func (w *writers) forget(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.by, name)
}

// drop forgets a writer under whatever name it has now.
func (w *writers) drop(one *writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, at := range w.by {
		if at == one {
			delete(w.by, name)
		}
	}
}

func (w *writers) rename(from, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := w.by[from]
	delete(w.by, from)
	delete(w.by, to)
	if one != nil {
		w.by[to] = one
	}
}

// The rest of vfs.File of a writer, each against Reseal's exchange of the file.

// Close closes the file.
func (w *writer) Close() error {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.closed = true
	if w.fs != nil {
		w.fs.writing.drop(w)
	}
	return w.content.Close()
}

// Sync puts content and metadata on disk.
func (w *writer) Sync() error {
	w.turn.RLock()
	defer w.turn.RUnlock()
	return w.content.Sync()
}

// SyncData puts the content on disk.
func (w *writer) SyncData() error {
	w.turn.RLock()
	defer w.turn.RUnlock()
	return w.content.SyncData()
}

// SyncTo puts a beginning of the content on its way to disk.
func (w *writer) SyncTo(length int64) (fullSync bool, err error) {
	w.turn.RLock()
	defer w.turn.RUnlock()
	return w.content.SyncTo(length)
}

// Prefetch asks for content to be read ahead.
func (w *writer) Prefetch(offset, length int64) error {
	w.turn.RLock()
	defer w.turn.RUnlock()
	return w.content.Prefetch(offset, length)
}

// Stat gives the size of the content.
func (w *writer) Stat() (vfs.FileInfo, error) {
	w.turn.RLock()
	defer w.turn.RUnlock()
	return w.content.Stat()
}

// Fd is the descriptor of the file as it is now, for advice to the system only.
func (w *writer) Fd() uintptr {
	w.turn.RLock()
	defer w.turn.RUnlock()
	return w.content.Fd()
}

// errNoKey is for whoever keeps keys of files: one of another size.
var errNoKey = fault.New(fault.Internal, "seal.FilesKey", "a kept key of files has a wrong size")

// FilesKeyFrom is a key of files as FilesKeys gave it, from its bytes.
func FilesKeyFrom(raw []byte) (key [KeySize]byte, err error) {
	if len(raw) != KeySize {
		return key, errNoKey
	}
	copy(key[:], raw)
	return key, nil
}
