package store

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// What every engine refuses alike, so that engines differ in nothing but speed.

// MaxIDLen bounds an ID and the id of a plan.Key, in characters.
const MaxIDLen = 64

// CheckCommit refuses ops that are against the contract (fault.Invalid), and a
// key that two of them write (fault.Conflict).
func CheckCommit(op string, ops []Op) error {
	written := make(map[plan.Key]bool, len(ops))
	for i := range ops {
		if err := CheckOp(op, &ops[i]); err != nil {
			return err
		}
		if ops[i].Kind == Check {
			continue
		}
		if written[ops[i].Key] {
			return fault.New(fault.Conflict, op, "operation %d writes a key that another writes too", i)
		}
		written[ops[i].Key] = true
	}
	return nil
}

// CheckOp refuses an operation that is against the contract: fault.Invalid.
func CheckOp(op string, o *Op) error {
	switch o.Kind {
	case Put:
	case Delete, Purge, Check:
		if len(o.Body) > 0 || len(o.Entries) > 0 {
			return fault.New(fault.Invalid, op, "only a put has a body and entries")
		}
	default:
		return fault.New(fault.Invalid, op, "an operation of unknown kind")
	}
	asksKey := o.Kind != Check
	for i := range o.If {
		asksKey = asksKey || o.If[i].Kind != Matches
		if err := checkCondition(op, &o.If[i]); err != nil {
			return err
		}
	}
	if (asksKey || o.Key != plan.Key{}) && !validResourceID(o.Key.ID) {
		return fault.New(fault.Invalid, op, "not the id of a resource")
	}
	return checkEntries(op, o.Entries)
}

// CheckReindex refuses what is against the contract of Store.Reindex.
func CheckReindex(op string, versions []Reentry) error {
	seen := make(map[plan.Key]bool, len(versions))
	for _, v := range versions {
		if !validResourceID(v.Key.ID) {
			return fault.New(fault.Invalid, op, "not the id of a resource")
		}
		if seen[v.Key] {
			return fault.New(fault.Conflict, op, "a key twice")
		}
		seen[v.Key] = true
		if err := checkEntries(op, v.Entries); err != nil {
			return err
		}
	}
	return nil
}

func checkCondition(op string, cond *Condition) error {
	switch cond.Kind {
	case AtVersion, Exists, Absent, Never:
		return nil
	case Matches:
		return CheckPlan(op, cond.Plan)
	default:
		return fault.New(fault.Invalid, op, "a condition of unknown kind")
	}
}

func checkEntries(op string, entries []plan.Entry) error {
	sorted := InOrder(entries)
	for i, e := range sorted {
		if len(e.Value) > plan.MaxValueBytes {
			return fault.New(fault.Invalid, op, "an entry's value longer than %d bytes", plan.MaxValueBytes)
		}
		if i > 0 && CompareEntries(sorted[i-1], e) == 0 {
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
	return 0 < len(id) && len(id) <= MaxIDLen
}

// MaxDepth bounds the nesting of a plan's conditions, chains included: far
// above what FHIR search can write, far below what a stack bears.
const MaxDepth = 200

// CheckPlan refuses a plan that package plan does not allow: fault.Invalid.
func CheckPlan(op string, p *plan.Plan) error {
	if p == nil {
		return fault.New(fault.Invalid, op, "no plan")
	}
	if p.Limit < 0 || p.Work < 0 {
		return fault.New(fault.Invalid, op, "a bound below zero")
	}
	return CheckArms(op, p.Arms)
}

// CheckArms refuses a type in two arms, and conditions that package plan does
// not allow: fault.Invalid.
func CheckArms(op string, arms []plan.Arm) error { return checkArms(op, arms, MaxDepth) }

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
	case plan.Test:
		if n.Holds == nil {
			return fault.New(fault.Invalid, op, "a test that asks nothing")
		}
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

// InOrder gives entries in the order of CompareEntries: as they are when they
// have it, which they do where they come from.
func InOrder(entries []plan.Entry) []plan.Entry {
	if slices.IsSortedFunc(entries, CompareEntries) {
		return entries
	}
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, CompareEntries)
	return sorted
}

// CompareEntries orders entries by parameter, then by the bytes of the value.
func CompareEntries(a, b plan.Entry) int {
	if a.Param != b.Param {
		return cmp.Compare(a.Param, b.Param)
	}
	return bytes.Compare(a.Value, b.Value)
}
