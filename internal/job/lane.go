package job

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Lane bounds the jobs of some kinds that run side by side.
type Lane struct {
	Name     string
	Workers  int           // jobs at once, at least 1
	PerStore int           // of one data store; 0: no bound
	Waiting  int           // jobs of one data store that may wait behind those; 0: no bound
	Keep     time.Duration // ended jobs are forgotten after so long; 0: never
}

// lane is a Lane with those who are in it.
type lane struct {
	Lane

	mu      sync.Mutex
	running int
	byStore map[string]int
	waiting []*ticket // by time of submission

	submitting sync.Mutex // counting and committing are one step
}

func newLane(l Lane) *lane {
	l.Workers = max(1, l.Workers)
	return &lane{Lane: l, byStore: map[string]int{}}
}

// ticket is a job's place in a lane.
type ticket struct {
	lane      *lane
	store     string
	submitted time.Time

	// guarded by lane.mu
	state ticketState
	ready chan struct{} // closed when the turn has come
}

type ticketState uint8

const (
	away ticketState = iota
	waiting
	holding
)

// line puts a job into the lane.
func (l *lane) line(j Job) *ticket {
	t := &ticket{lane: l, store: j.Datastore, submitted: j.SubmittedAt}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enter(t)
	return t
}

func (l *lane) enter(t *ticket) {
	t.state, t.ready = waiting, make(chan struct{})
	at := len(l.waiting)
	for at > 0 && l.waiting[at-1].submitted.After(t.submitted) {
		at--
	}
	l.waiting = slices.Insert(l.waiting, at, t)
	l.next()
}

// next gives free places to those whose turn it is: the data store with the
// fewest running comes first, among equals the job that was submitted first.
func (l *lane) next() {
	for l.running < l.Workers {
		best := -1
		for i, t := range l.waiting {
			n := l.byStore[t.store]
			if l.PerStore > 0 && n >= l.PerStore {
				continue
			}
			if best < 0 || n < l.byStore[l.waiting[best].store] {
				best = i
			}
		}
		if best < 0 {
			return
		}
		t := l.waiting[best]
		l.waiting = slices.Delete(l.waiting, best, best+1)
		l.running++
		l.byStore[t.store]++
		t.state = holding
		close(t.ready)
	}
}

// mine reports whether the turn has come.
func (t *ticket) mine() bool {
	t.lane.mu.Lock()
	defer t.lane.mu.Unlock()
	return t.state == holding
}

// wait waits for the turn, lining up again after a release.
func (t *ticket) wait(ctx context.Context) error {
	t.lane.mu.Lock()
	if t.state == away {
		t.lane.enter(t)
	}
	ready := t.ready
	t.lane.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		t.leave()
		return ctx.Err()
	}
}

// leave gives up the place in the lane, or in the line before it.
func (t *ticket) leave() {
	l := t.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	switch t.state {
	case waiting:
		if at := slices.Index(l.waiting, t); at >= 0 {
			l.waiting = slices.Delete(l.waiting, at, at+1)
		}
	case holding:
		l.running--
		if l.byStore[t.store]--; l.byStore[t.store] == 0 {
			delete(l.byStore, t.store)
		}
		l.next()
	}
	t.state = away
}
