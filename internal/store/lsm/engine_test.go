package lsm_test

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
	"github.com/tarn-fhir/tarn/internal/store/storetest"
)

// errorsOnly keeps what should not happen in a test.
var errorsOnly = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))

// discard drops the log, where a test makes errors happen.
var discard = slog.New(slog.DiscardHandler)

// crashing is an engine whose file system can be cloned as a power failure
// would leave it.
type crashing struct {
	store.Engine
	fs   *vfs.MemFS
	opts lsm.Options
}

func (c *crashing) Crash(t testing.TB) store.Engine {
	opts := c.opts
	opts.FS = c.fs.CrashClone(vfs.CrashCloneCfg{})
	return engine(t, opts)
}

func engine(t testing.TB, opts lsm.Options) *lsm.Engine {
	t.Helper()
	if opts.Log == nil {
		opts.Log = errorsOnly
	}
	if opts.Exit == nil {
		opts.Exit = func() { panic("the engine ended the process") }
	}
	e, err := lsm.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// inMemory opens engines over a file system that can crash. With small blocks,
// every way of answering is taken after few rows.
func inMemory(blockRows int) storetest.Opener {
	return func(t testing.TB, clock func() time.Time) (store.Engine, func() store.Engine) {
		fs := vfs.NewCrashableMem()
		opts := lsm.Options{Root: "data", FS: fs, Clock: clock, BlockRows: blockRows, CacheBytes: 4 << 20, MemTableBytes: 1 << 20}
		open := func() store.Engine {
			e := engine(t, opts)
			if blockRows != 0 {
				e.TakeEveryWay()
			}
			return &crashing{e, fs, opts}
		}
		return open(), open
	}
}

// onDisk opens engines over a folder of the operating system.
func onDisk(t testing.TB, clock func() time.Time) (store.Engine, func() store.Engine) {
	opts := lsm.Options{Root: t.TempDir(), Clock: clock, CacheBytes: 4 << 20}
	open := func() store.Engine { return engine(t, opts) }
	return open(), open
}

func TestEngineInMemory(t *testing.T)    { storetest.Run(t, inMemory(0)) }
func TestEngineSmallBlocks(t *testing.T) { storetest.Run(t, inMemory(64)) }
func TestEngineOnDisk(t *testing.T) {
	t.Parallel() // waits for syncs most of the time
	storetest.Run(t, onDisk)
}
