package fhirapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/interaction"
)

// jsonContentType is of answers that are HealthLake's own and no resources.
const jsonContentType = "application/json"

// started answers an operation that goes on behind its request.
func (x *exchange) started(s *interaction.Started) error {
	x.w.Header().Set("Content-Location", x.Session.Base+"/"+s.Poll)
	if x.prefer.async {
		x.applied("respond-async")
	}
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

func (x *exchange) exportStatus() error {
	return x.exportTold(x.Session.ExportStatus(x.r.Context(), x.path[1]))
}

func (x *exchange) cancelExport() error {
	return x.exportTold(x.Session.CancelExport(x.r.Context(), x.path[1]))
}

func (x *exchange) importStatus() error {
	return x.exportTold(x.Session.PullStatus(x.r.Context(), x.path[1]))
}

func (x *exchange) cancelImport() error {
	return x.exportTold(x.Session.CancelPull(x.r.Context(), x.path[1]))
}

func (x *exchange) exportTold(told *interaction.ExportStatus, err error) error {
	if err != nil {
		return err
	}
	if told.Progress != "" {
		x.w.Header().Set("X-Progress", told.Progress)
	}
	if told.Retry > 0 {
		x.w.Header().Set("Retry-After", strconv.Itoa(told.Retry))
	}
	if told.FHIR {
		return x.body(told.Code, told.Body)
	}
	return x.json(told.Code, told.Body)
}

// exportedFile sends a file of an export; pieces of it may be asked for (Range).
func (x *exchange) exportedFile() error {
	file, err := x.Session.ExportFile(x.r.Context(), x.path[1], x.path[2])
	if err != nil {
		return err
	}
	defer file.Close()
	h := x.w.Header()
	h.Set("Content-Type", ndjsonContentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", strconv.Quote(x.path[1]+"-"+x.path[2]))
	http.ServeContent(x.w, x.r, "", time.Time{}, file)
	return nil
}

// asksForLines reports whether a file of an export is asked for as what it is (Bulk
// Data Access, "File Requests").
func (x *exchange) asksForLines(accept string) bool {
	return len(x.path) == 3 && x.path[0] == "export" && strings.Contains(accept, "ndjson")
}

// ndjsonContentType is of exported files (Bulk Data Access, "File Requests").
const ndjsonContentType = "application/fhir+ndjson"
