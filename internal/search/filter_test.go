package search_test

import (
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

func parseFilter(t *testing.T, typeName, filter string, o search.Options) (*search.Query, error) {
	t.Helper()
	typ, ok := registry.Type(typeName)
	if !ok {
		t.Fatalf("no type %q", typeName)
	}
	return search.Parse(registry, []plan.Type{typ}, []search.Pair{{Name: "_filter", Value: filter}}, o)
}

// handling=lenient passes over unknown parameters, but not over a filter
// because of a part: what is left would find more than was meant.
func TestFilterLenient(t *testing.T) {
	for _, filter := range []string{"nam eq x", "name eq x and nam eq y", "organization.nam eq x", "name like x"} {
		if q, err := parseFilter(t, "Patient", filter, search.Options{Lenient: true}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, %v", filter, q, err)
		}
	}
}

// A filter is bounded in every direction, and one just within is read.
func TestFilterBounds(t *testing.T) {
	tests := func(n int) string { return strings.TrimSuffix(strings.Repeat("_id eq x or ", n), " or ") }
	nested := func(n int) string { return strings.Repeat("(", n) + "_id eq x" + strings.Repeat(")", n) }
	hops := func(n int) string { return strings.Repeat("partof.", n) + "name eq x" }
	for _, c := range []struct {
		typeName, filter string
		kind             fault.Kind // 0: it is read
		read             bool
	}{
		{"Patient", tests(search.MaxFilterTests), 0, true},
		{"Patient", tests(search.MaxFilterTests + 1), fault.Invalid, false},
		{"Patient", nested(search.MaxFilterDepth - 1), 0, true},
		{"Patient", nested(search.MaxFilterDepth), fault.Invalid, false},
		{"Patient", "not " + nested(100_000), fault.Invalid, false},
		{"Location", hops(search.MaxChain), 0, true},
		{"Location", hops(search.MaxChain + 1), fault.TooCostly, false},
		{"Patient", "name eq " + strings.Repeat("x", search.MaxValueBytes), 0, true},
		{"Patient", "name eq " + strings.Repeat("x", search.MaxValueBytes+1), fault.TooCostly, false},
		{"Patient", strings.Repeat("link.", search.MaxChain) + "name eq x", 0, true},
		{"Composition", strings.Repeat("subject.", search.MaxChain) + "_id eq x", fault.TooCostly, false},
	} {
		_, err := parseFilter(t, c.typeName, c.filter, search.Options{})
		if c.read && err != nil || !c.read && !fault.Is(err, c.kind) {
			t.Errorf("%.60s… (%d bytes): %v", c.filter, len(c.filter), err)
		}
	}
}
