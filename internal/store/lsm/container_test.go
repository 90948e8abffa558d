package lsm

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// model is a set as plainly as can be.
type model map[uint16]bool

func (m model) sorted() []uint16 { return slices.Sorted(maps.Keys(m)) }

// randomModel has about density of 65,536 ords, in clumps.
func randomModel(rng *rand.Rand, size int) model {
	m := model{}
	for len(m) < size {
		at := rng.IntN(1 << 16)
		for i := range min(1+rng.IntN(200), size-len(m)) {
			m[uint16(at+i)] = true
		}
	}
	return m
}

func (m model) container() []byte {
	if len(m) == 0 {
		return nil
	}
	return appendOrds(nil, m.sorted())
}

func (m model) set(t *testing.T) set {
	t.Helper()
	var s set
	if err := s.load(m.container()); err != nil {
		t.Fatal(err)
	}
	return s
}

func wantSet(t *testing.T, what string, got set, want []uint16) {
	t.Helper()
	if got.n != len(want) || !slices.Equal(got.all(), want) {
		t.Fatalf("%s: %d ords, want %d", what, got.n, len(want))
	}
	for _, o := range want[:min(len(want), 50)] {
		if !got.has(o) {
			t.Fatalf("%s: %d is listed and not there", what, o)
		}
	}
}

// Every operation on sets and containers against the model, over arrays, bitmaps
// and their border.
func TestSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	sizes := []int{0, 1, 70, 4096, 4097, 20000}
	for _, na := range sizes {
		for _, nb := range sizes {
			a, b := randomModel(rng, na), randomModel(rng, nb)
			and, out, or := model{}, model{}, maps.Clone(b)
			for o := range a {
				or[o] = true
				if b[o] {
					and[o] = true
				} else {
					out[o] = true
				}
			}
			for _, c := range []struct {
				what string
				out  bool
				want model
			}{{"and", false, and}, {"without", true, out}} {
				got, err := a.set(t).narrow(b.container(), c.out)
				if err != nil {
					t.Fatal(err)
				}
				wantSet(t, c.what, got, c.want.sorted())
				wantSet(t, c.what+" set", a.set(t).narrowSet(b.set(t), c.out), c.want.sorted())
			}
			var g gather
			g.union(b.set(t))
			if err := g.merge(a.container()); err != nil {
				t.Fatal(err)
			}
			if got := g.encode(); !bytes.Equal(got, or.container()) {
				t.Fatalf("%d or %d encodes to %d bytes, want %d", na, nb, len(got), len(or.container()))
			}
			if n, err := countContainer(a.container()); err != nil || n != len(a) {
				t.Fatalf("count %d, %v", n, err)
			}
		}
	}
}

func TestSetSpan(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 5, 4000, 30000} {
		m := randomModel(rng, n)
		for range 50 {
			low, high := rng.IntN(1<<16+1), rng.IntN(1<<16+1)
			var want []uint16
			for _, o := range m.sorted() {
				if int(o) >= low && int(o) < high {
					want = append(want, o)
				}
			}
			wantSet(t, "span", m.set(t).span(low, high), want)
		}
	}
}

// The forms are persisted: these bytes may never change.
func TestContainersAreFrozen(t *testing.T) {
	if got, want := appendOrds(nil, []uint16{1, 0x0203}), []byte{0, 1, 0, 3, 2}; !bytes.Equal(got, want) {
		t.Errorf("array %x, want %x", got, want)
	}
	steps := []uint16{1, 2, 3, 200, 201, 0x0203, 0x0204, 0xffff}
	if got, want := appendOrds(nil, steps), []byte{2, 8, 1, 0, 0, 0xc4, 1, 0, 0xb9, 2, 0, 0xfa, 0xfb, 3}; !bytes.Equal(got, want) {
		t.Errorf("steps %x, want %x", got, want)
	}
	all := make([]uint16, 4097)
	for i := range all {
		all[i] = uint16(i)
	}
	got := appendOrds(nil, all)
	want := append([]byte{1, 0x00, 0x10}, bytes.Repeat([]byte{0xff}, 512)...)
	want = append(append(want, 1), make([]byte, 8192-513)...)
	if !bytes.Equal(got, want) {
		t.Errorf("bitmap has %d bytes and begins %x", len(got), got[:8])
	}
}

// Pebble may hand a key's operands over in any grouping and from either end.
func TestMergeInAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 30 {
		whole := randomModel(rng, 1+rng.IntN(6000))
		ords := whole.sorted()
		rng.Shuffle(len(ords), func(i, j int) { ords[i], ords[j] = ords[j], ords[i] })
		var operands [][]byte
		for len(ords) > 0 {
			n := min(len(ords), 1+rng.IntN(1000))
			piece := slices.Clone(ords[:n])
			slices.Sort(piece)
			operands, ords = append(operands, appendOrds(nil, piece)), ords[n:]
		}
		var m pebble.ValueMerger
		for i, operand := range operands {
			var err error
			switch {
			case i == 0:
				m, err = merger().Merge(nil, operand)
			case rng.IntN(2) == 0:
				err = m.MergeNewer(operand)
			default:
				err = m.MergeOlder(operand)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		got, _, err := m.Finish(true)
		if err != nil || !bytes.Equal(got, whole.container()) {
			t.Fatalf("merged to %d bytes, want %d (%v)", len(got), len(whole.container()), err)
		}
	}
}

func FuzzContainer(f *testing.F) {
	f.Add([]byte{}, []byte{0, 1, 0})
	f.Add(appendOrds(nil, make([]uint16, 1)), make([]byte, bitmapSize))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var s, whole set
		if s.load(a) != nil || whole.load(a) != nil {
			return
		}
		if new(set).load(b) != nil {
			return
		}
		if got, err := s.narrow(b, false); err != nil || got.n < 0 || got.n > whole.n && a[0] == formArray {
			t.Fatalf("narrowed %d to %d, %v", whole.n, got.n, err)
		}
		var g gather
		if err := g.merge(a); err != nil {
			t.Fatal(err)
		}
		if err := g.merge(b); err != nil {
			t.Fatal(err)
		}
		g.encode()
	})
}
