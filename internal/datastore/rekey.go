package datastore

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Data keys of a store are numbered from 0; the record says which one opens it
// (KeyNumber), and each wrapped key is a document of its own:
//
//	<id>        number 0, made with the store
//	<id>.<n>    number n, made by an exchange
//
// An exchange (KindRekey) goes from n to n+1:
//
//	1  key n+1 is made, kept wrapped, proved by unwrapping
//	2  the engine takes it (Rekeyer.Rekey)            from here on n opens nothing
//	3  the record says n+1
//	4  the engine seals the files anew (Reseal)
//	5  the documents of all keys before are purged
//
// A crash between 2 and 3 is found by whoever opens the store next: n is refused,
// n+1 is there and opens it. No backup is taken between 2 and 3, so a backup's
// manifest carries the key that opens its STORE file.

// KindRekey is the job kind that exchanges the data key of a store.
const KindRekey = "datastore.rekey"

// rekeyLane carries exchanges out one at a time: each reads and writes a whole
// store.
var rekeyLane = job.Lane{Name: "rekey", Workers: 1}

// RewrapEvery is how often Tend looks for data keys whose KMS key was rotated.
const RewrapEvery = time.Minute

// keyDoc names the document of a wrapped data key.
func keyDoc(id string, number int) string {
	if number == 0 {
		return id
	}
	return id + "." + strconv.Itoa(number)
}

// wrappedKey reads a store's wrapped data key of a number; fault.NotFound.
func (p *Plane) wrappedKey(ctx context.Context, id string, number int) (seal.Wrapped, error) {
	doc, err := wrappedKeys.Get(ctx, p.System, keyDoc(id, number))
	if err != nil {
		return seal.Wrapped{}, err
	}
	return doc.Key, nil
}

// numberedKey unwraps a store's data key of a number; as dataKey.
func (p *Plane) numberedKey(ctx context.Context, d *Datastore, number int) (seal.DataKey, error) {
	wrapped, err := p.wrappedKey(ctx, d.ID, number)
	if err != nil {
		return seal.DataKey{}, p.absentOr(d.ID, err)
	}
	key, err := p.Keyring.Unwrap(ctx, wrapped, d.keyContext())
	return key, keyLost(err)
}

// ensureKey makes the data key of a number unless it is there, keeps it wrapped,
// and proves that the wrapped form opens.
func (p *Plane) ensureKey(ctx context.Context, d *Datastore, number int) (seal.DataKey, error) {
	kept, err := p.numberedKey(ctx, d, number)
	if !fault.Is(err, fault.NotFound) {
		return kept, err
	}
	key, wrapped, err := p.Keyring.GenerateDataKey(ctx, p.keyName(d), d.keyContext())
	if err != nil {
		return seal.DataKey{}, err
	}
	if err := p.keepKey(ctx, d, number, key, wrapped); err != nil {
		key.Wipe()
		return seal.DataKey{}, err
	}
	return key, nil
}

func (p *Plane) keepKey(ctx context.Context, d *Datastore, number int, key seal.DataKey, wrapped seal.Wrapped) error {
	proved, err := p.Keyring.Unwrap(ctx, wrapped, d.keyContext())
	if err != nil {
		return err
	}
	defer proved.Wipe()
	if !proved.Equal(key) {
		return fault.New(fault.Internal, "datastore.makeKey", "the wrapped data key opens to another key")
	}
	op, err := wrappedKeys.Put(keyDoc(d.ID, number), &wrappedKey{Key: wrapped})
	if err != nil {
		return err
	}
	_, err = p.System.Commit(ctx, []store.Op{op})
	return err
}

// openNext opens a store by the key after the one that its record names, where a
// crash came in between, and mends the record.
func (p *pool) openNext(ctx context.Context, d *Datastore) (store.Store, error) {
	key, err := p.plane.numberedKey(ctx, d, d.KeyNumber+1)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	opened, err := p.plane.Engine.Open(ctx, store.ID(d.ID), key)
	if err != nil {
		return nil, err
	}
	if err := p.plane.setKeyNumber(ctx, d.ID, d.KeyNumber+1); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

func (p *Plane) setKeyNumber(ctx context.Context, id string, number int) error {
	_, err := p.change(ctx, id, func(d *Datastore) error {
		d.KeyNumber = max(d.KeyNumber, number)
		return nil
	})
	return err
}

// RotateKey begins the exchange of a store's data key, while the store serves,
// and gives the job; the one that is under way already, if there is one.
func (p *Plane) RotateKey(ctx context.Context, id string) (*job.Job, error) {
	d, err := p.Describe(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := serving(d); err != nil {
		return nil, err
	}
	p.rotating.Lock()
	defer p.rotating.Unlock()
	open, err := p.Jobs.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, j := range open {
		if j.Kind == KindRekey {
			return j, nil
		}
	}
	return p.Jobs.Submit(ctx, job.Submission{Kind: KindRekey, Datastore: id})
}

// rekeyer carries exchanges of data keys out.
type rekeyer struct{ *Plane }

// rekeyed is the checkpoint of an exchange.
type rekeyed struct {
	To int // the number of the key that it goes to
}

// Run implements job.Runner.
func (p rekeyer) Run(ctx context.Context, run *job.Run) error {
	lease, err := p.pool.acquire(ctx, run.Job.Datastore, serving)
	if err != nil {
		return err
	}
	defer lease.Release()
	power, ok := lease.Store.(store.Rekeyer)
	if !ok {
		return fault.New(fault.NotSupported, "datastore.rekey", "the storage engine cannot exchange a data key")
	}
	done := rekeyed{To: lease.Datastore.KeyNumber + 1}
	if len(run.Job.Checkpoint) > 0 {
		if err := json.Unmarshal(run.Job.Checkpoint, &done); err != nil {
			return fault.Wrap(fault.Internal, "datastore.rekey", err)
		}
	} else if err := run.Checkpoint(ctx, done); err != nil {
		return err
	}
	if lease.Datastore.KeyNumber < done.To {
		if err := p.exchange(ctx, lease.Datastore, done.To, power); err != nil {
			return err
		}
	}
	if err := power.Reseal(ctx); err != nil {
		return err
	}
	if err := p.forgetKeys(ctx, run.Job.Datastore, 0, done.To); err != nil {
		return err
	}
	p.forgetBackup(run.Job.Datastore)
	p.Log.Info("a data store has another data key", "datastore", run.Job.Datastore, "number", done.To)
	return nil
}

// forgetBackup has the next look take a backup under the new key, whatever one
// that is under way finds.
func (p rekeyer) forgetBackup(id string) {
	defer p.backups.lock(id)()
	p.backups.forget(id)
}

// exchange carries out steps 1 to 3.
func (p rekeyer) exchange(ctx context.Context, d *Datastore, to int, power store.Rekeyer) error {
	defer p.backups.lock(d.ID)()
	key, err := p.ensureKey(ctx, d, to)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if err := power.Rekey(ctx, key); err != nil {
		return err
	}
	return p.setKeyNumber(ctx, d.ID, to)
}

// Fail implements job.Runner: a store whose exchange was given up serves on,
// under both keys where it came so far; another exchange goes on from there.
func (p rekeyer) Fail(context.Context, *job.Run, error) error { return nil }

// forgetKeys destroys wrapped keys of a store, from a number up to before
// another: in every version, and in the files of the system store, where a purge
// alone would leave their bytes to chance.
func (p *Plane) forgetKeys(ctx context.Context, id string, from, before int) error {
	for number := from; number < before; number++ {
		if err := wrappedKeys.Purge(ctx, p.System, keyDoc(id, number)); err != nil {
			return err
		}
	}
	if files, ok := p.System.(store.Scrubber); ok {
		return files.Scrub(ctx)
	}
	return nil
}

// RewrapAll wraps data keys anew whose KMS key has newer material. Tend calls it.
// What is wrapped in backups stays as it is: KMS keys keep their older material.
func (p *Plane) RewrapAll(ctx context.Context) error {
	power, ok := p.Keyring.(seal.Rewrapper)
	if !ok {
		return nil
	}
	all, err := datastores.All(ctx, p.System, nil)
	if err != nil {
		return err
	}
	var failed error
	for _, d := range all {
		if d.Status == Deleted || d.Status == CreateFailed {
			continue
		}
		for _, number := range []int{d.KeyNumber, d.KeyNumber + 1} {
			err := p.rewrap(ctx, power, d, number)
			if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Forbidden) { // no such key; a key that is disabled
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}

func (p *Plane) rewrap(ctx context.Context, power seal.Rewrapper, d *Datastore, number int) error {
	old, err := p.wrappedKey(ctx, d.ID, number)
	if err != nil {
		return err
	}
	fresh, err := power.Rewrap(ctx, old, d.keyContext())
	if err != nil || fresh.Equal(old) {
		return err
	}
	_, err = wrappedKeys.Update(ctx, p.System, keyDoc(d.ID, number), func(doc *wrappedKey) error {
		if doc.Key.Equal(old) {
			doc.Key = fresh
		}
		return nil
	})
	return err
}
