//go:build unix

package lsm_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/dictionary"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
	"github.com/tarn-fhir/tarn/internal/synthea"
)

// BenchmarkGrowth measures what should not grow with a store: reads, searches
// that find few, and creates, beside stores of 1, 10, … times the Synthea set.
// TARN_SOAK lists the factors (`make soak`); without it nothing is measured, as
// ten times the set is over a million resources. Each copy has resources of its
// own: every UUID of the set, and so every reference, is another in each.
func BenchmarkGrowth(b *testing.B) { soak(b, growth) }

func soak(b *testing.B, measure func(b *testing.B, factor int)) {
	text := os.Getenv("TARN_SOAK")
	if text == "" {
		b.Skip("TARN_SOAK names no factors: make soak does")
	}
	for _, one := range strings.Split(text, ",") {
		factor, err := strconv.Atoi(one)
		if err != nil || factor < 1 {
			b.Fatalf("TARN_SOAK: %q is no factor", one)
		}
		b.Run(fmt.Sprintf("%dx", factor), func(b *testing.B) { measure(b, factor) })
	}
}

// grown gives a store with several times the Synthea set: with SYNTHEA_STORE, one
// that is kept there for the next run. Its caches have half of --memory-mib 512,
// as a server's have.
func grown(b *testing.B, factor int) *loaded {
	b.Helper()
	dictionaries, err := dictionary.Shipped()
	if err != nil {
		b.Fatal(err)
	}
	root := b.TempDir()
	if kept := os.Getenv("SYNTHEA_STORE"); kept != "" {
		root = filepath.Join(kept, fmt.Sprintf("%dx", factor))
	}
	l := &loaded{registry: searchparam.NewRegistry(), dir: filepath.Join(root, "s")}
	_, err = os.Stat(l.dir)
	there := err == nil
	l.engine = engine(b, lsm.Options{Root: root, Dictionaries: dictionaries, CacheBytes: grownCache})
	l.Store = made(b, l.engine)
	if there {
		return l
	}
	cpu, total := cpuTime(), 0
	for n := range factor {
		total += l.loadCopy(b, n)
	}
	l.create(b, grownCreates)
	if os.Getenv("SYNTHEA_FRESH") == "" {
		if err := l.Settle(context.WithoutCancel(b.Context())); err != nil { // else compactions are measured too
			b.Fatal(err)
		}
	}
	b.Logf("%d resources, %d CPU-µs each, %d bytes on disk each", total, (cpuTime()-cpu).Microseconds()/int64(total), diskUse(b, l.dir)/int64(total))
	return l
}

// grownCache is what a server with --memory-mib 512 gives its engine.
const grownCache = 128 << 20

// grownCreates is about as many observations as a run of test/load creates.
const grownCreates = 60_000

// create commits observations like those that test/load creates.
func (l *loaded) create(b *testing.B, n int) {
	b.Helper()
	r, lines := rand.New(rand.NewPCG(3, 4)), bytes.Buffer{}
	for i := range n {
		fmt.Fprintf(&lines, `{"resourceType":"Observation","id":"o%d","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],`+
			`"code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}]},"subject":{"reference":"Patient/p%d"},`+
			`"effectiveDateTime":"2026-%02d-%02dT08:00:00Z","valueQuantity":{"value":%d,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}`+"\n",
			i, r.IntN(1000), 1+r.IntN(12), 1+r.IntN(28), 50+r.IntN(90))
	}
	made := &opsSink{}
	loader := bulk.Loader{Store: collector{l.Store, made}, Types: l.registry, Extractor: l.extractor(), Workers: 1}
	stream := bulk.Stream{Name: "creates", Resources: int64(n), Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(&lines), nil }}
	if err := loader.Load(b.Context(), "creates", []bulk.Stream{stream}); err != nil {
		b.Fatal(err)
	}
	for ops := range slices.Chunk(made.ops, 50) {
		if _, err := l.Commit(b.Context(), ops); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSearches measures the searches of test/load in the engine alone, beside
// stores of as many times the Synthea set as TARN_SOAK lists: values vary as they
// do there.
func BenchmarkSearches(b *testing.B) {
	soak(b, func(b *testing.B, factor int) {
		l := grown(b, factor)
		values := l.valuesOf(b)
		for _, s := range loadSearches {
			b.Run(s.name, func(b *testing.B) {
				plans := make([]*plan.Plan, 64)
				r := rand.New(rand.NewPCG(1, 2))
				for i := range plans {
					plans[i] = l.plan(b, s.query(values, r))
				}
				l.measure(b, func(view store.View, n int) error {
					_, err := view.Search(b.Context(), plans[n%len(plans)])
					return err
				})
				b.ReportMetric(float64(l.engine.KeptBytes())/(1<<20), "MiB-columns")
				b.ReportMetric(float64(l.engine.KeptRowsBytes())/(1<<20), "MiB-rows")
			})
		}
	})
}

// searchValues are what searches ask for.
type searchValues struct{ patients, families []string }

func (l *loaded) valuesOf(b *testing.B) (v searchValues) {
	b.Helper()
	v.patients = l.ids(b, "Patient?gender=female&_count=100")
	view, err := l.View(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = view.Close() }()
	for _, id := range v.patients {
		record, err := view.Get(b.Context(), plan.Key{Type: l.typ(b, "Patient"), ID: id})
		var patient struct{ Name []struct{ Family string } }
		if err := errors.Join(err, json.Unmarshal(fhir.StoredJSON(record.Body), &patient)); err != nil {
			b.Fatal(err)
		}
		if len(patient.Name) > 0 && len(patient.Name[0].Family) > 1 {
			v.families = append(v.families, patient.Name[0].Family)
		}
	}
	return v
}

func oneOf(list []string, r *rand.Rand) string { return list[r.IntN(len(list))] }

// vitals are those of test/load.
var vitals = []string{"http://loinc.org|8867-4", "http://loinc.org|9279-1", "http://loinc.org|8302-2", "http://loinc.org|29463-7"}

var loadSearches = []struct {
	name  string
	query func(v searchValues, r *rand.Rand) string
}{
	{"token50", func(_ searchValues, r *rand.Rand) string {
		return "Observation?code=" + oneOf(vitals, r) + "&_count=50"
	}},
	{"token", func(_ searchValues, r *rand.Rand) string {
		return "Observation?code=" + oneOf(vitals, r) + "&_count=20"
	}},
	{"token+patient", func(v searchValues, r *rand.Rand) string {
		return "Observation?code=" + oneOf(vitals, r) + "&patient=" + oneOf(v.patients, r) + "&_count=20"
	}},
	{"token+date+quantity", func(_ searchValues, r *rand.Rand) string {
		return fmt.Sprintf("Observation?code=%s&date=ge%d&value-quantity=gt%d&_count=20", vitals[3], 2005+r.IntN(15), 50+r.IntN(30))
	}},
	{"name", func(v searchValues, r *rand.Rand) string {
		return "Patient?name=" + oneOf(v.families, r)[:2] + "&_count=20"
	}},
	{"chain", func(v searchValues, r *rand.Rand) string {
		return "Observation?patient.family:exact=" + oneOf(v.families, r) + "&_count=20"
	}},
	{"has", func(_ searchValues, r *rand.Rand) string {
		return "Patient?_has:Observation:patient:code=" + oneOf(vitals, r) + "&_count=20"
	}},
	{"sort", func(_ searchValues, r *rand.Rand) string {
		return "Observation?code=" + oneOf(vitals, r) + "&_sort=-date&_count=20"
	}},
	{"total", func(searchValues, *rand.Rand) string { return "Observation?status=final&_total=accurate&_count=20" }},
	{"chain10", func(v searchValues, r *rand.Rand) string {
		return "Encounter?subject:Patient.family:exact=" + oneOf(v.families, r) + "&_count=10"
	}},
}

func growth(b *testing.B, factor int) {
	l := grown(b, factor)
	patients := l.ids(b, "Patient?gender=female&_count=64") // not those that a run before created
	patient := l.typ(b, "Patient")
	b.Run("get", func(b *testing.B) {
		l.measure(b, func(view store.View, n int) error {
			_, err := view.Get(b.Context(), plan.Key{Type: patient, ID: patients[n%len(patients)]})
			return err
		})
	})
	for name, query := range map[string]string{
		"patient+code": "Observation?patient=Patient/{patient}&code=http://loinc.org|8302-2&_count=20",
		"newest":       "Observation?code=http://loinc.org|8302-2&_count=20&_total=none",
		"sorted":       "Observation?patient=Patient/{patient}&_sort=-date&_count=20",
	} {
		plans := make([]*plan.Plan, len(patients))
		for i, id := range patients {
			plans[i] = l.plan(b, strings.ReplaceAll(query, "{patient}", id))
		}
		b.Run(name, func(b *testing.B) {
			l.measure(b, func(view store.View, n int) error {
				_, err := view.Search(b.Context(), plans[n%len(plans)])
				return err
			})
		})
	}
	created := 0
	b.Run("create", func(b *testing.B) {
		l.measure(b, func(_ store.View, _ int) error {
			created++
			_, err := l.Commit(b.Context(), []store.Op{put(plan.Key{Type: patient, ID: fmt.Sprint("created", created)}, `{"resourceType":"Patient"}`, name(fmt.Sprint(created)))})
			return err
		})
	})
}

// loadCopy loads a copy of the set, and gives how many resources it has.
func (l *loaded) loadCopy(b *testing.B, n int) (total int) {
	parts, err := synthea.Embedded().Parts(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var streams []bulk.Stream
	for _, p := range parts {
		total += p.Resources
		streams = append(streams, bulk.Stream{Name: p.Name, Resources: int64(p.Resources), Open: func(ctx context.Context) (io.ReadCloser, error) {
			from, err := p.Open(ctx)
			if err != nil {
				return nil, err
			}
			return copyOf(from, n), nil
		}})
	}
	loader := bulk.Loader{Store: l.Store, Types: l.registry, Extractor: l.extractor(), Workers: 2}
	if err := loader.Load(b.Context(), fmt.Sprint("copy", n), streams); err != nil {
		b.Fatal(err)
	}
	return total
}

// makeOther makes each UUID of a line that of its n-th copy, in place.
func makeOther(line []byte, n int) {
	const dash, size = 8, 36 // of a UUID: where its first dash is, and all of it
	first := fmt.Appendf(nil, "%08x", n)
	for at := 0; ; {
		next := bytes.IndexByte(line[at:], '-')
		if next < 0 {
			return
		}
		begin := at + next - dash
		if at += next + 1; begin < 0 || begin+size > len(line) {
			continue
		}
		if uuid := line[begin : begin+size]; uuid[13] == '-' && uuid[18] == '-' && uuid[23] == '-' {
			copy(uuid, first)
			at = begin + size
		}
	}
}

// copyOf is a stream of resources whose UUIDs are those of the n-th copy.
func copyOf(from io.ReadCloser, n int) io.ReadCloser {
	if n == 0 {
		return from
	}
	out, in := io.Pipe()
	go func() {
		lines := bufio.NewReader(from)
		for {
			line, err := lines.ReadBytes('\n')
			makeOther(line, n)
			if _, failed := in.Write(line); failed != nil || err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				in.CloseWithError(errors.Join(err, from.Close()))
				return
			}
		}
	}()
	return out
}
