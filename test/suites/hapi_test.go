package suites

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// hapiCases is how many cases the suite has.
const hapiCases = 133

// hapiCase expects exactly Expect, or all of Must and none of MustNot, by key.
type hapiCase struct {
	ID, Type, Query string
	Expect          []string
	Must            []string
	MustNot         []string `json:"must_not"`
	Status          int
}

// The date, quantity, token and composite cases of HAPI: every one.
func TestHAPI(t *testing.T) {
	var file struct {
		Suites []struct {
			Suite string
			Setup []resource
			Cases []hapiCase
		}
	}
	read(t, "search-cases-hapi.json", &file)
	d := newDatastore(t)
	ran := 0
	for i, suite := range file.Suites {
		t.Run(suite.Suite, func(t *testing.T) {
			w := &tagged{datastore: d, tag: "suite-" + strconv.Itoa(i), ids: map[string]string{}, references: map[string]string{}}
			for _, r := range suite.Setup {
				w.load(t, r)
			}
			for _, c := range suite.Cases {
				ran++
				w.check(t, c)
			}
		})
	}
	if ran != hapiCases {
		t.Errorf("%d cases, not %d", ran, hapiCases)
	}
}

// tagged is the resources of one suite, told apart from the others by a tag.
type tagged struct {
	*datastore
	tag             string
	ids, references map[string]string // by key
}

// fill puts tag, ids and references into a text.
func (w *tagged) fill(text string) string {
	pairs := []string{"{{TAG}}", w.tag}
	for key, id := range w.ids {
		pairs = append(pairs, "{{id:"+key+"}}", id, "{{ref:"+key+"}}", w.references[key])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func (w *tagged) load(t *testing.T, r resource) {
	t.Helper()
	r.Resource = json.RawMessage(w.fill(string(r.Resource)))
	typeName, id := w.datastore.load(t, r)
	w.ids[r.Key], w.references[r.Key] = id, typeName+"/"+id
}

// key is the key of a resource, or its reference where it has none.
func (w *tagged) key(reference string) string {
	for key, of := range w.references {
		if of == reference {
			return key
		}
	}
	return reference
}

func (w *tagged) check(t *testing.T, c hapiCase) {
	t.Helper()
	found := w.search(t, c.Type, w.fill(c.Query))
	want := http.StatusOK
	if c.Status != 0 {
		want = c.Status
	}
	if found.status != want {
		t.Errorf("%s: %s: status %d, want %d: %s", c.ID, c.Query, found.status, want, found.outcome)
		return
	}
	if want == http.StatusOK {
		w.judge(t, c, found)
	}
}

func (w *tagged) judge(t *testing.T, c hapiCase, found answer) {
	t.Helper()
	keys := make([]string, len(found.matches))
	for i, reference := range found.matches {
		keys[i] = w.key(reference)
	}
	slices.Sort(keys)
	slices.Sort(c.Expect)
	if c.Must == nil && c.MustNot == nil && !slices.Equal(keys, c.Expect) {
		t.Errorf("%s: %s: found %v, want %v", c.ID, c.Query, keys, c.Expect)
	}
	for _, key := range c.Must {
		if !slices.Contains(keys, key) {
			t.Errorf("%s: %s: %s is missing in %v", c.ID, c.Query, key, keys)
		}
	}
	for _, key := range c.MustNot {
		if slices.Contains(keys, key) {
			t.Errorf("%s: %s: %s should not be in %v", c.ID, c.Query, key, keys)
		}
	}
	if found.total != len(keys) {
		t.Errorf("%s: %s: total %d, but %d found", c.ID, c.Query, found.total, len(keys))
	}
}
