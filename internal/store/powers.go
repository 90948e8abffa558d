package store

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tarn-fhir/tarn/internal/seal"
)

// Checker is an optional power of a Store: it reads everything that the store
// keeps, as of one moment, and tells where parts do not agree. Commits go on
// meanwhile. The error is only that the check could not be done.
type Checker interface {
	Check(ctx context.Context) (Report, error)
}

// Repairer is an optional power of a Store: it checks, and writes again what is
// derived (whatever finds resources) from what is not (the versions). Nobody
// may commit meanwhile. The Report is of a last check, after the repairs, and
// says how many entries were written: what it still lists needs a backup.
type Repairer interface {
	Repair(ctx context.Context) (Report, error)
}

// Compacter is an optional power of a Store: it puts the store's files into the
// order that reads fastest and takes least room. Commits and reads go on.
type Compacter interface {
	Compact(ctx context.Context) error
}

// Crowder is an optional power of a Store: Crowds reports whether it takes more than its
// part of the memory that open stores share, while these together take more than there
// is. Closed and opened again, it takes little. It may be asked at any time, often.
type Crowder interface {
	Crowds() bool
}

// MaxProblems bounds the problems that a Report lists.
const MaxProblems = 100

// Report is what a check found.
type Report struct {
	Rows     int64     // versions, deletions and purges that were read
	Postings int64     // places of rows in the index that were read
	Files    int64     // files whose checksums were read
	Problems []Problem // the first MaxProblems
	More     int64     // problems beyond those
	Mended   int64     // entries that a repair wrote
	// Reindex: entries are lost which only a Reindex of their resources makes again.
	Reindex bool `json:",omitempty"`
}

// Sound reports whether a check found no problem.
func (r *Report) Sound() bool { return len(r.Problems) == 0 }

// Add notes a problem.
func (r *Report) Add(part, format string, args ...any) {
	if len(r.Problems) == MaxProblems {
		r.More++
		return
	}
	r.Problems = append(r.Problems, Problem{part, fmt.Sprintf(format, args...)})
}

// Problem is one thing that does not agree with another. It holds numbers and
// keys of the engine, and nothing that a client wrote.
type Problem struct {
	Part string // which part of the store: a word of the engine's key table, or "file"
	What string
}

func (p Problem) String() string { return p.Part + ": " + p.What }

// Backuper is an optional power of a Store: it gives the store's present moment,
// with all its history, to a keeper, file by file. Commits and reads go on. A
// file that the keeper has from a backup before is not given again, so that a
// backup costs what changed. Files are sealed under the store's data key.
type Backuper interface {
	Backup(ctx context.Context, to Keeper) ([]BackupFile, error)
}

// Keeper keeps the files of backups.
type Keeper interface {
	// Has reports whether a file is kept already, whole.
	Has(id string) (bool, error)
	// Keep keeps a file, durably.
	Keep(ctx context.Context, id string, size int64, content io.Reader) error
}

// BackupFile is one file of a backup: what the engine calls it, what the keeper
// calls it (the same id is the same content), and its size in bytes.
type BackupFile struct {
	Name string
	ID   string
	Size int64
}

// Restorer is an optional power of an Engine: it makes a store of a backup, with
// all its history, sealed under a key of its own. A store of that id that the
// key opens is left as it is: Restore may be repeated.
type Restorer interface {
	Restore(ctx context.Context, id ID, key seal.DataKey, from Kept) error
}

// Kept is a backup as it is kept.
type Kept interface {
	// Key opens the files.
	Key() seal.DataKey
	Files() []BackupFile
	Open(id string) (io.ReadCloser, error)
}

// Truncater is an optional power of a Store: it takes away every commit that is
// dated after a time, as if it had never been. Nobody else may use the store
// meanwhile; it is closed and opened again before anybody does. What was purged
// stays purged. It may be repeated, and goes on after a crash.
type Truncater interface {
	Truncate(ctx context.Context, after time.Time) error
}

// Rekeyer is an optional power of a Store: it exchanges the data key that the
// store is sealed under. Commits and reads go on.
type Rekeyer interface {
	// Rekey makes key the store's data key: when it returns, and after a crash
	// then, Open asks for this key and no other, and what is written is sealed
	// under it. After an error or a crash before, one of the two keys opens the
	// store. The same key again changes nothing.
	Rekey(ctx context.Context, key seal.DataKey) error
	// Reseal seals under the present key what still is sealed under keys of
	// before, and forgets those. It may be repeated, and goes on after a crash.
	Reseal(ctx context.Context) error
}
