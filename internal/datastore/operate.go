package datastore

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Check looks a store through while it serves. Problems are in the Report; the
// error is only that the check could not be done.
func (p *Plane) Check(ctx context.Context, id string) (store.Report, error) {
	return withPower(ctx, p, id, "check", store.Checker.Check)
}

// Compact puts a store's files into order while it serves.
func (p *Plane) Compact(ctx context.Context, id string) error {
	_, err := withPower(ctx, p, id, "compact", func(s store.Compacter, ctx context.Context) (struct{}, error) {
		return struct{}{}, s.Compact(ctx)
	})
	return err
}

// Inspect leases a store in whatever state it is, as long as it has files: for
// the operator's own work beside or without a running server.
func (p *Plane) Inspect(ctx context.Context, id string) (*Lease, error) {
	if _, err := p.Describe(ctx, id); err != nil {
		return nil, err
	}
	return p.pool.acquire(ctx, id, func(d *Datastore) error {
		if d.Status == Deleted || d.Status == CreateFailed {
			return fault.New(fault.NotFound, "datastore.Inspect", "the data store is %s", d.Status)
		}
		return nil
	})
}

// Discard closes a store whoever uses it; the next Open opens it again.
func (p *Plane) Discard(id string) { p.pool.discard(id) }

// withPower uses an optional power of a store's engine; fault.NotSupported when
// the engine does not have it.
func withPower[Power, Out any](ctx context.Context, p *Plane, id, what string, use func(Power, context.Context) (Out, error)) (Out, error) {
	var none Out
	lease, err := p.Open(ctx, id)
	if err != nil {
		return none, err
	}
	defer lease.Release()
	power, ok := lease.Store.(Power)
	if !ok {
		return none, fault.New(fault.NotSupported, "datastore."+what, "the storage engine cannot %s a store", what)
	}
	return use(power, ctx)
}
