//go:build unix

package lsm_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir/dictionary"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// loggedUpdates is how many updates, in commits of updatesEach, the log and the
// memtables hold beyond the Synthea set when the server of BenchmarkLifeCycle
// stops: as many as its memtables take, so that opening has as much to read again
// as it can have.
const (
	loggedUpdates = 20_000
	updatesEach   = 50
)

// BenchmarkLifeCycle measures what happens to a whole store, here the Synthea set
// and updates that are in the log only: opening it after a crash until the first
// answer, a checkpoint for a backup that has every file already, and dropping it.
func BenchmarkLifeCycle(b *testing.B) {
	dictionaries, err := dictionary.Shipped()
	if err != nil {
		b.Fatal(err)
	}
	l := loadSynthea(b)
	l.update(b, loggedUpdates)
	patients := l.ids(b, "Patient?_count=1")
	crashed := b.TempDir()
	copyFolder(b, filepath.Dir(l.dir), crashed) // nothing is closed: what a killed server leaves
	patient := plan.Key{Type: l.typ(b, "Patient"), ID: patients[0]}

	b.Run("open-after-a-crash", func(b *testing.B) {
		eachCopy(b, crashed, lsm.Options{Dictionaries: dictionaries}, func(e *lsm.Engine) {
			s := opened(b, e)
			view, err := s.View(b.Context(), "")
			if err == nil {
				_, err = view.Get(b.Context(), patient)
			}
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := view.Close(); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("checkpoint", func(b *testing.B) {
		for b.Loop() {
			if _, err := l.Backup(b.Context(), everything{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("drop", func(b *testing.B) {
		eachCopy(b, crashed, lsm.Options{}, func(e *lsm.Engine) {
			if err := e.Drop(b.Context(), "s"); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// update commits the first n resources of the set again.
func (l *loaded) update(b *testing.B, n int) {
	b.Helper()
	sink := &opsSink{}
	sink.collect(b, l.Store)
	for at := 0; at < n; at += updatesEach {
		if _, err := l.Commit(b.Context(), sink.ops[at:at+updatesEach]); err != nil {
			b.Fatal(err)
		}
	}
}

// eachCopy times do over an engine on a copy of a folder of its own each time.
func eachCopy(b *testing.B, from string, opts lsm.Options, do func(*lsm.Engine)) {
	b.Helper()
	for range b.N {
		b.StopTimer()
		opts.Root = b.TempDir()
		copyFolder(b, from, opts.Root)
		e := engine(b, opts)
		b.StartTimer()
		do(e)
		b.StopTimer()
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func copyFolder(b *testing.B, from, to string) {
	b.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		b.Fatal(err)
	}
}

// everything is a keeper that has every file.
type everything struct{}

func (everything) Has(string) (bool, error)                             { return true, nil }
func (everything) Keep(context.Context, string, int64, io.Reader) error { return nil }
