package lsm

import (
	"runtime"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// leastCompactions is how many compactions may run at once on the smallest
// machine: one long one must not hold up all others.
const leastCompactions = 2

// granterTick is how often waiting stores are looked at although nobody told of a
// change: what a store may run changes with its backlog.
const granterTick = 100 * time.Millisecond

// While an import fills a store, its compactions are held back until Pebble counts
// a backlog (ten sublevels of level 0, or a GiB that is to be moved): one compaction
// of what ten pieces brought takes a part of the time of several that each move again
// what the one before moved. holdFor is how long after the last piece that goes on.
const holdFor = time.Second

// restFor is how long a store runs no compaction after one that failed: most likely
// the disk is full.
const restFor = 5 * time.Second

// againFor is how long after that rest another failure is no news.
const againFor = time.Minute

// share divides compactions between the open stores of an engine: so many at once
// over all, and whoever waits gets the next one in turn, so that the load of one
// store does not keep others from putting their files in order. Each open store
// is a member, which is Pebble's CompactionScheduler.
//
// Lock order (Pebble's rule): a database's own mutex comes before mu, so databases
// are called without mu. One goroutine grants what is not granted at once; it
// runs while there are members.
type share struct {
	limit int

	mu      sync.Mutex
	idle    sync.Cond // a call of a member's database has ended
	running int
	members []*member // the one whose turn is next first
	poke    chan struct{}
	quit    chan struct{} // of the granter; nil: there is none
}

func newShare() *share {
	s := &share{limit: max(leastCompactions, runtime.GOMAXPROCS(0)), poke: make(chan struct{}, 1)}
	s.idle.L = &s.mu
	return s
}

// member is one store's place in the share. All but db is guarded by share.mu.
type member struct {
	*share
	db      pebble.DBForCompaction // set by Register, before anything else
	running int
	waiting bool // it was refused, and not granted all it wants since
	called  bool // the granter is calling db
	gone    bool
	held    time.Time // until when its compactions are held back
	resting time.Time // until when it runs none, as one failed
}

var (
	_ pebble.CompactionScheduler   = (*member)(nil)
	_ pebble.CompactionGrantHandle = (*member)(nil)
)

func (s *share) member() *member { return &member{share: s} }

// Register implements pebble.CompactionScheduler.
func (m *member) Register(_ int, db pebble.DBForCompaction) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.db = db
	m.members = append(m.members, m)
	if m.quit == nil {
		m.quit = make(chan struct{})
		go m.grantUntil(m.quit)
	}
}

// Unregister implements pebble.CompactionScheduler.
func (m *member) Unregister() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
	for m.called {
		m.idle.Wait()
	}
	for i, other := range m.members {
		if other == m {
			m.members = append(m.members[:i:i], m.members[i+1:]...)
			break
		}
	}
	if len(m.members) == 0 && m.quit != nil {
		close(m.quit)
		m.quit = nil
	}
}

// TrySchedule implements pebble.CompactionScheduler: it does not overtake others
// who wait.
func (m *member) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return false, nil
	}
	if m.share.running < m.limit && m.ready(time.Now()) && !m.othersWait() {
		m.take()
		return true, m
	}
	m.waiting = true
	m.wake()
	return false, nil
}

func (m *member) othersWait() bool {
	now := time.Now()
	for _, other := range m.members {
		if other != m && other.waiting && !other.holds(now) && !other.rests(now) {
			return true
		}
	}
	return false
}

// ready reports whether the member may run one more.
func (m *member) ready(now time.Time) bool {
	return m.running < m.db.GetAllowedWithoutPermission() && !m.holds(now) && !m.rests(now)
}

// rests reports whether one of its compactions failed right before.
func (m *member) rests(now time.Time) bool { return now.Before(m.resting) }

// rest lets it rest, as one failed; again: as others did right before.
func (m *member) rest() (again bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	again = now.Sub(m.resting) < againFor
	m.resting = now.Add(restFor)
	return again
}

// holds reports whether its compactions are held back: Pebble allows more than one
// at a time when there is a backlog, or when one was asked for.
func (m *member) holds(now time.Time) bool {
	return now.Before(m.held) && m.db.GetAllowedWithoutPermission() <= 1
}

// hold holds compactions back for a while, as a piece of an import came.
func (m *member) hold() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = time.Now().Add(holdFor)
}

func (m *member) take() { m.running++; m.share.running++ }
func (m *member) free() { m.running--; m.share.running-- }

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (m *member) UpdateGetAllowedWithoutPermission() { m.wake() }

// Started implements pebble.CompactionGrantHandle.
func (m *member) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (m *member) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (m *member) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done implements pebble.CompactionGrantHandle.
func (m *member) Done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free()
	m.wake()
}

func (s *share) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

func (s *share) grantUntil(quit chan struct{}) {
	tick := time.NewTicker(granterTick)
	defer tick.Stop()
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
		case <-s.poke:
		}
		for m := s.next(); m != nil; m = s.next() {
			s.grant(m)
		}
	}
}

// next takes a compaction for the member whose turn it is, which then is the last
// in turn; nil when none can be granted.
func (s *share) next() *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running >= s.limit {
		return nil
	}
	now := time.Now()
	for i, m := range s.members {
		if m.waiting && !m.gone && m.ready(now) {
			s.members = append(append(s.members[:i:i], s.members[i+1:]...), m)
			m.take()
			m.called = true
			return m
		}
	}
	return nil
}

// grant offers what next took to the member's database.
func (s *share) grant(m *member) {
	accepted := false
	if waits, _ := m.db.GetWaitingCompaction(); waits {
		accepted = m.db.Schedule(m)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.called = false
	if !accepted {
		m.free()
		m.waiting = false
	}
	s.idle.Broadcast()
}
