package blackbox

import (
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/tarn-fhir/tarn/test/blackbox/linear"
	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// linearRequests is how much one client asks on each side of the crash;
// TARN_LINEARIZE (a duration) lets them race for a time instead, the server
// killed in the middle of it.
const linearRequests = 20

// 64 clients race conditional creates and deletes, version-aware updates,
// transactions, deletes and reads; in the middle the server is killed (kill -9)
// and starts again. What all of them were told, before and after, is what a
// store could tell that does one thing after another, each unanswered request
// done once or not at all.
func TestLinearizableOverACrash(t *testing.T) {
	t.Parallel()
	d := start(t).store(nil)
	race := &race{datastore: d, begun: time.Now(), requests: linearRequests, end: math.MaxInt64, crash: make(chan struct{})}
	race.acks.Store(linear.Clients * linearRequests)
	if text := os.Getenv("TARN_LINEARIZE"); text != "" {
		var err error
		race.end, err = time.ParseDuration(text)
		d.must(err)
		race.requests = math.MaxInt
		race.acks.Store(math.MaxInt64)
		timer := time.AfterFunc(race.end/2, func() { close(race.crash) })
		defer timer.Stop()
	}
	var before, after []porcupine.Operation
	var all sync.WaitGroup
	all.Go(func() { before = race.run(0, math.MaxInt, math.MaxInt64) })
	select {
	case <-race.crash:
	case <-t.Context().Done():
	}
	d.must(d.Kill())
	all.Wait()
	d.restart()
	race.crash = nil
	after = race.run(linear.Clients, race.requests, race.end)
	linear.Judge(t, append(before, after...))
}

// race is what all clients share.
type race struct {
	*datastore
	begun    time.Time
	requests int
	end      time.Duration
	acks     atomic.Int64  // answers that are still to come before the crash
	crash    chan struct{} // closed when the server is to be killed; nil: never
}

// run lets the clients race, numbered from first.
func (r *race) run(first, requests int, end time.Duration) (history []porcupine.Operation) {
	client, base := r.Client, r.base()
	ask := func(method, target, body string, headers ...string) (int, []byte, error) {
		req := process.Request{Method: method, URL: base + target, Body: []byte(body), Header: map[string]string{"Content-Type": "application/fhir+json"}}
		for _, line := range headers {
			name, value, _ := strings.Cut(line, ": ")
			req.Header[name] = value
		}
		answer, err := client.Do(r.t.Context(), req)
		if err != nil {
			return 0, nil, err
		}
		if r.crash != nil && r.acks.Add(-1) == 0 {
			close(r.crash)
		}
		return answer.Status, answer.Body, nil
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for id := range linear.Clients {
		all.Go(func() {
			mine := linear.Client(r.t, ask, first+id, r.begun, requests, end)
			mu.Lock()
			defer mu.Unlock()
			history = append(history, mine...)
		})
	}
	all.Wait()
	return history
}
