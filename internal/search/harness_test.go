package search_test

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

// base is the store's own base URL in all tests.
const base = "https://tarn.example/datastore/d/r4/"

var (
	registry = searchparam.NewRegistry()
	hashKey  = plan.HashKey{1, 2, 3}
	now      = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
)

// world is resources with their entries, in the order in which they came.
type world struct {
	extractor *searchparam.Extractor
	resources []memory.Candidate
	stores    []store.Store // the engines, with the same resources
}

func newWorld() *world {
	return &world{extractor: searchparam.NewExtractor(registry, hashKey, base)}
}

// load adds a resource, one second after the one before.
func (w *world) load(t testing.TB, json string) {
	t.Helper()
	doc, err := fhir.Parse([]byte(json))
	if err != nil {
		t.Fatalf("%v in %s", err, json)
	}
	typ, ok := r4.TypeByName(doc.ResourceType())
	if !ok {
		t.Fatalf("no type in %s", json)
	}
	key := plan.Key{Type: typ, ID: doc.ID()}
	entries, issues, err := w.extractor.Inspect(key, doc.Root())
	if err != nil {
		t.Fatal(err)
	}
	for _, issue := range issues {
		t.Logf("%s/%s: %s: %s", doc.ResourceType(), doc.ID(), issue.Expression, issue.Detail)
	}
	body, err := fhir.Store(doc)
	if err != nil {
		t.Fatal(err)
	}
	at := clockFrom.Add(time.Duration(len(w.resources)) * time.Second)
	w.resources = append(w.resources, memory.Candidate{Key: key, Updated: at, Created: at, Entries: entries, Body: body})
	for _, s := range w.stores {
		if _, err := s.Commit(t.Context(), []store.Op{{Kind: store.Put, Key: key, Body: body, Entries: entries}}); err != nil {
			t.Fatal(err)
		}
	}
}

var clockFrom = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// zeros is the source of the engines' hash keys.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return copy(p, hashKey[:]), nil }

// onEngines opens a store on every engine; what is loaded from then on goes there
// too, and every search is asked of them.
func (w *world) onEngines(t *testing.T) {
	t.Helper()
	clock := func() time.Time { return clockFrom.Add(time.Duration(len(w.resources)-1) * time.Second) }
	embedded, err := lsm.New(lsm.Options{Root: "data", FS: vfs.NewMem(), BlockRows: 64, CacheBytes: 8 << 20, MemTableBytes: 1 << 20,
		Rand: zeros{}, Clock: clock, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { embedded.Close() })
	for _, engine := range []store.Engine{embedded, memory.New(memory.Options{Clock: clock, Rand: zeros{}})} {
		key, err := seal.DataKeyFrom(bytes.Repeat([]byte{7}, seal.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.Create(t.Context(), "d", key); err != nil {
			t.Fatal(err)
		}
		s, err := engine.Open(t.Context(), "d", key)
		if err != nil {
			t.Fatal(err)
		}
		if s.HashKey() != hashKey {
			t.Fatal("the store has a hash key of its own")
		}
		t.Cleanup(func() { s.Close() })
		w.stores = append(w.stores, s)
	}
}

// maxFound is more than the resources of any file.
const maxFound = 1000

// inStores asks every engine, and holds them to the ids that the plain evaluation
// found, to each other's order, and to the total; it gives the ids in order.
func (w *world) inStores(t *testing.T, at string, p *plan.Plan, plain []string) []string {
	t.Helper()
	plain = slices.Sorted(slices.Values(plain))
	var order []string
	for _, s := range w.stores {
		view, err := s.View(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		all := *p
		all.Limit, all.Total = maxFound, plan.TotalExact
		page, err := view.Search(t.Context(), &all)
		view.Close()
		if err != nil {
			t.Fatalf("%s: %T: %v", at, s, err)
		}
		ids := []string{}
		for _, r := range page.Records {
			ids = append(ids, r.Key.ID)
		}
		if got := slices.Sorted(slices.Values(ids)); !slices.Equal(got, plain) || page.Total != int64(len(plain)) {
			t.Errorf("%s: %T found %v (total %d), the plain evaluation %v", at, s, ids, page.Total, plain)
		}
		if order != nil && !slices.Equal(order, ids) {
			t.Errorf("%s: the engines differ in order: %v and %v", at, order, ids)
		}
		order = ids
	}
	return order
}

// parse reads "Type?query", or "?query" for all types, or "Type/id/Type?query"
// for a compartment.
func parse(line string) (*search.Query, error) {
	path, raw, _ := strings.Cut(line, "?")
	o := search.Options{Base: base}
	var types []plan.Type
	if parts := strings.Split(path, "/"); len(parts) == 3 {
		of, _ := r4.TypeByName(parts[0])
		o.In = &search.Compartment{Of: plan.Key{Type: of, ID: parts[1]}}
		path = strings.TrimPrefix(parts[2], "*")
	}
	if path != "" {
		typ, ok := r4.TypeByName(path)
		if !ok {
			return nil, fmt.Errorf("no type %q", path)
		}
		types = []plan.Type{typ}
	}
	pairs, err := search.ParsePairs(raw)
	if err != nil {
		return nil, err
	}
	return search.Parse(registry, types, pairs, o)
}

// find gives the ids that a plan matches, in the order in which they came.
func (w *world) find(p *plan.Plan) []string {
	all := memory.NewWorld(hashKey, w.resources)
	var ids []string
	for _, c := range w.resources {
		if all.Matches(p.Arms, c) {
			ids = append(ids, c.Key.ID)
		}
	}
	return ids
}

func (w *world) search(line string, grant *search.Grant) ([]string, error) {
	p, err := w.plan(line, grant)
	if err != nil {
		return nil, err
	}
	return w.find(p), nil
}

func (w *world) plan(line string, grant *search.Grant) (*plan.Plan, error) {
	q, err := parse(line)
	if err != nil {
		return nil, err
	}
	return q.Compile(search.Env{Registry: registry, Key: hashKey, Grant: grant, Now: now, Bodies: w.extractor})
}

// The files of testdata hold resources and searches:
//
//	load {"resourceType":…}          one resource, on one line
//	search Patient?name=x → a b      the ids found, in any order
//	order Patient?_sort=name → b a   the ids found, in this order
//	search Patient?name=x → nothing
//	search Patient?nam=x → invalid   the kind of the error, and with ":" a part
//	                                 of what it says
//	self Patient?… → the query string as understood
//
// {n} stands for the letter x n times. Lines that begin with # are prose. Every
// search is asked of the plain evaluation and of every engine.
func TestSearches(t *testing.T) {
	files, err := filepath.Glob("testdata/*.test")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".test"), func(t *testing.T) { runFile(t, file) })
	}
}

func runFile(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := newWorld()
	w.onEngines(t)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		verb, rest, _ := strings.Cut(repeated(strings.TrimSpace(lines.Text())), " ")
		at := fmt.Sprintf("%s:%d", filepath.Base(file), n)
		query, want, _ := strings.Cut(rest, "→")
		query, want = strings.TrimSpace(query), strings.TrimSpace(want)
		switch {
		case verb == "" || verb[0] == '#':
		case verb == "load":
			w.load(t, rest)
		case verb == "search":
			w.expect(t, at, query, want, false)
		case verb == "order":
			w.expect(t, at, query, want, true)
		case verb == "self":
			expectSelf(t, at, query, want)
		default:
			t.Fatalf("%s: unknown verb %q", at, verb)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// repeats is "{n}", for texts that are too long to be written.
var repeats = regexp.MustCompile(`\{\d+\}`)

func repeated(line string) string {
	return repeats.ReplaceAllStringFunc(line, func(s string) string {
		n, _ := strconv.Atoi(s[1 : len(s)-1])
		return strings.Repeat("x", n)
	})
}

func (w *world) expect(t *testing.T, at, query, want string, ordered bool) {
	t.Helper()
	var ids []string
	p, err := w.plan(query, search.Everything())
	if err == nil {
		ids = w.find(p)
		if order := w.inStores(t, at, p, ids); ordered {
			ids = order
		}
	}
	if err != nil {
		kind, part, _ := strings.Cut(want, ": ")
		e := fault.From(err)
		if e.Kind.String() != kind || !strings.Contains(e.Message(), part) {
			t.Errorf("%s: %.300s: got %s: %s, want %s", at, query, e.Kind, e.Message(), want)
		}
		return
	}
	expected := strings.Fields(want)
	if want == "nothing" {
		expected = nil
	}
	if !ordered {
		slices.Sort(ids)
		slices.Sort(expected)
	}
	if !slices.Equal(ids, expected) {
		t.Errorf("%s: %.300s: found %v, want %v", at, query, ids, expected)
	}
}

func expectSelf(t *testing.T, at, query, want string) {
	t.Helper()
	q, err := parse(query)
	if err != nil {
		t.Errorf("%s: %v", at, err)
		return
	}
	if got := q.Self(); got != want {
		t.Errorf("%s: self of %s is %q, want %q", at, query, got, want)
	}
}
