package searchparam

import "github.com/tarn-fhir/tarn/internal/fhir"

// trie is all paths of a type's parameters, put together so that one pass over
// a resource serves them all: what no path names is skipped with all below it.
type trie struct {
	takers []taker
	self   []edge // filters of the node itself
	edges  map[fhir.Name][]edge
}

// edge leads to a member, or when it is in self, stays. keep may be nil.
type edge struct {
	keep filter
	to   *trie
}

// taker is a parameter that takes a node, as a value of a type.
type taker struct {
	index int // into the type's extractions
	typ   string
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
	if s.name == 0 {
		next := &trie{}
		t.self = append(t.self, edge{s.keep, next})
		return next
	}
	if t.edges == nil {
		t.edges = map[fhir.Name][]edge{}
	}
	for _, e := range t.edges[s.name] {
		if e.keep == nil && s.keep == nil {
			return e.to
		}
	}
	next := &trie{}
	t.edges[s.name] = append(t.edges[s.name], edge{s.keep, next})
	return next
}

// visit gives every node that a path leads to.
func (t *trie) visit(n fhir.Node, take func(taker, fhir.Node)) {
	for _, taken := range t.takers {
		take(taken, n)
	}
	for _, e := range t.self {
		if e.keep(n, 0) {
			e.to.visit(n, take)
		}
	}
	if t.edges == nil || n.Kind() != fhir.Object {
		return
	}
	for c := range n.Children() {
		name := c.NameID()
		if name == 0 { // not interned when the resource was parsed
			name = fhir.LookupName(c.Name())
		}
		for _, e := range t.edges[name] {
			e.items(c, take)
		}
	}
}

// items visits a member, or each item of it.
func (e edge) items(n fhir.Node, take func(taker, fhir.Node)) {
	if n.Kind() != fhir.Array {
		e.item(n, 0, take)
		return
	}
	place := 0
	for item := range n.Children() {
		if e.item(item, place, take) {
			place++
		}
	}
}

// item visits one; it reports false for null, which has no place.
func (e edge) item(n fhir.Node, place int, take func(taker, fhir.Node)) bool {
	if n.Kind() == fhir.Null {
		return false
	}
	if e.keep == nil || e.keep(n, place) {
		e.to.visit(n, take)
	}
	return true
}
