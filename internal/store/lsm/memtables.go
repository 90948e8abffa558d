package lsm

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/store"
)

// The memtables of all open stores count against one number, a part of
// Options.CacheBytes, which the block cache has less for it (Pebble takes memtables
// off it). Pebble doubles a store's memtables as they fill, from 256 KiB to
// MemTableBytes, and never makes them smaller; a store has up to three at once: one
// that is filled, one that is flushed, one that is kept to be filled next. So each
// open store claims three of the size that it has reached.
//
// Before one that is filled is half full, the store asks whether the next may be
// twice as large. It may not when that would take more than three quarters of what is free: the
// store is then flushed at once, and Pebble keeps to the size after such a flush, as
// long as less than half is used. Small flushes cost processor time (a create beside
// 100,000 resources 145 µs with 512 KiB, 100 with 1 MiB, 60 with 4, 45 with 16), which
// is the price of many stores that are written to at once.
const (
	// memtablesEach is how many memtables of a store there may be at once.
	memtablesEach = 3
	// memtableShare is the part of CacheBytes that memtables may take: half.
	memtableShare = 2
	// memtableUse is the part of a memtable that is filled, in sixteenths, before its
	// store asks or is flushed: less than half.
	memtableUse = 7
	// nodeBytes is about what a key takes in a memtable beside itself and its value.
	nodeBytes = 48
	// nodeMost is how much Pebble sets aside for it before it knows.
	nodeMost = 200
	// containerBytes is about what the container of one entry takes in a batch.
	containerBytes = 64
	// flushPatience bounds how long commits wait for the flush before theirs, which
	// memory is short for.
	flushPatience = time.Second
)

// MostOpen is how many stores may be open at once so that Options.CacheBytes has room
// for the memtables of all, none of which has become larger than the first.
func MostOpen(cacheBytes int64) int {
	return int(cacheBytes / memtableShare / (memtablesEach * firstMemtable))
}

// memtables is the memory of the memtables of all open stores.
type memtables struct {
	room int64 // bytes
	most int64 // that one memtable may have

	mu      sync.Mutex
	claimed int64
	open    int64 // stores that claim something
}

func newMemtables(o *Options) *memtables {
	return &memtables{room: o.CacheBytes / memtableShare, most: int64(o.MemTableBytes)}
}

// sum is what open stores claim.
func (a *memtables) sum() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.claimed
}

// memShare is a store's part of it. All but claim and rotated is its sequencer's, once
// that runs.
type memShare struct {
	all     *memtables
	claim   int64           // guarded by all.mu
	rotated atomic.Bool     // another memtable is being filled than when it was asked
	size    int64           // of the memtable that is being filled
	unsure  bool            // size is of one before it, which was no larger
	fill    int64           // about what is in it
	grows   bool            // the next may be twice as large
	flushed <-chan struct{} // closed when the last flush for want of room is done; nil: there was none
}

// firstMemtable is the size that Pebble begins with.
const firstMemtable = 256 << 10

func (a *memtables) share() *memShare {
	return &memShare{all: a, size: min(firstMemtable, a.most), unsure: true}
}

// take has the share claim what memtables of a size need. Unless it must, it leaves
// something to others.
func (m *memShare) take(size int64, must bool) bool {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	claim := memtablesEach * size
	more := claim - m.claim
	if !must && more > 0 && more > (m.all.room-m.all.claimed)*3/4 {
		return false
	}
	switch {
	case m.claim == 0 && claim > 0:
		m.all.open++
	case m.claim > 0 && claim == 0:
		m.all.open--
	}
	m.claim, m.all.claimed = claim, m.all.claimed+more
	return true
}

// leave gives back what was claimed, when the store is closed.
func (m *memShare) leave() { m.take(0, true) }

// Crowds implements store.Crowder: a store whose memtables grew for large commits, or
// while others needed none, claims more than an equal part of the room, and all claim
// more than there is.
func (s *Store) Crowds() bool {
	m := s.mem
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	return m.all.claimed > m.all.room && m.claim*m.all.open > m.all.room && m.claim > memtablesEach*firstMemtable
}

var _ store.Crowder = (*Store)(nil)

// mayGrow reports whether the next memtable may be twice as large.
func (m *memShare) mayGrow() bool {
	if !m.grows {
		m.grows = m.size >= m.all.most || m.take(min(2*m.size, m.all.most), false)
	}
	return m.grows
}

// begun is called when another memtable is being filled, which has at least so many
// bytes; sure: and no more.
func (m *memShare) begun(size int64, sure bool) {
	m.size, m.unsure, m.grows, m.fill = min(size, m.all.most), !sure, false, 0
	m.take(m.size, true)
}

// look learns the size of the memtable that is being filled, where it is not known. It
// cannot be told while others wait to be flushed.
func (m *memShare) look(db *pebble.DB) {
	if m.rotated.Swap(false) { // by a flush that somebody asked for, or tables that were taken in
		m.begun(m.size, false)
	}
	if !m.unsure {
		return
	}
	if now := db.Metrics().MemTable; now.Count == 1 {
		fill := m.fill
		m.begun(int64(now.Size), true)
		m.fill = fill
	}
}

// full reports whether a memtable with so many bytes is as full as it may be.
func (m *memShare) full(fill int64) bool { return fill*16 >= m.size*memtableUse && !m.mayGrow() }

// bytesIn is about what a batch takes in a memtable.
func bytesIn(b *pebble.Batch) int64 { return int64(b.Len()) + nodeBytes*int64(b.Count()) }

// makeRoom is called before a batch is applied: it flushes the memtable when it would
// be half full and may not be followed by a larger one.
func (q *sequencer) makeRoom(b *pebble.Batch) {
	m := q.store.mem
	m.look(q.store.db)
	more := bytesIn(b)
	if m.fill > 0 && m.full(m.fill+more) {
		q.flush()
	}
	m.fill += more
}

// filled is called when a batch was applied: Pebble may have begun a memtable for it,
// twice as large as the one before, and large enough.
func (m *memShare) filled(b *pebble.Batch) {
	if m.rotated.Swap(false) {
		size := 2 * m.size
		for size < int64(b.Len())+nodeMost*int64(b.Count()) {
			size *= 2
		}
		m.begun(size, size == 2*m.size)
		m.fill = bytesIn(b)
	}
}

// makeRoomForTables is called before tables of a piece of an import are taken in: with
// what is in the memtable Pebble would begin one twice as large behind them.
func (q *sequencer) makeRoomForTables() {
	m := q.store.mem
	m.look(q.store.db)
	if m.fill > 0 && !m.mayGrow() && q.flush() {
		q.flushing()
	}
}

// flush begins to flush the memtable, when the flush before is done, and reports
// whether it did. Below the floor of free space it does not.
func (q *sequencer) flush() bool {
	m := q.store.mem
	if !q.flushing() || q.floor.below {
		return false
	}
	done, err := q.store.db.AsyncFlush()
	if err != nil {
		return false // the write that comes next meets it
	}
	m.flushed = done
	m.rotated.Store(false)
	m.begun(m.size, false)
	return true
}

// flushing waits for the last flush for want of room, and reports whether it is done.
func (q *sequencer) flushing() bool {
	m := q.store.mem
	if m.flushed == nil {
		return true
	}
	patience := time.NewTimer(flushPatience)
	defer patience.Stop()
	select {
	case <-m.flushed:
		m.flushed = nil
		return true
	case <-patience.C:
		return false
	case <-q.quit:
		return false
	}
}
