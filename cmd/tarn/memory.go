package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// The memory of a server is one number, --memory-mib:
//
//	a quarter    block cache, kept columns and rows, and memtables of all open data stores:
//	             memtables are taken off the cache, and may take half of it all
//	the whole    the collector's limit (GOMEMLIMIT), less what the executable itself
//	             takes: towards it, it runs more often rather than let the heap grow
//
// The rest is what requests under way, imports and open stores need.
const (
	// leastMemory is the least --memory-mib that a server works well in.
	leastMemory = 64
	// programMiB is what is resident of the executable and of threads under load,
	// which the collector does not count, and by how much a load is ahead of it:
	// a preload of 92,114 resources from files peaked at 520 MiB with 72 here, at
	// 495 with 112, by the default of 512 and for the same processor time.
	programMiB = 112
	// cacheShare is the part of the memory that caches and memtables get.
	cacheShare = 4
	// memtableShare is the part of those that one memtable may grow to, between
	// leastMemtable and mostMemtable bytes. A store under load has up to three.
	memtableShare = 8
	leastMemtable = 1 << 20
	mostMemtable  = 16 << 20
)

// budget divides the memory: bytes that all stores share, and that one memtable
// may grow to.
func (c *serveCommand) budget() (shared, memtable int64) {
	shared = c.CacheMiB << 20
	if shared == 0 {
		shared = c.MemoryMiB << 20 / cacheShare
	}
	return shared, min(max(shared/memtableShare, leastMemtable), mostMemtable)
}

// maxOpen is how many data stores may be open at once: beside the system store, as many
// as there is memory for their smallest memtables, unless the operator says another
// number.
func (c *serveCommand) maxOpen(log *slog.Logger) int {
	shared, _ := c.budget()
	room := max(1, lsm.MostOpen(shared)-1)
	if c.MaxOpen > room {
		log.Warn("--max-open is more than --memory-mib has room for: the block cache gives way to memtables, and requests take longer", "max-open", c.MaxOpen, "room", room)
	}
	if c.MaxOpen > 0 {
		return c.MaxOpen
	}
	return min(room, datastore.DefaultMaxOpen)
}

// limitMemory tells the collector, unless the operator has done so.
func (c *serveCommand) limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max(c.MemoryMiB-programMiB, c.MemoryMiB/2) << 20)
	}
}
