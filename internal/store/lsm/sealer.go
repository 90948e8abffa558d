package lsm

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// sealer makes sheets of loose facts, beside commits:
//
//	the newest rows       as soon as there are as many as a sheet has
//	rows before a sheet   an import came behind them, so there will be no more
//	rows of a sheet       that a reindex or a purge gave other facts: when they are
//	                      a good part of the sheet, as all of it is made anew
//
// It reads from a published state and hands the sheet to the sequencer, which
// refuses it when facts of older rows changed meanwhile: then it is made again. A
// crash leaves loose rows, which are found at open.
type sealer struct {
	store  *Store
	wake   chan struct{} // holds one
	done   chan struct{} // closed when run has ended
	looked atomic.Uint64 // edits of the state in which nothing was left to do
	mu     sync.Mutex    // held by the one who seals
	failed bool          // of run: what cannot be sealed was told of
}

// remakeShare is the part of a sheet's rows that must have loose facts before it
// is made anew: a quarter.
const remakeShare = 4

// sealing is a sheet on its way: everything loose from one row to another goes
// into it.
type sealing struct {
	from, last uint64
	key, value []byte // of the sheet; value nil: it has nothing left
	edits      uint64 // of the state that it was made from
	loose      uint64 // the first loose row that is left
}

// errChanged tells that a sheet must be made again.
var errChanged = errors.New("facts changed while a sheet was made of them")

func newSealer(s *Store) *sealer {
	return &sealer{store: s, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// notice wakes the sealer when there may be a sheet to make.
func (w *sealer) notice(at state) {
	most := uint64(w.store.tuning.sheetRows)
	if at.rid-at.sealed < most && at.edits-w.looked.Load() < most {
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
		if err := w.sealAll(context.Background(), false); err != nil && !interrupted(err) && !fault.Is(err, fault.Full) && !w.failed {
			w.failed = true
			w.store.log.Error("facts cannot be put into sheets: check the store", "error", err)
		}
	}
}

// stop waits until run has ended; the sequencer must have.
func (w *sealer) stop() { <-w.done }

// sealAll makes sheets until there is nothing to make them of; all: of everything
// loose.
func (w *sealer) sealAll(ctx context.Context, all bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		s, err := w.next(ctx, all)
		if err != nil || s == nil {
			return err
		}
		_, err = w.store.sequencer.submit(ctx, &request{seal: s, imports: true})
		switch {
		case errors.Is(err, errChanged) && !all:
			return nil // the commit that did it gives notice
		case err != nil && !errors.Is(err, errChanged):
			return err
		}
	}
}

// next makes a sheet; nil: there is nothing to make one of.
func (w *sealer) next(ctx context.Context, all bool) (s *sealing, err error) {
	store := w.store
	if store.closing.Load() {
		return nil, storeClosed("lsm.seal")
	}
	snap := store.published.take()
	defer store.published.drop(snap)
	lowest, err := store.firstLoose(snap, snap.loose, snap.rid)
	if err != nil || lowest == snap.rid {
		return nil, err
	}
	q := newQuery(ctx, &reader{store: store, r: snap.Snapshot, w: snap.rid, live: true, loose: lowest}, 0)
	defer func() { err = q.close(err) }()
	b, err := w.pick(q, lowest, snap.state, all)
	if err != nil || b == nil {
		return nil, err
	}
	s = &sealing{from: b.first, last: b.last, edits: snap.edits, key: sheetKey(b.last), loose: lowest}
	if b.any {
		s.value = store.tuning.sheets().encode(b.rows())
	}
	if b.first <= lowest {
		s.loose, err = store.firstLoose(snap, b.last+1, snap.rid)
	}
	return s, err
}

// pick finds rows to make a sheet of; nil: there are none.
func (w *sealer) pick(q *query, lowest uint64, at state, all bool) (*sheetBuilder, error) {
	newest, err := q.store.firstLoose(q.r, max(lowest, at.sealed), at.rid)
	if err != nil {
		return nil, err
	}
	if at.rid-newest >= uint64(q.store.tuning.sheetRows) {
		return q.run(newest, at.rid)
	}
	if !all && at.edits-w.looked.Load() < uint64(q.store.tuning.sheetRows) {
		return nil, nil
	}
	for rid := lowest; rid < newest; {
		in, err := q.sheetOf(rid)
		if err != nil {
			return nil, err
		}
		if in == nil {
			return q.run(rid, newest)
		}
		if remake, err := q.remakes(in, all); err != nil || remake {
			return q.again(in, err)
		}
		if rid, err = q.store.firstLoose(q.r, in.last+1, newest); err != nil {
			return nil, err
		}
	}
	if all && newest < at.rid {
		return q.run(newest, at.rid)
	}
	w.looked.Store(at.edits)
	return nil, nil
}

// remakes reports whether so many rows of a sheet have loose facts that it is to
// be made anew.
func (q *query) remakes(in *sheet, all bool) (yes bool, err error) {
	it, err := q.iter(factsKey(in.first), factsKey(in.last+1))
	if err != nil {
		return false, err
	}
	n, enough := uint64(0), max(1, (in.last-in.first+1)/remakeShare)
	for it.First(); it.Valid() && n < enough; it.Next() {
		n++
	}
	return n >= enough || all && n > 0, errors.Join(it.Error(), q.dropIter(it))
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

// behindSheets is the row behind the last sheet.
func (s *Store) behindSheets() (rid uint64, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceSheet}, UpperBound: []byte{spaceSheet + 1}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.Last() {
		return 0, it.Error()
	}
	rid, err = keyRID(it.Key())
	return rid + 1, err
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
	g.q.next.loose, g.q.next.sealed = s.loose, max(g.q.next.sealed, s.last+1)
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

// again gathers the rows of a sheet.
func (q *query) again(in *sheet, err error) (*sheetBuilder, error) {
	if err != nil {
		return nil, err
	}
	b := newSheetBuilder(q, in.first)
	for last := in.last; ; b.last++ {
		if err := b.add(b.last); err != nil || b.last == last {
			return b, err
		}
	}
}

// run gathers rows from one without a sheet on, until there are enough, before
// the next sheet or end.
func (q *query) run(first, end uint64) (*sheetBuilder, error) {
	b := newSheetBuilder(q, first)
	if in, err := q.sheetOf(first); err != nil || in != nil {
		return nil, errors.Join(err, corrupt("a sheet is where none should be"))
	}
	next, err := b.nextSheet()
	if err != nil {
		return nil, err
	}
	for rid := first; rid < min(end, next); rid++ {
		if len(b.ends) >= q.store.tuning.sheetRows || len(b.ends) > 0 && len(b.refs) > maxSheetEntries {
			break
		}
		if err := b.add(rid); err != nil {
			return nil, err
		}
		b.last = rid
	}
	return b, nil
}

func newSheetBuilder(q *query, first uint64) *sheetBuilder {
	return &sheetBuilder{query: q, first: first, last: first, numbers: map[string]uint32{}}
}

// nextSheet is where the first sheet begins behind the row that was asked for
// last, which has none.
func (b *sheetBuilder) nextSheet() (first uint64, err error) {
	f := &b.factReader // sheetOf stands on what comes
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
