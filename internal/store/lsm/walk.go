package lsm

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// walker goes through the values of one param in their order.
type walker struct {
	param plan.Param
	desc  bool
	it    *pebble.Iterator
	valid bool
	value []byte
}

// walk goes through the index of the first sort key and takes the hits that it
// meets. A row with several values is taken at the one that counts, which its
// facts tell; rows without one come last.
func (q *query) walk(hits *listed, p *plan.Plan, after *place) ([]place, error) {
	t, r := top{limit: p.Limit, after: after}, q.ranker(p.Sort)
	first := p.Sort[0]
	if after == nil || !after.keys[0].missing {
		walkers, err := q.walkers(first, after)
		if err != nil {
			return nil, err
		}
		for !t.full() {
			value, ok := foremost(walkers)
			if !ok {
				break
			}
			if err := r.takeValue(walkers, value, hits, &t); err != nil {
				return nil, err
			}
		}
	}
	if t.full() {
		return t.places(), nil
	}
	return r.withMissing(hits, &t)
}

// walkers begin at the value behind which the page begins.
func (q *query) walkers(s plan.Sort, after *place) ([]*walker, error) {
	var all []*walker
	for _, param := range s.Params {
		lower, upper := indexBounds(param, nil, nil)
		it, err := q.iter(lower, upper)
		if err != nil {
			return nil, err
		}
		w := &walker{param: param, desc: s.Desc, it: it}
		switch {
		case after != nil && s.Desc:
			w.valid = it.SeekLT(append(indexPrefix(param, after.keys[0].value), 0xff, 0xff, 0xff, 0xff, 0xff))
		case after != nil:
			w.valid = it.SeekGE(indexPrefix(param, after.keys[0].value))
		case s.Desc:
			w.valid = it.Last()
		default:
			w.valid = it.First()
		}
		if err := w.read(); err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// read takes the value that the iterator stands on.
func (w *walker) read() (err error) {
	if !w.valid {
		return w.it.Error()
	}
	_, escaped, _, err := indexKeyParts(w.it.Key())
	if err == nil {
		w.value, err = unescape(w.value[:0], escaped)
	}
	return err
}

// foremost gives the value that comes next over all walkers, in memory of its
// own.
func foremost(walkers []*walker) (value []byte, ok bool) {
	for _, w := range walkers {
		if !w.valid {
			continue
		}
		if !ok || w.desc == (bytes.Compare(w.value, value) > 0) {
			value, ok = w.value, true
		}
	}
	return bytes.Clone(value), ok
}

// takeValue takes the hits of one value from all walkers that stand on it, and
// moves them on.
func (r *ranker) takeValue(walkers []*walker, value []byte, hits *listed, t *top) error {
	for _, w := range walkers {
		if !w.valid || !bytes.Equal(w.value, value) {
			continue
		}
		if err := r.takePosting(indexPrefix(w.param, value), value, hits, t); err != nil {
			return err
		}
		if w.desc {
			w.valid = w.it.SeekLT(indexPrefix(w.param, value))
		} else {
			w.valid = w.it.SeekGE(plan.Successor(indexPrefix(w.param, value)))
		}
		if err := w.read(); err != nil {
			return err
		}
	}
	return nil
}

// takePosting takes the hits of one posting that count with this value.
func (r *ranker) takePosting(prefix, value []byte, hits *listed, t *top) error {
	q, alone := r.q, len(r.sorts) == 1
	posting := q.postings(prefix)
	taken := 0
	for i, b := range hits.order {
		if alone && taken > t.limit {
			break // the rest of this value comes behind the page
		}
		rows, err := posting.keep(b, hits.sets[i].clone())
		if err != nil {
			return err
		}
		if err := q.look(1); err != nil {
			return err
		}
		for i := rows.n - 1; i >= 0; i-- {
			at, err := r.place(q.rid(b, rows.all()[i]))
			if err != nil {
				return err
			}
			if !at.keys[0].missing && bytes.Equal(at.keys[0].value, value) && (t.after == nil || at.compare(t.after) > 0) {
				t.add(at)
				if taken++; alone && taken > t.limit {
					break
				}
			}
		}
	}
	return q.dropIter(posting.it)
}

// withMissing adds the hits without a value of the first sort key.
func (r *ranker) withMissing(hits *listed, t *top) ([]place, error) {
	for i, b := range hits.order {
		for _, o := range hits.sets[i].all() {
			at, err := r.place(r.q.rid(b, o))
			if err != nil {
				return nil, err
			}
			if at.keys[0].missing {
				t.add(at)
			}
		}
	}
	return t.places(), nil
}
