package lsm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

const (
	// maxRepairs is how often a repair looks again: what one mend uncovers is
	// found by the next look.
	maxRepairs = 4
	// maxMends bounds what is noted in one look, in entries, for the memory's
	// sake; the next look finds the rest.
	maxMends = 1 << 20
	// mendEdits bounds the entries of one write.
	mendEdits = 4096
)

var _ store.Repairer = (*Store)(nil)

// Repair implements store.Repairer. Versions (01) are what is true. What leads
// to them (02, 03, 06, 07, 08) is written anew where it is wrong, and containers
// (04) after the facts (09, 0a) of their rows. Facts that are gone are put together
// again from the containers that have the row.
func (s *Store) Repair(ctx context.Context) (store.Report, error) {
	const op = "lsm.Repair"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return store.Report{}, err
	}
	defer leave()
	mended := int64(0)
	for range maxRepairs {
		m := newMends()
		report, err := s.check(ctx, m)
		report.Mended = mended
		if err != nil || m.size == 0 {
			return report, fault.Wrap(fault.Internal, op, err)
		}
		n, err := s.mend(ctx, m)
		if err != nil {
			return report, fault.Wrap(fault.Internal, op, err)
		}
		mended += n
	}
	report, err := s.check(ctx, nil)
	report.Mended = mended
	return report, fault.Wrap(fault.Internal, op, err)
}

// mends is what a look found that can be written again. A nil *mends notes
// nothing.
type mends struct {
	resources map[plan.Hash]bool   // all that leads to their rows
	facts     map[uint64]plan.Hash // rows whose facts are put together again
	adds      map[string][]uint16  // container → rows that it lacks
	drops     map[string][]uint16  // container → rows that it should not have
	removes   map[string]bool      // keys that should not be there
	bares     map[uint64]bool      // rows of a sheet that should not be there
	size      int
}

func newMends() *mends {
	return &mends{
		resources: map[plan.Hash]bool{}, facts: map[uint64]plan.Hash{}, adds: map[string][]uint16{},
		drops: map[string][]uint16{}, removes: map[string]bool{}, bares: map[uint64]bool{},
	}
}

// room counts one more, unless there are too many.
func (m *mends) room() bool {
	if m == nil || m.size >= maxMends {
		return false
	}
	m.size++
	return true
}

func (m *mends) resource(self plan.Hash) {
	if m.room() {
		m.resources[self] = true
	}
}

func (m *mends) fact(rid uint64, self plan.Hash) {
	if m.room() {
		m.facts[rid] = self
	}
}

func (m *mends) add(key []byte, ord uint16) {
	if m.room() {
		m.adds[string(key)] = append(m.adds[string(key)], ord)
	}
}

func (m *mends) drop(key []byte, ord uint16) {
	if m.room() {
		m.drops[string(key)] = append(m.drops[string(key)], ord)
	}
}

func (m *mends) remove(key []byte) {
	if m.room() {
		m.removes[string(key)] = true
	}
}

func (m *mends) bare(rid uint64) {
	if m.room() {
		m.bares[rid] = true
	}
}

// rebuilds reports whether a row's facts are to be put together again.
func (m *mends) rebuilds(rid uint64) bool {
	if m == nil {
		return false
	}
	_, yes := m.facts[rid]
	return yes
}

// writesAgain reports whether a resource's rows are to be written again.
func (m *mends) writesAgain(self plan.Hash) bool { return m != nil && m.resources[self] }

// mend writes what was noted, and counts it.
func (s *Store) mend(ctx context.Context, m *mends) (int64, error) {
	w := mender{store: s, ctx: ctx, sets: map[string][]byte{}}
	for key := range m.removes {
		w.sets[key] = nil
	}
	for rid := range m.bares {
		w.sets[string(factsKey(rid))] = []byte{noFacts}
	}
	err := errors.Join(w.mendContainers(m), w.mendFacts(m), w.mendResources(m))
	if err != nil {
		return 0, err
	}
	return int64(len(w.sets)), w.write()
}

// mender collects what to write: key → value, nil to delete.
type mender struct {
	store *Store
	ctx   context.Context
	sets  map[string][]byte
}

func (w *mender) write() error {
	edits := make([]metaEdit, 0, len(w.sets))
	for _, key := range slices.Sorted(maps.Keys(w.sets)) {
		edits = append(edits, metaEdit{key: []byte(key), value: w.sets[key]})
	}
	for piece := range slices.Chunk(edits, mendEdits) {
		if _, err := w.store.sequencer.submit(w.ctx, &request{meta: piece}); err != nil {
			return err
		}
	}
	return nil
}

// writeWhole writes everything at once: all of it is there after a crash, or
// nothing.
func (w *mender) writeWhole() error {
	edits := make([]metaEdit, 0, len(w.sets))
	for key, value := range w.sets {
		edits = append(edits, metaEdit{key: []byte(key), value: value})
	}
	_, err := w.store.sequencer.submit(w.ctx, &request{meta: edits})
	return err
}

// container is what a container will be: as noted, else as it is.
func (w *mender) container(key string) (set, error) {
	value, noted := w.sets[key]
	if !noted {
		var err error
		if value, _, err = get(w.store.db, []byte(key)); err != nil {
			return set{}, err
		}
	}
	var s set
	return s, s.load(value)
}

// change writes a container with some rows more or less.
func (w *mender) change(key string, ords []uint16, has bool) error {
	in, err := w.container(key)
	if err != nil {
		if !has {
			return nil // it is removed as a whole, and written again at the next look
		}
		in = set{}
	}
	ords = slices.Sorted(slices.Values(ords))
	all := slices.DeleteFunc(slices.Clone(in.all()), func(o uint16) bool {
		_, found := slices.BinarySearch(ords, o)
		return found
	})
	if has {
		all = append(all, ords...)
		slices.Sort(all)
		all = slices.Compact(all)
	}
	if len(all) == 0 {
		w.sets[key] = nil
		return nil
	}
	w.sets[key] = appendOrds(nil, all)
	return nil
}

func (w *mender) mendContainers(m *mends) error {
	for key, ords := range m.drops {
		if err := w.change(key, ords, false); err != nil {
			return err
		}
	}
	for key, ords := range m.adds {
		if err := w.change(key, ords, true); err != nil {
			return err
		}
	}
	return nil
}

// mendFacts puts facts together from all containers that have their rows.
func (w *mender) mendFacts(m *mends) error {
	if len(m.facts) == 0 {
		return nil
	}
	found := map[uint64][]plan.Entry{}
	err := w.eachIndex(func(param plan.Param, value []byte, rid uint64) {
		if m.rebuilds(rid) {
			found[rid] = append(found[rid], plan.Entry{Param: param, Value: bytes.Clone(value)})
		}
	})
	for rid, self := range m.facts {
		entries := found[rid]
		slices.SortFunc(entries, store.CompareEntries)
		w.sets[string(factsKey(rid))] = appendFacts(nil, self, entries)
	}
	return err
}

// eachIndex calls do for every row of every container of the index.
func (w *mender) eachIndex(do func(param plan.Param, value []byte, rid uint64)) error {
	return w.each(spaceIndex, func(key, raw []byte) error {
		param, escaped, block, err := indexKeyParts(key)
		if err != nil {
			return nil //nolint:nilerr // a stray key, of which the look told
		}
		value, err := unescape(nil, escaped)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		var s set
		if s.load(raw) == nil && s.n > 0 {
			for _, o := range s.all() {
				do(param, value, uint64(block)<<w.store.shift|uint64(o))
			}
		}
		return nil
	})
}

func (w *mender) each(space byte, do func(key, value []byte) error) error {
	return w.eachKey([]byte{space}, []byte{space + 1}, do)
}

func (w *mender) eachKey(lower, upper []byte, do func(key, value []byte) error) (err error) {
	it, err := w.store.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			err = do(it.Key(), value)
		}
		if err := errors.Join(err, ended(w.ctx, "lsm.Repair")); err != nil {
			return err
		}
	}
	return it.Error()
}

// version is one row of a resource that is written again.
type version struct {
	rid uint64
	h   header
}

// mendResources writes again what leads to the rows of resources.
func (w *mender) mendResources(m *mends) error {
	if len(m.resources) == 0 {
		return nil
	}
	versions := map[plan.Hash][]version{}
	err := w.each(spaceBody, func(key, row []byte) error {
		rid, err := keyRID(key)
		if err != nil {
			return nil //nolint:nilerr // the look told of it
		}
		h, _, err := w.store.bodies.open(row)
		if err != nil || h.purge {
			return nil //nolint:nilerr // as above
		}
		if self := w.store.hash.Self(h.key); m.resources[self] {
			versions[self] = append(versions[self], version{rid, h})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for self := range m.resources {
		if err := w.mendResource(self, versions[self]); err != nil {
			return err
		}
	}
	return nil
}

func (w *mender) mendResource(self plan.Hash, versions []version) error {
	slices.SortFunc(versions, func(a, b version) int { return cmp.Compare(a.rid, b.rid) })
	if err := w.forgetResource(self); err != nil {
		return err
	}
	for i, v := range versions {
		last := i == len(versions)-1
		dead := !last && !v.h.deleted
		block := uint32(v.rid >> w.store.shift)
		if err := w.change(string(deadKey(block)), []uint16{w.store.ord(v.rid)}, dead); err != nil {
			return err
		}
		if last {
			p := pointer{rid: v.rid, version: v.h.version, updated: v.h.updated, created: v.h.created, deleted: v.h.deleted}
			w.sets[string(pointerKey(self))] = p.append(nil)
			w.sets[string(successorKey(v.rid))] = nil
			continue
		}
		w.sets[string(historyKey(self, v.h.version))] = appendRID(nil, v.rid)
		w.sets[string(successorKey(v.rid))] = appendRID(nil, versions[i+1].rid)
	}
	return nil
}

// forgetResource notes that nothing leads to a resource.
func (w *mender) forgetResource(self plan.Hash) error {
	w.sets[string(pointerKey(self))] = nil
	keys, err := w.store.historyKeys(self)
	for _, key := range keys {
		w.sets[string(key)] = nil
	}
	return err
}

// historyKeys lists a resource's history keys, in whatever form they are.
func (s *Store) historyKeys(self plan.Hash) (keys [][]byte, err error) {
	prefix := historyPrefix(self)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: plan.Successor(prefix)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		keys = append(keys, bytes.Clone(it.Key()))
	}
	return keys, it.Error()
}
