package lsm

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"
	"sync"
)

// A container is a set of rows of one block, each as its ord: the row number's
// low bits. On disk it has one of three forms; the first byte says which, and
// leaves room for others (runs).
//
//	00 ord:2 …              little-endian, ascending, 1 to 4096 of them
//	01 count-1:2 word:8 …   little-endian, 1024 words: bit o&63 of word o>>6
//	02 count step …         uvarints; the first step is the first ord, others the
//	                        distance to the ord before, less one; 1 to 4096
const (
	formArray  = 0x00
	formBitmap = 0x01
	formSteps  = 0x02

	// stepsFrom is from how many ords on an array is written in steps, where that
	// is shorter: a few ords are not worth it.
	stepsFrom = 8

	// maxArray is where a bitmap becomes the smaller form.
	maxArray = 4096

	words      = 1024 // 64-bit words of a bitmap
	bitmapSize = 1 + 2 + words*8
)

type bitmap [words]uint64

// countContainer gives the size of an encoded container, without reading it.
func countContainer(c []byte) (int, error) {
	switch {
	case len(c) == 0:
		return 0, nil
	case c[0] == formArray && len(c)%2 == 1:
		return len(c) / 2, nil
	case c[0] == formBitmap && len(c) == bitmapSize:
		return int(binary.LittleEndian.Uint16(c[1:])) + 1, nil
	case c[0] == formSteps:
		if n, size := binary.Uvarint(c[1:]); size > 0 && 0 < n && n <= maxArray && n < uint64(len(c)) {
			return int(n), nil
		}
	}
	return 0, badContainer()
}

func badContainer() error { return corrupt("a container has a wrong form") }

// readOrds decodes the n ords of a container that is no bitmap into room.
func readOrds(room []uint16, c []byte, n int) ([]uint16, error) {
	ords := slices.Grow(room[:0], n)[:n]
	if c[0] == formArray {
		for i := range ords {
			ords[i] = binary.LittleEndian.Uint16(c[1+2*i:])
		}
		return ords, nil
	}
	at, next := 2, uint(0)
	if n >= 1<<7 {
		at = 3
	}
	for i := range ords {
		if at >= len(c) {
			return nil, badContainer()
		}
		step := uint(c[at])
		if at++; step >= 1<<7 {
			rest, size := binary.Uvarint(c[at:])
			if size <= 0 || rest > 1<<16 {
				return nil, badContainer()
			}
			at, step = at+size, step&(1<<7-1)|uint(rest)<<7
		}
		if next += step; next > 1<<16-1 {
			return nil, badContainer()
		}
		ords[i] = uint16(next)
		next++
	}
	if at != len(c) {
		return nil, badContainer()
	}
	return ords, nil
}

// appendArray encodes ascending ords, at most maxArray.
func appendArray(dst []byte, ords []uint16) []byte {
	if len(ords) >= stepsFrom {
		if steps, ok := appendSteps(dst, ords); ok {
			return steps
		}
	}
	dst = append(slices.Grow(dst, 1+2*len(ords)), formArray)
	for _, o := range ords {
		dst = binary.LittleEndian.AppendUint16(dst, o)
	}
	return dst
}

// appendSteps encodes ascending ords in steps, if that is shorter than an array.
func appendSteps(dst []byte, ords []uint16) ([]byte, bool) {
	most := len(dst) + 1 + 2*len(ords)
	dst = append(slices.Grow(dst, 2*len(ords)), formSteps)
	dst = binary.AppendUvarint(dst, uint64(len(ords)))
	next := uint16(0)
	for _, o := range ords {
		dst = binary.AppendUvarint(dst, uint64(o-next))
		next = o + 1
	}
	return dst, len(dst) < most
}

// appendBitmap encodes a bitmap of n > 0 ords.
func appendBitmap(dst []byte, b *bitmap, n int) []byte {
	dst = append(slices.Grow(dst, bitmapSize), formBitmap)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(n-1))
	for _, w := range b {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	return dst
}

// appendOrds encodes ascending ords.
func appendOrds(dst []byte, ords []uint16) []byte { //nolint:unparam // appends like its neighbours
	if len(ords) <= maxArray {
		return appendArray(dst, ords)
	}
	var b bitmap
	for _, o := range ords {
		b[o>>6] |= 1 << (o & 63)
	}
	return appendBitmap(dst, &b, len(ords))
}

// set is a set of ords in memory. The zero set is empty. Methods that narrow
// work in place: a set has one owner.
type set struct {
	ords []uint16 // ascending; not used when bits is set
	bits *bitmap
	n    int
}

func (s set) empty() bool { return s.n == 0 }

// bytes is about what it takes in memory.
func (s *set) bytes() int64 {
	if s.bits != nil {
		return words*8 + setBytes
	}
	return 2*int64(cap(s.ords)) + setBytes
}

// setBytes is what a set and its place in a list take, beside its ords.
const setBytes = 48

// copy makes s hold what t does, using its room.
func (s *set) copy(t *set) {
	s.n = t.n
	if t.bits == nil {
		s.bits, s.ords = nil, append(s.ords[:0], t.ords[:t.n]...)
		return
	}
	if s.bits == nil {
		s.bits = new(bitmap)
	}
	*s.bits = *t.bits
}

// load decodes a container into s, using its room.
func (s *set) load(c []byte) error {
	n, err := countContainer(c)
	if err != nil || n == 0 {
		s.n, s.ords, s.bits = 0, s.ords[:0], nil
		return err
	}
	s.n = n
	if c[0] != formBitmap {
		s.bits = nil
		if s.ords, err = readOrds(s.ords, c, n); err != nil {
			s.n = 0
		}
		return err
	}
	if s.bits == nil {
		s.bits = new(bitmap)
	}
	for i := range s.bits {
		s.bits[i] = binary.LittleEndian.Uint64(c[3+8*i:])
	}
	return nil
}

func (s set) clone() set {
	if s.bits != nil {
		copied := *s.bits
		s.bits = &copied
		return s
	}
	s.ords = slices.Clone(s.ords[:s.n])
	return s
}

// has reports whether o is in s.
func (s set) has(o uint16) bool {
	if s.bits != nil {
		return s.bits[o>>6]>>(o&63)&1 == 1
	}
	_, found := slices.BinarySearch(s.ords[:s.n], o)
	return found
}

// filter keeps the ords for which ok holds, or does not hold when out is set.
func (s set) filter(ok func(o uint16) bool, out bool) set {
	if s.bits != nil {
		s = s.toArray()
	}
	kept := s.ords[:0]
	for _, o := range s.ords[:s.n] {
		if ok(o) != out {
			kept = append(kept, o)
		}
	}
	return set{ords: kept, n: len(kept)}
}

func (s set) toArray() set {
	ords := make([]uint16, 0, s.n)
	for i, w := range s.bits {
		for ; w != 0; w &= w - 1 {
			ords = append(ords, uint16(i<<6|bits.TrailingZeros64(w)))
		}
	}
	return set{ords: ords, n: len(ords)}
}

// all lists the ords, ascending, in memory of its own or of s.
func (s set) all() []uint16 {
	if s.bits != nil {
		return s.toArray().ords
	}
	return s.ords[:s.n]
}

// backward lists the ords from the largest down.
func (s set) backward() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		if s.bits == nil {
			for i := s.n - 1; i >= 0; i-- {
				if !yield(s.ords[i]) {
					return
				}
			}
			return
		}
		for i := words - 1; i >= 0; i-- {
			for w := s.bits[i]; w != 0; {
				high := bits.Len64(w) - 1
				w &^= 1 << high
				if !yield(uint16(i<<6 | high)) {
					return
				}
			}
		}
	}
}

// narrow keeps what is in the encoded container c, or what is not (out).
func (s set) narrow(c []byte, out bool) (set, error) {
	n, err := countContainer(c)
	switch {
	case err != nil:
		return set{}, err
	case n == 0 && out:
		return s, nil
	case n == 0:
		return set{}, nil
	case s.n == 0:
		return s, nil
	case c[0] == formBitmap && s.bits != nil:
		return s.narrowWords(c[3:], out), nil
	case c[0] == formBitmap:
		return s.filter(func(o uint16) bool { return c[3+int(o>>3)]>>(o&7)&1 == 1 }, out), nil
	case c[0] == formArray && s.bits == nil:
		return s.narrowSorted(func(i int) uint16 { return binary.LittleEndian.Uint16(c[1+2*i:]) }, n, out), nil
	}
	room := ordRooms.Get().(*[]uint16)
	defer ordRooms.Put(room)
	if *room, err = readOrds(*room, c, n); err != nil {
		return set{}, err
	}
	if s.bits != nil {
		return s.narrowByOrds(*room, out), nil
	}
	return s.narrowSorted(func(i int) uint16 { return (*room)[i] }, n, out), nil
}

// ordRooms holds room to decode containers in.
var ordRooms = sync.Pool{New: func() any { return new([]uint16) }}

func (s set) narrowWords(c []byte, out bool) set {
	n := 0
	for i := range s.bits {
		w := binary.LittleEndian.Uint64(c[8*i:])
		if out {
			w = ^w
		}
		s.bits[i] &= w
		n += bits.OnesCount64(s.bits[i])
	}
	s.n = n
	return s
}

// narrowByOrds narrows a bitmap by ascending ords.
func (s set) narrowByOrds(ords []uint16, out bool) set {
	if out {
		for _, o := range ords {
			s.n -= int(s.bits[o>>6] >> (o & 63) & 1)
			s.bits[o>>6] &^= 1 << (o & 63)
		}
		return s
	}
	kept := make([]uint16, 0, min(len(ords), s.n))
	for _, o := range ords {
		if s.has(o) {
			kept = append(kept, o)
		}
	}
	return set{ords: kept, n: len(kept)}
}

// gallopFactor is how much longer one side must be for a search by doubling
// steps to beat walking both.
const gallopFactor = 16

// narrowSorted narrows an array by n ascending ords.
func (s set) narrowSorted(at func(i int) uint16, n int, out bool) set {
	kept, j := s.ords[:0], 0
	for _, o := range s.ords[:s.n] {
		if n > gallopFactor*s.n {
			j = gallop(at, j, n, o)
		}
		for j < n && at(j) < o {
			j++
		}
		if (j < n && at(j) == o) != out {
			kept = append(kept, o)
		}
	}
	return set{ords: kept, n: len(kept)}
}

// gallop gives a place from j on before which every ord is smaller than o, near
// the first that is not.
func gallop(at func(int) uint16, j, n int, o uint16) int {
	step := 1
	for j+step < n && at(j+step) < o {
		j += step
		step *= 2
	}
	for ; step > 1; step /= 2 {
		if j+step/2 < n && at(j+step/2) < o {
			j += step / 2
		}
	}
	return j
}

// narrowSet is narrow for a set.
func (s set) narrowSet(t set, out bool) set {
	switch {
	case t.n == 0 && out:
		return s
	case t.n == 0:
		return set{}
	}
	if s.bits != nil && t.bits != nil {
		n := 0
		for i, w := range t.bits {
			if out {
				w = ^w
			}
			s.bits[i] &= w
			n += bits.OnesCount64(s.bits[i])
		}
		s.n = n
		return s
	}
	switch {
	case s.bits == nil && t.bits == nil:
		return s.narrowSorted(func(i int) uint16 { return t.ords[i] }, t.n, out)
	case s.bits == nil:
		return s.narrowByBits(t.bits, out)
	default:
		return s.narrowByOrds(t.ords[:t.n], out)
	}
}

// narrowByBits narrows an array by a bitmap.
func (s set) narrowByBits(b *bitmap, out bool) set {
	n, want := 0, uint64(1)
	if out {
		want = 0
	}
	for _, o := range s.ords[:s.n] {
		s.ords[n] = o
		if b[o>>6]>>(o&63)&1 == want {
			n++
		}
	}
	return set{ords: s.ords[:n], n: n}
}

// held is a container as it lies in the database, or as it is kept.
type held struct {
	raw []byte
	set *set // nil: raw counts
}

func (h held) count() (int, error) {
	if h.set != nil {
		return h.set.n, nil
	}
	return countContainer(h.raw)
}

func (h held) has(o uint16) (bool, error) {
	if h.set != nil {
		return h.set.has(o), nil
	}
	return containerHas(h.raw, o)
}

// load makes s hold the container, using its room.
func (h held) load(s *set) error {
	if h.set != nil {
		s.copy(h.set)
		return nil
	}
	return s.load(h.raw)
}

// narrow is set.narrow by the container.
func (h held) narrow(in set, out bool) (set, error) {
	if h.set != nil {
		return in.narrowSet(*h.set, out), nil
	}
	return in.narrow(h.raw, out)
}

// span keeps the ords from low to high, high excluded.
func (s set) span(low, high int) set {
	if s.bits == nil {
		from, _ := slices.BinarySearchFunc(s.ords[:s.n], low, func(o uint16, at int) int { return int(o) - at })
		to, _ := slices.BinarySearchFunc(s.ords[:s.n], high, func(o uint16, at int) int { return int(o) - at })
		return set{ords: s.ords[from:max(from, to)], n: max(0, to-from)}
	}
	s.n = 0
	for i := range s.bits {
		s.bits[i] &= wordSpan(i<<6, low, high)
		s.n += bits.OnesCount64(s.bits[i])
	}
	return s
}

// wordSpan is a word that begins at bit base, with the bits from low to high.
func wordSpan(base, low, high int) uint64 {
	w := ^uint64(0)
	if low > base {
		w <<= min(low-base, 64)
	}
	if high < base+64 {
		w &= 1<<max(high-base, 0) - 1
	}
	return w
}

// gather builds a set from pieces in any order: rows of an index range, or the
// operands of a merge.
type gather struct {
	ords    []uint16
	bits    *bitmap
	jumbled bool // ords are not strictly ascending
}

func (g *gather) add(o uint16) {
	if g.bits != nil {
		g.bits[o>>6] |= 1 << (o & 63)
		return
	}
	g.jumbled = g.jumbled || len(g.ords) > 0 && g.ords[len(g.ords)-1] >= o
	g.ords = append(g.ords, o)
	if len(g.ords) > maxArray {
		g.toBits()
	}
}

func (g *gather) toBits() {
	if g.bits == nil {
		g.bits = new(bitmap)
	}
	for _, o := range g.ords {
		g.bits[o>>6] |= 1 << (o & 63)
	}
	g.ords, g.jumbled = g.ords[:0], false
}

// merge adds an encoded container.
func (g *gather) merge(c []byte) error {
	n, err := countContainer(c)
	if err != nil || n == 0 {
		return err
	}
	if n == 1 && c[0] == formArray { // most are
		g.add(binary.LittleEndian.Uint16(c[1:]))
		return nil
	}
	if c[0] != formBitmap {
		room := ordRooms.Get().(*[]uint16)
		defer ordRooms.Put(room)
		if *room, err = readOrds(*room, c, n); err == nil {
			g.mergeOrds(*room)
		}
		return err
	}
	g.toBits()
	for i := range g.bits {
		g.bits[i] |= binary.LittleEndian.Uint64(c[3+8*i:])
	}
	return nil
}

// mergeOrds adds ascending ords, one at least.
func (g *gather) mergeOrds(ords []uint16) {
	if g.bits == nil && len(g.ords)+len(ords) > maxArray {
		g.toBits()
	}
	if g.bits != nil {
		for _, o := range ords {
			g.bits[o>>6] |= 1 << (o & 63)
		}
		return
	}
	g.jumbled = g.jumbled || len(g.ords) > 0 && g.ords[len(g.ords)-1] >= ords[0]
	g.ords = append(g.ords, ords...)
}

// size is how many ords were gathered, those added twice counted twice or once.
func (g *gather) size() int {
	if g.bits != nil {
		return maxArray
	}
	return len(g.ords)
}

func (g *gather) union(s set) {
	if s.bits == nil {
		for _, o := range s.ords[:s.n] {
			g.add(o)
		}
		return
	}
	g.toBits()
	for i, w := range s.bits {
		g.bits[i] |= w
	}
}

// set gives what was gathered; the gather must not be used any more.
func (g *gather) set() set {
	if g.bits != nil {
		n := 0
		for _, w := range g.bits {
			n += bits.OnesCount64(w)
		}
		return set{bits: g.bits, n: n}
	}
	switch {
	case g.jumbled && len(g.ords) > sortOrds:
		g.toBits()
		sorted := set{bits: g.bits, n: maxArray}.toArray()
		g.bits, g.ords = nil, sorted.ords
	case g.jumbled:
		slices.Sort(g.ords)
		g.ords, g.jumbled = slices.Compact(g.ords), false
	}
	return set{ords: g.ords, n: len(g.ords)}
}

// sortOrds is from how many ords on a bitmap sorts faster than comparing does.
const sortOrds = 128

// encode gives the container of what was gathered.
func (g *gather) encode() []byte {
	s := g.set()
	switch {
	case s.n == 0:
		return nil
	case s.n <= maxArray:
		return appendArray(nil, s.all())
	case s.bits == nil:
		return appendOrds(nil, s.ords)
	default:
		return appendBitmap(nil, s.bits, s.n)
	}
}
