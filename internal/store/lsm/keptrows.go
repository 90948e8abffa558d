package lsm

import (
	"bytes"
	linked "container/list"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// What is asked often by terms, by small ranges and by types is kept in memory:
// the rows that one of them has, as sets, so that to narrow or count a block takes
// no look into the database. Containers of blocks that are full never change but by
// what state.edits counts (columns stand for the same), and those of the newest
// block hold for one state: only they are read again when something was committed.
const (
	// keptRowsShare is the part of Options.CacheBytes that kept rows may take.
	keptRowsShare = 8
	// keptRowsPart is the part of that which the rows of one key or range may take.
	keptRowsPart = 8
	// keptRowsEntry is about what is taken by a key that is known, beside its rows.
	keptRowsEntry = 256
)

// keptRows is the rows that are kept of all open stores.
type keptRows struct {
	keptMemory
	of     map[*Store]map[string]*linked.Element // of *keptLeaf, by what is asked for
	recent *linked.List                          // all of them, the last one asked first
}

// keptLeaf is the rows of one index key or range.
type keptLeaf struct {
	store *Store
	key   string
	asked int     // how often
	rows  *listed // nil: not read yet
	at    keptState
	wide  bool // it has too many rows to be kept
	bytes int64
}

// keptState is the state that rows were read in: rows before w were there, and buried
// is state.buried. What depends on one of them alone leaves the other out.
type keptState struct{ w, buried uint64 }

// before reports whether to is a later state.
func (s keptState) before(to keptState) bool {
	return s != to && s.w <= to.w && s.buried <= to.buried
}

func newKeptRows(room int64) *keptRows {
	k := &keptRows{
		keptMemory: keptMemory{room: room, edits: map[*Store]uint64{}},
		of:         map[*Store]map[string]*linked.Element{}, recent: linked.New(),
	}
	k.dropAll = k.dropStore
	return k
}

// ask counts that a key is asked for, and gives what is kept of it; wanted: it is
// asked so often that it should be kept.
func (k *keptRows) ask(of *Store, key []byte, edits uint64, from int) (rows *listed, at keptState, wanted bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.edits[of] != edits {
		return nil, keptState{}, false
	}
	e := k.of[of][string(key)]
	if e == nil {
		if k.of[of] == nil {
			k.of[of] = map[string]*linked.Element{}
		}
		leaf := &keptLeaf{store: of, key: string(key), asked: 1, bytes: keptRowsEntry + 2*int64(len(key))}
		k.of[of][leaf.key] = k.recent.PushFront(leaf)
		k.grow(leaf.bytes)
		return nil, keptState{}, false
	}
	k.recent.MoveToFront(e)
	leaf := e.Value.(*keptLeaf)
	leaf.asked = min(leaf.asked+1, from)
	return leaf.rows, leaf.at, leaf.asked >= from && !leaf.wide
}

// keep has rows kept that were read in a state; nil: there are too many.
func (k *keptRows) keep(of *Store, key []byte, edits uint64, rows *listed, at keptState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.of[of][string(key)]
	if e == nil || k.edits[of] != edits {
		return
	}
	leaf := e.Value.(*keptLeaf)
	if leaf.rows != nil && !leaf.at.before(at) {
		return
	}
	before := leaf.bytes
	leaf.rows, leaf.at, leaf.wide = rows, at, rows == nil
	leaf.bytes = keptRowsEntry + 2*int64(len(key)) + rows.bytes()
	k.grow(leaf.bytes - before)
}

// grow counts bytes, and drops what was not asked for the longest until there is
// room for them.
func (k *keptRows) grow(n int64) {
	k.used += n
	for k.used > k.room && k.recent.Len() > 0 {
		k.drop(k.recent.Back())
	}
}

func (k *keptRows) drop(e *linked.Element) {
	leaf := k.recent.Remove(e).(*keptLeaf)
	delete(k.of[leaf.store], leaf.key)
	k.used -= leaf.bytes
}

func (k *keptRows) dropStore(of *Store) {
	for _, e := range k.of[of] {
		k.drop(e)
	}
	delete(k.of, of)
}

// keptOf gives the rows of a key or range, where they are kept; nil: the database
// must be asked. read reads those of blocks from one on, newest first; nil without
// an error: there are too many.
func (q *query) keptOf(key []byte, read func(from uint32) (*listed, error)) (*listed, error) {
	if !q.keeps {
		return nil, nil
	}
	kept := q.store.keptRows
	rows, at, wanted := kept.ask(q.store, key, q.edits, q.store.tuning.keptRowsFrom)
	w := at.w
	switch {
	case rows != nil && (w == q.w || w > q.w && !q.live): // at an older moment, newer rows are left out anyway
		return rows, nil
	case !wanted || !q.live || w > q.w:
		return nil, nil
	}
	from := uint32(0)
	if rows != nil {
		from = q.block(w)
	}
	fresh, err := read(from)
	if err != nil {
		return nil, err
	}
	if fresh != nil {
		fresh.append(rows, from)
		if fresh.bytes() > kept.room/keptRowsPart {
			fresh = nil
		}
	}
	kept.keep(q.store, key, q.edits, fresh, keptState{w: q.w})
	return fresh, nil
}

// readPostings reads the rows of one key prefix.
func (q *query) readPostings(prefix []byte, from uint32) (*listed, error) {
	rows := &listed{}
	upper := plan.Successor(prefix)
	if from > 0 {
		upper = appendBlock(bytes.Clone(prefix), from-1) // behind those from from on
	}
	it, err := q.iter(prefix, upper)
	if err != nil {
		return nil, err
	}
	for ok := it.SeekPrefixGE(appendBlock(bytes.Clone(prefix), q.block(q.w))); ok; ok = it.Next() {
		more, err := q.readInto(rows, it)
		if err != nil {
			return nil, err
		}
		if !more {
			return nil, q.dropIter(it)
		}
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	return rows, q.dropIter(it)
}

// readInto adds the container that an iterator stands on; more is false when there
// are too many rows to keep.
func (q *query) readInto(rows *listed, it *pebble.Iterator) (more bool, err error) {
	if err := q.step(); err != nil {
		return false, err
	}
	container, err := it.ValueAndErr()
	if err != nil {
		return false, err
	}
	var s set
	if err := s.load(container); err != nil {
		return false, err
	}
	rows.add(keyBlock(it.Key()), s)
	return rows.bytes() <= q.store.keptRows.room/keptRowsPart, nil
}
