package throttle

import (
	"fmt"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

func TestFailures(t *testing.T) {
	f, now := NewFailures(), time.Unix(1_000_000, 0)
	for i := range keyFailures {
		if err := f.Locked("192.0.2.7", "AKIA", now); err != nil {
			t.Fatalf("after %d failures: %v", i, err)
		}
		f.Failed("192.0.2.7", "AKIA", now)
	}
	if err := f.Locked("192.0.2.7", "AKIA", now); !fault.Is(err, fault.Throttled) || fault.From(err).Retry == 0 {
		t.Errorf("after %d failures: %v", keyFailures, err)
	}
	for _, other := range [][2]string{{"192.0.2.7", "AKIB"}, {"192.0.2.8", "AKIA"}} {
		if err := f.Locked(other[0], other[1], now); err != nil {
			t.Errorf("%v: %v", other, err)
		}
	}
	if err := f.Locked("192.0.2.7", "AKIA", now.Add(keyForgives)); err != nil {
		t.Errorf("forgiven: %v", err)
	}
}

// Many keys from one source are counted together.
func TestSourceFailures(t *testing.T) {
	f, now := NewFailures(), time.Unix(1_000_000, 0)
	for i := range sourceFailures {
		f.Failed("192.0.2.7", fmt.Sprint(i), now)
	}
	if err := f.Locked("192.0.2.7", "fresh", now); !fault.Is(err, fault.Throttled) {
		t.Errorf("%v", err)
	}
	if err := f.Locked("192.0.2.8", "fresh", now); err != nil {
		t.Errorf("another source: %v", err)
	}
}

func TestFailuresAreBounded(t *testing.T) {
	f, now := NewFailures(), time.Unix(1_000_000, 0)
	for i := range keyFailures {
		f.Failed("192.0.2.7", "AKIA", now.Add(time.Duration(i)))
	}
	for i := range failuresMax + 100 {
		f.note(fmt.Sprint("x", i), 1, 1, now.Add(time.Duration(i)*time.Nanosecond))
	}
	if len(f.seen) > failuresMax {
		t.Errorf("%d are remembered", len(f.seen))
	}
}
