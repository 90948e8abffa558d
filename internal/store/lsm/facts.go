package lsm

import (
	"bytes"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// What a version is found by, its entries, is kept in one of two ways:
//
//	loose    09 rid    of the newest rows, and of rows whose entries changed
//	sheet    0a last   of a run of rows
//
// A loose row comes before what a sheet says of the row. One of the single byte
// noFacts says that the row has no entries any more: it was purged.
// sealer.go makes sheets of loose rows.

// noFacts is the loose row of a row that a sheet has, and that was purged.
const noFacts = 0

// appendFacts writes a loose row. Entries stand in the order of Param, then
// Value:
//
//	self:16  { params between:uvarint  length:uvarint  value } …
func appendFacts(dst []byte, self plan.Hash, entries []plan.Entry) []byte {
	dst = append(dst, self[:]...)
	last := plan.Param(0)
	for _, e := range entries {
		dst = binary.AppendUvarint(dst, uint64(e.Param-last))
		dst = binary.AppendUvarint(dst, uint64(len(e.Value)))
		dst = append(dst, e.Value...)
		last = e.Param
	}
	return dst
}

// facts reads a loose row in place: it is valid as long as the row.
type facts []byte

func (f facts) self() (plan.Hash, error) {
	if len(f) < hashSize {
		return plan.Hash{}, corrupt("a row of facts is too short")
	}
	return plan.Hash(f[:hashSize]), nil
}

// none reports whether the row says that there are no facts.
func (f facts) none() bool { return len(f) == 1 && f[0] == noFacts }

// each calls do for every entry, in order, until it returns false.
func (f facts) each(do func(param plan.Param, value []byte) bool) error {
	if len(f) < hashSize {
		return corrupt("a row of facts is too short")
	}
	in, param := fields{b: f[hashSize:]}, uint64(0)
	for len(in.b) > 0 {
		param += in.uvarint()
		n := in.uvarint()
		value := in.take(int(min(n, uint64(len(in.b)+1))))
		if in.bad || param > 1<<32-1 {
			return corrupt("a row of facts has a wrong form")
		}
		if !do(plan.Param(param), value) {
			return nil
		}
	}
	return nil
}

// factRow is the entries of one row, wherever they are kept.
type factRow struct {
	loose facts // nil: they are in the sheet
	sheet sheetRow
}

// each calls do for the entries that wanted asks for (nil: all), in order, until
// it returns false. A value that is not whole is the beginning of one.
func (f *factRow) each(wanted func(plan.Param) bool, do func(param plan.Param, value []byte, whole bool) bool) error {
	if f.loose == nil {
		return f.sheet.each(wanted, do)
	}
	return f.loose.each(func(param plan.Param, value []byte) bool {
		return wanted != nil && !wanted(param) || do(param, value, true)
	})
}

// factReader finds the facts of rows.
type factReader struct {
	loose  *rows
	sheets *pebble.Iterator
	sheet  sheet // where sheets stands
	here   bool  // sheet is read

	row   uint64 // of found
	room  factRow
	found *factRow // nil: it has none
	known bool
}

// facts reads what a version is found by; nil for deletions. It is valid until
// it is asked for another.
func (q *query) facts(rid uint64) (*factRow, error) {
	if err := q.look(1); err != nil {
		return nil, err
	}
	return q.factsOf(rid)
}

// factsOf is facts for a row that was counted before.
func (q *query) factsOf(rid uint64) (*factRow, error) {
	f := &q.factReader
	if f.known && f.row == rid {
		return f.found, nil
	}
	found, err := q.readFacts(rid)
	f.row, f.found, f.known = rid, found, err == nil
	return found, err
}

func (q *query) readFacts(rid uint64) (*factRow, error) {
	f := &q.factReader
	raw, err := q.looseFacts(rid)
	switch {
	case err != nil:
		return nil, err
	case raw.none():
		return nil, nil
	case raw != nil:
		f.room.loose = raw
		return &f.room, nil
	}
	in, err := q.sheetOf(rid)
	if err != nil || in == nil || !in.has(rid) {
		return nil, err
	}
	f.room.loose, f.room.sheet.sheet = nil, in
	f.room.sheet.shape, f.room.sheet.refs, err = in.row(rid)
	return &f.room, err
}

// looseFacts reads a loose row; nil: there is none.
func (q *query) looseFacts(rid uint64) (facts, error) {
	if rid < q.loose {
		return nil, nil
	}
	f := &q.factReader
	if f.loose == nil {
		it, err := q.iter([]byte{spaceFacts}, []byte{spaceFacts + 1})
		if err != nil {
			return nil, err
		}
		f.loose = &rows{space: spaceFacts, it: it}
	}
	return f.loose.get(rid)
}

// sheetOf finds the sheet with a row; nil: there is none.
func (q *query) sheetOf(rid uint64) (*sheet, error) {
	f := &q.factReader
	if f.here && f.sheet.first <= rid && rid <= f.sheet.last {
		return &f.sheet, nil
	}
	if f.sheets == nil {
		it, err := q.iter([]byte{spaceSheet}, []byte{spaceSheet + 1})
		if err != nil {
			return nil, err
		}
		f.sheets = it
	}
	f.here = false
	if !f.sheets.SeekGE(sheetKey(rid)) {
		return nil, f.sheets.Error()
	}
	s, err := readSheet(f.sheets)
	if err != nil || s.first > rid {
		return nil, err
	}
	f.sheet, f.here = s, true
	return &f.sheet, nil
}

// readSheet reads the sheet that an iterator stands on.
func readSheet(it *pebble.Iterator) (sheet, error) {
	last, err := keyRID(it.Key())
	if err != nil {
		return sheet{}, err
	}
	raw, err := it.ValueAndErr()
	if err != nil {
		return sheet{}, err
	}
	return parseSheet(last, raw)
}

// resolve calls do with every value of a param that begins as known and whose
// container has the row. Of what a sheet cut there is exactly one.
func (q *query) resolve(rid uint64, param plan.Param, known []byte, do func(value []byte)) error {
	if q.resolver == nil {
		it, err := q.iter([]byte{spaceIndex}, []byte{spaceIndex + 1})
		if err != nil {
			return err
		}
		q.resolver = it
	}
	prefix := appendEscaped(paramPrefix(nil, param), known)
	var value []byte
	for ok := q.resolver.SeekGE(prefix); ok && bytes.HasPrefix(q.resolver.Key(), prefix); ok = q.resolver.Next() {
		if err := q.look(1); err != nil {
			return err
		}
		key := q.resolver.Key()
		if len(key) != split(key)+blockSize || keyBlock(key) != q.block(rid) {
			continue
		}
		container, err := q.resolver.ValueAndErr()
		if err != nil {
			return err
		}
		if has, err := containerHas(container, q.store.ord(rid)); err != nil || !has {
			continue // a container in a wrong form has no rows; check tells of it
		}
		if value, err = unescape(value[:0], key[1+paramSize:split(key)-1]); err != nil {
			return err
		}
		do(value)
	}
	return q.resolver.Error()
}

// eachWhole calls do for the entries of a row that wanted asks for, whole.
func (q *query) eachWhole(rid uint64, f *factRow, wanted func(plan.Param) bool, do func(param plan.Param, value []byte)) error {
	var failed error
	err := f.each(wanted, func(param plan.Param, value []byte, whole bool) bool {
		if whole {
			do(param, value)
			return true
		}
		failed = q.resolve(rid, param, value, func(value []byte) { do(param, value) })
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// entries gives the entries of a row, whole and in memory of its own.
func (q *query) entries(rid uint64) (all []plan.Entry, err error) {
	f, err := q.facts(rid)
	if err != nil || f == nil {
		return nil, err
	}
	err = q.eachWhole(rid, f, nil, func(param plan.Param, value []byte) {
		all = append(all, plan.Entry{Param: param, Value: bytes.Clone(value)})
	})
	return all, err
}
