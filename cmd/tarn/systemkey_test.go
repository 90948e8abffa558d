package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/seal/localkms"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// systemFolder is a data folder whose system store is opened and closed.
type systemFolder struct {
	t    *testing.T
	keys systemKeys
}

func newSystemFolder(t *testing.T) systemFolder {
	t.Helper()
	folder := t.TempDir()
	kms, err := localkms.Open(filepath.Join(folder, "keyring"), "111122223333", "us-east-1", rand.Reader, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return systemFolder{t, systemKeys{folder, kms}}
}

// with opens the store, as a server would, and closes it after do.
func (f systemFolder) with(do func(key seal.DataKey, system store.Store)) {
	f.t.Helper()
	engine, err := lsm.New(lsm.Options{Root: filepath.Join(f.keys.folder, "stores")})
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := f.keys.open(f.t.Context(), engine)
	if err != nil {
		f.t.Fatal(err)
	}
	system, err := engine.Open(f.t.Context(), systemStore, key)
	if err != nil {
		f.t.Fatal(err)
	}
	do(key, system)
	if err := errors.Join(system.Close(), engine.Close()); err != nil {
		f.t.Error(err)
	}
}

// Records without their key are refused, and no other key is made in its place.
func TestMissingSystemKey(t *testing.T) {
	f := newSystemFolder(t)
	f.with(func(seal.DataKey, store.Store) {})
	key := f.keys.present()
	raw, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := lsm.New(lsm.Options{Root: filepath.Join(f.keys.folder, "stores")})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := f.keys.open(t.Context(), engine); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("without the key: %v", err)
	}
	if _, err := os.Stat(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made: %v", err)
	}
	if err := os.WriteFile(key, raw[:len(raw)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.keys.open(t.Context(), engine); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("with half of the key: %v", err)
	}
}

func (f systemFolder) has(system store.Store) {
	f.t.Helper()
	view, err := system.View(f.t.Context(), "")
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = view.Close() }()
	if _, err := view.Get(f.t.Context(), plan.Key{Type: 1, ID: "kept"}); err != nil {
		f.t.Errorf("what was written before: %v", err)
	}
}

// After an exchange another key opens the system store and the one of before does
// not, wherever a crash came in between.
func TestExchangeOfTheSystemKey(t *testing.T) {
	for name, exchange := range map[string]func(ctx context.Context, keys systemKeys, system store.Store) error{
		"whole": func(ctx context.Context, keys systemKeys, system store.Store) error {
			return keys.exchange(ctx, system)
		},
		"ended before the file is in its place": func(ctx context.Context, keys systemKeys, system store.Store) error {
			next, err := keys.make(ctx, keys.next())
			if err != nil {
				return err
			}
			return system.(store.Rekeyer).Rekey(ctx, next)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newSystemFolder(t)
			var before seal.DataKey
			f.with(func(key seal.DataKey, system store.Store) {
				before = key
				op := store.Op{Kind: store.Put, Key: plan.Key{Type: 1, ID: "kept"}, Body: []byte("{}")}
				if _, err := system.Commit(t.Context(), []store.Op{op}); err != nil {
					t.Fatal(err)
				}
				if err := exchange(t.Context(), f.keys, system); err != nil {
					t.Fatal(err)
				}
			})
			f.with(func(key seal.DataKey, system store.Store) {
				if key.Equal(before) {
					t.Error("the key is the one of before")
				}
				f.has(system)
			})
			engine, err := lsm.New(lsm.Options{Root: filepath.Join(f.keys.folder, "stores")})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := engine.Open(t.Context(), systemStore, before); !fault.Is(err, fault.Forbidden) {
				t.Errorf("under the key of before: %v", err)
			}
			if _, err := os.Stat(f.keys.next()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the key's file is not in its place: %v", err)
			}
		})
	}
}

// A key that was made for an exchange which then did not begin changes nothing.
func TestNextSystemKeyUnused(t *testing.T) {
	f := newSystemFolder(t)
	var before seal.DataKey
	f.with(func(key seal.DataKey, _ store.Store) { before = key })
	if _, err := f.keys.make(t.Context(), f.keys.next()); err != nil {
		t.Fatal(err)
	}
	f.with(func(key seal.DataKey, _ store.Store) {
		if !key.Equal(before) {
			t.Error("the store opens under another key")
		}
	})
}
