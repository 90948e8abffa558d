package searchparam

import (
	"reflect"
	"slices"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// The entries of some parameters are those that the whole has of them.
func TestExtractOf(t *testing.T) {
	registry := NewRegistry()
	x := NewExtractor(registry, plan.HashKey{1}, "https://tarn.example/r4/")
	doc, err := fhir.Parse([]byte(`{"resourceType":"Observation","id":"o","meta":{"tag":[{"code":"t"}]},"status":"final","category":[{"coding":[{"code":"laboratory"}]}],` +
		`"code":{"text":"x","coding":[{"system":"http://c","code":"y"}]},"subject":{"reference":"Patient/a"},"performer":[{"reference":"Patient/b"},{"reference":"Practitioner/p"}],"valueQuantity":{"value":1,"unit":"mg"},"effectiveDateTime":"2024"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer doc.Release()
	typ, _ := r4.TypeByName("Observation")
	key := plan.Key{Type: typ, ID: "o"}
	all, err := x.Extract(key, doc.Root())
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, codes := range [][]string{{"subject"}, {"subject", "performer"}, {"category"}, {"status", "code", "date"}, {"value-quantity", "_tag"}, {"focus"}, {}} {
		var numbers []uint16
		for _, code := range codes {
			p, ok := registry.Param(typ, code)
			if !ok {
				t.Fatal(code)
			}
			numbers = append(numbers, p.Number)
		}
		slices.Sort(numbers)
		want := slices.DeleteFunc(slices.Clone(all), func(e plan.Entry) bool { return !slices.Contains(numbers, e.Param.Number()) })
		for range 2 { // made, then kept
			got, err := x.ExtractOf(key, doc.Root(), numbers)
			if err != nil || len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
				t.Errorf("%v: %v, want %v (%v)", codes, got, want, err)
			}
		}
		found += len(want)
	}
	if found == 0 {
		t.Error("nothing was found at all")
	}
}
