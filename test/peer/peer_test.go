package peer_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/test/peer"
)

// parts is a set of three resources.
func parts() []synthea.Part {
	const lines = `{"resourceType":"Patient","id":"a"}` + "\n" + `{"resourceType":"Patient","id":"b"}` + "\n" + `{"resourceType":"Observation","id":"c"}` + "\n"
	return []synthea.Part{{Name: "one", Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(lines)), nil }}}
}

// other is a server at a test's hand: it takes batches and exports two files.
type other struct {
	status string // of each entry
	polls  int    // how often the export is not done yet
	none   bool   // no export
	files  string // where the second file lies; empty: here

	mu  sync.Mutex
	put []string
}

func (o *other) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	here := "http://" + r.Host
	files := here
	if o.files != "" {
		files = o.files
	}
	switch {
	case r.Header.Get("Authorization") != "Basic abc":
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodPost && r.URL.Path == "/fhir":
		o.batch(w, r)
	case r.URL.Path == "/fhir/$export" && !o.none && r.Header.Get("Prefer") == "respond-async":
		w.Header().Set("Content-Location", here+"/status")
		w.WriteHeader(http.StatusAccepted)
	case r.URL.Path == "/status" && o.polls > 0:
		o.polls--
		w.WriteHeader(http.StatusAccepted)
	case r.URL.Path == "/status":
		_, _ = io.WriteString(w, `{"output":[{"type":"Patient","url":"`+here+`/1"},{"type":"Observation","url":"`+files+`/2"}]}`)
	case r.URL.Path == "/1":
		_, _ = io.WriteString(w, "{}\n{}\n")
	case r.URL.Path == "/2":
		_, _ = io.WriteString(w, "{}")
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (o *other) batch(w http.ResponseWriter, r *http.Request) {
	var bundle struct {
		Entry []struct{ Request struct{ Method, URL string } }
	}
	if err := json.NewDecoder(r.Body).Decode(&bundle); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var answers []string
	for _, e := range bundle.Entry {
		o.put = append(o.put, e.Request.Method+" "+e.Request.URL)
		answers = append(answers, `{"response":{"status":"`+o.status+`"}}`)
	}
	_, _ = io.WriteString(w, `{"entry":[`+strings.Join(answers, ",")+`]}`)
}

// serve gives the server, with the header that it wants.
func (o *other) serve(t *testing.T) *peer.Server {
	t.Helper()
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	var h peer.Headers
	if err := h.Set("Authorization: Basic abc"); err != nil {
		t.Fatal(err)
	}
	return peer.At(server.URL+"/fhir/", h)
}

func TestHeaderWithoutValue(t *testing.T) {
	if new(peer.Headers).Set("nonsense") == nil {
		t.Error("a header without a value was taken")
	}
}

// Another server is filled by PUT, and a refused entry ends the run.
func TestFill(t *testing.T) {
	o := &other{status: "201 Created"}
	server := o.serve(t)
	if err := server.Fill(t.Context(), parts(), 2); err != nil {
		t.Fatal(err)
	}
	if want := []string{"PUT Patient/a", "PUT Patient/b", "PUT Observation/c"}; !slices.Equal(o.put, want) {
		t.Errorf("written: %v", o.put)
	}
	o.status = "422 Unprocessable Entity"
	if err := server.Fill(t.Context(), parts(), 2); err == nil || !strings.Contains(err.Error(), "422") {
		t.Errorf("a refused entry: %v", err)
	}
}

// An export is waited for, and its lines are counted; a server may have none.
func TestExport(t *testing.T) {
	o := &other{polls: 2}
	server := o.serve(t)
	took, n, err := server.Export(t.Context())
	if err != nil || n != 3 || took <= 0 {
		t.Errorf("%d resources exported in %v: %v", n, took, err)
	}
	if o.polls != 0 {
		t.Errorf("the manifest was there %d polls early", o.polls)
	}
	o.none = true
	if _, _, err := server.Export(t.Context()); !errors.Is(err, peer.ErrNoExport) {
		t.Errorf("without $export: %v", err)
	}
}

// Files that lie elsewhere are fetched without the headers of the server.
func TestExportElsewhere(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if secret := r.Header.Get("Authorization"); secret != "" {
			t.Errorf("another server learns %q", secret)
		}
		_, _ = io.WriteString(w, "{}\n{}\n{}\n")
	}))
	defer elsewhere.Close()
	o := &other{files: elsewhere.URL}
	_, n, err := o.serve(t).Export(t.Context())
	if err != nil || n != 5 {
		t.Errorf("%d resources, %v; want 5", n, err)
	}
}
