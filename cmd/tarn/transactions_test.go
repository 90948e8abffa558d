package main

import (
	"crypto/rand"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

// Many who come at once get no more places than there are.
func TestPendingTransactionsAreBounded(t *testing.T) {
	engine := memory.New(memory.Options{Clock: time.Now, Rand: rand.Reader})
	key, err := seal.NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Create(t.Context(), "system", key); err != nil {
		t.Fatal(err)
	}
	system, err := engine.Open(t.Context(), "system", key)
	if err != nil {
		t.Fatal(err)
	}
	queue := job.NewQueue(job.Options{System: system, Workers: 1, NewID: rand.Text, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	one := later{&transactions{queue: queue, system: system}, "d"}
	const before, together = maxPending - 8, 32
	for range before {
		if err := one.Submit(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for range together {
		all.Go(func() {
			if err := one.Submit(t.Context(), "t"); err != nil && !fault.Is(err, fault.Throttled) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if waiting, err := queue.Open(t.Context(), "d"); err != nil || len(waiting) != maxPending {
		t.Errorf("%d wait, %v; want %d", len(waiting), err, maxPending)
	}
	if err := (later{one.transactions, "e"}).Submit(t.Context(), "t"); err != nil {
		t.Errorf("of another data store: %v", err)
	}
}
