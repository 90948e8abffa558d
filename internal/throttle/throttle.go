// Package throttle bounds how fast requests are taken: one token bucket for the
// control plane, one for each data store, and quotas per action, data store and
// account (quota.go), in both planes answered as AWS answers
// (ThrottlingException, 429). Failures holds off those whose credentials fail.
package throttle

import (
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits are requests per second and how many may come at once; zero rates are
// unlimited.
type Limits struct {
	Control      float64 // the control plane
	ControlBurst int
	Store        float64 // each data store
	StoreBurst   int
	Quotas       map[Key]Rate // beside these; see HealthLake
}

// Defaults are generous: they stop a runaway client, not a busy one. AWS's own
// quotas are far lower (Amazon HealthLake endpoints and quotas).
var Defaults = Limits{Control: 200, ControlBurst: 1000, Store: 50_000, StoreBurst: 100_000}

// Limiter holds the buckets of one server.
type Limiter struct {
	limits  Limits
	control *rate.Limiter

	mu     sync.Mutex
	stores map[string]*rate.Limiter
	quotas map[pailKey]*pail // made when first asked for
}

// New makes a limiter.
func New(l Limits) *Limiter {
	return &Limiter{limits: l, control: bucket(l.Control, l.ControlBurst), stores: map[string]*rate.Limiter{}, quotas: map[pailKey]*pail{}}
}

func bucket(perSecond float64, burst int) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, burst))
}

// Control takes one control plane request; fault.Throttled when too fast.
func (l *Limiter) Control(now time.Time) error { return take(l.control, now) }

// Store takes one request to a data store that exists.
func (l *Limiter) Store(id string, now time.Time) error {
	l.mu.Lock()
	b := l.stores[id]
	if b == nil {
		b = bucket(l.limits.Store, l.limits.StoreBurst)
		l.stores[id] = b
	}
	l.mu.Unlock()
	return take(b, now)
}

// Forget drops the buckets of a data store that is gone.
func (l *Limiter) Forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.stores, id)
	maps.DeleteFunc(l.quotas, func(k pailKey, _ *pail) bool { return k.store == id })
}

func take(b *rate.Limiter, now time.Time) error {
	if b.AllowN(now, 1) {
		return nil
	}
	return throttled(time.Second)
}
