package store

import (
	"context"
	"fmt"
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
