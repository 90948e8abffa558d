package main

import (
	"log/slog"
	"strings"
	"testing"
)

// As many data stores are open at once as there is memory for, or as the operator
// says, who is warned when that is more.
func TestMaxOpenFollowsMemory(t *testing.T) {
	for _, c := range []struct {
		memory, cache int64
		asked, want   int
		warned        bool
	}{
		{memory: 512, want: 64}, {memory: 4096, want: 64}, {memory: 256, want: 41}, {memory: 64, want: 9}, {memory: 512, cache: 1, want: 1},
		{memory: 512, asked: 10, want: 10}, {memory: 512, asked: 84, want: 84}, {memory: 512, asked: 85, want: 85, warned: true},
	} {
		var log strings.Builder
		s := serveCommand{MemoryMiB: c.memory, CacheMiB: c.cache, MaxOpen: c.asked}
		if got := s.maxOpen(slog.New(slog.NewTextHandler(&log, nil))); got != c.want || strings.Contains(log.String(), "--max-open") != c.warned {
			t.Errorf("%+v: %d open, log %q", c, got, log.String())
		}
	}
}
