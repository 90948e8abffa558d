package blackbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a server with a thousand data stores, ten of them busy, may hold.
const (
	manyMemory = 1 << 30 // bytes resident
	manyFiles  = 4096    // open files
	busyStores = 10
)

// numberFrom is a number of the environment, else a default.
func numberFrom(t testing.TB, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is not a count", variable, text)
	}
	return n
}

// openFiles counts the server's open files.
func (s *server) openFiles() int {
	s.t.Helper()
	found, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(s.PID()), "fd"))
	s.must(err)
	return len(found)
}

// peak keeps the most of what it is told.
type peak struct {
	memory int64
	files  int
}

func (p *peak) look(s *server) {
	s.t.Helper()
	now, err := s.Resident()
	s.must(err)
	p.memory, p.files = max(p.memory, now), max(p.files, s.openFiles())
}

// bundle is a batch of n observations with ids of their own.
func batchOf(n int) string {
	var b strings.Builder
	b.WriteString(`{"resourceType":"Bundle","type":"batch","entry":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"resource":{"resourceType":"Observation","id":"o%d","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"%d-%d"}]},"valueQuantity":{"value":%d,"unit":"mg"}},"request":{"method":"PUT","url":"Observation/o%d"}}`, i, i%50, i%9, i, i)
	}
	b.WriteString(`]}`)
	return b.String()
}

// Many data stores on one server, more than are open at once, ten of them busy
// and each of the others asked once, cold: all answer, and memory and open files
// keep within their bounds. TARN_STORES stores of TARN_STORE_RESOURCES resources;
// `make stores` has a thousand of each. How long a cold store took to answer is
// told, not judged.
func TestManyStores(t *testing.T) {
	t.Parallel()
	stores, resources := numberFrom(t, "TARN_STORES", 24), numberFrom(t, "TARN_STORE_RESOURCES", 20)
	maxOpen := min(64, stores/2)
	s := start(t, "--max-open", strconv.Itoa(maxOpen), "--idle-close", "2s")
	ids := make([]string, stores)
	var most peak
	batch := batchOf(resources)
	began := time.Now()
	for i := range ids {
		d := s.store(nil)
		d.fhir("POST", "", batch).want(200)
		ids[i] = d.id
		if i%10 == 0 {
			most.look(s)
		}
	}
	loaded := time.Since(began)
	quiet, err := s.CPU()
	s.must(err)
	var alone, cold []time.Duration // first answers: when nothing else is asked, and beside busy stores
	for i, id := range ids {
		before := time.Now()
		(&datastore{server: s, id: id}).get("/Observation/o" + strconv.Itoa(i%resources)).want(200)
		alone = append(alone, time.Since(before))
	}
	opening, err := s.CPU()
	s.must(err)
	enough := make(chan struct{})
	var busy sync.WaitGroup
	for b := range busyStores {
		d := &datastore{server: s, id: ids[b]}
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-enough:
					return
				default:
				}
				d.fhir("POST", "/Patient", fmt.Sprintf(`{"resourceType":"Patient","name":[{"family":"n%d"}]}`, n)).want(201)
				d.get("/Observation?code=7-7&_count=5").want(200)
			}
		})
	}
	for i, id := range ids[busyStores:] {
		d := &datastore{server: s, id: id}
		before := time.Now()
		d.get("/Observation/o" + strconv.Itoa(i%resources)).want(200)
		cold = append(cold, time.Since(before))
		most.look(s)
	}
	close(enough)
	busy.Wait()
	for _, id := range ids {
		if n := (&datastore{server: s, id: id}).total("Observation"); n != resources {
			t.Errorf("%d resources in a store that got %d", n, resources)
		}
	}
	most.look(s)
	slices.Sort(cold)
	slices.Sort(alone)
	t.Logf("%d stores of %d resources, made and filled in %v; %d open at once; first answer of a cold store beside ten busy ones: p50 %v, p99 %v; when nothing else is asked: p50 %v, p99 %v, %v of processor time each; at most %d MiB resident, %d open files",
		stores, resources, loaded.Round(time.Second), maxOpen, cold[len(cold)/2], cold[len(cold)*99/100], alone[len(alone)/2], alone[len(alone)*99/100], ((opening - quiet) / time.Duration(stores)).Round(time.Microsecond), most.memory>>20, most.files)
	if most.memory > manyMemory || most.files > manyFiles {
		t.Errorf("%d bytes resident, %d open files", most.memory, most.files)
	}
}
