package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// The null server is what HTTP alone costs: it reads a request's body, checks
// nothing, keeps nothing, and answers what it was given.

// nullRead is what it answers to a read: about a Patient of the Synthea set.
var nullRead = []byte(`{"resourceType":"Patient","text":{"div":"` + strings.Repeat("x", 3000) + `"}}`)

// nullOperations are what it is asked: a create and a read.
var nullOperations = operations[:2]

// serveNull is the child.
func serveNull(ctx context.Context, in io.Reader, out io.Writer) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ready := bareReady{URL: "http://" + listener.Addr().String()}
	return serveUntil(listener, http.HandlerFunc(answerNothing), in, func() error { return json.NewEncoder(out).Encode(ready) })
}

func answerNothing(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/fhir+json")
	if r.Method == http.MethodPost {
		w.Header().Set("Location", r.URL.Path+"/1")
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(nullRead)))
	_, _ = w.Write(nullRead) // a client that is gone needs no answer
}
