package fhirapi_test

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/tarn-fhir/tarn/test/blackbox/linear"
)

// linearRequests is how much one client asks: a count, so that a slow machine
// sees the same race.
const linearRequests = 40

// 64 clients race conditional creates and deletes, version-aware updates,
// transactions, deletes and reads; what they are told is what a store could tell
// that does one thing after another (issue 5's bar; package blackbox has the
// minute of it, with a server that is killed).
func TestLinearizable(t *testing.T) {
	for name, open := range map[string]func(testing.TB) *server{"memory": newServer, "disk": onDisk} {
		t.Run(name, func(t *testing.T) {
			s, begun := open(t), time.Now()
			ask := func(method, target, body string, headers ...string) (int, []byte, error) {
				a := s.do(t, method, target, body, headers...)
				return a.status, a.body, nil
			}
			var mu sync.Mutex
			var wg sync.WaitGroup
			var history []porcupine.Operation
			for id := range linear.Clients {
				wg.Go(func() {
					mine := linear.Client(t, ask, id, begun, linearRequests, math.MaxInt64)
					mu.Lock()
					defer mu.Unlock()
					history = append(history, mine...)
				})
			}
			wg.Wait()
			linear.Judge(t, history)
		})
	}
}
