// Package plan is the small algebra between FHIR search and a storage engine.
//
// A resource is known to an engine by a Key, some bytes, and its index entries:
//
//	Entry = Param (number, facet) → Value (opaque bytes that sort as they mean)
//
// A Plan is a tree over entries: Term, Range, Contains, Updated, IDs, And, Or,
// Not, Chain, Has; and Test, over a body. Everything FHIR knows (prefixes, modifiers, precision,
// aliases, chains by name, authorization) is compiled into it above this
// package, once; everything an engine knows (blocks, tables, SQL) happens below
// it. An engine compares bytes and knows no FHIR.
//
// The meaning of each node is defined here and evaluated plainly by
// store/memory; every other engine must answer the same.
package plan

import (
	"bytes"
	"time"
)

// Type is the frozen number of a resource type. Numbers from SystemTypes on are
// Tarn's own documents; they are never seen through FHIR.
type Type uint16

// SystemTypes is the first number of Tarn's own document types.
const SystemTypes Type = 0x8000

// Param names one column of entries: a search parameter's frozen number and one
// facet of it. It is persisted as four big-endian bytes.
type Param uint32

// NewParam puts number and facet together.
func NewParam(number uint16, facet uint8) Param { return Param(number)<<8 | Param(facet) }

// Number is the search parameter's frozen number.
func (p Param) Number() uint16 { return uint16(p >> 8) }

// Facet is the kind of entry under that number; package search names them.
func (p Param) Facet() uint8 { return uint8(p) }

// Entry is one index entry of one resource version. Value is at most
// MaxValueBytes long; a resource has each (Param, Value) at most once.
type Entry struct {
	Param Param
	Value []byte
}

// MaxValueBytes bounds an entry's value: the longest is folded text.
const MaxValueBytes = 2048

// Key names a resource inside one data store.
type Key struct {
	Type Type
	ID   string // 1 to 64 characters of [A-Za-z0-9-.]
}

// Plan is one search.
type Plan struct {
	// Arms are alternatives over resource types: a resource matches when it is
	// of an arm's type and meets that arm's condition. A type stands in at most
	// one arm. No arms, no matches.
	Arms []Arm
	// Sort orders matches; ties, and everything when empty, go by commit order,
	// newest first.
	Sort []Sort
	// After continues a page: the Next of the page before, of the same plan at
	// the same moment. Nil begins.
	After []byte
	// Limit is the page size; 0 gives no records, only what Total asks.
	Limit int
	Total TotalMode
	// Work bounds the rows an engine may look at; beyond it the search fails
	// with fault.TooCostly, never with a short answer. 0 is no bound.
	Work int64
}

// Arm is a condition over one type.
type Arm struct {
	Type  Type
	Where Node // nil is every resource of the type
}

// Sort is one sort key.
type Sort struct {
	By   SortBy
	Desc bool
	// Params, for ByParam: the facets to sort by, one or more per type that has
	// it. A resource counts with its smallest value over all of them ascending
	// and its largest descending; resources without a value come last in both
	// directions.
	Params []Param
}

// SortBy is what a sort key looks at.
type SortBy uint8

// The sort keys.
const (
	ByParam   SortBy = iota // an entry's value
	ByUpdated               // time of the version, then commit order
	ByID                    // the id's bytes
	ByType                  // the type's number
)

// TotalMode is how exact the number of matches must be.
type TotalMode uint8

// The total modes.
const (
	TotalNone     TotalMode = iota
	TotalEstimate           // an upper bound, cheap
	TotalExact
)

// Node is a condition on one resource. A nil Node is true.
type Node interface{ node() }

// Test: Holds says so of the resource's body. It is for what no entry can say:
// an engine asks every other condition first, reads bodies one by one for the
// rest, and counts TestWork rows for each. Holds has no state, errors or values
// of its own to tell, and may be called from many goroutines; of a deletion it
// is told the body of the version before. Name is told by an explanation.
type Test struct {
	Name  string
	Holds func(key Key, body []byte) bool
}

// TestWork is how many rows the reading of one body counts for (Plan.Work).
const TestWork = 16

// Term: the resource has exactly this entry.
type Term struct {
	Param Param
	Value []byte
}

// Range: the resource has an entry v of Param with Low ≤ v < High (bytes
// compared; nil bounds are open) for which, when Tail is set, the bytes of v
// from Tail.At on lie in Tail.Low ≤ t < Tail.High too: one entry meets both.
// A v shorter than Tail.At fails the tail.
type Range struct {
	Param     Param
	Low, High []byte
	Tail      *Tail
}

// Tail bounds the later bytes of a value: the second half of an interval or of
// a composite.
type Tail struct {
	At        int
	Low, High []byte
}

// Prefix is the range of all values that begin with p.
func Prefix(param Param, p []byte) Range {
	return Range{Param: param, Low: p, High: Successor(p)}
}

// Contains: the resource has an entry of Param whose value contains Part.
type Contains struct {
	Param Param
	Part  []byte
}

// Updated: the version became current at a time t with Low ≤ t < High; zero
// times are open. Times count in milliseconds.
type Updated struct{ Low, High time.Time }

// Created: as Updated, for the time of the resource's first version.
type Created struct{ Low, High time.Time }

// IDs: the resource's id is one of these.
type IDs struct{ IDs []string }

// And: all hold. Empty is true.
type And []Node

// Or: at least one holds. Empty is false.
type Or []Node

// Not: the resource does not meet Of.
type Not struct{ Of Node }

// Chain: the resource has an entry of one of Params that equals the self hash
// (HashKey.Self) of a current resource that one of To describes. Each target
// type carries its own condition: no hop escapes it.
type Chain struct {
	Params []Param
	To     []Arm
}

// Has: a current resource that From describes has an entry of one of Params
// that equals the self hash of this resource.
type Has struct {
	Params []Param
	From   []Arm
}

func (Test) node()     {}
func (Term) node()     {}
func (Range) node()    {}
func (Contains) node() {}
func (Updated) node()  {}
func (Created) node()  {}
func (IDs) node()      {}
func (And) node()      {}
func (Or) node()       {}
func (Not) node()      {}
func (Chain) node()    {}
func (Has) node()      {}

// Holds reports whether one value lies in the range: the meaning of Range.
func (r Range) Holds(v []byte) bool {
	return between(v, r.Low, r.High) && r.Tail.holds(v)
}

func (t *Tail) holds(v []byte) bool {
	return t == nil || len(v) >= t.At && between(v[t.At:], t.Low, t.High)
}

func between(v, low, high []byte) bool {
	return bytes.Compare(v, low) >= 0 && (high == nil || bytes.Compare(v, high) < 0)
}

// Holds reports whether t lies in the span: the meaning of Updated.
func (u Updated) Holds(t time.Time) bool {
	return !t.Before(u.Low) && (u.High.IsZero() || t.Before(u.High))
}

// Holds reports whether t lies in the span: the meaning of Created.
func (c Created) Holds(t time.Time) bool { return Updated(c).Holds(t) }

// Successor is the smallest byte string above every string that begins with p,
// or nil when there is none.
func Successor(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			next := bytes.Clone(p[:i+1])
			next[i]++
			return next
		}
	}
	return nil
}
