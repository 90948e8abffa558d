package lsm

import (
	"context"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// The tokens of a page of history begin with one of these, then a row follows.
const (
	historyNewest order = 'h'
	historyOldest order = 'H'
)

// History implements store.View.
func (v *View) History(ctx context.Context, hq store.HistoryQuery) (store.Page, error) {
	const op = "lsm.History"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return store.Page{}, err
	}
	defer leave()
	if hq.Limit < 0 {
		return store.Page{}, fault.New(fault.Invalid, op, "a limit below zero")
	}
	if err := store.CheckArms(op, hq.Where); err != nil {
		return store.Page{}, err
	}
	q := newQuery(ctx, &v.reader, 0)
	page, err := q.history(&hq)
	return page, fault.Wrap(fault.Internal, op, q.close(err))
}

// past is a history query under way.
type past struct {
	q         *query
	ask       *store.HistoryQuery
	low, high uint64 // rows that are in time, high excluded
	arms      map[plan.Type]cond
	order     order
	after     *place

	rids  []uint64 // the page, and one more
	total int64
}

func (q *query) history(ask *store.HistoryQuery) (store.Page, error) {
	p := &past{q: q, ask: ask, order: historyNewest}
	if ask.OldestFirst {
		p.order = historyOldest
	}
	var err error
	if p.after, err = parseToken(ask.After, p.order, 0); err != nil {
		return store.Page{}, err
	}
	if p.low, p.high, err = q.rowsBetween(ask.Low, ask.High); err != nil {
		return store.Page{}, err
	}
	if err := p.compile(); err != nil {
		return store.Page{}, err
	}
	if p.low < p.high {
		if err := p.scan(); err != nil {
			return store.Page{}, err
		}
	}
	return p.page()
}

// compile makes the conditions ready, one per type.
func (p *past) compile() error {
	if p.ask.Where == nil {
		return nil
	}
	p.arms = map[plan.Type]cond{}
	for _, a := range p.ask.Where {
		c, err := p.q.compile(a.Where, a.Type, true)
		if err != nil {
			return err
		}
		p.arms[a.Type] = c
	}
	return nil
}

func (p *past) page() (store.Page, error) {
	page := store.Page{Total: -1}
	if p.ask.Total {
		page.Total = p.total
	}
	if p.ask.Limit > 0 && len(p.rids) > p.ask.Limit {
		p.rids = p.rids[:p.ask.Limit]
		last := place{order: p.order, rid: p.rids[p.ask.Limit-1]}
		page.Next = last.token()
	}
	for _, rid := range p.rids {
		record, err := p.q.record(rid)
		if err != nil {
			return store.Page{}, err
		}
		page.Records = append(page.Records, record)
	}
	return page, nil
}

// full reports whether nothing more is asked.
func (p *past) full() bool {
	return !p.ask.Total && (p.ask.Limit == 0 || len(p.rids) > p.ask.Limit)
}

// begin is where the scan may begin: behind the page before, unless all are
// counted.
func (p *past) begin() (low, high uint64) {
	low, high = p.low, p.high
	if p.after == nil || p.ask.Total {
		return low, high
	}
	if p.ask.OldestFirst {
		return max(low, p.after.rid+1), high
	}
	return low, min(high, p.after.rid)
}

// scan goes through the rows in question.
func (p *past) scan() error {
	low, high := p.begin()
	switch {
	case low >= high:
		return nil
	case p.ask.Key.ID != "":
		return p.scanResource(low, high)
	case p.ask.Types == nil && p.arms == nil:
		return p.scanRows(low, high)
	default:
		return p.scanTypes(low, high)
	}
}

// offer takes a row of the scope when it meets what else is asked.
func (p *past) offer(rid uint64, t plan.Type) error {
	met, err := p.meets(rid, t)
	if err != nil || !met {
		return err
	}
	p.total++
	if p.ask.Limit == 0 || len(p.rids) > p.ask.Limit || !p.behind(rid) {
		return nil
	}
	p.rids = append(p.rids, rid)
	return nil
}

func (p *past) behind(rid uint64) bool {
	switch {
	case p.after == nil:
		return true
	case p.ask.OldestFirst:
		return rid > p.after.rid
	default:
		return rid < p.after.rid
	}
}

// meets judges AtLow, AtHigh and Where.
func (p *past) meets(rid uint64, t plan.Type) (bool, error) {
	if !p.ask.AtLow.IsZero() || !p.ask.AtHigh.IsZero() {
		if was, err := p.wasCurrent(rid); err != nil || !was {
			return false, err
		}
	}
	if p.arms == nil {
		return true, nil
	}
	where, ok := p.arms[t]
	if !ok {
		return false, nil
	}
	return p.matches(rid, where)
}

// matches judges the entries of a version; those of a deletion are the entries
// of the version before, while its time is its own.
func (p *past) matches(rid uint64, where cond) (bool, error) {
	q := p.q
	h, err := q.header(rid)
	if err != nil {
		return false, err
	}
	entries := rid
	if h.deleted {
		before, found, err := q.versionRow(q.store.hash.Self(h.key), h.version-1)
		if err != nil {
			return false, err
		}
		if found {
			entries = before
		}
	}
	q.as = rid
	defer func() { q.as = 0 }()
	met, err := where.keep(q.block(entries), set{ords: []uint16{q.store.ord(entries)}, n: 1})
	return !met.empty(), err
}

// wasCurrent reports whether the version was current at some time from AtLow to
// AtHigh. One that was succeeded in its own millisecond was current at no time.
func (p *past) wasCurrent(rid uint64) (bool, error) {
	h, err := p.q.header(rid)
	if err != nil {
		return false, err
	}
	begin := fromMillis(h.updated)
	if begin.Before(p.ask.AtLow) {
		begin = p.ask.AtLow
	}
	end := p.ask.AtHigh
	by, found, err := p.q.successor(rid)
	if err != nil {
		return false, err
	}
	if found {
		next, err := p.q.header(by)
		if err != nil {
			return false, err
		}
		if until := fromMillis(next.updated); end.IsZero() || until.Before(end) {
			end = until
		}
	}
	return end.IsZero() || begin.Before(end), nil
}

// scanResource goes through the versions of one resource.
func (p *past) scanResource(low, high uint64) error {
	q := p.q
	self := q.store.hash.Self(p.ask.Key)
	current, err := q.pointer(self)
	if err != nil || !current.found {
		return err
	}
	rids, err := q.versionRows(self)
	if err != nil {
		return err
	}
	if len(rids) == 0 || rids[0] != current.rid {
		rids = append([]uint64{current.rid}, rids...)
	}
	if p.ask.OldestFirst {
		slices.Reverse(rids)
	}
	for _, rid := range rids {
		if p.full() {
			return nil
		}
		if low <= rid && rid < high {
			if err := p.offer(rid, p.ask.Key.Type); err != nil {
				return err
			}
		}
	}
	return nil
}

// versionRows lists the rows of a resource that have a history key and were
// there at the moment, newest first.
func (q *query) versionRows(self plan.Hash) (rids []uint64, err error) {
	prefix := historyPrefix(self)
	it, err := q.iter(prefix, plan.Successor(prefix))
	if err != nil {
		return nil, err
	}
	for it.First(); it.Valid(); it.Next() {
		if err := q.step(); err != nil {
			return nil, err
		}
		if len(it.Value()) != ridSize {
			return nil, corrupt("a history row has a wrong form")
		}
		if rid := getRID(it.Value()); rid < q.w {
			rids = append(rids, rid)
		}
	}
	return rids, it.Error()
}

// scanRows goes through all rows of the store.
func (p *past) scanRows(low, high uint64) error {
	it, err := p.q.iter(rowKey(spaceBody, low), rowKey(spaceBody, high))
	if err != nil {
		return err
	}
	begin, next := it.Last, it.Prev
	if p.ask.OldestFirst {
		begin, next = it.First, it.Next
	}
	for ok := begin(); ok && !p.full(); ok = next() {
		if err := p.q.step(); err != nil {
			return err
		}
		if err := p.offerRow(it); err != nil {
			return err
		}
	}
	return it.Error()
}

func (p *past) offerRow(it *pebble.Iterator) error {
	rid, err := keyRID(it.Key())
	if err != nil {
		return err
	}
	row, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	h, _, err := parseHeader(row)
	if err != nil || h.purge || h.key.Type >= plan.SystemTypes {
		return err
	}
	return p.offer(rid, h.key.Type)
}

// scanTypes goes through blocks with the containers of the types in question.
func (p *past) scanTypes(low, high uint64) error {
	types := p.types()
	var of []*postings
	var typeOf []plan.Type
	for _, t := range types {
		for _, kind := range []byte{kindPut, kindDelete} {
			of = append(of, p.q.postings(typePrefix(t, kind)))
			typeOf = append(typeOf, t)
		}
	}
	first, last := p.q.block(low), p.q.block(high-1)
	for i := range uint64(last-first) + 1 {
		b := last - uint32(i)
		if p.ask.OldestFirst {
			b = first + uint32(i)
		}
		if p.full() {
			return nil
		}
		if err := p.scanBlock(b, of, typeOf, low, high); err != nil {
			return err
		}
	}
	return nil
}

func (p *past) scanBlock(b uint32, of []*postings, typeOf []plan.Type, low, high uint64) error {
	owner := map[uint16]plan.Type{}
	var ords []uint16
	for i, posting := range of {
		at, container, ok, err := posting.at(b)
		if err != nil {
			return err
		}
		if !ok || at != b {
			continue
		}
		var rows set
		if err := container.load(&rows); err != nil {
			return err
		}
		for _, o := range rows.all() {
			if rid := p.q.rid(b, o); low <= rid && rid < high {
				owner[o] = typeOf[i]
				ords = append(ords, o)
			}
		}
	}
	slices.Sort(ords)
	if !p.ask.OldestFirst {
		slices.Reverse(ords)
	}
	for _, o := range ords {
		if p.full() {
			return nil
		}
		if err := p.offer(p.q.rid(b, o), owner[o]); err != nil {
			return err
		}
	}
	return nil
}

// types lists the types to scan: those asked for, or all that have a condition,
// or both.
func (p *past) types() []plan.Type {
	var types []plan.Type
	for t := range p.arms {
		asked := slices.Contains(p.ask.Types, t)
		if p.ask.Types == nil {
			asked = t < plan.SystemTypes
		}
		if asked {
			types = append(types, t)
		}
	}
	if p.arms == nil {
		types = slices.Clone(p.ask.Types)
	}
	slices.Sort(types)
	return slices.Compact(types)
}
