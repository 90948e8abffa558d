package lsm

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// purge is what a purge will do: the keys to delete, and the containers to
// write again without the purged rows.
type purge struct {
	deletes [][]byte
	sets    map[string][]byte // key → container; empty: delete
	bare    []uint64          // rows that a sheet has, and which have no facts any more
}

// planPurges reads what the purges of a commit take away. Containers are
// rewritten, not merged into, so everything before must be applied.
func (g *group) planPurges(changes []change) (_ map[int]*purge, err error) {
	var plans map[int]*purge
	var q *query
	defer func() {
		if q != nil {
			err = q.close(err)
		}
	}()
	rewritten := map[string]*set{}
	for i := range changes {
		if changes[i].kind != store.Purge || !g.pointers[changes[i].self].found {
			continue
		}
		if plans == nil {
			plans = map[int]*purge{}
			if err := g.settle(); err != nil {
				return nil, err
			}
			q = g.query()
		}
		p, err := g.planPurge(q, changes[i].self, rewritten)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "lsm.Commit", err)
		}
		plans[i] = p
	}
	return plans, nil
}

// query looks at everything that was applied.
func (g *group) query() *query {
	s := g.q.store
	return newQuery(context.Background(), &reader{store: s, r: s.db, w: g.q.next.rid, live: true, loose: g.q.next.loose}, 0)
}

// planPurge plans the purge of one resource; rewritten are the containers that
// purges before it in this commit rewrite.
func (g *group) planPurge(q *query, self plan.Hash, rewritten map[string]*set) (*purge, error) {
	s := g.q.store
	p := &purge{sets: map[string][]byte{}, deletes: [][]byte{pointerKey(self)}}
	rids, keys, err := s.pastRows(self)
	if err != nil {
		return nil, err
	}
	p.deletes = append(p.deletes, keys...)
	for _, rid := range append(rids, g.pointers[self].rid) {
		p.deletes = append(p.deletes, bodyKey(rid), factsKey(rid), successorKey(rid))
		sheet, err := q.sheetOf(rid)
		if err != nil {
			return nil, err
		}
		if sheet != nil && sheet.has(rid) {
			p.bare = append(p.bare, rid)
		}
		containers, err := q.containersOf(rid)
		if err != nil {
			return nil, err
		}
		for _, key := range containers {
			if err := g.without(p, rewritten, string(key), s.ord(rid)); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// without plans a container without one row.
func (g *group) without(p *purge, rewritten map[string]*set, key string, ord uint16) error {
	members := rewritten[key]
	if members == nil {
		value, _, err := get(g.q.store.db, []byte(key))
		if err != nil {
			return err
		}
		members = new(set)
		if err := members.load(value); err != nil {
			return err
		}
		rewritten[key] = members
	}
	if members.has(ord) {
		*members = members.filter(func(o uint16) bool { return o == ord }, true)
		if members.n == 0 {
			p.sets[key] = nil
		} else {
			p.sets[key] = appendOrds(nil, members.all())
		}
	}
	return nil
}

// pastRows lists the superseded versions of a resource: rows and history keys.
func (s *Store) pastRows(self plan.Hash) (rids []uint64, keys [][]byte, err error) {
	prefix := historyPrefix(self)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: plan.Successor(prefix)})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		if len(it.Value()) != ridSize {
			return nil, nil, corrupt("a history row has a wrong form")
		}
		rids = append(rids, getRID(it.Value()))
		keys = append(keys, append([]byte(nil), it.Key()...))
	}
	return rids, keys, it.Error()
}

// containersOf lists the keys of the containers that may hold a row.
func (q *query) containersOf(rid uint64) ([][]byte, error) {
	h, _, err := q.openRow(nil, rid)
	if err != nil {
		return nil, err
	}
	block := q.block(rid)
	kind := byte(kindPut)
	if h.deleted {
		kind = kindDelete
	}
	keys := [][]byte{deadKey(block), appendBlock(typePrefix(h.key.Type, kind), block)}
	f, err := q.facts(rid)
	if err != nil || f == nil {
		return keys, err
	}
	err = q.eachWhole(rid, f, nil, func(param plan.Param, value []byte) {
		keys = append(keys, appendBlock(indexPrefix(param, value), block))
	})
	return keys, err
}

// takeAway takes a resource away.
func (c *commitWriter) takeAway(p *purge) {
	for _, key := range p.deletes {
		must(c.batch.Delete(key, nil))
	}
	for _, rid := range p.bare {
		must(c.batch.Set(factsKey(rid), []byte{noFacts}, nil))
		c.q.next.loosened(rid)
	}
	for key, container := range p.sets {
		if container == nil {
			must(c.batch.Delete([]byte(key), nil))
			continue
		}
		must(c.batch.Set([]byte(key), container, nil))
	}
}

// purge leaves a row that says that a resource was taken away.
func (c *commitWriter) purge(ch *change) {
	rid, h := c.row(ch)
	h.purge = true
	must(c.batch.Set(bodyKey(rid), c.q.store.bodies.row(&h, nil), nil))
	must(c.batch.Set(purgedKey, []byte{}, nil))
	c.q.purged = c.number
	c.pointers[ch.self] = pointer{}
}

// purgedKey is there while purged bytes may still lie in tables and logs.
var purgedKey = []byte{spaceMeta, metaPurged}

var _ store.Scrubber = (*Store)(nil)

// Scrub rewrites tables until nothing of what was purged before is left in any
// file. It does nothing when nothing was purged since the last Scrub. Commits
// and reads go on meanwhile; a view opened before a purge holds it back.
func (s *Store) Scrub(ctx context.Context) error {
	const op = "lsm.Scrub"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return err
	}
	defer leave()
	_, purged, err := get(s.db, purgedKey)
	if err != nil || !purged {
		return fault.Wrap(fault.Internal, op, err)
	}
	ctx, stop := s.whilePossible(ctx)
	defer stop()
	snap := s.published.take()
	until := snap.commit
	s.published.drop(snap)
	if err := s.compact(ctx, op); err != nil {
		return err
	}
	if clean, err := s.sweep(ctx, op); err != nil || !clean {
		return err // the note stays for the next Scrub
	}
	_, err = s.sequencer.submit(ctx, &request{scrubbed: until})
	return err
}
