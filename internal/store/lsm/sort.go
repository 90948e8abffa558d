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
	if hits.n >= q.store.tuning.walkFrom && p.Sort[0].By == plan.ByParam {
		f.rows, err = q.walk(hits, p, after)
		return f, err
	}
	f.rows, err = q.best(hits, p, after)
	return f, err
}

// hits finds all matches, block by block.
func (q *query) hits(a *arms) (*listed, error) {
	all := map[uint32]*gather{}
	newest, ok := q.newestBlock()
	if !ok {
		return list(all), nil
	}
	err := a.each(newest, func(b uint32, rows set) (bool, error) {
		gatherAt(all, b).union(rows)
		return true, nil
	})
	return list(all), err
}

// topRoom is how much more than wanted is kept before the rest is thrown away.
const topRoom = 4

// top keeps the first limit+1 places behind after.
type top struct {
	limit int
	after *place
	rows  []place
}

func (t *top) add(p place) {
	if t.after != nil && p.compare(t.after) <= 0 {
		return
	}
	if t.rows = append(t.rows, p); len(t.rows) > topRoom*(t.limit+1) {
		t.cut()
	}
}

func (t *top) cut() {
	slices.SortFunc(t.rows, func(a, b place) int { return a.compare(&b) })
	t.rows = slices.CompactFunc(t.rows, func(a, b place) bool { return a.rid == b.rid }) // met in two params
	t.rows = t.rows[:min(len(t.rows), t.limit+1)]
}

// best looks at every match's sort keys.
func (q *query) best(hits *listed, p *plan.Plan, after *place) ([]place, error) {
	t := top{limit: p.Limit, after: after}
	for _, b := range hits.order {
		for _, o := range hits.blocks[b].all() {
			at, err := q.place(q.rid(b, o), p.Sort)
			if err != nil {
				return nil, err
			}
			t.add(at)
		}
	}
	t.cut()
	return t.rows, nil
}

// place makes the place of a row.
func (q *query) place(rid uint64, sorts []plan.Sort) (place, error) {
	p := place{order: sorted, rid: rid, keys: make([]sortKey, len(sorts))}
	for i, s := range sorts {
		key, err := q.sortKey(rid, s)
		if err != nil {
			return place{}, err
		}
		p.keys[i] = key
	}
	return p, nil
}

func (q *query) sortKey(rid uint64, s plan.Sort) (sortKey, error) {
	key := sortKey{desc: s.Desc}
	switch s.By {
	case plan.ByUpdated:
		key.value = appendRID(nil, rid)
		return key, nil
	case plan.ByParam:
		return q.valueKey(rid, s)
	}
	h, err := q.header(rid)
	if s.By == plan.ByID {
		key.value = []byte(h.key.ID)
	} else {
		key.value = binary.BigEndian.AppendUint16(nil, uint16(h.key.Type))
	}
	return key, err
}

// valueKey finds a row's smallest value of the sort's params, or its largest.
func (q *query) valueKey(rid uint64, s plan.Sort) (sortKey, error) {
	key := sortKey{desc: s.Desc, missing: true}
	f, err := q.facts(rid)
	if err != nil || f == nil {
		return key, err
	}
	wanted := func(param plan.Param) bool { return slices.Contains(s.Params, param) }
	err = q.eachWhole(rid, f, wanted, func(_ plan.Param, value []byte) {
		if key.missing || s.Desc == (bytes.Compare(value, key.value) > 0) {
			key.missing, key.value = false, append(key.value[:0], value...)
		}
	})
	return key, err
}
