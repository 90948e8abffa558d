package storetest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// The shape of benchmark data: about what a Synthea resource is
// (../shared/reference/engine.md, section 0: 1,433 bytes and 11 entries).
const (
	benchBody      = 1400
	benchNames     = 1000  // different values of name
	benchCodes     = 45    // different values of code
	benchResources = 20000 // in the store that is read
	importAdd      = 500   // puts of one Add
)

// Benchmarks measures an engine:
//
//	commit/1, commit/64   one put per commit, by 1 and by 64 writers
//	batch/500             commits of 500 puts
//	import                puts through the bulk door, one part
//	get, page, count, chain, history
//
// The names are for engines' own Benchmark functions.
func Benchmarks(b *testing.B, open Opener) {
	b.Run("commit/1", func(b *testing.B) { benchCommit(b, open, 1) })
	b.Run("commit/64", func(b *testing.B) { benchCommit(b, open, 64) })
	b.Run("batch/500", func(b *testing.B) { benchBatch(b, open, 500) })
	b.Run("import", func(b *testing.B) { benchImport(b, open) })
	s := benchStore(b, open)
	b.Run("get", func(b *testing.B) { benchGet(b, s) })
	b.Run("page", func(b *testing.B) { benchSearch(b, s, 50, false) })
	b.Run("count", func(b *testing.B) { benchSearch(b, s, 0, false) })
	b.Run("chain", func(b *testing.B) { benchSearch(b, s, 50, true) })
	b.Run("history", func(b *testing.B) { benchHistory(b, s) })
}

// benchOp is the nth put: mostly observations, each of one of few patients.
func benchOp(hash plan.HashKey, n int) store.Op {
	key := plan.Key{Type: typeNumbers["Observation"], ID: strconv.Itoa(n)}
	if n%20 == 0 {
		key.Type = typeNumbers["Patient"]
	}
	self := hash.Self(plan.Key{Type: typeNumbers["Patient"], ID: strconv.Itoa(n - n%20)})
	op := store.Op{Kind: store.Put, Key: key, Body: body(n, benchBody), Entries: []plan.Entry{
		{Param: paramNumbers["name"], Value: fmt.Appendf(nil, "name %d", n%benchNames)},
		{Param: paramNumbers["code"], Value: fmt.Appendf(nil, "code %d", n%benchCodes)},
		{Param: paramNumbers["subject"], Value: self[:]},
		{Param: paramNumbers["present"], Value: nil},
	}}
	for i := range 7 {
		op.Entries = append(op.Entries, plan.Entry{Param: paramNumbers["birth"], Value: fmt.Appendf(nil, "%08d", (n+i)%5000)})
	}
	return op
}

// measured is an open store whose commits are dated by the true clock.
func measured(b *testing.B, open Opener) store.Store {
	b.Helper()
	engine, _ := open(b, time.Now)
	return openStore(b, engine)
}

func benchCommit(b *testing.B, open Opener, writers int) {
	s := measured(b, open)
	var next atomic.Int64
	b.SetParallelism(writers) // times GOMAXPROCS; close enough
	commitOne := func() {
		if _, err := s.Commit(b.Context(), []store.Op{benchOp(s.HashKey(), int(next.Add(1)))}); err != nil {
			b.Error(err)
		}
	}
	b.ResetTimer()
	if writers == 1 {
		for range b.N {
			commitOne()
		}
		return
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			commitOne()
		}
	})
}

func benchBatch(b *testing.B, open Opener, size int) {
	s := measured(b, open)
	n := 0
	b.ResetTimer()
	for range b.N {
		ops := make([]store.Op, size)
		for i := range ops {
			n++
			ops[i] = benchOp(s.HashKey(), n)
		}
		if _, err := s.Commit(b.Context(), ops); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "resources/s")
}

func benchImport(b *testing.B, open Opener) {
	s := measured(b, open)
	b.ResetTimer()
	importN(b, s, b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "resources/s")
}

// importN imports n resources.
func importN(b *testing.B, s store.Store, n int) {
	importer, err := s.Import(b.Context(), "bench")
	mustNot(b, "Import", err)
	part, err := importer.Part(b.Context(), "part")
	mustNot(b, "Part", err)
	for at := 0; at < n; at += importAdd {
		ops := make([]store.Op, min(importAdd, n-at))
		for i := range ops {
			ops[i] = benchOp(s.HashKey(), at+i)
		}
		mustNot(b, "Add", part.Add(b.Context(), ops, []byte(strconv.Itoa(at))))
	}
	mustNot(b, "Close", importer.Close(b.Context()))
}

func benchStore(b *testing.B, open Opener) store.Store {
	b.Helper()
	s := measured(b, open)
	importN(b, s, benchResources)
	return s
}

// inView runs f b.N times, each in a view of its own.
func inView(b *testing.B, s store.Store, f func(view store.View, n int) error) {
	random := rand.New(rand.NewPCG(1, 2))
	b.ResetTimer()
	for range b.N {
		view, err := s.View(b.Context(), "")
		mustNot(b, "View", err)
		mustNot(b, "in the view", f(view, random.IntN(benchResources)))
		mustNot(b, "Close", view.Close())
	}
}

func benchGet(b *testing.B, s store.Store) {
	inView(b, s, func(view store.View, n int) error {
		_, err := view.Get(b.Context(), benchOp(s.HashKey(), n).Key)
		return err
	})
}

func benchSearch(b *testing.B, s store.Store, limit int, chain bool) {
	inView(b, s, func(view store.View, n int) error {
		var where plan.Node = plan.Term{Param: paramNumbers["code"], Value: fmt.Appendf(nil, "code %d", n%benchCodes)}
		if chain {
			patients := []plan.Arm{{Type: typeNumbers["Patient"], Where: plan.Term{Param: paramNumbers["name"], Value: fmt.Appendf(nil, "name %d", n%benchNames/20*20)}}}
			where = plan.Chain{Params: []plan.Param{paramNumbers["subject"]}, To: patients}
		}
		p := &plan.Plan{Arms: []plan.Arm{{Type: typeNumbers["Observation"], Where: where}}, Limit: limit}
		var err error
		if limit == 0 {
			_, err = view.Count(b.Context(), p)
		} else {
			_, err = view.Search(b.Context(), p)
		}
		return err
	})
}

func benchHistory(b *testing.B, s store.Store) {
	inView(b, s, func(view store.View, n int) error {
		_, err := view.History(b.Context(), store.HistoryQuery{Key: benchOp(s.HashKey(), n).Key, Limit: 10})
		return err
	})
}
