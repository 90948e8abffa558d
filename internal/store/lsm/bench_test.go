package lsm_test

import (
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
	"github.com/tarn-fhir/tarn/internal/store/storetest"
)

// BenchmarkEngine measures the engine on disk with the options that a server
// uses.
func BenchmarkEngine(b *testing.B) {
	storetest.Benchmarks(b, func(t testing.TB, clock func() time.Time) (store.Engine, func() store.Engine) {
		opts := lsm.Options{Root: t.TempDir(), Clock: clock}
		open := func() store.Engine { return engine(t, opts) }
		return open(), open
	})
}

// BenchmarkCreateAndOpen is what CreateFHIRDatastore waits for.
func BenchmarkCreateAndOpen(b *testing.B) {
	e := engine(b, lsm.Options{Root: b.TempDir()})
	for b.Loop() {
		s := made(b, e)
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		if err := e.Drop(b.Context(), "s"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
