package lsm

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Most of what a piece of an import costs is done before its turn in the order of
// commits, in goroutines of its own, so that commits go on meanwhile:
//
//	take     rows are set aside for it, behind all that were given or set aside
//	prepare  which versions its puts follow; the tables that hold no time
//	date     it is given a number and a time that its turn will have come by
//	close    the tables with times
//	turn     looked at again, then all tables go to Pebble
//
// Rows must be in the order of commits. So commits that come before the turn get
// rows before those set aside: some are spared for them (spareFor), as are the
// numbers of commits, and what they leave stays free for good. When they need more,
// or when one of them changes a resource of the piece, it is made ready again.
//
// Times must be too: those commits are dated before the piece. So its time lies as
// far ahead as closing will take, and when it is done sooner, the piece waits until
// that time has come: no commit is dated ahead, nor before it came. When a commit
// came after that time and before the turn, the piece is dated and closed again.
//
// What was made ready in vain maxTries times is made in its turn.

const (
	// piecesAhead bounds the pieces that are being made ready or wait for their turn:
	// enough that one is ready when the one before it is done, and few, as each holds
	// its tables on disk.
	piecesAhead = 3
	// maxTries is how often a piece is made ready, or closed, before its turn.
	maxTries = 3
	// spareShare is how many puts of a piece one row is spared for: a piece of 16,384
	// takes some tenths of a second to be made ready, in which some hundred commits
	// may come.
	spareShare = 8
	// leastLead is how far ahead of the clock a piece is dated at least beside other
	// commits, and maxLead how far at most. Between them it is leadTimes as far as
	// the last piece took to be closed.
	leastLead = 10 * time.Millisecond
	maxLead   = 2 * time.Second
	leadTimes = 2
	// tablesShare is how many times the bytes of a piece its tables take at most, which
	// must fit above the floor.
	tablesShare = 2
)

// unborn stands for the time of a piece in its pointers until it is dated.
const unborn = math.MinInt64

// ahead is a piece that is made ready before its turn. Until made is closed it
// belongs to the goroutine of prepare, but for stale, and from date until closed is
// closed to that of close; else to the sequencer.
type ahead struct {
	ingestion
	request *request
	paths   []string // of the tables without times written so far
	timed   []string // of those with times
	err     error
	made    chan struct{} // closed when it is made ready
	closed  chan struct{} // closed when its tables with times are written; nil: it has no time yet
	due     chan struct{} // closed when its time has come; nil: nobody waits for that
	took    time.Duration // to close it
	tries   int
	// stale: since it was taken, a resource of it was committed to. The sequencer's.
	stale bool
}

// ready reports whether what c tells of has happened.
func ready(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// room gives the next piece to be made ready; it blocks for ever while there are
// enough.
func (q *sequencer) room() <-chan *request {
	if len(q.ahead) >= piecesAhead {
		return nil
	}
	return q.pieces
}

// stir has the sequencer look at the pieces ahead.
func (q *sequencer) stir() {
	select {
	case q.stirred <- struct{}{}:
	default:
	}
}

// take sets rows aside for a piece and begins to make it ready.
func (q *sequencer) take(r *request) {
	err := q.admits()
	if err == nil && !q.floor.fits(tablesShare*uint64(r.piece.bytes)) {
		err = full("the disk has no room for a piece of an import")
	}
	if err != nil {
		r.reply <- reply{err: err}
		return
	}
	q.begin(r, 0)
}

func (q *sequencer) begin(r *request, tries int) {
	a := &ahead{
		ingestion: ingestion{ingester: q.tables, piece: r.piece, meta: r.meta, first: q.aside(len(r.piece.changes)), empty: q.next.rid == 0},
		request:   r, made: make(chan struct{}), tries: tries,
	}
	q.ahead = append(q.ahead, a)
	go func() {
		a.prepare()
		close(a.made)
		q.stir()
	}()
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

// aside is the first row of the next piece, which has so many puts.
func (q *sequencer) aside(puts int) uint64 {
	first := q.next.rid
	if n := len(q.ahead); n > 0 {
		first = max(first, q.ahead[n-1].behind())
	}
	if q.beside() {
		first += q.spareFor(puts)
	}
	return first
}

// spareFor is how many rows commits may take while a piece is made ready.
func (q *sequencer) spareFor(puts int) uint64 {
	return max(q.store.tuning.spareRows, uint64(puts/spareShare))
}

// behind is the row behind the piece.
func (b *ingestion) behind() uint64 { return b.first + uint64(len(b.piece.changes)) }

// prepare finds what each put follows and writes the tables that hold no time.
func (a *ahead) prepare() {
	if a.behind() > maxRID {
		return // the turn may find rows
	}
	if a.err = a.place(); a.err == nil {
		a.paths, a.err = a.write(tableIndex, tableSheets, tableMeta)
	}
}

// close writes the tables with times.
func (a *ahead) close() { a.timed, a.err = a.write(tableRows, tablePointers) }

// drop removes the tables written so far.
func (a *ahead) drop() error {
	paths := slices.Concat(a.paths, a.timed)
	a.paths, a.timed = nil, nil
	return a.remove(paths)
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

// touchedBy tells them that another piece was carried out.
func (q *sequencer) touchedBy(done *ahead) {
	for _, a := range q.ahead {
		a.stale = a.stale || meet(a.piece.selves, done.piece.selves)
	}
}

// meet reports whether two lists, each in order, have a resource in common.
func meet(a, b []selfRow) bool {
	for len(a) > 0 && len(b) > 0 {
		switch compareHashes(a[0].self, b[0].self) {
		case 0:
			return true
		case -1:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return false
}

// touchedAll tells them that any resource may have been.
func (q *sequencer) touchedAll() {
	for _, a := range q.ahead {
		a.stale = true
	}
}

// fits reports whether rows that were set aside can be those of the piece, and
// its puts follow what they did.
func (q *sequencer) fits(a *ahead) bool {
	return !a.stale && a.first >= q.next.rid && a.behind() <= maxRID
}

// timely reports whether the time that a piece was given can be its.
func (q *sequencer) timely(a *ahead) bool {
	return a.closed != nil && a.now >= q.next.last
}

// advance carries the first of the pieces ahead one step on, when the step before
// is done.
func (q *sequencer) advance() {
	if len(q.ahead) == 0 {
		return
	}
	a := q.ahead[0]
	if !ready(a.made) || a.closed != nil && !ready(a.closed) {
		return
	}
	if a.closed != nil {
		q.lead = min(max(leastLead, leadTimes*a.took), maxLead)
	}
	switch {
	case a.err != nil || a.tries >= maxTries:
	case !q.fits(a):
		q.ahead = slices.Delete(q.ahead, 0, 1)
		q.discard(a)
		q.begin(a.request, a.tries+1)
		q.stir()
		return
	case !q.timely(a):
		q.foretell(a)
		return
	case q.early(a):
		return
	}
	q.turn()
	q.courtesy()
	q.stir()
}

// foretell gives a piece its number and time, and begins to write the tables that
// hold them.
func (q *sequencer) foretell(a *ahead) {
	if a.closed != nil {
		a.tries++
	}
	now, err := q.date()
	if err == nil {
		err = a.remove(a.timed)
	}
	if a.timed, a.err = nil, err; err != nil {
		q.stir()
		return
	}
	if q.beside() && q.clock().UnixMilli() >= q.next.last { // else the clock is behind, and no time can be told
		now += q.lead.Milliseconds()
	}
	a.now, a.number = now, q.next.commit+1+a.first-q.next.rid // commits that come before it take a row at least
	a.closed, a.due = make(chan struct{}), nil
	began := time.Now()
	go func() {
		a.close()
		a.took = time.Since(began)
		close(a.closed)
		q.stir()
	}()
}

// early reports whether the time of a piece has yet to come, and has the sequencer
// look again when it has.
func (q *sequencer) early(a *ahead) bool {
	if a.due != nil {
		return !ready(a.due) // if the clock stands still, the piece is dated anew in its turn
	}
	left := fromMillis(a.now).Sub(q.clock())
	if left <= 0 || left > maxLead { // it has come, or the clock went back
		return false
	}
	due := make(chan struct{})
	a.due = due
	time.AfterFunc(left+time.Millisecond, func() {
		close(due)
		q.stir()
	})
	return true
}

// due is closed when the first of the pieces ahead waits for its turn alone; nil:
// it does not yet.
func (q *sequencer) due() <-chan struct{} {
	if len(q.ahead) == 0 {
		return nil
	}
	return q.ahead[0].due
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
		<-a.made
		if a.closed != nil {
			<-a.closed
		}
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
	q.makeRoomForTables()
	err := q.store.db.Ingest(context.Background(), append(a.paths, a.timed...))
	if err = errors.Join(err, q.store.disk.lost()); err != nil {
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
	q.touchedBy(a)
	q.store.publish(q.next)
	q.store.sealer.notice(q.next)
	q.store.settler.notice(q.next)
	return nil
}

// finish makes anew what does not hold any more of a piece whose turn it is.
func (q *sequencer) finish(a *ahead) error {
	if err := q.admits(); err != nil {
		return err
	}
	now, err := q.date()
	if err != nil {
		return err
	}
	if a.err == nil && !q.fits(a) {
		if q.next.rid+uint64(len(a.piece.changes)) > maxRID {
			return fault.New(fault.Full, "lsm.Commit", "no row numbers are left")
		}
		a.err = a.again(q.next.rid)
	}
	if a.err == nil && (!q.timely(a) || a.now > now) {
		a.err = a.remove(a.timed)
		a.timed = nil
	}
	if a.err == nil && a.timed == nil {
		a.now, a.number = now, q.next.commit+1
		a.close()
	}
	return wrapDisk("lsm.Import", a.err)
}

// again makes the piece ready in its turn, as nothing that was made before holds.
func (a *ahead) again(first uint64) error {
	if err := a.drop(); err != nil {
		return err
	}
	a.ingestion = ingestion{ingester: a.ingester, piece: a.piece, meta: a.meta, first: first}
	a.prepare()
	return a.err
}
