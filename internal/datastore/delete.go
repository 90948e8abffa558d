package datastore

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Delete begins the deletion of a store and returns its record, DELETING.
func (p *Plane) Delete(ctx context.Context, id string) (*Datastore, error) {
	j, jobOp, err := p.Jobs.Op(kindDelete, id, nil)
	if err != nil {
		return nil, err
	}
	d, err := p.changeWith(ctx, id, jobOp, func(d *Datastore) error {
		again := d.Status == Deleting && d.Failure != nil
		if again || d.Status == Active || d.Status == CreateFailed || d.Status == UpdateFailed {
			d.Status, d.Failure = Deleting, nil
			return nil
		}
		return &fault.Error{Kind: fault.Conflict, Op: "datastore.Delete", Subject: id, Detail: "the data store is " + string(d.Status)}
	})
	if fault.Is(err, fault.NotFound) {
		return nil, absent(id)
	}
	if err != nil {
		return nil, err
	}
	p.Jobs.Began(j)
	return d, nil
}

// changeWith changes a record and commits another op with it.
func (p *Plane) changeWith(ctx context.Context, id string, with store.Op, change func(*Datastore) error) (*Datastore, error) {
	return datastores.UpdateWith(ctx, p.System, id, []store.Op{with}, change)
}

// deleter takes DELETING data stores away: the wrapped key first, so that from
// then on nobody can read the files, then the files, then the record's state.
type deleter struct{ *Plane }

func (p deleter) Run(ctx context.Context, run *job.Run) error {
	id := run.Job.Datastore
	p.pool.discard(id)
	if err := wrappedKeys.Purge(ctx, p.System, id); err != nil {
		return err
	}
	if err := p.Engine.Drop(ctx, store.ID(id)); err != nil {
		return err
	}
	_, err := datastores.Update(ctx, p.System, id, func(d *Datastore) error {
		d.Status, d.DeletedAt = Deleted, p.Clock()
		return nil
	})
	return err
}

// Fail leaves the store DELETING with the reason; Delete may be asked again.
func (p deleter) Fail(ctx context.Context, run *job.Run, cause error) error {
	_, err := datastores.Update(ctx, p.System, run.Job.Datastore, func(d *Datastore) error {
		d.Failure = &Failure{Message: fault.From(cause).Message(), Retryable: true}
		return nil
	})
	return err
}

// Sweep forgets what is past its time: DELETED stores after KeepDeleted, client
// tokens after TokenLife.
func (p *Plane) Sweep(ctx context.Context) error {
	now := p.Clock()
	gone, err := datastores.All(ctx, p.System, record.Is(entryStatus, string(Deleted)))
	if err != nil {
		return err
	}
	for _, d := range gone {
		if now.Sub(d.DeletedAt) < p.KeepDeleted {
			continue
		}
		if err := datastores.Purge(ctx, p.System, d.ID); err != nil {
			return err
		}
	}
	return p.sweepTokens(ctx)
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
