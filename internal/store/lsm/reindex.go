package lsm

import (
	"bytes"
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
)

// reentry is a store.Reentry made ready by the caller's goroutine.
type reentry struct {
	version uint64
	change  // key, self, facts and prefixes, as of a put
}

// Reindex implements store.Store: one member of a group. Rows stay where they
// are; their facts are written anew, and they are put into the containers of the
// entries that are new and taken out of those of the entries that are gone.
func (s *Store) Reindex(ctx context.Context, versions []store.Reentry) ([]bool, error) {
	const op = "lsm.Reindex"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := store.CheckReindex(op, versions); err != nil {
		return nil, err
	}
	r := &request{reentries: make([]reentry, len(versions))}
	for i, v := range versions {
		e := &r.reentries[i]
		e.version, e.key, e.self = v.Version, v.Key, s.hash.Self(v.Key)
		s.prepareEntries(&e.change, v.Entries)
	}
	outcomes, err := s.sequencer.submit(ctx, r)
	if err != nil {
		return nil, err
	}
	done := make([]bool, len(outcomes))
	for i, o := range outcomes {
		done[i] = o.Changed
	}
	return done, nil
}

// restating is what a Reindex will write.
type restating struct {
	gone     purge     // containers without the rows
	rows     []restate // one a reentry
	outcomes []store.Outcome
}

type restate struct {
	rid   uint64
	added []string // index keys without block
	facts []byte   // nil: the reentry is left
}

// planReindex reads what a Reindex changes. Containers and facts are read from
// the database, so everything before must be applied.
func (g *group) planReindex(reentries []reentry) (_ *restating, err error) {
	if len(reentries) == 0 {
		return nil, nil
	}
	if err := g.settle(); err != nil {
		return nil, err
	}
	p := &restating{gone: purge{sets: map[string][]byte{}}, rows: make([]restate, len(reentries)), outcomes: make([]store.Outcome, len(reentries))}
	rewritten := map[string]*set{}
	q := g.query()
	defer func() { err = q.close(err) }()
	for i := range reentries {
		e := &reentries[i]
		current, err := g.pointerOf(e.self)
		if err != nil {
			return nil, err
		}
		if !current.alive() || current.version != e.version {
			continue
		}
		p.outcomes[i] = store.Outcome{Version: current.version, Updated: fromMillis(current.updated), Changed: true}
		p.rows[i] = restate{rid: current.rid, facts: e.facts}
		if err := g.planReentry(q, p, &p.rows[i], e, rewritten); err != nil {
			return nil, fault.Wrap(fault.Internal, "lsm.Reindex", err)
		}
	}
	return p, nil
}

// planReentry compares the entries that a row has with those it shall have.
func (g *group) planReentry(q *query, p *restating, row *restate, e *reentry, rewritten map[string]*set) error {
	s := g.q.store
	had, err := q.entries(row.rid)
	if err != nil {
		return err
	}
	if bytes.Equal(appendFacts(nil, e.self, had), e.facts) {
		row.facts = nil
		return nil
	}
	wanted := make(map[string]bool, len(e.prefixes))
	for _, prefix := range e.prefixes {
		wanted[prefix] = true
	}
	block, ord := uint32(row.rid>>s.shift), s.ord(row.rid)
	for _, entry := range had {
		prefix := indexPrefix(entry.Param, entry.Value)
		if wanted[string(prefix)] {
			delete(wanted, string(prefix)) // it has this already
			continue
		}
		if err := g.without(&p.gone, rewritten, string(appendBlock(prefix, block)), ord); err != nil {
			return err
		}
	}
	for _, prefix := range e.prefixes {
		if wanted[prefix] {
			row.added = append(row.added, prefix)
		}
	}
	return nil
}

// reindex writes what planReindex found. No commit is made, so no moment comes
// in between; answers that were foreseen for plans over these types do not hold
// any more.
func (g *group) reindex(reentries []reentry, p *restating) []store.Outcome {
	c := commitWriter{group: g}
	g.purging = true
	c.takeAway(&p.gone)
	grown := map[string]*gather{}
	for i, row := range p.rows {
		if row.facts == nil {
			continue
		}
		must(g.batch.Set(factsKey(row.rid), row.facts, nil))
		g.q.next.loosened(row.rid)
		for _, prefix := range row.added {
			key := string(appendBlock([]byte(prefix), uint32(row.rid>>g.q.store.shift)))
			if grown[key] == nil {
				grown[key] = &gather{}
			}
			grown[key].add(g.q.store.ord(row.rid))
		}
		g.q.types[reentries[i].key.Type] = g.q.next.commit + 1
		g.wrote = true
		g.rows++
	}
	for key, rows := range grown {
		g.union([]byte(key), rows)
	}
	return p.outcomes
}
