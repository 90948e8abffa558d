package lsm

import (
	"context"
	"slices"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// matchesCut is how many matches of a plan a condition looks at (store.Matches).
const matchesCut = 2

// change is an op made ready by the caller's goroutine, so that the sequencer
// has little left to do. It shares no memory with the op that the caller may
// write to.
type change struct {
	kind       store.OpKind
	key        plan.Key
	self       plan.Hash
	tag        byte
	frees      bool
	packed     []byte
	codec      codec
	dict       uint64
	facts      []byte
	prefixes   []string // of index keys
	conditions []condition
}

// condition is a precondition. For Matches it has been answered once, before
// the commit point: that answer holds when nothing of the types that it reads
// was committed since.
type condition struct {
	store.Condition
	found  []plan.Key
	at     uint64 // number of the commit after which found was found
	asked  bool
	reads  map[plan.Type]bool
	around *plan.Plan // the plan, as a search for the first two matches
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, ops []store.Op) ([]store.Outcome, error) {
	const op = "lsm.Commit"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := store.CheckCommit(op, ops); err != nil {
		return nil, err
	}
	changes := s.prepare(ops)
	if err := s.foresee(ctx, changes); err != nil {
		return nil, err
	}
	return s.sequencer.submit(ctx, &request{changes: changes})
}

// prepare makes ops ready.
func (s *Store) prepare(ops []store.Op) []change {
	changes := make([]change, len(ops))
	for i, op := range ops {
		c := &changes[i]
		c.kind, c.key, c.tag, c.frees = op.Kind, op.Key, op.Tag, op.Frees
		if op.Key.ID != "" {
			c.self = s.hash.Self(op.Key)
		}
		for _, cond := range op.If {
			c.conditions = append(c.conditions, prepareCondition(cond))
		}
		if op.Kind == store.Put {
			s.preparePut(c, op)
		}
	}
	return changes
}

func (s *Store) preparePut(c *change, op store.Op) {
	c.packed, c.codec, c.dict = s.bodies.pack(op.Key.Type, op.Body)
	s.prepareEntries(c, op.Entries)
}

// prepareEntries makes facts and index keys.
func (s *Store) prepareEntries(c *change, entries []plan.Entry) {
	entries = store.InOrder(entries)
	size := 0
	for _, e := range entries {
		size += len(e.Value) + 1 + paramSize + 1 + len(e.Value)/8
	}
	c.facts = appendFacts(make([]byte, 0, hashSize+size), c.self, entries)
	keys, ends := make([]byte, 0, size), make([]int, len(entries))
	for i, e := range entries {
		keys = append(appendEscaped(paramPrefix(keys, e.Param), e.Value), terminator)
		ends[i] = len(keys)
	}
	c.prefixes = make([]string, len(entries))
	all, begin := string(keys), 0 // one piece of memory for all
	for i, end := range ends {
		c.prefixes[i], begin = all[begin:end], end
	}
}

func prepareCondition(cond store.Condition) condition {
	c := condition{Condition: cond}
	if cond.Kind == store.Matches {
		c.reads = map[plan.Type]bool{}
		readTypes(cond.Plan.Arms, c.reads)
		c.around = &plan.Plan{Arms: cond.Plan.Arms, Limit: matchesCut}
	}
	return c
}

// readTypes collects the types that arms look at.
func readTypes(arms []plan.Arm, into map[plan.Type]bool) {
	for _, arm := range arms {
		into[arm.Type] = true
		readNodeTypes(arm.Where, into)
	}
}

func readNodeTypes(node plan.Node, into map[plan.Type]bool) {
	switch n := node.(type) {
	case plan.And:
		for _, part := range n {
			readNodeTypes(part, into)
		}
	case plan.Or:
		for _, part := range n {
			readNodeTypes(part, into)
		}
	case plan.Not:
		readNodeTypes(n.Of, into)
	case plan.Chain:
		readTypes(n.To, into)
	case plan.Has:
		readTypes(n.From, into)
	}
}

// foresee answers the plans of conditions ahead of the commit point, side by
// side with other commits.
func (s *Store) foresee(ctx context.Context, changes []change) error {
	for i := range changes {
		for j := range changes[i].conditions {
			c := &changes[i].conditions[j]
			if c.Kind != store.Matches {
				continue
			}
			at := s.published.take()
			found, err := s.firstMatches(ctx, &reader{store: s, r: at.Snapshot, w: at.rid, live: true, loose: at.loose}, c.around)
			s.published.drop(at)
			if err != nil {
				return err
			}
			c.found, c.at, c.asked = found, at.commit, true
		}
	}
	return nil
}

// firstMatches are the keys of the newest matches of a plan, cut at its limit.
func (s *Store) firstMatches(ctx context.Context, r *reader, p *plan.Plan) ([]plan.Key, error) {
	page, err := r.search(ctx, p, true)
	if err != nil {
		return nil, err
	}
	var keys []plan.Key
	for _, record := range page.Records {
		keys = append(keys, record.Key)
	}
	return keys, nil
}

// sameKeys compares without regard to order; neither has a key twice.
func sameKeys(a, b []plan.Key) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(k plan.Key) bool { return !slices.Contains(b, k) })
}
