package lsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// TakeEveryWay makes stores that are opened from now on turn from one way of
// answering to another after very few rows.
func (e *Engine) TakeEveryWay() {
	e.tuning = tuning{scanProbe: 2, scanRows: 8, joinProbe: 1, hasRowCost: 1, hasKeptCost: 2, selfShare: 1, walkFrom: 2, ingestFrom: 3, importOps: 20, spareRows: 2, sheetRows: 5, cutFrom: 1, cutSpare: 1, settleAfter: time.Hour, settleTables: 3, restFrom: 1, restWithin: time.Minute, keptShift: 3, keptStep: 4, keptLeast: 2, keptPart: 2, keptFew: 3, keptRowsFrom: 2}
}

// SettleSoon makes stores that are opened from now on put their tables in order
// without waiting.
func (e *Engine) SettleSoon() { e.tuning.settleAfter = time.Millisecond }

// SettleFrom leaves what takes fewer bytes as it is.
func (e *Engine) SettleFrom(bytes uint64) { e.tuning.settleFrom = bytes }

// SealAll makes sheets of all facts that are loose.
func (s *Store) SealAll(ctx context.Context) error { return s.sealFacts(ctx) }

// SettlePauses is SettleTables, and counts the pauses for others instead of waiting.
func (s *Store) SettlePauses(ctx context.Context) (paused int, err error) {
	w := settler{store: s, pause: func(context.Context, time.Duration) { paused++ }}
	err = w.settle(ctx)
	return paused, err
}

// SettleTables puts tables in order, as is done when nothing is written.
func (s *Store) SettleTables(ctx context.Context) error { return s.settler.settle(ctx) }

// RestFrom brings so many bytes of the log into tables when nothing is written, and
// lets a store that is closed wait so long for its own.
func (e *Engine) RestFrom(bytes uint64, within time.Duration) {
	e.tuning.restFrom, e.tuning.restWithin = bytes, within
}

// TablesFlushed counts the tables that memtables became since the store was opened,
// those of a log that had to be read included.
func (s *Store) TablesFlushed() uint64 { return s.db.Metrics().Levels[0].TablesFlushed }

// Settle writes everything into tables and compacts them.
func (s *Store) Settle(ctx context.Context) error {
	return errors.Join(s.db.Flush(), s.db.Compact(ctx, []byte{0}, []byte{0xff}, true))
}

// Table is one table: the keyspaces of its first and last key, and the deletions in it.
type Table struct {
	First, Last byte
	Deletions   uint64
}

// Tables lists all tables, after what is in memory was written into some.
func (s *Store) Tables() (all []Table, err error) {
	if err := s.db.Flush(); err != nil {
		return nil, err
	}
	levels, err := s.db.SSTables(pebble.WithProperties())
	for _, tables := range levels {
		for _, t := range tables {
			all = append(all, Table{t.Smallest.UserKey[0], t.Largest.UserKey[0], t.Properties.NumDeletions})
		}
	}
	return all, err
}

// SpaceBytes tells for each keyspace how many bytes a resource takes in tables.
func (s *Store) SpaceBytes(resources int) map[string]uint64 {
	sizes := map[string]uint64{}
	for space := byte(spaceBody); space <= spaceSheet; space++ {
		if n, err := s.db.EstimateDiskUsage([]byte{space}, []byte{space + 1}); err == nil {
			sizes[fmt.Sprintf("%02x", space)] = n / uint64(resources)
		}
	}
	return sizes
}

// Edit sets a key of the database behind everybody's back; nil deletes it.
func (s *Store) Edit(key, value []byte) error {
	if value == nil {
		return s.db.Delete(key, pebble.Sync)
	}
	return s.db.Set(key, value, pebble.Sync)
}

// Entries gives everything in the database, each value as it is after merges.
func (s *Store) Entries() (all map[string]string, err error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	all = map[string]string{}
	for it.First(); it.Valid(); it.Next() {
		all[string(it.Key())] = string(it.Value())
	}
	return all, it.Error()
}

// Only is the engine's one open store.
func (e *Engine) Only() *Store {
	for _, s := range e.stores {
		return s
	}
	return nil
}

// Deletions counts the tables that hold deletions.
func (s *Store) Deletions() (int, error) {
	around, err := s.deletions()
	return len(around), err
}

// SealAround makes a sheet of what is loose, and calls meanwhile before the
// sequencer gets it; changed: it was refused, as facts changed.
func (s *Store) SealAround(ctx context.Context, meanwhile func()) (changed bool, err error) {
	s.sealer.mu.Lock()
	defer s.sealer.mu.Unlock()
	made, err := s.sealer.next(ctx, true)
	if err != nil {
		return false, err
	}
	meanwhile()
	_, err = s.sequencer.submit(ctx, &request{seal: made})
	if errors.Is(err, errChanged) {
		return true, nil
	}
	return false, err
}

// KeptBytes is what the kept columns of all stores take.
func (e *Engine) KeptBytes() int64 { return e.kept.bytes() }

// KeptRowsBytes is what the kept rows of all stores take.
func (e *Engine) KeptRowsBytes() int64 { return e.keptRows.bytes() }

// KeepsRows reports whether rows of an index key are kept of a store.
func (s *Store) KeepsRows(param plan.Param, value []byte) bool {
	k := s.keptRows
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.of[s][string(indexPrefix(param, value))]
	return e != nil && e.Value.(*keptLeaf).rows != nil
}

// SelfShare has stores that are opened from now on compare so many rows with the hash
// of one target, instead of following it.
func (e *Engine) SelfShare(n int64) { e.tuning.selfShare = n }

// KeepsReach gives which rows what is kept of a Has stands for, or 0: those before one.
func (s *Store) KeepsReach(t plan.Type, n plan.Has) (w uint64) {
	snap := s.published.take()
	defer s.published.drop(snap)
	q := newQuery(context.Background(), &reader{store: s, keeps: true}, 0)
	k := s.keptRows
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.of[s][string(q.reachOf(n, t).key)]
	if e == nil || e.Value.(*keptLeaf).rows == nil || e.Value.(*keptLeaf).at.buried != snap.buried {
		return 0
	}
	return e.Value.(*keptLeaf).at.w
}

// Loose is how many rows may have loose facts.
func (s *Store) Loose() uint64 {
	snap := s.published.take()
	defer s.published.drop(snap)
	return snap.rid - snap.loose
}

// KeepSoon makes stores that are opened from now on look at rows, and keep columns
// of few rows of each run, soon.
func (e *Engine) KeepSoon() {
	e.tuning = usualTuning
	e.tuning.scanProbe, e.tuning.joinProbe, e.tuning.hasRowCost = 1, 0, 1
	e.tuning.sheetRows, e.tuning.cutFrom, e.tuning.cutSpare = 7, 1, 1
	e.tuning.keptShift, e.tuning.keptStep, e.tuning.keptLeast, e.tuning.keptPart, e.tuning.keptFew = 4, 8, 3, 4, 5
}

// WritesWait reports whether writes wait for space.
func (s *Store) WritesWait() bool { return s.disk.held() }
