// Package suites runs public search cases against the built server, over HTTP
// with signed requests:
//
//	setup   resources of a suite → a fresh data store
//	case    [type]?[query], every page of it → the resources found
//	judge   those against what the suite expects
//
// The suites lie beside the checkout (internal/testpath); without them the tests
// skip. Where a case contradicts R4, testdata/candle.differs says by which
// sentence.
package suites

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/testpath"
	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

func TestMain(m *testing.M) { os.Exit(process.Main(m)) }

// activeTimeout bounds the wait for a data store, on a busy machine.
const activeTimeout = 2 * time.Minute

// datastore is a data store on a server of its own.
type datastore struct {
	*process.Client
	base string // FHIR base URL, without the slash at its end
}

func newDatastore(t *testing.T) *datastore {
	t.Helper()
	binary, err := process.Built()
	if err != nil {
		t.Fatal(err)
	}
	server, err := process.Start(t.Context(), process.Options{Binary: binary, Data: filepath.Join(t.TempDir(), "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Kill(); err != nil {
			t.Error(err)
		}
	})
	client, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), activeTimeout)
	defer cancel()
	made, err := client.Create(ctx, nil)
	if err == nil {
		_, err = client.Await(ctx, made.DatastoreID, "ACTIVE")
	}
	if err != nil {
		t.Fatal(err)
	}
	return &datastore{client, client.Base(made.DatastoreID)}
}

// send carries out one request and gives the answer's body where the status is
// one of want.
func (d *datastore) send(t *testing.T, method, url string, body []byte, want ...int) []byte {
	t.Helper()
	r := process.Request{Method: method, URL: url, Body: body}
	if body != nil {
		r.Header = map[string]string{"Content-Type": "application/fhir+json"}
	}
	answer, err := d.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, status := range want {
		if answer.Status == status {
			return answer.Body
		}
	}
	t.Fatalf("%s %s: %d %s", method, url, answer.Status, answer.Body)
	return nil
}

// resource is one resource of a setup.
type resource struct {
	Key      string
	Put      bool
	Resource json.RawMessage
}

// load writes a resource and gives its type and id.
func (d *datastore) load(t *testing.T, r resource) (typeName, id string) {
	t.Helper()
	var is struct{ ResourceType, ID string }
	unmarshal(t, r.Resource, &is)
	method, at := http.MethodPost, d.base+"/"+is.ResourceType
	if r.Put {
		method, at = http.MethodPut, at+"/"+is.ID
	}
	unmarshal(t, d.send(t, method, at, r.Resource, http.StatusCreated, http.StatusOK), &is)
	return is.ResourceType, is.ID
}

func unmarshal(t *testing.T, raw []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
}

// answer is what a search gave, all pages together.
type answer struct {
	status  int
	outcome string   // of an error
	matches []string // Type/id
	entries int
	total   int
}

// maxPages ends a search whose pages do not.
const maxPages = 100

// search follows the next links of a search to the end.
func (d *datastore) search(t *testing.T, path, query string) answer {
	t.Helper()
	var a answer
	next := d.base + "/" + path
	if query != "" {
		next += "?" + encoded(t, query)
	}
	for range maxPages {
		response, err := d.Do(t.Context(), process.Request{Method: http.MethodGet, URL: next})
		if err != nil {
			t.Fatal(err)
		}
		if a.status = response.Status; a.status != http.StatusOK {
			a.outcome = string(bytes.TrimSpace(response.Body))
			return a
		}
		if next = a.add(t, response.Body); next == "" {
			return a
		}
	}
	t.Fatalf("%s?%s: more than %d pages", path, query, maxPages)
	return a
}

// add takes in one page and gives the link to the next.
func (a *answer) add(t *testing.T, page []byte) (next string) {
	t.Helper()
	var bundle struct {
		Total int
		Link  []struct{ Relation, URL string }
		Entry []struct {
			Resource struct{ ResourceType, ID string }
			Search   struct{ Mode string }
		}
	}
	unmarshal(t, page, &bundle)
	a.total = bundle.Total
	for _, e := range bundle.Entry {
		a.entries++
		if e.Search.Mode == "match" {
			a.matches = append(a.matches, e.Resource.ResourceType+"/"+e.Resource.ID)
		}
	}
	for _, link := range bundle.Link {
		if link.Relation == "next" {
			next = link.URL
		}
	}
	return next
}

// encoded percent-encodes the names and values of a query that is written as
// people write it: what is encoded already stays so, and a + is a plus.
func encoded(t *testing.T, query string) string {
	t.Helper()
	var parts []string
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		parts = append(parts, escaped(t, name)+"="+escaped(t, value))
	}
	return strings.Join(parts, "&")
}

func escaped(t *testing.T, s string) string {
	t.Helper()
	plain, err := url.PathUnescape(s)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(url.QueryEscape(plain), "+", "%20")
}

func read(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(testpath.Shared(t, "suites", name))
	if err != nil {
		t.Fatal(err)
	}
	unmarshal(t, raw, into)
}
