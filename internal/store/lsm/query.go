package lsm

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// query is one question under way: what it reads with, and how much it may.
type query struct {
	*reader
	ctx    context.Context
	work   int64 // rows that may be looked at; 0: no bound
	looked int64
	ticks  int
	iters  []*pebble.Iterator

	bodyRows   *rows
	factReader factReader
	keptMade   int    // columns that this query made
	met        []bool // room
	resolver   *pebble.Iterator

	deadBlock uint32 // of deadRows
	deadRows  held
	deadKnown bool

	// as stands for the row under test where versions are asked for and a
	// deletion is tested by the entries of the version before; 0: itself.
	as uint64

	// nodes is what each condition was made of; only a query that is explained
	// notes it.
	nodes map[cond]plan.Node
}

func newQuery(ctx context.Context, r *reader, work int64) *query {
	return &query{reader: r, ctx: ctx, work: work}
}

// close lets go of what the query holds; it gives err, or what went wrong there.
func (q *query) close(err error) error {
	for _, it := range q.iters {
		err = errors.Join(err, it.Close())
	}
	q.iters = nil
	return err
}

func (q *query) iter(lower, upper []byte) (*pebble.Iterator, error) {
	it, err := q.r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	q.iters = append(q.iters, it)
	return it, nil
}

// dropIter closes an iterator before the query ends.
func (q *query) dropIter(it *pebble.Iterator) error {
	if it == nil {
		return nil
	}
	if i := slices.Index(q.iters, it); i >= 0 {
		q.iters = slices.Delete(q.iters, i, i+1)
	}
	return it.Close()
}

// tickInterval is after how many steps a query looks whether it should go on.
const tickInterval = 64

// look counts n rows looked at.
func (q *query) look(n int) error {
	q.looked += int64(n)
	if q.work > 0 && q.looked > q.work {
		return fault.New(fault.TooCostly, "lsm.Search", "more rows to look at than allowed")
	}
	return q.step()
}

// step is called in every loop that may be long.
func (q *query) step() error {
	if q.ticks++; q.ticks%tickInterval != 1 {
		return nil
	}
	if q.store.closing.Load() {
		return storeClosed("lsm.Search")
	}
	return ended(q.ctx, "lsm.Search")
}

func (q *query) block(rid uint64) uint32       { return uint32(rid >> q.store.shift) }
func (q *query) rid(b uint32, o uint16) uint64 { return uint64(b)<<q.store.shift | uint64(o) }

// newestBlock is the block of the newest row; ok is false when there is none.
func (q *query) newestBlock() (b uint32, ok bool) {
	if q.w == 0 {
		return 0, false
	}
	return q.block(q.w - 1), true
}

// header reads a row's header.
func (q *query) header(rid uint64) (header, error) {
	if err := q.look(1); err != nil {
		return header{}, err
	}
	h, _, err := q.openRow(nil, rid)
	return h, err
}

// openRow reads a row; packed is valid until it is asked for another. The id is
// put into page where there is one.
func (q *query) openRow(page *pageRoom, rid uint64) (h header, packed []byte, err error) {
	row, err := q.rawRow(rid)
	if err != nil {
		return header{}, nil, err
	}
	return q.store.bodies.openIn(page, row)
}

func (q *query) rawRow(rid uint64) (row []byte, err error) {
	if q.bodyRows == nil {
		it, err := q.iter([]byte{spaceBody}, []byte{spaceBody + 1})
		if err != nil {
			return nil, err
		}
		q.bodyRows = &rows{space: spaceBody, it: it}
	}
	if row, err = q.bodyRows.get(rid); err == nil && row == nil {
		err = corrupt("a version has no row")
	}
	return row, err
}

// self gives the hash of a row's resource; deleted: it is a deletion.
func (q *query) self(rid uint64) (self plan.Hash, deleted bool, err error) {
	if err := q.look(1); err != nil {
		return plan.Hash{}, false, err
	}
	if self, known := q.store.selves.get(rid); known {
		return self, false, nil
	}
	row, err := q.rawRow(rid)
	if err != nil {
		return plan.Hash{}, false, err
	}
	h, _, err := parseHeader(row)
	if err != nil {
		return plan.Hash{}, false, err
	}
	self = q.store.hash.Self(h.key)
	if !h.deleted {
		q.store.selves.add(rid, self)
	}
	return self, h.deleted, nil
}

// dead gives the superseded rows of a block, valid until it is asked for another.
func (q *query) dead(b uint32) (held, error) {
	if q.deadKnown && q.deadBlock == b {
		return q.deadRows, nil
	}
	rows, err := q.readDead(b)
	q.deadBlock, q.deadRows, q.deadKnown = b, rows, err == nil
	return rows, err
}

// readDead keeps what it reads for as long as no row is superseded.
func (q *query) readDead(b uint32) (held, error) {
	key, kept := deadKey(b), q.store.keptRows
	if q.keeps {
		if rows, at, _ := kept.ask(q.store, key, q.edits, 1); rows != nil && at.buried == q.buried {
			return held{set: &rows.sets[0]}, nil
		}
	}
	value, _, err := get(q.r, key)
	if err != nil || !q.keeps {
		return held{raw: value}, err
	}
	var superseded set
	if err := superseded.load(value); err != nil {
		return held{}, err
	}
	rows := &listed{}
	rows.add(b, superseded)
	kept.keep(q.store, key, q.edits, rows, keptState{buried: q.buried})
	return held{set: &rows.sets[0]}, nil
}

// postings walks the containers of one key prefix from the newest block to the
// oldest. It seeks back when it is asked to.
type postings struct {
	q      *query
	prefix []byte // with room for a block
	it     *pebble.Iterator
	from   uint32 // where the iterator stands is the answer from here to there
	sought bool

	asked bool    // whether the rows are kept
	kept  *listed // nil: they are not
}

func (q *query) postings(prefix []byte) *postings {
	return &postings{q: q, prefix: bytes.Clone(prefix)}
}

// at gives the newest block that is not newer than b, with its container,
// which is valid until the next call.
func (p *postings) at(b uint32) (block uint32, container held, ok bool, err error) {
	if err := p.q.step(); err != nil {
		return 0, held{}, false, err
	}
	if err := p.ask(); err != nil {
		return 0, held{}, false, err
	}
	if p.kept != nil {
		i := p.kept.find(b)
		if i == len(p.kept.order) {
			return 0, held{}, false, nil
		}
		return p.kept.order[i], held{set: &p.kept.sets[i]}, true, nil
	}
	return p.read(b)
}

// ask finds out whether the rows are kept.
func (p *postings) ask() (err error) {
	if !p.asked {
		p.asked = true
		p.kept, err = p.q.keptOf(p.prefix, func(from uint32) (*listed, error) { return p.q.readPostings(p.prefix, from) })
	}
	return err
}

// read is at, in the database.
func (p *postings) read(b uint32) (block uint32, container held, ok bool, err error) {
	if p.it == nil {
		if p.it, err = p.q.iter(p.prefix, plan.Successor(p.prefix)); err != nil {
			return 0, held{}, false, err
		}
	}
	valid := p.it.Valid()
	switch {
	case !p.sought || b > p.from:
		valid = p.seek(b)
	case valid && keyBlock(p.it.Key()) > b:
		p.from = keyBlock(p.it.Key()) - 1
		if valid = p.it.Next(); valid && keyBlock(p.it.Key()) > b {
			valid = p.seek(b)
		}
	}
	if !valid {
		return 0, held{}, false, p.it.Error()
	}
	container.raw, err = p.it.ValueAndErr()
	return keyBlock(p.it.Key()), container, err == nil, err
}

func (p *postings) seek(b uint32) bool {
	p.sought, p.from = true, b
	return p.it.SeekPrefixGE(appendBlock(p.prefix, b))
}

// maxBoundBlocks is how many containers are counted for an exact bound; beyond
// it the rest is taken to be like the part that was counted.
const maxBoundBlocks = 4096

// bound counts the rows of all containers.
func (p *postings) bound() (n int64, err error) {
	newest, ok := p.q.newestBlock()
	if !ok {
		return 0, nil
	}
	if err := p.ask(); err != nil {
		return 0, err
	}
	if p.kept != nil {
		return p.kept.n, nil
	}
	b, counted := newest, 0
	for {
		at, container, ok, err := p.at(b)
		if err != nil || !ok {
			return n, err
		}
		size, err := container.count()
		if err != nil {
			return 0, err
		}
		n += int64(size)
		if counted++; counted == maxBoundBlocks {
			return n * (int64(newest) + 1) / int64(newest-at+1), nil
		}
		if at == 0 {
			return n, nil
		}
		b = at - 1
	}
}

// keep narrows a set to the rows of the container of block b.
func (p *postings) keep(b uint32, in set) (set, error) {
	at, container, ok, err := p.at(b)
	if err != nil || !ok || at != b {
		return set{}, err
	}
	return container.narrow(in, false)
}
