package lsm

import (
	"context"
	"math"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Most of what a piece of an import costs is done before its turn in the order of
// commits, in a goroutine of its own, so that commits go on meanwhile:
//
//	take     rows are set aside for it, behind all that were given or set aside
//	prepare  which versions its puts follow; the tables that hold no time
//	turn     looked at again, then the tables with times, and all go to Pebble
//
// Rows must be in the order of commits. So commits that come before the turn get
// rows before those set aside: spareRows are left for them, and what they leave
// stays free for good. When they need more, or when one of them changes a
// resource of the piece, the piece is made anew in its turn.
//
// Times are given in the turn: no commit is dated before it came, nor ahead.

// piecesAhead bounds the pieces that are being made ready or wait for their turn:
// enough that one is ready when the one before it is done, and few, as each holds
// its tables on disk.
const piecesAhead = 3

// unborn stands for the time of a piece in its pointers until its turn.
const unborn = math.MinInt64

// ahead is a piece that is made ready before its turn. Until done is closed it
// belongs to the goroutine of prepare, but for stale; then to the sequencer.
type ahead struct {
	ingestion
	request *request
	paths   []string // of the tables written so far
	err     error
	done    chan struct{}
	// stale: since it was taken, a resource of it was committed to. The sequencer's.
	stale bool
}

// room gives the next piece to be made ready; it blocks for ever while there are
// enough.
func (q *sequencer) room() <-chan *request {
	if len(q.ahead) >= piecesAhead {
		return nil
	}
	return q.pieces
}

// ripe is closed when the first of the pieces ahead is ready; it blocks for ever
// when there is none.
func (q *sequencer) ripe() <-chan struct{} {
	if len(q.ahead) == 0 {
		return nil
	}
	return q.ahead[0].done
}

// take sets rows aside for a piece and begins to make it ready.
func (q *sequencer) take(r *request) {
	if err := q.admits(); err != nil {
		r.reply <- reply{err: err}
		return
	}
	a := &ahead{
		ingestion: ingestion{ingester: q.tables, piece: r.piece, meta: r.meta, first: q.aside(), empty: q.next.rid == 0},
		request:   r, done: make(chan struct{}),
	}
	q.ahead = append(q.ahead, a)
	go a.prepare()
}

// admits reports why no piece can be taken.
func (q *sequencer) admits() error {
	if q.broken != nil {
		return q.broken
	}
	if err := q.floor.check(); err != nil {
		return err
	}
	return wrapDisk("lsm.Import", q.tables.makeDir())
}

// aside is the first row of the next piece.
func (q *sequencer) aside() uint64 {
	first := q.next.rid
	if n := len(q.ahead); n > 0 {
		first = max(first, q.ahead[n-1].behind())
	}
	if q.beside() {
		first += q.store.tuning.spareRows
	}
	return first
}

// behind is the row behind the piece.
func (b *ingestion) behind() uint64 { return b.first + uint64(len(b.piece.changes)) }

// prepare does what needs no turn.
func (a *ahead) prepare() {
	defer close(a.done)
	if a.behind() > maxRID {
		return // the turn may find rows
	}
	a.err = a.early()
}

// early finds what each put follows and writes the tables that hold no time.
func (a *ahead) early() error {
	if err := a.place(); err != nil {
		return err
	}
	paths, err := a.write(tableIndex, tableSheets, tableMeta)
	a.paths = append(a.paths, paths...)
	return err
}

// drop removes the tables written so far.
func (a *ahead) drop() error {
	paths := a.paths
	a.paths = nil
	return a.remove(paths)
}

// again makes the piece ready in its turn, as nothing that was made before holds.
func (a *ahead) again(first uint64) error {
	if err := a.drop(); err != nil {
		return err
	}
	a.ingestion = ingestion{ingester: a.ingester, piece: a.piece, meta: a.meta, first: first}
	return a.early()
}

// touched tells the pieces ahead that a resource was committed to.
func (q *sequencer) touched(self plan.Hash) {
	for _, a := range q.ahead {
		if _, found := slices.BinarySearchFunc(a.piece.selves, self, func(r selfRow, self plan.Hash) int {
			return compareHashes(r.self, self)
		}); found {
			a.stale = true
		}
	}
}

// touchedAll tells them that any resource may have been.
func (q *sequencer) touchedAll() {
	for _, a := range q.ahead {
		a.stale = true
	}
}

// turn carries out the first of the pieces ahead, which is ready.
func (q *sequencer) turn() {
	a := q.ahead[0]
	q.ahead = slices.Delete(q.ahead, 0, 1)
	q.land()
	a.request.reply <- reply{err: q.ingest(a)}
}

// abandon ends the pieces ahead when the store is closed.
func (q *sequencer) abandon() {
	for _, a := range q.ahead {
		<-a.done
		q.discard(a)
	}
}

// discard removes what was made ready of a piece that is not carried out. What
// cannot be removed now is when the store is opened.
func (q *sequencer) discard(a *ahead) {
	if err := a.drop(); err != nil {
		q.store.log.Warn("tables of an import were not removed", "error", err)
	}
}

// ingest carries out a piece of an import. Nothing may be in flight.
func (q *sequencer) ingest(a *ahead) error {
	if err := q.finish(a); err != nil {
		q.discard(a)
		return err
	}
	if err := q.store.db.Ingest(context.Background(), a.paths); err != nil {
		q.fail(err)
		return q.broken
	}
	if !q.beside() { // or reads beside it would have more tables to look into
		q.store.compactions.hold()
	}
	n := a.behind()
	if q.next.loose == q.next.rid { // all is in sheets, and so is the piece
		q.next.loose = n
	} else if q.next.sealed < q.next.rid { // what is loose before it will be no more
		q.next.edits += uint64(q.store.tuning.sheetRows)
	}
	if len(a.dead) > 0 {
		q.next.buried++
	}
	q.next.rid, q.next.sealed = n, n
	q.next.commit, q.next.last = a.number, a.now
	q.floor.written += a.written
	for i := range a.piece.changes {
		q.types[a.piece.changes[i].key.Type] = a.number
	}
	if len(q.ahead) > 0 {
		for _, r := range a.current {
			q.touched(r.self)
		}
	}
	q.store.publish(q.next)
	q.store.sealer.notice(q.next)
	return nil
}

// finish writes what is left of a piece's tables, or all when what was made ready
// does not hold any more.
func (q *sequencer) finish(a *ahead) error {
	if err := q.admits(); err != nil {
		return err
	}
	now, err := q.date()
	if err != nil {
		return err
	}
	if a.err == nil && (a.stale || a.first < q.next.rid || a.behind() > maxRID) {
		if q.next.rid+uint64(len(a.piece.changes)) > maxRID {
			return fault.New(fault.Full, "lsm.Commit", "no row numbers are left")
		}
		a.err = a.again(q.next.rid)
	}
	if a.err == nil {
		a.dated(now, q.next.commit+1)
		var paths []string
		paths, a.err = a.write(tableRows, tablePointers)
		a.paths = append(a.paths, paths...)
	}
	return wrapDisk("lsm.Import", a.err)
}

// dated gives the piece its time and number.
func (b *ingestion) dated(now int64, number uint64) {
	b.now, b.number = now, number
	for i := range b.versions {
		v := &b.versions[i]
		v.updated = now
		if v.created == unborn {
			v.created = now
		}
	}
}
