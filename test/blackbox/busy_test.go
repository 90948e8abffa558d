package blackbox

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// memoryOf reads a part of the engine's memory, or the room for it, from /metrics.
func (s *server) memoryOf(metric, part string) int64 {
	s.t.Helper()
	answer, err := http.Get(s.url() + "/metrics")
	s.must(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	s.must(err)
	name := `tarn_engine_memory_` + metric + `{part="` + part + `"} `
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			bytes, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			s.must(err)
			return int64(bytes)
		}
	}
	s.t.Fatalf("/metrics does not tell %s", name)
	return 0
}

// Many data stores that are written to at once keep to the memory that they have
// together, and nothing is lost by it: TARN_BUSY stores, to which batches of a
// thousand resources are written TARN_ROUNDS times, and a transaction of as many, at
// a server of TARN_MEMORY_MIB. What it costs is told, not judged.
func TestBusyStores(t *testing.T) {
	t.Parallel()
	stores, rounds, memory := numberFrom(t, "TARN_BUSY", 10), numberFrom(t, "TARN_ROUNDS", 1), numberFrom(t, "TARN_MEMORY_MIB", 192)
	s := start(t, "--memory-mib", strconv.Itoa(memory))
	all := make([]*datastore, stores)
	for i := range all {
		all[i] = s.store(nil)
	}
	batch := batchOf(1000)
	transaction := strings.Replace(batch, `"batch"`, `"transaction"`, 1)
	var most peak
	var held int64
	for round := range rounds + 1 {
		body := batch
		if round == rounds { // last, as such a commit may take a larger memtable than there is room for
			body = transaction
		}
		before, err := s.CPU()
		s.must(err)
		next := make(chan *datastore)
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for d := range next {
					d.fhir("POST", "", body).want(200)
				}
			})
		}
		for _, d := range all {
			next <- d
			most.look(s)
			if round < rounds {
				held = max(held, s.memoryOf("bytes", "memtables"))
			}
		}
		close(next)
		writers.Wait()
		after, err := s.CPU()
		s.must(err)
		t.Logf("round %d: %v of processor time a store; at most %d MiB resident, %d of memtables", round, (after-before)/time.Duration(stores), most.memory>>20, held>>20)
	}
	room := s.memoryOf("room_bytes", "memtables")
	if held > room {
		t.Errorf("memtables took %d bytes, and may take %d", held, room)
	}
	await(t, "the closing of stores that crowd others behind large commits", func() bool { return s.memoryOf("bytes", "memtables") <= room })
	for _, d := range all {
		if n := d.total("Observation"); n != 1000 {
			t.Errorf("%d resources in a store that got 1000", n)
		}
	}
}
