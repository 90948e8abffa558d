package throttle

import (
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{
		"100/s": {100, time.Second}, "10/m": {10, time.Minute}, "0.5/h": {0.5, time.Hour}, "0": {},
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "100", "/s", "-1/s", "0/s", "NaN/s", "Inf/s", "1e30/s", "10/d", "10/s/s"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	f.Add("100/s")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRate(text)
		if err == nil && r != (Rate{}) && (r.Units <= 0 || r.Units > maxUnits || r.Per <= 0) {
			t.Errorf("%q is %v", text, r)
		}
	})
}

func TestParseKey(t *testing.T) {
	known := func(action string) bool { return action == "ReadResource" }
	for _, text := range []string{"ReadResource.store", "reads.account", "writes.store", "tagging.account"} {
		if got, err := ParseKey(text, known); err != nil || got.String() != text {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "ReadResource", "ReadResource.", "ReadResource.user", "Nothing.store", ".store"} {
		if _, err := ParseKey(text, known); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// The steps of a quota: what is taken, how long is to be waited, and who else
// does not mind.
func TestQuotas(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	type step struct {
		after time.Duration
		call  Call
		waits int // seconds; 0: taken
	}
	read := func(store string) Call { return Call{Action: "ReadResource", Datastore: store} }
	vread := func(store string) Call { return Call{Action: "VersionReadResource", Datastore: store} }
	write := func(units float64) Call { return Call{Action: "CreateResource", Datastore: "a", Units: units} }
	for name, c := range map[string]struct {
		quotas map[Key]Rate
		steps  []step
	}{
		"of an action, per store": {map[Key]Rate{{"ReadResource", PerStore}: {2, time.Second}}, []step{
			{0, read("a"), 0}, {0, read("a"), 0}, {0, read("a"), 1}, {0, read("b"), 0}, {0, vread("a"), 0}, {time.Second, read("a"), 0},
		}},
		"of a group, per account": {map[Key]Rate{{"reads", PerAccount}: {2, time.Second}}, []step{
			{0, read("a"), 0}, {0, vread("b"), 0}, {0, read("c"), 1}, {0, write(1), 0}, {500 * time.Millisecond, read("c"), 0},
		}},
		"a minute's": {map[Key]Rate{{"CreateFHIRDatastore", PerAccount}: {1, time.Minute}}, []step{
			{0, Call{Action: "CreateFHIRDatastore"}, 0}, {time.Second, Call{Action: "CreateFHIRDatastore"}, 59}, {time.Minute, Call{Action: "CreateFHIRDatastore"}, 0},
		}},
		"in units, overdrawn once": {map[Key]Rate{{"writes", PerStore}: {10, time.Second}}, []step{
			{0, write(100), 0}, {5 * time.Second, write(1), 5}, {9100 * time.Millisecond, write(1), 0}, {9100 * time.Millisecond, write(10), 1},
		}},
		"out of all or none": {map[Key]Rate{{"reads", PerAccount}: {3, time.Second}, {"reads", PerStore}: {1, time.Second}}, []step{
			{0, read("a"), 0}, {0, read("a"), 1}, {0, read("a"), 1}, {0, read("b"), 0}, {0, read("c"), 0}, {0, read("d"), 1},
		}},
		"of a store, where there is none": {map[Key]Rate{{"ListFHIRDatastores", PerStore}: {1, time.Hour}}, []step{
			{0, Call{Action: "ListFHIRDatastores"}, 0}, {0, Call{Action: "ListFHIRDatastores"}, 0},
		}},
	} {
		l := New(Limits{Quotas: c.quotas})
		for i, s := range c.steps {
			err := l.Take(s.call, start.Add(s.after))
			if s.waits == 0 && err != nil || s.waits > 0 && (!fault.Is(err, fault.Throttled) || int(fault.From(err).Retry) != s.waits) {
				t.Errorf("%s, step %d: %v, want to wait %d s", name, i, err, s.waits)
			}
		}
	}
}

func TestForgottenQuotas(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := New(Limits{Quotas: map[Key]Rate{{"reads", PerStore}: {1, time.Second}, {"reads", PerAccount}: {1, time.Second}}})
	if err := l.Take(Call{Action: "ReadResource", Datastore: "a"}, now); err != nil {
		t.Fatal(err)
	}
	if l.Forget("a"); len(l.quotas) != 1 {
		t.Errorf("%d buckets are left, want the account's", len(l.quotas))
	}
}

// AWS's numbers, as the quota page has them.
func TestHealthLake(t *testing.T) {
	quotas := HealthLake()
	for text, want := range map[string]Rate{
		"CreateFHIRDatastore.account": {1, time.Minute}, "reads.store": {3000, time.Second}, "writes.account": {6000, time.Second},
		"SearchWithPost.store": {100, time.Second}, "Discovery.account": {10, time.Minute}, "StartFHIRExportJob.account": {1, time.Second},
		"ValidateResource.account": {2000, time.Second},
	} {
		key, err := ParseKey(text, func(string) bool { return true })
		if err != nil || quotas[key] != want {
			t.Errorf("%s: %v %v", text, quotas[key], err)
		}
	}
	for key, rate := range quotas {
		if rate.Units <= 0 {
			t.Errorf("%s is %v", key, rate)
		}
	}
}
