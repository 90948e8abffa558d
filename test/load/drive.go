package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// target is a FHIR base that requests are sent to.
type target struct {
	name   string // in the table
	base   string // URL, no slash at the end
	sign   func(context.Context, process.Request) (*http.Request, error)
	used   func() (time.Duration, error) // processor time of the server; nil: unknown
	client *http.Client                  // for what is not measured
	gzip   bool                          // ask for compressed answers
}

// cpu is the server's processor time so far, 0 where it cannot be known.
func (t *target) cpu() time.Duration {
	if t.used == nil {
		return 0
	}
	used, err := t.used()
	if err != nil {
		return 0 // shown as unknown
	}
	return used
}

// make makes a request below the base, signed.
func (t *target) make(ctx context.Context, r process.Request) (*http.Request, error) {
	r.URL = t.base + r.URL
	made, err := t.sign(ctx, r)
	if err == nil && t.gzip {
		made.Header.Set("Accept-Encoding", "gzip")
	}
	return made, err
}

// ask sends one request that is not measured.
func (t *target) ask(ctx context.Context, r process.Request) (*process.Response, error) {
	made, err := t.make(ctx, r)
	if err != nil {
		return nil, err
	}
	made.Header.Del("Accept-Encoding")
	return (&process.Client{HTTP: t.client}).Send(made)
}

// preparedRequests is how many different requests of a kind are made before the
// clock runs; clients go round them. Their signatures live for minutes.
const preparedRequests = 512

// prepare writes requests out as bytes.
func (t *target) prepare(ctx context.Context, kind operation, w *world) ([][]byte, error) {
	random := rand.New(rand.NewPCG(1, 2))
	list := make([][]byte, preparedRequests)
	for i := range list {
		raw, err := t.raw(ctx, kind, w, random)
		if err != nil {
			return nil, err
		}
		list[i] = raw
	}
	return list, nil
}

// raw is one request as it is sent.
func (t *target) raw(ctx context.Context, kind operation, w *world, random *rand.Rand) ([]byte, error) {
	r, err := t.make(ctx, kind.request(w, random))
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	err = r.Write(&raw)
	return raw.Bytes(), err
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
	return r.times[min(len(r.times)*p/100, len(r.times)-1)]
}

// each is the part of one operation in a time.
func (r result) each(of time.Duration) time.Duration { return of / time.Duration(len(r.times)) }

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
func (t *target) drive(ctx context.Context, kind operation, w *world, clients int, each time.Duration) (result, error) {
	requests, err := t.prepare(ctx, kind, w)
	if err != nil {
		return result{}, err
	}
	wires := make([]*wire, clients)
	server, err := url.Parse(t.base)
	if err != nil {
		return result{}, err
	}
	for c := range wires {
		if wires[c], err = dial(ctx, server); err != nil {
			return result{}, err
		}
		defer func() { _ = wires[c].close() }() // nothing is in flight
	}
	used, own, began := t.cpu(), ownCPU(), time.Now()
	times, failures := make([][]time.Duration, clients), make([]error, clients)
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			times[c], failures[c] = wires[c].repeat(requests, c*len(requests)/clients, kind.status, began.Add(each))
		})
	}
	all.Wait()
	r := result{took: time.Since(began), cpu: t.cpu() - used, client: ownCPU() - own, times: slices.Concat(times...)}
	slices.Sort(r.times)
	for _, err := range failures {
		if err != nil {
			return r, fmt.Errorf("%s, %s: %w", t.name, kind.name, err)
		}
	}
	return r, nil
}

// repeat is one client: at least one request, then more until the deadline.
func (w *wire) repeat(requests [][]byte, from, status int, deadline time.Time) ([]time.Duration, error) {
	var times []time.Duration
	for began := time.Now(); ; from++ {
		got, body, err := w.exchange(requests[from%len(requests)], status)
		if err != nil {
			return times, err
		}
		if got != status {
			return times, fmt.Errorf("status %d, want %d: %.300s", got, status, body)
		}
		now := time.Now()
		times = append(times, now.Sub(began))
		if now.After(deadline) {
			return times, nil
		}
		began = now
	}
}
