package plan

import (
	"bytes"
	"slices"
)

// Meets reports whether entries meet a condition that looks at nothing else: ok
// is false for one that does (times, chains, bodies). id is what IDs asks for.
func Meets(node Node, id string, entries []Entry) (meets, ok bool) {
	switch n := node.(type) {
	case nil:
		return true, true
	case Term:
		return has(entries, n.Param, func(v []byte) bool { return bytes.Equal(v, n.Value) }), true
	case Range:
		return has(entries, n.Param, n.Holds), true
	case Contains:
		return has(entries, n.Param, func(v []byte) bool { return bytes.Contains(v, n.Part) }), true
	case IDs:
		return slices.Contains(n.IDs, id), true
	case And:
		return every(n, true, id, entries)
	case Or:
		return every(n, false, id, entries)
	case Not:
		meets, ok = Meets(n.Of, id, entries)
		return !meets, ok
	}
	return false, false
}

// every is whether all parts are as wanted, else the opposite.
func every(parts []Node, want bool, id string, entries []Entry) (meets, ok bool) {
	meets = want
	for _, part := range parts {
		one, known := Meets(part, id, entries)
		if !known {
			return false, false
		}
		if one != want {
			meets = !want
		}
	}
	return meets, true
}

func has(entries []Entry, param Param, ok func([]byte) bool) bool {
	return slices.ContainsFunc(entries, func(e Entry) bool { return e.Param == param && ok(e.Value) })
}
