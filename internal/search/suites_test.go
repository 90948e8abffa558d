package search_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// suiteCase is one case of the public suites: what must and must not be found.
type suiteCase struct {
	ID      string
	Type    string
	Path    string
	Query   string
	Expect  []string
	Must    []string
	MustNot []string `json:"must_not"`
	Match   *int
	Status  int
	Note    string
}

func readSuite(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(testpath.Shared(t, "suites", name))
	if err == nil {
		err = json.Unmarshal([]byte(strings.ReplaceAll(string(raw), "{{TAG}}", "suite")), into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Cases published by HAPI (search-cases-hapi.json): all of them.
func TestHAPICases(t *testing.T) {
	var file struct {
		Suites []struct {
			Suite string
			Setup []struct {
				Key      string
				Resource map[string]any
			}
			Cases []suiteCase
		}
	}
	readSuite(t, "search-cases-hapi.json", &file)
	n := 0
	for _, suite := range file.Suites {
		w := newWorld()
		for _, s := range suite.Setup {
			s.Resource["id"] = s.Key
			raw, _ := json.Marshal(s.Resource)
			w.load(t, string(raw))
		}
		for _, c := range suite.Cases {
			n++
			w.check(t, c)
		}
	}
	if n < 133 {
		t.Errorf("%d cases, expected 133", n)
	}
}

func (w *world) check(t *testing.T, c suiteCase) {
	t.Helper()
	ids, err := w.search(c.Type+"?"+c.Query, search.Everything())
	if c.Status == 400 {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %s: %v, want invalid", c.ID, c.Query, err)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %s: %v", c.ID, c.Query, err)
		return
	}
	slices.Sort(ids)
	slices.Sort(c.Expect)
	if c.Must == nil && c.MustNot == nil && !slices.Equal(ids, c.Expect) {
		t.Errorf("%s: %s: found %v, want %v", c.ID, c.Query, ids, c.Expect)
	}
	for _, id := range c.Must {
		if !slices.Contains(ids, id) {
			t.Errorf("%s: %s: %s is missing in %v", c.ID, c.Query, id, ids)
		}
	}
	for _, id := range c.MustNot {
		if slices.Contains(ids, id) {
			t.Errorf("%s: %s: %s should not be in %v", c.ID, c.Query, id, ids)
		}
	}
}

// against are the cases of candle that contradict R4, with what R4 says.
var against = map[string]string{
	"candle-077": "|code is for values without a system (3.1.1.4.10); the identifier has one",
	"candle-172": "|code is for values without a system (3.1.1.4.10); the identifier has one",
	"candle-005": "the alternatives of a composite are whole pairs (3.1.1.4.17)",
	"candle-006": "the alternatives of a composite are whole pairs (3.1.1.4.17)",
	"candle-008": "with a system, the code is compared, not the human unit (3.1.1.4.11)",
	"candle-021": "with a system, the code is compared, not the human unit (3.1.1.4.11)",
	"candle-036": "a chain is evaluated inside contained resources (3.1.1.5.5); one subject is a contained Peter",
	"candle-037": "a chain is evaluated inside contained resources (3.1.1.5.5); one subject is a contained Peter",
	"candle-022": "with a system, the code is compared, not the human unit (3.1.1.4.11)",
}

// Counts published by candle (search-counts-candle.json): all but those that
// need user-defined parameters or contradict R4.
func TestCandleCounts(t *testing.T) {
	var file struct {
		Setup []struct {
			Key      string
			Resource json.RawMessage
		}
		Cases []suiteCase
	}
	readSuite(t, "search-counts-candle.json", &file)
	w := newWorld()
	for _, s := range file.Setup {
		w.load(t, string(s.Resource))
	}
	for _, c := range file.Cases {
		if against[c.ID] != "" || strings.Contains(c.Note, "custom SearchParameter") || c.Match == nil {
			continue
		}
		ids, err := w.search(c.Type+c.Path+"?"+c.Query, search.Everything())
		if err != nil || len(ids) != *c.Match {
			t.Errorf("%s: %s%s?%s: found %v (%v), want %d", c.ID, c.Type, c.Path, c.Query, ids, err, *c.Match)
		}
	}
}
