package interaction

import (
	"testing"

	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/searchparam"
)

// Every date that $everything looks at is a date parameter of its type.
func TestClinicalDates(t *testing.T) {
	reg := searchparam.NewRegistry()
	for name, code := range clinicalDate {
		typ, ok := reg.Type(name)
		if !ok {
			t.Errorf("no type %s", name)
			continue
		}
		if p, ok := reg.Param(typ, code); !ok || p.Kind != search.KindDate {
			t.Errorf("%s has no date %s: %v", name, code, reg.Codes(typ))
		}
	}
}
