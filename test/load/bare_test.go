package main

import (
	"bufio"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/internal/validate"
	"github.com/tarn-fhir/tarn/test/blackbox/process"
	"github.com/tarn-fhir/tarn/test/peer"
)

// some gives the first resources of a type in the Synthea set.
func some(tb testing.TB, typ string, n int) (list []json.RawMessage) {
	tb.Helper()
	parts, err := synthea.Embedded().Parts(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for _, part := range parts {
		if part.Types[typ] == 0 {
			continue
		}
		stream, err := part.Open(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		defer stream.Close()
		lines := bufio.NewScanner(stream)
		lines.Buffer(nil, peer.MaxLine)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), `{"resourceType":"`+typ+`"`) {
				list = append(list, json.RawMessage(strings.Clone(lines.Text())))
			}
			if len(list) == n {
				return list
			}
		}
		if err := lines.Err(); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Fatalf("%d resources of type %s, want %d", len(list), typ, n)
	return nil
}

// door is the bare server without its listener, with a store for each of these
// answers.
func door(tb testing.TB, script ...answers) (http.Handler, []*target) {
	tb.Helper()
	folder := tb.TempDir()
	b := &bare{registry: searchparam.NewRegistry(), validate: validate.New(validate.Options{}), stores: map[string]*answers{}, url: "http://127.0.0.1:18080"}
	b.script = bareScript{AccessKeyID: bareKey.AccessKeyID, SecretAccessKey: bareKey.SecretAccessKey, Folder: folder}
	file, err := audit.OpenFile(audit.FileOptions{Path: filepath.Join(folder, "audit.jsonl")})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = file.Close() })
	h, err := b.wire(tb.Context(), file)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.queue.Stop(); b.plane.Close() })
	var targets []*target
	for i := range script {
		id, err := b.make(tb.Context(), &script[i])
		if err != nil {
			tb.Fatal(err)
		}
		targets = append(targets, signed(b.base(id), process.NewClient(b.url, bareKey)))
	}
	return h, targets
}

// drop is a ResponseWriter that counts.
type drop struct {
	header http.Header
	status int
	bytes  int
}

func (d *drop) Header() http.Header         { return d.header }
func (d *drop) WriteHeader(status int)      { d.status = status }
func (d *drop) Write(p []byte) (int, error) { d.bytes += len(p); return len(p), nil }

// BenchmarkDoor is what a request costs that is neither the store nor net/http.
func BenchmarkDoor(b *testing.B) {
	observations := some(b, "Observation", 50)
	h, targets := door(b, answers{Name: "create"}, answers{Name: "read", Matches: some(b, "Patient", 1)},
		answers{Name: "page of 20", Matches: observations[:20], Total: 4000, More: true}, answers{Name: "page of 50", Matches: observations, Total: 4000, More: true})
	w := &world{patients: []string{"a"}, families: []string{"Smith"}}
	for i, kind := range []operation{operations[0], operations[1], operations[3], operations[2]} {
		b.Run(strings.ReplaceAll(kind.name, " ", "_"), func(b *testing.B) {
			requests := served(b, targets[i], kind, w)
			began := cpuNow(b)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				d := &drop{header: http.Header{}}
				r := requests[n%len(requests)]
				h.ServeHTTP(d, r(b.Context()))
				if d.status != kind.status {
					b.Fatalf("status %d", d.status)
				}
			}
			b.ReportMetric(float64(cpuNow(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// served are requests as a server reads them.
func served(tb testing.TB, t *target, kind operation, w *world) (list []func(context.Context) *http.Request) {
	tb.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for range 64 {
		raw, err := t.raw(tb.Context(), kind, w, random)
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, func(ctx context.Context) *http.Request {
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(raw))))
			if err != nil {
				tb.Fatal(err)
			}
			r.RemoteAddr = "127.0.0.1:40000"
			return r.WithContext(ctx)
		})
	}
	return list
}

// cpuNow is the processor time that this process has used.
func cpuNow(tb testing.TB) time.Duration {
	used, err := process.CPUOf(os.Getpid())
	if err != nil {
		tb.Fatal(err)
	}
	return used
}
