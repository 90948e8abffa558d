package lsm

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
)

// sweepPasses bounds how often tables are looked through for what deletions left:
// commits go on meanwhile, and what they delete is for the next Scrub. On a busy
// machine three passes were not always enough for a store at rest, where Pebble's
// own compactions go on beside.
const sweepPasses = 16

// sweep has tables written again in which deletions stand: their keys are those
// of what was deleted. Pebble moves a table that overlaps no other to the level
// below without writing it, so a compaction alone may leave them at the bottom.
// Deletions of two keys that no key can be, right around the first key of such a
// table, make a table above it that overlaps it; both come together then, and
// nothing of either is left. It is not clean when it had to give up: a store that
// is written to always has deletions somewhere.
func (s *Store) sweep(ctx context.Context, op string) (clean bool, err error) {
	for range sweepPasses {
		around, err := s.deletions()
		if err != nil {
			return false, wrapDisk(op, err)
		}
		if len(around) == 0 {
			return true, nil
		}
		for _, span := range around {
			edits := []metaEdit{{key: span[0]}, {key: span[1]}}
			if _, err := s.sequencer.submit(ctx, &request{meta: edits}); err != nil {
				return false, err
			}
		}
		for _, span := range around {
			if err := s.db.Compact(ctx, span[0], span[1], false); err != nil {
				return false, interruption(ctx, op, err)
			}
		}
	}
	return false, nil
}

// deletions lists, for each table that holds some, two keys around its first. A
// key cut short and one with a byte too much have the form of no key, but for
// those of meta entries, whose deletions tell of nobody.
func (s *Store) deletions() (around [][2][]byte, err error) {
	levels, err := s.db.SSTables(pebble.WithProperties())
	if err != nil {
		return nil, err
	}
	for _, level := range levels {
		for _, t := range level {
			first := t.Smallest.UserKey
			if t.Properties == nil || t.Properties.NumDeletions == 0 || len(first) < 2 || first[0] == spaceMeta {
				continue
			}
			before := append([]byte(nil), first[:len(first)-1]...)
			after := append(append([]byte(nil), first...), 0)
			around = append(around, [2][]byte{before, after})
		}
	}
	return around, nil
}
