package lsm

import (
	"context"
	"errors"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
)

// followPiece bounds the changes that are read at once: no iterator is held
// while the caller looks at one.
const followPiece = 128

// Follow implements store.Store. When ctx ends, or the store is closed, the last
// thing given is an error that says so.
func (s *Store) Follow(ctx context.Context, after store.Moment) iter.Seq2[store.Change, error] {
	return func(yield func(store.Change, error) bool) {
		at, err := s.followFrom(ctx, after)
		for err == nil {
			var changes []store.Change
			if changes, at, err = s.changes(ctx, at); err != nil {
				break
			}
			for _, c := range changes {
				if err := ended(ctx, "lsm.Follow"); err != nil {
					yield(store.Change{}, err)
					return
				}
				if !yield(c, nil) {
					return
				}
			}
			if len(changes) == 0 {
				s.await(ctx, at)
			}
		}
		yield(store.Change{}, err)
	}
}

// followFrom is the first row after a moment.
func (s *Store) followFrom(ctx context.Context, after store.Moment) (uint64, error) {
	const op = "lsm.Follow"
	leave, err := s.enter(ctx, op)
	if err != nil || after == "" {
		if err == nil {
			leave()
		}
		return 0, err
	}
	defer leave()
	now := s.published.take()
	defer s.published.drop(now)
	rid, err := parseMoment(op, after, now.state)
	return rid, err
}

// changes reads a piece of what was committed from a row on, and says where the
// next piece begins.
func (s *Store) changes(ctx context.Context, from uint64) (changes []store.Change, next uint64, err error) {
	const op = "lsm.Follow"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return nil, from, err
	}
	defer leave()
	now := s.published.take()
	defer s.published.drop(now)
	if from >= now.rid {
		return nil, from, nil
	}
	it, err := now.NewIter(&pebble.IterOptions{LowerBound: bodyKey(from), UpperBound: bodyKey(now.rid)})
	if err != nil {
		return nil, from, fault.Wrap(fault.Internal, op, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid() && len(changes) < followPiece; it.Next() {
		c, rid, err := s.changeAt(it)
		if err != nil {
			return nil, from, fault.Wrap(fault.Internal, op, err)
		}
		changes = append(changes, c)
		next = rid + 1
	}
	if !it.Valid() {
		next = now.rid
	}
	return changes, next, fault.Wrap(fault.Internal, op, it.Error())
}

func (s *Store) changeAt(it *pebble.Iterator) (store.Change, uint64, error) {
	rid, err := keyRID(it.Key())
	if err != nil {
		return store.Change{}, 0, err
	}
	row, err := it.ValueAndErr()
	if err != nil {
		return store.Change{}, 0, err
	}
	h, packed, err := s.bodies.open(row)
	if err != nil {
		return store.Change{}, 0, err
	}
	c := store.Change{Purged: h.purge, Moment: moment(h.commit, h.endAt(rid))}
	if h.purge {
		c.Key = h.key
		return c, rid, nil
	}
	c.Record, err = s.recordOf(nil, &h, packed)
	return c, rid, err
}

// await waits until there is a row from at on, or until waiting is over for
// another reason, which the caller will find.
func (s *Store) await(ctx context.Context, at uint64) {
	select {
	case <-s.published.wait(state{rid: at}):
	case <-ctx.Done():
	case <-s.sequencer.done:
	}
}
