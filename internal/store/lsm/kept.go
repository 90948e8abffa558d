package lsm

import (
	"sync"
	"sync/atomic"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// What is looked at often in sheets is kept in memory, turned once more: the
// values of one param in a run of rows, a kept column (keptcolumn.go). To look at
// a row then costs a number and a comparison, and no look into the database; to look
// at many costs little more than to go through an array.
//
// A column says what facts say, and those of a row that is there change seldom:
// by a reindex, a purge, a repair. state.edits counts these, and columns stand for
// one count of it: who reads another state goes to the facts.
const (
	// keptShare is the part of Options.CacheBytes that kept columns may take.
	keptShare = 4
	// keptAtOnce is how often one query makes a column or makes one longer at most,
	// which takes a millisecond or two each and saves looking up many more rows;
	// keptAhead is the same where it saves this query nothing.
	keptAtOnce = 32
	keptAhead  = 4
	// keptCut is how many values that sheets have cut, each found again by a look into
	// the index, are taken for another column made.
	keptCut = 1024
	// keptIdle is after how many uses of others the columns of a param make room
	// for those of another.
	keptIdle = 1024
	// keptTypical is about what a column takes beside its codes: without room for
	// both, none is made.
	keptTypical = 32 << 10
)

// keptMemory is what columns and rows that are kept have in common: room, and that
// what is kept of a store holds for one count of its state.edits.
type keptMemory struct {
	room    int64           // bytes
	dropAll func(of *Store) // takes away what is kept of a store; mu is held

	mu    sync.Mutex
	edits map[*Store]uint64 // of the state that what is kept of a store holds for
	used  int64             // bytes
}

// publish has what is kept of a store hold for a state, before anyone reads it. What
// held for an older one goes at once: it may be what was purged.
func (k *keptMemory) publish(of *Store, edits uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.edits[of] != edits {
		k.dropAll(of)
		k.edits[of] = edits
	}
}

// forget drops what is kept of a store that is closed.
func (k *keptMemory) forget(of *Store) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropAll(of)
	delete(k.edits, of)
}

// bytes is what it takes.
func (k *keptMemory) bytes() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.used
}

// kept is the columns of all open stores.
type kept struct {
	keptMemory
	sets map[keptKey]*keptSet
	uses int64 // of sets, by which their age is told
}

type keptKey struct {
	store *Store
	param plan.Param
}

// keptSet is the columns of one param of one store.
type keptSet struct {
	chunks []*keptChunk // by the number of the run of rows; never changed, but replaced by a longer one
	used   int64        // when, in uses
	bytes  int64
}

// keptChunk is one run of rows.
type keptChunk struct {
	asked  atomic.Uint32 // rows of it that were looked up in facts, since the column was made
	column atomic.Pointer[keptColumn]
}

func newKept(room int64) *kept {
	k := &kept{keptMemory: keptMemory{room: room, edits: map[*Store]uint64{}}, sets: map[keptKey]*keptSet{}}
	k.dropAll = k.dropStore
	return k
}

// chunks gives the first n runs of a param; nil: those of another state are kept.
func (k *kept) chunks(key keptKey, edits uint64, n int) []*keptChunk {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.edits[key.store] != edits {
		return nil
	}
	s := k.sets[key]
	if s == nil {
		s = &keptSet{}
		k.sets[key] = s
	}
	k.uses++
	s.used = k.uses
	if more := n - len(s.chunks); more > 0 {
		fresh := make([]keptChunk, more)
		longer := append(make([]*keptChunk, 0, n), s.chunks...)
		for i := range fresh {
			longer = append(longer, &fresh[i])
		}
		s.chunks = longer
	}
	return s.chunks[:n]
}

// admits reports whether there is room for another column of a param.
func (k *kept) admits(key keptKey, edits uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sets[key]
	return s != nil && k.edits[key.store] == edits && k.makeRoom(s, keptTypical+2<<key.store.tuning.keptShift)
}

// add keeps a column in place of a shorter one, if there is room.
func (k *kept) add(key keptKey, edits uint64, at *keptChunk, old, c *keptColumn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, size := k.sets[key], c.size()
	if old != nil {
		size -= old.size()
	}
	if s == nil || k.edits[key.store] != edits || !k.makeRoom(s, size) || !at.column.CompareAndSwap(old, c) {
		return
	}
	s.bytes += size
	k.used += size
}

// makeRoom drops the columns of other params that nobody uses any more.
func (k *kept) makeRoom(wanted *keptSet, size int64) bool {
	for k.used+size > k.room {
		var oldest keptKey
		var found *keptSet
		for key, s := range k.sets {
			if s != wanted && s.bytes > 0 && (found == nil || s.used < found.used) {
				oldest, found = key, s
			}
		}
		if found == nil || k.uses-found.used < keptIdle {
			return false
		}
		k.drop(oldest, found)
	}
	return true
}

func (k *kept) drop(key keptKey, s *keptSet) {
	delete(k.sets, key)
	k.used -= s.bytes
}

func (k *kept) dropStore(of *Store) {
	for key, s := range k.sets {
		if key.store == of {
			k.drop(key, s)
		}
	}
}

const (
	// maxSelves bounds the rows of a store of which it is kept whose they are.
	maxSelves = 1 << 14
	// selvesShare is the part of Options.CacheBytes that these may take over all open
	// stores, in equal parts, and selfBytes about what one takes.
	selvesShare = 32
	selfBytes   = 48
)

// keptSelves are the self hashes of rows, which never change.
type keptSelves struct {
	room int64         // bytes, over all stores
	open *atomic.Int64 // stores

	mu sync.RWMutex
	of map[uint64]plan.Hash
}

func (e *Engine) keptSelves() keptSelves {
	return keptSelves{room: e.opts.CacheBytes / selvesShare, open: &e.open}
}

func (k *keptSelves) get(rid uint64) (self plan.Hash, ok bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	self, ok = k.of[rid]
	return self, ok
}

// add forgets all others when there are too many: who asks is asked soon again.
func (k *keptSelves) add(rid uint64, self plan.Hash) {
	most := k.room / selfBytes / max(1, k.open.Load())
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil || len(k.of) >= maxSelves || int64(len(k.of)) >= most {
		k.of = map[uint64]plan.Hash{}
	}
	k.of[rid] = self
}

// bytes is about what it takes.
func (k *keptSelves) bytes() int64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return int64(len(k.of)) * selfBytes
}
