//go:build unix

package lsm_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
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
// with SYNTHEA_FRESH it is measured as the load leaves it, before tables are
// compacted.
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

// loaded is a store with the Synthea patients.
type loaded struct {
	*lsm.Store
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
	cpu := cpuTime()
	if err := loader.Load(b.Context(), "preload", streams); err != nil {
		b.Fatal(err)
	}
	cpu = cpuTime() - cpu
	if os.Getenv("SYNTHEA_FRESH") == "" {
		if err := l.Settle(context.WithoutCancel(b.Context())); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%d resources loaded, %v of CPU for each, %d bytes on disk for each, by keyspace %v",
		total, cpu/time.Duration(total), diskUse(b, l.dir)/int64(total), l.SpaceBytes(total))
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
