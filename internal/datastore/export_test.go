package datastore

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Tend's work, one round at a time.

func (p *Plane) CheckKeys(ctx context.Context) { p.pool.checkKeys(ctx) }
func (p *Plane) CloseIdle()                    { p.pool.closeIdle() }

// OpenStores counts open stores, Slots all places in the pool.
func (p *Plane) OpenStores() (open int) {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	for _, s := range p.pool.slots {
		if s.store != nil {
			open++
		}
	}
	return open
}

func (p *Plane) Slots() int {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	return len(p.pool.slots)
}

// HasKey reports whether a wrapped data key is kept for a store.
func (p *Plane) HasKey(ctx context.Context, id string) (bool, error) {
	_, err := wrappedKeys.Get(ctx, p.System, id)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Tokens counts the client tokens kept.
func (p *Plane) Tokens(ctx context.Context) (int, error) {
	ids, err := clientTokens.Keys(ctx, p.System, nil)
	return len(ids), err
}
