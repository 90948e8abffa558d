package fhirapi

import (
	"net/http"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// unitBytes is the size of a unit of HealthLake's quota for writes (Amazon
// HealthLake endpoints and quotas, "WRITE operations").
const unitBytes = 1 << 10

// headerConsistency asks for the history consistency level of a write.
const headerConsistency = "x-amz-fhir-history-consistency-level"

// WriteUnits is what a request weighs under HealthLake's quota for writes: a unit
// for each kilobyte of its body as sent, one at least; twice as much with
// history consistency level strong, and twice as much in a transaction.
func WriteUnits(r *http.Request, action string, body []byte) float64 {
	units := float64(max(1, (len(body)+unitBytes-1)/unitBytes))
	if strings.EqualFold(r.Header.Get(headerConsistency), "strong") {
		units *= 2
	}
	if action == "ProcessBundle" && !isBatch(body) {
		units *= 2
	}
	return units
}

// isBatch reports whether a body is certainly a batch: JSON that says so.
func isBatch(body []byte) bool {
	doc, err := fhir.Parse(body)
	if err != nil {
		return false
	}
	defer doc.Release()
	return doc.Root().Get("type").Is("batch")
}
