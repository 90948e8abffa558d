package lsm

import (
	"bytes"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// join is a Chain or a Has: which rows meet it is found from the other end
// (gathered), or row by row (test), whichever end has fewer resources. What was
// gathered may also be the targets' hashes, which rows are then compared with.
type join struct {
	q       *query
	other   *arms
	gather  func() (*listed, error) // nil without an error: it has set rows
	test    func(rid uint64) (bool, error)
	rowwise bool  // gather does not apply
	rowCost int64 // of test: how many resources at the other end are gathered in its time
	// cheaper has what makes gathering cheaper kept, in part, and gives the rowCost that
	// holds then; nil: there is nothing of the kind. It is asked when rows are few only
	// as long as that is not kept.
	cheaper func() (rowCost int64, err error)
	// whole gives all rows that meet it, where they are to be kept and testing them takes
	// little longer than testing those that will be asked about; nil: it is not so, or
	// always.
	whole func(asked int64) (*listed, error)

	limit int64 // of other; -1: not asked yet
	asked int64 // rows that will be asked about at most; 0: not known
	done  *listed
	rows  *byRow
	// gathered: rows compares with what was gathered
	gathered bool
}

func newJoin(q *query, other *arms) *join { return &join{q: q, other: other, rowCost: 1, limit: -1} }

func (j *join) bound() (int64, error) {
	if j.rowwise {
		return many, nil
	}
	if j.done != nil {
		return j.done.n, nil
	}
	if j.limit < 0 {
		n, err := j.other.bound()
		if err != nil {
			return 0, err
		}
		j.limit = n
	}
	if j.limit > j.q.store.tuning.joinProbe || j.rows != nil {
		return many, nil
	}
	if err := j.load(); err != nil || j.rows != nil {
		return many, err
	}
	return j.done.n, nil
}

func (j *join) expect(rows int64) error {
	j.asked = rows
	if _, err := j.bound(); err != nil {
		return err
	}
	if j.cheaper != nil && !j.rowwise && j.done == nil && j.rows == nil && rows < j.limit/j.rowCost && rows >= j.limit/j.q.store.tuning.hasKeptCost {
		var err error
		if j.rowCost, err = j.cheaper(); err != nil {
			return err
		}
	}
	if j.rowwise {
		j.rows = &byRow{j.q, j.test}
		return nil
	}
	if j.done != nil || j.rows != nil || rows >= j.limit/j.rowCost {
		return nil
	}
	if j.whole != nil {
		var err error
		if j.done, err = j.whole(rows); j.done != nil || err != nil {
			return err
		}
	}
	j.rows = &byRow{j.q, j.test}
	return nil
}

func (j *join) load() (err error) {
	if j.done == nil && j.rows == nil {
		j.done, err = j.gather()
	}
	return err
}

func (j *join) next(b uint32) (uint32, bool, error) {
	if j.rowwise {
		return b, true, nil
	}
	if err := j.load(); err != nil {
		return 0, false, err
	}
	if j.rows != nil {
		return b, true, nil
	}
	return j.done.next(b)
}

func (j *join) keep(b uint32, in set) (set, error) {
	if j.rowwise {
		return keepRows(j.q, j.test, b, in)
	}
	if err := j.load(); err != nil {
		return set{}, err
	}
	if j.rows != nil {
		return j.rows.keep(b, in)
	}
	return j.done.keep(b, in)
}

func (j *join) seed(b uint32, room *set) (set, bool, error) {
	if j.rowwise {
		return set{}, false, nil
	}
	if err := j.load(); err != nil || j.rows != nil {
		return set{}, false, err
	}
	return j.done.seed(b, room)
}

func (j *join) seeded(_ uint32, in set) (set, error) { return in, nil }

// compileChain: from the other end, the self hashes of the targets are looked
// up as values; row by row, the row's references are followed.
func (q *query) compileChain(n plan.Chain) (cond, error) {
	to, err := q.arms(n.To)
	if err != nil {
		return nil, err
	}
	j := newJoin(q, to)
	j.gather = func() (*listed, error) { return q.gatherSources(n.Params, to) }
	columns, known := columnsOf(n.Params), targets{q: q, of: to, met: map[plan.Hash]bool{}}
	var room []plan.Hash
	j.test = func(rid uint64) (bool, error) {
		if room, err = q.references(rid, columns, room[:0]); err != nil {
			return false, err
		}
		for _, self := range room {
			if met, err := known.has(self); err != nil || met {
				return met, err
			}
		}
		return false, nil
	}
	return j, nil
}

// gatherSources finds the rows that point to one of the targets.
func (q *query) gatherSources(params []plan.Param, targets *arms) (*listed, error) {
	selves, err := q.selves(targets)
	if err != nil {
		return nil, err
	}
	found := map[uint32]*gather{}
	for _, param := range params {
		lower, upper := indexBounds(param, nil, nil)
		it, err := q.iter(lower, upper)
		if err != nil {
			return nil, err
		}
		for i := range selves { // ascending, so that each seek begins where the last one ended
			if err := q.step(); err != nil {
				return nil, err
			}
			for ok := it.SeekPrefixGE(appendBlock(indexPrefix(param, selves[i][:]), ^uint32(0))); ok; ok = it.Next() {
				if err := q.look(1); err != nil {
					return nil, err
				}
				container, err := it.ValueAndErr()
				if err != nil {
					return nil, err
				}
				if err := gatherAt(found, keyBlock(it.Key())).merge(container); err != nil {
					return nil, err
				}
			}
			if err := it.Error(); err != nil {
				return nil, err
			}
		}
	}
	return list(found), nil
}

// selves lists the self hashes of resources, ascending.
func (q *query) selves(of *arms) ([]plan.Hash, error) {
	newest, ok := q.newestBlock()
	if !ok {
		return nil, nil
	}
	var found []plan.Hash
	err := of.each(newest, func(b uint32, rows set) (bool, error) {
		for _, o := range rows.all() {
			self, _, err := q.self(q.rid(b, o))
			if err != nil {
				return false, err
			}
			found = append(found, self)
		}
		return true, nil
	})
	slices.SortFunc(found, compareHashes)
	return found, err
}

func compareHashes(a, b plan.Hash) int { return bytes.Compare(a[:], b[:]) }

// references appends what a row's entries of some params point to.
func (q *query) references(rid uint64, params []column, found []plan.Hash) ([]plan.Hash, error) {
	err := q.eachOfAll(rid, params, func(value []byte) {
		if len(value) == hashSize {
			found = append(found, plan.Hash(value))
		}
	})
	return found, err
}

// maxRemembered bounds the resources of which a chain remembers whether they are
// among its targets.
const maxRemembered = 4096

// targets are the resources that a chain leads to. Many rows point to one.
type targets struct {
	q   *query
	of  *arms
	met map[plan.Hash]bool
}

func (t *targets) has(self plan.Hash) (bool, error) {
	if met, known := t.met[self]; known {
		return met, nil
	}
	met, err := t.q.isCurrent(self, t.of)
	if err == nil && len(t.met) < maxRemembered {
		t.met[self] = met
	}
	return met, err
}

// isCurrent reports whether the resource of a self hash is one of the arms'.
func (q *query) isCurrent(self plan.Hash, of *arms) (bool, error) {
	if err := q.look(1); err != nil {
		return false, err
	}
	p, err := q.pointer(self)
	if err != nil || !p.alive() {
		return false, err
	}
	rows, err := of.within(q.block(p.rid), set{ords: []uint16{q.store.ord(p.rid)}, n: 1})
	return !rows.empty(), err
}

// compileHas: from the other end, the references of the sources are gathered, and
// followed, or looked for among the hashes of the rows that are asked about when
// these are fewer; row by row, the row's self hash is looked up as a value. Only
// that way finds versions that are not current. What is asked often is kept.
func (q *query) compileHas(n plan.Has, t plan.Type, versions bool) (cond, error) {
	from, err := q.arms(n.From)
	if err != nil {
		return nil, err
	}
	j := newJoin(q, from)
	j.rowwise, j.rowCost = versions, q.store.tuning.hasRowCost
	j.cheaper = func() (int64, error) {
		kept, err := q.keepReferences(n.Params, from)
		if err != nil || !kept {
			return q.store.tuning.hasRowCost, err
		}
		return q.store.tuning.hasKeptCost, nil
	}
	var kept reach
	j.gather = func() (*listed, error) {
		targets, err := q.gatherTargets(n.Params, from, 0)
		if err != nil {
			return nil, err
		}
		is := func(rid uint64) (bool, error) {
			self, deleted, err := q.self(rid)
			_, met := targets[self]
			return met && !deleted, err
		}
		if rows, err := q.reachedOf(t, int64(len(targets)), is, &kept); rows != nil || err != nil {
			return rows, err
		}
		if 0 < j.asked && j.asked <= int64(len(targets))*q.store.tuning.selfShare {
			j.gathered, j.rows = true, &byRow{q, is}
			return nil, nil
		}
		rows, err := q.currentRows(targets)
		if err == nil {
			q.keepReach(&kept, rows)
		}
		return rows, err
	}
	pointed := pointedTo{q: q, params: n.Params, its: make([]*pebble.Iterator, len(n.Params)), by: from}
	j.test = func(rid uint64) (bool, error) {
		self, deleted, err := q.self(rid)
		if err != nil || deleted {
			return false, err
		}
		return pointed.has(self)
	}
	if !versions {
		j.whole = func(asked int64) (*listed, error) { return q.reachedOf(t, asked, j.test, &kept) }
		kept = q.reachOf(n, t)
		j.done, err = q.keptReach(&kept, func(since uint64) (*listed, error) { return q.reachedSince(since, n, t, from, j.test) })
	}
	return j, err
}

// usualTargets is for how many targets there is room from the start, at most.
const usualTargets = 1024

// gatherTargets gives the self hashes of what the sources that do not lie before a row
// point to.
func (q *query) gatherTargets(params []plan.Param, sources *arms, since uint64) (map[plan.Hash]struct{}, error) {
	most, err := sources.bound()
	if err != nil {
		return nil, err
	}
	targets := make(map[plan.Hash]struct{}, min(most, usualTargets))
	columns := columnsOf(params)
	add := func(value []byte) {
		if len(value) == hashSize {
			targets[plan.Hash(value)] = struct{}{}
		}
	}
	err = q.eachSince(sources, since, func(b uint32, rows set) error {
		return q.eachRun(b, rows.all(), func(rows runRows) error {
			for i := range columns {
				if err := q.eachNew(rows, &columns[i], add); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return targets, err
}

// keepReferences reports whether columns of some params are kept where sources may
// be. Where they are not, some are made: each query of many sources comes nearer.
func (q *query) keepReferences(params []plan.Param, sources *arms) (kept bool, err error) {
	newest, ok := q.newestBlock()
	if !ok {
		return true, nil
	}
	columns, shift := columnsOf(params), q.store.tuning.keptShift
	kept = true
	b, ok, err := sources.next(newest)
	for ; err == nil && ok; b, ok, err = sources.next(b - 1) {
		first := q.rid(b, 0)
		for run := first >> shift; run <= (first+1<<q.store.shift-1)>>shift && run<<shift < q.w; run++ {
			for i := range columns {
				whole, err := columns[i].keepAll(q, run)
				if err != nil {
					return false, err
				}
				kept = kept && whole
			}
		}
		if b == 0 {
			break
		}
	}
	return kept, err
}

// currentRows finds the current versions of resources that are not deleted.
func (q *query) currentRows(of map[plan.Hash]struct{}) (*listed, error) {
	sorted := make([]plan.Hash, 0, len(of))
	for self := range of {
		sorted = append(sorted, self)
	}
	slices.SortFunc(sorted, compareHashes)
	it, err := q.iter([]byte{spacePointer}, []byte{spacePointer + 1})
	if err != nil {
		return nil, err
	}
	found := map[uint32]*gather{}
	for _, self := range sorted { // ascending, so that each seek begins where the last one ended
		if err := q.look(1); err != nil {
			return nil, err
		}
		p, err := q.seekPointer(it, self)
		if err != nil {
			return nil, err
		}
		if p.alive() {
			gatherAt(found, q.block(p.rid)).add(q.store.ord(p.rid))
		}
	}
	return list(found), nil
}

// seekPointer is pointer, for many resources one after the other.
func (q *query) seekPointer(it *pebble.Iterator, self plan.Hash) (pointer, error) {
	if !it.SeekPrefixGE(pointerKey(self)) {
		return pointer{}, it.Error()
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return pointer{}, err
	}
	return q.pointerOf(self, value)
}

// pointedTo finds out whether sources point to resources, one after the other.
type pointedTo struct {
	q      *query
	params []plan.Param
	its    []*pebble.Iterator // of each param, once it was asked for
	by     *arms
}

// has reports whether one of the sources has an entry of one of the params that
// equals self.
func (p *pointedTo) has(self plan.Hash) (bool, error) {
	for i, param := range p.params {
		if p.its[i] == nil {
			it, err := p.q.iter(indexBounds(param, nil, nil))
			if err != nil {
				return false, err
			}
			p.its[i] = it
		}
		met, err := p.anyOf(p.its[i], indexPrefix(param, self[:]))
		if err != nil || met {
			return met, err
		}
	}
	return false, nil
}

// anyOf reports whether a container of an index prefix has one of the sources.
func (p *pointedTo) anyOf(it *pebble.Iterator, prefix []byte) (bool, error) {
	newest, ok := p.q.newestBlock()
	if !ok {
		return false, nil
	}
	for ok := it.SeekPrefixGE(appendBlock(prefix, newest)); ok; ok = it.Next() {
		container, err := it.ValueAndErr()
		if err != nil {
			return false, err
		}
		var rows set
		if err := rows.load(container); err != nil {
			return false, err
		}
		if err := p.q.look(rows.n); err != nil {
			return false, err
		}
		if rows, err = p.by.within(keyBlock(it.Key()), rows); err != nil || !rows.empty() {
			return !rows.empty(), err
		}
	}
	return false, it.Error()
}
