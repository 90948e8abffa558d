//go:build unix

package lsm_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// createWriters is how many clients create at once.
const createWriters = 64

// BenchmarkCreate measures creates of small observations by many clients beside
// the Synthea set, entries extracted by the way, until they rest in tables: what
// flushes and compactions cost is in "cpu-µs/op". -benchtime=100000x makes runs
// alike.
func BenchmarkCreate(b *testing.B) {
	l := loadSynthea(b)
	observations, extractor := l.typ(b, "Observation"), l.extractor()
	var next atomic.Int64
	create := func(r *rand.Rand) error {
		key := plan.Key{Type: observations, ID: fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Int64N(1<<48))}
		body := heartRate(r)
		doc, err := fhir.Parse(body)
		if err != nil {
			return err
		}
		entries, err := extractor.Extract(key, doc.Root())
		if err != nil {
			return err
		}
		_, err = l.Commit(b.Context(), []store.Op{{Kind: store.Put, Key: key, Body: body, Entries: entries, If: []store.Condition{{Kind: store.Never}}}})
		return err
	}
	b.ReportAllocs()
	b.ResetTimer()
	cpu, began := cpuTime(), time.Now()
	var all sync.WaitGroup
	for i := range createWriters {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), uint64(b.N)))
			for next.Add(1) <= int64(b.N) {
				if err := create(r); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "creates/s")
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

// heartRate is an observation as devices send them.
func heartRate(r *rand.Rand) []byte {
	return fmt.Appendf(nil, `{"resourceType":"Observation","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],`+
		`"code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}]},"subject":{"reference":"Patient/p%d"},`+
		`"effectiveDateTime":"2026-%02d-%02dT08:00:00Z","valueQuantity":{"value":%d,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}`,
		r.IntN(1000), 1+r.IntN(12), 1+r.IntN(28), 50+r.IntN(90))
}
