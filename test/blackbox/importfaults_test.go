package blackbox

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outcomes are the line numbers in the three folders of an import's output, by
// file: which folder each stands in.
type outcomes map[string]map[int64]string

// outcomesOf reads an import's output; a line that stands in two places, or twice,
// is an error.
func (s *server) outcomesOf(folder string) outcomes {
	s.t.Helper()
	found := outcomes{}
	s.must(filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "Manifest.json" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		within, err := filepath.Rel(folder, path)
		in, name, _ := strings.Cut(within, "/")
		if found[name] == nil {
			found[name] = map[int64]string{}
		}
		for text := range bytes.Lines(raw) {
			var line struct {
				LineID *int64 `json:"lineId"`
			}
			if bad := json.Unmarshal(text, &line); bad != nil || line.LineID == nil {
				s.t.Errorf("%s: %.200s is no line of an output: %v", within, text, bad)
				continue
			}
			if before := found[name][*line.LineID]; before != "" {
				s.t.Errorf("line %d of %s is in %s and in %s", *line.LineID, name, before, in)
			}
			found[name][*line.LineID] = in
		}
		return err
	}))
	return found
}

// count is how many lines stand in a folder.
func (o outcomes) count(folder string) (n int64) {
	for _, lines := range o {
		for _, in := range lines {
			if in == folder {
				n++
			}
		}
	}
	return n
}

// wantTruth holds a job's counters against its output.
func (s *server) wantTruth(j importJob, o outcomes) {
	s.t.Helper()
	good, bad := o.count("SUCCESS")+o.count("SUCCESS_WITH_SEARCH_VALIDATION_FAILURES"), o.count("FAILURE")
	p := j.JobProgressReport
	if p.TotalNumberOfResourcesImported != good || p.TotalNumberOfResourcesWithCustomerError != bad || p.TotalNumberOfResourcesScanned != good+bad {
		s.t.Errorf("%d lines are in and %d refused, the job says %+v", good, bad, p)
	}
}

// Lines that are broken, very long or too long, and a file that breaks off: the
// job ends, every line is in one folder, the counters are the truth.
func TestImportOfBrokenFiles(t *testing.T) {
	t.Parallel()
	buckets := t.TempDir()
	in := filepath.Join(buckets, "source")
	const long, tooLong = 100 << 20, 165 << 20
	patient := func(id string) string { return `{"resourceType":"Patient","id":"` + id + `"}` + "\n" }
	lines := strings.Join([]string{
		patient("first"),
		`{"resourceType":"Binary","id":"long","contentType":"text/plain","data":"` + strings.Repeat("QUFB", long/4) + `"}` + "\n",
		strings.Repeat("x", long) + "\n",
		`{"resourceType":"Patient","id":"broken"` + "\n",
		`{"resourceType":"Binary","id":"toolong","contentType":"text/plain","data":"` + strings.Repeat("QUFB", tooLong/4) + `"}` + "\n",
		patient("last"),
	}, "")
	text, _, _ := ndjson("cut", 5000)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), os.MkdirAll(in, 0o700), os.Mkdir(filepath.Join(buckets, "target"), 0o700),
		os.WriteFile(filepath.Join(in, "lines.ndjson"), []byte(lines), 0o600),
		os.WriteFile(filepath.Join(in, "cut.ndjson.gz"), packed.Bytes()[:packed.Len()*2/3], 0o600)); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--s3-dir", buckets)
	d := s.store(nil)
	id := s.startImport(importMembers(d.id, "s3://source/", "s3://target/", "structure-only"))
	j := s.awaitImport(d.id, id)
	if j.JobStatus != "COMPLETED_WITH_ERRORS" || j.Message != "" || j.JobProgressReport.TotalNumberOfFilesReadWithCustomerError != 1 {
		t.Errorf("%+v", j)
	}
	o := s.outcomesOf(filepath.Join(buckets, "target", d.id+"-FHIR_IMPORT-"+id))
	s.wantTruth(j, o)
	if got := fmt.Sprint(o["lines.ndjson"]); got != "map[1:SUCCESS 2:SUCCESS 3:FAILURE 4:FAILURE 5:FAILURE 6:SUCCESS]" {
		t.Errorf("the lines are in %s", got)
	}
	cut := o["cut.ndjson.gz.ndjson"]
	if last := int64(len(cut)); last < 2 || cut[last] != "FAILURE" || cut[last-1] == "" {
		t.Errorf("of the file that breaks off %d lines are accounted for, the last as %q", last, cut[last])
	}
	if n := int64(d.total("Patient") + d.total("Binary")); n != o.count("SUCCESS") {
		t.Errorf("%d resources are there, %d are said to be", n, o.count("SUCCESS"))
	}
	if raw := d.get("/Binary/long", "Accept", "text/plain").want(200); len(raw.Body) != long/4*3 {
		t.Errorf("the long one has %d bytes", len(raw.Body))
	}
}

// small is a file system of so many MiB that can be filled.
func small(t *testing.T, mib int) string {
	t.Helper()
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// A full disk holds an import back until there is room; then it ends as if
// nothing had been.
func TestImportOutlivesAFullDisk(t *testing.T) {
	t.Parallel()
	const size, floor, room = 384, 96, 16 // MiB; what is under way when the floor is met needs the floor
	disk := small(t, size)
	buckets := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(buckets, "source"), 0o700), os.Mkdir(filepath.Join(buckets, "target"), 0o700)); err != nil {
		t.Fatal(err)
	}
	const files, each = 4, 8000
	random := rand.New(rand.NewPCG(7, 7))
	for f := range files {
		var b strings.Builder
		for i := range each {
			fmt.Fprintf(&b, `{"resourceType":"Patient","id":"f%d-%d","name":[{"text":"`, f, i)
			for range 60 {
				fmt.Fprintf(&b, "%x", random.Uint64()) // nothing that packing makes small
			}
			b.WriteString(`"}]}` + "\n")
		}
		if err := os.WriteFile(filepath.Join(buckets, "source", fmt.Sprintf("%d.ndjson", f)), []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := startIn(t, filepath.Join(disk, "data"), "--s3-dir", buckets, "--min-free-mib", strconv.Itoa(floor), "--ballast-mib", "4")
	d := s.store(nil)
	filler := filepath.Join(disk, "filler")
	s.must(os.WriteFile(filler, make([]byte, free(t, disk)-(floor+room)<<20), 0o600))
	id := s.startImport(importMembers(d.id, "s3://source/", "s3://target/", "minimal"))
	for deadline := time.Now().Add(activeTimeout); d.fhir("PUT", "/Basic/b", `{"resourceType":"Basic","id":"b","code":{"text":"x"}}`).Status != 507; {
		if time.Now().After(deadline) {
			t.Fatal("the disk does not become full")
		}
	}
	s.must(os.Remove(filler))
	j := s.awaitImport(d.id, id)
	if j.JobStatus != "COMPLETED" {
		t.Errorf("%+v", j)
	}
	o := s.outcomesOf(filepath.Join(buckets, "target", d.id+"-FHIR_IMPORT-"+id))
	s.wantTruth(j, o)
	if n := d.total("Patient"); n != files*each || o.count("SUCCESS") != files*each {
		t.Errorf("%d patients, %d lines, want %d", n, o.count("SUCCESS"), files*each)
	}
	if once := d.get("/Patient/f0-0/_history").want(200).at("total"); fmt.Sprint(once) != "1" {
		t.Errorf("%v versions", once)
	}
}

// free is the space that is left on a disk, in bytes.
func free(t *testing.T, folder string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}
