package lsm_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// filled is a store with versions, deletions, purges and a cursor over several
// blocks, on a file system in memory.
func filled(t *testing.T, fs vfs.FS) (*lsm.Engine, *lsm.Store) {
	opts := memory(fs)
	opts.BlockRows, opts.Log = 64, discard
	e := engine(t, opts)
	s := made(t, e)
	for i := range 150 {
		if i == 100 {
			if err := s.Compact(t.Context()); err != nil { // what comes before is in sheets
				t.Fatal(err)
			}
		}
		key := patient(fmt.Sprint(i * 7 % 40))
		switch {
		case i%17 == 3:
			commit(t, s, store.Op{Kind: store.Delete, Key: key})
		case i%41 == 5:
			commit(t, s, store.Op{Kind: store.Purge, Key: key})
		default:
			commit(t, s, put(key, fmt.Sprintf(`{"n":%d}`, i), name(fmt.Sprint(i%5)), name("all")))
		}
	}
	im, err := s.Import(t.Context(), "im")
	if err != nil {
		t.Fatal(err)
	}
	p, err := im.Part(t.Context(), "part")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Add(t.Context(), []store.Op{put(patient("im"), "{}", name("all"))}, []byte("here")); err != nil {
		t.Fatal(err)
	}
	if err := im.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e, s
}

// reopen closes a store and opens it again, so that what was written behind its
// back is what it publishes.
func reopen(t *testing.T, e *lsm.Engine, s *lsm.Store) *lsm.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return opened(t, e)
}

func entries(t *testing.T, s *lsm.Store) map[string]string {
	t.Helper()
	all, err := s.Entries()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func flipped(v string) []byte {
	out := []byte(v)
	out[len(out)/2] ^= 0x10
	return out
}

// twisted is a container with another first row.
func twisted(v string) []byte {
	out := []byte(v)
	out[1] ^= 0x01
	return out
}

func removed(string) []byte { return nil }

func with(value ...byte) func(string) []byte { return func(string) []byte { return value } }

// One entry of each kind of key is damaged: check names its part, and repair
// makes the store what it was, wherever the damage can be mended.
func TestCheckNamesDamage(t *testing.T) {
	for _, c := range []struct {
		part   string
		damage string
		key    string // damaged is the first key with this prefix; of none, the prefix itself is made
		how    func(string) []byte
		lost   bool // nothing can mend it
		anew   bool // it is mended in another form
		note   bool // damaged is a note that a row of a sheet has no facts any more
	}{
		{"body", "a bit", "\x01", flipped, true, false, false},
		{"body", "not a row", "\x01", with(1, 2, 3), true, false, false},
		{"pointer", "missing", "\x02", removed, false, false, false},
		{"pointer", "leads elsewhere", "\x02", flipped, false, false, false},
		{"pointer", "not a pointer", "\x02", with(9), false, false, false},
		{"pointer", "a wrong key", "\x02short", with(9), false, false, false},
		{"pointer", "of nobody", "\x020123456789abcdef", with(0, 0, 0, 0, 0, 1, 0, 1, 0, 0), false, false, false},
		{"history", "missing", "\x03", removed, false, false, false},
		{"history", "leads elsewhere", "\x03", with(0, 0, 0, 0, 0, 1), false, false, false},
		{"history", "not a row", "\x03", with(1), false, false, false},
		{"history", "of nobody", "\x030123456789abcdef01234567", with(0, 0, 0, 0, 0, 1), false, false, false},
		{"index", "missing", "\x04", removed, false, false, false},
		{"index", "another row", "\x04", twisted, false, false, false},
		{"index", "not a container", "\x04", with(7, 7), false, false, false},
		{"index", "a value of nobody", "\x04\x00\x00\x00\x07ghost\x00\xff\xff\xff\xff", with(0, 1, 0), false, false, false},
		{"index", "a wrong key", "\x04\x00\x00", with(0, 1, 0), false, false, false},
		{"dead", "missing", "\x06", removed, false, false, false},
		{"dead", "another row", "\x06", twisted, false, false, false},
		{"successor", "missing", "\x07", removed, false, false, false},
		{"successor", "leads elsewhere", "\x07", with(0, 0, 0, 0, 0, 1), false, false, false},
		{"successor", "of nobody", "\x07\x00\x00\x00\x00\xff\xff", with(0, 0, 0, 0, 0, 1), false, false, false},
		{"type", "missing", "\x08", removed, false, false, false},
		{"type", "another row", "\x08", twisted, false, false, false},
		{"facts", "missing", "\x09", removed, false, false, false},
		{"facts", "another resource's", "\x09", func(v string) []byte { return append(bytes.Repeat([]byte{1}, 16), v[16:]...) }, false, false, false},
		{"facts", "cut short", "\x09", func(v string) []byte { return []byte(v[:len(v)-2]) }, false, false, false},
		{"facts", "of nobody", "\x09\x00\x00\x00\x00\xff\xff", func(string) []byte { return make([]byte, 16) }, false, false, false},
		{"sheet", "not a sheet", "\x0a", with(9), false, true, false},
		{"sheet", "over another", "\x0a\x00\x00\x00\x00\x00\x00", with(1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff), false, true, false},
		{"sheet", "has what was purged", "\x09", removed, false, false, true},
		{"facts", "lost with their sheet", "\x0a", removed, false, true, false},
		{"meta", "a cursor", "\x0fI", with(7), true, false, false},
		{"meta", "of no kind", "\x0fz", with(1), true, false, false},
		{"unknown keyspace", "a key", "\x0b1", with(1), false, false, false},
	} {
		t.Run(c.part+"/"+c.damage, func(t *testing.T) {
			e, s := filled(t, vfs.NewMem())
			was := entries(t, s)
			key := c.key
			for _, k := range slices.Sorted(maps.Keys(was)) {
				if note := was[k] == "\x00"; strings.HasPrefix(k, c.key) && note == c.note {
					key = k
					break
				}
			}
			if err := s.Edit([]byte(key), c.how(was[key])); err != nil {
				t.Fatal(err)
			}
			s = reopen(t, e, s)
			report, err := s.Check(t.Context())
			if err != nil || !slices.ContainsFunc(report.Problems, func(p store.Problem) bool { return p.Part == c.part }) {
				t.Fatalf("check found %v, %v", report.Problems, err)
			}
			report, err = s.Repair(t.Context())
			if err != nil || report.Sound() == c.lost {
				t.Fatalf("repair left %v, %v", report.Problems, err)
			}
			if c.lost {
				return
			}
			mustCheck(t, reopen(t, e, s))
			if now := entries(t, e.Only()); !c.anew && !maps.Equal(was, now) || report.Mended == 0 {
				t.Errorf("%d entries were written; these differ: %x", report.Mended, differing(was, now))
			}
		})
	}
}

func differing(a, b map[string]string) (keys []string) {
	for k, v := range a {
		if b[k] != v {
			keys = append(keys, k)
		}
	}
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	return keys
}

// A flipped bit in a table is found by its checksum, and named with its file.
func TestCheckReadsFiles(t *testing.T) {
	fs := vfs.NewMem()
	e, s := filled(t, fs)
	random := rand.NewChaCha8([32]byte{}) // what does not compress fills several blocks
	for i := range 100 {
		var body [1000]byte
		random.Read(body[:])
		commit(t, s, put(patient(fmt.Sprint("r", i)), string(body[:]), name("random")))
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	table := largestTable(t, fs, "data/s/db") // of rows, of which only the last is read at open
	flipInFile(t, fs, "data/s/db/"+table, 200)
	report, err := opened(t, e).Check(t.Context())
	if err != nil || !slices.ContainsFunc(report.Problems, func(p store.Problem) bool {
		return p.Part == "file" && strings.Contains(p.What, table)
	}) {
		t.Errorf("%v, %v", report.Problems, err)
	}
}

func largestTable(t *testing.T, fs vfs.FS, dir string) (largest string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	most := int64(0)
	for _, name := range names {
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".sst") && info.Size() > most {
			largest, most = name, info.Size()
		}
	}
	return largest
}

func flipInFile(t *testing.T, fs vfs.FS, name string, at int) {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	raw[at] ^= 1
	f, err = fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(raw); err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// A row put into another's place verifies no more: its MAC binds it to its
// resource and version.
func TestSwappedValuesAreFound(t *testing.T) {
	e, s := filled(t, vfs.NewMem())
	was := entries(t, s)
	var rows []string
	for _, k := range slices.Sorted(maps.Keys(was)) {
		if k[0] == 1 {
			rows = append(rows, k)
		}
	}
	// The bodies of two rows, behind headers of one length, change places.
	a, b := was[rows[0]], was[rows[1]]
	cut := len(a) - 16 - len(`{"n":0}`)
	if len(a) != len(b) {
		t.Fatalf("rows of %d and %d bytes", len(a), len(b))
	}
	if err := s.Edit([]byte(rows[0]), []byte(a[:cut]+b[cut:])); err != nil {
		t.Fatal(err)
	}
	if err := s.Edit([]byte(rows[1]), []byte(b[:cut]+a[cut:])); err != nil {
		t.Fatal(err)
	}
	report, err := reopen(t, e, s).Check(t.Context())
	found := 0
	for _, p := range report.Problems {
		if p.Part == "body" && strings.Contains(p.What, "does not verify") {
			found++
		}
	}
	if err != nil || found != 2 {
		t.Errorf("%v, %v", report.Problems, err)
	}
}
