package seal

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// content is what reader and writer share: everything of vfs.File in which
// only the offsets differ.
type content struct{ base vfs.File }

// Close closes the file.
func (c content) Close() error { return c.base.Close() }

// Preallocate reserves nothing: Pebble asks for a memtable's size (some 17 MiB) for
// each log, which would stay with the last log of every store that is closed, and
// what is appended is as soon on disk without it.
func (content) Preallocate(_, _ int64) error { return nil }

// Stat gives the size of the content.
func (c content) Stat() (vfs.FileInfo, error) { return contentInfo(c.base.Stat()) }

// Sync puts content and metadata on disk.
func (c content) Sync() error { return c.base.Sync() }

// SyncData puts the content on disk.
func (c content) SyncData() error { return c.base.SyncData() }

// SyncTo puts a beginning of the content on its way to disk.
func (c content) SyncTo(length int64) (fullSync bool, err error) {
	return c.base.SyncTo(length + headerSize)
}

// Prefetch asks for content to be read ahead.
func (c content) Prefetch(offset, length int64) error {
	return c.base.Prefetch(offset+headerSize, length)
}

// Fd is the descriptor of the sealed file, for advice to the system: what is
// read through it is ciphertext, 64 bytes further on.
func (c content) Fd() uintptr { return c.base.Fd() }

// WriteAt is refused: files are write-once.
func (c content) WriteAt([]byte, int64) (int, error) {
	return 0, fmt.Errorf("seal: WriteAt: sealed files are write-once: %w", vfs.ErrUnsupported)
}

// readAt reads content; stream nil is a file without content.
func (c content) readAt(stream *keystream, p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("seal: ReadAt: negative offset")
	}
	if stream == nil {
		return 0, io.EOF
	}
	n, err := c.base.ReadAt(p, offset+headerSize)
	if n > 0 {
		stream.xor(p[:n], p[:n], offset)
	}
	return n, err
}

// reader is a file opened for reading.
type reader struct {
	content
	fs     *FS
	stream atomic.Pointer[keystream] // nil until the file has a header
	at     atomic.Int64              // where Read goes on
}

// open reads the header; nil without error when the file is empty so far.
func (r *reader) open() (*keystream, error) {
	if stream := r.stream.Load(); stream != nil {
		return stream, nil
	}
	// One byte more than the header tells a header alone from a file with content.
	var raw [headerSize + 1]byte
	n, err := r.base.ReadAt(raw[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h, err := parseHeader(raw[:n])
	if h == nil || err != nil {
		return nil, err
	}
	stream, err := r.fs.keystream(h)
	if err != nil {
		return nil, err
	}
	r.stream.Store(stream)
	return stream, nil
}

// ReadAt reads content from an offset.
func (r *reader) ReadAt(p []byte, offset int64) (int, error) {
	stream, err := r.open()
	if err != nil {
		return 0, err
	}
	return r.readAt(stream, p, offset)
}

// Read reads on from where the last Read ended.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadAt(p, r.at.Load())
	r.at.Add(int64(n))
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Write is refused: the file was opened for reading.
func (r *reader) Write([]byte) (int, error) {
	return 0, fmt.Errorf("seal: Write: file opened for reading: %w", vfs.ErrUnsupported)
}

// writer is a file that Create made. Writes come one after another
// (vfs.File's rule); reads may come at any time.
type writer struct {
	fs   *FS
	turn sync.RWMutex // held for writing while Reseal exchanges what follows

	content
	head     header
	begun    bool // the first Write has written the header
	stream   *keystream
	closed   bool
	written  atomic.Int64 // bytes of content: where the keystream stands
	poisoned bool
	at       atomic.Int64 // where Read goes on
}

func newWriter(base vfs.File, h *header, stream *keystream) *writer {
	return &writer{content: content{base}, head: *h, stream: stream}
}

// chunk is how much is sealed and written at a time, in bytes: WAL blocks of
// 32 KiB and table blocks fit, and a large flush needs few writes.
const chunk = 128 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// Write seals p, which stays as it is, and appends it.
func (w *writer) Write(p []byte) (int, error) {
	w.turn.RLock()
	defer w.turn.RUnlock()
	if w.poisoned {
		return 0, ErrPoisoned
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := w.begin(); err != nil {
		w.poisoned = true
		return 0, err
	}
	buffer := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buffer)
	done := 0
	for done < len(p) {
		n, err := w.append(buffer[:min(chunk, len(p)-done)], p[done:])
		done += n
		if err != nil {
			w.poisoned = true
			return done, err
		}
	}
	return done, nil
}

// append seals len(buffer) bytes of p and writes them.
func (w *writer) append(buffer, p []byte) (int, error) {
	w.stream.xor(buffer, p[:len(buffer)], w.written.Load())
	n, err := w.base.Write(buffer)
	w.written.Add(int64(n))
	if err == nil && n < len(buffer) {
		err = io.ErrShortWrite
	}
	return n, err
}

// begin puts the header on disk before the first byte of content: see FS.
func (w *writer) begin() error {
	if w.begun {
		return nil
	}
	head := w.head // a vfs.File may change what it is given to write
	n, err := w.base.Write(head[:])
	if err == nil && n < headerSize {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = w.base.SyncData()
	}
	w.begun = err == nil
	return err
}

// ReadAt reads what was written.
func (w *writer) ReadAt(p []byte, offset int64) (int, error) {
	w.turn.RLock()
	defer w.turn.RUnlock()
	if offset >= w.written.Load() && len(p) > 0 {
		return 0, io.EOF
	}
	return w.readAt(w.stream, p, offset)
}

// Read reads on from where the last Read ended, from the beginning at first.
func (w *writer) Read(p []byte) (int, error) {
	n, err := w.ReadAt(p, w.at.Load())
	w.at.Add(int64(n))
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
