package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tarn-fhir/tarn/internal/fault"
	"pgregory.net/rapid"
)

func write(t testing.TB, fs vfs.FS, name string, pieces ...[]byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pieces {
		if n, err := f.Write(bytes.Clone(p)); n != len(p) || err != nil { // MemFS may change it
			t.Fatalf("wrote %d of %d bytes: %v", n, len(p), err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func read(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(f)
	return content, errors.Join(err, f.Close())
}

func mustRead(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	content, err := read(fs, name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return content
}

// A sealed FS and a plain one, given the same random operations, show the same.
func TestFSIsAPlainFSToItsUser(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := vfs.NewMem()
		sealed := NewFS(vfs.NewMem(), testRapidKey(t))
		both := [2]vfs.FS{plain, sealed}
		name := rapid.SampledFrom([]string{"a", "b", "c", "d/e"})
		sizes := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 300), rapid.IntRange(0, 300), rapid.IntRange(0, 5000))
		agree := func(what string, do func(vfs.FS) (string, error)) {
			want, wantErr := do(plain)
			got, gotErr := do(sealed)
			if (wantErr == nil) != (gotErr == nil) || want != got {
				t.Fatalf("%s: sealed %.80q, %v; plain %.80q, %v", what, got, gotErr, want, wantErr)
			}
		}
		for _, fs := range both {
			if err := fs.MkdirAll("d", 0o755); err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				n := name.Draw(t, "name")
				count := rapid.IntRange(0, 4).Draw(t, "writes")
				var pieces [][]byte
				for range count {
					piece := make([]byte, sizes.Draw(t, "size"))
					fill(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), piece)
					pieces = append(pieces, piece)
				}
				reuse := rapid.Bool().Draw(t, "reuse")
				agree("create", func(fs vfs.FS) (string, error) { return "", fillFile(fs, n, reuse, pieces) })
			},
			"rename": func(t *rapid.T) {
				from, to := name.Draw(t, "from"), name.Draw(t, "to")
				agree("rename", func(fs vfs.FS) (string, error) { return "", fs.Rename(from, to) })
			},
			"link": func(t *rapid.T) {
				from, to := name.Draw(t, "from"), name.Draw(t, "to")
				agree("link", func(fs vfs.FS) (string, error) { return "", fs.Link(from, to) })
			},
			"copy": func(t *rapid.T) {
				from, to := name.Draw(t, "from"), name.Draw(t, "to")
				if from != to {
					agree("copy", func(fs vfs.FS) (string, error) { return "", vfs.Copy(fs, from, to) })
				}
			},
			"remove": func(t *rapid.T) {
				n := name.Draw(t, "name")
				agree("remove", func(fs vfs.FS) (string, error) { return "", fs.Remove(n) })
			},
			"read at": func(t *rapid.T) {
				n, at, size := name.Draw(t, "name"), rapid.Int64Range(0, 6000).Draw(t, "at"), sizes.Draw(t, "size")
				agree("read at", func(fs vfs.FS) (string, error) { return readPart(fs, n, at, size) })
			},
			"": func(t *rapid.T) {
				for _, n := range []string{"a", "b", "c", "d/e"} {
					agree("read "+n, func(fs vfs.FS) (string, error) { c, err := read(fs, n); return string(c), err })
					agree("stat "+n, func(fs vfs.FS) (string, error) { return statSize(fs, n) })
				}
				agree("list", func(fs vfs.FS) (string, error) {
					names, err := fs.List("")
					slices.Sort(names)
					return strings.Join(names, " "), err
				})
			},
		})
	})
}

func testRapidKey(t *rapid.T) DataKey {
	key, err := DataKeyFrom(bytes.Repeat([]byte{1}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// fillFile creates a file, over another one when reuse is set and it is there,
// and checks each write through a second handle.
func fillFile(fs vfs.FS, name string, reuse bool, pieces [][]byte) error {
	create := func() (vfs.File, error) { return fs.Create(name, vfs.WriteCategoryUnspecified) }
	if _, err := fs.Stat("a"); reuse && err == nil && name != "a" {
		create = func() (vfs.File, error) { return fs.ReuseForWrite("a", name, vfs.WriteCategoryUnspecified) }
		if f, err := fs.Create("a", vfs.WriteCategoryUnspecified); err != nil || f.Close() != nil {
			return errors.New("cannot empty a")
		}
	}
	f, err := create()
	if err != nil {
		return err
	}
	reader, err := fs.Open(name)
	if err != nil {
		return err
	}
	var all []byte
	for _, piece := range pieces {
		if n, err := f.Write(bytes.Clone(piece)); n != len(piece) || err != nil { // MemFS may change it
			return errors.Join(fmt.Errorf("wrote %d of %d", n, len(piece)), err)
		}
		all = append(all, piece...)
		seen := make([]byte, len(all)+1)
		if n, err := reader.ReadAt(seen, 0); err != io.EOF || !bytes.Equal(seen[:n], all) {
			return errors.Join(fmt.Errorf("a second handle reads %d bytes of %d", n, len(all)), err)
		}
		if stat, err := f.Stat(); err != nil || stat.Size() != int64(len(all)) {
			return errors.Join(fmt.Errorf("stat: %v", stat), err)
		}
	}
	return errors.Join(f.Sync(), f.Close(), reader.Close())
}

func readPart(fs vfs.FS, name string, at int64, size int) (string, error) {
	f, err := fs.Open(name)
	if err != nil {
		return "", err
	}
	p := make([]byte, size)
	n, err := f.ReadAt(p, at)
	if err == io.EOF || size == 0 { // MemFS and files differ on empty reads at the end
		err = nil
	}
	return string(p[:n]), errors.Join(err, f.Close())
}

func statSize(fs vfs.FS, name string) (string, error) {
	stat, err := fs.Stat(name)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(stat.Size(), stat.IsDir()), nil
}

func TestFSHidesContent(t *testing.T) {
	base := vfs.NewMem()
	fs := NewFS(base, testKey(t, 1))
	secret := []byte("Dooley940 Abdul218, born 1969-07-20, HIV positive. ")
	content := bytes.Repeat(secret, 5000)
	write(t, fs, "one", content)
	write(t, fs, "two", content)
	if err := errors.Join(vfs.Copy(fs, "one", "copy"), fs.Link("one", "link")); err != nil {
		t.Fatal(err)
	}
	raw := map[string][]byte{}
	for _, name := range []string{"one", "two", "copy", "link"} {
		if !bytes.Equal(mustRead(t, fs, name), content) {
			t.Errorf("%s reads wrong", name)
		}
		raw[name] = mustRead(t, base, name)
		if len(raw[name]) != len(content)+headerSize {
			t.Errorf("%s has %d raw bytes", name, len(raw[name]))
		}
		for n := 4; n <= len(secret); n++ {
			if bytes.Contains(raw[name], secret[:n]) {
				t.Errorf("%s holds %q in the clear", name, secret[:n])
			}
		}
	}
	if !bytes.Equal(raw["one"], raw["link"]) {
		t.Error("a link is another file")
	}
	for _, pair := range [][2]string{{"one", "two"}, {"one", "copy"}, {"two", "copy"}} {
		a, b := raw[pair[0]], raw[pair[1]]
		if bytes.Equal(a[saltAt:checkAt], b[saltAt:checkAt]) || equalBytes(a[headerSize:], b[headerSize:]) > len(content)/100 {
			t.Errorf("%s and %s look alike", pair[0], pair[1])
		}
	}
	if repeats(raw["one"][headerSize:], len(secret)) > len(content)/100 {
		t.Error("the repetition of the content shows")
	}
}

func equalBytes(a, b []byte) (n int) {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			n++
		}
	}
	return n
}

func repeats(p []byte, distance int) int { return equalBytes(p, p[distance:]) }

func TestFSWritesInChunks(t *testing.T) {
	for _, size := range []int{chunk - 1, chunk, chunk + 1, 2 * chunk, 3*chunk + 17} {
		fs := NewFS(vfs.NewMem(), testKey(t, 1))
		content := make([]byte, size)
		fill(rand.New(rand.NewPCG(uint64(size), 0)), content)
		write(t, fs, "f", content[:5], content[5:])
		if !bytes.Equal(mustRead(t, fs, "f"), content) {
			t.Errorf("%d bytes read back otherwise", size)
		}
	}
}

func TestFSReuseDrawsANewSalt(t *testing.T) {
	base := vfs.NewMem()
	fs := NewFS(base, testKey(t, 1))
	write(t, fs, "old.log", make([]byte, 1000))
	old := mustRead(t, base, "old.log")
	f, err := fs.ReuseForWrite("old.log", "new.log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	reused := mustRead(t, base, "new.log")
	if len(reused) != 500+headerSize || equalBytes(old[headerSize:], reused[headerSize:]) > 50 {
		t.Error("the keystream was used twice")
	}
	if _, err := fs.Stat("old.log"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old file: %v", err)
	}
	if _, err := fs.ReuseForWrite("none", "x", vfs.WriteCategoryUnspecified); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reuse of nothing: %v", err)
	}
}

func TestFSIsWriteOnce(t *testing.T) {
	fs := NewFS(vfs.NewMem(), testKey(t, 1))
	write(t, fs, "f", []byte("content"))
	if _, err := fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified); !errors.Is(err, vfs.ErrUnsupported) {
		t.Errorf("OpenReadWrite: %v", err)
	}
	f, err := fs.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); !errors.Is(err, vfs.ErrUnsupported) {
		t.Errorf("Write to a file opened for reading: %v", err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, vfs.ErrUnsupported) {
		t.Errorf("WriteAt: %v", err)
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset was read")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if string(mustRead(t, fs, "f")) != "content" {
		t.Error("the file changed")
	}
}

// A created file may be read too where the base allows it: files do, MemFS not.
func TestFSReadsWhatItWrites(t *testing.T) {
	f, err := NewFS(vfs.Default, testKey(t, 1)).Create(filepath.Join(t.TempDir(), "f"), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("of an empty file it reads %d bytes, %v", n, err)
	}
	content := []byte("what is written may be read")
	for i := range content {
		if _, err := f.Write(content[i : i+1]); err != nil {
			t.Fatal(err)
		}
		seen := make([]byte, len(content)+1)
		if n, err := f.ReadAt(seen, 0); err != io.EOF || !bytes.Equal(seen[:n], content[:i+1]) {
			t.Fatalf("after %d bytes it reads %q, %v", i+1, seen[:n], err)
		}
	}
	if all, err := io.ReadAll(f); err != nil || !bytes.Equal(all, content) {
		t.Errorf("it reads %q, %v", all, err)
	}
	if string(content) != "what is written may be read" {
		t.Errorf("Write changed its argument to %q", content)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFSWrongKey(t *testing.T) {
	base := vfs.NewMem()
	write(t, NewFS(base, testKey(t, 1)), "f", []byte("content"))
	f, err := NewFS(base, testKey(t, 2)).Open("f")
	if !fault.Is(err, fault.Forbidden) || f != nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("under another key: %v, %v", f, err)
	}
}

func TestFSWipe(t *testing.T) {
	base := vfs.NewMem()
	key := testKey(t, 1)
	fs := NewFS(base, key)
	key.Wipe()
	write(t, fs, "f", []byte("content"))
	fs.Wipe()
	fs.Wipe()
	if _, err := fs.Open("f"); !fault.Is(err, fault.Forbidden) {
		t.Errorf("Open: %v", err)
	}
	if _, err := fs.Create("g", vfs.WriteCategoryUnspecified); !fault.Is(err, fault.Forbidden) {
		t.Errorf("Create: %v", err)
	}
	if fs.files != [KeySize]byte{} {
		t.Error("the key is still there")
	}
	if got := mustRead(t, NewFS(base, testKey(t, 1)), "f"); string(got) != "content" {
		t.Errorf("a new FS reads %q", got)
	}
}

func TestFSDamagedHeaderIsRefused(t *testing.T) {
	base := vfs.NewMem()
	fs := NewFS(base, testKey(t, 1))
	write(t, fs, "f", []byte("content"))
	good := mustRead(t, base, "f")
	for at := range headerSize {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << bit
			write(t, base, "f", bad)
			if content, err := read(fs, "f"); !fault.Is(err, fault.Internal) {
				t.Fatalf("byte %d, bit %d: %q, %v", at, bit, content, err)
			}
		}
	}
}

// headerWith makes a header, changed by f, with its checksum made right again.
func headerWith(t *testing.T, files *[KeySize]byte, change func(h *header)) []byte {
	t.Helper()
	h, err := newHeader(files, rand.NewChaCha8([32]byte{}))
	if err != nil {
		t.Fatal(err)
	}
	change(h)
	crc := h.crc()
	h[crcAt], h[crcAt+1], h[crcAt+2], h[crcAt+3] = byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc)
	return h[:]
}

// Whoever mends the checksum still needs the key: all but length and reserved
// words are under the check.
func TestFSForgedHeaderIsRefused(t *testing.T) {
	base, key := vfs.NewMem(), testKey(t, 1)
	fs := NewFS(base, key)
	files := key.Derive(filesLabel)
	for _, c := range []struct {
		name   string
		change func(h *header)
		kind   fault.Kind
	}{
		{"magic", func(h *header) { h[0]++ }, fault.Internal},
		{"format", func(h *header) { h[9] = 2 }, fault.NotSupported},
		{"length", func(h *header) { h[11]++ }, fault.Internal},
		{"salt", func(h *header) { h[saltAt]++ }, fault.Forbidden},
		{"check", func(h *header) { h[checkAt]++ }, fault.Forbidden},
		{"last byte", func(h *header) { h[headerSize-1]++ }, fault.Forbidden},
	} {
		write(t, base, "f", headerWith(t, &files, c.change), []byte("content"))
		if content, err := read(fs, "f"); !fault.Is(err, c.kind) {
			t.Errorf("%s: %q, %v", c.name, content, err)
		}
	}
	write(t, base, "f", headerWith(t, &files, func(*header) {}), []byte("content"))
	if content, err := read(fs, "f"); err != nil || len(content) != 7 {
		t.Errorf("unchanged: %q, %v", content, err)
	}
}

func TestFSTornCreationReadsAsEmpty(t *testing.T) {
	base := vfs.NewMem()
	fs := NewFS(base, testKey(t, 1))
	write(t, fs, "f", []byte("content"))
	whole := mustRead(t, base, "f")
	for n := range headerSize + 1 {
		for _, rest := range [][]byte{whole[:n], make([]byte, n)} {
			write(t, base, "f", rest)
			if content, err := read(fs, "f"); err != nil || len(content) != 0 {
				t.Errorf("%d bytes %x…: %q, %v", n, rest[:min(n, 4)], content, err)
			}
			if size, err := statSize(fs, "f"); err != nil || size != "0 false" {
				t.Errorf("%d bytes: size %s, %v", n, size, err)
			}
		}
	}
	for name, raw := range map[string][]byte{
		"plain text":         []byte("MANIFEST-000001\n"),
		"one other byte":     {1},
		"zeros with content": make([]byte, headerSize+1),
		"long zeros":         make([]byte, 5000),
	} {
		write(t, base, "f", raw)
		if content, err := read(fs, "f"); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
}

func TestFSEmptyFilesStayEmpty(t *testing.T) {
	base := vfs.NewMem()
	fs := NewFS(base, testKey(t, 1))
	write(t, fs, "marker", nil, []byte{})
	if raw := mustRead(t, base, "marker"); len(raw) != 0 {
		t.Errorf("an empty file has %d bytes", len(raw))
	}
	if content := mustRead(t, fs, "marker"); len(content) != 0 {
		t.Errorf("it reads %q", content)
	}
	lock, err := fs.Lock("LOCK")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Lock("LOCK"); err == nil {
		t.Error("locked twice")
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if raw := mustRead(t, base, "LOCK"); len(raw) != 0 {
		t.Errorf("LOCK has %d bytes", len(raw))
	}
}

// The header is on disk before any content: so that a file without a header is
// an empty file.
func TestFSHeaderComesFirst(t *testing.T) {
	base := vfs.NewCrashableMem()
	fs := NewFS(base, testKey(t, 1))
	content := make([]byte, 40_000)
	f, err := fs.Create("wal", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := fs.OpenDir("")
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content[:20_000]); err != nil {
		t.Fatal(err)
	}
	crashed := base.CrashClone(vfs.CrashCloneCfg{})
	if raw := mustRead(t, crashed, "wal"); len(raw) != headerSize {
		t.Errorf("after a crash before the first sync there are %d bytes", len(raw))
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content[20_000:]); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(50) {
		crashed := base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 0))})
		got := mustRead(t, NewFS(crashed, testKey(t, 1)), "wal")
		if len(got) < 20_000 || !bytes.Equal(got[:20_000], content[:20_000]) {
			t.Fatalf("seed %d: what was synced is lost", seed)
		}
	}
	if err := errors.Join(f.Close(), dir.Close()); err != nil {
		t.Fatal(err)
	}
}

// faultyFS makes files that fail the write in which byte number failAt stands,
// or the sync of that number, after taking part of it.
type faultyFS struct {
	vfs.FS
	failAt     int64
	failSync   int
	log        []string
	shortWrite bool
}

func (f *faultyFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	return &faultyFile{File: file, fs: f}, err
}

type faultyFile struct {
	vfs.File
	fs   *faultyFS
	at   int64
	sync int
}

var errDisk = errors.New("disk trouble")

func (f *faultyFile) Write(p []byte) (int, error) {
	if left := f.fs.failAt - f.at; f.fs.failAt > 0 && left < int64(len(p)) {
		n, err := f.File.Write(p[:max(0, left)])
		f.at += int64(n)
		f.fs.failAt = 0 // once only: going on would succeed
		if f.fs.shortWrite {
			return n, err
		}
		return n, errors.Join(err, errDisk)
	}
	n, err := f.File.Write(p)
	f.at += int64(n)
	return n, err
}

func (f *faultyFile) SyncData() error {
	if f.sync++; f.sync == f.fs.failSync {
		return errDisk
	}
	return f.File.SyncData()
}

func (f *faultyFile) Preallocate(offset, length int64) error {
	f.fs.log = append(f.fs.log, fmt.Sprint("preallocate ", offset, length))
	return nil
}

func (f *faultyFile) SyncTo(length int64) (bool, error) {
	f.fs.log = append(f.fs.log, fmt.Sprint("sync to ", length))
	return false, nil
}

func (f *faultyFile) Prefetch(offset, length int64) error {
	f.fs.log = append(f.fs.log, fmt.Sprint("prefetch ", offset, length))
	return nil
}

func (f *faultyFile) Fd() uintptr { return 42 }

func TestFSOffsetsAreShifted(t *testing.T) {
	base := &faultyFS{FS: vfs.NewMem()}
	f, err := NewFS(base, testKey(t, 1)).Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, syncErr := f.SyncTo(4096)
	if err := errors.Join(f.Preallocate(0, 1000), f.Prefetch(32, 10), syncErr, f.Close()); err != nil {
		t.Fatal(err)
	}
	want := []string{"sync to 4160", "prefetch 96 10"} // and nothing is reserved
	if !slices.Equal(base.log, want) {
		t.Errorf("asked for %q, want %q", base.log, want)
	}
	if f.Fd() != 42 {
		t.Errorf("descriptor %d", f.Fd())
	}
}

func TestFSFailedWritePoisonsTheFile(t *testing.T) {
	for _, c := range []struct {
		name    string
		base    faultyFS
		written int
	}{
		{"nothing of the header", faultyFS{failAt: 0, failSync: 1}, 0},
		{"part of the header", faultyFS{failAt: 10}, 0},
		{"short header without error", faultyFS{failAt: 10, shortWrite: true}, 0},
		{"first byte", faultyFS{failAt: headerSize}, 0},
		{"part of the content", faultyFS{failAt: headerSize + 100}, 100},
		{"short without error", faultyFS{failAt: headerSize + 100, shortWrite: true}, 100},
		{"in the second chunk", faultyFS{failAt: headerSize + chunk + 5}, chunk + 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := vfs.NewMem()
			c.base.FS = mem
			fs := NewFS(&c.base, testKey(t, 1))
			f, err := fs.Create("f", vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			content := bytes.Repeat([]byte{7}, 2*chunk)
			n, err := f.Write(content)
			if n != c.written || err == nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			if _, err := f.Write([]byte("other bytes in the same place")); !errors.Is(err, ErrPoisoned) {
				t.Fatalf("the next write: %v", err)
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Fatal(err)
			}
			if got := mustRead(t, fs, "f"); !bytes.Equal(got, content[:c.written]) {
				t.Errorf("it holds %d bytes", len(got))
			}
		})
	}
}

func TestKeystreamFromAnyPlace(t *testing.T) {
	files := keyOf(4)
	h, err := newHeader(&files, rand.NewChaCha8([32]byte{}))
	if err != nil {
		t.Fatal(err)
	}
	k, err := h.keystream(&files)
	if err != nil {
		t.Fatal(err)
	}
	whole := make([]byte, 300)
	k.xor(whole, whole, 0)
	for at := range 100 {
		for _, size := range []int{0, 1, 15, 16, 17, 200} {
			part := make([]byte, size)
			k.xor(part, part, int64(at))
			if !bytes.Equal(part, whole[at:at+size]) {
				t.Fatalf("%d bytes from %d differ", size, at)
			}
		}
	}
	// Beyond 2^32 blocks the counter goes on: 64 GiB is no limit.
	const far = 16 << 32
	a, b := make([]byte, 32), make([]byte, 16)
	k.xor(a, a, far-16)
	k.xor(b, b, far)
	if !bytes.Equal(a[16:], b) || bytes.Equal(b, whole[:16]) {
		t.Error("the counter wraps at 2^32 blocks")
	}
}

// The frozen sample: it was written by the first version and opens for ever.
func TestFSGolden(t *testing.T) {
	const name = "format-1.sealed"
	content := []byte(strings.Repeat("Sealed by format 1 of Tarn. ", 10))
	files := vfs.NewMem()
	fs := newFS(files, testKey(t, 0x2a), rand.NewChaCha8([32]byte{1}))
	write(t, fs, name, content)
	path := filepath.Join("testdata", name)
	if os.Getenv("TARN_UPDATE") == "1" {
		if err := os.WriteFile(path, mustRead(t, files, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	frozen, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(frozen, mustRead(t, files, name)) {
		t.Error("the format written has changed: give it a new number")
	}
	write(t, files, name, frozen)
	if got := mustRead(t, fs, name); !bytes.Equal(got, content) {
		t.Errorf("the frozen sample reads %q", got)
	}
}

func FuzzHeader(f *testing.F) {
	files := keyOf(1)
	h, err := newHeader(&files, rand.NewChaCha8([32]byte{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h[:])
	f.Add(h[:10])
	f.Add(append(h[:], 'x'))
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = raw[:min(len(raw), headerSize+1)]
		h, err := parseHeader(raw)
		switch {
		case err != nil && h != nil:
			t.Error("a header and an error")
		case err == nil && h == nil && len(raw) > headerSize:
			t.Error("a file with content was taken for empty")
		case h != nil && !bytes.Equal(h[:], raw[:headerSize]):
			t.Error("the header is not the bytes read")
		case h != nil:
			if _, err := h.keystream(&files); err != nil && !fault.Is(err, fault.Forbidden) {
				t.Errorf("keystream: %v", err)
			}
		}
	})
}

func BenchmarkRead32K(b *testing.B) {
	fs := NewFS(vfs.NewMem(), testKey(b, 1))
	write(b, fs, "f", make([]byte, 1<<20))
	f, err := fs.Open("f")
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 32<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.ReadAt(p, 4099); err != nil {
			b.Fatal(err)
		}
	}
}
