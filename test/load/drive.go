package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// operation is one kind of request.
type operation struct {
	name    string
	prepare func(ctx context.Context, t *target) error // nil: nothing to prepare
	request func(t *target, random *rand.Rand) process.Request
	status  int
}

// operations are the kinds that are measured, on one store.
func operations(store string) []operation {
	var patients []string
	var families []string
	learn := func(ctx context.Context, t *target) (err error) {
		if patients == nil {
			patients, families, err = t.patients(ctx, store)
		}
		return err
	}
	pick := func(list []string, r *rand.Rand) string { return list[r.IntN(len(list))] }
	get := func(t *target, path string) process.Request {
		return process.Request{Method: http.MethodGet, URL: t.client.Base(store) + path}
	}
	return []operation{
		{"create", nil, func(t *target, r *rand.Rand) process.Request {
			return process.Request{Method: http.MethodPost, URL: t.client.Base(store) + "/Observation", Body: observation(r),
				Header: map[string]string{"Content-Type": "application/fhir+json", "Prefer": "return=minimal"}}
		}, http.StatusCreated},
		{"read", learn, func(t *target, r *rand.Rand) process.Request {
			return get(t, "/Patient/"+pick(patients, r))
		}, http.StatusOK},
		{"search by name", learn, func(t *target, r *rand.Rand) process.Request {
			return get(t, "/Patient?family:exact="+pick(families, r))
		}, http.StatusOK},
		{"search one patient's observations by code", learn, func(t *target, r *rand.Rand) process.Request {
			return get(t, "/Observation?patient="+pick(patients, r)+"&code=http://loinc.org|8867-4&_count=10")
		}, http.StatusOK},
		{"chained search with include", learn, func(t *target, r *rand.Rand) process.Request {
			return get(t, "/Encounter?subject:Patient.family:exact="+pick(families, r)+"&_include=Encounter:subject&_count=10")
		}, http.StatusOK},
	}
}

// observation is a heart rate of about the size that devices send.
func observation(r *rand.Rand) []byte {
	return fmt.Appendf(nil, `{"resourceType":"Observation","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],`+
		`"code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}]},"subject":{"reference":"Patient/p%d"},`+
		`"effectiveDateTime":"2026-%02d-%02dT08:00:00Z","valueQuantity":{"value":%d,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}`,
		r.IntN(1000), 1+r.IntN(12), 1+r.IntN(28), 50+r.IntN(90))
}

// patients learns ids and family names to ask for.
func (t *target) patients(ctx context.Context, store string) (ids, families []string, err error) {
	answer, err := t.client.Do(ctx, process.Request{Method: http.MethodGet, URL: t.client.Base(store) + "/Patient?_count=100"})
	if err != nil {
		return nil, nil, err
	}
	var bundle struct {
		Entry []struct {
			Resource struct {
				ID   string
				Name []struct{ Family string }
			}
		}
	}
	if err := json.Unmarshal(answer.Body, &bundle); err != nil {
		return nil, nil, fmt.Errorf("no patients to ask for: status %d, %w", answer.Status, err)
	}
	if len(bundle.Entry) == 0 {
		return nil, nil, fmt.Errorf("no patients to ask for: status %d", answer.Status)
	}
	for _, e := range bundle.Entry {
		ids = append(ids, e.Resource.ID)
		if len(e.Resource.Name) > 0 {
			families = append(families, e.Resource.Name[0].Family)
		}
	}
	return ids, families, nil
}

// result is one line of the table.
type result struct {
	took   time.Duration
	cpu    time.Duration   // of the server; 0: unknown
	client time.Duration   // of the clients
	times  []time.Duration // of each operation, ascending
}

func (r result) rate() float64 { return float64(len(r.times)) / r.took.Seconds() }

func (r result) percentile(p int) time.Duration {
	return r.times[min(len(r.times)*p/100, len(r.times)-1)].Round(10 * time.Microsecond)
}

// each is the part of one operation in a time.
func (r result) each(of time.Duration) string {
	if of == 0 {
		return "unknown"
	}
	return (of / time.Duration(len(r.times))).Round(time.Microsecond).String()
}

// ownCPU is the processor time that this process, the clients', has used; 0 where
// it cannot be known.
func ownCPU() time.Duration {
	used, err := process.CPUOf(os.Getpid())
	if err != nil {
		return 0
	}
	return used
}

// drive lets clients send one kind of request for a while.
func (t *target) drive(ctx context.Context, kind operation, clients int, each time.Duration) (result, error) {
	if kind.prepare != nil {
		if err := kind.prepare(ctx, t); err != nil {
			return result{}, err
		}
	}
	used, own, began := t.cpu(), ownCPU(), time.Now()
	times, failures := make([][]time.Duration, clients), make([]error, clients)
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			times[c], failures[c] = t.repeat(ctx, kind, rand.New(rand.NewPCG(1, uint64(c))), began.Add(each))
		})
	}
	all.Wait()
	r := result{took: time.Since(began), cpu: t.cpu() - used, client: ownCPU() - own, times: slices.Concat(times...)}
	slices.Sort(r.times)
	for _, err := range failures {
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// repeat is one client: at least one request, then more until the deadline.
func (t *target) repeat(ctx context.Context, kind operation, random *rand.Rand, deadline time.Time) ([]time.Duration, error) {
	var times []time.Duration
	for {
		began := time.Now()
		answer, err := t.client.Do(ctx, kind.request(t, random))
		if err != nil {
			return times, err
		}
		if answer.Status != kind.status {
			return times, fmt.Errorf("status %d, want %d: %.300s", answer.Status, kind.status, answer.Body)
		}
		now := time.Now()
		times = append(times, now.Sub(began))
		if now.After(deadline) {
			return times, nil
		}
	}
}
