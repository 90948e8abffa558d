package bulk_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

func open(t *testing.T) store.Store {
	t.Helper()
	engine := memory.New(memory.Options{Clock: time.Now, Rand: rand.Reader})
	key, err := seal.NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := engine.Create(ctx, "loaded", key); err != nil {
		t.Fatal(err)
	}
	s, err := engine.Open(ctx, "loaded", key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func loader(s store.Store) *bulk.Loader {
	registry := searchparam.NewRegistry()
	return &bulk.Loader{Store: s, Types: registry, Extractor: searchparam.NewExtractor(registry, s.HashKey(), "http://tarn.test/r4/"), Workers: 2}
}

func text(name, content string) bulk.Stream {
	return bulk.Stream{Name: name, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), nil
	}}
}

// patients is n lines of NDJSON with ids p1, p2, ….
func patients(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"resourceType":"Patient","id":"p%d","active":true}`+"\n", i+1)
	}
	return b.String()
}

// ids lists the patients of a store with their versions.
func versions(t *testing.T, s store.Store) map[string]uint64 {
	t.Helper()
	ctx := context.Background()
	view, err := s.View(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	patient, _ := searchparam.NewRegistry().Type("Patient")
	page, err := view.Search(ctx, &plan.Plan{Arms: []plan.Arm{{Type: patient}}, Limit: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]uint64{}
	for _, rec := range page.Records {
		found[rec.Key.ID] = rec.Version
	}
	return found
}

func TestLoadKeepsEveryLine(t *testing.T) {
	s := open(t)
	// An empty line is no resource, and the last line may lack its end.
	streams := []bulk.Stream{text("a", patients(1234)), text("b", "\n"+strings.TrimSuffix(strings.ReplaceAll(patients(3), `"p`, `"q`), "\n"))}
	if err := loader(s).Load(context.Background(), "all", streams); err != nil {
		t.Fatal(err)
	}
	if found := versions(t, s); len(found) != 1237 || found["p1234"] != 1 || found["q3"] != 1 {
		t.Errorf("%d patients, last %d and %d", len(found), found["p1234"], found["q3"])
	}
}

// Lines that are longer than what is read at once keep what they say, and so do those
// around them.
func TestLoadKeepsLongLines(t *testing.T) {
	s := open(t)
	var lines strings.Builder
	texts := map[string]string{}
	for i, length := range []int{3, 600_000, 10, 5_000_000, 300_000, 7, 300_000} {
		id := fmt.Sprintf("p%d", i)
		texts[id] = strings.Repeat(string(rune('a'+i)), length)
		fmt.Fprintf(&lines, `{"resourceType":"Patient","id":"%s","language":"%s"}`+"\n", id, texts[id])
	}
	if err := loader(s).Load(context.Background(), "long", []bulk.Stream{text("a", lines.String())}); err != nil {
		t.Fatal(err)
	}
	view, err := s.View(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	patient, _ := searchparam.NewRegistry().Type("Patient")
	for id, want := range texts {
		rec, err := view.Get(context.Background(), plan.Key{Type: patient, ID: id})
		if got := string(fhir.StoredJSON(rec.Body)); err != nil || got != `{"resourceType":"Patient","language":"`+want+`"}` {
			t.Errorf("%s is kept in %d bytes, %v", id, len(got), err)
		}
	}
}

func TestLoadSaysWhichLineIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		line string
		kind fault.Kind
	}{
		"broken JSON":     {`{"resourceType":"Patient","id":"x"`, fault.Syntax},
		"no type":         {`{"id":"x"}`, fault.Invalid},
		"unknown type":    {`{"resourceType":"Dragon","id":"x"}`, fault.Invalid},
		"no id":           {`{"resourceType":"Patient"}`, fault.Invalid},
		"malformed id":    {`{"resourceType":"Patient","id":"a/b"}`, fault.Invalid},
		"not even object": {`[]`, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			err := loader(open(t)).Load(context.Background(), "bad", []bulk.Stream{text("file", patients(2)+c.line+"\n")})
			found := fault.From(err)
			if found.Kind != c.kind || found.Subject != "file, line 3" {
				t.Errorf("%v (%v), want %v at file, line 3", err, found.Subject, c.kind)
			}
		})
	}
}

// cutAfter is a stream that breaks behind n bytes, as a crash would.
func cutAfter(name, content string, n int) bulk.Stream {
	return bulk.Stream{Name: name, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(content[:n]), errReader{})), nil
	}}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("cut off") }

func TestLoadGoesOnWhereItStood(t *testing.T) {
	s := open(t)
	all := patients(2000)
	err := loader(s).Load(context.Background(), "resumed", []bulk.Stream{cutAfter("a", all, len(all)*2/3)})
	if err == nil {
		t.Fatal("the broken stream loaded")
	}
	if err := loader(s).Load(context.Background(), "resumed", []bulk.Stream{text("a", all)}); err != nil {
		t.Fatal(err)
	}
	found := versions(t, s)
	if len(found) != 2000 {
		t.Fatalf("%d patients, want 2000", len(found))
	}
	for id, version := range found {
		if version != 1 {
			t.Fatalf("%s was loaded %d times", id, version)
		}
	}
}

func TestLoadReportsProgress(t *testing.T) {
	s := open(t)
	l := loader(s)
	var last, total int64
	l.Workers = 1
	l.Progress = func(done, of int64) { last, total = done, of }
	stream := text("a", patients(700))
	stream.Resources = 700
	if err := l.Load(context.Background(), "p", []bulk.Stream{stream}); err != nil {
		t.Fatal(err)
	}
	if last != 700 || total != 700 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
}
