package fhirapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
	"github.com/tarn-fhir/tarn/internal/store/memory"
	"github.com/tarn-fhir/tarn/internal/validate"
)

const base = "https://tarn.example/datastore/d/r4"

var registry = searchparam.NewRegistry()

// server is the data plane over one empty data store in memory. Ids count from
// 1 and the clock goes a second with each commit, so that answers are the same
// in every run.
type server struct {
	store   store.Store
	grant   *search.Grant
	owner   string
	smart   string
	later   interaction.Later
	jobs    interaction.Jobs
	exports interaction.Exports
	rules   interaction.Rules
	limits  interaction.SearchLimits
	slow    func(interaction.SlowSearch)
	clock   func() time.Time // nil: it stands
	check   bool             // whether what is written is validated, at the level strict
	ids     atomic.Int64
	pages   *seal.Box

	mu      sync.Mutex
	touched []audit.Target
}

func newServer(t testing.TB) *server { return inMemory(t, ticking()) }

// ticking is a clock that goes a second each time it is looked at.
func ticking() func() time.Time {
	var ticks atomic.Int64
	return func() time.Time { return time.Date(2026, 1, 1, 0, 0, int(ticks.Add(1)), 0, time.UTC) }
}

func inMemory(t testing.TB, clock func() time.Time) *server {
	t.Helper()
	return serverOn(t, memory.New(memory.Options{Clock: clock, Rand: bytes.NewReader(make([]byte, 64))}))
}

// onDisk is a server over the embedded engine.
func onDisk(t testing.TB) *server { return embedded(t, ticking()) }

func embedded(t testing.TB, clock func() time.Time) *server {
	t.Helper()
	return embeddedIn(t, t.TempDir(), clock)
}

func embeddedIn(t testing.TB, root string, clock func() time.Time) *server {
	t.Helper()
	engine, err := lsm.New(lsm.Options{Root: root, Clock: clock, Log: slog.New(slog.DiscardHandler), Uncompressed: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return serverOn(t, engine)
}

func serverOn(t testing.TB, engine store.Engine) *server {
	t.Helper()
	key, err := seal.DataKeyFrom(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := engine.Create(ctx, "d", key); err != nil {
		t.Fatal(err)
	}
	opened, err := engine.Open(ctx, "d", key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	return &server{store: opened, grant: search.Everything(), pages: seal.NewBox([seal.KeySize]byte{1})}
}

// validator is R4's, shared: its tables are made once.
var validator = validate.New(validate.Options{})

func (s *server) session() *interaction.Session {
	made := s.bare()
	if s.check {
		made.Validator = validator
	}
	return made
}

var statements = &interaction.Statements{}

// slowFrom is from when on the tests' searches are slow.
const slowFrom = 100 * time.Millisecond

func (s *server) bare() *interaction.Session {
	clock := s.clock
	if clock == nil {
		clock = func() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }
	}
	return &interaction.Session{
		StoreID: "d", Store: s.store, Grant: s.grant, Owner: s.owner, Registry: registry,
		Extractor: searchparam.NewExtractor(registry, s.store.HashKey(), base+"/"),
		Base:      base, Pages: s.pages, Statements: statements, Later: s.later, Jobs: s.jobs, Exports: s.exports, Rules: s.rules,
		Clock: clock, Limits: s.limits, Slow: s.slow, SlowFrom: slowFrom,
		NewID: func() (string, error) {
			return fmt.Sprintf("00000000-0000-4000-8000-%012d", s.ids.Add(1)), nil
		},
		Touched: func(t audit.Target) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.touched = append(s.touched, t)
		},
	}
}

// ServeHTTP is what the gateway does, without its guards.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		var api fhirapi.API
		err = api.Serve(w, r, fhirapi.Request{
			Session: s.session(), Path: strings.TrimPrefix(r.URL.EscapedPath(), "/r4"), RawQuery: r.URL.RawQuery, Body: body, SMART: s.smart,
		})
	}
	if err != nil {
		fhirapi.WriteFault(w, err)
	}
}

// answer is what came back, its body parsed when it is JSON.
type answer struct {
	status int
	header http.Header
	body   []byte
	root   fhir.Node
}

// do sends a request: headers are "Name: value".
func (s *server) do(t testing.TB, method, target, body string, headers ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, "/r4"+target, strings.NewReader(body))
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	if body != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/fhir+json")
		if method == http.MethodPatch {
			r.Header.Set("Content-Type", "application/json-patch+json")
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
	if doc, err := fhir.ParseStored(a.body); err == nil {
		a.root = doc.Root()
	} else if strings.Contains(a.header.Get("Content-Type"), "json") && len(a.body) > 0 && a.header.Get("Content-Encoding") == "" {
		t.Errorf("%s %s: the answer does not parse: %v: %.300s", method, target, err, a.body)
	}
	return a
}

// must is do for steps that have to succeed.
func (s *server) must(t testing.TB, method, target, body string, headers ...string) answer {
	t.Helper()
	a := s.do(t, method, target, body, headers...)
	if a.status >= 300 {
		t.Fatalf("%s %s: %d %s", method, target, a.status, a.body)
	}
	return a
}

// at follows a path such as entry[0].resource.id.
func (a answer) at(path string) fhir.Node {
	n := a.root
	for step := range strings.SplitSeq(path, ".") {
		name, rest, indexed := strings.Cut(step, "[")
		n = n.Get(name)
		if indexed {
			var i int
			fmt.Sscanf(rest, "%d", &i)
			n = n.Index(i)
		}
	}
	return n
}

func (a answer) text(path string) string { return a.at(path).Text() }

// link is the target of a Bundle's link, as do takes it.
func (a answer) link(relation string) string {
	for l := range a.root.Get("link").Items() {
		if l.Get("relation").Is(relation) {
			return strings.TrimPrefix(l.Get("url").Text(), base)
		}
	}
	return ""
}

// ids are the ids of a Bundle's resources with this search mode, in order.
func (a answer) ids(mode string) []string {
	var ids []string
	for e := range a.root.Get("entry").Items() {
		if e.Get("search").Get("mode").Is(mode) {
			ids = append(ids, e.Get("resource").Get("id").Text())
		}
	}
	return ids
}
