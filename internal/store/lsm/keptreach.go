package lsm

import (
	"encoding/binary"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// What a Has reaches is kept in memory as the rows of keys are (keptrows.go): the
// current rows that sources point to, where sources are told by entries of their own.
// While nothing is superseded or deleted, sources and rows that were there stay what
// they are, so that after commits only new rows are looked at: what new sources point
// to, and whether a new row is what older ones point to. When something is, all is
// gathered anew.

const (
	// reachPrefix begins what is kept of a Has: no key of the index and no range does.
	reachPrefix = 0x00
	// reachStep is how many rows may have come since what is kept was gathered, for
	// them to be looked at, and reachTests how many of the type that is reached, each of
	// which is looked for in the index. When there are more, all is gathered anew.
	reachStep  = 4096
	reachTests = 64
)

// reach is what is kept of a Has; the zero value is of one that is not kept.
type reach struct {
	key    []byte // nil: nothing is kept of it
	wanted bool   // it is asked so often that what is gathered should be kept
}

// reachOf names what a Has of resources of a type reaches; key is nil where sources
// may change without being superseded, as those do that are told by other resources.
func (q *query) reachOf(n plan.Has, t plan.Type) reach {
	if !q.keeps {
		return reach{}
	}
	key := binary.BigEndian.AppendUint16([]byte{reachPrefix}, uint16(t))
	key = binary.AppendUvarint(key, uint64(len(n.Params)))
	for _, param := range n.Params {
		key = appendParam(key, param)
	}
	for _, arm := range n.From {
		var ok bool
		if key, ok = appendNode(binary.BigEndian.AppendUint16(key, uint16(arm.Type)), arm.Where); !ok {
			return reach{}
		}
	}
	return reach{key: key}
}

func appendParam(dst []byte, p plan.Param) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(p))
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// appendNode names a condition on a resource's own entries, each one otherwise; ok is
// false for others.
func appendNode(dst []byte, node plan.Node) (named []byte, ok bool) {
	var parts []plan.Node
	switch n := node.(type) {
	case nil:
		return append(dst, 'e'), true
	case plan.Term:
		return appendBytes(appendParam(append(dst, 't'), n.Param), n.Value), true
	case plan.And:
		dst, parts = append(dst, 'a'), n
	case plan.Or:
		dst, parts = append(dst, 'o'), n
	default:
		return nil, false
	}
	dst, ok = binary.AppendUvarint(dst, uint64(len(parts))), true
	for i := 0; i < len(parts) && ok; i++ {
		dst, ok = appendNode(dst, parts[i])
	}
	return dst, ok
}

// keptReach gives the rows that a Has reaches, where they are kept; nil: they must be
// gathered. more gives those that are to be added since a row; nil: too many came.
func (q *query) keptReach(r *reach, more func(since uint64) (*listed, error)) (*listed, error) {
	if r.key == nil {
		return nil, nil
	}
	rows, at, wanted := q.store.keptRows.ask(q.store, r.key, q.edits, q.store.tuning.keptRowsFrom)
	r.wanted = wanted && q.live && at.w <= q.w
	switch {
	case rows == nil || at.buried != q.buried:
		return nil, nil
	case at.w == q.w:
		return rows, nil
	case !r.wanted || q.w-at.w > reachStep:
		return nil, nil
	}
	fresh, err := more(at.w)
	if err != nil || fresh == nil {
		return nil, err
	}
	rows = rows.union(fresh)
	q.keepReach(r, rows)
	return rows, nil
}

// keepReach has rows kept that were gathered, if they are asked for often.
func (q *query) keepReach(r *reach, rows *listed) {
	if !r.wanted {
		return
	}
	if rows.bytes() > q.store.keptRows.room/keptRowsPart {
		rows = nil
	}
	q.store.keptRows.keep(q.store, r.key, q.edits, rows, keptState{q.w, q.buried})
}

// reachedOf gives the rows of a type that a test tells to be reached, and has them kept,
// where this is wanted and takes little longer than to test so many rows: as often as
// something is superseded, all is found anew. nil: fewer must be tested.
func (q *query) reachedOf(t plan.Type, asked int64, test func(rid uint64) (bool, error), kept *reach) (*listed, error) {
	every := q.everyOf(t)
	most, err := every.bound()
	newest, ok := q.newestBlock()
	if err != nil || !ok || !kept.wanted || most > asked*q.store.tuning.selfShare {
		return nil, err
	}
	rows := &listed{}
	all := arms{q: q, list: []*arm{every}}
	err = all.each(newest, func(b uint32, of set) (bool, error) {
		met, err := keepRows(q, test, b, of)
		if err == nil && !met.empty() {
			rows.add(b, met.clone())
		}
		return true, err
	})
	if err == nil {
		q.keepReach(kept, rows)
	}
	return rows, err
}

// union gives the rows of both; what is of one alone is shared.
func (l *listed) union(other *listed) *listed {
	if other.n == 0 {
		return l
	}
	both := &listed{}
	for i, j := 0, 0; i < len(l.order) || j < len(other.order); {
		switch {
		case j == len(other.order) || i < len(l.order) && l.order[i] > other.order[j]:
			both.add(l.order[i], l.sets[i])
			i++
		case i == len(l.order) || l.order[i] < other.order[j]:
			both.add(other.order[j], other.sets[j])
			j++
		default:
			var of gather
			of.union(l.sets[i])
			of.union(other.sets[j])
			both.add(l.order[i], of.set())
			i, j = i+1, j+1
		}
	}
	return both
}

// reachedSince gives the rows that a Has reaches since a row, if nothing was
// superseded since: those that new sources point to, and new rows of the type that
// any source points to, which test tells; nil: there are too many of these.
func (q *query) reachedSince(since uint64, n plan.Has, t plan.Type, sources *arms, test func(rid uint64) (bool, error)) (*listed, error) {
	fresh, tests := &listed{}, 0
	err := q.eachSince(&arms{q: q, list: []*arm{q.everyOf(t)}}, since, func(b uint32, rows set) error {
		if tests += rows.n; tests > reachTests {
			return nil
		}
		met, err := keepRows(q, test, b, rows)
		if err == nil && !met.empty() {
			fresh.add(b, met.clone())
		}
		return err
	})
	if err != nil || tests > reachTests {
		return nil, err
	}
	targets, err := q.gatherTargets(n.Params, sources, since)
	if err != nil {
		return nil, err
	}
	rows, err := q.currentRows(targets)
	if err != nil {
		return nil, err
	}
	return rows.union(fresh), nil
}

// everyOf is all resources of a type.
func (q *query) everyOf(t plan.Type) *arm {
	return &arm{q: q, typ: t, universe: q.postings(typePrefix(t, kindPut)), where: everything{}}
}

// eachSince calls do with the rows of every block that do not lie before one, newest
// block first.
func (q *query) eachSince(of *arms, since uint64, do func(b uint32, rows set) error) error {
	newest, ok := q.newestBlock()
	if !ok {
		return nil
	}
	first := q.block(since)
	return of.each(newest, func(b uint32, rows set) (bool, error) {
		if b < first {
			return false, nil
		}
		if b == first {
			rows = rows.span(int(q.store.ord(since)), 1<<q.store.shift)
		}
		return b > first, do(b, rows)
	})
}
