package lsm

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// piece is what was added to a part of an import since its last commit, made
// ready as far as it can be without row numbers.
//
//	changes          one a put, in order; their prefixes are nil
//	keys             index keys without their block, each with a number k
//	refs             the k of every entry, put after put
//	ends[i]          where the refs of put i end
//
// Entries repeat much more often than not, so each key is kept once; what a put
// adds is a number.
type piece struct {
	changes []change
	keys    keyTable
	refs    []uint32
	ends    []uint32
	bytes   int // of bodies and facts

	// What order finds.
	selves []selfRow // the puts, by resource
	sorted []uint32  // the numbers of the keys, in the order of the keys
	from   []uint32  // the puts that have key k are rows[from[k]:from[k+1]], ascending
	rows   []uint32
	sheets []pieceSheet

	arena   arena
	scratch []byte // of a body being packed, or of a key
}

// pieces are empty ones, for the parts of all imports: what a piece takes grows with
// what is put into it, and is there for the next part.
var pieces = sync.Pool{New: func() any { return &piece{keys: newKeyTable()} }}

func newPiece() *piece { return pieces.Get().(*piece) }

// release lets another part have the piece, which nothing refers to any more.
func (p *piece) release() {
	p.reset()
	pieces.Put(p)
}

// reset empties the piece for what comes behind it, and keeps its memory.
func (p *piece) reset() {
	clear(p.changes)
	clear(p.sheets)
	p.changes, p.refs, p.ends, p.bytes = p.changes[:0], p.refs[:0], p.ends[:0], 0
	p.keys.reset()
	p.arena.reset()
}

// add makes a put ready. It keeps nothing of op but strings.
func (p *piece) add(s *Store, op *store.Op) {
	entries := store.InOrder(op.Entries)
	c := change{kind: op.Kind, key: op.Key, self: s.hash.Self(op.Key), tag: op.Tag}
	var packed []byte
	packed, c.codec, c.dict = s.bodies.packInto(&p.scratch, op.Key.Type, op.Body)
	c.packed = p.arena.keep(packed)
	for _, e := range entries {
		p.refs = append(p.refs, p.number(e))
	}
	p.ends = append(p.ends, uint32(len(p.refs)))
	p.changes = append(p.changes, c)
	p.bytes += len(c.packed) + entryBytes*len(entries)
}

// number gives the number of an entry's key.
func (p *piece) number(e plan.Entry) uint32 {
	p.scratch = append(appendEscaped(paramPrefix(p.scratch[:0], e.Param), e.Value), terminator)
	return p.keys.number(p.scratch)
}

// pieceSheet is the sheet of some puts.
type pieceSheet struct {
	end   int // the first put behind them
	value []byte
}

// order sorts what tables will be written in the order of, and writes sheets, once
// everything was added.
func (p *piece) order(t *tuning) error {
	p.selves = slices.Grow(p.selves[:0], len(p.changes))
	for i := range p.changes {
		p.selves = append(p.selves, selfRow{p.changes[i].self, i})
	}
	slices.SortFunc(p.selves, func(x, y selfRow) int {
		if c := compareHashes(x.self, y.self); c != 0 {
			return c
		}
		return x.row - y.row
	})
	p.sorted = p.sortedKeys()
	p.from, p.rows = p.rowsByKey()
	return p.writeSheets(t)
}

func (p *piece) writeSheets(t *tuning) error {
	w, s := t.sheets(), newSheeter(p, t.sheetRows)
	p.sheets = p.sheets[:0]
	var e sheetEncoder
	for {
		end, in, err := s.next()
		if err != nil || end == 0 {
			return err
		}
		p.sheets = append(p.sheets, pieceSheet{end, e.encode(w, in)})
	}
}

// entryBytes is about what an entry takes in memory.
const entryBytes = 24

// withPrefixes gives the changes as a commit through the log takes them.
func (p *piece) withPrefixes() ([]change, error) {
	begin := uint32(0)
	for i, end := range p.ends {
		c := &p.changes[i]
		c.prefixes = make([]string, 0, end-begin)
		entries := make([]plan.Entry, 0, end-begin)
		for _, k := range p.refs[begin:end] {
			c.prefixes = append(c.prefixes, string(p.keys.key(k)))
			e, _, err := p.entry(nil, k)
			if err != nil {
				return nil, err
			}
			entries = append(entries, e)
		}
		c.facts, begin = appendFacts(nil, c.self, entries), end
	}
	return p.changes, nil
}

// entry gives the entry of a key. Its value is appended to room, which is given
// back longer.
func (p *piece) entry(room []byte, k uint32) (plan.Entry, []byte, error) {
	key, begin := p.keys.key(k), len(room)
	room, err := unescape(room, key[1+paramSize:len(key)-1])
	if err != nil {
		return plan.Entry{}, nil, err
	}
	return plan.Entry{Param: keyParam(key), Value: room[begin:len(room):len(room)]}, room, nil
}

// keyParam is the param of an index key.
func keyParam(key []byte) plan.Param { return plan.Param(binary.BigEndian.Uint32(key[1:])) }

func newSheeter(p *piece, most int) *sheeter {
	s := &sheeter{piece: p, most: most, rank: make([]uint32, p.keys.len()), number: make([]uint32, p.keys.len())}
	for rank, k := range p.sorted {
		s.rank[k] = uint32(rank)
	}
	return s
}

// sheeter puts the puts of an ordered piece into sheets, one after the other.
type sheeter struct {
	*piece
	most   int      // rows a sheet
	at     int      // puts that are in sheets
	rank   []uint32 // key → place in sorted
	number []uint32 // rank → 1 + number in the sheet under way, 0: it does not have it
	ranks  []uint32 // of the sheet's keys
	values []byte   // of the sheet's keys
	in     rowsOfSheet
}

// next makes the next sheet, and says which put is the first behind it; 0: there
// is none.
func (s *sheeter) next() (end int, in *rowsOfSheet, err error) {
	begin, first := s.at, s.begin(s.at)
	for s.at < len(s.ends) && s.at-begin < s.most && (s.at == begin || s.ends[s.at]-first <= maxSheetEntries) {
		s.at++
	}
	if s.at == begin {
		return 0, nil, nil
	}
	refs := s.refs[first:s.begin(s.at)]
	s.ranks = s.ranks[:0]
	for _, k := range refs {
		if r := s.rank[k]; s.number[r] == 0 {
			s.number[r] = 1
			s.ranks = append(s.ranks, r)
		}
	}
	slices.Sort(s.ranks)
	s.in.keys, s.in.refs, s.in.ends = s.in.keys[:0], s.in.refs[:0], s.in.ends[:0]
	s.values = s.values[:0]
	for i, r := range s.ranks {
		s.number[r] = uint32(i) + 1
		e, values, err := s.entry(s.values, s.sorted[r])
		if err != nil {
			return 0, nil, err
		}
		s.in.keys, s.values = append(s.in.keys, e), values
	}
	for _, k := range refs { // the entries of each put are in order already
		s.in.refs = append(s.in.refs, s.number[s.rank[k]]-1)
	}
	for _, end := range s.ends[begin:s.at] {
		s.in.ends = append(s.in.ends, int(end-first))
	}
	for _, r := range s.ranks {
		s.number[r] = 0
	}
	return s.at, &s.in, nil
}

// begin is where the refs of a put begin.
func (p *piece) begin(put int) uint32 {
	if put == 0 {
		return 0
	}
	return p.ends[put-1]
}

// sortedKeys lists the numbers of the keys in the order of the keys.
func (p *piece) sortedKeys() []uint32 {
	type item struct {
		head uint64 // the key's bytes behind the param, so that most comparisons need no more
		n    uint32
	}
	byParam := map[plan.Param][]item{}
	for n := range uint32(p.keys.len()) {
		key := p.keys.key(n)
		param := keyParam(key)
		byParam[param] = append(byParam[param], item{keyHead(key), n})
	}
	params := make([]plan.Param, 0, len(byParam))
	for param := range byParam {
		params = append(params, param)
	}
	slices.Sort(params)
	sorted := slices.Grow(p.sorted[:0], p.keys.len())
	for _, param := range params {
		slices.SortFunc(byParam[param], func(a, b item) int {
			switch {
			case a.head < b.head:
				return -1
			case a.head > b.head:
				return 1
			}
			return bytes.Compare(p.keys.key(a.n), p.keys.key(b.n))
		})
		for _, it := range byParam[param] {
			sorted = append(sorted, it.n)
		}
	}
	return sorted
}

// keyHead is the first eight bytes of an index key behind its param, as a number
// that sorts as they do.
func keyHead(key []byte) uint64 {
	var head [8]byte
	copy(head[:], key[1+paramSize:])
	return binary.BigEndian.Uint64(head[:])
}

// rowsByKey lists the puts that have each key.
func (p *piece) rowsByKey() (from, rows []uint32) {
	from = slices.Grow(p.from[:0], p.keys.len()+1)[:p.keys.len()+1]
	clear(from)
	for _, k := range p.refs {
		from[k+1]++
	}
	for k := range p.keys.len() {
		from[k+1] += from[k]
	}
	rows, next, begin := slices.Grow(p.rows[:0], len(p.refs))[:len(p.refs)], slices.Clone(from), uint32(0)
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
type arena struct {
	room   []byte   // what is left of the last piece
	pieces [][]byte // all that are there; of those behind used nothing is kept
	used   int
}

// reset empties the arena and keeps its pieces.
func (a *arena) reset() { a.room, a.used = nil, 0 }

// next goes on to another piece.
func (a *arena) next() {
	if a.used == len(a.pieces) {
		a.pieces = append(a.pieces, make([]byte, arenaPiece))
	}
	a.room = a.pieces[a.used]
	a.used++
}

// arenaPiece is the size of the large slices, in bytes.
const arenaPiece = 1 << 20

// keep copies b.
func (a *arena) keep(b []byte) []byte {
	if len(b) > len(a.room) {
		if len(b) > arenaPiece/4 {
			return slices.Clone(b)
		}
		a.next()
	}
	n := copy(a.room, b)
	kept := a.room[:n:n]
	a.room = a.room[n:]
	return kept
}
