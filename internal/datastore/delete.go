package datastore

import (
	"context"
	"errors"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Delete begins the deletion of a store and returns its record, DELETING. It is
// fault.Conflict while the store is on its way elsewhere; a deletion that
// failed may be asked for again.
func (p *Plane) Delete(ctx context.Context, id string) (*Datastore, error) {
	if _, err := p.Describe(ctx, id); err != nil {
		return nil, err
	}
	return p.beginDeletion(ctx, id, func(d *Datastore) error {
		again := d.Status == Deleting && d.Failure != nil
		if again || d.Status == Active || d.Status == CreateFailed || d.Status == UpdateFailed {
			return nil
		}
		return inTransition("datastore.Delete", d)
	})
}

func inTransition(op string, d *Datastore) error {
	return &fault.Error{Kind: fault.Conflict, Op: op, Subject: "Datastore " + d.ID, Detail: "the data store is " + string(d.Status)}
}

// beginDeletion commits state and job together.
func (p *Plane) beginDeletion(ctx context.Context, id string, allowed func(*Datastore) error) (*Datastore, error) {
	j, jobOp, err := p.Jobs.Op(kindDelete, id, nil)
	if err != nil {
		return nil, err
	}
	// A client that hangs up does not call back what it asked for.
	ctx = context.WithoutCancel(ctx)
	d, err := datastores.UpdateWith(ctx, p.System, id, []store.Op{jobOp}, func(d *Datastore) error {
		if err := allowed(d); err != nil {
			return err
		}
		d.Status, d.Failure = Deleting, nil
		return nil
	})
	if err != nil {
		return nil, p.absentOr(id, err)
	}
	p.pool.changed(id)
	p.Jobs.Began(j)
	return d, nil
}

// deleter takes DELETING data stores away: the wrapped key first, so that from
// then on nobody can read the files, then the files, then the record's state.
type deleter struct{ *Plane }

func (p deleter) Run(ctx context.Context, run *job.Run) error {
	id := run.Job.Datastore
	d, err := datastores.Get(ctx, p.System, id)
	if fault.Is(err, fault.NotFound) || err == nil && d.Status != Deleting {
		return nil // another run of this job came to the end
	}
	if err != nil {
		return err
	}
	if err := p.lastBackup(ctx, d); err != nil {
		return err
	}
	if err := p.destroy(ctx, id); err != nil {
		return err
	}
	p.backups.forget(id)
	_, err = datastores.Update(ctx, p.System, id, func(d *Datastore) error {
		d.Status, d.DeletedAt, d.Failure = Deleted, p.Clock(), nil
		if d.Settings.Backup.On() {
			d.RemoveAt = d.DeletedAt.Add(d.Settings.Backup.retention())
		}
		return nil
	})
	if err == nil {
		p.pool.changed(id)
		p.Gone(id)
		p.Log.Info("data store is deleted", "datastore", id)
	}
	return err
}

// destroy leaves neither key nor files of a store. It may be repeated.
func (p *Plane) destroy(ctx context.Context, id string) error {
	p.pool.discard(id)
	p.pool.noteFault(ctx, id, nil)
	if err := p.forgetKey(ctx, id); err != nil {
		return err
	}
	return p.Engine.Drop(ctx, store.ID(id))
}

// Fail leaves the store DELETING with the reason. Delete may be asked again,
// and Sweep asks by itself.
func (p deleter) Fail(ctx context.Context, run *job.Run, cause error) error {
	_, err := datastores.Update(ctx, p.System, run.Job.Datastore, func(d *Datastore) error {
		d.Failure = failureOf(cause)
		d.Failure.Retryable = true
		return nil
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

func failureOf(cause error) *Failure {
	return &Failure{Message: job.Reason(cause), Retryable: job.Passing(cause)}
}

// Sweep forgets what is past its time: DELETED stores and their jobs after
// KeepDeleted, client tokens after TokenLife. It begins again deletions that
// failed. Tend calls it.
func (p *Plane) Sweep(ctx context.Context) error {
	return errors.Join(p.sweepDeletions(ctx), p.sweepBackups(ctx), p.sweepDeleted(ctx), p.sweepTokens(ctx), p.sweepJobs(ctx))
}

func (p *Plane) sweepDeletions(ctx context.Context) error {
	stuck, err := datastores.All(ctx, p.System, record.Is(entryStatus, string(Deleting)))
	if err != nil {
		return err
	}
	for _, d := range stuck {
		if d.Failure == nil {
			continue // its job is under way
		}
		_, err := p.beginDeletion(ctx, d.ID, func(d *Datastore) error {
			if d.Status == Deleting && d.Failure != nil {
				return nil
			}
			return inTransition("datastore.Sweep", d)
		})
		if err != nil && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return nil
}

func (p *Plane) sweepDeleted(ctx context.Context) error {
	gone, err := datastores.All(ctx, p.System, record.Is(entryStatus, string(Deleted)))
	if err != nil {
		return err
	}
	for _, d := range gone {
		if p.Clock().Sub(d.DeletedAt) < p.KeepDeleted || !d.RemoveAt.IsZero() {
			continue
		}
		if err := datastores.Purge(ctx, p.System, d.ID); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plane) sweepJobs(ctx context.Context) error {
	before := p.Clock().Add(-p.KeepDeleted)
	return errors.Join(p.Jobs.Forget(ctx, KindProvision, before), p.Jobs.Forget(ctx, kindDelete, before), p.Jobs.Forget(ctx, KindRekey, before))
}

func (p *Plane) sweepTokens(ctx context.Context) error {
	old, err := clientTokens.Keys(ctx, p.System, record.Before(entryTokenAt, p.Clock().Add(-TokenLife)))
	if err != nil {
		return err
	}
	for _, id := range old {
		if err := clientTokens.Purge(ctx, p.System, id); err != nil {
			return err
		}
	}
	return nil
}

// forgetKey destroys a store's wrapped keys, also one of an exchange that was
// under way.
func (p *Plane) forgetKey(ctx context.Context, id string) error {
	d, err := datastores.Get(ctx, p.System, id)
	if err != nil {
		return err
	}
	return p.forgetKeys(ctx, id, 0, d.KeyNumber+2)
}
