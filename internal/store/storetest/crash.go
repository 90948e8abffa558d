package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tarn-fhir/tarn/internal/store"
)

// The size of the crash tests.
const (
	crashWriters = 3
	crashRounds  = 12 // writes of each writer between two crashes
	crashes      = 6
)

// crash examines what a power failure leaves, where the engine can show it.
func (x *exam) crash(t *testing.T) {
	engine, _ := x.open(t, NewClock().Now)
	if _, ok := engine.(Crasher); !ok {
		t.Skip("the engine offers no Crasher: it has no power to fail")
	}
	x.run(t, "crash/commits", func(t *testing.T) { crashCommits(t, x.open) })
	x.run(t, "crash/import", func(t *testing.T) { crashImport(t, x.open) })
	x.run(t, "crash/create-and-drop", func(t *testing.T) { crashLifecycle(t, x.open) })
}

// crashCommits: writers write pairs while the power fails again and again. Each
// time every acknowledged pair is there, and no half of one.
func crashCommits(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	var acked [crashWriters]counter
	for w := range crashWriters {
		commit(t, s, pair(w, 0)...)
	}
	for c := range crashes {
		var writers sync.WaitGroup
		errs := make([]error, crashWriters)
		underway := make(chan struct{}, crashWriters+1) // when writer 0 has made 2c writes, or one has ended
		for w := range crashWriters {
			writers.Go(func() {
				errs[w] = writePairs(t, s, w, c*crashRounds, func(n int) {
					acked[w].set(n)
					if w == 0 && n == c*crashRounds+2*c {
						underway <- struct{}{}
					}
				})
				if errs[w] != nil {
					underway <- struct{}{}
				}
			})
		}
		<-underway
		var before [crashWriters]int
		for w := range crashWriters {
			before[w] = acked[w].get()
		}
		crashed := engine.(Crasher).Crash(t)
		writers.Wait()
		for _, err := range errs {
			mustNot(t, "Commit beside a crash of its copy", err)
		}
		t.Run("crash-"+strconv.Itoa(c), func(t *testing.T) {
			survivor := openStore(t, crashed)
			for w, n := range before {
				mustNot(t, "after the crash", readPair(t, survivor, w, n))
				checkPairHistory(t, survivor, w)
			}
			commit(t, survivor, pair(0, 1_000_000)...)
			mustNot(t, "a commit after the crash", readPair(t, survivor, 0, 1_000_000))
		})
	}
}

// writePairs writes the next pairs; acked is called with after, then with the
// number of each that is acknowledged.
func writePairs(t testing.TB, s store.Store, writer, after int, acked func(int)) error {
	acked(after)
	for n := after + 1; n <= after+crashRounds; n++ {
		if _, err := s.Commit(testContext(t), pair(writer, n)); err != nil {
			return err
		}
		acked(n)
	}
	return nil
}

// checkPairHistory: both halves have the same versions with the same bodies,
// and each version is found in the feed once.
func checkPairHistory(t testing.TB, s store.Store, writer int) {
	t.Helper()
	view := viewOf(t, s, "")
	var histories [2][]string
	for half, name := range []string{"a", "b"} {
		q := store.HistoryQuery{Key: patient(fmt.Sprintf("pair%d-%s", writer, name)), Limit: 10_000}
		page, err := view.History(testContext(t), q)
		mustNot(t, "History", err)
		for i, r := range page.Records {
			histories[half] = append(histories[half], string(r.Body))
			if r.Version != uint64(len(page.Records)-i) || string(r.Body) != fmt.Sprintf("w%d-%d", writer, r.Version-1) {
				t.Fatalf("after the crash the history of %s is %q", keyText(q.Key), recordTexts(page.Records))
			}
		}
	}
	if a, b := strings.Join(histories[0], " "), strings.Join(histories[1], " "); a != b {
		t.Fatalf("after the crash one half has the versions %s, the other %s", a, b)
	}
}

// crashImport: after a crash the durable cursor and what is visible agree, and
// the import goes on to its end.
func crashImport(t *testing.T, open Opener) {
	const adds, size = 30, 10
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	importer, err := s.Import(testContext(t), "load")
	mustNot(t, "Import", err)
	part, err := importer.Part(testContext(t), "file")
	mustNot(t, "Part", err)
	for i := range adds {
		mustNot(t, "Add", part.Add(testContext(t), numbered(i*size, size), []byte{byte(i + 1)}))
		if i%4 == 3 {
			mustNot(t, "Flush", part.Flush(testContext(t)))
		}
		if i%5 != 2 {
			continue
		}
		crashed := engine.(Crasher).Crash(t)
		t.Run("crash-"+strconv.Itoa(i), func(t *testing.T) { goOnImporting(t, crashed, (i+1)/4*4, adds, size) })
	}
}

func goOnImporting(t *testing.T, engine store.Engine, flushed, adds, size int) {
	s := openStore(t, engine)
	importer, err := s.Import(testContext(t), "load")
	mustNot(t, "Import", err)
	part, err := importer.Part(testContext(t), "file")
	mustNot(t, "Part", err)
	if cursorOf(part) < flushed {
		t.Fatalf("the cursor stands at %d after the crash, %d was flushed", cursorOf(part), flushed)
	}
	checkPrefix(t, s, part, size)
	for i := cursorOf(part); i < adds; i++ {
		mustNot(t, "Add", part.Add(testContext(t), numbered(i*size, size), []byte{byte(i + 1)}))
	}
	mustNot(t, "Close", importer.Close(testContext(t)))
	checkCount(t, s, adds*size)
}

// crashLifecycle: a store is made or not made, dropped or on its way to be; both
// can be asked for again.
func crashLifecycle(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	ctx := testContext(t)
	s := openStore(t, engine)
	hash := s.HashKey()
	again := engine.(Crasher).Crash(t)
	mustNot(t, "Create after a crash", again.Create(ctx, storeID, testKey(t, 'k')))
	survivor, err := again.Open(ctx, storeID, testKey(t, 'k'))
	mustNot(t, "Open after a crash", err)
	if survivor.HashKey() != hash {
		t.Error("a crash right after Create lost the hash key")
	}
	mustNot(t, "Close", survivor.Close())
	mustNot(t, "Close", s.Close())
	mustNot(t, "Drop", engine.Drop(ctx, storeID))
	again = engine.(Crasher).Crash(t)
	mustNot(t, "Drop after a crash", again.Drop(ctx, storeID))
	mustNot(t, "Create after a crash", again.Create(ctx, storeID, testKey(t, 'n')))
	survivor, err = again.Open(ctx, storeID, testKey(t, 'n'))
	mustNot(t, "Open of a new store after Drop and a crash", err)
	if survivor.HashKey() == hash {
		t.Error("a store made after Drop has the hash key of the one before")
	}
	mustNot(t, "Close", survivor.Close())
}
