package searchparam

import "github.com/tarn-fhir/tarn/internal/fhir"

// trie is all paths of a type's parameters, put together so that one pass over
// a resource serves them all: what no path names is skipped with all below it.
type trie struct {
	takers []taker
	self   []edge // filters of the node itself
	// members are the edges by name, in an open table with room to spare: a
	// member's edges are found by its number, or within a few places behind.
	members []branch
	mask    fhir.Name
}

// branch is what leads on from a member of a name; 0 is a free place.
type branch struct {
	name  fhir.Name
	edges []edge
}

// edge leads to a member, or when it is in self, stays. keep may be nil.
type edge struct {
	keep filter
	to   *trie
}

// taker is a parameter that takes a node, as a value of a type.
type taker struct {
	index int // into the type's extractions
	as    element
	parts [][]path // of a composite: what each component takes from the node
}

// add puts a path into the trie.
func (t *trie) add(steps []step, taken taker) {
	if len(steps) == 0 {
		t.takers = append(t.takers, taken)
		return
	}
	t.follow(steps[0]).add(steps[1:], taken)
}

func (t *trie) follow(s step) *trie {
	next := edge{s.keep, &trie{}}
	if s.name == 0 {
		t.self = append(t.self, next)
		return next.to
	}
	for i := range t.members {
		if t.members[i].name != s.name {
			continue
		}
		for _, e := range t.members[i].edges {
			if e.keep == nil && s.keep == nil {
				return e.to
			}
		}
		t.members[i].edges = append(t.members[i].edges, next)
		return next.to
	}
	t.members = append(t.members, branch{s.name, []edge{next}})
	return next.to
}

// settle makes the tables of members, once all paths are in.
func (t *trie) settle() {
	for _, e := range t.self {
		e.to.settle()
	}
	for _, m := range t.members {
		for _, e := range m.edges {
			e.to.settle()
		}
	}
	if len(t.members) == 0 {
		return
	}
	size := 2
	for size < 2*len(t.members) {
		size *= 2
	}
	table := make([]branch, size)
	t.mask = fhir.Name(size - 1)
	for _, m := range t.members {
		at := m.name & t.mask
		for table[at].name != 0 {
			at = (at + 1) & t.mask
		}
		table[at] = m
	}
	t.members = table
}

// edges are those of a member's name.
func (t *trie) edges(name fhir.Name) []edge {
	for at := name & t.mask; ; at = (at + 1) & t.mask {
		m := &t.members[at]
		if m.name == name || m.name == 0 {
			return m.edges
		}
	}
}

// visit takes every node that a path leads to.
func (w *worker) visit(t *trie, n fhir.Node) {
	for i := range t.takers {
		w.take(&t.takers[i], n)
	}
	for _, e := range t.self {
		if e.keep(n, 0) {
			w.visit(e.to, n)
		}
	}
	if len(t.members) == 0 || n.Kind() != fhir.Object {
		return
	}
	for c := n.First(); c.Exists(); c = c.Next() {
		name := c.NameID()
		if name == 0 { // not interned when the resource was parsed
			if name = fhir.LookupName(c.Name()); name == 0 {
				continue
			}
		}
		for _, e := range t.edges(name) {
			w.items(e, c)
		}
	}
}

// items visits a member, or each item of it but for null, which has no place.
func (w *worker) items(e edge, n fhir.Node) {
	place := 0
	for item := n.FirstItem(); item.Exists(); item = item.NextItem() {
		if item.Kind() == fhir.Null {
			continue
		}
		if e.keep == nil || e.keep(item, place) {
			w.visit(e.to, item)
		}
		place++
	}
}
