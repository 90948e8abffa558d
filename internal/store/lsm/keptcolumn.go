package lsm

import (
	"math"
	"slices"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// The refs of a kept column.
const (
	keptNone = math.MaxUint16 // the row has no value
	keptMany = 1 << 15        // from here on: it has several, those of many[ref-keptMany]

	// maxKeptBytes bounds the values of one column.
	maxKeptBytes = 256 << 10
)

// keptColumn is the values of one param in a run of rows.
type keptColumn struct {
	refs  []uint16   // of each row: the number of its value
	many  [][]uint16 // numbers of values
	ends  []uint32   // of each value in bytes, behind a 0
	bytes []byte
	cut   []bool // of each value: it is the beginning of one; nil: all are whole
	wide  bool   // it has too much to be kept, and holds nothing
}

func (c *keptColumn) size() int64 {
	n := 2*len(c.refs) + 4*len(c.ends) + len(c.bytes) + len(c.cut)
	for _, numbers := range c.many {
		n += 2*len(numbers) + 24 // and a slice's own
	}
	return int64(n)
}

// value gives a value by its number.
func (c *keptColumn) value(n uint16) (value []byte, whole bool) {
	return c.bytes[c.ends[n]:c.ends[n+1]], c.cut == nil || !c.cut[n]
}

// numbers are those of a row's values; room holds one.
func (c *keptColumn) numbers(ord int, room []uint16) []uint16 {
	switch ref := c.refs[ord]; {
	case ref == keptNone:
		return nil
	case ref >= keptMany:
		return c.many[ref-keptMany]
	default:
		return append(room[:0], ref)
	}
}

// keptAt is where a column of a query stands among those that are kept.
type keptAt struct {
	known  bool
	chunks []*keptChunk // nil: the query must not use any

	chunk  uint64
	there  bool       // chunk is meant
	asked  *keptChunk // nil: it is not to be kept
	column *keptColumn
	seen   []uint64 // of each value a bit: it was asked for; empty: none was
}

// keptOf gives the kept column that a row is in; nil: its facts must be asked.
func (c *column) keptOf(q *query, rid uint64) (*keptColumn, error) {
	k, chunk := &c.kept, rid>>q.store.tuning.keptShift
	if !k.there || k.chunk != chunk {
		k.turn(q, c.param, chunk)
	}
	if k.asked == nil {
		return k.column, nil
	}
	if k.asked.asked.Add(1) < q.store.tuning.keptFrom {
		return nil, nil
	}
	return k.column, k.make(q, c.param)
}

// turn makes k stand in a run of rows.
func (k *keptAt) turn(q *query, param plan.Param, chunk uint64) {
	k.chunk, k.there, k.asked, k.column = chunk, true, nil, nil
	k.seen = k.seen[:0]
	if !k.known {
		k.known = true
		if whole := int(q.w >> q.store.tuning.keptShift); q.keeps {
			k.chunks = q.store.kept.chunks(keptKey{q.store, param}, q.edits, whole)
		}
	}
	if chunk >= uint64(len(k.chunks)) {
		return
	}
	at := k.chunks[chunk]
	if k.column = at.column.Load(); k.column == nil {
		k.asked = at
	} else if k.column.wide {
		k.column = nil
	}
}

// make has the column of the run made, if there is room.
func (k *keptAt) make(q *query, param plan.Param) error {
	at, key := k.asked, keptKey{q.store, param}
	if q.keptMade >= keptAtOnce || !q.store.kept.admits(key, q.edits) {
		k.asked = nil // of this query, the rest of the run is looked up
		return nil
	}
	q.keptMade++
	made, err := q.keepColumn(param, k.chunk)
	if err != nil {
		return err
	}
	k.asked = nil
	q.store.kept.add(key, q.edits, at, made)
	if !made.wide {
		k.column = made
	}
	return nil
}

// isNew reports whether a value of the run is asked for the first time.
func (k *keptAt) isNew(n uint16) bool {
	if len(k.seen) == 0 {
		size := len(k.column.ends)/64 + 1
		k.seen = slices.Grow(k.seen, size)[:size]
		clear(k.seen)
	}
	bit := uint64(1) << (n & 63)
	had := k.seen[n/64]&bit != 0
	k.seen[n/64] |= bit
	return !had
}

// keptMaker makes a column.
type keptMaker struct {
	*keptColumn
	known map[string]uint16 // value and whether it is whole → number
	room  []uint16          // numbers of the row under way
}

// keepColumn makes the column of a param for a run of rows.
func (q *query) keepColumn(param plan.Param, chunk uint64) (*keptColumn, error) {
	rows := 1 << q.store.tuning.keptShift
	m := keptMaker{keptColumn: &keptColumn{refs: make([]uint16, 0, rows), ends: make([]uint32, 1, rows/2)}, known: map[string]uint16{}}
	c := column{param: param}
	first := chunk << q.store.tuning.keptShift
	for rid := first; rid < first+uint64(rows) && !m.wide; rid++ {
		if err := q.step(); err != nil {
			return nil, err
		}
		f, err := q.factsOf(rid)
		if err != nil {
			return nil, err
		}
		if f != nil {
			if err := m.take(f, &c); err != nil {
				return nil, err
			}
		}
		m.endRow()
	}
	if m.wide {
		return &keptColumn{wide: true}, nil
	}
	return m.keptColumn, nil
}

// take notes the values of a row.
func (m *keptMaker) take(f *factRow, c *column) error {
	if f.loose != nil {
		return f.loose.each(func(param plan.Param, value []byte) bool {
			if param == c.param {
				m.add(value, true)
			}
			return !m.wide
		})
	}
	refs, err := c.refs(&f.sheet)
	for ; err == nil && len(refs) > 0 && !m.wide; refs = refs[c.size:] {
		value, whole, failed := f.sheet.valueAt(c.first + getRef(refs, c.size))
		if failed != nil {
			return failed
		}
		m.add(value, whole)
	}
	return err
}

func (m *keptMaker) add(value []byte, whole bool) {
	key := append(make([]byte, 0, 64), value...)
	key = append(key, byte(boolInt(whole)))
	n, known := m.known[string(key)]
	if !known {
		if len(m.known) == keptMany || len(m.bytes)+len(value) > maxKeptBytes {
			m.wide = true
			return
		}
		n = uint16(len(m.known))
		m.known[string(key)] = n
		m.bytes = append(m.bytes, value...)
		m.ends = append(m.ends, uint32(len(m.bytes)))
		if !whole && m.cut == nil {
			m.cut = make([]bool, n, cap(m.ends))
		}
		if m.cut != nil {
			m.cut = append(m.cut, !whole)
		}
	}
	m.room = append(m.room, n)
}

func (m *keptMaker) endRow() {
	switch len(m.room) {
	case 0:
		m.refs = append(m.refs, keptNone)
	case 1:
		m.refs = append(m.refs, m.room[0])
	default:
		m.refs = append(m.refs, uint16(keptMany+len(m.many)))
		m.many = append(m.many, append([]uint16(nil), m.room...))
	}
	m.room = m.room[:0]
}
