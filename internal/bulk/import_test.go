package bulk_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
)

// bench is an import's surroundings: a store, a folder of buckets, a queue.
type bench struct {
	*bulk.Imports
	t      *testing.T
	store  store.Store
	root   string
	broken atomic.Int64 // how many Adds from now the store fails; negative: never
	adding func()       // called at each Add, unless it is nil
}

// judge refuses resources whose birthDate is "bad", and lets those that are
// "flawed" pass with a fault at minimal.
type judge struct{}

func (judge) Examine(_ context.Context, level string, doc *fhir.Document) (*fhir.Document, []fault.Issue, bool, error) {
	switch doc.Root().Get("birthDate").Text() {
	case "bad":
		return nil, nil, false, fault.New(fault.Invalid, "", "no birthDate")
	case "flawed":
		return doc, []fault.Issue{{Severity: fault.SeverityWarning, Detail: "odd"}}, level == "minimal", nil
	}
	return doc, nil, false, nil
}

// brittle is a store whose import breaks when it is told to.
type brittle struct {
	store.Store
	b *bench
}

func (s brittle) Import(ctx context.Context, name string) (store.Importer, error) {
	importer, err := s.Store.Import(ctx, name)
	return brittleImporter{importer, s.b}, err
}

type brittleImporter struct {
	store.Importer
	b *bench
}

func (i brittleImporter) Part(ctx context.Context, name string) (store.Part, error) {
	part, err := i.Importer.Part(ctx, name)
	return brittlePart{part, i.b}, err
}

type brittlePart struct {
	store.Part
	b *bench
}

func (p brittlePart) Add(ctx context.Context, ops []store.Op, cursor []byte) error {
	if p.b.adding != nil {
		p.b.adding()
	}
	if p.b.broken.Add(-1) == 0 {
		return fault.New(fault.Unavailable, "test", "the store broke")
	}
	return p.Part.Add(ctx, ops, cursor)
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, store: open(t), root: t.TempDir()}
	b.broken.Store(-1)
	for _, bucket := range []string{"in", "out"} {
		if err := os.Mkdir(filepath.Join(b.root, bucket), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	queue := job.NewQueue(job.Options{
		System: open(t), Clock: time.Now, Log: slog.New(slog.DiscardHandler), NewID: func() string { return "job-1" },
		Pause: func(context.Context, time.Duration) {},
	})
	registry := searchparam.NewRegistry()
	b.Imports = &bulk.Imports{
		Jobs: queue, Storage: blob.Schemes{"s3": blob.Dir{Root: b.root}}, Judge: judge{}, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Open: func(context.Context, string) (*bulk.Target, error) {
			return &bulk.Target{
				Store: brittle{b.store, b}, Types: registry, Release: func() {},
				Extractor: searchparam.NewExtractor(registry, b.store.HashKey(), "http://tarn.test/r4/"),
			}, nil
		},
	}
	queue.RegisterIn(job.Lane{Name: "import", Workers: 1, PerStore: 1, Waiting: 25}, bulk.KindImport, b.Imports)
	if err := queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(queue.Stop)
	return b
}

func (b *bench) file(name string, content []byte) {
	b.t.Helper()
	path := filepath.Join(b.root, "in", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// run imports s3://in/ and waits for the job's end.
func (b *bench) run(level string) (*job.Job, bulk.ImportReport) {
	b.t.Helper()
	j, err := b.Start(b.t.Context(), bulk.ImportRequest{Datastore: "store-1", Input: "s3://in/", Output: "s3://out/x", Level: level})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.ended(j.ID)
}

func (b *bench) ended(id string) (*job.Job, bulk.ImportReport) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		j, err := b.Jobs.Get(b.t.Context(), id)
		if err != nil {
			b.t.Fatal(err)
		}
		if j.Status.Ended() {
			var report bulk.ImportReport
			if len(j.Progress) > 0 {
				if err := json.Unmarshal(j.Progress, &report); err != nil {
					b.t.Fatal(err)
				}
			}
			return j, report
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the job is still %s", j.Status)
		}
	}
}

// output reads the folder of the job: lines by folder and file, each valid JSON
// with a lineId.
func (b *bench) output(id string) map[string][]int64 {
	b.t.Helper()
	found := map[string][]int64{}
	folder := filepath.Join(b.root, "out", "x", "store-1-FHIR_IMPORT-"+id)
	err := filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() || info.Name() == "Manifest.json" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, folder+"/")
		for text := range bytes.Lines(raw) {
			var line struct {
				LineID                 int64 `json:"lineId"`
				UpdateResourceResponse struct {
					JSONBlob   map[string]any `json:"jsonBlob"`
					StatusCode int            `json:"statusCode"`
				}
			}
			if err := json.Unmarshal(text, &line); err != nil || line.UpdateResourceResponse.JSONBlob["resourceType"] == nil {
				return fmt.Errorf("%s: %s: %w", name, text, err)
			}
			found[name] = append(found[name], line.LineID)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

func gzipped(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(content))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t *testing.T, content string) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll([]byte(content), nil)
}

func patient(id, more string) string {
	return fmt.Sprintf(`{"resourceType":"Patient","id":%q%s}`+"\n", id, more)
}

// Every line is in exactly one folder, and the counters are the truth.
func TestImportAccountsForEveryLine(t *testing.T) {
	b := newBench(t)
	b.file("a.ndjson", []byte(patient("a1", "")+"\n"+patient("a2", `,"birthDate":"bad"`)+"{broken\n"+patient("a3", "")+`{"resourceType":"Patient"}`))
	b.file("deep/b.ndjson.gz", gzipped(t, patient("b1", "")+patient("b2", `,"birthDate":"flawed"`)))
	b.file("c.ndjson.zst", zstded(t, patient("c1", "")))
	b.file("cut.ndjson.gz", gzipped(t, patients(5000))[:9000])
	b.file("d.json", []byte("{\n\"resourceType\": \"Patient\",\n\"id\": \"d1\"\n}"))
	b.file("e.json", []byte(`{"resourceType":"Bundle","type":"transaction","entry":[
		{"fullUrl":"urn:uuid:11111111-1111-1111-1111-111111111111","resource":{"resourceType":"Patient"}},
		{"fullUrl":"urn:uuid:2","resource":{"resourceType":"Observation","id":"o1","subject":{"reference":"urn:uuid:11111111-1111-1111-1111-111111111111"}}},
		{"request":{"method":"GET","url":"Patient"}}]}`))
	b.file("README.txt", []byte("not data"))
	j, report := b.run("minimal")
	if j.Status != job.CompletedWithErrors || j.Message != "" {
		t.Errorf("%s %q", j.Status, j.Message)
	}
	out := b.output(j.ID)
	want := map[string]string{
		"SUCCESS/a.ndjson": "[1 5]", "FAILURE/a.ndjson": "[3 4 6]",
		"SUCCESS/deep/b.ndjson.gz.ndjson": "[1]", "SUCCESS_WITH_SEARCH_VALIDATION_FAILURES/deep/b.ndjson.gz.ndjson": "[2]",
		"SUCCESS/c.ndjson.zst.ndjson": "[1]", "SUCCESS/d.json": "[1]", "SUCCESS/e.json": "[1 2]", "FAILURE/e.json": "[3]",
	}
	for name, lines := range want {
		if got := fmt.Sprint(out[name]); got != lines {
			t.Errorf("%s has lines %s, want %s", name, got, lines)
		}
	}
	read := int64(len(out["SUCCESS/cut.ndjson.gz.ndjson"]))
	if n := out["FAILURE/cut.ndjson.gz.ndjson"]; read == 0 || len(n) != 1 || n[0] != read+1 {
		t.Errorf("of the file that breaks off %d lines are in, and refused are %v", read, n)
	}
	if len(out) != len(want)+2 {
		t.Errorf("more files than expected: %d", len(out))
	}
	if report.ScannedFiles != 6 || report.ImportedFiles != 5 || report.FaultyFiles != 1 || report.Scanned != 12+read+1 ||
		report.Imported != 8+read || report.CustomerErrors != 5 || len(report.Errors) != 5 {
		t.Errorf("%+v (read %d)", report, read)
	}
	if report.ReadBytes != report.ScannedBytes || report.ReadBytes == 0 {
		t.Errorf("%d bytes of %d are read at the end", report.ReadBytes, report.ScannedBytes)
	}
	if found := versions(t, b.store); int64(len(found)) != report.Imported-1 { // one is an Observation
		t.Errorf("%d patients stored", len(found))
	}
	manifest, err := os.ReadFile(filepath.Join(b.root, "out", "x", "store-1-FHIR_IMPORT-"+j.ID, "Manifest.json"))
	if err != nil || !bytes.Contains(manifest, fmt.Appendf(nil, `"numberOfResourcesImportedSuccessfully":%d`, report.Imported)) {
		t.Errorf("manifest %s, %v", manifest, err)
	}
}

// What a running import reports as read is what it has brought to the store, and at
// most what its reader holds beside it.
func TestImportReportsWhatIsReadWhileItRuns(t *testing.T) {
	const pieces, lines, readAhead = 4, 500, 256 << 10 // bulk's
	b := newBench(t)
	var text strings.Builder
	line := 0
	for i := range pieces * lines {
		before := text.Len()
		text.WriteString(patient(fmt.Sprint("p", i), `,"language":"`+strings.Repeat("x", 1000)+`"`))
		line = text.Len() - before
	}
	b.file("a.ndjson", []byte(text.String()))
	var read []int64
	b.adding = func() {
		j, err := b.Jobs.Get(t.Context(), "job-1")
		var report bulk.ImportReport
		if err == nil {
			err = json.Unmarshal(j.Progress, &report)
		}
		if err != nil || report.ScannedBytes != int64(text.Len()) {
			t.Errorf("the report %+v, %v", report, err)
		}
		read = append(read, report.ReadBytes)
	}
	if _, report := b.run("minimal"); report.ReadBytes != report.ScannedBytes {
		t.Errorf("%d bytes of %d are read at the end", report.ReadBytes, report.ScannedBytes)
	}
	if len(read) != pieces+1 || read[0] != 0 { // the last Add is for the cursor alone
		t.Fatalf("read before each piece: %v", read)
	}
	for i, n := range read[1:] {
		brought := int64((i + 1) * lines * line)
		if n < min(brought, int64(text.Len()))-int64(lines*10) || n > brought+readAhead {
			t.Errorf("%d bytes are reported to be read behind %d pieces, of about %d", n, i+1, brought)
		}
	}
}

func TestImportKeepsTheOrderOfAFile(t *testing.T) {
	b := newBench(t)
	var text strings.Builder
	for i := range 3000 {
		text.WriteString(patient(fmt.Sprint("p", i%7), fmt.Sprintf(`,"multipleBirthInteger":%d`, i)))
	}
	b.file("a.ndjson", []byte(text.String()))
	if j, report := b.run("strict"); j.Status != job.Completed || report.Imported != 3000 {
		t.Fatalf("%s %+v", j.Status, report)
	}
	found := versions(t, b.store)
	var sum uint64
	for _, v := range found {
		sum += v
	}
	if len(found) != 7 || sum != 3000 {
		t.Errorf("%v", found)
	}
}

// However often the store breaks, nothing is stored twice, nothing is lost, and
// every line is in the output once.
func TestImportGoesOnWhereItStood(t *testing.T) {
	for after := int64(1); after <= 24; after += 3 {
		b := newBench(t)
		for f := range 3 {
			b.file(fmt.Sprintf("%d.ndjson", f), []byte(strings.ReplaceAll(patients(2600), `"p`, fmt.Sprintf(`"f%d-`, f))+"broken\n"))
		}
		b.broken.Store(after)
		j, report := b.run("strict")
		if j.Status != job.CompletedWithErrors || report.Scanned != 7803 || report.Imported != 7800 || report.CustomerErrors != 3 {
			t.Fatalf("broken at %d: %s %+v", after, j.Status, report)
		}
		found := versions(t, b.store)
		for id, v := range found {
			if v != 1 {
				t.Fatalf("broken at %d: %s has version %d", after, id, v)
			}
		}
		out := b.output(j.ID)
		for f := range 3 {
			name := fmt.Sprintf("%d.ndjson", f)
			if n, bad := len(out["SUCCESS/"+name]), out["FAILURE/"+name]; n != 2600 || fmt.Sprint(bad) != "[2601]" {
				t.Fatalf("broken at %d: %s has %d lines, refused %v", after, name, n, bad)
			}
		}
		if len(found) != 7800 {
			t.Fatalf("broken at %d: %d patients", after, len(found))
		}
	}
}

func TestImportEnds(t *testing.T) {
	t.Run("without files", func(t *testing.T) {
		if j, _ := newBench(t).run("strict"); j.Status != job.Failed || !strings.Contains(j.Message, "no files to import") {
			t.Errorf("%s %q", j.Status, j.Message)
		}
	})
	t.Run("with nothing but errors", func(t *testing.T) {
		b := newBench(t)
		b.file("a.ndjson", []byte("{\n"))
		if j, _ := b.run("strict"); j.Status != job.Failed || j.Message != "" {
			t.Errorf("%s %q", j.Status, j.Message)
		}
	})
	t.Run("with ids minted", func(t *testing.T) {
		b := newBench(t)
		b.MintIDs = true
		b.file("a.ndjson", []byte(`{"resourceType":"Patient"}`+"\n"+`{"resourceType":"Patient"}`))
		if j, report := b.run("strict"); j.Status != job.Completed || report.Imported != 2 || len(versions(t, b.store)) != 2 {
			t.Errorf("%s %+v", j.Status, report)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		b := newBench(t)
		b.file("a.ndjson", []byte(patients(20000)))
		j, err := b.Start(t.Context(), bulk.ImportRequest{Datastore: "store-1", Input: "s3://in/a.ndjson", Output: "s3://out/x", Level: "strict"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Jobs.Cancel(t.Context(), j.ID); err != nil && !fault.Is(err, fault.Conflict) {
			t.Fatal(err)
		}
		done, report := b.ended(j.ID)
		if stored := len(versions(t, b.store)); done.Status == job.CancelCompleted && (int64(stored) != report.Imported || stored > 0 && len(b.output(j.ID)["SUCCESS/a.ndjson"]) != stored) {
			t.Errorf("%d stored, %+v", stored, report)
		}
	})
}

func TestStartRefuses(t *testing.T) {
	b := newBench(t)
	for uri, kind := range map[string]fault.Kind{"s3://nobody/": fault.FailedDependency, "gs://in/": fault.Invalid} {
		for _, r := range []bulk.ImportRequest{{Input: uri, Output: "s3://out/"}, {Input: "s3://in/", Output: uri}} {
			if _, err := b.Start(t.Context(), r); !fault.Is(err, kind) {
				t.Errorf("%+v: %v, want %v", r, err, kind)
			}
		}
	}
}

// FuzzImportFile feeds any bytes as a file: the job ends, with every line in one
// folder.
func FuzzImportFile(f *testing.F) {
	f.Add([]byte(patient("a", "")), false)
	f.Add([]byte(`{"resourceType":"Bundle","type":"batch","entry":[{"resource":{}},3]}`), true)
	f.Fuzz(func(t *testing.T, content []byte, whole bool) {
		b := newBench(t)
		name := "a.ndjson"
		if whole {
			name = "a.json"
		}
		b.file(name, content)
		j, report := b.run("strict")
		out := b.output(j.ID)
		if report.Scanned != report.Imported+report.CustomerErrors || int64(len(out["SUCCESS/"+name])) != report.Imported || int64(len(out["FAILURE/"+name])) != report.CustomerErrors {
			t.Errorf("%s %+v, %v", j.Status, report, out)
		}
	})
}
