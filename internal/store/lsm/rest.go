package lsm

import (
	"context"
	"path"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// What is in the log is brought into tables while nobody waits for it: when nothing
// is written any more (settle.go), and before the store is closed. Pebble would
// write the same tables at the next opening, while somebody waits, and would leave
// the store with a memtable twice as large as the log that it read again.
const (
	// restSpare is what must stay free above the floor beside the tables, for the
	// manifest and a new log: without it the log stays, as Pebble tries again for ever
	// to write a table, and ends the process when it cannot write the others.
	restSpare = 8 << 20
	// restLook is how often a store that is closed looks whether flushes lag.
	restLook = 5 * time.Millisecond
	// restSublevels is how far level 0 must be from where Pebble lets those who
	// write wait for compactions.
	restSublevels = stopSublevels / 2
	// stopMemtables and stopSublevels are Pebble's thresholds for that wait.
	stopMemtables, stopSublevels = memtablesEach, 40
)

// lags reports whether so much waits to be flushed that Pebble would begin no other
// memtable.
func (s *Store) lags(m *pebble.Metrics) bool {
	return m.MemTable.Size >= stopMemtables*uint64(s.mem.all.most)
}

// logged gives how many bytes of the log are in no table, if they can be brought
// there now: 0 also says that Pebble would wait for compactions or flushes, or that
// the disk has no room.
func (s *Store) logged() uint64 {
	m := s.db.Metrics()
	s.weigh(m)
	switch {
	case m.Levels[0].Sublevels >= restSublevels,
		s.lags(m),
		!s.sequencer.floor.fits(2*m.WAL.Size + restSpare): // tables are smaller than the log; twice, for what others write meanwhile
		return 0
	}
	return m.WAL.Size
}

// rest brings the log into tables, if it has so many bytes at least, and waits for
// them until ctx ends.
func (s *Store) rest(ctx context.Context, from uint64) error {
	if n := s.logged(); n == 0 || n < from {
		return nil
	}
	return s.flush(ctx, nil)
}

// restClosing is rest for a store that is closed, when nobody else uses the database
// any more. Compactions are left for the next opening. A store whose log cannot be
// written is left as it is: Pebble ends the process when it cannot finish a log.
func (s *Store) restClosing() {
	if s.sequencer.broken != nil {
		return
	}
	s.compactions.Unregister()
	defer func() {
		m := s.db.Metrics()
		s.rested = m.WAL.Size == 0 && m.MemTable.Count == 1 && s.disk.lost() == nil
	}()
	ctx, cancel := context.WithTimeout(context.Background(), s.tuning.restWithin)
	defer cancel()
	for s.lags(s.db.Metrics()) && ctx.Err() == nil { // flushes under way go on
		pause(ctx, restLook)
	}
	if err := s.rest(ctx, 1); err != nil {
		s.log.Warn("the log was not brought into tables before the store was closed; the next opening reads it", "error", err)
	}
}

// emptyLog is more than Pebble's mark of a log's end takes, and less than a record.
const emptyLog = 16

// removeLog removes the log of a store that rests, after its database was closed.
// Pebble would read nothing in it, but flush an empty memtable for it while a request
// waits, and begin with one twice as large.
func (s *Store) removeLog() error {
	if !s.rested {
		return nil
	}
	dir := s.dir.join(databaseName)
	names, err := s.sealed.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if path.Ext(name) != ".log" {
			continue
		}
		name = s.sealed.PathJoin(dir, name)
		if info, err := s.sealed.Stat(name); err != nil || info.Size() > emptyLog {
			return err // what is left is read
		}
		if err := s.sealed.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
