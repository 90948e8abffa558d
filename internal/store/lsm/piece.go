package lsm

import (
	"encoding/binary"
	"slices"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// piece is what was added to a part of an import since its last commit, made
// ready as far as it can be without row numbers.
//
//	changes          one a put, in order; their prefixes are nil
//	keys[k]          an index key without its block; numbers holds k by key
//	refs             the k of every entry, put after put
//	ends[i]          where the refs of put i end
//
// Entries repeat much more often than not, so each key is kept once; what a put
// adds is a number.
type piece struct {
	changes []change
	keys    []string
	numbers map[string]uint32
	refs    []uint32
	ends    []uint32
	bytes   int // of bodies and facts

	// What order finds.
	selves []selfRow // the puts, by resource
	sorted []uint32  // the numbers of the keys, in the order of the keys
	from   []uint32  // the puts that have key k are rows[from[k]:from[k+1]], ascending
	rows   []uint32

	arena   arena
	scratch []byte // of a body being packed, or of a key
}

func newPiece() *piece { return &piece{numbers: map[string]uint32{}} }

// add makes a put ready. It keeps nothing of op but strings.
func (p *piece) add(s *Store, op *store.Op) {
	entries := store.InOrder(op.Entries)
	c := change{kind: op.Kind, key: op.Key, self: s.hash.Self(op.Key), tag: op.Tag}
	var packed []byte
	packed, c.codec, c.dict = s.bodies.packInto(&p.scratch, op.Key.Type, op.Body)
	c.packed = p.arena.keep(packed)
	p.scratch = appendFacts(p.scratch[:0], c.self, entries)
	c.facts = p.arena.keep(p.scratch)
	for _, e := range entries {
		p.refs = append(p.refs, p.number(e))
	}
	p.ends = append(p.ends, uint32(len(p.refs)))
	p.changes = append(p.changes, c)
	p.bytes += len(c.packed) + len(c.facts)
}

// number gives the number of an entry's key.
func (p *piece) number(e plan.Entry) uint32 {
	p.scratch = append(appendEscaped(paramPrefix(p.scratch[:0], e.Param), e.Value), terminator)
	if n, known := p.numbers[string(p.scratch)]; known {
		return n
	}
	n := uint32(len(p.keys))
	key := string(p.scratch)
	p.keys, p.numbers[key] = append(p.keys, key), n
	return n
}

// order sorts what tables will be written in the order of, once everything was
// added.
func (p *piece) order() {
	p.selves = make([]selfRow, len(p.changes))
	for i := range p.changes {
		p.selves[i] = selfRow{p.changes[i].self, i}
	}
	slices.SortFunc(p.selves, func(x, y selfRow) int {
		if c := compareHashes(x.self, y.self); c != 0 {
			return c
		}
		return x.row - y.row
	})
	p.sorted = p.sortedKeys()
	p.from, p.rows = p.rowsByKey()
}

// withPrefixes gives the changes as a commit through the log takes them.
func (p *piece) withPrefixes() []change {
	begin := uint32(0)
	for i, end := range p.ends {
		prefixes := make([]string, 0, end-begin)
		for _, k := range p.refs[begin:end] {
			prefixes = append(prefixes, p.keys[k])
		}
		p.changes[i].prefixes, begin = prefixes, end
	}
	return p.changes
}

// sortedKeys lists the numbers of the keys in the order of the keys.
func (p *piece) sortedKeys() []uint32 {
	type item struct {
		head uint64 // the key's bytes behind the param, so that most comparisons need no more
		n    uint32
	}
	byParam := map[plan.Param][]item{}
	for n, key := range p.keys {
		param := plan.Param(binary.BigEndian.Uint32([]byte(key[1:])))
		byParam[param] = append(byParam[param], item{keyHead(key), uint32(n)})
	}
	params := make([]plan.Param, 0, len(byParam))
	for param := range byParam {
		params = append(params, param)
	}
	slices.Sort(params)
	sorted := make([]uint32, 0, len(p.keys))
	for _, param := range params {
		slices.SortFunc(byParam[param], func(a, b item) int {
			switch {
			case a.head < b.head:
				return -1
			case a.head > b.head:
				return 1
			}
			return compareStrings(p.keys[a.n], p.keys[b.n])
		})
		for _, it := range byParam[param] {
			sorted = append(sorted, it.n)
		}
	}
	return sorted
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// keyHead is the first eight bytes of an index key behind its param, as a number
// that sorts as they do.
func keyHead(key string) uint64 {
	var head [8]byte
	copy(head[:], key[1+paramSize:])
	return binary.BigEndian.Uint64(head[:])
}

// rowsByKey lists the puts that have each key.
func (p *piece) rowsByKey() (from, rows []uint32) {
	from = make([]uint32, len(p.keys)+1)
	for _, k := range p.refs {
		from[k+1]++
	}
	for k := range p.keys {
		from[k+1] += from[k]
	}
	rows, next, begin := make([]uint32, len(p.refs)), slices.Clone(from), uint32(0)
	for i, end := range p.ends {
		for _, k := range p.refs[begin:end] {
			rows[next[k]] = uint32(i)
			next[k]++
		}
		begin = end
	}
	return from, rows
}

// arena keeps many small slices in few large ones, which cost the garbage
// collector nothing.
type arena struct{ room []byte }

// arenaPiece is the size of the large slices, in bytes.
const arenaPiece = 1 << 20

// keep copies b.
func (a *arena) keep(b []byte) []byte {
	if len(b) > len(a.room) {
		if len(b) > arenaPiece/4 {
			return slices.Clone(b)
		}
		a.room = make([]byte, arenaPiece)
	}
	n := copy(a.room, b)
	kept := a.room[:n:n]
	a.room = a.room[n:]
	return kept
}
