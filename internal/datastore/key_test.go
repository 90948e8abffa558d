package datastore_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
)

func TestCreateJudgesTheKey(t *testing.T) {
	const member = "sseConfiguration.kmsEncryptionConfig.kmsKeyId"
	for name, c := range map[string]struct {
		encryption datastore.Encryption
		before     func(k *Keyring)
		kind       fault.Kind
		subject    string
	}{
		"no id":          {customer(""), nil, fault.Invalid, member},
		"id not wanted":  {datastore.Encryption{CmkType: datastore.AWSOwned, KeyID: "alias/mine"}, nil, fault.Invalid, member},
		"absent":         {customer("alias/absent"), nil, fault.Invalid, member},
		"asymmetric":     {customer("alias/mine"), func(k *Keyring) { k.Asymmetric("alias/mine") }, fault.Invalid, member},
		"disabled":       {customer("alias/mine"), func(k *Keyring) { k.Enable("alias/mine", false) }, fault.Forbidden, member},
		"malformed":      {customer("alias/mine"), says(fault.Invalid), fault.Invalid, member},
		"not allowed":    {customer("alias/mine"), says(fault.Forbidden), fault.Forbidden, member},
		"KMS is away":    {customer("alias/mine"), func(k *Keyring) { k.Reach(false) }, fault.Unavailable, ""},
		"KMS is unwell":  {customer("alias/mine"), says(fault.Internal), fault.Internal, ""},
		"KMS is so slow": {customer("alias/mine"), says(fault.Timeout), fault.Timeout, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).Begin()
			w.Keys.Add("alias/mine")
			if c.before != nil {
				c.before(w.Keys)
			}
			_, err := w.Plane.Create(t.Context(), datastore.CreateRequest{TypeVersion: "R4", Encryption: c.encryption})
			if f := fault.From(err); err == nil || f.Kind != c.kind || f.Subject != c.subject {
				t.Errorf("%v, want %v about %q", err, c.kind, c.subject)
			}
			if page, err := w.Plane.List(t.Context(), datastore.Filter{}, 10, "", nil); err != nil || len(page.Datastores) != 0 {
				t.Errorf("a refused request left %d stores, %v", len(page.Datastores), err)
			}
		})
	}
}

func says(kind fault.Kind) func(*Keyring) {
	return func(k *Keyring) {
		k.Hook(func(context.Context, string) error { return fault.New(kind, "test", "the KMS says so") })
	}
}

// An alias counts at creation only: pointed elsewhere or gone, the store stays
// with its key.
func TestAliasResolvesOnce(t *testing.T) {
	w := newWorld(t).Begin()
	first := w.Keys.Add("alias/mine")
	d := w.Create(datastore.CreateRequest{Encryption: customer("alias/mine")})
	if d.Encryption.KeyARN != first || d.Encryption.KeyID != "alias/mine" {
		t.Errorf("encryption %+v, want %s", d.Encryption, first)
	}
	w.Keys.Add("alias/mine") // another key under the same name
	w.Crash()
	writable(t, w, d.ID)
	w.Keys.Forget("alias/mine")
	w.Crash()
	writable(t, w, d.ID)
}

// A key that is disabled or destroyed takes its store out of service and out of
// memory, and brings it back.
func TestKeyLostAndFound(t *testing.T) {
	for name, c := range map[string]struct{ lose, find func(k *Keyring, arn string) }{
		"disabled": {
			func(k *Keyring, arn string) { k.Enable(arn, false) },
			func(k *Keyring, arn string) { k.Enable(arn, true) },
		},
		"not found":    {func(k *Keyring, _ string) { says(fault.NotFound)(k) }, func(k *Keyring, _ string) { k.Hook(nil) }},
		"grant is off": {func(k *Keyring, _ string) { says(fault.Forbidden)(k) }, func(k *Keyring, _ string) { k.Hook(nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).Begin()
			arn := w.Keys.Add("alias/mine")
			d := w.Create(datastore.CreateRequest{Encryption: customer("alias/mine")})
			lease, err := w.Plane.Open(t.Context(), d.ID)
			if err != nil {
				t.Fatal(err)
			}
			c.lose(w.Keys, arn)
			w.Plane.CheckKeys(t.Context())
			if n := w.Plane.OpenStores(); n != 0 {
				t.Errorf("%d stores open under a lost key", n)
			}
			if _, err := lease.Store.View(t.Context(), ""); !fault.Is(err, fault.Unavailable) {
				t.Errorf("a lease from before still reads: %v", err)
			}
			lease.Release()
			for range 3 {
				if _, err := w.Plane.Open(t.Context(), d.ID); !fault.Is(err, fault.Forbidden) {
					t.Errorf("data plane without the key: %v, want forbidden", err)
				}
			}
			c.find(w.Keys, arn)
			w.Clock.Advance(time.Second)
			writable(t, w, d.ID)
		})
	}
}

// While the key is lost, the clients of a store do not all ask the KMS.
func TestRefusalStandsAWhile(t *testing.T) {
	w := newWorld(t).Begin()
	w.Keys.Add("alias/mine")
	d := w.Create(datastore.CreateRequest{Encryption: customer("alias/mine")})
	w.Keys.Enable("alias/mine", false)
	w.Plane.CheckKeys(t.Context())
	before := w.Keys.Asked.Load()
	for range 100 {
		if _, err := w.Plane.Open(t.Context(), d.ID); !fault.Is(err, fault.Forbidden) {
			t.Fatal(err)
		}
	}
	if asked := w.Keys.Asked.Load() - before; asked != 1 {
		t.Errorf("100 requests asked the KMS %d times, want once", asked)
	}
	w.Clock.Advance(time.Minute)
	w.Plane.CloseIdle()
	if n := w.Plane.Slots(); n != 0 {
		t.Errorf("%d places kept for refusals of a minute ago", n)
	}
}

// A KMS that cannot be asked leaves open stores open for the grace, counted
// from the last good answer.
func TestKMSUnreachable(t *testing.T) {
	for name, away := range map[string]func(*Keyring){
		"unavailable": func(k *Keyring) { k.Reach(false) },
		"times out":   says(fault.Timeout),
		"unwell":      says(fault.Internal),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Options.KeyGrace, w.Options.IdleClose = 10*time.Minute, 24*time.Hour
			w.Begin()
			d := w.Create(datastore.CreateRequest{})
			writable(t, w, d.ID)
			w.Clock.Advance(time.Hour)
			w.Plane.CheckKeys(t.Context()) // a good answer
			away(w.Keys)
			w.Clock.Advance(10*time.Minute - time.Second)
			w.Plane.CheckKeys(t.Context())
			writable(t, w, d.ID)
			w.Clock.Advance(time.Second)
			w.Plane.CheckKeys(t.Context())
			if n := w.Plane.OpenStores(); n != 0 {
				t.Error("still open after the grace")
			}
			if _, err := w.Plane.Open(t.Context(), d.ID); err == nil || fault.Is(err, fault.Forbidden) {
				t.Errorf("%v: want a fault that says nothing against the key", err)
			}
			w.Keys.Reach(true)
			w.Keys.Hook(nil)
			w.Clock.Advance(time.Second)
			writable(t, w, d.ID)
		})
	}
}

// One question for each key, and none of them waits for a slow one.
func TestKeysAreAskedOnce(t *testing.T) {
	w := newWorld(t).Begin()
	w.Keys.Add("alias/one")
	w.Keys.Add("alias/two")
	for i := range 6 {
		d := w.Create(datastore.CreateRequest{Encryption: customer([]string{"alias/one", "alias/two"}[i%2])})
		writable(t, w, d.ID)
	}
	before := w.Keys.Asked.Load()
	w.Plane.CheckKeys(t.Context())
	if asked := w.Keys.Asked.Load() - before; asked != 2 {
		t.Errorf("%d questions for 6 stores under 2 keys", asked)
	}
}

// A server that stops learns nothing about keys.
func TestStoppingIsNoNewsOfKeys(t *testing.T) {
	w := newWorld(t).Begin()
	d := w.Create(datastore.CreateRequest{})
	writable(t, w, d.ID)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.Clock.Advance(24 * time.Hour)
	w.Plane.CheckKeys(ctx)
	if w.Plane.OpenStores() != 1 {
		t.Error("a store was closed for an answer that nobody waited for")
	}
}

// Tend does all of it by itself.
func TestTend(t *testing.T) {
	w := newWorld(t)
	w.Options.KeyCheck = time.Millisecond
	w.Begin()
	w.Keys.Add("alias/mine")
	d := w.Create(datastore.CreateRequest{Encryption: customer("alias/mine"), ClientToken: "t"})
	writable(t, w, d.ID)
	w.Clock.Advance(2 * datastore.TokenLife)
	ctx, cancel := context.WithCancel(t.Context())
	var tending sync.WaitGroup
	tending.Go(func() { w.Plane.Tend(ctx) })
	w.Until("the sweep", func() bool { n, err := w.Plane.Tokens(t.Context()); return n == 0 && err == nil })
	w.Until("the closing of what is idle", func() bool { return w.Plane.OpenStores() == 0 })
	writable(t, w, d.ID)
	w.Keys.Enable("alias/mine", false)
	w.Until("the closing for the key", func() bool { return w.Plane.OpenStores() == 0 })
	cancel()
	tending.Wait()
}

// Opening waits for a slow KMS only as long as its client does.
func TestOpenEndsWithItsClient(t *testing.T) {
	w := newWorld(t).Begin()
	d := w.Create(datastore.CreateRequest{})
	w.Crash()
	var asking atomic.Bool
	w.Keys.Hook(func(ctx context.Context, _ string) error {
		asking.Store(true)
		<-ctx.Done()
		return fault.Wrap(fault.Canceled, "test", ctx.Err())
	})
	opener, hangUp := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { _, err := w.Plane.Open(opener, d.ID); ended <- err }()
	w.Until("the question", asking.Load)
	waiter, hangUpToo := context.WithCancel(t.Context())
	go func() { _, err := w.Plane.Open(waiter, d.ID); ended <- err }()
	hangUpToo()
	if err := <-ended; err == nil {
		t.Error("the waiting client got a store")
	}
	hangUp()
	if err := <-ended; err == nil {
		t.Error("the asking client got a store")
	}
	w.Keys.Hook(nil)
	writable(t, w, d.ID) // nothing is held against the store
}
