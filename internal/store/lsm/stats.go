package lsm

// Stats are figures of one open store, for metrics.
type Stats struct {
	Commits     uint64 // number of the newest commit
	Rows        uint64 // row numbers given
	DiskBytes   uint64 // in Pebble's files, logs included
	MemBytes    uint64 // that memtables take, whatever is in them
	LogBytes    uint64 // in the log and in no table yet
	Compactions int64  // since open
	Flushes     int64  // since open
	L0Files     int64  // not compacted yet: many slow reads, too many stop writes
	Snapshots   int    // states held by views
	FreeBytes   uint64 // on the disk at last sight; 0: not asked, there is no floor
}

// Stats gives the figures now; zero after Close.
func (s *Store) Stats() Stats {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.closed {
		return Stats{}
	}
	m := s.db.Metrics()
	snap := s.published.take()
	defer s.published.drop(snap)
	return Stats{
		Commits: snap.commit, Rows: snap.rid,
		DiskBytes: m.DiskSpaceUsage(), MemBytes: m.MemTable.Size + m.MemTable.ZombieSize, LogBytes: m.WAL.Size,
		Compactions: m.Compact.Count, Flushes: m.Flush.Count,
		L0Files: m.Levels[0].TablesCount, Snapshots: m.Snapshots.Count,
		FreeBytes: s.sequencer.floor.free.Load(),
	}
}

// Memory is what open stores hold in memory, in bytes. Memtables are taken off the block
// cache, and all of it keeps to Options.CacheBytes.
type Memory struct {
	Stores       int   // that are open
	Memtables    int64 // of all stores, whatever is in them
	Claimed      int64 // by stores for memtables
	Room         int64 // for all of it
	MemtableRoom int64 // for memtables of it
	BlockCache   int64
	Columns      int64 // kept (kept.go)
	Rows         int64 // kept (keptrows.go)
	Hashes       int64 // kept of rows' resources (kept.go)
}

// Memory gives the figures now.
func (e *Engine) Memory() Memory {
	m := Memory{Room: e.opts.CacheBytes, MemtableRoom: e.memtables.room, Columns: e.kept.bytes(), Rows: e.keptRows.bytes(), Claimed: e.memtables.sum()}
	e.mu.Lock()
	open := make([]*Store, 0, len(e.stores))
	for _, s := range e.stores {
		open = append(open, s)
	}
	if e.cache != nil {
		m.BlockCache = e.cache.Metrics().Size
	}
	e.mu.Unlock()
	m.Stores = len(open)
	for _, s := range open {
		m.Memtables += int64(s.Stats().MemBytes)
		m.Hashes += s.selves.bytes()
	}
	return m
}
