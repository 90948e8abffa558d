//go:build unix

package lsm_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/fhir/dictionary"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
	"github.com/tarn-fhir/tarn/internal/synthea"
)

// BenchmarkSynthea measures searches over the patients that a preload gives, in
// a store on disk with the options that a server uses. "cpu-µs/op" is the
// process's, which a busy machine changes less than the time that passes.
// SYNTHEA_STORE names a folder in which the store is kept for the next run;
// with SYNTHEA_FRESH it is measured as the load leaves it ("at once") or as a store
// is that was left alone ("settled"), and not compacted whole.
func BenchmarkSynthea(b *testing.B) {
	l := loadSynthea(b)
	patients := l.ids(b, "Patient?_count=64")
	b.Run("get", func(b *testing.B) {
		l.measure(b, func(view store.View, n int) error {
			_, err := view.Get(b.Context(), plan.Key{Type: l.typ(b, "Patient"), ID: patients[n%len(patients)]})
			return err
		})
	})
	searches := []struct{ name, query string }{
		{"token/page50", "Observation?code=http://loinc.org|8302-2&_count=50"},
		{"token/page50/untold", "Observation?code=http://loinc.org|8302-2&_count=50&_total=none"},
		{"patient+code/page20", "Observation?patient=Patient/{patient}&code=http://loinc.org|8302-2&_count=20"},
		{"patient+code/count", "Observation?patient=Patient/{patient}&code=http://loinc.org|8302-2&_summary=count"},
		{"code+date+quantity/page20", "Observation?code=http://loinc.org|8302-2&date=ge2010&value-quantity=gt150&_count=20"},
		{"name/page20", "Patient?name=mar&_count=20"},
		{"chain/name/page20", "Observation?patient.name=mar&_count=20"},
		{"chain/few/page20", "Encounter?patient.identifier=nobody&_count=20"},
		{"chain+code/page20", "Observation?code=http://loinc.org|8302-2&patient.gender=female&_count=20"},
		{"has/page20", "Patient?_has:Observation:patient:code=http://loinc.org|8302-2&_count=20"},
		{"sort/date/page20", "Observation?code=http://loinc.org|8302-2&_sort=-date&_count=20"},
		{"sort/patient/page20", "Observation?patient=Patient/{patient}&_sort=-date&_count=20"},
		{"total/status", "Observation?status=final&_summary=count"},
		{"total/category+status", "Observation?status=final&category=laboratory&_summary=count"},
		{"total/date", "Observation?date=ge2015&_summary=count"},
		{"include/page20", "Patient?_id={patient}"},
	}
	for _, s := range searches {
		b.Run(s.name, func(b *testing.B) {
			plans := make([]*plan.Plan, len(patients))
			for i, id := range patients {
				plans[i] = l.plan(b, strings.ReplaceAll(s.query, "{patient}", id))
			}
			hits := 0
			l.measure(b, func(view store.View, n int) error {
				page, err := view.Search(b.Context(), plans[n%len(plans)])
				hits += len(page.Records)
				return err
			})
			b.ReportMetric(float64(hits)/float64(b.N), "rows/op")
		})
	}
}

// BenchmarkImport puts the Synthea set through the bulk door, entries extracted
// before: what the engine alone takes of a bulk load, durable, sealed and
// indexed.
func BenchmarkImport(b *testing.B) {
	const parts = 2
	dictionaries, err := dictionary.Shipped()
	if err != nil {
		b.Fatal(err)
	}
	sink := &opsSink{}
	var took, cpu time.Duration
	total := 0
	for range b.N {
		b.StopTimer()
		s := made(b, engine(b, lsm.Options{Root: b.TempDir(), Dictionaries: dictionaries}))
		sink.collect(b, s)
		b.StartTimer()
		began, used := time.Now(), cpuTime()
		var all sync.WaitGroup
		for i := range parts {
			all.Go(func() { sink.importTo(b, s, i, parts) })
		}
		all.Wait()
		took, cpu = took+time.Since(began), cpu+cpuTime()-used
		total += len(sink.ops)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(total)/took.Seconds(), "resources/s")
	b.ReportMetric(float64(cpu.Microseconds())/float64(total), "cpu-µs/resource")
}

// collector is a store whose bulk door leads into a sink.
type collector struct {
	store.Store
	sink *opsSink
}

func (c collector) Import(context.Context, string) (store.Importer, error) { return c.sink, nil }

// opsSink collects the puts of an import instead of storing them.
type opsSink struct {
	mu  sync.Mutex
	ops []store.Op
}

func (k *opsSink) collect(b *testing.B, s *lsm.Store) {
	b.Helper()
	k.ops = nil
	source, err := synthea.Embedded().Parts(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var streams []bulk.Stream
	for _, p := range source {
		streams = append(streams, bulk.Stream{Name: p.Name, Resources: int64(p.Resources), Open: p.Open})
	}
	registry := searchparam.NewRegistry()
	loader := bulk.Loader{Store: collector{s, k}, Types: registry, Extractor: searchparam.NewExtractor(registry, s.HashKey(), benchBase), Workers: 2}
	if err := loader.Load(b.Context(), "collect", streams); err != nil {
		b.Fatal(err)
	}
}

func (k *opsSink) Part(context.Context, string) (store.Part, error) { return k, nil }
func (k *opsSink) Close(context.Context) error                      { return nil }
func (k *opsSink) Forget(context.Context) error                     { return nil }
func (k *opsSink) Flush(context.Context) error                      { return nil }
func (k *opsSink) Cursor() []byte                                   { return nil }

func (k *opsSink) Add(_ context.Context, ops []store.Op, _ []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ops = append(k.ops, ops...)
	return nil
}

// importTo imports one of n shares of what was collected, as one part.
func (k *opsSink) importTo(b *testing.B, s *lsm.Store, share, n int) {
	importer, err := s.Import(b.Context(), fmt.Sprint(share))
	if err != nil {
		b.Error(err)
		return
	}
	part, err := importer.Part(b.Context(), "part")
	for at, end := len(k.ops)*share/n, len(k.ops)*(share+1)/n; err == nil && at < end; at += 500 {
		err = part.Add(b.Context(), k.ops[at:min(end, at+500)], []byte{1})
	}
	if err := errors.Join(err, importer.Close(b.Context())); err != nil {
		b.Error(err)
	}
}

// loaded is a store with the Synthea patients.
type loaded struct {
	*lsm.Store
	engine   *lsm.Engine // of BenchmarkSearches alone
	registry *searchparam.Registry
	dir      string
}

const benchBase = "http://tarn.test/r4/"

// loadSynthea gives a store in which the embedded set is, or is put.
func loadSynthea(b *testing.B) *loaded {
	b.Helper()
	dictionaries, err := dictionary.Shipped()
	if err != nil {
		b.Fatal(err)
	}
	root := os.Getenv("SYNTHEA_STORE")
	if root == "" {
		root = b.TempDir()
	}
	l := &loaded{registry: searchparam.NewRegistry(), dir: filepath.Join(root, "s")}
	_, err = os.Stat(l.dir)
	there := err == nil
	l.Store = made(b, engine(b, lsm.Options{Root: root, Dictionaries: dictionaries}))
	if !there {
		l.load(b)
	}
	return l
}

func (l *loaded) load(b *testing.B) {
	b.Helper()
	parts, err := synthea.Embedded().Parts(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var streams []bulk.Stream
	total := 0
	for _, p := range parts {
		streams = append(streams, bulk.Stream{Name: p.Name, Resources: int64(p.Resources), Open: p.Open})
		total += p.Resources
	}
	loader := bulk.Loader{Store: l.Store, Types: l.registry, Extractor: l.extractor(), Workers: 2}
	cpu, began := cpuTime(), time.Now()
	if err := loader.Load(b.Context(), "preload", streams); err != nil {
		b.Fatal(err)
	}
	loaded, took := cpuTime(), time.Since(began)
	settle := l.Settle
	switch os.Getenv("SYNTHEA_FRESH") {
	case "settled":
		settle = l.SettleTables
	case "at once":
		settle = func(context.Context) error { return nil }
	}
	if err := settle(context.WithoutCancel(b.Context())); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d resources loaded, %.0f a second, %v of CPU for each, %v with compactions behind it, %d bytes on disk for each, by keyspace %v",
		total, float64(total)/took.Seconds(), (loaded-cpu)/time.Duration(total), (cpuTime()-cpu)/time.Duration(total), diskUse(b, l.dir)/int64(total), l.SpaceBytes(total))
}

func (l *loaded) extractor() *searchparam.Extractor {
	return searchparam.NewExtractor(l.registry, l.HashKey(), benchBase)
}

func (l *loaded) typ(b *testing.B, name string) plan.Type {
	b.Helper()
	t, ok := l.registry.Type(name)
	if !ok {
		b.Fatalf("no type %s", name)
	}
	return t
}

// plan compiles "Type?parameters".
func (l *loaded) plan(b *testing.B, query string) *plan.Plan {
	b.Helper()
	name, parameters, _ := strings.Cut(query, "?")
	pairs, err := search.ParsePairs(parameters)
	if err != nil {
		b.Fatal(err)
	}
	q, err := search.Parse(l.registry, []plan.Type{l.typ(b, name)}, pairs, search.Options{Base: benchBase})
	if err != nil {
		b.Fatal(err)
	}
	p, err := q.Compile(search.Env{Registry: l.registry, Key: l.HashKey(), Grant: search.Everything(), Now: time.Now()})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func (l *loaded) ids(b *testing.B, query string) (ids []string) {
	b.Helper()
	view, err := l.View(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = view.Close() }()
	page, err := view.Search(b.Context(), l.plan(b, query))
	if err != nil {
		b.Fatal(err)
	}
	for _, record := range page.Records {
		ids = append(ids, record.Key.ID)
	}
	return ids
}

// measure runs f b.N times, each in a view of its own.
func (l *loaded) measure(b *testing.B, f func(view store.View, n int) error) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	for n := range b.N {
		view, err := l.View(b.Context(), "")
		if err == nil {
			err = f(view, n)
		}
		if err != nil {
			b.Fatal(err)
		}
		if err := view.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

// cpuTime is what the process has used, all goroutines and the kernel's part.
func cpuTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		panic(err) // it has no reason to fail
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func diskUse(b *testing.B, dir string) (total int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // the store has no use for it any more
			return nil
		}
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return total
}
