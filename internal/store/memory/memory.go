// Package memory is the plain twin of the storage engines: maps and slices,
// and a Plan evaluated by looking at every resource. It is slow and obvious,
// keeps everything for ever, and is what the other engines are compared with.
//
//	Engine  id → data
//	data    log of versions in commit order; key → its versions, oldest first
//	World   the current resources at one moment; evaluates conditions (Holds)
//
// What a plan means is written once, in eval.go; what a commit means in
// commit.go. Nothing here is an index, and nothing survives the process: a
// store that is closed and opened again by the same Engine is as it was.
//
// Use it as an engine in tests of the rooms above, or use a World alone to ask
// whether a resource meets a condition.
package memory

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Options are what the world around gives. Both members are required.
type Options struct {
	// Clock tells the time of commits.
	Clock func() time.Time
	// Rand gives the hash keys of new stores, 16 bytes each.
	Rand io.Reader
}

// Engine holds data stores in memory. It implements store.Engine.
type Engine struct {
	opts Options

	mu     sync.Mutex // guards the members below; never held together with a data's
	stores map[store.ID]*data
}

// New makes an empty engine.
func New(opts Options) store.Engine {
	return &Engine{opts: opts, stores: map[store.ID]*data{}}
}

// Create implements store.Engine.
func (e *Engine) Create(ctx context.Context, id store.ID, key seal.DataKey) error {
	const op = "memory.Create"
	if err := check(ctx, op, id); err != nil {
		return err
	}
	if !key.Usable() {
		return fault.New(fault.Invalid, op, "no data key, or a wiped one")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.stores[id]; old != nil {
		return old.unlock(op, key)
	}
	d := &data{
		verifier:  key.Derive(verifierLabel),
		clock:     e.opts.Clock,
		changed:   make(chan struct{}),
		resources: map[plan.Key][]*version{},
		imports:   map[string]map[string][]byte{},
	}
	if _, err := io.ReadFull(e.opts.Rand, d.hash[:]); err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	e.stores[id] = d
	return nil
}

// Open implements store.Engine.
func (e *Engine) Open(ctx context.Context, id store.ID, key seal.DataKey) (store.Store, error) {
	const op = "memory.Open"
	if err := check(ctx, op, id); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.stores[id]
	if d == nil {
		return nil, fault.New(fault.NotFound, op, "no such store")
	}
	if err := d.unlock(op, key); err != nil {
		return nil, err
	}
	if d.open {
		return nil, fault.New(fault.Conflict, op, "the store is already open")
	}
	d.open = true
	return &handle{data: d, done: make(chan struct{}), release: func() { e.release(d) }, rekey: func(verifier [32]byte) {
		e.mu.Lock()
		defer e.mu.Unlock()
		d.verifier = verifier
	}}, nil
}

// Drop implements store.Engine.
func (e *Engine) Drop(ctx context.Context, id store.ID) error {
	const op = "memory.Drop"
	if err := check(ctx, op, id); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.stores[id]; d != nil && d.open {
		return fault.New(fault.Conflict, op, "the store is open")
	}
	delete(e.stores, id)
	return nil
}

func (e *Engine) release(d *data) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d.open = false
}

// check is what every method of Engine asks first.
func check(ctx context.Context, op string, id store.ID) error {
	if err := ended(ctx, op); err != nil {
		return err
	}
	if !validStoreID(id) {
		return fault.New(fault.Invalid, op, "not the id of a store")
	}
	return nil
}

func validStoreID(id store.ID) bool {
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return 0 < len(id) && len(id) <= store.MaxIDLen
}

// ended gives a context's end its kind: Timeout for a deadline, else Canceled.
func ended(ctx context.Context, op string) error {
	switch err := ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.Timeout, op, err)
	default:
		return fault.Wrap(fault.Canceled, op, err)
	}
}

// verifierLabel names the sub-key by which a data key is recognised.
const verifierLabel = "memory store"

// data is the content of one data store.
type data struct {
	verifier [32]byte // guarded by Engine.mu
	hash     plan.HashKey
	clock    func() time.Time
	open     bool // guarded by Engine.mu

	mu        sync.RWMutex // guards everything below
	commits   uint64       // commits that changed something
	order     uint64       // versions ever made
	last      time.Time    // Updated of the newest version
	changed   chan struct{}
	log       []logged
	resources map[plan.Key][]*version
	imports   map[string]map[string][]byte // import, part → cursor
}

// version is one version of a resource.
type version struct {
	store.Record
	entries []plan.Entry
	order   uint64 // place among all versions of the store
	commit  uint64 // place of its commit
}

// logged is one line of the change feed: a version, or the purge of a key.
type logged struct {
	commit  uint64
	key     plan.Key
	version *version // nil: the key was purged
}

func (d *data) unlock(op string, key seal.DataKey) error {
	if !key.Usable() || key.Derive(verifierLabel) != d.verifier {
		return fault.New(fault.Forbidden, op, "the data key does not open this store")
	}
	return nil
}

// at is the version of a key that is current after a commit; nil: none.
func (d *data) at(key plan.Key, commit uint64) *version {
	versions := d.resources[key]
	for i := len(versions) - 1; i >= 0; i-- {
		if versions[i].commit <= commit {
			return versions[i]
		}
	}
	return nil
}

// current lists what is current after a commit and not deleted, in no order.
func (d *data) current(commit uint64) []*version {
	var found []*version
	for key := range d.resources {
		if v := d.at(key, commit); v != nil && !v.Deleted {
			found = append(found, v)
		}
	}
	return found
}

func (d *data) world(commit uint64) *World {
	versions := d.current(commit)
	candidates := make([]Candidate, len(versions))
	for i, v := range versions {
		candidates[i] = v.candidate()
	}
	return NewWorld(d.hash, candidates)
}

func (v *version) candidate() Candidate {
	return Candidate{Key: v.Key, Updated: v.Updated, Created: v.Created, Entries: v.entries, Body: v.Body}
}

// handle is a data store while it is open: what Engine.Open gives.
type handle struct {
	data    *data
	once    sync.Once
	done    chan struct{} // closed by Close
	release func()
	rekey   func(verifier [32]byte)
}

// HashKey implements store.Store.
func (h *handle) HashKey() plan.HashKey { return h.data.hash }

// Close implements store.Store.
func (h *handle) Close() error {
	h.once.Do(func() {
		close(h.done)
		h.release()
	})
	return nil
}

// ready is what every method asks first: whether the caller and the store are
// still there.
func (h *handle) ready(ctx context.Context, op string) error {
	select {
	case <-h.done:
		return fault.New(fault.Unavailable, op, "the store is closed")
	default:
		return ended(ctx, op)
	}
}
