package smart_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/smart"
)

// Every route of the data plane has its row in the table of actions: one that
// has none is refused to every token.
func TestEveryRouteHasItsAction(t *testing.T) {
	known := smart.Actions()
	routes := fhirapi.Routes()
	if len(routes) == 0 {
		t.Fatal("no routes")
	}
	for _, route := range routes {
		method, shape, _ := strings.Cut(route, " ")
		path := strings.NewReplacer("T", "Patient", "I", "x", "V", "1").Replace(shape)
		if action := fhirapi.Action(method, "/"+path); !slices.Contains(known, action) {
			t.Errorf("%s is %s, which no scope allows", route, action)
		}
	}
	for _, o := range interaction.Operations() {
		for _, action := range []string{o.Action, o.PostAction} {
			if action != "" && !slices.Contains(known, action) {
				t.Errorf("%s is %s, which no scope allows", o.Name, action)
			}
		}
	}
}
