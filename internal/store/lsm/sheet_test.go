package lsm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// sheetOfRows encodes rows of entries as the sealer does; nil: no facts.
func sheetOfRows(w sheetWriter, rows [][]plan.Entry) (*rowsOfSheet, []byte) {
	b := sheetBuilder{numbers: map[string]uint32{}}
	for _, entries := range rows {
		if entries == nil {
			b.ends = append(b.ends, -1)
			continue
		}
		b.addEntries(entries)
	}
	in := b.rows()
	return in, w.encode(in)
}

// randomEntries makes entries of every shape: hashes, times, text with long
// beginnings that are alike, what many rows share, long and empty ones.
func randomEntries(rng *rand.Rand) (entries []plan.Entry) {
	add := func(param plan.Param, value []byte) {
		entries = append(entries, plan.Entry{Param: param, Value: value})
	}
	for range rng.IntN(3) {
		add(1, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, rng.Uint64()), rng.Uint64()))
	}
	add(2, binary.BigEndian.AppendUint64(nil, 1<<63|rng.Uint64N(1<<40)))
	add(3, fmt.Appendf(nil, "the same beginning of all of them, %d, and an end %d", rng.IntN(500), rng.IntN(2)))
	add(4, []byte{byte(rng.IntN(3))})
	if rng.IntN(2) == 0 {
		add(5, nil)
	}
	for range rng.IntN(2) {
		add(1<<31, append(bytes.Repeat([]byte{7}, 100+rng.IntN(300)), byte(rng.IntN(256)), byte(rng.IntN(256))))
	}
	return store.InOrder(entries)
}

// Whatever goes into a sheet comes out of it: whole, or cut to what no other
// value of its param begins with.
func TestSheetGivesBackEntries(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for _, w := range []sheetWriter{{cutFrom: 1 << 30}, {cutFrom: 1, cutSpare: 1}, {cutFrom: 8, cutSpare: 8}} {
		for _, n := range []int{1, 15, 16, 17, 300, 1024} {
			rows := make([][]plan.Entry, n)
			for i := range rows {
				switch rng.IntN(8) {
				case 0: // no facts
				case 1:
					rows[i] = []plan.Entry{} // facts, and no entries
				default:
					rows[i] = randomEntries(rng)
				}
			}
			in, raw := sheetOfRows(w, rows)
			cut := wantRows(t, raw, rows, in.keys)
			if w.cutFrom == 1<<30 && cut > 0 || w.cutFrom < 1<<30 && n > 100 && cut == 0 {
				t.Errorf("%+v of %d rows: %d values are cut", w, n, cut)
			}
		}
	}
}

// wantRows reads all rows of a sheet, and counts the cut values.
func wantRows(t *testing.T, raw []byte, rows [][]plan.Entry, keys []plan.Entry) (cut int) {
	t.Helper()
	const first = 1000
	s, err := parseSheet(first+uint64(len(rows))-1, raw)
	if err != nil || s.first != first {
		t.Fatalf("first %d, %v", s.first, err)
	}
	for i, want := range rows {
		rid := uint64(first + i)
		if s.has(rid) != (want != nil) {
			t.Fatalf("row %d: has %t, want %t", i, s.has(rid), want != nil)
		}
		if want == nil {
			continue
		}
		row := sheetRow{sheet: &s}
		if row.shape, row.refs, err = s.row(rid); err != nil {
			t.Fatal(err)
		}
		n := 0
		err := row.each(nil, func(param plan.Param, value []byte, whole bool) bool {
			if n >= len(want) || param != want[n].Param || !sameEntry(value, whole, want[n].Value) {
				t.Fatalf("row %d: entry %d is %d %x (whole %t)", i, n, param, value, whole)
			}
			if !whole {
				cut++
				if like := slices.DeleteFunc(slices.Clone(keys), func(e plan.Entry) bool {
					return e.Param != param || !bytes.HasPrefix(e.Value, value)
				}); len(like) != 1 {
					t.Fatalf("%x stands for %d values", value, len(like))
				}
			}
			n++
			return true
		})
		if err != nil || n != len(want) {
			t.Fatalf("row %d: %d entries of %d, %v", i, n, len(want), err)
		}
		one := 0
		err = row.each(func(p plan.Param) bool { return p == 4 }, func(plan.Param, []byte, bool) bool { one++; return true })
		if wants := len(want) > 0; err != nil || (one == 1) != wants {
			t.Fatalf("row %d: %d entries of one param, %v", i, one, err)
		}
	}
	wantColumns(t, &s, rows)
	return cut
}

// wantColumns reads the rows of a sheet param by param, in any order.
func wantColumns(t *testing.T, s *sheet, rows [][]plan.Entry) {
	t.Helper()
	for _, param := range []plan.Param{1, 2, 3, 4, 5, 6, 1 << 31} {
		c := column{param: param}
		for _, i := range rand.New(rand.NewPCG(5, 6)).Perm(len(rows)) {
			if rows[i] == nil {
				continue
			}
			row := sheetRow{sheet: s}
			var err error
			if row.shape, row.refs, err = s.row(s.first + uint64(i)); err != nil {
				t.Fatal(err)
			}
			want := slices.DeleteFunc(slices.Clone(rows[i]), func(e plan.Entry) bool { return e.Param != param })
			refs, err := c.refs(&row)
			if err != nil || len(refs) != len(want)*c.size {
				t.Fatalf("row %d: %d bytes of refs of param %d, want %d of %d; %v", i, len(refs), param, len(want), c.size, err)
			}
			for j := range want {
				value, whole, err := row.valueAt(c.first + getRef(refs[j*c.size:], c.size))
				if err != nil || !sameEntry(value, whole, want[j].Value) {
					t.Fatalf("row %d: value %d of param %d is %x, %v", i, j, param, value, err)
				}
			}
		}
	}
}

// What a range learned of some values of a sheet holds for the others, whatever
// the order in which rows are asked about.
func TestRangesLearnOfSheets(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	rows := make([][]plan.Entry, 1024)
	for i := range rows {
		rows[i] = randomEntries(rng)
	}
	_, raw := sheetOfRows(sheetWriter{cutFrom: 1 << 30}, rows)
	sheet, err := parseSheet(uint64(len(rows))-1, raw)
	if err != nil {
		t.Fatal(err)
	}
	bound := func(param plan.Param) []byte {
		for {
			entries := rows[rng.IntN(len(rows))]
			if i := slices.IndexFunc(entries, func(e plan.Entry) bool { return e.Param == param }); i >= 0 {
				return entries[i].Value[:rng.IntN(len(entries[i].Value)+1)]
			}
		}
	}
	for range 300 {
		r := plan.Range{Param: []plan.Param{1, 2, 3, 4, 1 << 31}[rng.IntN(5)]}
		r.Low, r.High = bound(r.Param), bound(r.Param)
		if rng.IntN(4) == 0 {
			r.High = nil
		}
		s := &scan{param: r.Param, low: r.Low, high: r.High, column: column{param: r.Param}}
		if rng.IntN(3) == 0 {
			r.Tail = &plan.Tail{At: rng.IntN(9), Low: bound(r.Param)}
			s.holds = r.Holds
		}
		for _, i := range rng.Perm(len(rows)) {
			row := sheetRow{sheet: &sheet}
			if row.shape, row.refs, err = sheet.row(uint64(i)); err != nil {
				t.Fatal(err)
			}
			want := slices.ContainsFunc(rows[i], func(e plan.Entry) bool { return e.Param == r.Param && r.Holds(e.Value) })
			if got, err := s.testSheet(uint64(i), &row); err != nil || got != want {
				t.Fatalf("row %d of %+v: %t, %v", i, r, got, err)
			}
		}
	}
}

// A row may have more entries than a ref of two bytes can tell.
func TestSheetOfOneHugeRow(t *testing.T) {
	var entries []plan.Entry
	for i := range 1<<16 + 5 {
		entries = append(entries, plan.Entry{Param: 3, Value: binary.BigEndian.AppendUint32(nil, uint32(i))})
	}
	rows := [][]plan.Entry{append([]plan.Entry{}, entries...)}
	in, raw := sheetOfRows(usualTuning.sheets(), rows)
	s, err := parseSheet(0, raw)
	if err != nil {
		t.Fatal(err)
	}
	row := sheetRow{sheet: &s}
	if row.shape, row.refs, err = s.row(0); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = row.each(nil, func(_ plan.Param, value []byte, whole bool) bool {
		if !sameEntry(value, whole, in.keys[n].Value) {
			t.Fatalf("entry %d is %x", n, value)
		}
		n++
		return true
	})
	if err != nil || n != len(entries) {
		t.Errorf("%d entries, %v", n, err)
	}
}

// The form is persisted: these bytes may never change.
func TestSheetsAreFrozen(t *testing.T) {
	_, raw := sheetOfRows(sheetWriter{cutFrom: 2, cutSpare: 1}, [][]plan.Entry{
		{{Param: 7, Value: []byte("anne of the long name")}, {Param: 9, Value: []byte{1}}},
		nil,
		{{Param: 7, Value: []byte("anna of the long name")}, {Param: 9, Value: []byte{1}}},
	})
	const want = "01" + "0300" + "0100" + "02000000" + "02000000" + "03000000" + "04000000" + // counts
		"0700000000000000" + "0900000002000000" + // params
		"0000ffff0000" + "00000000" + "0000000002000000" + // rows, marks, shapes
		"0000000001000000" + "0100000001000000" + // fields
		"00000000" + "000300" + "868301" + "01000000" + // restarts, shared, sizes, refs
		"616e6e61206f" + "65206f" + "01"
	if got := hex.EncodeToString(raw); got != want {
		t.Errorf("a sheet is\n%s, want\n%s", got, want)
	}
}

func FuzzSheet(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	var rows [][]plan.Entry
	for range 20 {
		rows = append(rows, randomEntries(rng))
	}
	_, raw := sheetOfRows(sheetWriter{cutFrom: 1, cutSpare: 1}, rows)
	f.Add(raw, uint64(19))
	f.Add([]byte{1, 1, 0}, uint64(0))
	f.Fuzz(func(t *testing.T, raw []byte, last uint64) {
		s, err := parseSheet(last, raw)
		if err != nil {
			return
		}
		first := column{param: 1}
		for rid := s.first; rid <= s.last && rid-s.first < 2000; rid++ {
			if !s.has(rid) {
				continue
			}
			row := sheetRow{sheet: &s}
			if row.shape, row.refs, err = s.row(rid); err == nil {
				_ = row.each(nil, func(plan.Param, []byte, bool) bool { return true })
				refs, err := first.refs(&row)
				for ; err == nil && len(refs) > 0; refs = refs[first.size:] {
					_, _, _ = row.valueAt(first.first + getRef(refs, first.size))
				}
			}
		}
	})
}
