package lsm

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

func key(t testing.TB, b byte) seal.DataKey {
	t.Helper()
	k, err := seal.DataKeyFrom(bytes.Repeat([]byte{b}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func someHeaders() []header {
	return []header{
		{key: plan.Key{Type: 1, ID: "a"}, version: 1, commit: 1, updated: 1, created: 1},
		{key: plan.Key{Type: 0xffff, ID: "0123abcd-0123-4567-89ab-0123456789ab"}, version: 1 << 60, commit: 1 << 50, end: 9, updated: 253402300799999, created: -5, tag: 255, codec: codecS2},
		{key: plan.Key{Type: 2, ID: "0123ABCD-0123-4567-89ab-0123456789ab"}, version: 2, deleted: true, commit: 7, updated: 10, created: 3},
		{key: plan.Key{Type: 2, ID: strings.Repeat("x", 64)}, version: 3, codec: codecDict, dict: 300, commit: 7, updated: 10, created: 3},
		{key: plan.Key{Type: 3, ID: "p"}, purge: true, commit: 8, updated: 11, created: 11},
	}
}

func TestHeaderReadsBack(t *testing.T) {
	for _, h := range someHeaders() {
		row := append(h.append(nil), "rest"...)
		got, rest, err := parseHeader(row)
		if err != nil || !reflect.DeepEqual(got, h) || string(rest) != "rest" {
			t.Errorf("%+v reads back as %+v, %q, %v", h, got, rest, err)
		}
		for n := range len(row) - len("rest") {
			if _, _, err := parseHeader(row[:n]); err == nil {
				t.Errorf("%d of %d bytes of %+v are read", n, len(row)-4, h)
			}
		}
	}
}

// Ids that share a page's memory stay what they are when others come behind, more
// than there was room for.
func TestHeadersOfAPageReadBack(t *testing.T) {
	for _, room := range []int{0, 1, 100} {
		page := newPageRoom(room)
		var got []header
		for _, h := range slices.Repeat(someHeaders(), 3) {
			h, _, err := parseHeaderIn(page, h.append(nil))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, h)
		}
		if want := slices.Repeat(someHeaders(), 3); !slices.Equal(got, want) {
			t.Errorf("with room for %d they read back as %+v", room, got)
		}
	}
}

// The forms are persisted: these bytes may never change.
func TestRowsAreFrozen(t *testing.T) {
	h := header{key: plan.Key{Type: 300, ID: "p1"}, version: 2, commit: 5, end: 1, updated: 1000, created: 990, tag: 7, codec: codecS2}
	if got, want := hex.EncodeToString(h.append(nil)), "03000107ac02020501d00f14027031"; got != want {
		t.Errorf("header %s, want %s", got, want)
	}
	h = header{key: plan.Key{Type: 1, ID: "00112233-4455-6677-8899-aabbccddeeff"}, version: 1, commit: 1, deleted: true}
	if got, want := hex.EncodeToString(h.append(nil)), "0301000001010100"+"0000"+"0000112233445566778899aabbccddeeff"; got != want {
		t.Errorf("header %s, want %s", got, want)
	}
	p := pointer{rid: 0x010203, version: 300, updated: 1000, created: 990, deleted: true, found: true}
	if got, want := hex.EncodeToString(p.append(nil)), "00000001020301ac02d00f14"; got != want {
		t.Errorf("pointer %s, want %s", got, want)
	}
	f := appendFacts(nil, plan.Hash{1}, []plan.Entry{{Param: 300}, {Param: 300, Value: []byte("a")}, {Param: 301, Value: []byte("bc")}})
	if got, want := hex.EncodeToString(f), "01000000000000000000000000000000"+"ac0200"+"000161"+"01026263"; got != want {
		t.Errorf("facts %s, want %s", got, want)
	}
	b := newBodies(key(t, 1), nil)
	row := b.row(&header{key: plan.Key{Type: 1, ID: "a"}, version: 1, commit: 1, end: 7}, []byte("body"))
	if got, want := hex.EncodeToString(row), "0300000001010107000001"+"61"+"626f6479"+"dbdcf079346e452e"; got != want {
		t.Errorf("row %s, want %s", got, want)
	}
	// What formats 1 and 2 wrote.
	row, err := hex.DecodeString("0100000001010100000001" + "61" + "626f6479" + "4b6f4346f33098a01fca0f696dae3063")
	if err != nil {
		t.Fatal(err)
	}
	if h, packed, err := b.open(row); err != nil || h.key.ID != "a" || h.purge || h.endAt(5) != 6 || string(packed) != "body" {
		t.Errorf("a row of before: %+v, %q, %v", h, packed, err)
	}
	if _, _, err := b.open(row[:len(row)-seal.MACSize+seal.ShortMACSize]); err == nil {
		t.Error("a row of before verifies by half of its MAC")
	}
	if h, _, err := parseHeader([]byte("\x02\x00\x00\x00\x01\x01\x01\x02\x00\x00\x01a")); err != nil || !h.purge || h.endAt(5) != 8 {
		t.Errorf("a purge of before: %+v, %v", h, err)
	}
}

func TestPointerReadsBack(t *testing.T) {
	for _, p := range []pointer{
		{rid: 1, version: 1, updated: 5, created: 5, found: true},
		{rid: maxRID, version: 1 << 63, updated: 253402300799999, created: -1, deleted: true, found: true},
	} {
		row := p.append(nil)
		if got, err := parsePointer(row); err != nil || got != p {
			t.Errorf("%+v reads back as %+v, %v", p, got, err)
		}
		for n := range row {
			if _, err := parsePointer(row[:n]); err == nil {
				t.Errorf("%d bytes of a pointer are read", n)
			}
		}
	}
}

// fixedDict gives one dictionary to every type.
type fixedDict struct{ dict []byte }

func (d fixedDict) For(plan.Type) uint64 { return 300 }
func (d fixedDict) Bytes(n uint64) []byte {
	if n == 300 {
		return d.dict
	}
	return nil
}

func TestBodiesReadBack(t *testing.T) {
	text := strings.Repeat(`{"resourceType":"Observation","status":"final"}`, 4)
	dict := s2.MakeDict([]byte(strings.Repeat(text, 3)), nil).Bytes()
	for _, c := range []struct {
		dicts Dictionaries
		body  string
		want  codec
	}{
		{nil, "", codecRaw}, {nil, "short", codecRaw}, {nil, text, codecS2},
		{fixedDict{dict}, "short", codecRaw}, {fixedDict{dict}, text, codecDict}, {fixedDict{nil}, text, codecS2},
		{nil, text + someUUID, codecFolded}, {fixedDict{dict}, text + someUUID, codecFoldedDict}, {nil, strings.Repeat("x", 300) + someUUID, codecFolded},
		{nil, someUUID + " with few others", codecFolded},
	} {
		b := newBodies(key(t, 1), c.dicts)
		packed, how, dict := b.pack(1, []byte(c.body))
		if how != c.want || how != codecRaw && len(packed) >= len(c.body) {
			t.Errorf("%q is kept as codec %d in %d bytes", c.body, how, len(packed))
		}
		var room pageRoom
		for _, page := range []*pageRoom{nil, &room, &room} {
			if got, err := b.unpack(page, packed, how, dict); err != nil || string(got) != c.body || cap(got) > len(got) && page != nil && how.folded() {
				t.Errorf("%q reads back as %q, in room of %d, %v", c.body, got, cap(got), err)
			}
		}
	}
	b := newBodies(key(t, 1), fixedDict{dict})
	packed, how, number := b.pack(1, []byte(text))
	if _, err := newBodies(key(t, 1), nil).unpack(nil, packed, how, number); !fault.Is(err, fault.Internal) {
		t.Errorf("without the dictionary: %v", err)
	}
}

// A row that was changed, or moved to another resource or version, is refused.
func TestRowVerifies(t *testing.T) {
	b := newBodies(key(t, 1), nil)
	h := header{key: plan.Key{Type: 1, ID: "a"}, version: 1, commit: 1}
	row := b.row(&h, []byte("body"))
	if got, packed, err := b.open(row); err != nil || got != h || string(packed) != "body" {
		t.Fatalf("%+v %q %v", got, packed, err)
	}
	for i := range row {
		changed := bytes.Clone(row)
		changed[i] ^= 1
		if _, _, err := b.open(changed); err == nil {
			t.Errorf("a change of byte %d is not noticed", i)
		}
		if _, _, err := b.open(row[:i]); err == nil {
			t.Errorf("the first %d bytes are taken for the row", i)
		}
	}
	if _, _, err := newBodies(key(t, 2), nil).open(row); err == nil {
		t.Error("a row of another key verifies")
	}
}

func FuzzRow(f *testing.F) {
	for _, h := range someHeaders() {
		f.Add(h.append(nil))
	}
	p := pointer{rid: 1, version: 1}
	f.Add(p.append(nil))
	f.Add(appendFacts(nil, plan.Hash{}, []plan.Entry{{Param: 1, Value: []byte("v")}}))
	f.Fuzz(func(t *testing.T, row []byte) {
		if h, rest, err := parseHeader(row); err == nil {
			again, _, err := parseHeader(append(h.append(nil), rest...))
			if h.first = false; err != nil || again != h {
				t.Fatalf("%+v reads back as %+v, %v", h, again, err)
			}
		}
		if p, err := parsePointer(row); err == nil {
			if again, err := parsePointer(p.append(nil)); err != nil || again != p {
				t.Fatalf("%+v reads back as %+v, %v", p, again, err)
			}
		}
		n := 0
		_ = facts(row).each(func(plan.Param, []byte) bool { n++; return true })
		if n > len(row) {
			t.Fatalf("%d entries in %d bytes", n, len(row))
		}
		if _, err := parseToken(row, sorted, 2); err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
	})
}
