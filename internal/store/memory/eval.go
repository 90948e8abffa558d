package memory

import (
	"bytes"
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Candidate is one version of a resource, as conditions see it.
type Candidate struct {
	Key     plan.Key
	Updated time.Time // when this version became current
	Created time.Time // when the first version did
	Entries []plan.Entry
	Body    []byte // what a plan.Test looks at
}

// World is the current resources of a store at one moment: what chains look at.
// It does not change, and may be asked from many goroutines.
type World struct {
	hash    plan.HashKey
	current []Candidate
	bySelf  map[plan.Hash]Candidate
}

// NewWorld makes the World of these current, not deleted resources; hash is the
// key under which their reference entries were hashed.
func NewWorld(hash plan.HashKey, current []Candidate) *World {
	w := &World{hash: hash, current: current, bySelf: make(map[plan.Hash]Candidate, len(current))}
	for _, c := range current {
		w.bySelf[hash.Self(c.Key)] = c
	}
	return w
}

// Matches reports whether a resource is described by the arms: whether one of
// them is of its type and its condition holds.
func (w *World) Matches(arms []plan.Arm, of Candidate) bool {
	return slices.ContainsFunc(arms, func(arm plan.Arm) bool {
		return arm.Type == of.Key.Type && w.Holds(arm.Where, of)
	})
}

// Holds reports whether a resource meets a condition; this is what plan.Node
// means. The resource itself need not be part of the World.
func (w *World) Holds(node plan.Node, of Candidate) bool {
	switch n := node.(type) {
	case nil:
		return true
	case plan.Term, plan.Range, plan.Contains, plan.IDs:
		meets, _ := plan.Meets(n, of.Key.ID, of.Entries)
		return meets
	case plan.Test:
		return n.Holds(of.Key, of.Body)
	case plan.Updated:
		return n.Holds(of.Updated)
	case plan.Created:
		return n.Holds(of.Created)
	case plan.And:
		return !slices.ContainsFunc(n, func(part plan.Node) bool { return !w.Holds(part, of) })
	case plan.Or:
		return slices.ContainsFunc(n, func(part plan.Node) bool { return w.Holds(part, of) })
	case plan.Not:
		return !w.Holds(n.Of, of)
	case plan.Chain:
		return w.chain(n, of)
	case plan.Has:
		return w.has(n, of)
	default:
		return false // store.CheckPlan refuses what is not listed here
	}
}

// chain: of points to a current resource that the arms describe.
func (w *World) chain(n plan.Chain, of Candidate) bool {
	return slices.ContainsFunc(of.Entries, func(e plan.Entry) bool {
		if !slices.Contains(n.Params, e.Param) || len(e.Value) != len(plan.Hash{}) {
			return false
		}
		target, ok := w.bySelf[plan.Hash(e.Value)]
		return ok && w.Matches(n.To, target)
	})
}

// has: a current resource that the arms describe points to of.
func (w *World) has(n plan.Has, of Candidate) bool {
	self := w.hash.Self(of.Key)
	return slices.ContainsFunc(w.current, func(from Candidate) bool {
		points := slices.ContainsFunc(from.Entries, func(e plan.Entry) bool {
			return slices.Contains(n.Params, e.Param) && bytes.Equal(e.Value, self[:])
		})
		return points && w.Matches(n.From, from)
	})
}
