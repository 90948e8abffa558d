package fhirapi

import (
	"net/http"

	"github.com/tarn-fhir/tarn/internal/interaction"
)

// jsonContentType is of answers that are HealthLake's own and no resources.
const jsonContentType = "application/json"

// started answers an operation that goes on behind its request.
func (x *exchange) started(s *interaction.Started) error {
	x.w.Header().Set("Content-Location", x.Session.Base+"/"+s.Poll)
	if s.FHIR {
		return x.body(http.StatusAccepted, s.Body)
	}
	return x.json(http.StatusAccepted, s.Body)
}

func (x *exchange) json(status int, body []byte) error {
	x.w.Header().Set("Content-Type", jsonContentType)
	return x.send(status, body)
}

// bulkKinds are the jobs by the operation whose name begins their status's path.
var bulkKinds = map[string]interaction.BulkKind{
	"$bulk-delete": interaction.BulkDelete, "$erase": interaction.BulkErase,
	"$purge": interaction.BulkPurge, "$bulk-patch": interaction.BulkPatch,
}

// bulkStatus tells how far a bulk job is.
func (x *exchange) bulkStatus() error {
	body, err := x.Session.BulkStatus(x.r.Context(), bulkKinds[x.path[0]], x.path[1])
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, body)
}
