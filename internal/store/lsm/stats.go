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

// CacheStats are figures of the block cache that all stores share.
type CacheStats struct {
	Bytes        int64
	Hits, Misses int64
}

// CacheStats gives the figures now; zero while no store is open.
func (e *Engine) CacheStats() CacheStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cache == nil {
		return CacheStats{}
	}
	m := e.cache.Metrics()
	return CacheStats{Bytes: m.Size, Hits: m.Hits, Misses: m.Misses}
}
