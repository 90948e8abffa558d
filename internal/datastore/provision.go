package datastore

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

// provisioner makes CREATING data stores ACTIVE: data key, engine store,
// preload, then the one small record that makes it true. Each step may be
// repeated; a crash goes on at the first that is not recorded.
type provisioner struct{ *Plane }

// provisioned is the checkpoint of a provisioning job.
type provisioned struct {
	Key, Engine bool // data key made and proved; engine store created
}

// step is one step of provisioning: where it is recorded, and what it does.
type step struct {
	done *bool
	do   func(context.Context, *Datastore) error
}

func (p provisioner) Run(ctx context.Context, run *job.Run) error {
	d, err := datastores.Get(ctx, p.System, run.Job.Datastore)
	if fault.Is(err, fault.NotFound) || err == nil && d.Status != Creating {
		return nil // another run of this job came to the end
	}
	if err != nil {
		return err
	}
	if d.Failure != nil {
		// A crash stopped the cleaning up: go on there.
		return &fault.Error{Kind: fault.Conflict, Op: "datastore.provision", Detail: d.Failure.Message}
	}
	if err := p.prepare(ctx, run, d); err != nil {
		return err
	}
	if err := p.preload(ctx, run, d); err != nil {
		return err
	}
	return p.activate(ctx, d)
}

// prepare makes key and engine store, as far as that is not done.
func (p provisioner) prepare(ctx context.Context, run *job.Run, d *Datastore) error {
	var done provisioned
	if len(run.Job.Checkpoint) > 0 {
		if err := json.Unmarshal(run.Job.Checkpoint, &done); err != nil {
			return fault.Wrap(fault.Internal, "datastore.provision", err)
		}
	}
	for _, s := range []step{{&done.Key, p.makeKey}, {&done.Engine, p.makeStore}} {
		if *s.done {
			continue
		}
		if err := s.do(ctx, d); err != nil {
			return err
		}
		*s.done = true
		if err := run.Checkpoint(ctx, done); err != nil {
			return err
		}
	}
	return nil
}

// Fail ends a creation that cannot succeed in CREATE_FAILED, and leaves no key
// and no files. The reason is recorded first, so that a crash on the way does
// not bring half of the store to life again; the state last, so that nobody
// deletes what is still being cleaned up.
func (p provisioner) Fail(ctx context.Context, run *job.Run, cause error) error {
	id := run.Job.Datastore
	err := p.failing(ctx, id, func(d *Datastore) {
		if d.Failure == nil {
			d.Failure = failureOf(cause)
		}
	})
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Conflict) {
		return nil // not CREATING any more: nothing to clean up
	}
	if err != nil {
		return err
	}
	if err := p.destroy(ctx, id); err != nil {
		return err
	}
	return p.failing(ctx, id, func(d *Datastore) { d.Status = CreateFailed })
}

func (p provisioner) failing(ctx context.Context, id string, change func(*Datastore)) error {
	_, err := datastores.Update(ctx, p.System, id, func(d *Datastore) error {
		if d.Status != Creating {
			return inTransition("datastore.provision", d)
		}
		change(d)
		return nil
	})
	return err
}

// makeKey makes the store's data key, keeps it wrapped, and proves that the
// wrapped form opens. A key that an earlier attempt kept stays.
func (p provisioner) makeKey(ctx context.Context, d *Datastore) error {
	key, err := p.ensureKey(ctx, d, 0)
	if err == nil {
		key.Wipe()
	}
	return err
}

func (p *Plane) keyName(d *Datastore) string {
	if d.Encryption.CmkType == CustomerManaged {
		return d.Encryption.KeyARN
	}
	return p.OwnedKey
}

// keyContext is the encryption context of a store's data key.
func (d *Datastore) keyContext() map[string]string {
	return map[string]string{seal.ContextDatastore: d.ARN}
}

// dataKey unwraps the store's data key; fault.NotFound when there is none,
// fault.Forbidden when the KMS key is lost.
func (p *Plane) dataKey(ctx context.Context, d *Datastore) (seal.DataKey, error) {
	return p.numberedKey(ctx, d, d.KeyNumber)
}

func (p provisioner) makeStore(ctx context.Context, d *Datastore) error {
	key, err := p.dataKey(ctx, d)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if d.Restore != nil {
		return p.restoreStore(ctx, d)
	}
	return p.Engine.Create(ctx, store.ID(d.ID), key)
}

// progressEvery is how often a preload's progress is logged.
const progressEvery = time.Second

// PreloadReport is the progress of a job that makes a data store with a preload.
type PreloadReport struct{ Resources, Of int64 }

// preloading is how far a preload came; it is told from many goroutines.
type preloading struct {
	of   provisioner
	d    *Datastore
	mu   sync.Mutex
	at   PreloadReport
	last time.Time // of the log
}

func (p *preloading) told(done, total int64) {
	now := p.of.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = PreloadReport{max(done, p.at.Resources), total}
	if now.Sub(p.last) >= progressEvery {
		p.last = now
		p.of.Log.Info("preloading", "datastore", p.d.ID, "resources", done, "of", total)
	}
}

func (p *preloading) report() any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p provisioner) preload(ctx context.Context, run *job.Run, d *Datastore) error {
	if d.Preload == "" {
		return nil
	}
	lease, err := p.pool.acquire(ctx, d.ID, creating)
	if err != nil {
		return err
	}
	defer lease.Release()
	progress := &preloading{of: p, d: d, last: p.Clock()}
	run.Report(progress.report)
	return p.Preload.Preload(ctx, d, lease.Store, progress.told)
}

func creating(d *Datastore) error {
	if d.Status != Creating {
		return fault.New(fault.Conflict, "datastore.preload", "the data store is %s", d.Status)
	}
	return nil
}

func (p provisioner) activate(ctx context.Context, d *Datastore) error {
	_, err := datastores.Update(ctx, p.System, d.ID, func(d *Datastore) error {
		if d.Status == Creating {
			d.Status = Active
		}
		return nil
	})
	if err == nil {
		p.pool.changed(d.ID)
		p.Log.Info("data store is active", "datastore", d.ID, "after", p.Clock().Sub(d.CreatedAt).Round(time.Millisecond))
	}
	return err
}
