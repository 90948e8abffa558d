package searchparam

import (
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
)

// Every parameter of R4 that has an expression compiles for every type that it
// applies to.
func TestEveryParameterCompiles(t *testing.T) {
	r := NewRegistry()
	n := 0
	for _, id := range r4.ResourceTypes() {
		for _, x := range r.programOf(id).extractions {
			n++
			if x.err != nil {
				t.Errorf("%s.%s: %v", r4.TypeName(id), x.param.Code, x.err)
			}
			if len(x.paths) == 0 {
				t.Errorf("%s.%s leads nowhere", r4.TypeName(id), x.param.Code)
			}
		}
	}
	if n < 2000 {
		t.Errorf("%d pairs of type and parameter, expected over 2,000", n)
	}
	for _, p := range r4.AllParams() {
		if kind := r.params[p].Kind; p.Expression == "" && kind != search.KindSpecial && kind != search.KindWords {
			t.Errorf("%s.%s has no expression", p.Base, p.Code)
		}
	}
}
