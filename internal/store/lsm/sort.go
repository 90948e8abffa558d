package lsm

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// place is a row with where it stands in the order of the answer.
type place struct {
	order order
	keys  []sortKey // sorted only
	rid   uint64
}

// sortKey is one key of a place.
type sortKey struct {
	missing bool
	desc    bool // larger values come first
	value   []byte
}

func (p *place) compare(to *place) int {
	for i := range p.keys {
		if c := p.keys[i].compare(&to.keys[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(to.rid, p.rid) // the newest first
}

func (k *sortKey) compare(to *sortKey) int {
	switch {
	case k.missing || to.missing:
		return boolInt(k.missing) - boolInt(to.missing)
	case k.desc:
		return bytes.Compare(to.value, k.value)
	default:
		return bytes.Compare(k.value, to.value)
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// The flags of a key in a token.
const (
	tokenMissing = 1
	tokenDesc    = 2
)

// token writes a place: order, rid, then for each key flags, length, value.
func (p *place) token() []byte {
	dst := appendRID([]byte{byte(p.order)}, p.rid)
	for _, k := range p.keys {
		dst = append(dst, byte(boolInt(k.missing)*tokenMissing|boolInt(k.desc)*tokenDesc))
		dst = binary.AppendUvarint(dst, uint64(len(k.value)))
		dst = append(dst, k.value...)
	}
	return dst
}

// parseToken reads the place behind which a page begins; nil is the beginning.
func parseToken(token []byte, o order, keys int) (*place, error) {
	if token == nil {
		return nil, nil
	}
	f := fields{b: token}
	p := &place{order: order(f.byte())}
	rid := f.take(ridSize)
	for o == sorted && !f.bad && len(p.keys) < keys {
		flags := f.byte()
		n := f.uvarint()
		value := f.take(int(min(n, uint64(len(f.b)+1))))
		p.keys = append(p.keys, sortKey{flags&tokenMissing != 0, flags&tokenDesc != 0, value})
	}
	if f.bad || p.order != o || len(f.b) > 0 {
		return nil, badToken()
	}
	p.rid = getRID(rid)
	return p, nil
}

// findSorted finds all matches; the first of the page are found among them by
// their sort keys, or on the way through an index that has their order.
func (q *query) findSorted(a *arms, p *plan.Plan, after *place) (f found, err error) {
	if err := a.estimate(p, &f); err != nil {
		return found{}, err
	}
	if p.Limit == 0 && p.Total != plan.TotalExact {
		return f, nil
	}
	if p.Limit > 0 && p.Sort[0].Desc {
		most, err := a.bound()
		if err != nil {
			return found{}, err
		}
		if p.Sort[0].By != plan.ByParam || !q.walkPays(most, p.Limit) {
			return q.latest(a, p, after, f)
		}
	}
	hits, err := q.hits(a)
	if err != nil {
		return found{}, err
	}
	if p.Total == plan.TotalExact {
		f.total = hits.n
	}
	if p.Limit == 0 {
		return f, nil
	}
	if p.Sort[0].By == plan.ByParam && q.walkPays(hits.n, p.Limit) {
		f.rows, err = q.walk(hits, p, after)
		return f, err
	}
	f.rows, err = q.best(hits, p, after)
	return f, err
}

// walkPays reports whether a walk through the index of a sort key finds a page
// sooner than a look at all hits. One of rows/hits that it passes is a hit, so that
// a page takes limit*rows/hits of them.
func (q *query) walkPays(hits int64, limit int) bool {
	t := &q.store.tuning
	return hits >= t.walkFrom && float64(hits)*float64(hits) >= float64(t.walkCost)*float64(limit+1)*float64(q.w)
}

// hits finds all matches, block by block.
func (q *query) hits(a *arms) (*listed, error) {
	all := &listed{}
	newest, ok := q.newestBlock()
	if !ok {
		return all, nil
	}
	err := a.each(newest, func(b uint32, rows set) (bool, error) {
		all.add(b, rows.clone())
		return true, nil
	})
	return all, err
}

// top keeps the first limit+1 places behind after, in order.
type top struct {
	limit   int
	after   *place
	rows    []*place
	changes int
	room    []place // for places that come
}

// topRoom is for how many places memory is taken at once, and topValue for how many
// bytes of each value.
const topRoom, topValue = 32, 24

// full reports whether what comes behind the places is not wanted any more.
func (t *top) full() bool { return len(t.rows) > t.limit }

// add takes a place, in memory of its own if it is kept, unless it was met before.
func (t *top) add(p *place) {
	if t.after != nil && p.compare(t.after) <= 0 || t.full() && p.compare(t.rows[t.limit]) >= 0 {
		return
	}
	at, met := slices.BinarySearchFunc(t.rows, p, (*place).compare)
	if met {
		return
	}
	var own *place
	if t.full() {
		own = t.rows[t.limit]
		t.rows = t.rows[:t.limit]
	} else {
		own = t.next(len(p.keys))
	}
	t.changes++
	own.take(p)
	t.rows = slices.Insert(t.rows, at, own)
}

// next gives memory for one place more.
func (t *top) next(keys int) *place {
	if len(t.room) == 0 {
		n := min(topRoom, t.limit+1-len(t.rows))
		t.rows = slices.Grow(t.rows, n)
		t.room = make([]place, n)
		all, values := make([]sortKey, n*keys), make([]byte, n*keys*topValue)
		for i := range all {
			all[i].value = values[i*topValue : i*topValue : (i+1)*topValue]
		}
		for i := range t.room {
			t.room[i].keys = all[i*keys : i*keys : (i+1)*keys]
		}
	}
	own := &t.room[0]
	t.room = t.room[1:]
	return own
}

// take copies a place.
func (p *place) take(from *place) {
	p.order, p.rid = from.order, from.rid
	p.keys = slices.Grow(p.keys[:0], len(from.keys))[:len(from.keys)]
	for i := range from.keys {
		key := &p.keys[i]
		key.value = append(key.value[:0], from.keys[i].value...)
		room := key.value
		*key = from.keys[i]
		key.value = room
	}
}

// places gives what was kept.
func (t *top) places() []place {
	all := make([]place, len(t.rows))
	for i, p := range t.rows {
		all[i] = *p
	}
	return all
}

// best looks at every match's sort keys. Times mostly come in the order of rows: where
// the latest are asked for, the newest rows come first, so that most others are seen to
// stand behind the page.
func (q *query) best(hits *listed, p *plan.Plan, after *place) ([]place, error) {
	t, r := top{limit: p.Limit, after: after}, q.ranker(p.Sort)
	for i := range hits.order {
		if !p.Sort[0].Desc {
			i = len(hits.order) - 1 - i
		}
		err := q.eachRun(hits.order[i], hits.sets[i].all(), func(rows runRows) error { return r.rank(rows, &t) })
		if err != nil {
			return nil, err
		}
	}
	return t.places(), nil
}

// latest is best for matches as they are found, the newest first.
func (q *query) latest(a *arms, p *plan.Plan, after *place, f found) (found, error) {
	newest, ok := q.newestBlock()
	if !ok {
		return f, nil
	}
	t, r := top{limit: p.Limit, after: after}, q.ranker(p.Sort)
	n := int64(0)
	err := a.each(newest, func(b uint32, rows set) (bool, error) {
		n += int64(rows.n)
		return true, q.eachRun(b, rows.all(), func(rows runRows) error { return r.rank(rows, &t) })
	})
	if p.Total == plan.TotalExact {
		f.total = n
	}
	f.rows = t.places()
	return f, err
}

// rank adds rows to a page. Those that stand behind it by their first key are passed
// over without a look at more, where columns tell.
func (r *ranker) rank(rows runRows, t *top) error {
	decided := rows.before(r.decides(rows.run))
	if err := r.q.look(decided); err != nil {
		return err
	}
	if r.sorts[0].Desc {
		return r.rankBack(rows, decided, t)
	}
	known := -1 // changes of t that the page's end is of
	for i := 0; i < len(rows.ords); i++ {
		if i < decided && r.sees(t, &known) {
			if i += r.behind(rows.ords[i:decided], rows.off, false); i == len(rows.ords) {
				return nil
			}
		}
		if err := r.add(rows, i, t); err != nil {
			return err
		}
	}
	return nil
}

// rankBack is rank from the last row to the first.
func (r *ranker) rankBack(rows runRows, decided int, t *top) error {
	known := -1
	for i := len(rows.ords) - 1; i >= 0; i-- {
		if i < decided && r.sees(t, &known) {
			if i -= r.behind(rows.ords[:i+1], rows.off, true); i < 0 {
				return nil
			}
		}
		if err := r.add(rows, i, t); err != nil {
			return err
		}
	}
	return nil
}

// sees reports whether rows may stand behind the page, and notes where it ends.
func (r *ranker) sees(t *top, known *int) bool {
	if t.full() && *known != t.changes {
		*known = t.changes
		r.end(&t.rows[t.limit].keys[0])
	}
	return t.full()
}

// add adds one row to a page.
func (r *ranker) add(rows runRows, i int, t *top) error {
	at, err := r.place(rows.run<<r.q.store.tuning.keptShift + uint64(int(rows.ords[i])+rows.off))
	if err == nil {
		t.add(at)
	}
	return err
}

// decides gives of how many rows of a run columns tell the first key.
func (r *ranker) decides(run uint64) int {
	if r.sorts[0].By != plan.ByParam {
		return 0
	}
	decided := 1 << r.q.store.tuning.keptShift
	for i := range r.columns[0] {
		c := &r.columns[0][i]
		decided = min(decided, c.covered(r.q, run))
	}
	return decided
}

// end notes in each column which values stand behind a key: those before the first
// that is as large, or those from the first that is larger.
func (r *ranker) end(key *sortKey) {
	r.bounds = r.bounds[:0]
	for i := range r.columns[0] {
		values := &r.columns[0][i].kept.column.values
		b := codeBounds{high: uint16(values.count())}
		switch {
		case key.missing: // every value stands before it
		case key.desc:
			b.low = values.from(key.value, false)
		default:
			b.high = values.from(key.value, true)
		}
		r.bounds = append(r.bounds, b)
	}
	r.endMissing = key.missing
}

// codeBounds are codes of a column, high excluded.
type codeBounds struct{ low, high uint16 }

// behind is how many rows, from the first on or back from the last, stand behind the
// page's end, whatever their other keys are.
func (r *ranker) behind(ords []uint16, off int, back bool) int {
	if r.endMissing { // a row without a value may stand before it
		return 0
	}
	n := len(ords)
	for i := range r.columns[0] {
		codes, b := r.columns[0][i].kept.column.codes, r.bounds[i]
		switch {
		case codes == nil:
		case back:
			n = behindBack(codes, b.low, b.high-b.low, ords[len(ords)-n:], off)
		default:
			n = behindIn(codes, b.low, b.high-b.low, ords[:n], off)
		}
	}
	return n
}

// behindIn is behind by one column, from the first row on.
func behindIn(codes []uint16, low, width uint16, ords []uint16, off int) int {
	for i, o := range ords {
		if code := codes[int(o)+off]; code-low < width || code == keptMany {
			return i
		}
	}
	return len(ords)
}

// behindBack is behind by one column, back from the last row.
func behindBack(codes []uint16, low, width uint16, ords []uint16, off int) int {
	for i := len(ords) - 1; i >= 0; i-- {
		if code := codes[int(ords[i])+off]; code-low < width || code == keptMany {
			return len(ords) - 1 - i
		}
	}
	return len(ords)
}

// ranker makes the places of rows in an order.
type ranker struct {
	q       *query
	sorts   []plan.Sort
	columns [][]column // of each sort by a param
	room    place

	bounds     []codeBounds // of each column of the first key: where the page ends
	endMissing bool         // it ends with a row without a value
}

func (q *query) ranker(sorts []plan.Sort) *ranker {
	r := &ranker{q: q, sorts: sorts, room: place{order: sorted, keys: make([]sortKey, len(sorts))}}
	for _, s := range sorts {
		r.columns = append(r.columns, columnsOf(s.Params))
	}
	return r
}

// place makes the place of a row, valid until it is asked for another.
func (r *ranker) place(rid uint64) (*place, error) {
	r.room.rid = rid
	for i := range r.sorts {
		if err := r.setKey(rid, i); err != nil {
			return nil, err
		}
	}
	return &r.room, nil
}

// setKey finds the row's key of one sort.
func (r *ranker) setKey(rid uint64, i int) error {
	key, s := &r.room.keys[i], &r.sorts[i]
	*key = sortKey{desc: s.Desc, value: key.value[:0]}
	switch s.By {
	case plan.ByUpdated:
		key.value = appendRID(key.value, rid)
		return nil
	case plan.ByParam:
		return r.setValue(rid, key, r.columns[i])
	}
	h, err := r.q.header(rid)
	if s.By == plan.ByID {
		key.value = append(key.value, h.key.ID...)
	} else {
		key.value = binary.BigEndian.AppendUint16(key.value, uint16(h.key.Type))
	}
	return err
}

// setValue finds a row's smallest value of the sort's params, or its largest.
func (r *ranker) setValue(rid uint64, key *sortKey, columns []column) error {
	key.missing = true
	return r.q.eachOfAll(rid, columns, func(value []byte) {
		if key.missing || key.desc == (bytes.Compare(value, key.value) > 0) {
			key.missing, key.value = false, append(key.value[:0], value...)
		}
	})
}
