package blackbox

import (
	"testing"

	source "github.com/tarn-fhir/tarn/internal/synthea"
)

// embedded is what the binary preloads.
func embedded(t testing.TB) source.Stats {
	t.Helper()
	parts, err := source.Embedded().Parts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return source.Count(parts)
}
