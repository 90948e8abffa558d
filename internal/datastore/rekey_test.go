package datastore_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/backup"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

// rekeyed asks for an exchange and waits for its end.
func rekeyed(w *World, id string) {
	w.T.Helper()
	j, err := w.Plane.RotateKey(w.T.Context(), id)
	if err != nil {
		w.T.Fatal(err)
	}
	w.Until("the exchange", func() bool {
		now, err := w.Jobs.Get(w.T.Context(), j.ID)
		if err != nil {
			w.T.Fatal(err)
		}
		if now.Status == job.Failed {
			w.T.Fatalf("the exchange failed: %s", now.Message)
		}
		return now.Status == job.Completed
	})
}

// underNewKey wants one wrapped key of the store, that of a number, which opens
// it.
func underNewKey(w *World, id string, number int) {
	w.T.Helper()
	docs, err := w.Plane.WrappedKeys(w.T.Context())
	if err != nil || !slices.Equal(docs, []string{id + "." + string(rune('0'+number))}) {
		w.T.Errorf("the wrapped keys are %v, %v", docs, err)
	}
	d, err := w.Plane.Describe(w.T.Context(), id)
	if err != nil || d.KeyNumber != number || d.Status != datastore.Active {
		w.T.Errorf("%+v, %v", d, err)
	}
	readable(w.T, w, id)
	writable(w.T, w, id)
}

func TestRotateKeySurvivesDeathAtEveryCommit(t *testing.T) {
	everyDeath(t, func(w *World, die func()) func() {
		d := w.Create(datastore.CreateRequest{})
		w.Until("the end of the creation", func() bool { return idle(w) })
		writable(w.T, w, d.ID)
		die()
		_, failed := w.Plane.RotateKey(w.T.Context(), d.ID)
		return func() {
			readable(w.T, w, d.ID)
			w.Until("the end of the exchange", func() bool { return idle(w) })
			now, err := w.Plane.Describe(w.T.Context(), d.ID)
			if err != nil {
				w.T.Fatal(err)
			}
			if now.KeyNumber == 0 {
				if failed == nil {
					w.T.Error("the exchange was acknowledged, and never came")
				}
				rekeyed(w, d.ID)
			}
			underNewKey(w, d.ID, 1)
		}
	})
}

// The process dies after the engine has taken the key and before the record says
// so: whoever opens the store next finds the key.
func TestKeyAfterTheRecords(t *testing.T) {
	// Commits of an exchange: the job, its states, its checkpoint, the key, the record.
	for n := int64(1); n < 20; n++ {
		if keyAfterTheRecords(t, n) {
			return
		}
	}
	t.Fatal("no death came between the engine's taking of the key and the record")
}

// keyAfterTheRecords dies at the n-th commit, and reports whether that was after
// the engine had taken the key; then it looks whether the store is opened.
func keyAfterTheRecords(t *testing.T, n int64) bool {
	w := newWorld(t)
	system := &dying{Store: w.System}
	w.System = system
	w.Begin()
	d := w.Create(datastore.CreateRequest{})
	w.Until("the end of the creation", func() bool { return idle(w) })
	writable(t, w, d.ID)
	wrapped, err := w.Plane.KeyOf(t.Context(), d.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	system.die(n, false)
	_, _ = w.Plane.RotateKey(t.Context(), d.ID) // may be the fatal commit
	w.Until("death", system.dead)
	w.Stop()
	system.die(0, false)
	old, err := w.Keys.Unwrap(t.Context(), wrapped, map[string]string{seal.ContextDatastore: d.ARN})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.Engine.Open(t.Context(), store.ID(d.ID), old)
	if err == nil {
		return s.Close() != nil
	}
	w.Make() // no job goes on
	if now, err := w.Plane.Describe(t.Context(), d.ID); err != nil || now.KeyNumber != 0 {
		return false // the record was written too
	}
	readable(t, w, d.ID)
	if now, err := w.Plane.Describe(t.Context(), d.ID); err != nil || now.KeyNumber != 1 {
		t.Errorf("the record was not mended: %+v, %v", now, err)
	}
	w.Begin()
	w.Until("the end of the exchange", func() bool { return idle(w) })
	underNewKey(w, d.ID, 1)
	return true
}

// hesitant is a store that lets others in before each commit.
type hesitant struct{ store.Store }

func (s hesitant) Commit(ctx context.Context, ops []store.Op) ([]store.Outcome, error) {
	time.Sleep(time.Millisecond)
	return s.Store.Commit(ctx, ops)
}

// Who ask for an exchange at once get one.
func TestRotateKeyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.System = hesitant{w.System}
	w.Begin()
	d := w.Create(datastore.CreateRequest{})
	w.Jobs.Stop() // the exchange waits until all have asked
	ids := make([]string, 8)
	var all sync.WaitGroup
	for n := range ids {
		all.Go(func() {
			j, err := w.Plane.RotateKey(t.Context(), d.ID)
			if err != nil {
				t.Error(err)
				return
			}
			ids[n] = j.ID
		})
	}
	all.Wait()
	slices.Sort(ids)
	if one := slices.Compact(ids); len(one) != 1 {
		t.Errorf("%d exchanges", len(one))
	}
}

// What cannot be exchanged is refused, and a deletion forgets every key.
func TestRotateKeyRefusesAndIsForgotten(t *testing.T) {
	w := newWorld(t).Begin()
	if _, err := w.Plane.RotateKey(t.Context(), AbsentID(t)); !fault.Is(err, fault.NotFound) {
		t.Errorf("of a store that is not there: %v", err)
	}
	d := w.Create(datastore.CreateRequest{})
	writable(t, w, d.ID)
	rekeyed(w, d.ID)
	rekeyed(w, d.ID)
	underNewKey(w, d.ID, 2)
	if _, err := w.Plane.Delete(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	w.Await(d.ID, datastore.Deleted)
	gone(t, w, d.ID)
	if _, err := w.Plane.RotateKey(t.Context(), d.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("of a deleted store: %v", err)
	}
}

// On the real engine, with backups: those of before an exchange and after it are
// restored, and backups go on.
func TestBackupsAroundAnExchange(t *testing.T) {
	w, folder, d := newBackupWorld(t, func(e store.Engine) store.Engine { return e })
	writable(t, w, d.ID)
	backUp := func() *backup.Manifest {
		t.Helper()
		w.Clock.Advance(time.Minute)
		if err := w.Plane.BackUpAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		m, err := folder.Store(d.ID).Newest()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	restore := func(of *backup.Manifest) {
		t.Helper()
		made := w.Create(datastore.CreateRequest{Restore: &datastore.Restore{Source: d.ID, At: of.Taken}})
		readable(t, w, made.ID)
	}
	before := backUp()
	restore(before)
	rekeyed(w, d.ID)
	restore(before) // by its own wrapped key
	after := backUp()
	if after.Key.Equal(before.Key) {
		t.Error("the backup after the exchange has the key of before")
	}
	restore(after)
	readable(t, w, d.ID)
}

// versions is a KMS whose keys were rotated: Rewrap gives another ciphertext.
type versions struct {
	*Keyring
	again func(w seal.Wrapped) bool
}

func (v versions) Rewrap(ctx context.Context, w seal.Wrapped, encryption map[string]string) (seal.Wrapped, error) {
	if !v.again(w) {
		return w, nil
	}
	key, err := v.Unwrap(ctx, w, encryption)
	if err != nil {
		return w, err
	}
	return v.Wrap(w.KeyARN, key, encryption), nil
}

// After a rotation of the KMS key every wrapped key is wrapped anew, once, and
// opens the same store.
func TestRewrapAll(t *testing.T) {
	w := newWorld(t).Begin()
	d, other := w.Create(datastore.CreateRequest{}), w.Create(datastore.CreateRequest{})
	writable(t, w, d.ID)
	was, err := w.Plane.KeyOf(t.Context(), d.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Plane.RewrapAll(t.Context()); err != nil { // a KMS that cannot
		t.Fatal(err)
	}
	done := map[string]bool{}
	w.Plane.Keyring = versions{w.Keys, func(w seal.Wrapped) bool { return !done[string(w.Ciphertext)] }}
	for range 2 {
		if err := w.Plane.RewrapAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{d.ID, other.ID} {
			now, err := w.Plane.KeyOf(t.Context(), id, 0)
			if err != nil {
				t.Fatal(err)
			}
			if id == d.ID && now.Equal(was) {
				t.Error("the key was not wrapped anew")
			}
			if len(done) >= 2 && !done[string(now.Ciphertext)] {
				t.Error("the key was wrapped anew although its KMS key had not changed")
			}
			done[string(now.Ciphertext)] = true
		}
	}
	w.Crash()
	readable(t, w, d.ID)
}
