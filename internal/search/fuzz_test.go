package search_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// seeds are the searches of the test files.
func seeds(f *testing.F) []string {
	files, err := filepath.Glob("testdata/*.test")
	if err != nil {
		f.Fatal(err)
	}
	var all []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "search "); ok {
				query, _, _ := strings.Cut(rest, " →")
				all = append(all, query)
			}
		}
	}
	return all
}

// Whatever comes, Parse gives a query or an error of a kind that is the
// client's, and self parses again to itself and to the same plan.
func FuzzParse(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		q, err := parse(line)
		if err != nil {
			if fault.Is(err, fault.Internal) {
				t.Errorf("%q: %v", line, err)
			}
			return
		}
		if _, err := q.Compile(search.Env{Registry: registry, Key: hashKey, Grant: search.Everything(), Now: now}); fault.Is(err, fault.Internal) {
			t.Errorf("%q: %v", line, err)
		}
		path, _, _ := strings.Cut(line, "?")
		again, err := parse(path + "?" + q.Self())
		if err != nil || again.Self() != q.Self() {
			t.Errorf("%q: self %q reads as %v, %v", line, q.Self(), again, err)
		}
	})
}

// Folding is stable, and what is folded is valid text.
func FuzzFold(f *testing.F) {
	for _, seed := range []string{"Müller", "O'Brien", "  a\tb ", "ﬁ", "İstanbul", "ΣΑΣ", "\xff", "ß", "Å"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := search.Fold(s)
		if twice := search.Fold(once); twice != once {
			t.Errorf("%q folds to %q, and that to %q", s, once, twice)
		}
		if strings.HasPrefix(once, " ") || strings.HasSuffix(once, " ") || strings.Contains(once, "  ") {
			t.Errorf("%q folds to %q", s, once)
		}
	})
}

// Whatever stands in a filter, it is read, or refused with the place of what is
// wrong.
func FuzzFilter(f *testing.F) {
	for _, seed := range seeds(f) {
		if _, filter, ok := strings.Cut(seed, "_filter="); ok {
			f.Add(filter)
		}
	}
	patient, _ := registry.Type("Patient")
	f.Fuzz(func(t *testing.T, filter string) {
		q, err := search.Parse(registry, []plan.Type{patient}, []search.Pair{{Name: "_filter", Value: filter}}, search.Options{})
		if err != nil {
			if e := fault.From(err); e.Kind != fault.Invalid && e.Kind != fault.NotSupported && e.Kind != fault.TooCostly || e.Message() == "" {
				t.Errorf("%q: %v", filter, err)
			}
			return
		}
		again, err := search.Parse(registry, []plan.Type{patient}, q.Pairs(), search.Options{})
		if err != nil || again.Self() != q.Self() {
			t.Errorf("%q: self %q reads as %v, %v", filter, q.Self(), again, err)
		}
	})
}
