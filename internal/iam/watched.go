package iam

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

const (
	// pollEvery bounds how often the file is looked at.
	pollEvery = time.Second
	// settled is how old a change must be before size and time of change alone
	// are believed: two changes within a clock tick of the file system look alike.
	settled = 2 * time.Second
)

// watched is a file that is read again when it changes.
type watched struct {
	path string

	mu    sync.Mutex
	next  time.Time // when to look again
	stat  fs.FileInfo
	sum   [sha256.Size]byte // of the content read last
	fault string            // how the last look failed, told once
}

// poll hands the file's text to use where it has changed since the last reading,
// or the reason why it cannot be read, once. It returns at once where a look is
// not due or another goroutine is at it, and never runs use twice at a time.
func (w *watched) poll(now time.Time, use func(text []byte, err error)) {
	if !w.mu.TryLock() {
		return
	}
	defer w.mu.Unlock()
	if now.Before(w.next) {
		return
	}
	text, changed, err := w.look(now)
	before := w.fault
	if w.fault = ""; err != nil {
		w.fault = err.Error()
	}
	if changed || w.fault != "" && w.fault != before {
		use(text, err)
	}
}

// first reads the file for the first time.
func (w *watched) first(now time.Time) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text, _, err := w.look(now)
	return text, err
}

func (w *watched) look(now time.Time) (text []byte, changed bool, err error) {
	w.next = now.Add(pollEvery)
	info, err := os.Stat(w.path)
	if err != nil {
		return nil, false, err
	}
	if w.stat != nil && os.SameFile(info, w.stat) && info.Size() == w.stat.Size() && info.Mode() == w.stat.Mode() &&
		info.ModTime().Equal(w.stat.ModTime()) && now.Sub(info.ModTime()).Abs() > settled {
		return nil, false, nil
	}
	text, err = readPrivate(w.path, info)
	if err != nil {
		return nil, false, err
	}
	sum := sha256.Sum256(text)
	changed = w.stat == nil || sum != w.sum
	w.stat, w.sum = info, sum
	return text, changed, nil
}

// readPrivate reads a file of secrets, which others must not be able to read or
// write.
func readPrivate(path string, info fs.FileInfo) ([]byte, error) {
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%s is open to others (mode %04o) and holds secrets: chmod o-rwx it", path, info.Mode().Perm())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, FileBytesMax+1))
	err = errors.Join(err, f.Close())
	if err == nil && len(text) > FileBytesMax {
		err = fault.New(fault.TooLarge, opParse, "%s is larger than %d bytes", path, FileBytesMax)
	}
	return text, err
}
