package datastore_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newWorldOnDisk is a world on the real engine, around which another may be put.
func newWorldOnDisk(t *testing.T, root string, around func(store.Engine) store.Engine) *World {
	t.Helper()
	clock := NewClock()
	engine, err := lsm.New(lsm.Options{Root: root, Clock: clock.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, clock, around(engine))
	t.Cleanup(func() {
		w.Stop()
		if err := w.System.Close(); err != nil {
			t.Error(err)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// The life of a store on the real engine: written, closed for its key and for
// idleness, read again by the next server, and gone from the disk in the end.
func TestLifeOnDisk(t *testing.T) {
	root := t.TempDir()
	w := newWorldOnDisk(t, root, func(e store.Engine) store.Engine { return e })
	system := &scrubbed{Store: w.System}
	w.System = system
	w.Begin()
	arn := w.Keys.Add("alias/mine")
	d := w.Create(datastore.CreateRequest{Encryption: customer("alias/mine")})
	writable(t, w, d.ID)
	if len(traces(t, root, d.ID)) == 0 {
		t.Fatal("nothing on the disk bears the store's id: this test looks in the wrong place")
	}
	w.Crash()
	readable(t, w, d.ID)
	w.Clock.Advance(time.Hour)
	w.Plane.CloseIdle()
	readable(t, w, d.ID)
	w.Keys.Enable(arn, false)
	w.Plane.CheckKeys(t.Context())
	if _, err := w.Plane.Open(t.Context(), d.ID); !fault.Is(err, fault.Forbidden) {
		t.Errorf("without its key: %v", err)
	}
	w.Keys.Enable(arn, true)
	w.Clock.Advance(time.Minute)
	readable(t, w, d.ID)
	if _, err := w.Plane.Delete(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	w.Await(d.ID, datastore.Deleted)
	if left := traces(t, root, d.ID); len(left) > 0 {
		t.Errorf("left on the disk: %v", left)
	}
	if system.times.Load() == 0 {
		t.Error("the wrapped key was purged, but its bytes were left in the system store's files")
	}
}

// scrubbed counts how often the system store was scrubbed.
type scrubbed struct {
	store.Store
	times atomic.Int32
}

func (s *scrubbed) Scrub(ctx context.Context) error {
	s.times.Add(1)
	return s.Store.(store.Scrubber).Scrub(ctx)
}

func readable(t testing.TB, w *World, id string) {
	t.Helper()
	lease, err := w.Plane.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	view, err := lease.Store.View(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if got, err := view.Get(t.Context(), plan.Key{Type: 1, ID: "a"}); err != nil || string(got.Body) != "{}" {
		t.Errorf("%q, %v", got.Body, err)
	}
}

// traces lists the paths that bear a store's id.
func traces(t *testing.T, root, id string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.Contains(path, id) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
