// Package lsm is the embedded storage engine: data stores in Pebble, an ordered
// key-value store of log-structured merge trees.
//
//	<root>/<id>/FORMAT       which format the folder has, plain
//	<root>/<id>/STORE        what is constant for the store's life, sealed
//	<root>/<id>/db/…         Pebble's files, sealed
//	<root>/<id>/QUARANTINE   that this store ended the process, plain
//	<root>/ballast           space to give back when the disk is full
//
// Every version of every resource gets a row number (rid) in the order of
// commits; 65,536 of them are a block. An index entry (param, value) has one
// container a block: the set of rows that carry it. Rows are never taken out of
// containers when they are superseded: one bit in the block's container of dead
// rows does that. keys.go has the key table, DESIGN.md the paths of reads and
// writes and what a crash means at each place.
//
//	New                     an Engine over a folder
//	Engine  Create Open Drop Close
//	Store   store.Store; Scrub, Check, Repair, Compact, Stats are powers of its own
//
// A store has one goroutine that orders its commits (sequencer.go); readers look
// at the snapshot that it published after the newest finished sync.
package lsm

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Options are how an engine works. Only Root is required.
type Options struct {
	// Root is the folder of all data stores; it is made when it is not there.
	Root string
	// FS holds Root; nil is the operating system's. The engine seals what it
	// writes there itself.
	FS vfs.FS
	// Clock dates commits; nil is time.Now.
	Clock func() time.Time
	// Rand gives hash keys; nil is crypto/rand.
	Rand io.Reader
	// Log takes what an operator should know; nil is slog.Default(). Nothing
	// that a client wrote goes there.
	Log *slog.Logger
	// CacheBytes is the size of what all open stores share: the block cache, the
	// columns that are kept (a quarter), the rows of keys that are (an eighth), the hashes
	// of rows' resources (a thirty-second), and the memtables, which are taken off the
	// block cache and may take half.
	// 0 is DefaultCacheBytes. Without an open store there is none.
	CacheBytes int64
	// OpenFiles bounds the tables kept open over all stores; 0 is
	// DefaultOpenFiles.
	OpenFiles int
	// MemTableBytes bounds one memtable of one store: they begin at 256 KiB and
	// double up to it. 0 is DefaultMemTableBytes.
	MemTableBytes uint64
	// BlockRows is the number of rows of a block in new stores: a power of two
	// from 64 to 65,536, which is also what 0 means. A store keeps its own.
	BlockRows int
	// Dictionaries compress bodies better; nil is none.
	Dictionaries Dictionaries
	// Uncompressed writes tables as they are. It is for tests that look for text
	// in the files: what compression hides is not proved to be gone.
	Uncompressed bool
	// MinFreeBytes is the free space below which writes are refused with
	// fault.Full; 0 is no floor.
	MinFreeBytes uint64
	// BallastBytes is the size of a file that is given back when a write finds
	// the disk full, so that it can be tried again and the process goes on; 0 is
	// none.
	BallastBytes int64
	// OwnRecords is the store whose writes are refused at half of MinFreeBytes only,
	// as space is made by them; none: all are alike.
	OwnRecords store.ID
	// Exit ends the process when Pebble can not go on; nil is os.Exit(1). It
	// must not return.
	Exit func()
}

// What zero Options mean.
const (
	DefaultCacheBytes    = 64 << 20
	DefaultOpenFiles     = 2048
	DefaultMemTableBytes = 16 << 20

	minBlockRows = 64      // small enough for tests to cross blocks often
	maxBlockRows = 1 << 16 // an ord has 16 bits
)

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.OpenFiles == 0 {
		o.OpenFiles = DefaultOpenFiles
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = DefaultMemTableBytes
	}
	if o.BlockRows == 0 {
		o.BlockRows = maxBlockRows
	}
	if o.Exit == nil {
		o.Exit = func() { os.Exit(1) }
	}
	return o
}

// fileCacheShards spreads the lock of the cache of open tables.
const fileCacheShards = 4

// Engine is a store.Engine over one folder. Close it after its stores.
type Engine struct {
	opts      Options
	tuning    tuning
	share     *share
	kept      *kept
	keptRows  *keptRows
	memtables *memtables

	noBallast  atomic.Bool    // it was given up, or there was no room for it
	restocking sync.WaitGroup // who makes it again

	mu sync.Mutex // guards what follows, and the folders while they are made or dropped
	// The caches that all stores share; nil while none is open, so that an idle
	// server holds no blocks.
	cache  *pebble.Cache
	files  *pebble.FileCache
	stores map[store.ID]*Store
	open   atomic.Int64 // how many; read without mu
	closed bool
}

var _ store.Engine = (*Engine)(nil)

// New makes an engine; it touches the folder only when a store is asked for.
// BlockRows that is no power of two in its bounds is fault.Invalid.
func New(opts Options) (*Engine, error) {
	o := opts.withDefaults()
	if !validBlockRows(o.BlockRows) {
		return nil, fault.New(fault.Invalid, "lsm.New", "a block has a power of two of rows, from %d to %d", minBlockRows, maxBlockRows)
	}
	e := &Engine{
		opts:      o,
		tuning:    usualTuning,
		share:     newShare(),
		kept:      newKept(o.CacheBytes / keptShare),
		keptRows:  newKeptRows(o.CacheBytes / keptRowsShare),
		memtables: newMemtables(&o),
		stores:    map[store.ID]*Store{},
	}
	if o.BallastBytes > 0 {
		e.noBallast.Store(true) // until somebody looked
		e.opts.FS = vfs.OnDiskFull(o.FS, func() { e.dropBallast(o.FS) })
	}
	return e, nil
}

func validBlockRows(n int) bool {
	return n >= minBlockRows && n <= maxBlockRows && n&(n-1) == 0
}

// Create implements store.Engine.
func (e *Engine) Create(ctx context.Context, id store.ID, key seal.DataKey) error {
	const op = "lsm.Create"
	if err := check(ctx, op, id); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return engineClosed(op)
	}
	dir := e.dir(id)
	there, err := dir.exists()
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	if there {
		_, err := dir.readConstants(key)
		return fault.Wrap(fault.Internal, op, err)
	}
	if err := errors.Join(makeDir(e.opts.FS, e.opts.Root), e.keepBallast()); err != nil {
		return wrapDisk(op, err)
	}
	if err := e.floorOf(id).check(); err != nil {
		return err
	}
	c := constants{BlockRows: e.opts.BlockRows}
	if _, err := io.ReadFull(e.opts.Rand, c.HashKey[:]); err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	return wrapDisk(op, dir.create(key, c))
}

// Open implements store.Engine.
func (e *Engine) Open(ctx context.Context, id store.ID, key seal.DataKey) (store.Store, error) {
	const op = "lsm.Open"
	if err := check(ctx, op, id); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, engineClosed(op)
	}
	if e.stores[id] != nil {
		return nil, fault.New(fault.Conflict, op, "the store is already open")
	}
	dir := e.dir(id)
	there, err := dir.exists()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	if !there {
		return nil, fault.New(fault.NotFound, op, "no such store")
	}
	c, err := dir.readConstants(key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	if err := dir.raiseFormat(); err != nil {
		return nil, wrapDisk(op, err)
	}
	e.keepCaches()
	s, err := e.openStore(id, dir, key, c)
	if err != nil {
		e.dropCaches()
		return nil, wrapDisk(op, err)
	}
	e.stores[id] = s
	e.open.Store(int64(len(e.stores)))
	return s, nil
}

// Drop implements store.Engine.
func (e *Engine) Drop(ctx context.Context, id store.ID) error {
	const op = "lsm.Drop"
	if err := check(ctx, op, id); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return engineClosed(op)
	}
	if e.stores[id] != nil {
		return fault.New(fault.Conflict, op, "the store is open")
	}
	return wrapDisk(op, e.dir(id).drop())
}

// Close closes the stores that are open and lets go of the caches.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	open := make([]*Store, 0, len(e.stores))
	for _, s := range e.stores {
		open = append(open, s)
	}
	e.mu.Unlock()
	var all error
	for _, s := range open {
		all = errors.Join(all, s.Close())
	}
	e.restocking.Wait()
	return all
}

func (e *Engine) release(id store.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.stores, id)
	e.open.Store(int64(len(e.stores)))
	e.dropCaches()
}

// keepCaches makes the caches when there are none.
func (e *Engine) keepCaches() {
	if e.cache == nil {
		e.cache = pebble.NewCache(e.opts.CacheBytes - e.kept.room - e.keptRows.room - e.opts.CacheBytes/selvesShare)
		e.files = pebble.NewFileCache(fileCacheShards, e.opts.OpenFiles)
	}
}

// dropCaches lets go of the caches when no store is open.
func (e *Engine) dropCaches() {
	if e.cache != nil && len(e.stores) == 0 {
		e.files.Unref()
		e.cache.Unref()
		e.cache, e.files = nil, nil
	}
}

func engineClosed(op string) error {
	return fault.New(fault.Unavailable, op, "the engine is closed")
}

// check is what every method of Engine asks first.
func check(ctx context.Context, op string, id store.ID) error {
	if err := ended(ctx, op); err != nil {
		return err
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return fault.New(fault.Invalid, op, "not the id of a store")
		}
	}
	if len(id) == 0 || len(id) > maxIDLen {
		return fault.New(fault.Invalid, op, "not the id of a store")
	}
	return nil
}

// ended gives a context's end its kind: Timeout for a deadline, else Canceled.
func ended(ctx context.Context, op string) error {
	switch err := ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.Timeout, op, err)
	default:
		return fault.Wrap(fault.Canceled, op, err)
	}
}
