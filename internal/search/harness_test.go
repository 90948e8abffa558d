package search_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
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
	docs      []*fhir.Document
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
	at := time.Date(2024, 1, 1, 0, 0, len(w.resources), 0, time.UTC)
	w.resources = append(w.resources, memory.Candidate{Key: key, Updated: at, Created: at, Entries: entries})
	w.docs = append(w.docs, doc)
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
	q, err := parse(line)
	if err != nil {
		return nil, err
	}
	p, err := q.Compile(search.Env{Registry: registry, Key: hashKey, Grant: grant, Now: now})
	if err != nil {
		return nil, err
	}
	return w.find(p), nil
}

// The files of testdata hold resources and searches:
//
//	load {"resourceType":…}          one resource, on one line
//	search Patient?name=x → a b      the ids found, in any order
//	search Patient?name=x → nothing
//	search Patient?nam=x → invalid   the kind of the error, and with ":" a part
//	                                 of what it says
//	self Patient?… → the query string as understood
//
// Lines that begin with # are prose.
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
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		verb, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		at := fmt.Sprintf("%s:%d", filepath.Base(file), n)
		query, want, _ := strings.Cut(rest, "→")
		query, want = strings.TrimSpace(query), strings.TrimSpace(want)
		switch {
		case verb == "" || verb[0] == '#':
		case verb == "load":
			w.load(t, rest)
		case verb == "search":
			w.expect(t, at, query, want)
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

func (w *world) expect(t *testing.T, at, query, want string) {
	t.Helper()
	ids, err := w.search(query, search.Everything())
	if err != nil {
		kind, part, _ := strings.Cut(want, ": ")
		e := fault.From(err)
		if e.Kind.String() != kind || !strings.Contains(e.Message(), part) {
			t.Errorf("%s: %s: got %s: %s, want %s", at, query, e.Kind, e.Message(), want)
		}
		return
	}
	expected := strings.Fields(want)
	if want == "nothing" {
		expected = nil
	}
	slices.Sort(ids)
	slices.Sort(expected)
	if !slices.Equal(ids, expected) {
		t.Errorf("%s: %s: found %v, want %v", at, query, ids, expected)
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
