//go:build unix

package lsm_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/bulk"
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
func BenchmarkGrowth(b *testing.B) {
	text := os.Getenv("TARN_SOAK")
	if text == "" {
		b.Skip("TARN_SOAK names no factors: make soak does")
	}
	for _, one := range strings.Split(text, ",") {
		factor, err := strconv.Atoi(one)
		if err != nil || factor < 1 {
			b.Fatalf("TARN_SOAK: %q is no factor", one)
		}
		b.Run(fmt.Sprintf("%dx", factor), func(b *testing.B) { growth(b, factor) })
	}
}

func growth(b *testing.B, factor int) {
	dictionaries, err := dictionary.Shipped()
	if err != nil {
		b.Fatal(err)
	}
	root := b.TempDir()
	l := &loaded{registry: searchparam.NewRegistry(), dir: root + "/s"}
	l.Store = made(b, engine(b, lsm.Options{Root: root, Dictionaries: dictionaries}))
	cpu, total := cpuTime(), 0
	for n := range factor {
		total += l.loadCopy(b, n)
	}
	if err := l.Settle(context.WithoutCancel(b.Context())); err != nil { // else compactions are measured too
		b.Fatal(err)
	}
	b.Logf("%d resources, %d CPU-µs each, %d bytes on disk each", total, (cpuTime()-cpu).Microseconds()/int64(total), diskUse(b, l.dir)/int64(total))
	patients := l.ids(b, "Patient?_count=64")
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

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

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
			line = uuid.ReplaceAllFunc(line, func(id []byte) []byte {
				return append(fmt.Appendf(nil, "%08x", n), bytes.Clone(id[8:])...)
			})
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
