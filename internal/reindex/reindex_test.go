package reindex

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

const storeID = "s"

// world is a data store with a Keeper whose jobs run when the test says so.
type world struct {
	*testing.T
	keeper *Keeper
	store  store.Store
	jobs   int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	engine := memory.New(memory.Options{Clock: time.Now, Rand: rand.Reader})
	key, err := seal.NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Create(t.Context(), storeID, key); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t}
	if w.store, err = engine.Open(t.Context(), storeID, key); err != nil {
		t.Fatal(err)
	}
	w.restart(0)
	return w
}

// restart makes another Keeper, as another start of the server does.
func (w *world) restart(extraction int) {
	w.keeper = New(Options{
		Registry: searchparam.NewRegistry(), Base: func(string) string { return "http://t/" }, Clock: time.Now,
		Log: slog.New(slog.DiscardHandler), Extraction: extraction,
		Submit: func(context.Context, string, bool) error { w.jobs++; return nil },
	})
}

func (w *world) use() (*Index, func()) {
	w.Helper()
	x, release, err := w.keeper.Use(w.Context(), storeID, w.store)
	if err != nil {
		w.Fatal(err)
	}
	return x, release
}

// put writes a resource by an Index, as a request does.
func (w *world) put(x *Index, json string) {
	w.Helper()
	doc, err := fhir.Parse([]byte(json))
	if err != nil {
		w.Fatal(err)
	}
	typ, _ := r4.TypeByName(doc.ResourceType())
	key := plan.Key{Type: typ, ID: doc.ID()}
	entries, err := x.Extractor.Extract(key, doc.Root())
	if err != nil {
		w.Fatal(err)
	}
	stored, err := fhir.Store(doc)
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.store.Commit(w.Context(), []store.Op{{Kind: store.Put, Key: key, Body: stored, Entries: entries}}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) define(json string) {
	w.Helper()
	x, release := w.use()
	w.put(x, json)
	release()
	if err := w.keeper.Changed(w.Context(), storeID, w.store); err != nil {
		w.Fatal(err)
	}
}

// run carries the job out, dying at the nth checkpoint where n is not 0.
func (w *world) run(from []byte, dies int) error {
	n := 0
	return w.keeper.Run(w.Context(), storeID, w.store, from, func(context.Context, *Checkpoint) error {
		if n++; n == dies {
			return fault.New(fault.Unavailable, "test", "dies")
		}
		return nil
	})
}

// search counts what a query finds, or gives its refusal.
func (w *world) search(typ, query string) (int64, error) {
	w.Helper()
	x, release := w.use()
	defer release()
	t, _ := r4.TypeByName(typ)
	pairs, err := search.ParsePairs(query)
	if err != nil {
		w.Fatal(err)
	}
	q, err := search.Parse(x.Registry, []plan.Type{t}, pairs, search.Options{})
	if err != nil {
		return 0, err
	}
	p, err := q.Compile(search.Env{Registry: x.Registry, Key: w.store.HashKey(), Grant: search.Everything(), Refuse: x.Unready})
	if err != nil {
		return 0, err
	}
	view, err := w.store.View(w.Context(), "")
	if err != nil {
		w.Fatal(err)
	}
	defer view.Close()
	n, err := view.Count(w.Context(), p)
	if err != nil {
		w.Fatal(err)
	}
	return n, nil
}

func (w *world) finds(typ, query string, want int64) {
	w.Helper()
	if n, err := w.search(typ, query); err != nil || n != want {
		w.Errorf("%s?%s finds %d, %v; want %d", typ, query, n, err, want)
	}
}

func (w *world) refuses(typ, query, words string) {
	w.Helper()
	if n, err := w.search(typ, query); err == nil || !strings.Contains(err.Error(), words) {
		w.Errorf("%s?%s finds %d, %v; want a refusal with %q", typ, query, n, err, words)
	}
}

func births(expression, status string) string {
	return `{"resourceType":"SearchParameter","id":"p","url":"http://e/births","code":"births","status":"` + status +
		`","base":["Patient"],"type":"number","expression":"` + expression + `"}`
}

const (
	births1 = "Patient.multipleBirth.ofType(integer)"
	births2 = "Patient.multipleBirth.ofType(integer) + 10"
)

// A definition is refused until every resource has its entries, also those
// written meanwhile; it changes as a whole and goes at once.
func TestLifeOfADefinition(t *testing.T) {
	w := newWorld(t)
	x, release := w.use()
	for i := range 2*passPage + 3 {
		w.put(x, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","multipleBirthInteger":%d}`, i, i%2))
	}
	release()
	w.refuses("Patient", "births=1", "no search parameter")
	w.define(births(births1, "active"))
	w.refuses("Patient", "births=1", "0% are done")
	if w.jobs != 1 {
		t.Errorf("%d jobs", w.jobs)
	}
	x, release = w.use()
	w.put(x, `{"resourceType":"Patient","id":"new","multipleBirthInteger":7}`)
	release()
	if err := w.run(nil, 0); err != nil {
		t.Fatal(err)
	}
	w.finds("Patient", "births=1", passPage+1)
	w.finds("Patient", "births=7", 1)
	w.finds("Patient", "births:missing=true", 0)

	w.define(births(births2, "active"))
	w.finds("Patient", "births=7", 1) // the old form goes on
	if err := w.run(nil, 0); err != nil {
		t.Fatal(err)
	}
	w.finds("Patient", "births=7", 0)
	w.finds("Patient", "births=17", 1)

	w.restart(0)
	w.finds("Patient", "births=17", 1)
	w.define(births(births2, "retired"))
	w.refuses("Patient", "births=17", "no search parameter")
}

// A pass that died goes on at its checkpoint, and finds all the same.
func TestResume(t *testing.T) {
	w := newWorld(t)
	x, release := w.use()
	for i := range 3 * passPage {
		w.put(x, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","multipleBirthInteger":1}`, i))
	}
	release()
	w.define(births(births1, "draft"))
	if err := w.run(nil, 2); !fault.Is(err, fault.Unavailable) {
		t.Fatal(err)
	}
	w.restart(0)
	w.refuses("Patient", "births=1", "being indexed")
	if err := w.run([]byte(`{"broken`), 0); err != nil {
		t.Fatal(err)
	}
	w.finds("Patient", "births=1", 3*passPage)
}

// Who began before the definition and writes after it is waited for.
func TestWritersBeforeAreWaitedFor(t *testing.T) {
	w := newWorld(t)
	old, release := w.use()
	w.define(births(births1, "active"))
	done := make(chan error, 1)
	go func() { done <- w.run(nil, 0) }()
	w.refuses("Patient", "births=1", "being indexed")
	w.put(old, `{"resourceType":"Patient","id":"late","multipleBirthInteger":1}`)
	select {
	case err := <-done:
		t.Fatalf("the job did not wait: %v", err)
	default:
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.finds("Patient", "births=1", 1)
}

// Another extraction of the program's has every resource indexed anew; searches
// wait, and say so.
func TestExtraction(t *testing.T) {
	w := newWorld(t)
	x, release := w.use()
	w.put(x, `{"resourceType":"Patient","id":"p","gender":"male"}`)
	release()
	t1, _ := r4.TypeByName("Patient")
	if _, err := w.store.Reindex(t.Context(), []store.Reentry{{Key: plan.Key{Type: t1, ID: "p"}, Version: 1}}); err != nil {
		t.Fatal(err)
	}
	w.finds("Patient", "gender=male", 0)
	w.restart(searchparam.Extraction + 1)
	w.refuses("Patient", "gender=male", "indexed anew")
	if err := w.run(nil, 0); err != nil {
		t.Fatal(err)
	}
	w.finds("Patient", "gender=male", 1)
	w.restart(searchparam.Extraction + 1)
	w.finds("Patient", "gender=male", 1)
}

// What a repair cannot make again is made again by indexing everything once more.
func TestAgain(t *testing.T) {
	w := newWorld(t)
	x, release := w.use()
	w.put(x, `{"resourceType":"Patient","id":"p","gender":"male"}`)
	release()
	t1, _ := r4.TypeByName("Patient")
	if _, err := w.store.Reindex(t.Context(), []store.Reentry{{Key: plan.Key{Type: t1, ID: "p"}, Version: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := Again(t.Context(), w.store); err != nil {
		t.Fatal(err)
	}
	w.restart(0)
	w.refuses("Patient", "gender=male", "indexed anew")
	if w.jobs == 0 {
		t.Error("no job was begun")
	}
	if err := w.run(nil, 0); err != nil {
		t.Fatal(err)
	}
	w.finds("Patient", "gender=male", 1)
}

// A new data store begins with the program's extraction. One that holds resources
// and no word of what made their entries is of the first.
func TestExtractionOfTheBeginning(t *testing.T) {
	w := newWorld(t)
	w.restart(7)
	x, release := w.use()
	w.put(x, `{"resourceType":"Patient","id":"p","gender":"male"}`)
	release()
	w.restart(7)
	w.finds("Patient", "gender=male", 1)
	if w.jobs != 0 {
		t.Errorf("%d jobs for a store that was indexed well from its beginning", w.jobs)
	}

	old := newWorld(t)
	old.put(x, `{"resourceType":"Patient","id":"p","gender":"male"}`)
	old.restart(7)
	old.refuses("Patient", "gender=male", "indexed anew")
	if old.jobs == 0 {
		t.Error("no job for a store of before")
	}
}

// Of two definitions that clash the older one stands, and the newer is told.
func TestClash(t *testing.T) {
	w := newWorld(t)
	w.define(births(births1, "active"))
	second := strings.Replace(births(births2, "active"), `"id":"p"`, `"id":"q"`, 1)
	doc, err := fhir.Parse([]byte(second))
	if err != nil {
		t.Fatal(err)
	}
	x, release := w.use()
	if issues := x.Check(doc.Root()); len(issues) != 1 || issues[0].Severity != fault.SeverityError {
		t.Errorf("issues %v", issues)
	}
	release()
	w.define(second)
	if x, release := w.use(); len(x.definitions) != 1 || x.definitions[0].ID != "p" {
		t.Errorf("definitions %v", x.definitions)
	} else {
		release()
	}
}

// A composite is searched by while its components are there, also those that were
// made after it.
func TestCompositeBeforeItsComponents(t *testing.T) {
	w := newWorld(t)
	x, release := w.use()
	w.put(x, `{"resourceType":"Patient","id":"a","gender":"male","multipleBirthInteger":3}`)
	release()
	w.define(`{"resourceType":"SearchParameter","id":"c","url":"http://e/c","code":"gender-births","status":"active","base":["Patient"],
		"type":"composite","expression":"Patient","component":[
		{"definition":"http://hl7.org/fhir/SearchParameter/individual-gender","expression":"gender"},
		{"definition":"http://e/births","expression":"multipleBirth.ofType(integer)"}]}`)
	w.refuses("Patient", "gender-births=male$3", "no search parameter")
	w.define(births(births1, "active"))
	if err := w.run(nil, 0); err != nil {
		t.Fatal(err)
	}
	w.finds("Patient", "gender-births=male$3", 1)
	w.finds("Patient", "gender-births=male$4", 0)
	w.define(births(births1, "retired"))
	w.refuses("Patient", "gender-births=male$3", "no search parameter")
}
