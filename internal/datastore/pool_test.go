package datastore_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

func TestIdleStoresClose(t *testing.T) {
	w := newWorld(t)
	w.Options.IdleClose = time.Minute
	w.Begin()
	idle, used := w.Create(datastore.CreateRequest{}), w.Create(datastore.CreateRequest{})
	writable(t, w, idle.ID)
	lease, err := w.Plane.Open(t.Context(), used.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Minute - time.Millisecond)
	w.Plane.CloseIdle()
	if n := w.Plane.OpenStores(); n != 2 {
		t.Fatalf("%d open a moment too early, want 2", n)
	}
	w.Clock.Advance(time.Millisecond)
	w.Plane.CloseIdle()
	if n := w.Plane.OpenStores(); n != 1 {
		t.Fatalf("%d open, want the one in use", n)
	}
	lease.Release()
	lease.Release() // twice is once
	w.Plane.CloseIdle()
	if n := w.Plane.OpenStores(); n != 1 {
		t.Fatal("closed although it was used a moment ago")
	}
	w.Clock.Advance(time.Minute)
	w.Plane.CloseIdle()
	if open, slots := w.Plane.OpenStores(), w.Plane.Slots(); open != 0 || slots != 0 {
		t.Fatalf("%d open, %d places, want none", open, slots)
	}
	writable(t, w, idle.ID)
}

func TestMaxOpen(t *testing.T) {
	w := newWorld(t)
	w.Options.MaxOpen = 2
	w.Begin()
	var ids []string
	for range 4 {
		ids = append(ids, w.Create(datastore.CreateRequest{}).ID)
	}
	open := func(id string) *datastore.Lease {
		t.Helper()
		w.Clock.Advance(time.Second)
		lease, err := w.Plane.Open(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return lease
	}
	open(ids[0]).Release()
	kept := open(ids[1])
	open(ids[2]).Release() // closes 0
	open(ids[3]).Release() // closes 2: 1 is in use
	if n := w.Plane.OpenStores(); n != 2 {
		t.Errorf("%d open, want 2", n)
	}
	if _, err := kept.Store.View(t.Context(), ""); err != nil {
		t.Errorf("a store in use was closed: %v", err)
	}
	// All in use: the bound gives way, and is kept again afterwards.
	second, third := open(ids[3]), open(ids[0])
	if n := w.Plane.OpenStores(); n != 3 {
		t.Errorf("%d open, want 3 in use", n)
	}
	kept.Release()
	second.Release()
	third.Release()
	open(ids[2]).Release()
	if n := w.Plane.OpenStores(); n != 2 {
		t.Errorf("%d open, want 2", n)
	}
}

func TestClosedPlaneOpensNothing(t *testing.T) {
	w := newWorld(t).Begin()
	d := w.Create(datastore.CreateRequest{})
	writable(t, w, d.ID)
	w.Plane.Close()
	if n := w.Plane.OpenStores(); n != 0 {
		t.Errorf("%d open", n)
	}
	if _, err := w.Plane.Open(t.Context(), d.ID); !fault.Is(err, fault.Unavailable) {
		t.Errorf("open after close: %v", err)
	}
}

// A lease shows the record as it is, not as it was when the store was opened.
func TestLeaseShowsTheRecord(t *testing.T) {
	w := newWorld(t).Begin()
	d := w.Create(datastore.CreateRequest{Name: "old"})
	writable(t, w, d.ID)
	name := "new"
	if _, err := w.Plane.Update(t.Context(), datastore.UpdateRequest{ID: d.ID, Name: &name}); err != nil {
		t.Fatal(err)
	}
	lease, err := w.Plane.Open(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	if lease.Datastore.Name != name {
		t.Errorf("name %q, want %q", lease.Datastore.Name, name)
	}
}

// crowded is an engine whose stores crowd each other when they are told to.
type crowded struct {
	store.Engine
	crowding atomic.Bool
}

type crowder struct {
	store.Store
	of *crowded
}

func (c *crowded) Open(ctx context.Context, id store.ID, key seal.DataKey) (store.Store, error) {
	opened, err := c.Engine.Open(ctx, id, key)
	if err != nil {
		return nil, err
	}
	return crowder{opened, c}, nil
}

func (c crowder) Crowds() bool { return c.of.crowding.Load() }

// Stores that take too much memory are closed when nobody uses them any more, and when
// another one is opened.
func TestCrowdingStoresClose(t *testing.T) {
	w := newWorld(t)
	engine := &crowded{Engine: w.Engine}
	w.Engine = engine
	w.Begin()
	var leases []*datastore.Lease
	for range 3 {
		lease, err := w.Plane.Open(t.Context(), w.Create(datastore.CreateRequest{}).ID)
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, lease)
	}
	leases[0].Release()
	if n := w.Plane.OpenStores(); n != 3 {
		t.Fatalf("%d open, and none crowds", n)
	}
	engine.crowding.Store(true)
	if _, err := leases[1].Store.View(t.Context(), ""); err != nil {
		t.Errorf("a store in use was closed: %v", err)
	}
	leases[1].Release()
	w.Until("the closing of the one that was released", func() bool { return w.Plane.OpenStores() == 2 })
	lease, err := w.Plane.Open(t.Context(), leases[1].Datastore.ID)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.Plane.OpenStores(); n != 2 {
		t.Errorf("%d open, want the two in use", n)
	}
	engine.crowding.Store(false)
	lease.Release()
	engine.crowding.Store(true)
	w.Plane.CloseIdle()
	if n := w.Plane.OpenStores(); n != 1 {
		t.Errorf("%d open, want the one in use", n)
	}
	leases[2].Release()
	w.Until("the closing of all", func() bool { return w.Plane.OpenStores() == 0 })
	writable(t, w, leases[0].Datastore.ID)
}

// Clients, the idle clock, the bound, the key and a deletion all pull at the
// same stores. Whatever a client gets is a store that works or a refusal that
// fits, and in the end nothing is left open or leased.
func TestPoolRaced(t *testing.T) {
	const stores, clients, rounds = 4, 8, 150
	w := newWorld(t)
	w.Options.MaxOpen, w.Options.IdleClose = 2, time.Second
	w.Begin()
	w.Keys.Add("alias/mine")
	var ids []string
	for range stores {
		ids = append(ids, w.Create(datastore.CreateRequest{Encryption: customer("alias/mine")}).ID)
	}
	var group sync.WaitGroup
	for c := range clients {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(c)))
			for range rounds {
				use(t, w, ids[random.IntN(stores)])
			}
		})
	}
	group.Go(func() {
		for i := range rounds {
			w.Clock.Advance(300 * time.Millisecond)
			w.Plane.CloseIdle()
			w.Keys.Enable("alias/mine", i%20 != 7)
			w.Plane.CheckKeys(t.Context())
		}
		w.Keys.Enable("alias/mine", true)
	})
	group.Go(func() {
		if _, err := w.Plane.Delete(t.Context(), ids[0]); err != nil {
			t.Error(err)
		}
	})
	group.Wait()
	w.Await(ids[0], datastore.Deleted)
	gone(t, w, ids[0])
	w.Clock.Advance(time.Minute)
	for _, id := range ids[1:] {
		writable(t, w, id)
	}
	w.Clock.Advance(time.Minute)
	w.Plane.CloseIdle()
	if open, slots := w.Plane.OpenStores(), w.Plane.Slots(); open != 0 || slots != 0 {
		t.Errorf("%d open, %d places in the end", open, slots)
	}
}

// use is one request: it must be served, or refused for what really happened.
func use(t *testing.T, w *World, id string) {
	lease, err := w.Plane.Open(t.Context(), id)
	if err != nil {
		if !fault.Is(err, fault.Forbidden) && !fault.Is(err, fault.NotFound) {
			t.Errorf("open: %v", err)
		}
		return
	}
	defer lease.Release()
	_, err = lease.Store.Commit(t.Context(), []store.Op{{Key: plan.Key{Type: 1, ID: "a"}, Body: []byte("{}")}})
	if err != nil && !fault.Is(err, fault.Unavailable) {
		t.Errorf("commit: %v", err)
	}
}
