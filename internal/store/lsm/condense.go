package lsm

import "hash/maphash"

// condenser decides when a container is written whole.
//
//	merge merge … merge  whole  merge … merge  whole …        one key, in time
//
// A container grows by merges, which stand side by side in memtables and young
// tables until a compaction puts them together; until then every reader does.
// Keys that many rows share (a status, a category, a type) would collect
// thousands of them. So the sequencer, after so much was merged into a key,
// reads the container and writes it whole, over which no reader has to look.
//
// What was merged is counted in a fixed table by hashes of keys: keys that
// share a counter are written whole a little more often than they must.
type condenser struct {
	seed   maphash.Seed
	counts []uint8 // nil before the first merge
}

const (
	condenseCounters = 1 << 14
	// condenseAfter is the weight of merges after which a container is written
	// whole: few enough to be read in some microseconds, and so many that what is
	// written stays within the size of a bitmap each 32 groups.
	condenseAfter = 32
	// condenseOrds is how many ords weigh as much as one more merge: 4096, a full
	// array, come due at once.
	condenseOrds = maxArray / condenseAfter
)

func newCondenser() *condenser { return &condenser{seed: maphash.MakeSeed()} }

// due counts a merge of n ords into a key, and reports whether the container
// should be written whole.
func (c *condenser) due(key []byte, n int) bool {
	if c.counts == nil {
		c.counts = make([]uint8, condenseCounters)
	}
	at := &c.counts[maphash.Bytes(c.seed, key)%condenseCounters]
	if weight := int(*at) + 1 + n/condenseOrds; weight < condenseAfter {
		*at = uint8(weight)
		return false
	}
	*at = 0
	return true
}

// union writes rows into a container: merged into it, or whole when that is due.
// No purge of this group may have rewritten the container, as what it wrote is
// not applied yet.
func (g *group) union(key []byte, rows *gather) {
	if s := g.q.store; g.q.condenser.due(key, rows.size()) && !g.purging {
		if value, _, err := get(s.db, key); err == nil && rows.merge(value) == nil {
			must(g.batch.Set(key, rows.encode(), nil))
			return
		}
	}
	must(g.batch.Merge(key, rows.encode(), nil))
}
