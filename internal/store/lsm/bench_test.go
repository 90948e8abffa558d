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
