package datastore

import (
	"context"
	"strings"

	"github.com/tarn-fhir/tarn/internal/seal"
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

// Waiting counts those who want to open or close a store, or are at it.
func (p *Plane) Waiting(id string) int {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	if s := p.pool.slots[id]; s != nil {
		return s.waiting
	}
	return 0
}

// HasKey reports whether a wrapped data key is kept for a store.
func (p *Plane) HasKey(ctx context.Context, id string) (bool, error) {
	ids, err := wrappedKeys.Keys(ctx, p.System, nil)
	if len(ids) == 0 {
		return false, err
	}
	for _, one := range ids {
		if one == id || strings.HasPrefix(one, id+".") {
			return true, err
		}
	}
	return false, err
}

// WrappedKeys lists the documents of wrapped data keys.
func (p *Plane) WrappedKeys(ctx context.Context) ([]string, error) {
	return wrappedKeys.Keys(ctx, p.System, nil)
}

// KeyOf gives a store's wrapped data key of a number.
func (p *Plane) KeyOf(ctx context.Context, id string, number int) (seal.Wrapped, error) {
	return p.wrappedKey(ctx, id, number)
}

// Tokens counts the client tokens kept.
func (p *Plane) Tokens(ctx context.Context) (int, error) {
	ids, err := clientTokens.Keys(ctx, p.System, nil)
	return len(ids), err
}
