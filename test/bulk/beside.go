package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/patients"
	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// steady is one kind of request at a steady rate.
type steady struct {
	name    string
	rate    int // a second
	status  int
	request func() process.Request
}

// besideTimes is how often the patients are imported at least, so that the import
// lasts for some seconds.
const besideTimes = 4

// beside measures reads and creates at a steady rate, in a store that rests, beside
// an import into it, and beside one into another data store.
func (b *bench) beside(ctx context.Context, out io.Writer) error {
	folder := filepath.Join(b.folder, "beside")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	n, err := patients.Write(ctx, b.source, folder, max(b.times, besideTimes))
	if err != nil {
		return err
	}
	store, err := b.store(ctx, map[string]any{"DatastoreName": "beside", "PreloadDataConfig": map[string]any{"PreloadDataType": "SYNTHEA"}})
	if err != nil {
		return err
	}
	kinds, err := b.kinds(ctx, store)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "beside\toperation\ta second\tp50\tp99\tworst\t")
	err = b.steadily(ctx, w, "nothing", kinds, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-time.After(b.rest):
		}
		return nil
	})
	if err != nil {
		return err
	}
	other, err := b.store(ctx, map[string]any{"DatastoreName": "another"})
	if err != nil {
		return err
	}
	own, err1 := b.besideImport(ctx, w, "an import", kinds, store, folder)
	another, err2 := b.besideImport(ctx, w, "an import into another data store", kinds, other, folder)
	if err := errors.Join(err1, err2, w.Flush()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "imports of %d resources: %.0f a second, into another data store %.0f\n", n, float64(n)/own.Seconds(), float64(n)/another.Seconds())
	return err
}

// besideImport measures requests beside an import, and gives how long that took.
func (b *bench) besideImport(ctx context.Context, w io.Writer, name string, kinds []steady, store, folder string) (took time.Duration, err error) {
	began := time.Now()
	err = b.steadily(ctx, w, name, kinds, func(ctx context.Context) error {
		err := b.importAll(ctx, store, folder, "structure-only")
		took = time.Since(began)
		return err
	})
	return took, err
}

// kinds are reads of patients and creates of observations.
func (b *bench) kinds(ctx context.Context, store string) ([]steady, error) {
	answer, err := b.client.Do(ctx, process.Request{Method: http.MethodGet, URL: b.client.Base(store) + "/Patient?_count=100"})
	if err != nil {
		return nil, err
	}
	var bundle struct {
		Entry []struct{ Resource struct{ ID string } }
	}
	if err := json.Unmarshal(answer.Body, &bundle); err != nil {
		return nil, fmt.Errorf("patients to read: status %d: %w", answer.Status, err)
	}
	if len(bundle.Entry) == 0 {
		return nil, fmt.Errorf("no patients to read: status %d: %.300s", answer.Status, answer.Body)
	}
	reads, creates := rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(2, 2))
	return []steady{
		{"read", 100, http.StatusOK, func() process.Request {
			id := bundle.Entry[reads.IntN(len(bundle.Entry))].Resource.ID
			return process.Request{Method: http.MethodGet, URL: b.client.Base(store) + "/Patient/" + id}
		}},
		{"create", 20, http.StatusCreated, func() process.Request {
			return process.Request{Method: http.MethodPost, URL: b.client.Base(store) + "/Observation", Body: observation(creates),
				Header: map[string]string{"Content-Type": "application/fhir+json", "Prefer": "return=minimal"}}
		}},
	}, nil
}

// observation is a heart rate of about the size that devices send.
func observation(r *rand.Rand) []byte {
	return fmt.Appendf(nil, `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}]},`+
		`"subject":{"reference":"Patient/p%d"},"effectiveDateTime":"2026-%02d-%02dT08:00:00Z",`+
		`"valueQuantity":{"value":%d,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}`,
		r.IntN(1000), 1+r.IntN(12), 1+r.IntN(28), 50+r.IntN(90))
}

// steadily sends requests while something else is done, and prints how long they
// took.
func (b *bench) steadily(ctx context.Context, w io.Writer, name string, kinds []steady, do func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	times, failures := make([][]time.Duration, len(kinds)), make([]error, len(kinds))
	began := time.Now()
	var all sync.WaitGroup
	for i, kind := range kinds {
		all.Go(func() { times[i], failures[i] = b.pace(ctx, kind) })
	}
	err := do(ctx)
	stop()
	all.Wait()
	took := time.Since(began)
	if err := errors.Join(append(failures, err)...); err != nil {
		return err
	}
	for i, kind := range kinds {
		n := len(times[i])
		if n == 0 {
			continue
		}
		slices.Sort(times[i])
		at := func(percent int) time.Duration { return times[i][min(n*percent/100, n-1)].Round(10 * time.Microsecond) }
		if _, err := fmt.Fprintf(w, "%s\t%s\t%.0f\t%v\t%v\t%v\t\n", name, kind.name, float64(n)/took.Seconds(), at(50), at(99), at(100)); err != nil {
			return err
		}
	}
	return nil
}

// pace sends one kind of request at its rate until ctx ends, and gives how long
// each took from the moment at which it was due.
func (b *bench) pace(ctx context.Context, kind steady) ([]time.Duration, error) {
	var mu sync.Mutex // guards times and failed
	var times []time.Duration
	var failed error
	var all sync.WaitGroup
	every := time.Second / time.Duration(kind.rate)
	for due := time.Now(); ctx.Err() == nil; due = due.Add(every) {
		select {
		case <-ctx.Done():
			continue
		case <-time.After(time.Until(due)):
		}
		request := kind.request()
		all.Go(func() {
			answer, err := b.client.Do(context.WithoutCancel(ctx), request)
			if err == nil && answer.Status != kind.status {
				err = fmt.Errorf("%s: status %d, want %d: %.300s", kind.name, answer.Status, kind.status, answer.Body)
			}
			mu.Lock()
			defer mu.Unlock()
			times, failed = append(times, time.Since(due)), errors.Join(failed, err)
		})
	}
	all.Wait()
	return times, failed
}
