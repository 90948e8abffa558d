package lsm

import (
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// database is a pebble.DBForCompaction that wants compactions.
type database struct {
	name    string
	mu      sync.Mutex
	wants   int
	allowed int
	told    chan string // its name, when it is granted one
}

func (d *database) GetAllowedWithoutPermission() int { return d.allowed }

func (d *database) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wants > 0, pebble.WaitingCompaction{}
}

func (d *database) Schedule(pebble.CompactionGrantHandle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wants == 0 {
		return false
	}
	d.wants--
	d.told <- d.name
	return true
}

// While an import fills a store, its compactions wait for a backlog, and those of
// other stores do not wait for them.
func TestCompactionsOfAnImportAreHeld(t *testing.T) {
	s := newShare()
	granted := make(chan string, 10)
	join := func(name string) (*member, *database) {
		d := &database{name: name, wants: 5, allowed: 1, told: granted}
		m := s.member()
		m.Register(2, d)
		return m, d
	}
	filled, backlog := join("filled")
	other, _ := join("other")
	defer other.Unregister()
	defer filled.Unregister()
	filled.hold()
	if ok, _ := filled.TrySchedule(); ok {
		t.Error("a compaction is not held back")
	}
	if ok, _ := other.TrySchedule(); !ok {
		t.Error("another store waits for what is held back")
	}
	if m := s.next(); m != nil {
		t.Error("a compaction that is held back is granted later")
	}
	s.mu.Lock()
	backlog.allowed = 2
	s.mu.Unlock()
	s.wake()
	if name := <-granted; name != "filled" {
		t.Errorf("with a backlog %s goes on", name)
	}
	s.mu.Lock()
	backlog.allowed = 1
	s.mu.Unlock()
	filled.Done()
	s.mu.Lock()
	filled.held = time.Now()
	s.mu.Unlock()
	s.wake()
	if name := <-granted; name != "filled" {
		t.Errorf("after the import %s goes on", name)
	}
}

// Compactions of all stores together keep within the limit, and those who wait
// come in turn, whoever asks most.
func TestCompactionsAreShared(t *testing.T) {
	s := newShare()
	s.limit = 2
	granted := make(chan string, 100)
	join := func(name string, wants int) *member {
		m := s.member()
		m.Register(2, &database{name: name, wants: wants, allowed: 2, told: granted})
		return m
	}
	busy, quiet, third := join("busy", 50), join("quiet", 3), join("third", 3)
	members := map[string]*member{"busy": busy, "quiet": quiet, "third": third}
	for range 2 {
		if ok, _ := busy.TrySchedule(); !ok {
			t.Fatal("nothing runs, and a compaction is refused")
		}
	}
	for _, m := range []*member{busy, quiet, third} {
		if ok, _ := m.TrySchedule(); ok {
			t.Fatal("a compaction beyond the limit")
		}
	}
	order, running := "", []*member{busy, busy}
	for range 6 {
		running[0].Done()
		name := <-granted
		order += name[:1]
		running = append(running[1:], members[name])
		s.mu.Lock()
		if s.running > s.limit {
			t.Errorf("%d compactions run", s.running)
		}
		s.mu.Unlock()
	}
	if order != "bqtbqt" {
		t.Errorf("the order of grants is %s", order)
	}
	if ok, _ := busy.TrySchedule(); ok {
		t.Error("the busy store overtook those who wait")
	}
	for _, m := range []*member{quiet, third, busy} {
		m.Unregister()
	}
	if ok, _ := busy.TrySchedule(); ok {
		t.Error("a compaction for a store that is closed")
	}
	if s.quit != nil {
		t.Error("the granter goes on without members")
	}
}
