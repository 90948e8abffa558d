package interaction

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// A write under a grant with conditions is held against them twice: what stands
// there must meet them before, what is written must meet them after. Both are
// looked at in a view, which decides what is answered, and again at the commit
// point by the conditions that these functions give (a guard), so that no race
// leads outside: when one fails there, the write is tried anew.

// outside refuses a write beyond the grant: alike for what is hidden, what is
// absent and what would leave the grant, so that nothing is learned.
func (s *Session) outside(t plan.Type) error {
	return &fault.Error{Kind: fault.Forbidden, Op: "interaction.outside", Subject: s.Registry.Name(t),
		Detail: "the access granted does not reach this resource, or not as it would become"}
}

// standing holds the current version of a resource against the grant: the
// resource must be there, as a grant with conditions makes no resource under an
// id of the client's choice. Without conditions nothing is asked.
func (s *Session) standing(ctx context.Context, view store.View, key plan.Key, access search.Access) (guard []store.Condition, err error) {
	where, err := s.granted(key.Type, access)
	if err != nil || where == nil {
		return nil, err
	}
	mine := s.onlyKey(key, where)
	found, err := matchesIn(ctx, view, mine)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, s.outside(key.Type)
	}
	return []store.Condition{{Kind: store.Matches, Plan: mine, Keys: found}}, nil
}

// onlyKey asks for one resource, if it meets a condition.
func (s *Session) onlyKey(key plan.Key, where plan.Node) *plan.Plan {
	return &plan.Plan{Arms: []plan.Arm{{Type: key.Type, Where: plan.And{plan.IDs{IDs: []string{key.ID}}, where}}}}
}

// draft is a resource as a write would leave it.
type draft struct {
	key     plan.Key
	entries []plan.Entry
	unread  bool // its entries are not known yet: nothing about them is proven
	// targets are the resources of this store that it refers to, by the hash
	// that its entries hold.
	targets map[plan.Hash]plan.Key
	// created is when the resource's first version came; zero: this would be it.
	created time.Time
	// updated is when this version came; zero: it has not yet.
	updated time.Time
}

// draft describes what an op would make.
func (s *Session) draft(op store.Op, root fhir.Node) *draft {
	d := &draft{key: op.Key, entries: op.Entries}
	if !s.Grant.Unbounded() {
		d.targets = s.targetsOf(op.Key, root)
	}
	return d
}

// targetsOf are the resources of this store that a resource refers to, by hash.
func (s *Session) targetsOf(key plan.Key, root fhir.Node) map[plan.Hash]plan.Key {
	targets := map[plan.Hash]plan.Key{}
	for _, to := range s.Extractor.Targets(key.Type, nil, root) {
		targets[s.Store.HashKey().Self(to)] = to
	}
	return targets
}

// becoming holds what would be written against the grant, and gives what must
// hold at the commit so that it stays within.
func (s *Session) becoming(ctx context.Context, view store.View, d *draft, access search.Access, others map[plan.Key]*draft) (guard []store.Condition, err error) {
	where, err := s.granted(d.key.Type, access)
	if err != nil || where == nil {
		return nil, err
	}
	p := &prover{view: view, now: s.Clock(), others: others}
	ok, err := p.proves(ctx, where, d, true)
	if err == nil && !ok {
		err = s.outside(d.key.Type)
	}
	return p.guard, err
}

// prover shows that a draft meets a condition, from its entries and from the
// current resources that it refers to. What it cannot tell it does not prove.
type prover struct {
	view   store.View
	now    time.Time
	others map[plan.Key]*draft // of the same transaction; nil: a deletion
	guard  []store.Condition
	depth  int
}

// maxProofDepth bounds how far references are followed among the entries of one
// transaction; grants go one step.
const maxProofDepth = 4

// commitWithin is how far the commit may lie behind the moment of the proof, for
// conditions on the time of the version.
const commitWithin = time.Hour

// proves reports whether a condition certainly holds of a draft (want), or
// certainly does not.
func (p *prover) proves(ctx context.Context, node plan.Node, d *draft, want bool) (bool, error) {
	switch n := node.(type) {
	case nil:
		return want, nil
	case plan.Term, plan.Range, plan.Contains:
		return !d.unread && d.meets(n) == want, nil
	case plan.IDs:
		return slices.Contains(n.IDs, d.key.ID) == want, nil
	case plan.Updated:
		if !d.updated.IsZero() {
			return n.Holds(d.updated) == want, nil
		}
		return p.within(n, want), nil
	case plan.Created:
		if d.created.IsZero() {
			return p.within(plan.Updated(n), want), nil
		}
		return n.Holds(d.created) == want, nil
	case plan.And:
		return p.parts(ctx, n, d, want, want)
	case plan.Or:
		return p.parts(ctx, n, d, want, !want)
	case plan.Not:
		return p.proves(ctx, n.Of, d, !want)
	case plan.Chain:
		if want {
			return p.chain(ctx, n, d)
		}
	}
	return false, nil // among them Has, and a Chain that must lead nowhere
}

// within reports whether every moment at which the commit may come lies in the
// span (want), or outside of it.
func (p *prover) within(u plan.Updated, want bool) bool {
	last := p.now.Add(commitWithin)
	if want {
		return u.Holds(p.now) && u.Holds(last)
	}
	return !u.High.IsZero() && !p.now.Before(u.High) || last.Before(u.Low)
}

// parts proves all of several parts, or one of them. The guard of a part that
// was tried in vain is dropped.
func (p *prover) parts(ctx context.Context, parts []plan.Node, d *draft, want, all bool) (bool, error) {
	for _, part := range parts {
		before := len(p.guard)
		ok, err := p.proves(ctx, part, d, want)
		if err != nil {
			return false, err
		}
		if !ok {
			p.guard = p.guard[:before]
		}
		if ok != all {
			return ok, nil
		}
	}
	return all, nil
}

// chain proves that the draft refers to a resource that one of the arms
// describes: to one that the same transaction writes, or to one that is stored
// and stays so until the commit.
func (p *prover) chain(ctx context.Context, n plan.Chain, d *draft) (bool, error) {
	for _, e := range d.entries {
		if !slices.Contains(n.Params, e.Param) || len(e.Value) != len(plan.Hash{}) {
			continue
		}
		to, known := d.targets[plan.Hash(e.Value)]
		at := slices.IndexFunc(n.To, func(arm plan.Arm) bool { return arm.Type == to.Type })
		if !known || at < 0 {
			continue
		}
		ok, err := p.target(ctx, to, n.To[at].Where)
		if ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (p *prover) target(ctx context.Context, to plan.Key, where plan.Node) (bool, error) {
	if other, written := p.others[to]; written {
		if other == nil || p.depth == maxProofDepth {
			return false, nil
		}
		p.depth++
		defer func() { p.depth-- }()
		return p.proves(ctx, where, other, true)
	}
	asked := &plan.Plan{Arms: []plan.Arm{{Type: to.Type, Where: search.Simplify(plan.And{plan.IDs{IDs: []string{to.ID}}, where})}}}
	found, err := matchesIn(ctx, p.view, asked)
	if err != nil || len(found) != 1 {
		return false, err
	}
	p.guard = append(p.guard, store.Condition{Kind: store.Matches, Plan: asked, Keys: found})
	return true, nil
}

// meets reports whether some entry of the draft is one of a leaf's.
func (d *draft) meets(leaf plan.Node) bool {
	switch n := leaf.(type) {
	case plan.Term:
		return d.has(n.Param, func(v []byte) bool { return bytes.Equal(v, n.Value) })
	case plan.Range:
		return d.has(n.Param, n.Holds)
	case plan.Contains:
		return d.has(n.Param, func(v []byte) bool { return bytes.Contains(v, n.Part) })
	}
	return false
}

func (d *draft) has(param plan.Param, ok func([]byte) bool) bool {
	return slices.ContainsFunc(d.entries, func(e plan.Entry) bool { return e.Param == param && ok(e.Value) })
}

// hold holds a put against the grant, before and after. access is Update, or
// Create for what gets an id of the server's.
func (s *Session) hold(ctx context.Context, view store.View, d *draft, access search.Access, others map[plan.Key]*draft) (guard []store.Condition, err error) {
	if access == search.Create {
		return s.becoming(ctx, view, d, access, others)
	}
	guard, err = s.standing(ctx, view, d.key, access)
	if err != nil || guard == nil {
		return nil, err
	}
	rec, err := view.Get(ctx, d.key)
	if err != nil {
		return nil, err
	}
	d.created = rec.Created
	more, err := s.becoming(ctx, view, d, access, others)
	return append(guard, more...), err
}

// holdNow is hold in a view of its own, if there is something to look at.
func (s *Session) holdNow(ctx context.Context, d *draft, access search.Access) ([]store.Condition, error) {
	where, err := s.granted(d.key.Type, access)
	if err != nil || where == nil {
		return nil, err
	}
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	return s.hold(ctx, view, d, access, nil)
}

// making is the access that a conditional update needs which found nothing: a
// grant with conditions makes new resources by its rules for creating, and none
// under an id that the client chose.
func (s *Session) making(t plan.Type, id string) search.Access {
	if where, ok := s.Grant.Where(t, search.Update); ok && where != nil && id == "" {
		return search.Create
	}
	return search.Update
}

// errMoved says that the grant was held against what others changed meanwhile.
var errMoved = errors.New("what the grant was held against has changed")

// again reports whether a conditional write is worth another attempt.
func again(err error) bool {
	_, no := unmet(err)
	return no || errors.Is(err, errMoved)
}

// commitHeld commits an op that the grant allows, and gives its version with
// the issues that put found; errMoved when others changed what the grant looks
// at.
func (s *Session) commitHeld(ctx context.Context, op store.Op, issues []fault.Issue, guard []store.Condition) (*Version, error) {
	ops := guarded(guard, op)
	out, err := s.Store.Commit(ctx, ops)
	if failed, no := unmet(err); no && len(ops) > 1 && failed.Op == 0 {
		return nil, errMoved
	}
	if err != nil {
		return nil, err
	}
	v := s.made(op, out[len(ops)-1])
	v.Issues = issues
	return v, nil
}

// guarded puts a guard before ops, as an op of its own.
func guarded(guard []store.Condition, ops ...store.Op) []store.Op {
	if len(guard) == 0 {
		return ops
	}
	return append([]store.Op{{Kind: store.Check, If: guard}}, ops...)
}
