// Package store is the contract between Tarn and a storage engine.
//
// A data store is a value that grows: a sequence of commits, each all or
// nothing, each with a place in one order. A View looks at one moment of it. A
// resource is known to an engine by its Key, its versions (1, 2, 3, …), an
// opaque body per version and the index entries of the version; which versions
// match a question is asked as a plan.Plan. Engines know no FHIR rules.
//
//	Engine   Create Open Drop                a data store, by id and data key
//	Store    Commit View Follow Import Reindex Close   one open data store
//	View     Get GetVersion History Search Count Close
//
// # Order and visibility
//
// Commits of one store are totally ordered. A View sees every commit
// acknowledged before the View was asked for, and sees each commit whole or not
// at all. Record.Updated never decreases along the order of commits, and counts
// in milliseconds.
//
// # Durability
//
// When Commit returns without error, the commit survives the death of the
// process and of the machine. When it returns an error it left nothing behind,
// with one exception: a context that ends, or an engine that dies, while the
// commit is on its way leaves the outcome unknown, and the error says so
// (fault.Canceled, fault.Unavailable).
//
// # Concurrency
//
// Every method of Engine, Store and View may be called from many goroutines.
// Close waits for nobody: calls under way fail with fault.Unavailable.
//
// # Errors
//
// Errors are *fault.Error with these kinds: NotFound (no such resource, version
// or store), Gone (a moment beyond the engine's horizon), Conflict (the same
// key twice in one commit), Invalid (an operation against this contract), Full,
// TooCostly, Timeout, Canceled, Unavailable, Internal. A failed precondition is
// an *Unmet.
package store

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// ID names a data store inside an engine: 1 to 64 characters of [a-z0-9-].
type ID string

// Engine makes, opens and destroys data stores.
type Engine interface {
	// Create makes an empty data store sealed under key. A store of that id
	// that the same key opens is left as it is: Create may be repeated.
	Create(ctx context.Context, id ID, key seal.DataKey) error
	// Open opens a store; another Open of the same id before Close fails with
	// fault.Conflict, a wrong key with fault.Forbidden.
	Open(ctx context.Context, id ID, key seal.DataKey) (Store, error)
	// Drop destroys every byte of a store that is not open. It may be repeated,
	// and resumes where a crash stopped it.
	Drop(ctx context.Context, id ID) error
}

// Store is one open data store.
type Store interface {
	// HashKey is the key under which entries of this store hash: constant for
	// the store's life.
	HashKey() plan.HashKey

	// Commit carries out all ops or none, in order, and returns one Outcome per
	// op. Conditions are judged against the state right before this commit, at
	// its place in the order: nothing comes in between. A failed one gives
	// *Unmet. A key may be written by one op at most.
	Commit(ctx context.Context, ops []Op) ([]Outcome, error)

	// View opens the store at a moment; the zero Moment is now. The caller
	// closes it. Views are cheap, but hold back the freeing of space: they are
	// for one answer, and a Moment is for coming back.
	View(ctx context.Context, at Moment) (View, error)

	// Follow gives every commit after a moment, in order, then waits for new
	// ones until ctx ends; it may be begun again after any Change's Moment. The
	// zero Moment is the beginning.
	Follow(ctx context.Context, after Moment) iter.Seq2[Change, error]

	// Import opens the bulk door for the import of that name: see Importer.
	Import(ctx context.Context, name string) (Importer, error)

	// Reindex gives versions other entries, at every moment: nothing else of them
	// changes, and neither history nor feed tells of it. What is no longer the
	// current version of its resource, or is deleted, is left as it is. It reports
	// for each whether it was carried out; all are in one durable step. A key may
	// be in it once (fault.Conflict).
	//
	// Views that are open, and pages that go on from a token of before, may find
	// the one or the other.
	Reindex(ctx context.Context, versions []Reentry) ([]bool, error)

	// Close lets go of memory and files. What was acknowledged stays.
	Close() error
}

// Reentry is a version that shall be found by other entries.
type Reentry struct {
	Key     plan.Key
	Version uint64
	Entries []plan.Entry
}

// Moment is a place in a store's order of commits. Nothing above a store
// compares or computes with it; it may be kept (String) and come back (Moment
// of the string), for as long as the engine's horizon.
type Moment string

// OpKind is what an Op does.
type OpKind uint8

// The kinds of operation.
const (
	// Put makes a new version with Body and Entries.
	Put OpKind = iota
	// Delete makes a deletion marker as the new version; of a resource that is
	// absent or already deleted it makes nothing, and says so in the Outcome.
	Delete
	// Purge takes every version away, at every moment.
	Purge
	// Check writes nothing: it is there for its conditions.
	Check
)

// Op is one operation of a commit.
type Op struct {
	Kind    OpKind
	Key     plan.Key // zero for a Check that only asks plans
	Body    []byte   // Put: opaque to the engine, given back byte for byte
	Entries []plan.Entry
	// Tag is an opaque byte kept with the version and given back in its Record:
	// by which interaction it came.
	Tag byte
	// Frees says that space is made by this: a disk that is nearly full refuses it
	// as little as a Purge.
	Frees bool
	If    []Condition
}

// Condition is a precondition, judged at the commit point.
type Condition struct {
	Kind    ConditionKind
	Version uint64     // AtVersion
	Plan    *plan.Plan // Matches; Limit, Sort, Total and After are not looked at
	Keys    []plan.Key // Matches: what must be found, in any order
}

// ConditionKind is what a Condition asks.
type ConditionKind uint8

// The conditions.
const (
	// AtVersion: the current version of Key has this number and is not deleted.
	AtVersion ConditionKind = iota
	// Exists: Key has a current version that is not deleted.
	Exists
	// Absent: Key has no current version, or a deleted one.
	Absent
	// Never: Key has no version at all, not even a deleted one.
	Never
	// Matches: the plan's matches, cut at two, equal Keys (none, one or two). No
	// Keys is "no match".
	Matches
)

// Unmet says which precondition failed; the commit did nothing.
type Unmet struct {
	Op        int        // index into the commit's ops
	Condition int        // index into the op's If
	Current   uint64     // current version of the op's Key, 0 when there is none
	Deleted   bool       // the current version is a deletion
	Matched   []plan.Key // Matches: what the plan finds now, cut at two
}

func (u *Unmet) Error() string {
	return fmt.Sprintf("precondition %d of operation %d is not met", u.Condition, u.Op)
}

// Outcome is what became of one Op.
type Outcome struct {
	Version uint64    // the version made, or the current one where none was made; 0: none exists
	Updated time.Time // when that version became current
	Created bool      // Put: there was no current version before, or a deleted one
	Changed bool      // a version was made, or, for Purge, something was taken away
}

// Record is one version of a resource.
type Record struct {
	Key     plan.Key
	Version uint64
	Updated time.Time
	Created time.Time // when version 1 became current
	Deleted bool      // a deletion marker: Body is empty
	Tag     byte
	Body    []byte // the caller must not change it
}

// View is a store at one moment.
type View interface {
	// Moment names this View, for a page token.
	Moment() Moment
	// Get gives the current version, a deletion marker too; fault.NotFound when
	// there never was one.
	Get(ctx context.Context, key plan.Key) (Record, error)
	// GetVersion gives one version, current or not; fault.NotFound.
	GetVersion(ctx context.Context, key plan.Key, version uint64) (Record, error)
	// History gives versions, newest first.
	History(ctx context.Context, q HistoryQuery) (Page, error)
	// Search gives the current resources that match, in the plan's order, and
	// never a deleted one.
	Search(ctx context.Context, p *plan.Plan) (Page, error)
	// Count is the exact number of matches.
	Count(ctx context.Context, p *plan.Plan) (int64, error)
	Close() error
}

// HistoryQuery asks for versions. Zero members ask for nothing special.
type HistoryQuery struct {
	// Key, when its ID is set, is one resource.
	Key plan.Key
	// Types, when Key is not set, are the types to list; nil is every type below
	// plan.SystemTypes.
	Types []plan.Type
	// Low ≤ Updated < High; zero is open.
	Low, High time.Time
	// AtLow and AtHigh ask for versions that were current at some time t with
	// AtLow ≤ t < AtHigh (R4's _at); zero both is no condition.
	AtLow, AtHigh time.Time
	// Where keeps versions whose own entries meet the arm of their type
	// (deletions: the entries of the version before). Nil keeps all; a type
	// without an arm is left out. Chains look at the View's moment.
	Where []plan.Arm
	// OldestFirst turns the order round.
	OldestFirst bool
	After       []byte // the Next of the page before
	Limit       int
	Total       bool // fill Page.Total
}

// Page is a piece of an answer.
type Page struct {
	Records []Record
	Next    []byte // nil at the end; opaque, for the same question at the same moment
	Total   int64  // as asked; -1 when not asked
}

// Change is one version in the order of commits.
type Change struct {
	Record
	Purged bool   // the resource was purged; Body is empty, Version 0
	Moment Moment // after the commit this belongs to; the same for all its changes
}

// Importer is the bulk door: unconditional puts, as fast as the engine can,
// durable from part to part with the caller's cursor. An import has a name; its
// cursors are kept in the store itself, and Import of the same name goes on
// where they stand. Nothing is visible before its part is flushed; then all of
// it is, in commits of the engine's choosing.
type Importer interface {
	// Part opens one ordered stream of the import, or opens it again: a file, a
	// range of a file. Parts may be added to side by side, one goroutine each.
	Part(ctx context.Context, name string) (Part, error)
	// Close flushes what is open. The cursors stay until Forget.
	Close(ctx context.Context) error
	// Forget drops the cursors of this import.
	Forget(ctx context.Context) error
}

// Part is one ordered stream of an import.
type Part interface {
	// Cursor is the cursor of the last durable Add, nil before the first.
	Cursor() []byte
	// Add takes puts in order; the same key twice makes two versions in this
	// order. cursor says where the source stands behind them; it becomes durable
	// together with them, not before and not after. The engine keeps ops and
	// cursor until they are flushed.
	Add(ctx context.Context, ops []Op, cursor []byte) error
	// Flush makes everything added so far durable and visible.
	Flush(ctx context.Context) error
}

// Explainer is an optional power of a View: how a plan is carried out, with
// estimated and true counts, without values.
type Explainer interface {
	Explain(ctx context.Context, p *plan.Plan) (Explanation, error)
}

// Scrubber is an optional power of a Store: a purge takes a resource out of every
// moment at once, Scrub takes what was purged out of the files too. It may be
// repeated, and resumes after a crash.
type Scrubber interface {
	Scrub(ctx context.Context) error
}
