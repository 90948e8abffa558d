package datastore

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

// pool holds the stores that are open: opened at first use, closed when nobody
// used them for a while, when too many are open, or when their key is taken
// away.
type pool struct {
	plane *Plane

	mu     sync.Mutex
	slots  map[string]*slot
	faults map[string]error // why the engine did not open a store last time, by id
	closed bool

	closing sync.WaitGroup // of stores that take too much memory
}

// slot is one data store's place in the pool. Opening and closing happen under
// turn, everything else under pool.mu.
type slot struct {
	id   string
	turn chan struct{} // of one: held while the store is opened or closed

	// guarded by pool.mu
	store     store.Store // nil: closed
	key       string      // name of the key that opened it
	datastore *Datastore  // as last read; nil: to be read again
	changes   uint64      // how often the record was said to have changed
	opening   bool        // counts as open
	waiting   int         // who wants turn, or has it
	users     int         // leases out, of this opening or one before
	lastUsed  time.Time
	keySeen   time.Time // when the key was last known to be good
	refused   error     // why the store could not be opened last time
	refusedAt time.Time
}

// openRetry is how long a failure to open stands before it is tried again: a
// busy client of a store whose key is disabled shall not become a busy client
// of the KMS.
const openRetry = time.Second

// closedAtOnce is how many stores a server that ends closes at the same time: each
// waits for the disk to have its log in tables, two seconds at most.
const closedAtOnce = 8

// Lease is the use of an open data store; the holder releases it.
type Lease struct {
	Datastore *Datastore // as of the beginning of the lease; not to be changed
	Store     store.Store
	release   func()
	after     []func()
}

// Release gives the store back; more than once is once.
func (l *Lease) Release() { l.release() }

// OnRelease has f called at the release, before the store is given back. It is
// for the holder alone, before Release.
func (l *Lease) OnRelease(f func()) { l.after = append(l.after, f) }

func newPool(p *Plane) *pool {
	return &pool{plane: p, slots: map[string]*slot{}, faults: map[string]error{}}
}

// Open leases the data store of that id for the data plane, which only ACTIVE
// stores (and those being updated) serve: fault.Conflict for those not ready
// yet, fault.NotFound for those gone, fault.Forbidden when the key is disabled,
// fault.Unavailable when the KMS cannot be asked.
func (p *Plane) Open(ctx context.Context, id string) (*Lease, error) {
	if lease := p.pool.lease(id); lease != nil {
		return lease, nil
	}
	if _, err := p.Describe(ctx, id); err != nil {
		return nil, err // before a slot is made: strangers' ids take no room
	}
	return p.pool.acquire(ctx, id, serving)
}

// serving refuses the data plane of a store that is not there for it.
func serving(d *Datastore) error {
	if d.Status.Serves() {
		return nil
	}
	e := &fault.Error{Op: "datastore.Open", Subject: "Datastore " + d.ID, Detail: "the data store is " + string(d.Status)}
	switch d.Status {
	case Creating:
		e.Kind, e.Hint, e.Retry = fault.Conflict, "wait until it is ACTIVE", 1
	case CreateFailed:
		e.Kind = fault.Conflict
	default: // DELETING, DELETED
		e.Kind = fault.NotFound
	}
	return e
}

// lease hands out a store that is open already: the path of nearly every
// request.
func (p *pool) lease(id string) *Lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slots[id]
	if s == nil || s.store == nil || s.datastore == nil || !s.datastore.Status.Serves() {
		return nil
	}
	return p.leaseLocked(s)
}

// known is the record of a store that is open, nil when it is to be read.
func (p *pool) known(id string) *Datastore {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slots[id]; s != nil {
		return s.datastore
	}
	return nil
}

func (p *pool) leaseLocked(s *slot) *Lease {
	s.users++
	s.lastUsed = p.plane.Clock()
	l := &Lease{Datastore: s.datastore, Store: s.store}
	l.release = sync.OnceFunc(func() {
		for _, f := range l.after {
			f()
		}
		p.giveBack(s)
	})
	return l
}

// borrow is lease for the server's own looks, which do not keep a store from
// being idle; nil when it is not open.
func (p *pool) borrow(id string) *Lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slots[id]
	if s == nil || s.store == nil || s.datastore == nil {
		return nil
	}
	s.users++
	return &Lease{Datastore: s.datastore, Store: s.store, release: sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		s.users--
	})}
}

func (p *pool) giveBack(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.users--
	s.lastUsed = p.plane.Clock()
	if crowding(s) && !p.closed {
		p.closing.Go(func() { p.closeIf(s, func() bool { return crowding(s) }) })
	}
}

// crowding reports whether a store that nobody uses is to be closed for the memory that
// it takes; pool.mu is held.
func crowding(s *slot) bool {
	crowder, ok := s.store.(store.Crowder)
	return ok && s.users == 0 && crowder.Crowds()
}

// take waits for a slot's turn, making the slot if need be.
func (p *pool) take(ctx context.Context, id string) (*slot, error) {
	p.mu.Lock()
	s := p.slots[id]
	if s == nil {
		s = &slot{id: id, turn: make(chan struct{}, 1)}
		p.slots[id] = s
	}
	s.waiting++
	p.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
		return s, nil
	case <-ctx.Done():
		p.leave(s)
		return nil, fault.Wrap(fault.Canceled, "datastore.Open", ctx.Err())
	}
}

// pass ends a turn.
func (p *pool) pass(s *slot) {
	<-s.turn
	p.leave(s)
}

// leave forgets a slot that nobody needs. Leases of an opening before may still
// be out: they hold their slot themselves.
func (p *pool) leave(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.waiting--
	if s.waiting == 0 && s.store == nil && s.refused == nil && p.slots[s.id] == s {
		delete(p.slots, s.id)
	}
}

// acquire opens the store when it is closed; callers of the same store wait for
// one opening. The record is read again within the turn, so that a store whose
// deletion has begun is never opened behind the deleter's back.
func (p *pool) acquire(ctx context.Context, id string, mayOpen func(*Datastore) error) (*Lease, error) {
	s, err := p.take(ctx, id)
	if err != nil {
		return nil, err
	}
	defer p.pass(s)
	for {
		d, changes, err := p.current(ctx, s)
		if err != nil {
			return nil, err
		}
		if err := mayOpen(d); err != nil {
			return nil, err
		}
		if err := p.ensureOpen(ctx, s, d); err != nil {
			return nil, err
		}
		if lease := p.settle(s, d, changes); lease != nil {
			return lease, nil
		}
	}
}

// current reads the record, and how often it had changed before.
func (p *pool) current(ctx context.Context, s *slot) (*Datastore, uint64, error) {
	p.mu.Lock()
	changes := s.changes
	p.mu.Unlock()
	d, err := p.plane.Describe(ctx, s.id)
	return d, changes, err
}

// settle leases the store with the record just read, unless that changed
// meanwhile: then nil.
func (p *pool) settle(s *slot, d *Datastore, changes uint64) *Lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.changes != changes {
		return nil
	}
	s.datastore = d
	return p.leaseLocked(s)
}

// ensureOpen opens the slot's store, within the slot's turn.
func (p *pool) ensureOpen(ctx context.Context, s *slot, d *Datastore) error {
	p.mu.Lock()
	open, closed := s.store != nil, p.closed
	refused := s.refused
	if p.plane.Clock().Sub(s.refusedAt) >= openRetry {
		refused = nil
	}
	s.opening = !open && !closed && refused == nil
	p.mu.Unlock()
	switch {
	case open:
		return nil
	case closed:
		return fault.New(fault.Unavailable, "datastore.Open", "the server is stopping")
	case refused != nil:
		return refused
	}
	p.makeRoom()
	opened, err := p.open(ctx, d)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.plane.Clock()
	s.opening, s.refused = false, nil
	switch {
	case err == nil:
		s.store, s.key, s.keySeen, s.lastUsed = opened, p.plane.keyName(d), now, now
	case ctx.Err() == nil: // else the caller went away: nothing is known
		s.refused, s.refusedAt = err, now
	}
	return err
}

func (p *pool) open(ctx context.Context, d *Datastore) (store.Store, error) {
	key, err := p.unlock(ctx, d)
	if err != nil {
		return nil, denied(d, err)
	}
	defer key.Wipe()
	opened, err := p.plane.Engine.Open(ctx, store.ID(d.ID), key)
	if fault.Is(err, fault.Forbidden) {
		if next, failed := p.openNext(ctx, d); failed == nil {
			opened, err = next, nil
		}
	}
	p.noteFault(ctx, d.ID, err)
	if fault.Is(err, fault.NotFound) {
		// The record says that it is there: not the client's mistake.
		return nil, &fault.Error{Kind: fault.Internal, Op: "datastore.Open", Subject: "Datastore " + d.ID, Cause: err}
	}
	return opened, err
}

// noteFault keeps why a store could not be opened, until it can or is gone.
func (p *pool) noteFault(ctx context.Context, id string, err error) {
	if ctx.Err() != nil {
		return // the caller went away: nothing is known
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.faults, id)
		return
	}
	if p.faults[id] == nil {
		p.plane.Log.Error("a data store cannot be opened; the others serve on", "datastore", id, "error", err)
	}
	p.faults[id] = err
}

// Faulty gives why the engine did not open a store when it was asked for last;
// nil: it did, or was not asked.
func (p *Plane) Faulty(id string) *Failure {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	err := p.pool.faults[id]
	if err == nil {
		return nil
	}
	f := failureOf(err)
	f.Message = "the data store cannot be opened: " + f.Message
	return f
}

// Faults counts the stores that could not be opened when they were asked for last.
func (p *Plane) Faults() int {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	return len(p.pool.faults)
}

// unlock asks the KMS for the store's data key.
func (p *pool) unlock(ctx context.Context, d *Datastore) (seal.DataKey, error) {
	asking, cancel := context.WithTimeout(ctx, keyPatience)
	defer cancel()
	err := p.plane.keyGood(asking, p.plane.keyName(d))
	if err != nil {
		return seal.DataKey{}, err
	}
	return p.plane.dataKey(asking, d)
}

// keyGood asks the KMS whether a key may be used: nil, an error of kind
// Forbidden when it is lost, any other when that could not be learnt.
func (p *Plane) keyGood(ctx context.Context, name string) error {
	info, err := p.Keyring.Resolve(ctx, name)
	switch {
	case err == nil && info.Enabled:
		return nil
	case err == nil:
		return fault.New(fault.Forbidden, "datastore.keyGood", "the KMS key is %s", info.State)
	}
	return keyLost(err)
}

// keyLost makes fault.Forbidden of every answer by which a KMS says that a key
// cannot be used; that it could not answer stays what it is.
func keyLost(err error) error {
	switch fault.From(err).Kind {
	case fault.NotFound, fault.Invalid, fault.Forbidden:
		return &fault.Error{Kind: fault.Forbidden, Op: "datastore.keyLost", Detail: "the KMS key cannot be used", Cause: err}
	}
	return err
}

// denied gives a lost key the answer that AWS gives (AccessDenied); any other
// failure stays what it is.
func denied(d *Datastore, err error) error {
	if !fault.Is(err, fault.Forbidden) {
		return err
	}
	return &fault.Error{Kind: fault.Forbidden, Op: "datastore.Open", Subject: "Datastore " + d.ID, Cause: err,
		Detail: "the KMS key of this data store is disabled, gone or not to be used", Hint: "enable the key"}
}

// changed says that a store's record was changed: what is kept of it is read
// again before the next lease. It is called after the commit, so that whatever
// is read later is new.
func (p *pool) changed(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slots[id]; s != nil {
		s.changes++
		s.datastore = nil
	}
}

// discard closes a store whoever uses it: it is going away, or its key is.
func (p *pool) discard(id string) {
	p.mu.Lock()
	known := p.slots[id] != nil
	p.mu.Unlock()
	if !known {
		return
	}
	s, err := p.take(context.Background(), id)
	if err != nil { // never: this context does not end
		return
	}
	defer p.pass(s)
	p.shut(s, func() bool { return true })
}

// closeIf closes a store that nobody uses, is opening or closing, if a last look
// under the lock agrees.
func (p *pool) closeIf(s *slot, still func() bool) {
	select {
	case s.turn <- struct{}{}:
	default:
		return
	}
	p.mu.Lock()
	s.waiting++
	p.mu.Unlock()
	defer p.pass(s)
	p.shut(s, func() bool { return s.users == 0 && still() })
}

// shut closes the slot's store within its turn.
func (p *pool) shut(s *slot, really func() bool) {
	p.mu.Lock()
	open := s.store
	if open == nil || !really() {
		p.mu.Unlock()
		return
	}
	unused := s.users == 0
	p.plane.backups.doubt(s.id)
	s.store, s.datastore = nil, nil
	p.mu.Unlock()
	if unused { // else somebody may write until it is closed
		p.plane.backups.settle(s.id, open)
	}
	if err := open.Close(); err != nil {
		p.plane.Log.Error("closing a data store", "datastore", s.id, "error", err)
	}
}

// makeRoom closes the store that was unused longest while MaxOpen or more are
// open or about to be, and those that crowd others. When all are in use the bound
// gives way: a request is worth more than the memory.
func (p *pool) makeRoom() {
	for {
		s, used := p.surplus()
		if s == nil {
			return
		}
		p.closeIf(s, func() bool { return s.lastUsed.Equal(used) })
		if again, _ := p.surplus(); again == s {
			return // somebody has its turn, or took it into use: let it be
		}
	}
}

// surplus is the store to close when too many are open or one crowds others, and when
// it was used last; nil when there is none.
func (p *pool) surplus() (*slot, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := 0
	var oldest *slot
	for _, s := range p.slots {
		if s.opening || s.store != nil {
			count++
		}
		if crowding(s) {
			return s, s.lastUsed
		}
		if s.store != nil && s.users == 0 && (oldest == nil || s.lastUsed.Before(oldest.lastUsed)) {
			oldest = s
		}
	}
	if count <= p.plane.MaxOpen || oldest == nil {
		return nil, time.Time{}
	}
	return oldest, oldest.lastUsed
}

// closeIdle closes what nobody used for IdleClose or crowds others, and forgets refusals that
// nobody asked about again.
func (p *pool) closeIdle() {
	now := p.plane.Clock()
	idle := func(s *slot) bool {
		return s.users == 0 && now.Sub(s.lastUsed) >= p.plane.IdleClose || crowding(s)
	}
	var closing []*slot
	p.mu.Lock()
	for id, s := range p.slots {
		if s.store != nil && idle(s) {
			closing = append(closing, s)
		}
		if s.store == nil && s.waiting == 0 && now.Sub(s.refusedAt) >= openRetry {
			delete(p.slots, id)
		}
	}
	p.mu.Unlock()
	for _, s := range closing {
		p.closeIf(s, func() bool { return idle(s) })
	}
	if len(closing) > 0 {
		// An idle server gives its memory back to the machine. Twice, because
		// what lies in a sync.Pool survives one collection.
		runtime.GC()
		debug.FreeOSMemory()
		releaseProgram()
	}
}

// Close closes every open store, and lets none be opened again.
func (p *Plane) Close() {
	p.pool.mu.Lock()
	p.pool.closed = true
	var ids []string
	for id := range p.pool.slots {
		ids = append(ids, id)
	}
	p.pool.mu.Unlock()
	p.pool.closing.Wait()
	var closing sync.WaitGroup
	turns := make(chan struct{}, closedAtOnce)
	for _, id := range ids {
		turns <- struct{}{}
		closing.Go(func() {
			p.pool.discard(id)
			<-turns
		})
	}
	closing.Wait()
}
