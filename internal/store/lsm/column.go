package lsm

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// column finds the values of one param in rows of sheets. What is the same for
// all rows of a sheet, or for all of one shape, is found once: to look at a row
// costs little more than to read its refs.
type column struct {
	param plan.Param

	known   bool
	sheet   uint64 // last row of the sheet that the rest is of
	index   int    // of param there; -1: no row of it has the param
	first   int    // its first value
	size    int    // bytes of a ref
	places  []refPlace
	learned learned

	kept keptAt
}

// refPlace is where the refs of a param stand among those of a row of one shape.
type refPlace struct {
	known      bool
	begin, end int
}

func columnsOf(params []plan.Param) []column {
	all := make([]column, len(params))
	for i, param := range params {
		all[i].param = param
	}
	return all
}

// refs gives the refs of a row to values of the param, each of size bytes and
// counted from first.
func (c *column) refs(r *sheetRow) ([]byte, error) {
	if !c.known || c.sheet != r.last {
		c.turn(r.sheet)
	}
	if c.index < 0 {
		return nil, nil
	}
	at := &c.places[r.shape] // there is one: the row's refs were found by its shape
	if !at.known {
		begin, end, err := c.locate(r)
		if err != nil {
			return nil, err
		}
		*at = refPlace{true, begin, end}
	}
	return r.refs[at.begin:at.end], nil
}

// turn makes the column ready for rows of a sheet.
func (c *column) turn(s *sheet) {
	c.known, c.sheet, c.index = true, s.last, s.indexOf(c.param)
	if c.index < 0 {
		return
	}
	first, end := s.span(c.index)
	c.first, c.size, c.learned = first, refSize(end-first), nothingLearned
	shapes := len(s.shapes) / shapeEntry
	c.places = slices.Grow(c.places[:0], shapes)[:shapes]
	clear(c.places)
}

// locate finds where the refs of the param stand in rows that are like r.
func (c *column) locate(r *sheetRow) (begin, end int, err error) {
	number := at32(r.shapes, 2*r.shape)
	for at := 0; at < len(r.refs); number++ {
		f, err := r.field(number, len(r.refs)-at)
		switch {
		case err != nil:
			return 0, 0, err
		case f.index == c.index:
			return at, at + f.bytes(), nil
		}
		at += f.bytes()
	}
	return 0, 0, nil
}

// indexOf finds a param among those of a sheet; -1: it is not there.
func (s *sheet) indexOf(param plan.Param) int {
	low, high := 0, len(s.params)/paramEntry
	for low < high {
		middle := (low + high) / 2
		switch at := plan.Param(binary.LittleEndian.Uint32(s.params[paramEntry*middle:])); {
		case at == param:
			return middle
		case at < param:
			low = middle + 1
		default:
			high = middle
		}
	}
	return -1
}

// eachOfAll calls do for the values that a row has of the params of some columns,
// whole. A value is valid until the next one; do must not ask for facts.
func (q *query) eachOfAll(rid uint64, of []column, do func(value []byte)) error {
	for i := range of {
		if err := q.eachOf(rid, &of[i], do); err != nil {
			return err
		}
	}
	return nil
}

func (q *query) eachOf(rid uint64, c *column, do func(value []byte)) error {
	if err := q.look(1); err != nil {
		return err
	}
	kept, err := c.keptOf(q, rid)
	switch {
	case err != nil:
		return err
	case kept != nil:
		q.eachKept(rid, kept, do)
		return nil
	default:
		return q.eachInFacts(rid, c, do)
	}
}

func (q *query) eachKept(rid uint64, kept *keptColumn, do func(value []byte)) {
	var room [1]uint16
	for _, n := range kept.numbers(q.keptOrd(rid), room[:]) {
		do(kept.values.value(n))
	}
}

// eachNew is eachOf for rows of a run, but of values that rows of a kept column
// share, only the first need be given.
func (q *query) eachNew(rows runRows, c *column, do func(value []byte)) error {
	n := rows.before(c.covered(q, rows.run))
	if err := q.look(n); err != nil {
		return err
	}
	if n > 0 && c.kept.column.codes != nil {
		c.kept.eachNew(runRows{rows.run, rows.off, rows.ords[:n]}, do)
	}
	base := rows.run << q.store.tuning.keptShift
	for _, o := range rows.ords[n:] {
		if err := q.eachOf(base+uint64(int(o)+rows.off), c, do); err != nil {
			return err
		}
	}
	return nil
}

// eachNew calls do for the values of rows that were not asked for before.
func (k *keptAt) eachNew(rows runRows, do func(value []byte)) {
	column := k.column
	seen := func(n uint16) {
		if k.isNew(n) {
			do(column.values.value(n))
		}
	}
	last := uint16(keptNone)
	for _, o := range rows.ords {
		switch code := column.codes[int(o)+rows.off]; code {
		case last: // most rows are like the one before
		case keptMany:
			for _, n := range column.severalOf(int(o) + rows.off) {
				seen(n)
			}
		case keptNone:
		default:
			seen(code)
			last = code
		}
	}
}

// keptOrd is where a row stands in its kept column.
func (q *query) keptOrd(rid uint64) int { return int(rid & (1<<q.store.tuning.keptShift - 1)) }

func (q *query) eachInFacts(rid uint64, c *column, do func(value []byte)) error {
	f, err := q.factsOf(rid)
	switch {
	case err != nil || f == nil:
		return err
	case f.loose == nil:
		return q.eachInSheet(rid, &f.sheet, c, do)
	}
	return f.loose.each(func(param plan.Param, value []byte) bool {
		if param == c.param {
			do(value)
		}
		return true
	})
}

func (q *query) eachInSheet(rid uint64, r *sheetRow, c *column, do func(value []byte)) error {
	refs, err := c.refs(r)
	for ; err == nil && len(refs) > 0; refs = refs[c.size:] {
		value, whole, failed := r.valueAt(c.first + getRef(refs, c.size))
		switch {
		case failed != nil:
			err = failed
		case whole:
			do(value)
		default:
			err = q.resolve(rid, c.param, value, do)
		}
	}
	return err
}

// learned is what is known of the values of a sheet that a range was asked
// about, by their numbers. They ascend as values do, so that what is known of two
// holds for all between, and few have to be read.
type learned struct {
	below, above int // up to here, and from here on, they lie outside
	from, to     int // these lie inside; from > to: none is known
}

var nothingLearned = learned{below: -1, above: math.MaxInt, from: math.MaxInt, to: -1}

// recall tells what is known of value n.
func (l *learned) recall(n int) verdict {
	switch {
	case n <= l.below || n >= l.above:
		return no
	case l.from <= n && n <= l.to:
		return yes
	}
	return unsure
}
