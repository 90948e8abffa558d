package throttle

import (
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

func TestStoreBucketsAreTheirOwn(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := New(Limits{Store: 1, StoreBurst: 2})
	for i := range 2 {
		if err := l.Store("a", now); err != nil {
			t.Fatalf("request %d within the burst: %v", i, err)
		}
	}
	if err := l.Store("a", now); !fault.Is(err, fault.Throttled) {
		t.Fatalf("third request: %v, want throttled", err)
	}
	if err := l.Store("b", now); err != nil {
		t.Fatalf("another store is throttled too: %v", err)
	}
	if err := l.Store("a", now.Add(time.Second)); err != nil {
		t.Fatalf("a second later: %v", err)
	}
}

func TestZeroIsUnlimited(t *testing.T) {
	l := New(Limits{})
	for range 10_000 {
		if err := l.Control(time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
}
