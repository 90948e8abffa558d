package lsm

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// someValues are values that keys have had trouble with elsewhere.
func someValues() [][]byte {
	values := [][]byte{nil, {0}, {0, 0}, {1}, {1, 1}, {1, 2}, {2}, {0xff}, {0xff, 0xff}, []byte("ann"), []byte("ann\x00"), []byte("ann\x01"), []byte("anna")}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		v := make([]byte, rng.IntN(6))
		for i := range v {
			v[i] = byte(rng.IntN(4)) * 85 // 0, 85, 170, 255
			if rng.IntN(3) == 0 {
				v[i] = byte(rng.IntN(3)) // 0, 1, 2
			}
		}
		values = append(values, v)
	}
	return values
}

func TestIndexKeysSortAsTheirValues(t *testing.T) {
	values := someValues()
	for _, a := range values {
		for _, b := range values {
			ka, kb := indexPrefix(7, a), indexPrefix(7, b)
			if got, want := bytes.Compare(ka, kb), bytes.Compare(a, b); got != want {
				t.Fatalf("%x and %x compare %d, their keys %d", a, b, want, got)
			}
			old, young := appendBlock(slices.Clone(ka), 0), appendBlock(slices.Clone(kb), 9)
			if bytes.Compare(a, b) < 0 && bytes.Compare(old, young) >= 0 {
				t.Fatalf("a block changed the order of %x and %x", a, b)
			}
		}
	}
	if bytes.Compare(appendBlock(indexPrefix(7, nil), 5), appendBlock(indexPrefix(7, nil), 4)) >= 0 {
		t.Error("the newer block does not come first")
	}
}

func TestIndexKeyReadsBack(t *testing.T) {
	for _, v := range someValues() {
		key := appendBlock(indexPrefix(0x00010203, v), 77)
		param, escaped, block, err := indexKeyParts(key)
		if err != nil || param != 0x00010203 || block != 77 {
			t.Fatalf("%x: %v %v %v", v, param, block, err)
		}
		got, err := unescape(nil, escaped)
		if err != nil || !bytes.Equal(got, v) {
			t.Fatalf("%x reads back as %x, %v", v, got, err)
		}
		lower, upper := indexBounds(0x00010203, v, append(slices.Clone(v), 0))
		if bytes.Compare(key, lower) < 0 || bytes.Compare(key, upper) >= 0 {
			t.Fatalf("%x does not lie in its own bounds", v)
		}
	}
}

// What Pebble asks of Split and ImmediateSuccessor. (pebble.CheckComparer asks
// more: that a key without its first bytes is a key, for tables with a synthetic
// prefix, which nothing here makes.)
func TestComparer(t *testing.T) {
	var prefixes [][]byte
	for _, v := range someValues() {
		prefixes = append(prefixes, indexPrefix(3, v))
	}
	prefixes = append(prefixes, typePrefix(0, kindPut), typePrefix(0, kindDelete), typePrefix(0xffff, 0xff), typePrefix(9, kindPut))
	slices.SortFunc(prefixes, bytes.Compare)
	prefixes = slices.CompactFunc(prefixes, bytes.Equal)
	suffixes := [][]byte{nil, {0, 0, 0, 0}, {0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff}}
	var keys [][]byte // in the order of prefix, then suffix
	for i, p := range prefixes {
		next := nextPrefix(nil, p)
		if split(next) != len(next) || i+1 < len(prefixes) && bytes.Compare(next, prefixes[i+1]) > 0 {
			t.Errorf("%x follows %x, before %x", next, p, prefixes[min(i+1, len(prefixes)-1)])
		}
		for _, s := range suffixes {
			key := slices.Concat(p, s)
			if split(key) != len(p) {
				t.Errorf("%x is cut at %d, not %d", key, split(key), len(p))
			}
			if bytes.Compare(key, next) >= 0 {
				t.Errorf("%x is not before the next prefix %x", key, next)
			}
			keys = append(keys, key)
		}
	}
	if !slices.IsSortedFunc(keys, comparer().Compare) {
		t.Error("keys do not sort by prefix, then suffix")
	}
	whole := [][]byte{
		bodyKey(0), bodyKey(maxRID), pointerKey(plan.Hash{}), historyKey(plan.Hash{1}, 1), deadKey(3),
		successorKey(1), factsKey(1), cursorKey("a", "b"), {spaceIndex}, paramPrefix(nil, 3),
	}
	for _, key := range whole {
		if split(key) != len(key) {
			t.Errorf("%x is cut at %d", key, split(key))
		}
	}
}

// The keys are persisted: these bytes may never change.
func TestKeysAreFrozen(t *testing.T) {
	self := plan.Hash{0xaa, 15: 0xbb}
	for name, c := range map[string]struct{ got, want []byte }{
		"body":      {bodyKey(0x010203040506), []byte{1, 1, 2, 3, 4, 5, 6}},
		"pointer":   {pointerKey(self), append([]byte{2}, self[:]...)},
		"history":   {historyKey(self, 2), append(append([]byte{3}, self[:]...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfd)},
		"index":     {appendBlock(indexPrefix(0x010203, []byte{0, 1, 2}), 1), []byte{4, 0, 1, 2, 3, 1, 1, 1, 2, 2, 0, 0xff, 0xff, 0xff, 0xfe}},
		"dead":      {deadKey(0x01020304), []byte{6, 1, 2, 3, 4}},
		"successor": {successorKey(1), []byte{7, 0, 0, 0, 0, 0, 1}},
		"type":      {appendBlock(typePrefix(0x0102, kindDelete), 0), []byte{8, 1, 2, 1, 0xff, 0xff, 0xff, 0xff}},
		"facts":     {factsKey(2), []byte{9, 0, 0, 0, 0, 0, 2}},
		"cursor":    {cursorKey("im", "pa"), []byte("\x0fIim\x00pa")},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s: %x, want %x", name, c.got, c.want)
		}
	}
	if version, err := historyVersion(historyKey(self, 2)); err != nil || version != 2 {
		t.Errorf("history version %d, %v", version, err)
	}
}

func FuzzKey(f *testing.F) {
	f.Add(appendBlock(indexPrefix(1, []byte("a\x00b\x01")), 3))
	f.Add(appendBlock(typePrefix(1, 0), 3))
	f.Add(bodyKey(1))
	f.Fuzz(func(t *testing.T, key []byte) {
		n := split(key)
		if n > len(key) || split(key[:n]) != n {
			t.Fatalf("split(%x) = %d", key, n)
		}
		if next := nextPrefix(nil, key[:n]); n > 0 && (bytes.Compare(key, next) >= 0 || split(next) != len(next)) {
			t.Fatalf("nextPrefix(%x) = %x", key[:n], next)
		}
		if len(key) == 0 || key[0] != spaceIndex {
			return
		}
		param, escaped, block, err := indexKeyParts(key)
		if err != nil {
			return
		}
		value, err := unescape(nil, escaped)
		if err != nil {
			return
		}
		if again := appendBlock(indexPrefix(param, value), block); !bytes.Equal(again, key) {
			t.Fatalf("%x reads as %x", key, again)
		}
	})
}
