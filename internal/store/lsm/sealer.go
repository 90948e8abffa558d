package lsm

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// sealer makes sheets of loose facts, beside commits. A run of loose rows becomes
// a sheet when it is as long as a sheet may be, or when a sheet stands behind it;
// loose rows of rows that have a sheet are worked into it. It reads from a
// published state and hands the sheet to the sequencer, which refuses it when
// facts of older rows changed meanwhile: then it is made again.
//
// The lowest loose row comes first, so that all before it are in sheets. A crash
// leaves loose rows, which are found at open.
type sealer struct {
	store  *Store
	wake   chan struct{} // holds one
	done   chan struct{} // closed when run has ended
	mu     sync.Mutex    // held by the one who seals
	failed bool          // guarded by mu: what cannot be sealed was told of
}

// sealing is a sheet on its way: everything loose from one row to another goes
// into it.
type sealing struct {
	from, last uint64
	key, value []byte // of the sheet; value nil: it has nothing left
	edits      uint64 // of the state that it was made from
	loose      uint64 // the first loose row after it
}

// errChanged tells that a sheet must be made again.
var errChanged = errors.New("facts changed while a sheet was made of them")

func newSealer(s *Store) *sealer {
	return &sealer{store: s, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// notice wakes the sealer when there may be a sheet to make.
func (w *sealer) notice(at state) {
	if at.rid-at.loose < uint64(w.store.tuning.sheetRows) {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// run seals what there is, until the sequencer has ended.
func (w *sealer) run() {
	defer close(w.done)
	for {
		select {
		case <-w.store.sequencer.done:
			return
		case <-w.wake:
		}
		if err := w.sealAll(context.Background(), false); err != nil && !interrupted(err) && !w.failed {
			w.failed = true
			w.store.log.Error("facts cannot be put into sheets: check the store", "error", err)
		}
	}
}

// stop waits until run has ended; the sequencer must have.
func (w *sealer) stop() { <-w.done }

// sealAll makes sheets until there is nothing to make them of; short: of what
// there is, however few rows it be.
func (w *sealer) sealAll(ctx context.Context, short bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		s, err := w.next(ctx, short)
		if err != nil || s == nil {
			return err
		}
		_, err = w.store.sequencer.submit(ctx, &request{seal: s, imports: true})
		if err != nil && !errors.Is(err, errChanged) {
			return err
		}
	}
}

// next makes a sheet of the lowest loose rows; nil: there are too few.
func (w *sealer) next(ctx context.Context, short bool) (s *sealing, err error) {
	store := w.store
	if store.closing.Load() {
		return nil, storeClosed("lsm.seal")
	}
	snap := store.published.take()
	defer store.published.drop(snap)
	loose, err := store.firstLoose(snap, snap.loose, snap.rid)
	if err != nil || loose >= snap.rid {
		return nil, err
	}
	q := newQuery(ctx, &reader{store: store, r: snap.Snapshot, w: snap.rid, live: true, loose: loose}, 0)
	defer func() { err = q.close(err) }()
	b := sheetBuilder{query: q, numbers: map[string]uint32{}}
	ready, err := b.gather(loose, snap.rid, store.tuning.sheetRows)
	if err != nil || !ready && !short {
		return nil, err
	}
	s = &sealing{from: b.first, last: b.last, edits: snap.edits, key: sheetKey(b.last)}
	if b.any {
		s.value = store.tuning.sheets().encode(nil, b.rows())
	}
	s.loose, err = store.firstLoose(snap, b.last+1, snap.rid)
	return s, err
}

// firstLoose is the first row from a place on that has loose facts, or end.
func (s *Store) firstLoose(r pebble.Reader, from, end uint64) (first uint64, err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: factsKey(from), UpperBound: factsKey(end)})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.First() {
		return end, it.Error()
	}
	return keyRID(it.Key())
}

// seal writes a sheet in place of the loose rows that went into it.
func (g *group) seal(s *sealing) error {
	if s.edits != g.q.next.edits {
		return errChanged
	}
	if s.value == nil {
		must(g.batch.Delete(s.key, nil))
	} else {
		must(g.batch.Set(s.key, s.value, nil))
	}
	must(g.batch.DeleteRange(factsKey(s.from), factsKey(s.last+1), nil))
	g.q.next.loose = s.loose
	g.wrote = true
	return nil
}

// sheetBuilder puts the facts of a run of rows together.
type sheetBuilder struct {
	*query
	first, last uint64
	any         bool // one row has facts at least

	numbers map[string]uint32 // entry → number, in the order in which they came
	keys    []plan.Entry
	refs    []uint32
	ends    []int
}

// gather takes rows from the first loose one on; ready: there are as many as a
// sheet should have, or there can be no more.
func (b *sheetBuilder) gather(loose, end uint64, most int) (ready bool, err error) {
	in, err := b.sheetOf(loose)
	if err != nil {
		return false, err
	}
	if in != nil {
		b.first, b.last = in.first, in.last
		for rid := in.first; rid <= b.last; rid++ {
			if err := b.add(rid); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	next, err := b.nextSheet(loose)
	if err != nil {
		return false, err
	}
	b.first, b.last = loose, loose
	for rid := loose; ; rid++ {
		if rid >= end || rid >= next {
			return rid >= next, nil
		}
		if len(b.ends) >= most || len(b.ends) > 0 && len(b.refs) > maxSheetEntries/2 {
			return true, nil
		}
		if err := b.add(rid); err != nil {
			return false, err
		}
		b.last = rid
	}
}

// nextSheet is where the first sheet behind a row begins.
func (b *sheetBuilder) nextSheet(rid uint64) (first uint64, err error) {
	f := &b.factReader // sheetOf stands on it
	if !f.sheets.Valid() {
		return maxRID, f.sheets.Error()
	}
	s, err := readSheet(f.sheets)
	return s.first, err
}

// add takes the next row.
func (b *sheetBuilder) add(rid uint64) error {
	f, err := b.facts(rid)
	if err != nil {
		return err
	}
	if f == nil {
		b.ends = append(b.ends, -1)
		return nil
	}
	b.any = true
	entries, err := b.exactly(rid, f)
	if err != nil {
		return err
	}
	b.addEntries(entries)
	return nil
}

func (b *sheetBuilder) addEntries(entries []plan.Entry) {
	for _, e := range entries {
		key := string(indexPrefix(e.Param, e.Value))
		n, known := b.numbers[key]
		if !known {
			n = uint32(len(b.keys))
			b.numbers[key], b.keys = n, append(b.keys, e)
		}
		b.refs = append(b.refs, n)
	}
	b.ends = append(b.ends, len(b.refs))
}

// exactly gives the entries of a row; that a cut one cannot be told is an error,
// or it would be forgotten.
func (b *sheetBuilder) exactly(rid uint64, f *factRow) (entries []plan.Entry, err error) {
	found := 0
	err = f.each(nil, func(plan.Param, []byte, bool) bool { found++; return true })
	if err != nil {
		return nil, err
	}
	if entries, err = b.entries(rid); err == nil && len(entries) != found {
		err = corrupt("the containers of a row do not agree with its sheet")
	}
	return entries, err
}

// rows sorts the entries.
func (b *sheetBuilder) rows() *rowsOfSheet {
	order := make([]uint32, len(b.keys))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int { return store.CompareEntries(b.keys[x], b.keys[y]) })
	in := &rowsOfSheet{keys: make([]plan.Entry, len(order)), refs: b.refs, ends: b.ends}
	rank := make([]uint32, len(order))
	for i, n := range order {
		in.keys[i], rank[n] = b.keys[n], uint32(i)
	}
	for i, n := range in.refs {
		in.refs[i] = rank[n]
	}
	return in
}

// sealFacts makes sheets of everything loose.
func (s *Store) sealFacts(ctx context.Context) error {
	return fault.Wrap(fault.Internal, "lsm.seal", s.sealer.sealAll(ctx, true))
}
