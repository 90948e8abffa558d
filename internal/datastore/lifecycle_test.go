package datastore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// watched is an engine that tells before it does something; the answer of the
// watcher, when it is an error, stands instead.
type watched struct {
	store.Engine
	before func(ctx context.Context, op string) error
}

func (w watched) Create(ctx context.Context, id store.ID, key seal.DataKey) error {
	if err := w.before(ctx, "create"); err != nil {
		return err
	}
	return w.Engine.Create(ctx, id, key)
}

func (w watched) Drop(ctx context.Context, id store.ID) error {
	if err := w.before(ctx, "drop"); err != nil {
		return err
	}
	return w.Engine.Drop(ctx, id)
}

// dying is a system store whose process dies at one commit: that commit is not
// carried out, or is and nobody hears of it, and none after it is.
type dying struct {
	store.Store

	mu      sync.Mutex
	commits int64 // since die
	at      int64 // the fatal commit, from 1; 0: none
	after   bool  // it is carried out
}

// fate counts a commit: whether it is carried out, and whether that is told.
func (d *dying) fate() (done, told bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.commits++
	alive := d.at == 0 || d.commits < d.at
	return alive || d.commits == d.at && d.after, alive
}

func (d *dying) Commit(ctx context.Context, ops []store.Op) ([]store.Outcome, error) {
	done, told := d.fate()
	if done {
		if outcomes, err := d.Store.Commit(ctx, ops); told || err != nil {
			return outcomes, err
		}
	}
	return nil, fault.New(fault.Unavailable, "dying", "the process is dying")
}

// die lets the n-th commit from now be fatal; 0: lives on.
func (d *dying) die(n int64, after bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.commits, d.at, d.after = 0, n, after
}

// dead reports whether the fatal commit was reached.
func (d *dying) dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at > 0 && d.commits >= d.at
}

func gone(t testing.TB, w *World, id string) {
	t.Helper()
	if has, err := w.Plane.HasKey(t.Context(), id); has || err != nil {
		t.Errorf("the wrapped key is still there: %v %v", has, err)
	}
	key, err := seal.NewDataKey(zeros{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Engine.Open(t.Context(), store.ID(id), key); !fault.Is(err, fault.NotFound) {
		t.Errorf("the engine's store is still there: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// writable proves that a store serves: a commit through the data plane's door.
func writable(t testing.TB, w *World, id string) {
	t.Helper()
	lease, err := w.Plane.Open(t.Context(), id)
	if err != nil {
		t.Fatalf("opening an ACTIVE store: %v", err)
	}
	defer lease.Release()
	if _, err := lease.Store.Commit(t.Context(), []store.Op{{Key: plan.Key{Type: 1, ID: "a"}, Body: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
}

func TestCreateAnswersCreatingAndBecomesActive(t *testing.T) {
	w := newWorld(t).Make()
	d, err := w.Plane.Create(t.Context(), datastore.CreateRequest{Name: "clinic", TypeVersion: "R4"})
	if err != nil {
		t.Fatal(err)
	}
	if d.Status != datastore.Creating || d.ARN != "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/"+d.ID {
		t.Errorf("answer %+v", d)
	}
	if _, err := w.Plane.Open(t.Context(), d.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("data plane while CREATING: %v, want conflict", err)
	}
	if _, err := w.Plane.Delete(t.Context(), d.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("deletion while CREATING: %v, want conflict", err)
	}
	w.Begin()
	w.Await(d.ID, datastore.Active)
	writable(t, w, d.ID)
}

// While a store is preloaded it is open, but not for the data plane.
func TestPreloadIsNotServed(t *testing.T) {
	w := newWorld(t).Begin()
	loading, finish := make(chan struct{}), make(chan struct{})
	w.Preload.Do(func(context.Context, store.Store) error {
		close(loading)
		<-finish
		return nil
	})
	d, err := w.Plane.Create(t.Context(), datastore.CreateRequest{TypeVersion: "R4", Preload: "SYNTHEA"})
	if err != nil {
		t.Fatal(err)
	}
	<-loading
	if _, err := w.Plane.Open(t.Context(), d.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("data plane during the preload: %v, want conflict", err)
	}
	close(finish)
	w.Await(d.ID, datastore.Active)
	writable(t, w, d.ID) // at once: no stale state is in the way
}

// The server is stopped in the middle of each step of provisioning, and the
// next one brings the store to ACTIVE.
func TestProvisioningResumes(t *testing.T) {
	for _, stop := range []string{"before the job begins", "generate", "unwrap", "create", "resolve", "preload"} {
		t.Run(stop, func(t *testing.T) {
			w := newWorld(t)
			reached := make(chan struct{})
			var stopped atomic.Bool
			hold := func(ctx context.Context, op string) error {
				if op != stop || stopped.Swap(true) {
					return nil
				}
				close(reached)
				<-ctx.Done()
				return fault.Wrap(fault.Canceled, "test", ctx.Err())
			}
			plain := w.Engine
			w.Engine = watched{plain, hold}
			w.Preload.Do(func(ctx context.Context, _ store.Store) error { return hold(ctx, "preload") })
			w.Keys.Hook(hold)
			if w.Make(); stop != "before the job begins" {
				w.Begin()
			} else {
				close(reached)
			}
			d, err := w.Plane.Create(t.Context(), datastore.CreateRequest{TypeVersion: "R4", Preload: "SYNTHEA"})
			if err != nil {
				t.Fatal(err)
			}
			<-reached
			w.Crash().Await(d.ID, datastore.Active)
			writable(t, w, d.ID)
			if w.Preload.Runs.Load() == 0 {
				t.Error("nothing was preloaded")
			}
		})
	}
}

// everyDeath runs a scene once for each commit of the system store at which the
// process may die, not carrying it out and carrying it out, until the scene ends
// before it comes to that many. The scene calls die where its commits begin to
// count, and returns what must be true once the next server has come up.
func everyDeath(t *testing.T, scene func(w *World, die func()) (check func())) {
	t.Helper()
	deaths := 0
	for _, after := range []bool{false, true} {
		for n := int64(1); ; n++ {
			if !oneDeath(t, n, after, scene) {
				break
			}
			deaths++
		}
	}
	if deaths < 8 {
		t.Errorf("only %d deaths: the scene does not write what it should", deaths)
	}
}

func oneDeath(t *testing.T, n int64, after bool, scene func(w *World, die func()) func()) (died bool) {
	t.Run(fmt.Sprintf("commit %d after=%v", n, after), func(t *testing.T) {
		w := newWorld(t)
		system := &dying{Store: w.System}
		w.System = system
		w.Begin()
		check := scene(w, func() { system.die(n, after) })
		w.Until("the end of the jobs", func() bool { return idle(w) || system.dead() })
		died = system.dead()
		w.Stop()
		system.die(0, false)
		w.Begin()
		check()
	})
	return died
}

// idle: no job is unfinished.
func idle(w *World) bool {
	page, err := w.Plane.List(w.T.Context(), datastore.Filter{}, 10, "", nil)
	if err != nil {
		w.T.Fatal(err)
	}
	for _, d := range page.Datastores {
		open, err := w.Jobs.Open(w.T.Context(), d.ID)
		if err != nil {
			w.T.Fatal(err)
		}
		if len(open) > 0 {
			return false
		}
	}
	return true
}

func TestCreateSurvivesDeathAtEveryCommit(t *testing.T) {
	everyDeath(t, func(w *World, die func()) func() {
		req := datastore.CreateRequest{TypeVersion: "R4", Preload: "SYNTHEA", ClientToken: "token-1"}
		die()
		first, failed := w.Plane.Create(w.T.Context(), req)
		return func() {
			again, err := w.Plane.Create(w.T.Context(), req)
			if err != nil {
				w.T.Fatal(err)
			}
			if failed == nil && again.ID != first.ID {
				w.T.Errorf("acknowledged %s, then %s for the same token", first.ID, again.ID)
			}
			w.Await(again.ID, datastore.Active)
			writable(w.T, w, again.ID)
			page, err := w.Plane.List(w.T.Context(), datastore.Filter{}, 10, "", nil)
			if err != nil || len(page.Datastores) != 1 {
				w.T.Errorf("%d stores for one token, %v", len(page.Datastores), err)
			}
		}
	})
}

func TestFailedCreateSurvivesDeathAtEveryCommit(t *testing.T) {
	everyDeath(t, func(w *World, die func()) func() {
		w.Preload.Do(func(context.Context, store.Store) error {
			return fault.New(fault.Invalid, "test", "the data set is broken")
		})
		entered := make(chan struct{})
		w.Keys.Hook(func(_ context.Context, op string) error {
			if op == "generate" {
				<-entered
			}
			return nil
		})
		made, err := w.Plane.Create(w.T.Context(), datastore.CreateRequest{TypeVersion: "R4", Preload: "SYNTHEA"})
		if err != nil {
			w.T.Fatal(err)
		}
		die()
		close(entered)
		return func() {
			failed := w.Await(made.ID, datastore.CreateFailed)
			if failed.Failure == nil || failed.Failure.Message != "the data set is broken" || failed.Failure.Retryable {
				w.T.Errorf("failure %+v", failed.Failure)
			}
			gone(w.T, w, made.ID)
		}
	})
}

func TestDeleteSurvivesDeathAtEveryCommit(t *testing.T) {
	everyDeath(t, func(w *World, die func()) func() {
		d := w.Create(datastore.CreateRequest{})
		w.Until("the end of the creation", func() bool { return idle(w) })
		writable(w.T, w, d.ID)
		die()
		_, failed := w.Plane.Delete(w.T.Context(), d.ID)
		return func() {
			now, err := w.Plane.Describe(w.T.Context(), d.ID)
			if err != nil {
				w.T.Fatal(err)
			}
			if failed != nil && now.Status == datastore.Active {
				writable(w.T, w, d.ID) // it never began, and nothing is lost
				if _, err := w.Plane.Delete(w.T.Context(), d.ID); err != nil {
					w.T.Fatal(err)
				}
			}
			w.Await(d.ID, datastore.Deleted)
			gone(w.T, w, d.ID)
			if _, err := w.Plane.Open(w.T.Context(), d.ID); !fault.Is(err, fault.NotFound) {
				w.T.Errorf("data plane of a DELETED store: %v", err)
			}
		}
	})
}

// A fault that passes does not end a creation, one that lasts does, and then it
// may be tried again.
func TestPassingFaults(t *testing.T) {
	for name, c := range map[string]struct {
		kind  fault.Kind
		times int64 // how often it happens; 0: always
		want  datastore.Status
		retry bool
	}{
		"passes":          {fault.Unavailable, 3, datastore.Active, false},
		"lasts":           {fault.Unavailable, 0, datastore.CreateFailed, true},
		"is of the store": {fault.Forbidden, 0, datastore.CreateFailed, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).Begin()
			var met atomic.Int64
			w.Keys.Hook(func(_ context.Context, op string) error {
				if n := met.Add(1); op == "generate" && (c.times == 0 || n <= c.times) {
					return fault.New(c.kind, "test", "the KMS says no")
				}
				return nil
			})
			d, err := w.Plane.Create(t.Context(), datastore.CreateRequest{TypeVersion: "R4"})
			if err != nil {
				t.Fatal(err)
			}
			d = w.Await(d.ID, c.want)
			if c.want == datastore.Active {
				if d.Failure != nil {
					t.Errorf("an ACTIVE store with a failure: %+v", d.Failure)
				}
				return
			}
			if d.Failure == nil || d.Failure.Message != "the KMS says no" || d.Failure.Retryable != c.retry {
				t.Errorf("failure %+v", d.Failure)
			}
			gone(t, w, d.ID)
			if _, err := w.Plane.Delete(t.Context(), d.ID); err != nil {
				t.Fatal(err)
			}
			w.Await(d.ID, datastore.Deleted)
		})
	}
}

// What is our own mistake is not told to the client.
func TestInternalCauseIsNotShown(t *testing.T) {
	w := newWorld(t).Begin()
	w.Preload.Do(func(context.Context, store.Store) error { panic("secret path") })
	d, err := w.Plane.Create(t.Context(), datastore.CreateRequest{TypeVersion: "R4", Preload: "SYNTHEA"})
	if err != nil {
		t.Fatal(err)
	}
	d = w.Await(d.ID, datastore.CreateFailed)
	if want := fault.Internal.Row().Sentence; d.Failure.Message != want {
		t.Errorf("message %q, want %q", d.Failure.Message, want)
	}
}

// A deletion that fails stays DELETING with a reason, may be asked for again,
// and is by Sweep.
func TestFailedDeletion(t *testing.T) {
	for name, again := range map[string]func(w *World, id string) error{
		"asked again": func(w *World, id string) error {
			_, err := w.Plane.Delete(w.T.Context(), id)
			return err
		},
		"swept": func(w *World, _ string) error { return w.Plane.Sweep(w.T.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var broken atomic.Bool
			broken.Store(true)
			w.Engine = watched{w.Engine, func(_ context.Context, op string) error {
				if op == "drop" && broken.Load() {
					return fault.New(fault.Internal, "test", "the disk is read-only")
				}
				return nil
			}}
			w.Begin()
			d := w.Create(datastore.CreateRequest{})
			if _, err := w.Plane.Delete(t.Context(), d.ID); err != nil {
				t.Fatal(err)
			}
			w.Until("the failure", func() bool {
				now, err := w.Plane.Describe(t.Context(), d.ID)
				return err == nil && now.Failure != nil
			})
			if now, _ := w.Plane.Describe(t.Context(), d.ID); now.Status != datastore.Deleting {
				t.Errorf("status %s after a failed deletion, want DELETING", now.Status)
			}
			broken.Store(false)
			if err := again(w, d.ID); err != nil {
				t.Fatal(err)
			}
			if now := w.Await(d.ID, datastore.Deleted); now.Failure != nil {
				t.Errorf("DELETED with a failure: %+v", now.Failure)
			}
			gone(t, w, d.ID)
		})
	}
}

func TestDeleteRefuses(t *testing.T) {
	w := newWorld(t).Begin()
	d := w.Create(datastore.CreateRequest{})
	if _, err := w.Plane.Delete(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	w.Await(d.ID, datastore.Deleted)
	if _, err := w.Plane.Delete(t.Context(), d.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("deleting a DELETED store: %v", err)
	}
	for _, id := range []string{AbsentID(t), "nonsense", "a/b c%ü"} {
		if _, err := w.Plane.Delete(t.Context(), id); !fault.Is(err, fault.NotFound) {
			t.Errorf("deleting %q: %v", id, err)
		}
		if _, err := w.Plane.Describe(t.Context(), id); !fault.Is(err, fault.NotFound) {
			t.Errorf("describing %q: %v", id, err)
		}
		if _, err := w.Plane.Open(t.Context(), id); !fault.Is(err, fault.NotFound) {
			t.Errorf("opening %q: %v", id, err)
		}
	}
	if n := w.Plane.Slots(); n != 0 {
		t.Errorf("%d places in the pool for stores that are not there", n)
	}
}
