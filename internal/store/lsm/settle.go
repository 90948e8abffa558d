package lsm

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// settler puts tables in order when a store was not written to for a while.
//
//	rows, sheets    tables of imports and flushes, small and lightly packed, become
//	                few: nothing else would, as they overlap no other
//	the log         what it has becomes tables, when there is much of it (rest.go)
//	pointers, index what lies above the bottom goes down when it is a good part of
//	                what is there, and must not be looked into by each search any more
//
// Each byte is written so once or twice in its life, in pieces that take some tenths
// of a second of one processor; when the store was read or written to meanwhile, it
// rests as long after each.
// A store at rest has no timer: the goroutine sleeps until something is written.
type settler struct {
	store *Store
	rid   uint64        // of the state that was told of last; the sequencer's
	wake  chan struct{} // holds one
	end   context.CancelFunc
	done  chan struct{} // closed when run has ended
	// pause waits for a time, or until ctx ends; tests look at it.
	pause func(ctx context.Context, wait time.Duration)
}

// settleLatest is how long tables wait to be put in order while the store is
// written to all the time.
const settleLatest = time.Minute

const (
	// settledBytes is from how many bytes on a table of rows or sheets stays as it
	// is; settleChunk bounds what is put together at once, and so what a store that
	// is closed waits for.
	settledBytes = 4 << 20
	settleChunk  = 32 << 20
	// settleShare is the part of the index that must lie above the bottom for all
	// of it to be written anew: an eighth. Less than leastSettled bytes are not worth
	// the tables that are made for them, each of which costs some milliseconds, and an
	// index of more than mostSettled bytes is left to Pebble.
	settleShare  = 8
	leastSettled = 256 << 10
	mostSettled  = 256 << 20
)

func newSettler(s *Store) *settler {
	ctx, end := context.WithCancel(context.Background())
	w := &settler{store: s, wake: make(chan struct{}, 1), end: end, done: make(chan struct{}), pause: pause}
	go w.run(ctx)
	return w
}

// notice tells what was published: new rows wake the settler, its own deletions do
// not.
func (w *settler) notice(at state) {
	if at.rid == w.rid {
		return
	}
	w.rid = at.rid
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// stop waits until run has ended.
func (w *settler) stop() {
	w.end()
	<-w.done
}

func (w *settler) run(ctx context.Context) {
	defer close(w.done)
	for w.quiet(ctx) {
		if err := w.settle(ctx); err != nil && ctx.Err() == nil && !interrupted(err) && !fault.Is(err, fault.Full) {
			w.store.log.Warn("tables were not put in order", "error", err)
		}
	}
}

// quiet waits until something was written and then nothing for a while, or until
// that takes too long; false: the store is closed.
func (w *settler) quiet(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-w.wake:
	}
	for began := time.Now(); time.Since(began) < settleLatest; {
		rest := time.NewTimer(w.store.tuning.settleAfter)
		select {
		case <-ctx.Done():
			rest.Stop()
			return false
		case <-rest.C:
		}
		select {
		case <-w.wake:
		default:
			return true
		}
	}
	return true
}

// settle puts everything in order that is worth it.
func (w *settler) settle(ctx context.Context) error {
	ctx, stop := w.store.whilePossible(ctx)
	defer stop()
	return interruption(ctx, "lsm.settle", w.putInOrder(ctx))
}

func (w *settler) putInOrder(ctx context.Context) error {
	if err := w.store.rest(ctx, w.store.tuning.restFrom); err != nil {
		return err
	}
	for _, space := range []byte{spaceBody, spaceSheet} {
		runs, err := w.smallRuns(space)
		if err != nil {
			return err
		}
		for _, run := range runs {
			w.store.used.Store(false)
			began := time.Now()
			if err := w.join(ctx, run); err != nil {
				return err
			}
			if w.store.used.Load() { // half a processor is enough beside others
				w.pause(ctx, time.Since(began))
			}
		}
	}
	return w.lower(ctx)
}

func pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// tableRun is where a run of tables begins and ends.
type tableRun struct{ first, last []byte }

// smallRuns finds neighbours among the tables of a keyspace, so many that to put
// them together pays, and so few that it does not take long.
func (w *settler) smallRuns(space byte) (runs []tableRun, err error) {
	levels, err := w.store.db.SSTables(pebble.WithKeyRangeFilter([]byte{space}, []byte{space + 1}))
	if err != nil {
		return nil, err
	}
	var tables []pebble.SSTableInfo
	for _, level := range levels {
		for _, t := range level {
			if t.Smallest.UserKey[0] == space && t.Largest.UserKey[0] == space {
				tables = append(tables, t)
			}
		}
	}
	slices.SortFunc(tables, func(a, b pebble.SSTableInfo) int { return bytes.Compare(a.Smallest.UserKey, b.Smallest.UserKey) })
	size, n := uint64(0), 0
	var run tableRun
	end := func() {
		if n >= w.store.tuning.settleTables && size >= w.store.tuning.settleFrom {
			runs = append(runs, run)
		}
		size, n = 0, 0
	}
	for _, t := range tables {
		if t.Size >= settledBytes || size+t.Size > settleChunk {
			end()
		}
		if t.Size >= settledBytes {
			continue
		}
		if n == 0 {
			run.first = t.Smallest.UserKey
		}
		run.last = t.Largest.UserKey // a later one than those before, but in stores of before oneSpan
		size, n = size+t.Size, n+1
	}
	end()
	return runs, nil
}

// join has a run of tables written together. As they overlap nothing, Pebble would
// move them; two deletions around them, of keys that no key can be, make a table
// that overlaps all (sweep.go).
func (w *settler) join(ctx context.Context, run tableRun) error {
	before := append([]byte(nil), run.first[:len(run.first)-1]...)
	after := append(append([]byte(nil), run.last...), 0)
	if err := w.store.flush(ctx, nil); err != nil { // or the deletions would share a table with newer rows
		return err
	}
	edits := []metaEdit{{key: before, idle: true}, {key: after, idle: true}}
	if _, err := w.store.sequencer.submit(ctx, &request{meta: edits, imports: true}); err != nil {
		return err
	}
	return w.store.db.Compact(ctx, before, after, false)
}

// lower has pointers and index brought down to the bottom when that pays.
func (w *settler) lower(ctx context.Context) error {
	levels, err := w.store.db.SSTables(pebble.WithKeyRangeFilter([]byte{spacePointer}, []byte{spaceFacts}))
	if err != nil {
		return err
	}
	var above, bottom uint64
	for level, tables := range levels {
		for _, t := range tables {
			if level == bottomLevel {
				bottom += t.Size
			} else {
				above += t.Size
			}
		}
	}
	if above < w.store.tuning.settleFrom || above+bottom > mostSettled || above*settleShare < above+bottom {
		return nil
	}
	if err := w.store.flush(ctx, nil); err != nil {
		return err
	}
	return w.store.db.Compact(ctx, []byte{spacePointer}, []byte{spaceFacts}, false)
}
