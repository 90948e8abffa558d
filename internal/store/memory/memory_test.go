package memory_test

import (
	"testing"

	"github.com/tarn-fhir/tarn/internal/store/storetest"
)

// The twin passes the whole examination without exception.
func TestExamination(t *testing.T) { storetest.Run(t, storetest.Twin) }

func BenchmarkTwin(b *testing.B) { storetest.Benchmarks(b, storetest.Twin) }
