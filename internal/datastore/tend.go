package datastore

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// sweepEvery is how often Tend sweeps; it also does so when it begins.
const sweepEvery = time.Hour

// Bounds of looking after keys: how many questions to the KMS at once, and how
// long one may take, so that a slow KMS does not hold up the news of the others.
const (
	keyQuestions = 8
	keyPatience  = 10 * time.Second
)

// Tend closes idle stores, looks after keys and sweeps, until ctx ends.
func (p *Plane) Tend(ctx context.Context) {
	look := time.NewTicker(min(p.KeyCheck, p.IdleClose))
	defer look.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	rewrap := time.NewTicker(RewrapEvery)
	defer rewrap.Stop()
	p.sweep(ctx)
	p.rewrapping(ctx)
	var backing errgroup.Group
	if p.Backups != nil {
		backing.Go(func() error { p.tendBackups(ctx); return nil })
		defer func() { _ = backing.Wait() }() // it returns no error
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			p.pool.closeIdle()
			p.pool.checkKeys(ctx)
		case <-rewrap.C:
			p.rewrapping(ctx)
		case <-sweep.C:
			p.sweep(ctx)
		}
	}
}

func (p *Plane) sweep(ctx context.Context) {
	if err := p.Sweep(ctx); err != nil && ctx.Err() == nil {
		p.Log.Warn("sweeping is tried again later", "error", err)
	}
}

func (p *Plane) rewrapping(ctx context.Context) {
	if err := p.RewrapAll(ctx); err != nil && ctx.Err() == nil {
		p.Log.Warn("wrapping data keys anew is tried again later", "error", err)
	}
}

// checkKeys closes the stores whose key was disabled, which drops data key,
// caches and views from memory; a KMS that cannot be asked is not a disabled
// key, and closes them only after KeyGrace. Each key is asked for once.
func (p *pool) checkKeys(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(keyQuestions)
	for name, ids := range p.openByKey() {
		group.Go(func() error {
			p.checkKey(ctx, name, ids)
			return nil
		})
	}
	_ = group.Wait() // none of them returns an error
}

// openByKey lists the ids of open stores by the name of their key.
func (p *pool) openByKey() map[string][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	byKey := map[string][]string{}
	for id, s := range p.slots {
		if s.store != nil {
			byKey[s.key] = append(byKey[s.key], id)
		}
	}
	return byKey
}

func (p *pool) checkKey(ctx context.Context, name string, ids []string) {
	asked := p.plane.Clock()
	asking, cancel := context.WithTimeout(ctx, keyPatience)
	defer cancel()
	err := p.plane.keyGood(asking, name)
	if ctx.Err() != nil {
		return // the server is stopping: no news about the key
	}
	for _, id := range ids {
		if p.keep(id, asked, err) {
			continue
		}
		p.plane.Log.Warn("closing a data store for its key", "datastore", id, "error", err)
		p.discard(id)
	}
}

// keep decides whether a store stays open after its key was asked for.
func (p *pool) keep(id string, asked time.Time, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slots[id]
	switch {
	case s == nil || s.store == nil:
		return true
	case err == nil:
		s.keySeen = asked
		return true
	case fault.Is(err, fault.Forbidden):
		return false
	}
	return p.plane.Clock().Sub(s.keySeen) < p.plane.KeyGrace
}
