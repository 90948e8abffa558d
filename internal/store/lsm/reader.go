package lsm

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// reader looks at a store at one moment: at the rows before w.
type reader struct {
	store *Store
	r     pebble.Reader
	w     uint64
	// live: r holds the rows before w and nothing newer, so that pointers and
	// dead rows are those of the moment.
	live bool
	// loose: rows before this one have no loose facts.
	loose uint64
	// keeps: what is read may be kept, as it is published; edits and buried are
	// those of its state.
	keeps         bool
	edits, buried uint64
}

// pointer gives the version of a resource that is current at the moment.
func (r *reader) pointer(self plan.Hash) (pointer, error) {
	value, found, err := get(r.r, pointerKey(self))
	if err != nil || !found {
		return pointer{}, err
	}
	return r.pointerOf(self, value)
}

// pointerOf reads the pointer of a resource, as it was at the moment.
func (r *reader) pointerOf(self plan.Hash, value []byte) (pointer, error) {
	p, err := parsePointer(value)
	if err != nil || r.live || p.rid < r.w {
		return p, err
	}
	return r.pastPointer(self)
}

// pastPointer finds the newest superseded version before w.
func (r *reader) pastPointer(self plan.Hash) (p pointer, err error) {
	prefix := historyPrefix(self)
	it, err := r.r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: plan.Successor(prefix)})
	if err != nil {
		return pointer{}, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		if len(it.Value()) != ridSize {
			return pointer{}, corrupt("a history row has a wrong form")
		}
		if rid := getRID(it.Value()); rid < r.w {
			h, _, err := r.row(rid)
			return pointer{
				rid: rid, version: h.version, updated: h.updated, created: h.created, deleted: h.deleted, found: err == nil,
			}, err
		}
	}
	return pointer{}, it.Error()
}

// versionRow finds the row of one version of a resource at the moment.
func (r *reader) versionRow(self plan.Hash, version uint64) (rid uint64, found bool, err error) {
	value, found, err := get(r.r, historyKey(self, version))
	if err != nil {
		return 0, false, err
	}
	if found {
		if len(value) != ridSize {
			return 0, false, corrupt("a history row has a wrong form")
		}
		rid = getRID(value)
		return rid, rid < r.w, nil
	}
	p, err := r.pointer(self)
	return p.rid, err == nil && p.found && p.version == version, err
}

// row reads a row's header; packed is its body as it is kept.
func (r *reader) row(rid uint64) (h header, packed []byte, err error) {
	value, found, err := get(r.r, bodyKey(rid))
	if err != nil {
		return header{}, nil, err
	}
	if !found {
		return header{}, nil, corrupt("a version has no row")
	}
	return r.store.bodies.open(value)
}

// record reads a row with its body.
func (r *reader) record(rid uint64) (store.Record, error) {
	h, packed, err := r.row(rid)
	if err != nil {
		return store.Record{}, err
	}
	return r.store.recordOf(nil, &h, packed)
}

// recordOf gives a row as the contract does, its body in page where there is one.
func (s *Store) recordOf(page *pageRoom, h *header, packed []byte) (store.Record, error) {
	record := h.record()
	if h.deleted || h.purge {
		return record, nil
	}
	var err error
	record.Body, err = s.bodies.unpack(page, packed, h.codec, h.dict)
	return record, err
}

// successor gives the row that superseded one, if any did at the moment.
func (r *reader) successor(rid uint64) (by uint64, found bool, err error) {
	value, found, err := get(r.r, successorKey(rid))
	if err != nil || !found {
		return 0, false, err
	}
	if len(value) != ridSize {
		return 0, false, corrupt("a successor has a wrong form")
	}
	by = getRID(value)
	return by, by < r.w, nil
}

// rows reads one keyspace of rows in nearly ascending or descending order.
type rows struct {
	space byte
	it    *pebble.Iterator
	key   []byte // room for one
}

// nearby is how many rows are stepped over before a seek is cheaper: Pebble
// makes a seek forward after a seek cheap, and not after a step.
const nearby = 4

// get gives the value of a row, valid until the next call; nil: there is none.
func (r *rows) get(rid uint64) ([]byte, error) {
	if r.it.Valid() {
		at, err := keyRID(r.it.Key())
		for ; err == nil && at < rid && rid-at <= nearby && r.it.Next(); at, err = keyRID(r.it.Key()) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.it.Valid() && at == rid {
			return r.it.ValueAndErr()
		}
	}
	r.key = appendRID(append(r.key[:0], r.space), rid)
	if !r.it.SeekGE(r.key) {
		return nil, r.it.Error()
	}
	at, err := keyRID(r.it.Key())
	if err != nil || at != rid {
		return nil, err
	}
	return r.it.ValueAndErr()
}
