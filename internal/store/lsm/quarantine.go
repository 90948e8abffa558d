package lsm

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// maxForcedEnds is how often a store may fail to write its log, or end the
// process, without a commit in between: it is not opened after that, so that the
// other stores can be served.
const maxForcedEnds = 2

// quarantine is the note that a store leaves when its log cannot be written, and
// when Pebble ends the process. It is a plain file with the number of such ends
// since the last commit that worked:
//
//	1
//	pebble: fatal commit error: …
type quarantine struct {
	dir     storeDir
	mu      sync.Mutex
	count   atomic.Int64 // ends before this opening; 0: there is no note
	written bool         // guarded by mu: this opening left its note
}

// admit reads the note at open; after too many ends the store stays closed.
func (q *quarantine) admit() error {
	there, err := fileExists(q.dir.fs, q.dir.join(quarantineName))
	if !there || err != nil {
		return err
	}
	text, err := readFile(q.dir.fs, q.dir.join(quarantineName))
	if err != nil {
		return err
	}
	number, reason, _ := strings.Cut(string(text), "\n")
	count, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil {
		count = 1 // a note cut short by the end it tells of
	}
	q.count.Store(max(count, 1))
	if count < maxForcedEnds {
		return nil
	}
	return &fault.Error{
		Kind: fault.Unavailable, Op: "lsm.Open", Detail: "the store is in quarantine: its log could not be written " + strconv.FormatInt(count, 10) + " times",
		Hint:  "look at disk and log, then remove the file " + quarantineName + " from the store's folder",
		Cause: fmt.Errorf("%s", strings.TrimSpace(reason)),
	}
}

// write leaves a note, once.
func (q *quarantine) write(reason string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.written {
		return nil
	}
	q.written = true
	text := strconv.FormatInt(q.count.Load()+1, 10) + "\n" + reason + "\n"
	if err := writeFile(q.dir.fs, q.dir.join(quarantineName), []byte(text)); err != nil {
		return err
	}
	return syncDir(q.dir.fs, q.dir.path)
}

// clear takes the note back, after a commit that worked.
func (q *quarantine) clear() error {
	if q.count.Load() == 0 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.count.Store(0)
	return q.dir.fs.Remove(q.dir.join(quarantineName))
}

// logger is Pebble's Logger.
type logger struct {
	log        *slog.Logger
	quarantine *quarantine
	exit       func()
	once       *sync.Once
	disk       *disk
}

// Infof drops what Pebble tells of its daily work.
func (l logger) Infof(string, ...any) {}

// Errorf passes on.
func (l logger) Errorf(format string, args ...any) {
	l.log.Error("storage engine", "text", fmt.Sprintf(format, args...))
}

// Fatalf leaves the note and ends the process, as Pebble expects: after a
// failed write of its log nobody knows what is on disk.
func (l logger) Fatalf(format string, args ...any) {
	l.once.Do(func() {
		reason := fmt.Sprintf(format, args...)
		l.log.Error("storage engine cannot go on", "text", reason)
		if err := l.quarantine.write(reason); err != nil {
			l.log.Error("the quarantine note was not written", "error", err)
		}
	})
	l.exit()
}

// corruption tells the log of damaged tables. Pebble's own listener would end the
// process; here whoever asked gets the error, and the other stores serve on.
func corruption(log logger) func(pebble.DataCorruptionInfo) {
	return func(info pebble.DataCorruptionInfo) {
		if log.disk.lost() != nil {
			return // it is not there because it was not written
		}
		log.log.Error("a file of the store is damaged: check it, and restore it from a backup", "file", info.Path, "error", info.Details)
	}
}
