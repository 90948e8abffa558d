package lsm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Store is one open data store.
type Store struct {
	id          store.ID
	log         *slog.Logger
	hash        plan.HashKey
	shift       uint // a block is 1<<shift rows
	bodies      *bodies
	tuning      tuning
	mem         *memShare
	large       atomic.Bool // see weigh
	rested      bool        // nothing is in the log: see removeLog
	db          *pebble.DB
	lock        *pebble.Lock
	sealed      *seal.FS
	disk        *disk // below sealed
	dir         storeDir
	tables      sstable.ReaderOptions // how a table is read without the database
	kept        *kept                 // columns, of all stores
	selves      keptSelves
	keptRows    *keptRows // of all stores
	compactions *member
	free        func() // tells the engine that the store is closed

	sequencer *sequencer
	sealer    *sealer
	settler   *settler
	published published
	backups   sync.Mutex // held by a backup, and while the STORE file changes
	constants constants  // guarded by backups
	resealing sync.Mutex // held while files are sealed anew

	used      atomic.Bool // it was read or written to since the settler looked
	shortened atomic.Bool // something was taken from its end since it was opened

	closing atomic.Bool  // calls under way give up
	gate    sync.RWMutex // held for reading by calls under way, for writing by Close
	closed  bool         // guarded by gate

}

var _ store.Store = (*Store)(nil)

// formatMajor is Pebble's own format of new folders. It only rises: a step up
// makes the store unreadable for older versions of the program, so it goes with
// a new number in FORMAT.
const formatMajor = pebble.FormatTableFormatV6

// Sizes of Pebble's blocks and filters.
const (
	dataBlockBytes = 32 << 10 // engine.md 5.1: zstd gains from 32 K over 16 K, reads lose little
	// restBlockBytes is a block's size at the bottom, where nearly everything
	// rests: 64 K are 8 % smaller than 32 K for rows, 13 % for facts, and 96 K take 2 %
	// more off all. A read that finds nothing in the cache unpacks a whole block.
	restBlockBytes  = 96 << 10
	indexBlockBytes = 256 << 10
	bloomBits       = 10 // one false positive in a hundred
)

// When compactions begin. Index keys and pointers lie anywhere among those that are
// there, so that a compaction of the newest tables writes all of the next level
// again: what it costs is the size of that level over what comes down at once. With
// one flush each into a bottom of 15 MB, that was a third of a server under creates.
const (
	// restingSublevels is Pebble's threshold of level 0, which it reaches with half
	// as many sublevels: two flushes go down together.
	restingSublevels = 4
	// baseBytes is the most that the level below level 0 holds: beyond it, parts of
	// it go down to the next.
	baseBytes = 8 << 20
)

// spans are where tables end though there is room: what grows in its own way stays
// apart, as the tables of an import do (ingest.go). Rows and sheets, which come at
// the end of their keyspaces, would else lie in one table with index keys, be
// written again with them, and keep an import's tables from the bottom.
//
//	rows 01 · pointers and index 02 to 08 · loose facts 09 · sheets 0a · meta 0f
var spans = [...]byte{spacePointer, spaceFacts, spaceSheet, spaceSheet + 1}

// oneSpan is Pebble's SpanPolicyFunc.
func oneSpan(start []byte) (pebble.SpanPolicy, []byte, error) {
	for i, end := range spans {
		if len(start) == 0 || start[0] < end {
			return pebble.SpanPolicy{}, spans[i : i+1], nil
		}
	}
	return pebble.SpanPolicy{}, nil, nil
}

func (e *Engine) openStore(id store.ID, dir storeDir, key seal.DataKey, c constants) (*Store, error) {
	q := &quarantine{dir: dir}
	if err := errors.Join(q.admit(), e.roomToOpen(dir)); err != nil {
		return nil, err
	}
	s := &Store{
		id: id, log: e.opts.Log.With("store", string(id)), hash: c.HashKey, shift: uint(bits.TrailingZeros(uint(c.BlockRows))),
		bodies: newBodies(key, e.opts.Dictionaries), tuning: e.tuning, mem: e.memtables.share(), selves: e.keptSelves(), kept: e.kept, keptRows: e.keptRows,
		dir: dir, free: func() { e.release(id) }, constants: c,
	}
	floor := e.floorOf(id)
	s.disk = newDisk(e.opts.FS, dir.join(databaseName), floor.min/2, s.log)
	s.sealed = c.openFiles(seal.NewFS(s.disk, key))
	if len(c.MACKey) == 0 {
		mac := key.Derive(macLabel)
		s.constants.MACKey = mac[:]
	}
	s.bodies.mac = seal.NewAuthenticator([seal.KeySize]byte(s.constants.MACKey))
	s.compactions = e.share.member()
	options := e.pebbleOptions(s, logger{s.log, q, e.opts.Exit, new(sync.Once), s.disk})
	options.Experimental.CompactionScheduler = s.compactions
	options.EventListener.BackgroundError = s.failedBehind
	options.EnsureDefaults()
	s.tables = options.MakeReaderOptions()
	tables := &ingester{store: s, fs: s.sealed, dir: dir.join(ingestName), opts: options}
	if err := s.openDatabase(dir, options, tables); err != nil {
		s.sealed.Wipe()
		return nil, err
	}
	newest, err := s.readState()
	if s.disk.lost() != nil { // what err tells of may not be written
		return nil, errors.Join(full(noRoomToOpen), s.closeDatabase())
	}
	if err == nil {
		err = dir.reaches(newest)
	}
	if err != nil {
		return nil, errors.Join(err, s.closeDatabase())
	}
	s.disk.serve()
	s.publish(newest)
	s.sequencer = newSequencer(s, newest, e.opts.Clock, q, floor, tables)
	s.sealer, s.settler = newSealer(s), newSettler(s)
	go s.sequencer.run()
	go s.sealer.run()
	s.sealer.notice(newest) // of what a crash left, or an older format
	return s, nil
}

func (s *Store) openDatabase(dir storeDir, o *pebble.Options, tables *ingester) (err error) {
	if s.lock, err = pebble.LockDirectory(dir.join(databaseName), s.sealed); err != nil {
		return &fault.Error{Kind: fault.Conflict, Op: "lsm.Open", Detail: "the store is open elsewhere", Cause: err}
	}
	if err := errors.Join(tables.clear(), s.clearReseal()); err != nil {
		return errors.Join(err, s.lock.Close())
	}
	o.Lock = s.lock
	if err := dir.hasManifest(); err != nil {
		return errors.Join(err, s.lock.Close())
	}
	if s.db, err = pebble.Open(dir.join(databaseName), o); err != nil {
		return errors.Join(err, s.lock.Close())
	}
	s.weigh(s.db.Metrics())
	s.mem.look(s.db)
	return nil
}

// failedBehind is told of a flush or compaction that failed. Pebble begins it again at
// once, so compactions are given a rest; a flush that finds no space waits (disk).
func (s *Store) failedBehind(err error) {
	again := s.compactions.rest()
	if isFull(err) {
		s.disk.tighten()
	}
	if !again && !s.closing.Load() {
		s.log.Error("a flush or compaction failed", "error", err.Error()) // it would be told with its stack
	}
}

// flush writes what is in memory into tables, and waits for it until ctx ends or leave
// is closed.
func (s *Store) flush(ctx context.Context, leave <-chan struct{}) error {
	const op = "lsm.Flush"
	done, err := s.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return interruption(ctx, op, ctx.Err())
	case <-leave:
		return storeClosed(op)
	}
}

// whilePossible is ctx for work on all tables, ended when the store is being closed, and
// when a compaction found no space: Pebble begins its own again before those that
// somebody waits for. interruption tells which.
func (s *Store) whilePossible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	tight := s.disk.tightened()
	go func() {
		select {
		case <-s.disk.leave:
			cancel(storeClosed("lsm.Compact"))
		case <-tight:
			cancel(full("the disk has no room for tables to be written anew"))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// interruption gives an error of such work its kind.
func interruption(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if why, ok := errors.AsType[*fault.Error](context.Cause(ctx)); ok {
		return why
	}
	return wrapDisk(op, errors.Join(ended(ctx, op), err))
}

// closeDatabase closes what openDatabase opened and forgets the key.
func (s *Store) closeDatabase() error {
	err := s.db.Close()
	if err == nil {
		err = s.removeLog()
	}
	err = errors.Join(err, s.lock.Close())
	s.mem.leave()
	s.sealed.Wipe()
	return err
}

func (e *Engine) pebbleOptions(s *Store, log logger) *pebble.Options {
	o := &pebble.Options{
		FS:                 s.sealed,
		Cache:              e.cache,
		FileCache:          e.files,
		Comparer:           comparer(),
		Merger:             merger(),
		FormatMajorVersion: formatMajor,
		Logger:             log,
		EventListener:      &pebble.EventListener{DataCorruption: corruption(log), WALCreated: func(pebble.WALCreateInfo) { s.mem.rotated.Store(true) }},
		MemTableSize:       e.opts.MemTableBytes,
		// Stalls begin at three memtables or forty sublevels of L0. An import puts
		// tables there without being held up itself, and faster than compactions
		// take them away: at twenty, commits beside it stood still for 50 to 90 ms.
		MemTableStopWritesThreshold: stopMemtables,
		L0CompactionThreshold:       restingSublevels,
		LBaseMaxBytes:               baseBytes,
		L0StopWritesThreshold:       stopSublevels,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(2, runtime.GOMAXPROCS(0)/2) },
		MaxManifestFileSize:         4 << 20,
		Cleaner:                     deleter{},
	}
	small, large := compressionSettings(smallRestLevel), compressionSettings(restLevel)
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		switch {
		case e.opts.Uncompressed:
			return pebble.DBCompressionNone
		case s.large.Load():
			return large
		}
		return small
	})
	for i := range o.Levels {
		o.Levels[i].BlockSize = dataBlockBytes
		o.Levels[i].IndexBlockSize = indexBlockBytes
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
	}
	o.Levels[bottomLevel-1].BlockSize = restBlockBytes
	o.Levels[bottomLevel].BlockSize = restBlockBytes
	o.Experimental.SpanPolicyFunc = oneSpan
	o.EnsureDefaults() // tables are written with these options too
	return o
}

// compressionSettings are Zstandard of a level at the bottom, for every block: what
// rests there is kept for years; and right above it, from where tables are often moved
// as they are. Else it is of level 1, as rows are moved from there too. Pebble would
// fall back to a weaker code where Zstandard saves less than a tenth more; packed
// bodies are often just that.
func compressionSettings(level uint8) pebble.DBCompressionSettings {
	settings := pebble.UniformDBCompressionSettings(loadCompression())
	settings.Name = "Tarn"
	for at := bottomLevel - 1; at <= bottomLevel; at++ {
		settings.Levels[at] = unyielding(block.GoodCompression)
		settings.Levels[at].DataBlocks.Level = level
	}
	return settings
}

// restLevel is Zstandard's for what rests: against Pebble's 3 it saves 1 % for some
// 3 µs of processor time a resource, once, when nobody waits. But each table that is
// written with it takes 21 MB of memory anew, however small it is. So stores with
// tables of less than largeFrom bytes are packed with smallRestLevel, which takes 1 MB.
const (
	restLevel      = 7
	smallRestLevel = 3
	largeFrom      = 16 << 20
)

// weigh learns from the database's figures whether the store is large.
func (s *Store) weigh(m *pebble.Metrics) {
	total := m.Total()
	s.large.Store(total.TablesSize >= largeFrom)
}

// loadCompression is for what an import puts at the bottom: Zstandard of level 1
// takes a fifth of the processor time of level 3, for a tenth more bytes.
func loadCompression() *block.CompressionProfile { return unyielding(block.BalancedCompression) }

// unyielding is a profile without a weaker code to fall back to.
func unyielding(profile *block.CompressionProfile) *block.CompressionProfile {
	p := *profile
	p.AdaptiveReductionCutoffPercent = 0
	return &p
}

// deleter deletes files that are not needed any more. That it embeds an
// ArchiveCleaner too, one level below, tells Pebble that it looks into files,
// which keeps Pebble from writing new logs into old ones: what was purged would
// stay readable in them, and a sealed file is written once (engine.md 0b.8).
type deleter struct {
	pebble.DeleteCleaner
	looker
}

type looker struct{ pebble.ArchiveCleaner }

// state is where the order of commits stands.
type state struct {
	rid    uint64 // of the next row
	commit uint64 // number of the newest commit; 0: none
	last   int64  // Updated of the newest commit, milliseconds since 1970
	loose  uint64 // rows before this one have no loose facts
	sealed uint64 // the row behind the last sheet
	edits  uint64 // how often facts or containers of rows that were there changed, since open
	buried uint64 // how often rows were superseded, since open
}

// loosened notes that a row has loose facts now, other ones than before.
func (s *state) loosened(rid uint64) {
	s.loose = min(s.loose, rid)
	s.edits++
}

// readState finds where the order of commits stands: in the newest row, which
// is never taken away, as a purge writes a row of its own.
func (s *Store) readState() (newest state, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceBody}, UpperBound: []byte{spaceBody + 1}})
	if err != nil {
		return state{}, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.Last() {
		return state{}, it.Error()
	}
	rid, err := keyRID(it.Key())
	if err != nil {
		return state{}, err
	}
	h, _, err := s.bodies.open(it.Value())
	if err != nil {
		return state{}, err
	}
	newest = state{rid: rid + 1, commit: h.commit, last: h.updated}
	if newest.sealed, err = s.behindSheets(); err == nil {
		newest.loose, err = s.firstLoose(s.db, 0, newest.rid)
	}
	newest.edits = newest.rid - newest.loose // so that the sealer looks at what is loose
	return newest, err
}

// use notes that the store is read or written to. Mostly it was noted already, and
// readers share the line.
func (s *Store) use() {
	if !s.used.Load() {
		s.used.Store(true)
	}
}

// HashKey implements store.Store.
func (s *Store) HashKey() plan.HashKey { return s.hash }

// enter is what every method asks first; leave must be called when it gave no
// error. A method that entered must not enter again.
func (s *Store) enter(ctx context.Context, op string) (leave func(), err error) {
	if err := ended(ctx, op); err != nil {
		return nil, err
	}
	s.gate.RLock()
	if s.closed || s.closing.Load() {
		s.gate.RUnlock()
		return nil, storeClosed(op)
	}
	return s.gate.RUnlock, nil
}

func storeClosed(op string) error {
	return fault.New(fault.Unavailable, op, "the store is closed")
}

// Close implements store.Store. It waits until calls under way have noticed, and
// then two seconds (restWithin) at most for what is in the log only to be written into tables.
func (s *Store) Close() error {
	if s.closing.Swap(true) {
		s.gate.RLock() // until the first Close is done
		defer s.gate.RUnlock()
		return nil
	}
	s.disk.hurry()
	s.sequencer.stop()
	s.settler.stop()
	s.sealer.stop()
	s.gate.Lock()
	defer s.gate.Unlock()
	s.closed = true
	newest := s.published.now.state
	s.published.closeAll()
	s.kept.forget(s)
	s.keptRows.forget(s)
	s.restClosing()
	err := s.closeDatabase()
	if err == nil {
		s.keepLast(newest)
	}
	s.free()
	return fault.Wrap(fault.Internal, "lsm.Close", err)
}

// published is the newest state that readers may see: what was synced.
type published struct {
	mu      sync.Mutex
	now     *snapshot
	open    map[*snapshot]struct{} // all with references, for closeAll
	changed chan struct{}          // closed at the next publish
}

// snapshot is the database right after a commit, as long as someone holds it.
type snapshot struct {
	state
	*pebble.Snapshot
	refs int // guarded by published.mu
}

// publish makes what is applied now, which is a state, what readers see.
func (s *Store) publish(at state) {
	s.kept.publish(s, at.edits)
	s.keptRows.publish(s, at.edits)
	s.published.publish(s.db, at)
}

// publish makes what is applied now what readers see. The caller is the only
// one who writes.
func (p *published) publish(db *pebble.DB, at state) {
	fresh := &snapshot{state: at, Snapshot: db.NewSnapshot(), refs: 1}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = map[*snapshot]struct{}{}
	}
	p.open[fresh] = struct{}{}
	old := p.now
	p.now = fresh
	if p.changed != nil {
		close(p.changed)
	}
	p.changed = make(chan struct{})
	if old != nil {
		p.dropLocked(old)
	}
}

func (p *published) take() *snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.refs++
	return p.now
}

// wait gives what is closed when there is more than at, at once if there is.
func (p *published) wait(at state) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.rid > at.rid {
		done := make(chan struct{})
		close(done)
		return done
	}
	return p.changed
}

func (p *published) drop(s *snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLocked(s)
}

func (p *published) dropLocked(s *snapshot) {
	if s.refs--; s.refs > 0 {
		return
	}
	if _, open := p.open[s]; open {
		delete(p.open, s)
		_ = s.Close() // only fails when it was closed before
	}
}

// closeAll closes what is open; holders find out by the store being closed.
func (p *published) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.open {
		_ = s.Close() // as in dropLocked
	}
	clear(p.open)
	close(p.changed)
	p.changed = make(chan struct{})
}

// get reads one value, copied; found is false when there is none.
func get(r pebble.Reader, key []byte) (value []byte, found bool, err error) {
	got, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	value = append(make([]byte, 0, len(got)), got...)
	return value, true, closer.Close()
}

var _ io.Closer = (*Store)(nil)
