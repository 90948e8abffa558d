package throttle

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Bounds of failed authentication: how many may come at once, and how fast one
// more is forgiven. A person who mistypes stays far below; a program that
// guesses is slowed to a crawl. A source is counted besides its keys, so that
// trying many keys helps nobody; its bound leaves room for those who share an
// address.
const (
	keyFailures    = 30
	keyForgives    = 2 * time.Second // one failure each
	sourceFailures = 300
	sourceForgives = 200 * time.Millisecond
	// failuresMax is how many sources and keys are remembered; at the bound those
	// that failed longest ago are forgotten.
	failuresMax = 20_000
)

// Failures slows down those whose authentication fails. The zero value is not
// ready; use NewFailures.
type Failures struct {
	mu   sync.Mutex
	seen map[string]*failing
}

type failing struct {
	bucket *rate.Limiter
	last   time.Time
}

// NewFailures makes an empty one.
func NewFailures() *Failures { return &Failures{seen: map[string]*failing{}} }

// Locked refuses a source ("192.0.2.7") that failed too often, alone or with this
// access key: fault.Throttled, before anything is verified.
func (f *Failures) Locked(source, key string, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range []string{source, source + " " + key} {
		if one := f.seen[name]; one != nil && one.bucket.TokensAt(now) < 1 {
			return &fault.Error{Kind: fault.Throttled, Op: "throttle.Locked", Detail: "too many requests with wrong credentials", Hint: "wait, and check them", Retry: 5}
		}
	}
	return nil
}

// Failed notes a failure.
func (f *Failures) Failed(source, key string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(source, rate.Every(sourceForgives), sourceFailures, now)
	f.note(source+" "+key, rate.Every(keyForgives), keyFailures, now)
}

func (f *Failures) note(name string, forgives rate.Limit, most int, now time.Time) {
	one := f.seen[name]
	if one == nil {
		f.makeRoom(now)
		one = &failing{bucket: rate.NewLimiter(forgives, most)}
		f.seen[name] = one
	}
	one.last = now
	one.bucket.AllowN(now, 1)
}

// makeRoom forgets those who are forgiven and, where that is not enough, the one
// that failed longest ago.
func (f *Failures) makeRoom(now time.Time) {
	if len(f.seen) < failuresMax {
		return
	}
	oldest, at := "", now
	for name, one := range f.seen {
		if one.bucket.TokensAt(now) >= float64(one.bucket.Burst()) {
			delete(f.seen, name)
		} else if !one.last.After(at) {
			oldest, at = name, one.last
		}
	}
	if len(f.seen) >= failuresMax {
		delete(f.seen, oldest)
	}
}
