package lsm

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

const (
	// queueLength bounds the commits that wait for the sequencer; more wait in
	// their callers.
	queueLength = 512
	// maxGroup bounds the commits of one sync.
	maxGroup = 256
	// maxGroupRows bounds the rows of one sync: beyond it, the next commit opens
	// another group.
	maxGroupRows = 8192
	// maxAhead is how far the newest commit may be dated ahead of the clock. A
	// clock that was wrong for a while must not date records years ahead
	// (engine.md 0b.11).
	maxAhead = 5 * time.Minute
)

// request is one commit on its way.
type request struct {
	ctx     context.Context // of the caller: plans run under it
	changes []change
	// reentries are there instead of changes: a Reindex.
	reentries []reentry
	seal      *sealing   // a sheet instead of changes
	piece     *piece     // of an import, instead of changes
	imports   bool       // it is an import's
	meta      []metaEdit // meta keys that change with this commit
	// scrubbed: files hold nothing any more of what was purged up to this commit.
	scrubbed uint64
	reply    chan reply // holds one
}

// metaEdit sets a meta key, or deletes it when value is nil.
type metaEdit struct {
	key, value []byte
	idle       bool // the key has the form of no key: nothing changes by it
}

type reply struct {
	outcomes []store.Outcome
	err      error
}

// sequencer orders the commits of one store. One goroutine (run) owns all but
// the channels:
//
//	take the first commit                      queue → group
//	while the sync before flies, take more     each is judged and written to the
//	                                           group's batch as it comes
//	apply the batch, begin its sync            one sync in flight at most
//	sync done: publish a snapshot, answer      before the next batch is applied
//	begin a piece of an import                 it is made ready and closed beside
//	                                           commits
//	carry a closed one out                     with no sync in flight; commits that
//	                                           came meanwhile go before the next
//
// So a snapshot holds what is synced and nothing else, and readers need no
// filter to see a store as it is now.
type sequencer struct {
	store      *Store
	clock      func() time.Time
	quarantine *quarantine
	floor      *floor

	queue  chan *request // commits
	pieces chan *request // pieces of imports
	quit   chan struct{} // closed by stop
	done   chan struct{} // closed when run has ended

	next    state                // with everything that was judged
	types   map[plan.Type]uint64 // newest commit per type, since open
	purged  uint64               // newest commit with a purge, since open
	flying  *flight
	ahead   []*ahead      // pieces before their turn, in the order of their rows
	stirred chan struct{} // holds one: a piece ahead may be carried on
	lead    time.Duration // how far ahead the next piece is dated
	broken  error         // why nothing can be committed any more

	condenser *condenser
	tables    *ingester
	other     atomic.Int64 // when the last commit came that was no import's, in milliseconds
}

// besideFor is how long after a commit of another an import reckons with more.
const besideFor = 2 * time.Second

// beside reports whether there are commits of others beside an import's pieces.
func (q *sequencer) beside() bool {
	return time.Now().UnixMilli()-q.other.Load() < besideFor.Milliseconds()
}

// flight is a group whose sync is under way.
type flight struct {
	at      state
	batch   *pebble.Batch
	answers []answer
	done    chan error // holds one
}

// answer is what a request will be told when its group is synced.
type answer struct {
	to    *request
	reply reply
}

func newSequencer(s *Store, at state, clock func() time.Time, q *quarantine, f *floor, tables *ingester) *sequencer {
	return &sequencer{
		store: s, clock: clock, quarantine: q, floor: f, tables: tables,
		queue: make(chan *request, queueLength), pieces: make(chan *request), quit: make(chan struct{}), done: make(chan struct{}),
		stirred: make(chan struct{}, 1), lead: leastLead,
		next: at, types: map[plan.Type]uint64{}, condenser: newCondenser(),
	}
}

// submit waits for the outcome of a request. When ctx ends first, the outcome is
// unknown.
func (q *sequencer) submit(ctx context.Context, r *request) ([]store.Outcome, error) {
	const op = "lsm.Commit"
	if q.store.disk.held() {
		return nil, full("the disk is full")
	}
	r.ctx, r.reply = ctx, make(chan reply, 1)
	if !r.imports {
		q.store.use()
		q.other.Store(time.Now().UnixMilli()) // paces, and dates nothing: the clock is left alone
	}
	line := q.queue
	if r.piece != nil {
		line = q.pieces
	}
	stalled := q.store.disk.stalled()
	if r.imports {
		stalled = nil // a part has to know the outcome, whenever that is
	}
	select {
	case line <- r:
	case <-ctx.Done():
		return nil, ended(ctx, op)
	case <-stalled:
		return nil, full("the disk is full")
	case <-q.done:
		return nil, storeClosed(op)
	}
	select {
	case got := <-r.reply:
		return got.outcomes, got.err
	case <-ctx.Done():
		return nil, ended(ctx, op)
	case <-stalled:
		return nil, &fault.Error{
			Kind: fault.Unavailable, Op: op, Detail: "the disk is full; the outcome is unknown: the write may be carried out when there is space again",
			Hint: "free some space",
		}
	case <-q.done:
		select {
		case got := <-r.reply:
			return got.outcomes, got.err
		default:
			return nil, storeClosed(op)
		}
	}
}

// stop ends run when the sync under way is done; what is queued is not carried
// out.
func (q *sequencer) stop() {
	close(q.quit)
	<-q.done
}

func (q *sequencer) run() {
	defer close(q.done)
	for {
		select {
		case <-q.quit:
			q.land()
			q.abandon()
			return
		case r := <-q.queue:
			if ready(q.due()) {
				q.advance()
			}
			q.group(r)
		case r := <-q.room():
			q.take(r)
		case <-q.stirred:
			q.advance()
		case err := <-q.flight():
			q.landed(err)
		}
	}
}

// courtesy begins a group with what came while a piece of an import was carried
// out, before the next piece: a commit waits for one piece at most.
func (q *sequencer) courtesy() {
	select {
	case r := <-q.queue:
		q.group(r)
	default:
	}
}

// flight gives the end of the sync under way; it blocks for ever when there is
// none.
func (q *sequencer) flight() <-chan error {
	if q.flying == nil {
		return nil
	}
	return q.flying.done
}

// group makes one group, beginning with r, and starts its sync. It ends when the
// time of a piece has come: what came later could not be dated before the piece.
func (q *sequencer) group(r *request) {
	g := newGroup(q)
	g.add(r)
	for q.flying != nil {
		if g.full() {
			q.land()
			break
		}
		select {
		case more := <-q.queue:
			g.add(more)
		case err := <-q.flying.done:
			q.landed(err)
		case <-q.due():
			q.land()
		}
	}
	for !g.full() && !ready(q.due()) {
		select {
		case more := <-q.queue:
			g.add(more)
			continue
		default:
		}
		break
	}
	q.launch(g)
}

// launch applies what is left of a group and starts its sync. No sync is under
// way.
func (q *sequencer) launch(g *group) {
	f := &flight{at: q.next, answers: g.answers, done: make(chan error, 1)}
	if !g.wrote {
		g.close()
		q.tell(f.answers, nil)
		return
	}
	g.settleContainers()
	f.batch = g.batch
	if err := q.apply(g.batch, true); err != nil {
		q.fail(err)
		q.tell(f.answers, q.broken)
		return
	}
	q.flying = f
	go func() { f.done <- f.batch.SyncWait() }()
}

// apply writes a batch into the log and the memtable; with sync, SyncWait must
// be called.
func (q *sequencer) apply(b *pebble.Batch, sync bool) error {
	if q.broken != nil {
		return q.broken
	}
	q.floor.written += int64(b.Len())
	q.makeRoom(b)
	defer q.store.mem.filled(b)
	if sync {
		return q.store.db.ApplyNoSyncWait(b, pebble.Sync)
	}
	return q.store.db.Apply(b, pebble.NoSync)
}

// land waits for the sync under way.
func (q *sequencer) land() {
	if q.flying != nil {
		q.landed(<-q.flying.done)
	}
}

// landed publishes what was synced, and answers.
func (q *sequencer) landed(err error) {
	f := q.flying
	q.flying = nil
	if err = errors.Join(err, q.store.disk.lost()); err != nil {
		q.fail(err)
		q.tell(f.answers, q.broken)
		return
	}
	q.store.publish(f.at)
	q.store.sealer.notice(f.at)
	q.store.settler.notice(f.at)
	q.tell(f.answers, nil)
	if err := f.batch.Close(); err != nil {
		q.store.log.Error("a batch was not closed", "error", err)
	}
	if err := q.quarantine.clear(); err != nil {
		q.store.log.Error("the quarantine note was not removed", "error", err)
	}
}

// fail ends all commits of this store: what is on disk of the last ones is
// unknown. Reads go on; a store that is opened again knows. The note makes one
// that fails again at once stay closed.
func (q *sequencer) fail(err error) {
	if q.broken == nil {
		q.broken = &fault.Error{
			Kind: fault.Unavailable, Op: "lsm.Commit", Detail: "the store cannot write any more; the outcome is unknown", Cause: err,
		}
		q.store.log.Error("a write to the log failed", "error", err)
		if isFull(err) {
			return // it says nothing against the store
		}
		if err := q.quarantine.write(err.Error()); err != nil {
			q.store.log.Error("the quarantine note was not written", "error", err)
		}
	}
}

// tell answers; err overrides the answers of those that changed something.
func (q *sequencer) tell(answers []answer, err error) {
	for _, a := range answers {
		if err != nil && a.reply.err == nil {
			a.reply = reply{err: err}
		}
		a.to.reply <- a.reply
	}
}

// date gives the time of the next commit, in milliseconds: now, or that of the
// newest commit when it is later.
func (q *sequencer) date() (int64, error) {
	now := q.clock().UnixMilli()
	if q.next.last > now+maxAhead.Milliseconds() {
		return 0, &fault.Error{
			Kind: fault.Unavailable, Op: "lsm.Commit",
			Detail: "the newest version is dated " + fromMillis(q.next.last).Format(time.RFC3339) + ", which is more than five minutes ahead of the clock",
			Hint:   "set the server's clock",
		}
	}
	return max(now, q.next.last), nil
}
