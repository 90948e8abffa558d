//go:build unix

package oracle_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/oracle"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/memory"
	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

const base = "https://tarn.example/datastore/d/r4/"

var (
	registry  = searchparam.NewRegistry()
	hashKey   = plan.HashKey{7}
	extractor = searchparam.NewExtractor(registry, hashKey, base)
	now       = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
)

// The oracle, the twin (extraction, compilation, the plan evaluated over entries)
// and the embedded engine answer random searches alike, over HL7's examples,
// Synthea's patients and mixtures of both. TARN_DIFFERENTIAL is how many searches are
// asked, TARN_SEED what they begin with. Where two differ, the smallest world in
// which they do is kept as a file of internal/search/testdata.
func TestDifferential(t *testing.T) {
	total, seed := number("TARN_DIFFERENTIAL", 2500), number("TARN_SEED", 1)
	if testing.Short() {
		total = min(total, 400) // the race detector's run
	}
	pool := append(examples(t), patients(t, 400)...)
	tally := &tally{errors: map[fault.Kind]int{}, name: fmt.Sprintf("found-seed-%d", seed)}
	engine := newEngine(t)
	for n := uint64(0); tally.asked < total && !t.Failed(); n++ {
		rng := rand.New(rand.NewPCG(uint64(seed), n))
		w := newWorld(t, gather(rng, pool))
		engine.store(t, rng, w)
		questions := oracle.NewQuestions(w.oracle, rng)
		for range min(perWorld, total-tally.asked) {
			w.ask(t, questions.Next(), tally)
		}
		engine.drop(t, w)
	}
	t.Logf("%d searches from seed %d, %d found something, refused %v, %v of processor time", tally.asked, seed, tally.found, tally.errors, processorTime())
	refused := 0
	for _, n := range tally.errors {
		refused += n
	}
	if tally.found*3 < tally.asked || refused*5 > tally.asked {
		t.Errorf("of %d searches %d found something and %d were refused", tally.asked, tally.found, refused)
	}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Round(time.Millisecond)
}

const (
	perWorld  = 400 // searches of one world
	worldSize = 120 // resources of one world
)

type tally struct {
	name         string // of the file for what differs
	asked, found int
	errors       map[fault.Kind]int
}

func number(env string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(env)); err == nil {
		return n
	}
	return otherwise
}

// examples are HL7's example resources (R4 4.0.1, CC0).
func examples(t *testing.T) [][]byte {
	t.Helper()
	f, err := os.Open(testpath.Shared(t, "suites", "hl7-r4-examples-half.tar.xz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := xz.NewReader(bufio.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for tr := tar.NewReader(plain); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		src, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(h.Name, ".json") && len(src) < 100_000 { // the bundles of definitions only cost time
			all = append(all, src)
		}
	}
}

// patients are n of Synthea's resources, the first patients whole.
func patients(t *testing.T, n int) [][]byte {
	t.Helper()
	parts, err := synthea.Embedded().Parts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	in, err := parts[len(parts)-1].Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	var all [][]byte
	for lines.Scan() && len(all) < n {
		if len(lines.Bytes()) < 100_000 {
			all = append(all, bytes.Clone(lines.Bytes()))
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// gather takes some of the pool, and crosses some of them with others.
func gather(rng *rand.Rand, pool [][]byte) [][]byte {
	from := rng.IntN(len(pool))
	var all [][]byte
	for i := range worldSize / 2 {
		all = append(all, pool[(from+i)%len(pool)], pool[rng.IntN(len(pool))])
	}
	for i := range worldSize / 4 {
		all = append(all, crossed(rng, all[rng.IntN(len(all))], all, i))
	}
	return all
}

// crossed is a resource with some members gone and some from another of its
// type.
func crossed(rng *rand.Rand, src []byte, all [][]byte, i int) []byte {
	var one map[string]json.RawMessage
	_ = json.Unmarshal(src, &one)
	for range 20 {
		var other map[string]json.RawMessage
		_ = json.Unmarshal(all[rng.IntN(len(all))], &other)
		if string(other["resourceType"]) != string(one["resourceType"]) {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(other)) {
			if rng.IntN(2) == 0 {
				one[name] = other[name]
			}
		}
		break
	}
	for _, name := range slices.Sorted(maps.Keys(one)) {
		if rng.IntN(6) == 0 && name != "resourceType" {
			delete(one, name)
		}
	}
	one["id"] = json.RawMessage(fmt.Sprintf(`"crossed-%d"`, i))
	made, _ := json.Marshal(one)
	return clockTime.ReplaceAllFunc(made, func(at []byte) []byte {
		return slices.Concat(at[:9], []byte(fractions[rng.IntN(len(fractions))]), at[9:])
	})
}

// clockTime is a time of day without fraction, of which crossed makes finer ones.
var clockTime = regexp.MustCompile(`T\d\d:\d\d:\d\d[-+Z]`)

var fractions = []string{"", "", "", ".000", ".0004", ".9999", ".123", ".1230001", ".99999999999999999999999"}

// world is the same resources for the oracle, as entries, and in the engine.
type world struct {
	sources []oracle.Resource
	oracle  *oracle.World
	entries []memory.Candidate
	plain   *memory.World
	stored  store.Store
	id      store.ID
	moment  store.Moment // of stored, at which it is the world
}

func newWorld(t *testing.T, sources [][]byte) *world {
	t.Helper()
	w, seen := &world{}, map[plan.Key]bool{}
	for i, src := range sources {
		doc, err := fhir.Parse(src)
		if err != nil {
			t.Fatal(err)
		}
		typ, ok := r4.TypeByName(doc.ResourceType())
		key := plan.Key{Type: typ, ID: doc.ID()}
		if !ok || key.ID == "" || seen[key] {
			continue
		}
		seen[key] = true
		entries, err := extractor.Extract(key, doc.Root())
		if err != nil {
			t.Fatal(err)
		}
		at := now.Add(-time.Duration(i) * 31 * time.Hour)
		w.sources = append(w.sources, oracle.Resource{Key: key, JSON: src, Updated: at, Created: at})
		body, err := fhir.Store(doc)
		if err != nil {
			t.Fatal(err)
		}
		w.entries = append(w.entries, memory.Candidate{Key: key, Updated: at, Created: at, Entries: entries, Body: body})
	}
	w.plain = memory.NewWorld(hashKey, w.entries)
	var err error
	if w.oracle, err = oracle.NewWorld(registry, base, w.sources); err != nil {
		t.Fatal(err)
	}
	return w
}

// ask asks both, and shows the smallest world in which they differ.
func (w *world) ask(t *testing.T, question string, tally *tally) {
	t.Helper()
	tally.asked++
	q, p, err := read(question)
	if err != nil {
		k := fault.From(err).Kind
		tally.errors[k]++
		if k != fault.Invalid && k != fault.NotSupported && k != fault.TooCostly { // filters may fan out too far
			t.Errorf("%s: %v", question, err)
		}
		return
	}
	want, got := w.oracle.Find(q, now), w.find(p)
	if len(want) > 0 {
		tally.found++
	}
	if !slices.Equal(want, got) {
		t.Errorf("%s\noracle %s\ntwin   %s\n%s", question, names(want), names(got), w.kept(t, tally.name, question, q, p))
	} else if stored := w.inStore(t, p); !slices.Equal(got, stored) {
		t.Errorf("%s\ntwin   %s\nengine %s", question, names(got), names(stored))
	}
}

func read(question string) (*search.Query, *plan.Plan, error) {
	name, raw, _ := strings.Cut(question, "?")
	typ, _ := r4.TypeByName(name)
	pairs, err := search.ParsePairs(raw)
	if err != nil {
		return nil, nil, err
	}
	q, err := search.Parse(registry, []plan.Type{typ}, pairs, search.Options{Base: base})
	if err != nil {
		return nil, nil, err
	}
	p, err := q.Compile(search.Env{Registry: registry, Key: hashKey, Grant: search.Everything(), Now: now, Bodies: extractor})
	return q, p, err
}

func (w *world) find(p *plan.Plan) []plan.Key {
	var found []plan.Key
	for _, c := range w.entries {
		if w.plain.Matches(p.Arms, c) {
			found = append(found, c.Key)
		}
	}
	return found
}

func names(keys []plan.Key) string {
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(r4.TypeName(k.Type) + "/" + k.ID + " ")
	}
	return b.String()
}

// smallest takes away one resource after the other, as long as the two still
// differ.
func (w *world) smallest(t *testing.T, q *search.Query, p *plan.Plan) *world {
	t.Helper()
	left := make([][]byte, len(w.sources))
	for i, s := range w.sources {
		left[i] = s.JSON
	}
	for i := len(left) - 1; i >= 0; i-- {
		fewer := slices.Delete(slices.Clone(left), i, i+1)
		if tried := newWorld(t, fewer); !slices.Equal(tried.oracle.Find(q, now), tried.find(p)) {
			left = fewer
		}
	}
	return newWorld(t, left)
}

// kept writes the smallest world in which the two differ down, as a file that
// TestSearches of package search runs, with the oracle's answer; it gives its text.
func (w *world) kept(t *testing.T, name, question string, q *search.Query, p *plan.Plan) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Found by the differential test.\n")
	small := w.smallest(t, q, p)
	for _, s := range small.sources {
		var line bytes.Buffer
		if err := json.Compact(&line, s.JSON); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "load %s\n", line.String())
	}
	ids := []string{}
	for _, key := range small.oracle.Find(q, now) {
		ids = append(ids, key.ID)
	}
	if len(ids) == 0 {
		ids = []string{"nothing"}
	}
	fmt.Fprintf(&b, "search %s → %s\n", question, strings.Join(ids, " "))
	file := filepath.Join("..", "testdata", name+".test")
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Errorf("cannot be kept: %v", err)
	}
	return b.String()
}
