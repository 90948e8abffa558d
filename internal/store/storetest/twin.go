package storetest

import (
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

// Twin opens store/memory, with which engines are compared.
func Twin(_ testing.TB, clock func() time.Time) (store.Engine, func() store.Engine) {
	engine := memory.New(memory.Options{Clock: clock, Rand: bytesOf{rand.New(rand.NewPCG(rand.Uint64(), 0))}})
	return engine, func() store.Engine { return engine }
}

// bytesOf makes a reader of a source of numbers; it never ends.
type bytesOf struct{ source *rand.Rand }

var _ io.Reader = bytesOf{}

// Read implements io.Reader.
func (b bytesOf) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b.source.Uint32())
	}
	return len(p), nil
}
