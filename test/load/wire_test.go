package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// One connection carries answers of every form, one after the other.
func TestExchange(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		if body, _ := io.ReadAll(r.Body); string(body) == "refuse" {
			w.WriteHeader(http.StatusTeapot)
		}
		for ; size > 0; size -= 1000 {
			w.Write(bytes.Repeat([]byte{'x'}, min(size, 1000)))
			if r.URL.Query().Has("chunked") {
				w.(http.Flusher).Flush()
			}
		}
	}))
	defer server.Close()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	w, err := dial(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for _, c := range []struct {
		query, body string
		status      int
		kept        int // bytes of the body given back
	}{
		{"size=0", "", 200, 0}, {"size=10", "", 200, 0}, {"size=200000&chunked", "", 200, 0}, {"size=10", "a body", 200, 0},
		{"size=5000&chunked", "refuse", 418, 5000}, {"size=12", "refuse", 418, 12}, {"size=3000&chunked", "", 200, 0},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/?"+c.query, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		var raw bytes.Buffer
		if err := r.Write(&raw); err != nil {
			t.Fatal(err)
		}
		status, body, err := w.exchange(raw.Bytes(), http.StatusOK)
		if err != nil || status != c.status || len(body) != c.kept {
			t.Errorf("%s %s: %d, %d bytes, %v", c.query, c.body, status, len(body), err)
		}
	}
}

// A server that ends the connection is told of, not taken for an answer.
func TestExchangeWithoutKeepAlive(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	defer server.Close()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	w, err := dial(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if _, _, err := w.exchange([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), http.StatusOK); err == nil {
		t.Error("no error")
	}
}
