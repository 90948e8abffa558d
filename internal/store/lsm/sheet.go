package lsm

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// A sheet is the facts of a run of rows, turned so that what they share is
// written once: a value of keyspace 0a, under the number of its last row. It is
// read in place.
//
//	form:1 rows:2 shapes:2 params:4 fields:4 values:4 refs:4
//	params    { param:4  first:4 }        ascending; its values are those from first on
//	rows      { shape:2 }                 noShape: there are no facts of this row
//	marks     { at:4 }                    where the refs of each 16th row begin
//	shapes    { field:4  size:4 }         its first field, and what refs of it take
//	fields    { param's index:4  count:4 }
//	restarts  { at:4 }                    where each 32nd value begins
//	shared    { bytes:1 }                 of each value, that it begins with like the one before
//	sizes     { cut:1 bit  rest:7 bits }  of each value; longSize: its length follows in values
//	refs      { value - first of param:1, 2 or 4 } …   as many bytes as the param needs
//	values    { rest } …
//
// Numbers of fixed size are little-endian. Values of one param ascend, and share
// their beginning with the one before. A value that few rows have and that can
// be told from the others of the sheet by its first bytes is cut behind them: it
// is the only one of its param that begins so and whose container has the row.
// See resolve.
const (
	sheetForm   = 1
	sheetHeader = 1 + 2*2 + 4*4
	noShape     = 0xffff
	markEvery   = 16 // rows a mark
	restart     = 32 // values a restart

	maxShared = 255
	longSize  = 127 // rest is longer than fits, and stands behind its length, a uvarint
	cutBit    = 128

	paramEntry = 4 + 4
	shapeEntry = 4 + 4
	fieldEntry = 4 + 4
)

// maxSheetEntries bounds the entries of a sheet of more than one row.
const maxSheetEntries = 48 << 10

// sheet is the value of a sheet, with where its parts begin.
type sheet struct {
	first, last uint64 // rows
	params      []byte
	rows        []byte
	marks       []byte
	shapes      []byte
	fields      []byte
	restarts    []byte
	shared      []byte
	sizes       []byte
	refs        []byte
	values      []byte
	count       int // of values
}

func badSheet() error { return corrupt("a sheet of facts has a wrong form") }

// parseSheet reads a sheet in place: it is valid as long as raw.
func parseSheet(last uint64, raw []byte) (s sheet, err error) {
	f := fields{b: raw}
	head := f.take(sheetHeader)
	if head == nil || head[0] != sheetForm {
		return sheet{}, badSheet()
	}
	u16 := func(at int) int { return int(binary.LittleEndian.Uint16(head[at:])) }
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(head[at:])) }
	rows, shapes := u16(1), u16(3)
	params, fieldCount, values, refs := u32(5), u32(9), u32(13), u32(17)
	if rows == 0 || uint64(rows) > last+1 {
		return sheet{}, badSheet()
	}
	s = sheet{first: last + 1 - uint64(rows), last: last, count: values}
	s.params = f.take(paramEntry * params)
	s.rows = f.take(2 * rows)
	s.marks = f.take(4 * upTo(rows, markEvery))
	s.shapes = f.take(shapeEntry * shapes)
	s.fields = f.take(fieldEntry * fieldCount)
	s.restarts = f.take(4 * upTo(values, restart))
	s.shared, s.sizes = f.take(values), f.take(values)
	s.refs = f.take(refs)
	s.values = f.b
	if f.bad {
		return sheet{}, badSheet()
	}
	return s, nil
}

// upTo is how many pieces of a size n things make.
func upTo(n, size int) int { return (n + size - 1) / size }

func at16(b []byte, i int) int {
	if i < 0 || 2*i+2 > len(b) {
		return -1
	}
	return int(binary.LittleEndian.Uint16(b[2*i:]))
}

func at32(b []byte, i int) int {
	if i < 0 || 4*i+4 > len(b) {
		return -1
	}
	return int(binary.LittleEndian.Uint32(b[4*i:]))
}

// has reports whether the sheet says what a row is found by.
func (s *sheet) has(rid uint64) bool {
	return s.first <= rid && rid <= s.last && at16(s.rows, int(rid-s.first)) != noShape
}

// span is the values of a param, by its index: from first, end excluded.
func (s *sheet) span(param int) (first, end int) {
	first, end = at32(s.params, 2*param+1), s.count
	if next := at32(s.params, 2*param+3); next >= 0 {
		end = next
	}
	return first, end
}

// refSize is how many bytes a ref takes to one of n values.
func refSize(n int) int {
	switch {
	case n <= 1<<8:
		return 1
	case n <= 1<<16:
		return 2
	default:
		return 4
	}
}

// row gives the shape of a row and its refs.
func (s *sheet) row(rid uint64) (shape int, refs []byte, err error) {
	place := int(rid - s.first)
	shape = at16(s.rows, place)
	begin := at32(s.marks, place/markEvery)
	for i := place - place%markEvery; i < place; i++ {
		if before := at16(s.rows, i); before != noShape {
			begin += at32(s.shapes, 2*before+1)
		}
	}
	size := at32(s.shapes, 2*shape+1)
	if begin < 0 || size < 0 || begin > len(s.refs)-size {
		return 0, nil, badSheet()
	}
	return shape, s.refs[begin : begin+size], nil
}

// sheetRow reads the entries of one row of a sheet.
type sheetRow struct {
	*sheet
	shape int
	refs  []byte
	value []byte // the last one read
}

// field is the refs of one param in rows of one shape.
type field struct {
	index int // of the param
	first int // value that refs count from
	count int
	size  int // bytes of a ref
}

func (f *field) bytes() int { return f.count * f.size }

// field reads a field by its number; its refs must fit in room bytes.
func (s *sheet) field(number, room int) (field, error) {
	f := field{index: at32(s.fields, 2*number), count: at32(s.fields, 2*number+1)}
	if f.index < 0 || f.count <= 0 || paramEntry*(f.index+1) > len(s.params) {
		return field{}, badSheet()
	}
	first, end := s.span(f.index)
	f.first, f.size = first, refSize(end-first)
	if f.bytes() > room {
		return field{}, badSheet()
	}
	return f, nil
}

// each calls do for the entries of the row that wanted asks for (nil: all), in
// order, until it returns false. A value is valid until the next one; one that
// is not whole is the beginning of one.
func (r *sheetRow) each(wanted func(plan.Param) bool, do func(param plan.Param, value []byte, whole bool) bool) error {
	number, refs := at32(r.shapes, 2*r.shape), r.refs
	for ; len(refs) > 0; number++ {
		f, err := r.field(number, len(refs))
		if err != nil {
			return err
		}
		param := plan.Param(binary.LittleEndian.Uint32(r.params[paramEntry*f.index:]))
		if wanted == nil || wanted(param) {
			for i := range f.count {
				value, whole, err := r.valueAt(f.first + getRef(refs[i*f.size:], f.size))
				if err != nil {
					return err
				}
				if !do(param, value, whole) {
					return nil
				}
			}
		}
		refs = refs[f.bytes():]
	}
	return nil
}

func getRef(b []byte, size int) int {
	switch size {
	case 1:
		return int(b[0])
	case 2:
		return int(binary.LittleEndian.Uint16(b))
	default:
		return int(binary.LittleEndian.Uint32(b))
	}
}

// valueAt reads a value by its number.
func (r *sheetRow) valueAt(n int) (value []byte, whole bool, err error) {
	if n < 0 || n >= r.count {
		return nil, false, badSheet()
	}
	at, first := at32(r.restarts, n/restart), n-n%restart
	parts := r.partsOf(first, n)
	r.value = r.value[:0]
	for i := first; i <= n; i++ {
		size := int(r.sizes[i] &^ cutBit)
		if size == longSize && at >= 0 && at <= len(r.values) {
			long, read := binary.Uvarint(r.values[at:])
			at, size = at+max(read, 0), int(min(long, uint64(len(r.values))+1))
		}
		if at < 0 || size > len(r.values)-at {
			return nil, false, badSheet()
		}
		if parts>>(i-first)&1 == 1 {
			shared := int(r.shared[i])
			if shared > len(r.value) {
				return nil, false, badSheet()
			}
			r.value = append(r.value[:shared], r.values[at:at+size]...)
		}
		at += size
	}
	return r.value, r.sizes[n]&cutBit == 0, nil
}

// partsOf tells of which values from first to n the rests make up value n: a bit
// for each, the lowest for first. Others are stepped over.
func (s *sheet) partsOf(first, n int) (parts uint32) {
	parts = 1 << (n - first)
	need := s.shared[n]
	for i := n - 1; i >= first && need > 0; i-- {
		if s.shared[i] < need {
			parts |= 1 << (i - first)
			need = s.shared[i]
		}
	}
	return parts
}

// sheetWriter makes sheets. Keys are what entries are: a param and a value.
type sheetWriter struct {
	cutFrom  int // distinct values of a param from which on they may be cut
	cutSpare int // bytes that a cut must save
}

// rowsOfSheet is what a sheet is made of.
type rowsOfSheet struct {
	keys []plan.Entry // distinct, ascending
	refs []uint32     // of all rows, one row after the other, ascending: numbers of keys
	ends []int        // of each row in refs; -1: the row has no facts
}

// encode writes the sheet of rows.
func (w sheetWriter) encode(in *rowsOfSheet) []byte { return new(sheetEncoder).encode(w, in) }

// encode writes the sheet of rows; the encoder may be used again.
func (e *sheetEncoder) encode(w sheetWriter, in *rowsOfSheet) []byte {
	e.begin(in)
	e.findParams()
	e.addRows()
	e.addValues(w)
	parts := [...][]byte{e.rows, e.marks, e.shapeTable, e.fields, e.restarts, e.shared, e.sizes, e.refs, e.values}
	size := sheetHeader + paramEntry*len(e.params)
	for _, part := range parts {
		size += len(part)
	}
	le := binary.LittleEndian
	dst := append(make([]byte, 0, size), sheetForm)
	dst = le.AppendUint16(dst, uint16(len(in.ends)))
	dst = le.AppendUint16(dst, uint16(len(e.shapes)))
	dst = le.AppendUint32(dst, uint32(len(e.params)))
	dst = le.AppendUint32(dst, uint32(len(e.fields)/fieldEntry))
	dst = le.AppendUint32(dst, uint32(len(in.keys)))
	dst = le.AppendUint32(dst, uint32(len(e.refs)))
	for _, p := range e.params {
		dst = le.AppendUint32(dst, uint32(p.param))
		dst = le.AppendUint32(dst, uint32(p.first))
	}
	for _, part := range parts {
		dst = append(dst, part...)
	}
	return dst
}

type sheetEncoder struct {
	in     *rowsOfSheet
	params []sheetParam
	of     []int // key → index of its param

	rows, marks, shapeTable, fields, refs []byte
	restarts, shared, sizes, values       []byte
	shapes                                map[string]int
}

// sheetParam is a param of a sheet: keys from first, end excluded.
type sheetParam struct {
	param      plan.Param
	first, end int
	uses       int // by rows
}

// begin makes the encoder ready for a sheet, in the memory of the one before.
func (e *sheetEncoder) begin(in *rowsOfSheet) {
	e.in, e.params = in, e.params[:0]
	if e.shapes == nil {
		e.shapes = map[string]int{}
	}
	clear(e.shapes)
	for _, part := range [...]*[]byte{&e.rows, &e.marks, &e.shapeTable, &e.fields, &e.restarts, &e.shared, &e.sizes, &e.refs, &e.values} {
		*part = (*part)[:0]
	}
}

func (e *sheetEncoder) findParams() {
	e.of = slices.Grow(e.of[:0], len(e.in.keys))[:len(e.in.keys)]
	for k, key := range e.in.keys {
		if k == 0 || e.in.keys[k-1].Param != key.Param {
			e.params = append(e.params, sheetParam{param: key.Param, first: k})
		}
		e.params[len(e.params)-1].end = k + 1
		e.of[k] = len(e.params) - 1
	}
	for _, k := range e.in.refs {
		e.params[e.of[k]].uses++
	}
}

func (e *sheetEncoder) addRows() {
	begin := 0
	for i, end := range e.in.ends {
		if i%markEvery == 0 {
			e.marks = binary.LittleEndian.AppendUint32(e.marks, uint32(len(e.refs)))
		}
		shape := noShape
		if end >= 0 {
			shape, begin = e.addRow(e.in.refs[begin:end]), end
		}
		e.rows = binary.LittleEndian.AppendUint16(e.rows, uint16(shape))
	}
}

// addRow writes the refs of a row, and gives the number of its shape.
func (e *sheetEncoder) addRow(keys []uint32) int {
	var room [256]byte
	shape, size := room[:0], 0
	for i := 0; i < len(keys); {
		index := e.of[keys[i]]
		p := &e.params[index]
		width, begin := refSize(p.end-p.first), i
		for i < len(keys) && e.of[keys[i]] == index {
			e.refs = appendRef(e.refs, int(keys[i])-p.first, width)
			i++
		}
		size += width * (i - begin)
		shape = binary.LittleEndian.AppendUint32(shape, uint32(index))
		shape = binary.LittleEndian.AppendUint32(shape, uint32(i-begin))
	}
	number, known := e.shapes[string(shape)]
	if !known {
		number = len(e.shapes)
		e.shapes[string(shape)] = number
		e.shapeTable = binary.LittleEndian.AppendUint32(e.shapeTable, uint32(len(e.fields)/fieldEntry))
		e.shapeTable = binary.LittleEndian.AppendUint32(e.shapeTable, uint32(size))
		e.fields = append(e.fields, shape...)
	}
	return number
}

func appendRef(dst []byte, ref, width int) []byte {
	switch width {
	case 1:
		return append(dst, byte(ref))
	case 2:
		return binary.LittleEndian.AppendUint16(dst, uint16(ref))
	default:
		return binary.LittleEndian.AppendUint32(dst, uint32(ref))
	}
}

func (e *sheetEncoder) addValues(w sheetWriter) {
	for i := range e.params {
		p := &e.params[i]
		keys := e.in.keys[p.first:p.end]
		cuts := w.cuts(keys, p.uses)
		for j, key := range keys {
			n, shared, size := p.first+j, 0, len(key.Value)
			if n%restart == 0 {
				e.restarts = binary.LittleEndian.AppendUint32(e.restarts, uint32(len(e.values)))
			} else if j > 0 {
				shared = min(maxShared, sharedBytes(keys[j-1].Value, key.Value))
			}
			if cuts != nil {
				size = cuts[j]
			}
			e.addValue(key.Value[:size], shared, size < len(key.Value))
		}
	}
}

func (e *sheetEncoder) addValue(value []byte, shared int, cut bool) {
	rest := len(value) - shared
	size := byte(min(rest, longSize))
	if size == longSize {
		e.values = binary.AppendUvarint(e.values, uint64(rest))
	}
	if cut {
		size |= cutBit
	}
	e.shared, e.sizes = append(e.shared, byte(shared)), append(e.sizes, size)
	e.values = append(e.values, value[shared:]...)
}

const (
	// cutRoom is how many bytes are kept behind the first that tells a value from
	// the others of its sheet, so that in the whole store few begin like it.
	cutRoom = 3
	// cutUses: values that rows share are not cut, as reading them costs more.
	cutUses = 2
	// longValue is from how many bytes on values are cut, whatever they are like.
	// Shorter ones are cut when they look like hashes: two next to each other do
	// not share more than hashShared bytes on average. Times and numbers do, and
	// they are what answers are sorted by.
	longValue  = 17
	hashShared = 2
)

// cuts says how much of each value of a param is kept; nil: all of it. uses is
// how many rows have them.
func (w sheetWriter) cuts(keys []plan.Entry, uses int) []int {
	if len(keys) < w.cutFrom || uses >= cutUses*len(keys) {
		return nil
	}
	cuts, shared, before := make([]int, len(keys)), 0, 0
	for i, key := range keys {
		after := 0
		if i+1 < len(keys) {
			after = sharedBytes(key.Value, keys[i+1].Value)
			shared += after
		}
		cuts[i] = max(before, after) + cutRoom
		before = after
	}
	hashes := shared <= hashShared*(len(keys)-1)
	for i, key := range keys {
		if len(key.Value)-cuts[i] < w.cutSpare || len(key.Value) < longValue && !hashes {
			cuts[i] = len(key.Value)
		}
	}
	return cuts
}

// sharedBytes is how many bytes two values begin with alike.
func sharedBytes(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// sheetKey is the key of the sheet that ends with a row.
func sheetKey(last uint64) []byte { return rowKey(spaceSheet, last) }

// sameEntry reports whether an entry of a sheet may be an entry.
func sameEntry(known []byte, whole bool, value []byte) bool {
	if whole {
		return bytes.Equal(known, value)
	}
	return bytes.HasPrefix(value, known)
}
