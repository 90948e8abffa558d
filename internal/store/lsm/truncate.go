package lsm

import (
	"bytes"
	"context"
	"errors"
	"sort"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// truncatePiece bounds the rows that are taken away in one write.
const truncatePiece = 1000

var _ store.Truncater = (*Store)(nil)

// Truncate implements store.Truncater. Rows go from the newest down, piece by
// piece, and each piece leaves a store that agrees with itself: what a crash
// leaves is a store cut off a little later.
func (s *Store) Truncate(ctx context.Context, after time.Time) error {
	const op = "lsm.Truncate"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return err
	}
	defer leave()
	first, err := s.firstAfter(after.UnixMilli())
	if err == nil {
		err = s.forgetLast()
	}
	for more := true; err == nil && more; {
		if err = ended(ctx, op); err == nil {
			more, err = s.cut(ctx, first)
		}
	}
	return fault.Wrap(fault.Internal, op, err)
}

// firstAfter is the first row dated after a time: rows are in the order of their
// dates.
func (s *Store) firstAfter(ms int64) (uint64, error) {
	snap := s.published.take()
	defer s.published.drop(snap)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceBody}, UpperBound: []byte{spaceBody + 1}})
	if err != nil {
		return 0, err
	}
	var failed error
	at := sort.Search(int(snap.rid), func(rid int) bool {
		if !it.SeekGE(bodyKey(uint64(rid))) {
			return true
		}
		h, _, err := s.bodies.open(it.Value())
		failed = errors.Join(failed, err)
		return h.updated > ms
	})
	return uint64(at), errors.Join(failed, it.Error(), it.Close())
}

// cut takes away the newest rows from first on, a piece of them; more says that
// there may be others.
func (s *Store) cut(ctx context.Context, first uint64) (more bool, err error) {
	q := newQuery(ctx, &reader{store: s, r: s.db, w: maxRID, live: true}, 0)
	defer func() { err = q.close(err) }()
	c := cutter{query: q, mender: mender{store: s, ctx: ctx, sets: map[string][]byte{}}, drops: map[string][]uint16{}, resources: map[plan.Hash]bool{}}
	low, err := c.rows(first)
	if err != nil || len(c.sets) == 0 {
		return false, err
	}
	if err := c.sheets(low); err != nil {
		return false, err
	}
	for key, ords := range c.drops {
		if err := c.change(key, ords, false); err != nil {
			return false, err
		}
	}
	for self := range c.resources {
		if err := c.resource(self, low); err != nil {
			return false, err
		}
	}
	c.sets[string(purgedKey)] = []byte{} // for Scrub: the bytes are still in files
	return low > first, c.writeWhole()
}

type cutter struct {
	mender
	query     *query
	drops     map[string][]uint16
	resources map[plan.Hash]bool
}

// rows notes the newest rows from first on, and gives the oldest of them.
func (c *cutter) rows(first uint64) (low uint64, err error) {
	it, err := c.store.db.NewIter(&pebble.IterOptions{LowerBound: bodyKey(first), UpperBound: []byte{spaceBody + 1}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := 0
	for it.Last(); it.Valid() && n < truncatePiece; it.Prev() {
		if low, err = keyRID(it.Key()); err != nil {
			return 0, err
		}
		if err := c.row(low, it.Key(), it.Value()); err != nil {
			return 0, err
		}
		n++
	}
	return low, it.Error()
}

// row notes that a row goes, and with it what leads to it.
func (c *cutter) row(rid uint64, key, row []byte) error {
	h, _, err := c.store.bodies.open(row)
	if err != nil {
		return err
	}
	c.sets[string(key)] = nil
	if h.purge {
		return nil // the resource stays purged
	}
	containers, err := c.query.containersOf(rid)
	if err != nil {
		return err
	}
	for _, container := range containers {
		c.drops[string(container)] = append(c.drops[string(container)], c.store.ord(rid))
	}
	c.sets[string(factsKey(rid))], c.sets[string(successorKey(rid))] = nil, nil
	c.resources[c.store.hash.Self(h.key)] = true
	return nil
}

// sheets takes the rows from low on out of sheets.
func (c *cutter) sheets(low uint64) error {
	return c.eachKey(sheetKey(low), []byte{spaceSheet + 1}, func(key, raw []byte) error {
		last, err := keyRID(key)
		if err != nil {
			return err
		}
		c.sets[string(key)] = nil
		s, err := parseSheet(last, raw)
		if err != nil || s.first >= low {
			return err
		}
		b := newSheetBuilder(c.query, s.first)
		for rid := s.first; rid < low; rid++ {
			if err := b.add(rid); err != nil {
				return err
			}
			c.sets[string(factsKey(rid))] = nil
		}
		if b.any {
			c.sets[string(sheetKey(low-1))] = c.store.tuning.sheets().encode(b.rows())
		}
		return nil
	})
}

// resource makes the newest version before row low the current one.
func (c *cutter) resource(self plan.Hash, low uint64) error {
	past := reader{store: c.store, r: c.store.db, w: low}
	p, err := past.pointer(self)
	if err != nil {
		return err
	}
	keys, err := c.store.historyKeys(self)
	if err != nil {
		return err
	}
	for _, key := range keys {
		version, err := historyVersion(key)
		if err != nil {
			return err
		}
		if !p.found || version >= p.version {
			c.sets[string(bytes.Clone(key))] = nil
		}
	}
	if !p.found {
		c.sets[string(pointerKey(self))] = nil
		return nil
	}
	c.sets[string(pointerKey(self))] = p.append(nil)
	c.sets[string(successorKey(p.rid))] = nil
	return c.change(string(deadKey(uint32(p.rid>>c.store.shift))), []uint16{c.store.ord(p.rid)}, false)
}
