package search

import (
	"maps"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Access is a set of what a caller may do to resources: SMART's cruds.
type Access uint8

// The accesses.
const (
	Create Access = 1 << iota
	Read
	Update
	Delete
	Search
	AllAccess = Create | Read | Update | Delete | Search
)

// Rule allows Access to the resources of a type that meet Where; nil is all of
// them.
type Rule struct {
	Access Access
	Where  plan.Node
}

// Grant is what a caller may see and change: rules per type, any of which is
// enough. What no rule allows does not exist for the caller. It does not change
// once made.
type Grant struct {
	everything bool
	rules      map[plan.Type][]Rule
}

// Everything is the Grant without bounds.
func Everything() *Grant { return &Grant{everything: true} }

// NewGrant is a Grant by rules per type; a type without rules is shut. The
// conditions are as Compile makes them, under the store's hash key, and hold
// within one store only.
func NewGrant(rules map[plan.Type][]Rule) *Grant { return &Grant{rules: maps.Clone(rules)} }

// Where is the condition under which a resource of a type may be accessed so;
// ok is false when no condition allows it. A nil Grant allows nothing.
func (g *Grant) Where(t plan.Type, access Access) (where plan.Node, ok bool) {
	if g == nil {
		return nil, false
	}
	if g.everything {
		return nil, true
	}
	var any plan.Or
	for _, r := range g.rules[t] {
		if r.Access&access == access {
			any = append(any, r.Where)
		}
	}
	if len(any) == 0 {
		return nil, false
	}
	return Simplify(any), true
}

// Unbounded reports whether the Grant is Everything.
func (g *Grant) Unbounded() bool { return g != nil && g.everything }

// Arm narrows a condition on a type to what may be searched; ok is false when
// nothing is left of the type. Every arm that goes into a plan passes here:
// matches, chain targets, _has sources, includes and history.
func (g *Grant) Arm(t plan.Type, where plan.Node) (arm plan.Arm, ok bool) {
	return g.ArmFor(t, Search, where)
}

// ArmFor is Arm for another access: Read for a read by id or a version.
func (g *Grant) ArmFor(t plan.Type, access Access, where plan.Node) (arm plan.Arm, ok bool) {
	allowed, ok := g.Where(t, access)
	if !ok {
		return plan.Arm{}, false
	}
	where = Simplify(plan.And{where, allowed})
	if isFalse(where) {
		return plan.Arm{}, false
	}
	return plan.Arm{Type: t, Where: where}, true
}

// Arms narrows whole types: for history (store.HistoryQuery.Where) and exports.
func (g *Grant) Arms(types []plan.Type, access Access) []plan.Arm {
	var arms []plan.Arm
	for _, t := range types {
		if arm, ok := g.ArmFor(t, access, nil); ok {
			arms = append(arms, arm)
		}
	}
	return arms
}
