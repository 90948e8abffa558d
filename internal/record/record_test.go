package record_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

type note struct {
	Text string
	At   time.Time
	N    int
}

var notes = record.Kind[note]{Type: record.TypePolicy, Entries: func(n *note) []plan.Entry {
	return []plan.Entry{record.Text(1, n.Text), record.Time(2, n.At)}
}}

func openStore(t *testing.T) store.Store {
	t.Helper()
	engine := memory.New(memory.Options{Clock: time.Now, Rand: rand.Reader})
	key, err := seal.NewDataKey(rand.Reader)
	if err == nil {
		err = engine.Create(t.Context(), "system", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := engine.Open(t.Context(), "system", key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOneDocument(t *testing.T) {
	s, ctx := openStore(t), t.Context()
	if _, err := notes.Get(ctx, s, "a"); !fault.Is(err, fault.NotFound) {
		t.Errorf("absent: %v", err)
	}
	if _, err := notes.Update(ctx, s, "a", func(*note) error { return nil }); !fault.Is(err, fault.NotFound) {
		t.Errorf("update of absent: %v", err)
	}
	if err := notes.Create(ctx, s, "a", &note{Text: "x"}); err != nil {
		t.Fatal(err)
	}
	if err := notes.Create(ctx, s, "a", &note{Text: "y"}); !fault.Is(err, fault.Conflict) {
		t.Errorf("created twice: %v", err)
	}
	refusal := errors.New("no")
	if _, err := notes.Update(ctx, s, "a", func(n *note) error { n.Text = "z"; return refusal }); !errors.Is(err, refusal) {
		t.Errorf("refused update: %v", err)
	}
	if got, err := notes.Get(ctx, s, "a"); err != nil || got.Text != "x" {
		t.Errorf("after a refusal: %+v, %v", got, err)
	}
	if got, err := notes.Update(ctx, s, "a", func(n *note) error { n.N++; return nil }); err != nil || got.N != 1 {
		t.Errorf("updated: %+v, %v", got, err)
	}
	if err := notes.Purge(ctx, s, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := notes.Get(ctx, s, "a"); !fault.Is(err, fault.NotFound) {
		t.Errorf("purged: %v", err)
	}
	if err := notes.Create(ctx, s, "a", &note{}); err != nil {
		t.Errorf("the id of a purged document: %v", err)
	}
}

// No update is lost, however many race.
func TestUpdatesRaced(t *testing.T) {
	s, ctx := openStore(t), t.Context()
	if err := notes.Create(ctx, s, "a", &note{}); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				if _, err := notes.Update(ctx, s, "a", func(n *note) error { n.N++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if got, err := notes.Get(ctx, s, "a"); err != nil || got.N != 160 {
		t.Errorf("%+v, %v; want 160", got, err)
	}
}

// What is to be committed together is, or none of it.
func TestUpdateWith(t *testing.T) {
	s, ctx := openStore(t), t.Context()
	if err := notes.Create(ctx, s, "a", &note{}); err != nil {
		t.Fatal(err)
	}
	other, err := notes.Put("b", &note{}, store.Condition{Kind: store.Never})
	if err != nil {
		t.Fatal(err)
	}
	grow := func(n *note) error { n.N++; return nil }
	if _, err := notes.UpdateWith(ctx, s, "a", []store.Op{other}, grow); err != nil {
		t.Fatal(err)
	}
	_, err = notes.UpdateWith(ctx, s, "a", []store.Op{other}, grow)
	if unmet, ok := errors.AsType[*store.Unmet](err); !ok || unmet.Op != 1 {
		t.Errorf("second time: %v, want the other op's precondition", err)
	}
	if got, err := notes.Get(ctx, s, "a"); err != nil || got.N != 1 {
		t.Errorf("%+v, %v; want one update", got, err)
	}
}

func TestLists(t *testing.T) {
	s, ctx := openStore(t), t.Context()
	epoch := time.Unix(0, 0)
	for i := range 12 {
		n := &note{Text: fmt.Sprint("even", i%2 == 0), At: epoch.Add(time.Duration(i-6) * time.Hour)} // also before 1970
		if err := notes.Create(ctx, s, fmt.Sprint(i), n); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		where plan.Node
		want  string
	}{
		"all":     {nil, "0 1 10 11 2 3 4 5 6 7 8 9"},
		"text":    {record.Is(1, "eventrue"), "0 10 2 4 6 8"},
		"no text": {record.Is(1, "even"), ""},
		"before":  {record.Before(2, epoch), "0 1 2 3 4 5"},
		"from":    {record.From(2, epoch), "10 11 6 7 8 9"},
		"between": {plan.And{record.From(2, epoch.Add(-time.Hour)), record.Before(2, epoch.Add(time.Hour))}, "5 6"},
	} {
		t.Run(name, func(t *testing.T) {
			ids, err := notes.Keys(ctx, s, c.where)
			slices.Sort(ids)
			if got := strings.Join(ids, " "); err != nil || got != c.want {
				t.Errorf("%s, %v; want %s", got, err, c.want)
			}
			docs, err := notes.All(ctx, s, c.where)
			if err != nil || len(docs) != len(ids) {
				t.Errorf("%d documents for %d ids, %v", len(docs), len(ids), err)
			}
		})
	}
	page, err := notes.List(ctx, s, record.Query{Sort: []plan.Sort{record.ByTime(2, true)}, Limit: 5})
	if err != nil || len(page.Docs) != 5 || !page.Docs[0].At.Equal(epoch.Add(5*time.Hour)) || page.Next == nil {
		t.Errorf("page %+v, %v", page, err)
	}
}

// More documents than All and Keys read at a time.
func TestListsOverPages(t *testing.T) {
	s, ctx := openStore(t), t.Context()
	var ops []store.Op
	for i := range 1100 {
		op, err := notes.Put(fmt.Sprint(i), &note{N: i})
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op)
	}
	if _, err := s.Commit(ctx, ops); err != nil {
		t.Fatal(err)
	}
	ids, err := notes.Keys(ctx, s, nil)
	if slices.Sort(ids); err != nil || len(slices.Compact(ids)) != 1100 {
		t.Errorf("%d ids, %v", len(ids), err)
	}
	docs, err := notes.All(ctx, s, nil)
	if err != nil || len(docs) != 1100 {
		t.Errorf("%d documents, %v", len(docs), err)
	}
}

// A text longer than an entry can be is still found, by what fits.
func TestLongText(t *testing.T) {
	s, ctx := openStore(t), t.Context()
	long := strings.Repeat("x", 3*plan.MaxValueBytes)
	if err := notes.Create(ctx, s, "a", &note{Text: long}); err != nil {
		t.Fatal(err)
	}
	if ids, err := notes.Keys(ctx, s, record.Is(1, long)); err != nil || len(ids) != 1 {
		t.Errorf("%v, %v", ids, err)
	}
}
