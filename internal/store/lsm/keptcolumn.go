package lsm

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"sort"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// The codes of a kept column that are no number of a value.
const (
	keptNone = math.MaxUint16     // the row has no value
	keptMany = math.MaxUint16 - 1 // it has several, which stand in many

	// maxKeptBytes bounds the values of one column.
	maxKeptBytes = 1 << 20
)

// keptColumn is the values of one param in the first rows of a run. Values ascend,
// and so do their numbers: a range of values is one of numbers, and to test or
// compare a row takes one look. A column does not change: a longer one replaces it.
type keptColumn struct {
	rows   int      // how many rows it is of
	codes  []uint16 // of each row: the number of its value; nil: none has one
	many   []several
	values keptValues
	wide   bool // it has too much to be kept, and holds nothing
}

// several is the values of a row that has more than one.
type several struct {
	row   uint16
	codes []uint16
}

// keptValues are distinct values in their order.
type keptValues struct {
	ends  []uint32 // of each value in bytes, behind a 0
	bytes []byte
	heads []uint64 // how each headsOf-th value begins; without them a search looks at values alone
}

// headsOf is how many values stand behind one head: few enough that a search looks at
// few values, so many that heads stay where the processor has them at hand.
const headsOf = 16

// head is how a value begins, as a number: a value whose head is smaller is smaller.
func head(value []byte) uint64 {
	if len(value) >= 8 {
		return binary.BigEndian.Uint64(value)
	}
	var begin [8]byte
	copy(begin[:], value)
	return binary.BigEndian.Uint64(begin[:])
}

func (v *keptValues) count() int { return max(len(v.ends), 1) - 1 }

// value gives a value by its number.
func (v *keptValues) value(n uint16) []byte { return v.bytes[v.ends[n]:v.ends[n+1]] }

// from is the number of the first value that is not smaller than one; behind: that
// is larger.
func (v *keptValues) from(value []byte, behind bool) uint16 {
	least := 0
	if behind {
		least = 1
	}
	low, high := v.near(value)
	for low < high {
		middle := (low + high) / 2
		if bytes.Compare(v.value(uint16(middle)), value) >= least {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return uint16(low)
}

// near gives between which numbers a value belongs by the heads.
func (v *keptValues) near(value []byte) (low, high int) {
	begin, high := head(value), v.count()
	smaller, _ := slices.BinarySearch(v.heads, begin)
	if smaller > 0 {
		low = headsOf*(smaller-1) + 1
	}
	larger := smaller + sort.Search(len(v.heads)-smaller, func(i int) bool { return v.heads[smaller+i] > begin })
	if larger < len(v.heads) {
		high = headsOf * larger
	}
	return low, high
}

// index notes the heads, when all values are there.
func (v *keptValues) index() {
	v.heads = make([]uint64, 0, (v.count()+headsOf-1)/headsOf)
	for n := 0; n < v.count(); n += headsOf {
		v.heads = append(v.heads, head(v.value(uint16(n))))
	}
}

// add adds a value that is larger than all before.
func (v *keptValues) add(value []byte) {
	if len(v.ends) == 0 {
		v.ends = append(v.ends, 0)
	}
	v.bytes = append(v.bytes, value...)
	v.ends = append(v.ends, uint32(len(v.bytes)))
}

func (c *keptColumn) size() int64 {
	n := 2*cap(c.codes) + 4*cap(c.values.ends) + cap(c.values.bytes) + 8*cap(c.values.heads)
	for _, s := range c.many {
		n += 2*len(s.codes) + 32 // and what a several takes itself
	}
	return int64(n)
}

// covers reports whether it is of a row, by its place in the run.
func (c *keptColumn) covers(place int) bool { return c != nil && place < c.rows }

// numbers are those of a row's values; room holds one.
func (c *keptColumn) numbers(place int, room []uint16) []uint16 {
	if c.codes == nil {
		return nil
	}
	switch code := c.codes[place]; code {
	case keptNone:
		return nil
	case keptMany:
		return c.severalOf(place)
	default:
		return append(room[:0], code)
	}
}

func (c *keptColumn) severalOf(place int) []uint16 {
	i, _ := slices.BinarySearchFunc(c.many, uint16(place), func(s several, row uint16) int { return cmp.Compare(s.row, row) })
	return c.many[i].codes
}

// keptAt is where a column of a query stands among those that are kept.
type keptAt struct {
	known  bool
	chunks []*keptChunk // nil: the query must not use any

	run    uint64
	there  bool       // run is meant
	chunk  *keptChunk // nil: nothing more is to be kept of the run
	column *keptColumn
	seen   []uint64 // of each value a bit: it was asked for; empty: none was
}

// keptOf gives the kept column that a row is in; nil: its facts must be asked.
func (c *column) keptOf(q *query, rid uint64) (*keptColumn, error) {
	c.turnKept(q, rid>>q.store.tuning.keptShift)
	place := q.keptOrd(rid)
	if c.kept.column.covers(place) {
		return c.kept.column, nil
	}
	if err := c.kept.grow(q, c.param); err != nil || !c.kept.column.covers(place) {
		return nil, err
	}
	return c.kept.column, nil
}

// turnKept makes the column stand in a run of rows.
func (c *column) turnKept(q *query, run uint64) {
	k := &c.kept
	if k.there && k.run == run {
		return
	}
	k.run, k.there, k.chunk, k.column = run, true, nil, nil
	k.seen = k.seen[:0]
	if !k.known {
		k.known = true
		if q.keeps {
			runs := int(q.w+1<<q.store.tuning.keptShift-1) >> q.store.tuning.keptShift
			k.chunks = q.store.kept.chunks(keptKey{q.store, c.param}, q.edits, runs)
		}
	}
	if run >= uint64(len(k.chunks)) {
		return
	}
	k.chunk = k.chunks[run]
	if k.column = k.chunk.column.Load(); k.column != nil && k.column.wide {
		k.chunk, k.column = nil, nil
	}
}

// covered is of how many rows of a run, from its first on, the column is kept.
func (c *column) covered(q *query, run uint64) int {
	c.turnKept(q, run)
	if c.kept.column == nil {
		return 0
	}
	return c.kept.column.rows
}

// grow counts a row that was looked up in facts, and makes the column longer when
// there were enough of them and there is room.
func (k *keptAt) grow(q *query, param plan.Param) error {
	if k.chunk == nil {
		return nil
	}
	rows := k.missing(q)
	if asked := k.chunk.asked.Add(1); rows == 0 || int(asked) < rows/q.store.tuning.keptPart {
		return nil
	}
	return k.make(q, param, rows)
}

// missing is of how many rows more the column may be made; 0: it is long enough.
func (k *keptAt) missing(q *query) int {
	t, have := &q.store.tuning, 0
	if k.column != nil {
		have = k.column.rows
	}
	there := int(min(q.w-k.run<<t.keptShift, 1<<t.keptShift))
	if there < 1<<t.keptShift && there-have < t.keptLeast {
		return 0
	}
	return min(there-have, t.keptStep)
}

// keepAll makes the column of a run longer, and reports whether it is long enough.
func (c *column) keepAll(q *query, run uint64) (whole bool, err error) {
	c.turnKept(q, run)
	k := &c.kept
	for k.chunk != nil {
		rows := k.missing(q)
		if rows == 0 {
			return true, nil
		}
		if q.keptMade >= keptAhead {
			return false, nil
		}
		if err := k.make(q, c.param, rows); err != nil {
			return false, err
		}
	}
	return false, nil
}

// make makes the column of some rows more, if there is room.
func (k *keptAt) make(q *query, param plan.Param, rows int) error {
	key, have := keptKey{q.store, param}, 0
	if k.column != nil {
		have = k.column.rows
	}
	if q.keptMade >= keptAtOnce || !q.store.kept.admits(key, q.edits) {
		k.chunk = nil // of this query, the rest of the run is looked up
		return nil
	}
	q.keptMade++
	k.chunk.asked.Store(0)
	made, err := q.keepColumn(param, k.run, k.column, have+rows)
	if err != nil {
		return err
	}
	q.store.kept.add(key, q.edits, k.chunk, k.column, made)
	k.column, k.seen = made, k.seen[:0]
	if made.wide {
		k.chunk, k.column = nil, nil
	}
	return nil
}

// isNew reports whether a value of the run is asked for the first time.
func (k *keptAt) isNew(n uint16) bool {
	if len(k.seen) == 0 {
		size := k.column.values.count()/64 + 1
		k.seen = slices.Grow(k.seen, size)[:size]
		clear(k.seen)
	}
	bit := uint64(1) << (n & 63)
	had := k.seen[n/64]&bit != 0
	k.seen[n/64] |= bit
	return !had
}

// keptMaker makes a column that is longer than one that is there. The values of
// that have the numbers they had, others follow as they come, until all are put in
// order.
type keptMaker struct {
	old   *keptColumn
	fresh keptValues
	known map[string]uint32 // of fresh: value → number

	rows []uint32 // of each new row: where its numbers end
	all  []uint32 // numbers
	wide bool

	sheet uint64   // last row of the sheet that met is of
	met   []uint32 // of each value of the param there: its number and one; 0: not met yet
	cut   int      // values that the sheet had cut
}

// keepColumn makes the column of a param for the first rows of a run, from an older
// one, which may be nil.
func (q *query) keepColumn(param plan.Param, run uint64, old *keptColumn, rows int) (*keptColumn, error) {
	if old == nil {
		old = &keptColumn{}
	}
	m := keptMaker{old: old, known: map[string]uint32{}}
	c, first := column{param: param}, run<<q.store.tuning.keptShift
	for place := old.rows; place < rows && !m.wide; place++ {
		if err := q.step(); err != nil {
			return nil, err
		}
		f, err := q.factsOf(first + uint64(place))
		if err == nil && f != nil {
			err = m.take(q, first+uint64(place), f, &c)
		}
		if err != nil {
			return nil, err
		}
		m.rows = append(m.rows, uint32(len(m.all)))
	}
	q.keptMade += m.cut / keptCut
	if m.wide {
		return &keptColumn{wide: true}, nil
	}
	return m.finish(), nil
}

// take notes the values of a row.
func (m *keptMaker) take(q *query, rid uint64, f *factRow, c *column) error {
	if f.loose != nil {
		return f.loose.each(func(param plan.Param, value []byte) bool {
			if param == c.param {
				m.all = append(m.all, m.number(value))
			}
			return !m.wide
		})
	}
	refs, err := c.refs(&f.sheet)
	if err != nil || len(refs) == 0 {
		return err
	}
	if m.met == nil || m.sheet != f.sheet.last {
		first, end := f.sheet.span(c.index)
		if end < first || end > f.sheet.count {
			return badSheet()
		}
		m.sheet, m.met = f.sheet.last, make([]uint32, end-first)
	}
	for ; len(refs) > 0 && !m.wide; refs = refs[c.size:] {
		ref := getRef(refs, c.size)
		if ref >= len(m.met) {
			return badSheet()
		}
		if m.met[ref] == 0 {
			if err := m.meet(q, rid, &f.sheet, c, ref); err != nil {
				return err
			}
		}
		if m.met[ref] > 0 {
			m.all = append(m.all, m.met[ref]-1)
		}
	}
	return nil
}

// meet finds the number of a value of a sheet that is met for the first time, in a
// row that has it.
func (m *keptMaker) meet(q *query, rid uint64, r *sheetRow, c *column, ref int) error {
	value, whole, err := r.valueAt(c.first + ref)
	if err != nil {
		return err
	}
	if whole {
		m.met[ref] = m.number(value) + 1
		return nil
	}
	m.cut++
	return q.resolve(rid, c.param, value, func(value []byte) { m.met[ref] = m.number(value) + 1 })
}

// number gives the number of a value.
func (m *keptMaker) number(value []byte) uint32 {
	old := &m.old.values
	if n := old.from(value, false); int(n) < old.count() && bytes.Equal(old.value(n), value) {
		return uint32(n)
	}
	n, known := m.known[string(value)]
	if !known {
		n = uint32(old.count() + m.fresh.count())
		m.wide = n >= keptMany || len(old.bytes)+len(m.fresh.bytes)+len(value) > maxKeptBytes
		if !m.wide {
			m.known[string(value)] = n
			m.fresh.add(value)
		}
	}
	return n
}

// finish puts all values in order, and gives the column.
func (m *keptMaker) finish() *keptColumn {
	made := &keptColumn{rows: m.old.rows + len(m.rows)}
	code := m.merge(&made.values)
	if made.values.count() == 0 {
		return made
	}
	made.values.index()
	made.codes = make([]uint16, 0, made.rows)
	for _, c := range m.old.codes {
		if c < keptMany {
			c = code[c]
		}
		made.codes = append(made.codes, c)
	}
	for len(made.codes) < m.old.rows { // none had a value
		made.codes = append(made.codes, keptNone)
	}
	for _, s := range m.old.many {
		addSeveral(made, s.row, s.codes, code)
	}
	begin := uint32(0)
	for _, end := range m.rows {
		switch numbers := m.all[begin:end]; len(numbers) {
		case 0:
			made.codes = append(made.codes, keptNone)
		case 1:
			made.codes = append(made.codes, code[numbers[0]])
		default:
			addSeveral(made, uint16(len(made.codes)), numbers, code)
			made.codes = append(made.codes, keptMany)
		}
		begin = end
	}
	return made
}

func addSeveral[N uint16 | uint32](c *keptColumn, row uint16, numbers []N, code []uint16) {
	codes := make([]uint16, len(numbers))
	for i, n := range numbers {
		codes[i] = code[n]
	}
	c.many = append(c.many, several{row, codes})
}

// merge writes old and new values in one order, and gives the new number of each.
func (m *keptMaker) merge(into *keptValues) (code []uint16) {
	old, fresh := &m.old.values, &m.fresh
	order := make([]uint16, fresh.count())
	for i := range order {
		order[i] = uint16(i)
	}
	slices.SortFunc(order, func(a, b uint16) int { return bytes.Compare(fresh.value(a), fresh.value(b)) })
	code = make([]uint16, old.count()+fresh.count())
	into.ends = make([]uint32, 0, len(code)+1)
	into.bytes = make([]byte, 0, len(old.bytes)+len(fresh.bytes))
	n := 0
	for _, next := range order {
		for ; n < old.count() && bytes.Compare(old.value(uint16(n)), fresh.value(next)) < 0; n++ {
			code[n] = into.take(old, uint16(n))
		}
		code[old.count()+int(next)] = into.take(fresh, next)
	}
	for ; n < old.count(); n++ {
		code[n] = into.take(old, uint16(n))
	}
	return code
}

// take adds a value of others, and gives its number.
func (v *keptValues) take(from *keptValues, n uint16) uint16 {
	v.add(from.value(n))
	return uint16(v.count() - 1)
}
