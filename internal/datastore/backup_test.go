package datastore_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/backup"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

// newBackupWorld is a world on the real engine, around which another may be put,
// with a backup folder and one data store that is backed up.
func newBackupWorld(t *testing.T, around func(store.Engine) store.Engine) (*World, *backup.Dir, *datastore.Datastore) {
	t.Helper()
	w := newWorldOnDisk(t, t.TempDir(), around)
	folder := &backup.Dir{Root: t.TempDir()}
	w.Options.Backups, w.Options.IdleClose = folder, time.Second
	w.Begin()
	return w, folder, w.Create(datastore.CreateRequest{Settings: datastore.Settings{Backup: &datastore.Backup{Status: "ENABLED"}}})
}

// looked is an engine that tells of looks at its stores.
type looked struct {
	store.Engine
	look atomic.Pointer[func(store.ID)]
}

func (l *looked) Open(ctx context.Context, id store.ID, key seal.DataKey) (store.Store, error) {
	s, err := l.Engine.Open(ctx, id, key)
	if err != nil {
		return nil, err
	}
	return lookedStore{s, s.(store.Backuper), func() {
		if look := l.look.Load(); look != nil {
			(*look)(id)
		}
	}}, nil
}

type lookedStore struct {
	store.Store
	store.Backuper
	look func()
}

func (s lookedStore) View(ctx context.Context, m store.Moment) (store.View, error) {
	s.look()
	return s.Store.View(ctx, m)
}

// Backups look while a store is being closed that was written to since its last
// one: they take another, and do not say of the last one that it is the latest.
func TestBackupWhileAStoreCloses(t *testing.T) {
	engine := &looked{}
	w, folder, d := newBackupWorld(t, func(e store.Engine) store.Engine {
		engine.Engine = e
		return engine
	})
	writable(t, w, d.ID)
	if err := w.Plane.BackUpAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Minute)
	writable(t, w, d.ID)
	w.Clock.Advance(time.Minute)
	var backups sync.WaitGroup
	var done atomic.Bool
	look := func(id store.ID) {
		if string(id) != d.ID || !engine.look.CompareAndSwap(engine.look.Load(), nil) {
			return
		}
		backups.Go(func() { // while it closes
			defer done.Store(true)
			if err := w.Plane.BackUpAll(t.Context()); err != nil {
				t.Error(err)
			}
			newest, err := folder.Store(d.ID).Newest()
			if err != nil {
				t.Error(err)
				return
			}
			if _, latest, ok := w.Plane.Window(d); !ok || latest.After(newest.Taken) {
				t.Errorf("restorable until %v, %v; the newest backup is of %v", latest, ok, newest.Taken)
			}
		})
		w.Until("the backups' turn", func() bool { return done.Load() || w.Plane.Waiting(d.ID) == 2 })
	}
	engine.look.Store(&look)
	w.Plane.CloseIdle()
	backups.Wait()
	if !done.Load() {
		t.Error("nobody looked while it closed")
	}
}
