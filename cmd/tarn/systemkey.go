package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/durable"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/seal/localkms"
	"github.com/tarn-fhir/tarn/internal/store"
)

// systemKeys are the files in which the system store's data key lies, wrapped by
// the server's own KMS key:
//
//	system-key        what opens the store
//	system-key.next   what will open it: an exchange is under way
//
// An exchange writes the second, has the engine take it (from here on the first
// opens nothing) and puts it in the place of the first. A crash in between is found
// at the next opening: the first key is refused, and the second opens the store.
type systemKeys struct {
	folder string
	kms    *localkms.KMS
}

// systemContext binds the system store's data key to what it is for.
var systemContext = map[string]string{"tarn:store": string(systemStore)}

func (k systemKeys) present() string { return filepath.Join(k.folder, "system-key") }
func (k systemKeys) next() string    { return k.present() + ".next" }

// open gives the key that opens the system store, which is made when it is not
// there.
func (k systemKeys) open(ctx context.Context, engine store.Engine) (seal.DataKey, error) {
	key, err := k.read(ctx, k.present())
	if errors.Is(err, fs.ErrNotExist) {
		if err := k.first(); err != nil {
			return key, err
		}
		key, err = k.make(ctx, k.present())
	}
	if err == nil {
		err = engine.Create(ctx, systemStore, key)
	}
	if !fault.Is(err, fault.Forbidden) {
		return key, err
	}
	next, missing := k.read(ctx, k.next())
	if errors.Is(missing, fs.ErrNotExist) {
		return key, fmt.Errorf("%s is not the key of the server's own records: %w", k.present(), err)
	}
	if missing != nil {
		return key, errors.Join(err, missing)
	}
	if err := engine.Create(ctx, systemStore, next); err != nil {
		return next, err
	}
	return next, k.arrive()
}

// first refuses to make a key where there are records, which it could not open.
func (k systemKeys) first() error {
	records := filepath.Join(k.folder, "stores", string(systemStore))
	_, err := os.Stat(records)
	if err == nil {
		return fmt.Errorf("%s is missing, which opens %s: put it back", k.present(), records)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// exchange gives the open system store another data key, and seals its files anew.
// When it ended early it may be begun again.
func (k systemKeys) exchange(ctx context.Context, system store.Store) error {
	power, ok := system.(store.Rekeyer)
	if !ok {
		return fault.New(fault.NotSupported, "systemKeys.exchange", "the storage engine cannot exchange a data key")
	}
	key, err := k.make(ctx, k.next())
	if err != nil {
		return err
	}
	defer key.Wipe()
	if err := power.Rekey(ctx, key); err != nil {
		return err
	}
	if err := k.arrive(); err != nil {
		return err
	}
	return power.Reseal(ctx)
}

// arrive puts the next key in the place of the present one.
func (k systemKeys) arrive() error {
	if err := os.Rename(k.next(), k.present()); err != nil {
		return err
	}
	return durable.SyncFolder(k.folder)
}

func (k systemKeys) read(ctx context.Context, path string) (seal.DataKey, error) {
	wrapped, err := readWrapped(path)
	if err != nil {
		return seal.DataKey{}, err
	}
	return k.kms.Unwrap(ctx, wrapped, systemContext)
}

// make makes a key and keeps it wrapped.
func (k systemKeys) make(ctx context.Context, path string) (seal.DataKey, error) {
	key, wrapped, err := k.kms.GenerateDataKey(ctx, k.kms.OwnedKey(), systemContext)
	if err != nil {
		return key, err
	}
	return key, writeWrapped(path, wrapped)
}

// rewrap wraps the key anew when the KMS key that wraps it was rotated.
func (k systemKeys) rewrap(ctx context.Context) error {
	wrapped, err := readWrapped(k.present())
	if err != nil {
		return err
	}
	fresh, err := k.kms.Rewrap(ctx, wrapped, systemContext)
	if err != nil || fresh.Equal(wrapped) {
		return err
	}
	return writeWrapped(k.present(), fresh)
}

// tend rewraps now and then until ctx ends.
func (k systemKeys) tend(log *slog.Logger) func(context.Context) {
	return func(ctx context.Context) {
		tick := time.NewTicker(datastore.RewrapEvery)
		defer tick.Stop()
		for {
			if err := k.rewrap(ctx); err != nil && ctx.Err() == nil {
				log.Warn("wrapping the system key anew is tried again later", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

func readWrapped(path string) (wrapped seal.Wrapped, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return wrapped, err
	}
	if err := json.Unmarshal(raw, &wrapped); err != nil {
		return wrapped, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return wrapped, nil
}

func writeWrapped(path string, wrapped seal.Wrapped) error {
	raw, err := json.Marshal(wrapped)
	if err != nil {
		return err
	}
	return durable.Write(path, raw)
}
