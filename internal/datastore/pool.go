package datastore

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
)

// pool holds the stores that are open: opened at first use, closed when nobody
// used them for a while, when too many are open, or when their key is taken
// away.
type pool struct {
	plane *Plane

	mu    sync.Mutex
	slots map[string]*slot
}

// slot is one data store's place in the pool.
type slot struct {
	mu        sync.Mutex // held while the store is opened or closed
	datastore *Datastore
	store     store.Store // nil: closed

	// guarded by pool.mu
	users    int
	lastUsed time.Time
	keySeen  time.Time // when the key was last known to be good
}

// Lease is the use of an open data store; the holder releases it.
type Lease struct {
	Datastore *Datastore
	Store     store.Store
	release   func()
}

// Release gives the store back.
func (l *Lease) Release() { l.release() }

func newPool(p *Plane) *pool {
	return &pool{plane: p, slots: map[string]*slot{}}
}

// Open leases the data store of that id for the data plane, which only ACTIVE
// stores (and those being updated) serve.
func (p *Plane) Open(ctx context.Context, id string) (*Lease, error) {
	if lease := p.pool.lease(id); lease != nil {
		return lease, nil
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
	if s == nil || s.store == nil || !s.datastore.Status.Serves() {
		return nil
	}
	return p.leaseLocked(s)
}

func (p *pool) leaseLocked(s *slot) *Lease {
	s.users++
	s.lastUsed = p.plane.Clock()
	return &Lease{Datastore: s.datastore, Store: s.store, release: sync.OnceFunc(func() { p.giveBack(s) })}
}

func (p *pool) giveBack(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.users--
	s.lastUsed = p.plane.Clock()
}

// acquire opens the store when it is closed; callers of the same store wait for
// one opening. The record is read again under the slot's lock, so that a store
// whose deletion has begun is never opened behind the deleter's back.
func (p *pool) acquire(ctx context.Context, id string, mayOpen func(*Datastore) error) (*Lease, error) {
	s := p.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		d, err := p.plane.Describe(ctx, id)
		if err != nil {
			return nil, err
		}
		if err := mayOpen(d); err != nil {
			return nil, err
		}
		p.makeRoom()
		opened, err := p.open(ctx, d)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		s.store, s.datastore, s.keySeen = opened, d, p.plane.Clock()
		p.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leaseLocked(s), nil
}

func (p *pool) slot(id string) *slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slots[id]
	if s == nil {
		s = &slot{}
		p.slots[id] = s
	}
	return s
}

func (p *pool) open(ctx context.Context, d *Datastore) (store.Store, error) {
	info, err := p.plane.Keyring.Resolve(ctx, p.plane.keyName(d))
	if err != nil {
		return nil, err
	}
	if !info.Enabled {
		return nil, keyDenied(d)
	}
	key, err := p.plane.dataKey(ctx, d)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return p.plane.Engine.Open(ctx, store.ID(d.ID), key)
}

func keyDenied(d *Datastore) error {
	return &fault.Error{Kind: fault.Forbidden, Op: "datastore.Open", Subject: "Datastore " + d.ID,
		Detail: "the KMS key of this data store is disabled or gone", Hint: "enable the key"}
}

// refresh puts a changed record into the pool.
func (p *pool) refresh(d *Datastore) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slots[d.ID]; s != nil && s.store != nil {
		s.datastore = d
	}
}

// discard closes a store whoever uses it: it is going away, or its key is.
func (p *pool) discard(id string) { p.close(id, true) }

// close closes a store; one in use only when forced.
func (p *pool) close(id string, force bool) {
	s := p.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	p.mu.Lock()
	open := s.store
	if s.users > 0 && !force {
		open = nil
	}
	if open != nil {
		s.store = nil
	}
	p.mu.Unlock()
	if open == nil {
		return
	}
	if err := open.Close(); err != nil {
		p.plane.Log.Error("closing a data store", "datastore", id, "error", err)
	}
}

// makeRoom closes the store that was unused longest when MaxOpen are open.
func (p *pool) makeRoom() {
	p.mu.Lock()
	open := 0
	var oldest string
	for id, s := range p.slots {
		if s.store == nil {
			continue
		}
		open++
		if s.users == 0 && (oldest == "" || s.lastUsed.Before(p.slots[oldest].lastUsed)) {
			oldest = id
		}
	}
	p.mu.Unlock()
	if open >= p.plane.MaxOpen && oldest != "" {
		p.close(oldest, false)
	}
}

// Tend closes idle stores and looks after keys until ctx ends.
func (p *Plane) Tend(ctx context.Context) {
	tick := time.NewTicker(min(p.KeyCheck, p.IdleClose))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.pool.closeIdle()
			p.pool.checkKeys(ctx)
		}
	}
}

func (p *pool) closeIdle() {
	now := p.plane.Clock()
	var idle []string
	p.mu.Lock()
	for id, s := range p.slots {
		if s.store != nil && s.users == 0 && now.Sub(s.lastUsed) >= p.plane.IdleClose {
			idle = append(idle, id)
		}
	}
	p.mu.Unlock()
	for _, id := range idle {
		p.close(id, false)
	}
	if len(idle) > 0 {
		// An idle server gives its memory back to the machine.
		debug.FreeOSMemory()
	}
}

// checkKeys closes the stores whose key was disabled, which drops data key,
// caches and views from memory; a KMS that cannot be reached is not a disabled
// key, and closes them only after KeyGrace.
func (p *pool) checkKeys(ctx context.Context) {
	p.mu.Lock()
	open := make(map[string]*slot, len(p.slots))
	for id, s := range p.slots {
		if s.store != nil {
			open[id] = s
		}
	}
	p.mu.Unlock()
	for id, s := range open {
		if reason := p.keyLost(ctx, s); reason != nil {
			p.plane.Log.Warn("closing a data store for its key", "datastore", id, "error", reason)
			p.discard(id)
		}
	}
}

func (p *pool) keyLost(ctx context.Context, s *slot) error {
	p.mu.Lock()
	d, seen := s.datastore, s.keySeen
	p.mu.Unlock()
	info, err := p.plane.Keyring.Resolve(ctx, p.plane.keyName(d))
	switch {
	case err == nil && info.Enabled:
		p.mu.Lock()
		s.keySeen = p.plane.Clock()
		p.mu.Unlock()
		return nil
	case fault.Is(err, fault.Unavailable) && p.plane.Clock().Sub(seen) < p.plane.KeyGrace:
		return nil
	case err != nil:
		return err
	}
	return errors.New("the key is disabled")
}

// Close closes every open store.
func (p *Plane) Close() {
	p.pool.mu.Lock()
	var ids []string
	for id := range p.pool.slots {
		ids = append(ids, id)
	}
	p.pool.mu.Unlock()
	for _, id := range ids {
		p.pool.discard(id)
	}
}
