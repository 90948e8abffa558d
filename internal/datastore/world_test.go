package datastore_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

// Clock is a clock that stands until Advance.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock begins on 1 October 2026.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 10, 1, 8, 0, 0, 0, time.UTC)} }

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance lets time pass.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Owned is the key of a World's server.
const Owned = "alias/tarn"

// Keyring is a KMS in memory.
type Keyring struct {
	mu    sync.Mutex
	keys  map[string]*seal.KeyInfo // by name
	made  map[string]seal.DataKey  // by ciphertext
	gone  error                    // what every question gets
	hook  func(ctx context.Context, op string) error
	Asked atomic.Int64 // Resolve calls
}

// NewKeyring has the key Owned.
func NewKeyring() *Keyring {
	k := &Keyring{keys: map[string]*seal.KeyInfo{}, made: map[string]seal.DataKey{}}
	k.Add(Owned)
	return k
}

// Add makes a key of that name, which names it beside its ARN, and returns the
// ARN.
func (k *Keyring) Add(name string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	info := &seal.KeyInfo{ARN: "arn:aws:kms:us-east-1:111122223333:key/" + rand.Text(), Enabled: true, Symmetric: true, Manager: "CUSTOMER", State: "Enabled"}
	k.keys[name], k.keys[info.ARN] = info, info
	return info.ARN
}

// Enable enables or disables a key.
func (k *Keyring) Enable(name string, yes bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[name].Enabled, k.keys[name].State = yes, map[bool]string{true: "Enabled", false: "Disabled"}[yes]
}

// Asymmetric makes a key unfit to seal.
func (k *Keyring) Asymmetric(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[name].Symmetric = false
}

// Forget takes a name away.
func (k *Keyring) Forget(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, name)
}

// Reach makes the KMS reachable, or not.
func (k *Keyring) Reach(yes bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone = nil; !yes {
		k.gone = fault.New(fault.Unavailable, "kms", "the KMS cannot be reached")
	}
}

// Hook runs f before every GenerateDataKey ("generate"), Unwrap ("unwrap") and
// Resolve ("resolve"); its error is theirs. Nil takes it away.
func (k *Keyring) Hook(f func(ctx context.Context, op string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hook = f
}

func (k *Keyring) enter(ctx context.Context, op string) error {
	k.mu.Lock()
	hook, gone := k.hook, k.gone
	k.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, op); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return fault.Wrap(fault.Canceled, "kms", ctx.Err())
	}
	return gone
}

// Resolve implements seal.Keyring.
func (k *Keyring) Resolve(ctx context.Context, name string) (seal.KeyInfo, error) {
	k.Asked.Add(1)
	if err := k.enter(ctx, "resolve"); err != nil {
		return seal.KeyInfo{}, err
	}
	return k.find(name)
}

func (k *Keyring) find(name string) (seal.KeyInfo, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	info := k.keys[name]
	if info == nil {
		return seal.KeyInfo{}, &fault.Error{Kind: fault.NotFound, Op: "kms", Subject: name, Detail: "no such key"}
	}
	return *info, nil
}

func (k *Keyring) usable(name string) (seal.KeyInfo, error) {
	info, err := k.find(name)
	if err == nil && !info.Enabled {
		err = fault.New(fault.Forbidden, "kms", "the key is disabled")
	}
	return info, err
}

// GenerateDataKey implements seal.Keyring.
func (k *Keyring) GenerateDataKey(ctx context.Context, name string, encryption map[string]string) (seal.DataKey, seal.Wrapped, error) {
	if err := k.enter(ctx, "generate"); err != nil {
		return seal.DataKey{}, seal.Wrapped{}, err
	}
	info, err := k.usable(name)
	if err != nil {
		return seal.DataKey{}, seal.Wrapped{}, err
	}
	key, err := seal.NewDataKey(rand.Reader)
	if err != nil {
		return key, seal.Wrapped{}, err
	}
	return key, k.Wrap(info.ARN, key, encryption), nil
}

// Wrap wraps a key.
func (k *Keyring) Wrap(arn string, key seal.DataKey, encryption map[string]string) seal.Wrapped {
	text := rand.Text()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.made[text+string(seal.CanonicalContext(encryption))] = copyOf(key)
	return seal.Wrapped{KeyARN: arn, Ciphertext: []byte(text)}
}

// copyOf is the key in bytes of its own, which wiping the other leaves alone.
func copyOf(key seal.DataKey) (out seal.DataKey) {
	key.Reveal(func(raw []byte) { out, _ = seal.DataKeyFrom(raw) })
	return out
}

// Unwrap implements seal.Keyring.
func (k *Keyring) Unwrap(ctx context.Context, w seal.Wrapped, encryption map[string]string) (seal.DataKey, error) {
	if err := k.enter(ctx, "unwrap"); err != nil {
		return seal.DataKey{}, err
	}
	if _, err := k.usable(w.KeyARN); err != nil {
		return seal.DataKey{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok := k.made[string(w.Ciphertext)+string(seal.CanonicalContext(encryption))]
	if !ok {
		return seal.DataKey{}, fault.New(fault.Forbidden, "kms", "key, context and ciphertext do not match")
	}
	return copyOf(key), nil
}

// Preload is a data set that loads as it is told.
type Preload struct {
	Runs atomic.Int64
	mu   sync.Mutex
	do   func(ctx context.Context, s store.Store) error
}

// Do sets what loading does; nil: nothing.
func (p *Preload) Do(f func(ctx context.Context, s store.Store) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.do = f
}

// Preload implements datastore.Preloader.
func (p *Preload) Preload(ctx context.Context, _ *datastore.Datastore, s store.Store, progress func(done, total int64)) error {
	p.Runs.Add(1)
	p.mu.Lock()
	do := p.do
	p.mu.Unlock()
	if do != nil {
		if err := do(ctx, s); err != nil {
			return err
		}
	}
	progress(1, 1)
	return nil
}

// World is what servers run on: an engine, its system store, and one server at
// a time. It outlives its servers: Crash stops one where it is and begins the
// next over the same system store.
type World struct {
	T       testing.TB
	Clock   *Clock
	Keys    *Keyring
	Preload *Preload
	Engine  store.Engine
	System  store.Store
	Options datastore.Options // what a server is begun with, besides the above
	Log     io.Writer

	// The server that runs now.
	Plane *datastore.Plane
	Jobs  *job.Queue
}

// systemStore is the id of a World's system store.
const systemStore store.ID = "system"

// newWorld makes a world over the plain engine, without a server.
func newWorld(t testing.TB) *World {
	t.Helper()
	clock := NewClock()
	return newWorldOn(t, clock, memory.New(memory.Options{Clock: clock.Now, Rand: rand.Reader}))
}

// newWorldOn makes a world over another engine.
func newWorldOn(t testing.TB, clock *Clock, engine store.Engine) *World {
	t.Helper()
	key, err := seal.NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Create(t.Context(), systemStore, key); err != nil {
		t.Fatal(err)
	}
	system, err := engine.Open(t.Context(), systemStore, key)
	if err != nil {
		t.Fatal(err)
	}
	w := &World{T: t, Clock: clock, Keys: NewKeyring(), Preload: new(Preload), Engine: engine, System: system, Log: io.Discard}
	t.Cleanup(func() { w.Stop() })
	return w
}

// Make makes a server that carries out no job until Begin.
func (w *World) Make() *World {
	log := slog.New(slog.NewTextHandler(w.Log, nil))
	w.Jobs = job.NewQueue(job.Options{
		System: w.System, Workers: 8, NewID: newJobID, Clock: w.Clock.Now, Log: log,
		Pause: func(ctx context.Context, d time.Duration) { w.Clock.Advance(d) },
	})
	o := w.Options
	o.Partition, o.Region, o.Account = "aws", "us-east-1", "111122223333"
	o.Engine, o.System, o.Jobs, o.Keyring, o.OwnedKey = w.Engine, w.System, w.Jobs, w.Keys, Owned
	o.Preload, o.Clock, o.Random, o.Log = w.Preload, w.Clock.Now, rand.Reader, log
	w.Plane = datastore.New(o)
	return w
}

func newJobID() string {
	raw := make([]byte, 16)
	rand.Read(raw)
	return hex.EncodeToString(raw)
}

// Begin lets the server carry out jobs, making it when there is none.
func (w *World) Begin() *World {
	w.T.Helper()
	if w.Plane == nil {
		w.Make()
	}
	if err := w.Jobs.Start(w.T.Context()); err != nil {
		w.T.Fatal(err)
	}
	return w
}

// Stop stops the server where it is; jobs under way see their context end.
func (w *World) Stop() {
	if w.Plane == nil {
		return
	}
	w.Jobs.Stop()
	w.Plane.Close()
	w.Plane, w.Jobs = nil, nil
}

// Crash stops the server where it is and begins the next.
func (w *World) Crash() *World {
	w.T.Helper()
	w.Stop()
	return w.Begin()
}

// patience bounds how long a test waits for what must come, in real time.
const patience = time.Minute

// Await waits until a store has a status.
func (w *World) Await(id string, want datastore.Status) *datastore.Datastore {
	w.T.Helper()
	var d *datastore.Datastore
	w.Until("status "+string(want)+" of "+id, func() bool {
		var err error
		if d, err = w.Plane.Describe(w.T.Context(), id); err != nil {
			w.T.Fatal(err)
		}
		return d.Status == want
	})
	return d
}

// Until waits until something holds.
func (w *World) Until(what string, holds func() bool) {
	w.T.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			w.T.Fatalf("gave up waiting for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// Create creates a store and waits until it is ACTIVE.
func (w *World) Create(req datastore.CreateRequest) *datastore.Datastore {
	w.T.Helper()
	req.TypeVersion = "R4"
	d, err := w.Plane.Create(w.T.Context(), req)
	if err != nil {
		w.T.Fatal(err)
	}
	return w.Await(d.ID, datastore.Active)
}

// AbsentID is the id of no data store.
func AbsentID(t testing.TB) string {
	id, err := arn.NewDatastoreID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
