package blackbox

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/testpath"
)

// bundleFile is one of Synthea's own bundles, as it is packed.
type bundleFile struct {
	name   string
	packed []byte
}

func (f bundleFile) json() ([]byte, error) {
	return io.ReadAll(bzip2.NewReader(bytes.NewReader(f.packed)))
}

// bundleFiles reads the shared archive: hospitals and practitioners first, as
// the patients refer to them by identifier, the rest by name.
func bundleFiles(t testing.TB) []bundleFile {
	t.Helper()
	archive, err := os.Open(testpath.Shared(t, "data", "synthea-r4-120-patients.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	var files []bundleFile
	for members := tar.NewReader(archive); ; {
		member, err := members.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(member.Name, ".json.bz2") {
			continue
		}
		packed, err := io.ReadAll(members)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, bundleFile{strings.TrimPrefix(member.Name, "./"), packed})
	}
	slices.SortFunc(files, func(a, b bundleFile) int { return strings.Compare(order(a.name), order(b.name)) })
	return files
}

func order(name string) string {
	switch {
	case strings.HasPrefix(name, "0-hospital"):
		return "0" + name
	case strings.HasPrefix(name, "0-practitioner"):
		return "1" + name
	}
	return "2" + name
}

// someBundles is what a normal run posts: the information bundles and a third
// of the patients. TARN_ALL_BUNDLES=1 posts all.
func someBundles(all []bundleFile) []bundleFile {
	if os.Getenv("TARN_ALL_BUNDLES") == "1" {
		return all
	}
	return all[:2+(len(all)-2)/3]
}

// syntheaBundle is a bundle as far as the test looks into it.
type syntheaBundle struct {
	Entry []struct {
		FullURL  string `json:"fullUrl"`
		Resource json.RawMessage
		Request  struct{ Method, URL string }
	}
}

// Synthea's bundles post as they are, and every resource reads back as it went
// in, but for what a server sets: id, versionId, lastUpdated, and references
// that named an entry of the bundle or an identifier.
func TestSyntheaBundles(t *testing.T) {
	t.Parallel()
	d := start(t).store(nil)
	files := someBundles(bundleFiles(t))
	loader := &bundleLoader{datastore: d, identified: map[string]string{}, stored: map[string]int{}}
	began := time.Now()
	for _, file := range files[:2] {
		loader.post(file)
	}
	loader.inParallel(files[2:])
	t.Logf("%d bundles with %d resources posted and read back in %v (posting took %v of two clients' time)",
		len(files), loader.resources.Load(), time.Since(began).Round(time.Millisecond), time.Duration(loader.posting.Load()).Round(time.Millisecond))
	for kind, n := range loader.stored {
		if got := d.total(kind); got != n {
			t.Errorf("%s: %d resources, want %d", kind, got, n)
		}
	}
}

type bundleLoader struct {
	*datastore
	resources, posting atomic.Int64

	mu         sync.Mutex
	identified map[string]string // "Practitioner?identifier=system|value" → "Practitioner/id"
	stored     map[string]int    // resources by type
}

// clients is how many clients load side by side.
const clients = 2

func (l *bundleLoader) inParallel(files []bundleFile) {
	queue := make(chan bundleFile)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for file := range queue {
				if !l.t.Failed() {
					l.post(file)
				}
			}
		})
	}
	for _, file := range files {
		queue <- file
	}
	close(queue)
	all.Wait()
}

// post posts one bundle and compares what it made.
func (l *bundleLoader) post(file bundleFile) {
	var sent syntheaBundle
	raw, err := file.json()
	if err := errors.Join(err, json.Unmarshal(raw, &sent)); err != nil {
		l.t.Errorf("%s: %v", file.name, err)
		return
	}
	began := time.Now()
	answer := l.fhir("POST", "", raw)
	l.posting.Add(int64(time.Since(began)))
	if answer.Status != 200 {
		l.t.Errorf("%s: %d %s", file.name, answer.Status, short(answer.Body))
		return
	}
	var got struct {
		Entry []struct {
			Response struct{ Status, Location string }
		}
	}
	if err := json.Unmarshal(answer.Body, &got); err != nil || len(got.Entry) != len(sent.Entry) {
		l.t.Errorf("%s: %d entries answered of %d: %v", file.name, len(got.Entry), len(sent.Entry), err)
		return
	}
	renamed := map[string]string{} // fullUrl → Type/id
	for i, e := range got.Entry {
		if !strings.HasPrefix(e.Response.Status, "201") {
			l.t.Errorf("%s entry %d: %s", file.name, i, e.Response.Status)
			return
		}
		where, _, _ := strings.Cut(strings.TrimPrefix(e.Response.Location, l.base()+"/"), "/_history")
		renamed[sent.Entry[i].FullURL] = where
	}
	for i, e := range sent.Entry {
		l.note(e.Resource, renamed[e.FullURL])
		l.compare(fmt.Sprintf("%s entry %d", file.name, i), e.Resource, renamed[e.FullURL], renamed)
	}
}

// note remembers a resource's type and identifiers.
func (l *bundleLoader) note(resource json.RawMessage, where string) {
	var head struct {
		ResourceType string
		Identifier   json.RawMessage
	}
	if err := json.Unmarshal(resource, &head); err != nil {
		l.t.Error(err)
	}
	l.resources.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored[head.ResourceType]++
	var identifiers []struct{ System, Value string }
	if json.Unmarshal(head.Identifier, &identifiers) != nil {
		return // of a type with a single identifier: nothing refers to it by that
	}
	for _, id := range identifiers {
		l.identified[head.ResourceType+"?identifier="+id.System+"|"+id.Value] = where
	}
}

// compare reads a resource and holds it against what was sent.
func (l *bundleLoader) compare(what string, sent []byte, where string, renamed map[string]string) {
	answer := l.fhir("GET", "/"+where, nil)
	if answer.Status != 200 {
		l.t.Errorf("%s: GET %s: %d", what, where, answer.Status)
		return
	}
	rename := func(text string) string {
		if to, ok := renamed[text]; ok {
			return to
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if to, ok := l.identified[text]; ok {
			return to
		}
		return text
	}
	want, err1 := flatten(sent, rename)
	got, err2 := flatten(answer.Body, func(s string) string { return s })
	if err1 != nil || err2 != nil || !slices.Equal(got, want) {
		l.t.Errorf("%s: %s differs from what was sent: %v %v\n%s", what, where, err1, err2, firstDifference(got, want))
	}
}

func firstDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return "lacks " + want[i]
		case i >= len(want):
			return "has besides " + got[i]
		case got[i] != want[i]:
			return "has " + got[i] + "\nnot " + want[i]
		}
	}
	return ""
}

// flatten turns JSON into its tokens in order, numbers as written, without what
// a server sets; references (Reference.reference) go through rename, and no
// other string: an identifier that happens to look like an entry's fullUrl is
// left alone.
func flatten(raw []byte, rename func(string) string) ([]string, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	f := &flattener{dec: dec, rename: rename}
	err := f.value("")
	return f.out, err
}

type flattener struct {
	dec    *json.Decoder
	rename func(string) string
	out    []string
}

// setByServer are the places of a resource that a server fills (R4
// resource.html#Meta).
var setByServer = map[string]bool{".id": true, ".meta.versionId": true, ".meta.lastUpdated": true}

func (f *flattener) value(path string) error {
	token, err := f.dec.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return f.object(path)
	case json.Delim('['):
		for i := 0; f.dec.More(); i++ {
			if err := f.value(fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		_, err := f.dec.Token()
		return err
	}
	if setByServer[path] {
		return nil
	}
	if text, ok := token.(string); ok && strings.HasSuffix(path, ".reference") {
		token = f.rename(text)
	}
	f.out = append(f.out, fmt.Sprintf("%s = %T %v", path, token, token))
	return nil
}

func (f *flattener) object(path string) error {
	for f.dec.More() {
		name, err := f.dec.Token()
		if err != nil {
			return err
		}
		if err := f.value(path + "." + name.(string)); err != nil {
			return err
		}
	}
	_, err := f.dec.Token()
	return err
}

// The comparison itself sees what it must.
func TestFlatten(t *testing.T) {
	same := func(s string) string { return s }
	for _, scene := range []struct {
		a, b  string
		equal bool
	}{
		{`{"id":"1","meta":{"versionId":"1","lastUpdated":"x","tag":[]},"a":1.0}`, `{"meta":{},"a":1.0}`, true},
		{`{"a":1.0}`, `{"a":1.00}`, false},
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`, false},
		{`{"a":"1"}`, `{"a":1}`, false},
		{`{"a":[{"id":"x"}]}`, `{"a":[{"id":"y"}]}`, false},
		{`{"a":[1,2]}`, `{"a":[1]}`, false},
	} {
		a, err1 := flatten([]byte(scene.a), same)
		b, err2 := flatten([]byte(scene.b), same)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if slices.Equal(a, b) != scene.equal {
			t.Errorf("%s and %s: equal is %v", scene.a, scene.b, !scene.equal)
		}
	}
}
