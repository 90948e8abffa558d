package lsm

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
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
	if err := checkCommit(op, ops); err != nil {
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
		c.kind, c.key, c.tag = op.Kind, op.Key, op.Tag
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
	entries := inOrder(op.Entries)
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

// inOrder gives entries in their order: as they are when they have it, which
// they do where they come from.
func inOrder(entries []plan.Entry) []plan.Entry {
	if slices.IsSortedFunc(entries, compareEntries) {
		return entries
	}
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, compareEntries)
	return sorted
}

func compareEntries(a, b plan.Entry) int {
	if a.Param != b.Param {
		return cmp.Compare(a.Param, b.Param)
	}
	return bytes.Compare(a.Value, b.Value)
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
			found, err := s.firstMatches(ctx, &reader{store: s, r: at.Snapshot, w: at.rid, live: true}, c.around)
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

// checkCommit refuses ops that are against the contract, and a key that two of
// them write.
func checkCommit(op string, ops []store.Op) error {
	written := make(map[plan.Key]bool, len(ops))
	for i := range ops {
		if err := checkOp(op, &ops[i]); err != nil {
			return err
		}
		if ops[i].Kind == store.Check {
			continue
		}
		if written[ops[i].Key] {
			return fault.New(fault.Conflict, op, "operation %d writes a key that another writes too", i)
		}
		written[ops[i].Key] = true
	}
	return nil
}

func checkOp(op string, o *store.Op) error {
	switch o.Kind {
	case store.Put:
	case store.Delete, store.Purge, store.Check:
		if len(o.Body) > 0 || len(o.Entries) > 0 {
			return fault.New(fault.Invalid, op, "only a put has a body and entries")
		}
	default:
		return fault.New(fault.Invalid, op, "an operation of unknown kind")
	}
	asksKey := o.Kind != store.Check
	for i := range o.If {
		asksKey = asksKey || o.If[i].Kind != store.Matches
		if err := checkCondition(op, &o.If[i]); err != nil {
			return err
		}
	}
	if (asksKey || o.Key != plan.Key{}) && !validResourceID(o.Key.ID) {
		return fault.New(fault.Invalid, op, "not the id of a resource")
	}
	return checkEntries(op, o.Entries)
}

func checkCondition(op string, cond *store.Condition) error {
	switch cond.Kind {
	case store.AtVersion, store.Exists, store.Absent, store.Never:
		return nil
	case store.Matches:
		return checkPlan(op, cond.Plan)
	default:
		return fault.New(fault.Invalid, op, "a condition of unknown kind")
	}
}

func checkEntries(op string, entries []plan.Entry) error {
	sorted := inOrder(entries)
	for i, e := range sorted {
		if len(e.Value) > plan.MaxValueBytes {
			return fault.New(fault.Invalid, op, "an entry's value longer than %d bytes", plan.MaxValueBytes)
		}
		if i > 0 && compareEntries(sorted[i-1], e) == 0 {
			return fault.New(fault.Invalid, op, "an entry twice")
		}
	}
	return nil
}

func validResourceID(id string) bool {
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return 0 < len(id) && len(id) <= maxIDLen
}

// maxDepth bounds the nesting of a plan's conditions, chains included: far
// above what FHIR search can write, far below what a stack bears.
const maxDepth = 200

// checkPlan refuses a plan that package plan does not allow.
func checkPlan(op string, p *plan.Plan) error {
	if p == nil {
		return fault.New(fault.Invalid, op, "no plan")
	}
	if p.Limit < 0 || p.Work < 0 {
		return fault.New(fault.Invalid, op, "a bound below zero")
	}
	return checkArms(op, p.Arms, maxDepth)
}

func checkArms(op string, arms []plan.Arm, depth int) error {
	for i, arm := range arms {
		if slices.ContainsFunc(arms[:i], func(a plan.Arm) bool { return a.Type == arm.Type }) {
			return fault.New(fault.Invalid, op, "a type in two arms")
		}
		if err := checkNode(op, arm.Where, depth); err != nil {
			return err
		}
	}
	return nil
}

func checkNode(op string, node plan.Node, depth int) error {
	if depth == 0 {
		return fault.New(fault.Invalid, op, "conditions nested too deep")
	}
	switch n := node.(type) {
	case nil, plan.Term, plan.Contains, plan.Updated, plan.Created, plan.IDs:
		return nil
	case plan.Range:
		if n.Tail != nil && n.Tail.At < 0 {
			return fault.New(fault.Invalid, op, "a tail that begins before the value")
		}
		return nil
	case plan.And:
		return checkNodes(op, n, depth-1)
	case plan.Or:
		return checkNodes(op, n, depth-1)
	case plan.Not:
		return checkNode(op, n.Of, depth-1)
	case plan.Chain:
		return checkArms(op, n.To, depth-1)
	case plan.Has:
		return checkArms(op, n.From, depth-1)
	default:
		return fault.New(fault.Invalid, op, "a condition of unknown kind %T", node)
	}
}

func checkNodes(op string, nodes []plan.Node, depth int) error {
	for _, node := range nodes {
		if err := checkNode(op, node, depth); err != nil {
			return err
		}
	}
	return nil
}
