package lsm_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// A store whose files were damaged anywhere refuses to be opened, or answers rightly or
// not at all, and check says so; never a wrong answer, never a panic. One thing nobody
// can see: damage near the end of a log that a crash left, and a manifest that is cut
// short behind what the store had when it was closed, look like what a crash leaves. Of
// the log only what was written last may be missing then.
//
// TARN_DAMAGE_ROUNDS and TARN_DAMAGE_SEED make it longer and other.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	rounds, seed := number(t, "TARN_DAMAGE_ROUNDS", 40), number(t, "TARN_DAMAGE_SEED", 1)
	closed := t.TempDir()
	truth, killed := undamaged(t, closed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	outcomes := map[string]int{}
	for round := range rounds {
		whole := [...]string{closed, killed}[round%2]
		files := filesOf(t, filepath.Join(whole, "s"))
		file := files[random.IntN(len(files))]
		how := damages[random.IntN(len(damages))]
		name := fmt.Sprintf("round %d of seed %d: %s %s", round, seed, how.name, file)
		root := t.TempDir()
		if err := os.CopyFS(root, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, "s", file)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		was := bytes.Clone(raw)
		if raw = how.do(random, raw); raw == nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if raw != nil && bytes.Equal(was, raw) {
			continue
		}
		outcomes[examineDamaged(t, name, root, truth.around(file, whole == killed))]++
	}
	t.Log(outcomes)
}

// number is a setting of the environment.
func number(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// damages are what may become of a file's bytes; nil: the file is gone.
var damages = []struct {
	name string
	do   func(*rand.Rand, []byte) []byte
}{
	{"a bit of", func(r *rand.Rand, b []byte) []byte {
		if len(b) > 0 {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		return b
	}},
	{"a run of zeros in", func(r *rand.Rand, b []byte) []byte {
		if len(b) > 0 {
			at := r.IntN(len(b))
			clear(b[at:min(len(b), at+4096)])
		}
		return b
	}},
	{"a cut of", func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(len(b)+1)] }},
	{"more behind", func(r *rand.Rand, b []byte) []byte { return append(b, "more than there was"...) }},
	{"the loss of", func(*rand.Rand, []byte) []byte { return nil }},
}

// truths are what a store answered when it was whole.
type truths struct {
	bodies map[plan.Key]string
	counts map[string]int64
	log    bool // what was written last may be missing
	end    bool // whatever came late may be missing
}

// lastWritten begins the ids of what is in the log only, and lastTerm finds them.
const lastWritten, lastTerm = "late-", "beside"

// around is what must hold when this file was damaged.
func (t truths) around(file string, killed bool) truths {
	t.log = strings.HasSuffix(file, ".log")
	t.end = killed && strings.HasPrefix(filepath.Base(file), "MANIFEST-")
	return t
}

var damagedTerms = []string{"import0", "import1", lastTerm, "0", "1"}

// undamaged makes a store with tables of imports and commits, and what is in the log
// only; killed is a copy of it as a crash would leave it.
func undamaged(t *testing.T, root string) (truth truths, killed string) {
	t.Helper()
	e := engine(t, lsm.Options{Root: root, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, Log: discard})
	e.TakeEveryWay()
	s := scattered(t, e)
	for i := range 30 {
		commit(t, s, put(patient(fmt.Sprint(lastWritten, i)), "late", name(lastTerm)))
	}
	truth = truths{bodies: map[plan.Key]string{}, counts: map[string]int64{}}
	v := viewed(t, s, "")
	page, err := v.Search(t.Context(), &plan.Plan{Arms: []plan.Arm{{Type: 1}}, Limit: 10000})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page.Records {
		truth.bodies[r.Key] = string(r.Body)
	}
	for _, term := range damagedTerms {
		truth.counts[term] = countTerm(t, v, term)
	}
	if len(truth.bodies) < 100 {
		t.Fatalf("%d resources are no test", len(truth.bodies))
	}
	killed = copyOfOneMoment(t, root)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return truth, killed
}

// copyOfOneMoment copies the folder of an open store, in which compactions may be under
// way: again, until they wrote and removed nothing meanwhile.
func copyOfOneMoment(t *testing.T, root string) string {
	t.Helper()
	for {
		before, to := sizesOf(root), t.TempDir()
		err := os.CopyFS(to, os.DirFS(root))
		if after := sizesOf(root); before != "" && before == after {
			if err != nil {
				t.Fatal(err)
			}
			return to
		}
	}
}

// sizesOf lists a folder's files with their sizes; "" when one went meanwhile.
func sizesOf(root string) string {
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&all, path, info.Size())
		}
		return err
	})
	if err != nil {
		return ""
	}
	return all.String()
}

func countTerm(t *testing.T, v store.View, term string) int64 {
	t.Helper()
	n, err := v.Count(t.Context(), termPlan(term))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func termPlan(term string) *plan.Plan {
	return &plan.Plan{Arms: []plan.Arm{{Type: 1, Where: plan.Term(name(term))}}}
}

func filesOf(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var name string
			name, err = filepath.Rel(root, path)
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

// examineDamaged opens a damaged store and compares what it says with the truth.
func examineDamaged(t *testing.T, name, root string, truth truths) string {
	t.Helper()
	ended := false
	e, err := lsm.New(lsm.Options{Root: root, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, Log: discard, Exit: func() {
		ended = true
		runtime.Goexit()
	}})
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan store.Store, 1)
	go func() {
		defer close(opened)
		s, err := e.Open(t.Context(), "s", testKey(t))
		if err == nil {
			opened <- s
		}
	}()
	s := <-opened
	if ended {
		t.Errorf("%s: the process would have ended", name)
		return "ended"
	}
	if s == nil {
		_ = e.Close()
		return "not opened"
	}
	defer func() { _ = e.Close() }() // what is damaged may be told again
	wrong, refused := compareDamaged(t, s, truth)
	report, err := s.(*lsm.Store).Check(t.Context())
	found := err != nil || len(report.Problems) > 0
	switch {
	case len(wrong) > 0:
		t.Errorf("%s: %d wrong answers, as %s; check found something: %v", name, len(wrong), wrong[0], found)
		return "wrong"
	case refused > 0 && !found:
		t.Errorf("%s: %d answers refused, and check found nothing", name, refused)
	case found:
		return "found by check"
	}
	return "without effect"
}

// compareDamaged lists wrong answers and counts those that were refused.
func compareDamaged(t *testing.T, s store.Store, truth truths) (wrong []string, refused int) {
	t.Helper()
	v, err := s.View(t.Context(), "")
	if err != nil {
		return nil, 1
	}
	defer v.Close()
	for key, body := range truth.bodies {
		r, err := v.Get(t.Context(), key)
		switch {
		case fault.Is(err, fault.NotFound) && (truth.end || truth.log && strings.HasPrefix(key.ID, lastWritten)):
		case fault.Is(err, fault.NotFound):
			wrong = append(wrong, key.ID+" is not found")
		case err != nil:
			refused++
		case string(r.Body) != body:
			wrong = append(wrong, key.ID+" has another body")
		}
	}
	for term, want := range truth.counts {
		n, err := v.Count(t.Context(), termPlan(term))
		switch {
		case err != nil:
			refused++
		case n < want && (truth.end || truth.log && term == lastTerm):
		case n != want:
			wrong = append(wrong, fmt.Sprintf("%d have %s, want %d", n, term, want))
		}
	}
	return wrong, refused
}

// A manifest that was cut short anywhere is refused, or had nothing to tell behind the
// cut; the tables that it does not name any more stay where they are.
func TestCutManifest(t *testing.T) {
	t.Parallel()
	closed := t.TempDir()
	truth, _ := undamaged(t, closed)
	manifests, err := filepath.Glob(filepath.Join(closed, "s", "db", "MANIFEST-*"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("%v, %v", manifests, err)
	}
	raw, err := os.ReadFile(manifests[0])
	if err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(closed, "s", "db", "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	const cuts = 25
	for i := range cuts {
		root := t.TempDir()
		if err := os.CopyFS(root, os.DirFS(closed)); err != nil {
			t.Fatal(err)
		}
		cut := len(raw) * i / cuts
		if err := os.WriteFile(filepath.Join(root, "s", "db", filepath.Base(manifests[0])), raw[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if examineDamaged(t, fmt.Sprintf("a manifest of %d bytes instead of %d", cut, len(raw)), root, truth) != "not opened" {
			continue
		}
		refused++
		for _, table := range tables {
			if _, err := os.Stat(filepath.Join(root, "s", "db", filepath.Base(table))); err != nil {
				t.Errorf("a manifest of %d bytes: %v", cut, err)
			}
		}
	}
	if refused < cuts/2 {
		t.Errorf("%d of %d were refused", refused, cuts)
	}
}

// A database whose marker is lost is refused and left as it is, however much else is there.
func TestLostMarker(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	opts := lsm.Options{Root: root, Log: discard}
	e := engine(t, opts)
	s := made(t, e)
	commit(t, s, put(patient("a"), "{}"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	markers, err := filepath.Glob(filepath.Join(root, "s", "db", "marker.manifest.*"))
	if err != nil || len(markers) != 1 {
		t.Fatalf("%v, %v", markers, err)
	}
	if err := os.Remove(markers[0]); err != nil {
		t.Fatal(err)
	}
	before := filesOf(t, filepath.Join(root, "s"))
	if _, err := e.Open(t.Context(), "s", testKey(t)); err == nil || !strings.Contains(err.Error(), "manifest") {
		t.Errorf("opened as if it was empty: %v", err)
	}
	if after := filesOf(t, filepath.Join(root, "s")); !slices.Equal(before, after) {
		t.Errorf("files were %v and are %v", before, after)
	}
	if err := os.WriteFile(markers[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := count(t, opened(t, e), nil); n != 1 {
		t.Errorf("%d resources, want 1", n)
	}
}
