// Package storetest is the examination that every storage engine sits.
//
//	Run(t, open)      examples · lifecycle · differential · concurrency · crash
//	Benchmarks(b, open)
//	script (.test)    steps and the answers they must get, readable by anyone
//
// Opener gives an engine over a fresh, empty place; engines whose process can
// die offer Crasher too. The examples (testdata/*.test, and testdata/storetest
// beside the engine's own tests) are scripts in the small language of
// testdata/README.md. The differential test writes such scripts at random, runs
// each on the engine and on store/memory, and compares all answers; where they
// differ it drops steps while the difference stays, and writes what is left
// into testdata/storetest of the engine's package, to be kept as an example.
//
// TARN_SEED, TARN_HISTORIES and TARN_STEPS choose the histories.
//
// An engine that cannot do something names it as an Exception, with the reason;
// an exception that names no test fails. The twin has none.
//
//	func TestEngine(t *testing.T) { storetest.Run(t, open) }
package storetest

import (
	"context"
	"flag"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Opener makes an engine over a fresh, empty place, whose commits are dated by
// clock: while clock stands still they carry its time, cut to milliseconds, or
// the time of the newest version when that is later. It fails the test when it
// cannot.
//
// reopen stands for another start of the process over the same place: the
// engine before it is let go (its stores are closed by then), and the new one
// finds what was acknowledged. The last engine is let go by t.Cleanup.
type Opener func(t testing.TB, clock func() time.Time) (engine store.Engine, reopen func() store.Engine)

// Crasher is an optional power of an Opener's engine.
type Crasher interface {
	// Crash gives an engine over a copy of the place as a power failure now
	// would leave it: what was not synced is gone, as far as the file system
	// under test can tell. The engine itself goes on unharmed; Crash may be
	// called while it works. The new engine is let go by t.Cleanup.
	Crash(t testing.TB) store.Engine
}

// Exception excuses an engine from a test.
type Exception struct {
	Test   string // the test's name below Run, a path.Match pattern: "examples/purge"
	Reason string
}

// Run examines an engine.
func Run(t *testing.T, open Opener, exceptions ...Exception) {
	x := &exam{open: open, exceptions: exceptions, used: map[int]bool{}}
	x.run(t, "lifecycle", x.lifecycle)
	x.run(t, "examples", x.examples)
	x.run(t, "differential", x.differential)
	x.run(t, "concurrency", x.concurrency)
	x.run(t, "crash", x.crash)
	for i, e := range exceptions {
		if !x.used[i] && !partial() {
			t.Errorf("the exception for %q names no test", e.Test)
		}
	}
}

// exam is one examination under way.
type exam struct {
	open       Opener
	exceptions []Exception
	used       map[int]bool
}

// run runs a test below Run, unless it is excepted. name is its whole path.
func (x *exam) run(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(path.Base(name), func(t *testing.T) {
		for i, e := range x.exceptions {
			if ok, _ := path.Match(e.Test, name); ok {
				x.used[i] = true
				t.Skipf("excepted: %s", e.Reason)
			}
		}
		f(t)
	})
}

// Clock is a clock that moves only when told.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// start is where a Clock begins; scripts write times as distances from it.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// NewClock makes a clock that stands at the beginning of 2026.
func NewClock() *Clock { return &Clock{now: start} }

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Move puts the clock forward, or back.
func (c *Clock) Move(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

// patience is how long one call to an engine may take before a test gives it
// up: far more than any needs, on a machine busy with other things.
const patience = 60 * time.Second

// testKey is a data key of 32 equal bytes.
func testKey(t testing.TB, fill byte) seal.DataKey {
	t.Helper()
	key, err := seal.DataKeyFrom([]byte(strings.Repeat(string(rune(fill)), seal.KeySize)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// storeID is the id of the store that most tests use.
const storeID store.ID = "examined"

// openStore makes a store and opens it; t.Cleanup closes it.
func openStore(t testing.TB, engine store.Engine) store.Store {
	t.Helper()
	ctx := testContext(t)
	if err := engine.Create(ctx, storeID, testKey(t, 'k')); err != nil {
		t.Fatalf("Create: %v", err)
	}
	s, err := engine.Open(ctx, storeID, testKey(t, 'k'))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// testContext ends after patience, or with the test.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// partial reports whether -run leaves parts of the examination out.
func partial() bool {
	return strings.Contains(flagValue("test.run"), "/") || flagValue("test.skip") != ""
}

func mustNot(t testing.TB, doing string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", doing, err)
	}
}

// flagValue reads one of the flags of go test.
func flagValue(name string) string {
	if f := flag.Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}

// setting reads a number from the environment.
func setting(t testing.TB, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
