package synthea

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// clinic is a small folder written by hand: what refers to providers sorts
// before them.
func clinic(t testing.TB) Source {
	t.Helper()
	source, err := Dir(filepath.Join("testdata", "clinic"))
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func partsOf(t testing.TB, s Source) []Part {
	t.Helper()
	parts, err := s.Parts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func joined(t testing.TB, parts []Part) []byte {
	t.Helper()
	var out []byte
	for _, p := range parts {
		out = append(out, readAll(t, p)...)
	}
	return out
}

func wantClinic(t testing.TB) string {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", "clinic.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	return string(want)
}

func sameLines(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("line %d differs\ngot  %s\nwant %s", i+1, strings.Join(g[min(i, len(g)):], "\n"), strings.Join(w[min(i, len(w)):], "\n"))
		}
	}
}

func TestDirMakesReferencesLiteral(t *testing.T) {
	parts := partsOf(t, clinic(t))
	var order []string
	for _, p := range parts {
		order = append(order, p.Name)
	}
	if want := []string{"z-hospitals.json", "y-practitioners.json", "a-patient.json"}; !reflect.DeepEqual(order, want) {
		t.Errorf("order is %v, want %v", order, want)
	}
	sameLines(t, string(joined(t, parts)), wantClinic(t))
	want := Stats{Patients: 1, Resources: 7, Types: map[string]int{"Organization": 1, "Location": 1,
		"Practitioner": 1, "PractitionerRole": 1, "Patient": 1, "Encounter": 1, "Condition": 1}}
	if got := Count(parts); !reflect.DeepEqual(got, want) {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

// TestDirForms reads the same clinic in every form that a folder may have.
func TestDirForms(t *testing.T) {
	want := wantClinic(t)
	lines := strings.SplitAfter(strings.TrimSuffix(want, "\n"), "\n")
	perType := fstest.MapFS{}
	for i, kind := range []string{"Organization", "Location", "Practitioner", "PractitionerRole", "Patient"} {
		perType[kind+".ndjson"] = &fstest.MapFile{Data: []byte("\n" + lines[i] + "  \r\n")}
	}
	conditional := strings.ReplaceAll(lines[5], "Organization/74ab949d-17ac-3309-83a0-13b4405c66aa",
		"Organization?identifier=https://github.com/synthetichealth/synthea|74ab949d")
	perType["Encounter.ndjson"] = &fstest.MapFile{Data: []byte(conditional)}
	perType["Transition.ndjson"] = &fstest.MapFile{Data: []byte(lines[6])}
	forms := map[string]fs.FS{
		"plain":            os.DirFS("testdata/clinic"),
		"gzip":             packedClinic(t, ".gz"),
		"zstd":             packedClinic(t, ".zst"),
		"ndjson per type":  perType,
		"one ndjson":       fstest.MapFS{"all.ndjson": &fstest.MapFile{Data: []byte(want)}},
		"without last end": fstest.MapFS{"all.ndjson": &fstest.MapFile{Data: []byte(strings.TrimSuffix(want, "\n"))}},
	}
	for name, files := range forms {
		t.Run(name, func(t *testing.T) {
			sameLines(t, string(joined(t, partsOf(t, dir{files}))), want)
		})
	}
}

func packedClinic(t *testing.T, packing string) fs.FS {
	t.Helper()
	out := fstest.MapFS{"notes.txt": &fstest.MapFile{Data: []byte("not read")}, ".hidden.json": &fstest.MapFile{Data: []byte("not read")},
		".git/x.json": &fstest.MapFile{Data: []byte("not read")}}
	files := os.DirFS("testdata/clinic")
	names, err := fs.Glob(files, "*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		out["sub/"+name+packing] = &fstest.MapFile{Data: pack(t, packing, text)}
	}
	return out
}

func pack(t *testing.T, packing string, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if packing == ".zst" {
		enc, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w = enc
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestDirTakesSyntheasOutputFolder(t *testing.T) {
	folder := t.TempDir()
	if err := os.CopyFS(filepath.Join(folder, "fhir"), os.DirFS("testdata/clinic")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(folder, "metadata"), fstest.MapFS{"run.json": &fstest.MapFile{Data: []byte(`{"seed":1}`)}}); err != nil {
		t.Fatal(err)
	}
	source, err := Dir(folder)
	if err != nil {
		t.Fatal(err)
	}
	sameLines(t, string(joined(t, partsOf(t, source))), wantClinic(t))
}

func TestDirWithoutOutput(t *testing.T) {
	for name, folder := range map[string]string{"empty": t.TempDir(), "absent": filepath.Join(t.TempDir(), "none")} {
		if _, err := Dir(folder); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: error is %v", name, err)
		} else if strings.Contains(fault.From(err).Message(), folder) {
			t.Errorf("%s: the message shows the path: %v", name, err)
		}
	}
}

func TestDirRefuses(t *testing.T) {
	bundleOf := func(resources ...string) string {
		entries := make([]string, len(resources))
		for i, r := range resources {
			entries[i] = fmt.Sprintf(`{"fullUrl":"urn:uuid:0000000%d","resource":%s}`, i, r)
		}
		return `{"resourceType":"Bundle","entry":[` + strings.Join(entries, ",") + `]}`
	}
	const reference = `{"resourceType":"Encounter","id":"e","subject":{"reference":%q}}`
	twins := `{"resourceType":"Practitioner","id":"%s","identifier":[{"system":"npi","value":"1"}]}`
	cases := []struct {
		name, file, text string
		kind             fault.Kind
		says             string
	}{
		{"not JSON", "x.json", `{"resourceType":`, fault.Invalid, "x.json"},
		{"empty file", "x.json", ``, fault.Invalid, "x.json"},
		{"an array", "x.json", `[1]`, fault.Invalid, "no Bundle"},
		{"another resource", "x.json", `{"resourceType":"Patient","id":"p"}`, fault.Invalid, "no Bundle"},
		{"entries that are no list", "x.json", `{"resourceType":"Bundle","entry":{}}`, fault.Invalid, "no Bundle"},
		{"two values", "x.json", `{"resourceType":"Bundle"} {}`, fault.Invalid, "more than one"},
		{"garbage behind", "x.json", `{"resourceType":"Bundle"} ]`, fault.Invalid, "no valid JSON"},
		{"two entry members", "x.json", `{"resourceType":"Bundle","entry":[],"entry":[]}`, fault.Invalid, "no valid JSON"},
		{"entry without resource", "x.json", `{"resourceType":"Bundle","entry":[{"fullUrl":"urn:uuid:1"}]}`, fault.Invalid, "without resource"},
		{"no resourceType", "x.json", bundleOf(`{"id":"1"}`), fault.Invalid, "without resourceType"},
		{"bad id", "x.json", bundleOf(`{"resourceType":"Patient","id":"a b"}`), fault.Invalid, "without a valid id"},
		{"no id in NDJSON", "x.ndjson", `{"resourceType":"Patient"}`, fault.Invalid, "without a valid id"},
		{"broken line", "x.ndjson", "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n{,}", fault.Syntax, "x.ndjson"},
		{"unknown urn", "x.json", bundleOf(fmt.Sprintf(reference, "urn:uuid:ffff")), fault.Invalid, "no entry of the same bundle"},
		{"urn in NDJSON", "x.ndjson", fmt.Sprintf(reference, "urn:uuid:ffff"), fault.Invalid, "no entry of the same bundle"},
		{"unknown identifier", "x.json", bundleOf(fmt.Sprintf(reference, "Practitioner?identifier=npi|1")), fault.Invalid, "no resource of the folder"},
		{"another query", "x.json", bundleOf(fmt.Sprintf(reference, "Practitioner?name=Smith")), fault.Invalid, "no resource of the folder"},
		{"identifier of two", "x.json", bundleOf(fmt.Sprintf(twins, "a"), fmt.Sprintf(twins, "b"),
			fmt.Sprintf(reference, "Practitioner?identifier=npi|1")), fault.Invalid, "several resources"},
		{"no gzip", "x.json.gz", `{"resourceType":"Bundle"}`, fault.Invalid, "x.json.gz"},
		{"no zstd", "x.json.zst", `{"resourceType":"Bundle"}`, fault.Invalid, "x.json.zst"},
		{"no bzip2", "x.json.bz2", `{"resourceType":"Bundle"}`, fault.Invalid, "x.json.bz2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := dir{fstest.MapFS{c.file: &fstest.MapFile{Data: []byte(c.text)}}}.Parts(t.Context())
			if !fault.Is(err, c.kind) {
				t.Fatalf("error is %v, want kind %v", err, c.kind)
			}
			if said := fault.From(err).Message(); !strings.Contains(said, c.says) || !strings.Contains(said, c.file) {
				t.Errorf("says %q, want %q and %q in it", said, c.says, c.file)
			}
		})
	}
}

// TestFileChangedBehindTheScan: what the scan could not see ends the stream.
func TestFileChangedBehindTheScan(t *testing.T) {
	files := fstest.MapFS{"x.ndjson": &fstest.MapFile{Data: []byte(`{"resourceType":"Patient","id":"1"}`)}}
	part := partsOf(t, dir{files})[0]
	files["x.ndjson"].Data = []byte(`{"resourceType":"Encounter","id":"1","subject":{"reference":"urn:uuid:1"}}`)
	stream, err := part.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := io.ReadAll(stream); !fault.Is(err, fault.Invalid) {
		t.Errorf("error is %v", err)
	} else if place := fault.From(err).Place; len(place) != 1 || place[0].Expression != "Encounter.subject.reference" {
		t.Errorf("place is %+v", place)
	}
}

// endless is a JSON string without end.
type endless struct{ started bool }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	if !e.started {
		e.started = true
		return copy(p, `{"resourceType":"`), nil
	}
	return len(p), nil
}

func TestEntriesAreBounded(t *testing.T) {
	for name, source := range map[string]entries{"bundle": newBundle(&endless{}), "lines": newLines(&endless{})} {
		if _, err := source.next(); !fault.Is(err, fault.TooLarge) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// TestDirOverRealBundles compares bundles of another Synthea version, read by
// encoding/json, with what Dir makes of them: nothing but references differ.
func TestDirOverRealBundles(t *testing.T) {
	folder, originals := unpackBundles(t, testpath.Shared(t, "data", "synthea-r4-120-patients.tar"))
	source, err := Dir(folder)
	if err != nil {
		t.Fatal(err)
	}
	parts := partsOf(t, source)
	if n := Count(parts).Patients; n != realPatients {
		t.Errorf("%d patients, want %d", n, realPatients)
	}
	compared := 0
	for _, part := range parts {
		for line := range bytes.Lines(readAll(t, part)) {
			got := decode(t, line)
			key := fmt.Sprint(got["resourceType"], "/", got["id"])
			want, known := originals[key]
			if !known {
				t.Fatalf("%s is in no bundle", key)
			}
			compareResources(t, key, got, want, originals)
			compared++
		}
	}
	if compared != len(originals) {
		t.Errorf("%d resources, want %d", compared, len(originals))
	}
}

// realPatients is how many patient bundles of the shared set the test unpacks,
// the smallest ones.
const (
	realPatients    = 6
	realPatientSize = 21050 // bytes, packed
)

// unpackBundles writes some of the shared bundles into a folder, packed as
// they are, and gives their resources by Type/id.
func unpackBundles(t *testing.T, archive string) (folder string, resources map[string]map[string]any) {
	t.Helper()
	folder, resources = t.TempDir(), make(map[string]map[string]any)
	file, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for r := tar.NewReader(file); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return folder, resources
		}
		if err != nil {
			t.Fatal(err)
		}
		provider := strings.Contains(head.Name, "Information")
		if head.FileInfo().IsDir() || !provider && head.Size > realPatientSize {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(folder, filepath.Base(head.Name))
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		addResources(t, name, resources)
	}
}

func addResources(t *testing.T, name string, into map[string]map[string]any) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := io.ReadAll(bzip2.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range decode(t, text)["entry"].([]any) {
		resource := e.(map[string]any)["resource"].(map[string]any)
		into[fmt.Sprint(resource["resourceType"], "/", resource["id"])] = resource
	}
}

func decode(t *testing.T, text []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var out map[string]any
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// compareResources wants got equal to want, but for references, which have to
// be literal and to name a resource of the set that want's reference means.
func compareResources(t *testing.T, key string, got, want any, set map[string]map[string]any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok || len(got) != len(want) {
			t.Fatalf("%s: %v, want %v", key, got, want)
		}
		for name, w := range want {
			if text, isText := w.(string); name == "reference" && isText {
				compareReference(t, key, got[name].(string), text, set)
			} else {
				compareResources(t, key+"."+name, got[name], w, set)
			}
		}
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			t.Fatalf("%s: %v, want %v", key, got, want)
		}
		for i := range want {
			compareResources(t, key, got[i], want[i], set)
		}
	default:
		if got != want {
			t.Fatalf("%s: %v, want %v", key, got, want)
		}
	}
}

func compareReference(t *testing.T, key, got, want string, set map[string]map[string]any) {
	t.Helper()
	if strings.HasPrefix(want, "#") {
		if got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
		return
	}
	target, known := set[got]
	if !known {
		t.Errorf("%s: %s for %s is not in the set", key, got, want)
		return
	}
	if urn, ok := strings.CutPrefix(want, "urn:uuid:"); ok {
		if target["id"] != urn {
			t.Errorf("%s: %s for %s", key, got, want)
		}
		return
	}
	_, value, _ := strings.Cut(want, "|")
	if text, err := json.Marshal(target["identifier"]); err != nil || !bytes.Contains(text, []byte(`"`+value+`"`)) {
		t.Errorf("%s: %s for %s, whose identifiers are %s (%v)", key, got, want, text, err)
	}
}
