package lsm

import (
	"cmp"
	"context"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// search answers a checked plan; keysOnly leaves bodies out.
func (r *reader) search(ctx context.Context, p *plan.Plan, keysOnly bool) (store.Page, error) {
	q := newQuery(ctx, r, p.Work)
	page, err := q.search(p, keysOnly)
	return page, q.close(err)
}

func (q *query) search(p *plan.Plan, keysOnly bool) (store.Page, error) {
	a, err := q.arms(p.Arms)
	if err != nil {
		return store.Page{}, err
	}
	found, err := q.find(a, p)
	if err != nil {
		return store.Page{}, err
	}
	page := store.Page{Total: -1}
	if p.Total != plan.TotalNone {
		page.Total = found.total
	}
	if p.Limit > 0 && len(found.rows) > p.Limit {
		found.rows = found.rows[:p.Limit]
		page.Next = found.rows[p.Limit-1].token()
	}
	page.Records, err = q.fetchAll(found.rows, keysOnly)
	return page, err
}

// fetchAll reads the rows of a page, the oldest first: Pebble seeks forward
// faster than back.
func (q *query) fetchAll(rows []place, keysOnly bool) ([]store.Record, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(rows[a].rid, rows[b].rid) })
	records := make([]store.Record, len(rows))
	page := newPageRoom(len(rows))
	for _, i := range order {
		record, err := q.fetch(page, rows[i].rid, keysOnly)
		if err != nil {
			return nil, err
		}
		records[i] = record
		page.left--
	}
	return records, nil
}

func (q *query) fetch(page *pageRoom, rid uint64, keysOnly bool) (store.Record, error) {
	if err := q.step(); err != nil {
		return store.Record{}, err
	}
	h, packed, err := q.openRow(page, rid)
	if err != nil || keysOnly {
		return h.record(), err
	}
	return q.store.recordOf(page, &h, packed)
}

// found is what a search found: one row more than the limit when there is one.
type found struct {
	rows  []place
	total int64
}

// find takes the way that fits the order.
func (q *query) find(a *arms, p *plan.Plan) (found, error) {
	after, err := parseToken(p.After, orderOf(p.Sort), len(p.Sort))
	if err != nil {
		return found{}, err
	}
	switch orderOf(p.Sort) {
	case newestFirst:
		return q.findNewest(a, p, after)
	case oldestFirst:
		return q.findOldest(a, p, after)
	default:
		return q.findSorted(a, p, after)
	}
}

// order is how a search's rows are ordered.
type order byte

// The orders; each begins a page's token.
const (
	newestFirst order = 'n'
	oldestFirst order = 'o'
	sorted      order = 's'
)

// orderOf: time never decreases along rows, and no two rows are the same, so
// what comes behind a sort by time does not count.
func orderOf(sorts []plan.Sort) order {
	switch {
	case len(sorts) == 0, sorts[0].By == plan.ByUpdated && sorts[0].Desc:
		return newestFirst
	case sorts[0].By == plan.ByUpdated:
		return oldestFirst
	default:
		return sorted
	}
}

// count counts all matches.
func (q *query) count(of []plan.Arm) (n int64, err error) {
	a, err := q.arms(of)
	if err != nil {
		return 0, err
	}
	newest, ok := q.newestBlock()
	if !ok {
		return 0, nil
	}
	err = a.each(newest, func(_ uint32, rows set) (bool, error) {
		n += int64(rows.n)
		return true, nil
	})
	return n, err
}

// estimate is a bound from above, without a look at the rows.
func (a *arms) estimate(p *plan.Plan, f *found) (err error) {
	if p.Total == plan.TotalEstimate {
		f.total, err = a.bound()
	}
	return err
}

// findNewest walks blocks from the newest, and stops when the page is full
// unless the total must be exact.
func (q *query) findNewest(a *arms, p *plan.Plan, after *place) (f found, err error) {
	below := q.w
	if after != nil {
		below = min(below, after.rid)
	}
	if err := a.estimate(p, &f); err != nil {
		return found{}, err
	}
	exact := p.Total == plan.TotalExact
	from, ok := q.newestBlock()
	if !exact && (below == 0 || p.Limit == 0) || !ok {
		return f, nil
	}
	if !exact {
		from = q.block(below - 1)
	}
	err = a.each(from, func(b uint32, rows set) (bool, error) {
		if exact {
			f.total += int64(rows.n)
		}
		if p.Limit > 0 {
			f.addNewest(q, b, rows, below, p.Limit+1)
		}
		return exact || len(f.rows) <= p.Limit, nil
	})
	return f, err
}

// addNewest adds the newest rows of a block that lie before below, up to limit in
// all.
func (f *found) addNewest(q *query, b uint32, rows set, below uint64, limit int) {
	if len(f.rows) >= limit {
		return
	}
	f.rows = slices.Grow(f.rows, min(limit-len(f.rows), rows.n))
	for o := range rows.backward() {
		if rid := q.rid(b, o); rid < below {
			if f.rows = append(f.rows, place{order: newestFirst, rid: rid}); len(f.rows) >= limit {
				return
			}
		}
	}
}

// findOldest lists the blocks and walks them from the oldest.
func (q *query) findOldest(a *arms, p *plan.Plan, after *place) (f found, err error) {
	if err := a.estimate(p, &f); err != nil {
		return found{}, err
	}
	newest, ok := q.newestBlock()
	if !ok {
		return f, nil
	}
	var blocks []uint32
	for b, ok, err := a.next(newest); ok || err != nil; b, ok, err = a.next(b - 1) {
		if err != nil {
			return found{}, err
		}
		if blocks = append(blocks, b); b == 0 {
			break
		}
	}
	exact := p.Total == plan.TotalExact
	for _, b := range slices.Backward(blocks) {
		if !exact && (len(f.rows) > p.Limit || p.Limit == 0) {
			break
		}
		if !exact && after != nil && q.rid(b+1, 0) <= after.rid+1 {
			continue
		}
		if err := q.addOldest(a, b, p, after, &f); err != nil {
			return found{}, err
		}
	}
	return f, nil
}

func (q *query) addOldest(a *arms, b uint32, p *plan.Plan, after *place, f *found) error {
	rows, err := a.block(b)
	if err != nil {
		return err
	}
	if err := q.look(rows.n); err != nil {
		return err
	}
	if p.Total == plan.TotalExact {
		f.total += int64(rows.n)
	}
	for _, o := range rows.all() {
		if len(f.rows) > p.Limit || p.Limit == 0 {
			return nil
		}
		if rid := q.rid(b, o); after == nil || rid > after.rid {
			f.rows = append(f.rows, place{order: oldestFirst, rid: rid})
		}
	}
	return nil
}

func badToken() error {
	return fault.New(fault.Invalid, "lsm.Search", "not the token of a page of this question")
}
