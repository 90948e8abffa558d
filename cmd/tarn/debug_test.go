package main

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// Profiles are served where they are asked for, on loopback, and nowhere else.
func TestDebugListen(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, open := range []string{"0.0.0.0:0", ":0", "192.0.2.1:6060", "nonsense"} {
		if d, err := (&serveCommand{DebugListen: open}).debug(t.Context(), log); err == nil {
			t.Errorf("%s was taken", open)
			_ = d.close()
		}
	}
	off, err := (&serveCommand{}).debug(t.Context(), log)
	if off != nil || err != nil || off.close() != nil {
		t.Errorf("without the flag: %v %v", off, err)
	}
	d, err := (&serveCommand{DebugListen: "127.0.0.1:0"}).debug(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + d.listener.Addr().String() + "/debug/pprof/goroutine?debug=1"
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(body), "goroutine profile") {
		t.Errorf("%d %.100s %v", answer.StatusCode, body, err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if answer, err := http.Get(url); err == nil {
		t.Error("served behind its end")
		_ = answer.Body.Close()
	}
}
