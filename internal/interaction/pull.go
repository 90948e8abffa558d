package interaction

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/search"
)

// Imports are the data store's import jobs that fetch what they import.
type Imports interface {
	// StartPull makes the job and gives its id, durably; fault.Forbidden for files
	// that may not be fetched, fault.Throttled when too many jobs wait.
	StartPull(ctx context.Context, ask PullAsk) (id string, err error)
	// GetPull gives a job; fault.NotFound.
	GetPull(ctx context.Context, id string) (*Pull, error)
	// CancelPull stops a job; fault.Conflict when it has ended.
	CancelPull(ctx context.Context, id string) error
}

// PullAsk is what was asked of an import that fetches its files.
type PullAsk struct {
	URL    string // of the manifest, or of the export that makes it
	Static bool   // URL is the manifest's
	Files  []PullFile
	Level  string
}

// PullFile is one file of a manifest.
type PullFile struct {
	Type string `json:"type"`
	URL  string `json:"url"`
}

// Pull is such a job.
type Pull struct {
	Status                                          job.Status
	Submitted, Ended                                time.Time
	Message                                         string
	Files, Read, Faulty, Scanned, Imported, Refused int64
	Errors                                          []string // of the first lines that were refused
}

// importOperation starts an import of what a Bulk Data export made (SMART's Bulk
// Data Import, "ping and pull"): Parameters with exportUrl and exportType, or a
// manifest with its list of files as input.
func importOperation(ctx context.Context, s *Session, req OperationRequest) (*Started, error) {
	if s.Imports == nil {
		return nil, fault.New(fault.NotSupported, "interaction.import", "this server carries out no imports")
	}
	if err := s.mayImport(); err != nil {
		return nil, err
	}
	ask, err := readPull(req)
	if err != nil {
		return nil, err
	}
	ask.Level = s.Level.String()
	id, err := s.Imports.StartPull(ctx, ask)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"datastoreId": s.StoreID, "jobStatus": job.Submitted, "jobId": id})
	return &Started{Poll: "import/" + id, Body: body}, fault.Wrap(fault.Internal, "interaction.import", err)
}

// mayImport refuses whoever may not write every resource: what a manifest will
// bring is not known.
func (s *Session) mayImport() error {
	for _, t := range s.Registry.Types() {
		for _, access := range []search.Access{search.Create, search.Update} {
			if err := s.wholly("interaction.import", t, access); err != nil {
				return err
			}
		}
	}
	return nil
}

func readPull(req OperationRequest) (ask PullAsk, err error) {
	var sent struct {
		ResourceType string     `json:"resourceType"`
		InputFormat  string     `json:"inputFormat"`
		Input        []PullFile `json:"input"`
	}
	if err := json.Unmarshal(req.Body, &sent); err != nil {
		return ask, &fault.Error{Kind: fault.Invalid, Op: "interaction.import", Detail: "the body is neither Parameters nor a manifest", Cause: err}
	}
	if sent.ResourceType == "" {
		if sent.InputFormat != "" && !slices.Contains(ndjson, sent.InputFormat) {
			return ask, &fault.Error{Kind: fault.Invalid, Op: "interaction.import", Subject: "inputFormat", Detail: "files are application/fhir+ndjson"}
		}
		ask.Files = sent.Input
		return ask, nil
	}
	pairs, err := exportParameters(req.Body)
	if err != nil {
		return ask, err
	}
	for _, p := range slices.Concat(req.Pairs, pairs) {
		switch {
		case p.Name == "exportUrl":
			ask.URL = p.Value
		case p.Name == "exportType" && (p.Value == "static" || p.Value == "dynamic"):
			ask.Static = p.Value == "static"
		case p.Name == "_format" || p.Name == "_pretty":
		default:
			return ask, invalidPair(p, "not a parameter of this operation, or not a value of it")
		}
	}
	if ask.URL == "" {
		return ask, &fault.Error{Kind: fault.Invalid, Op: "interaction.import", Subject: "exportUrl", Detail: "it is missing"}
	}
	return ask, nil
}

// pullTold is the answer of an import that has ended.
type pullTold struct {
	TransactionTime string          `json:"transactionTime"`
	JobID           string          `json:"jobId"`
	JobStatus       job.Status      `json:"jobStatus"`
	Message         string          `json:"message,omitempty"`
	Files           int64           `json:"files"`
	Faulty          int64           `json:"filesReadWithError"`
	Scanned         int64           `json:"resourcesScanned"`
	Imported        int64           `json:"resourcesImported"`
	Refused         int64           `json:"resourcesRefused"`
	Outcome         json.RawMessage `json:"outcome"` // an OperationOutcome of the first refusals
}

// pullRetry is how many seconds a client is asked to wait.
const pullRetry = 1

// PullStatus tells how far an import that fetches its files is.
func (s *Session) PullStatus(ctx context.Context, id string) (*ExportStatus, error) {
	p, err := s.openPull(ctx, id)
	if err != nil {
		return nil, err
	}
	if !p.Status.Ended() {
		progress := string(p.Status) + ": " + strconv.FormatInt(p.Scanned, 10) + " resources, " + strconv.FormatInt(p.Read, 10) + " files"
		return &ExportStatus{Code: 202, Retry: pullRetry, Progress: progress[:min(len(progress), maxProgress)], Body: []byte("{}")}, nil
	}
	var issues []fhir.OutcomeIssue
	for _, e := range p.Errors {
		issues = append(issues, fhir.OutcomeIssue{Severity: "error", Code: "processing", Diagnostics: e})
	}
	if issues == nil {
		issues = []fhir.OutcomeIssue{{Severity: "information", Code: "informational", Diagnostics: strings.TrimSpace("no line was refused " + p.Message)}}
	}
	body, err := json.Marshal(pullTold{
		fhirInstant(p.Ended), id, p.Status, p.Message, p.Files, p.Faulty, p.Scanned, p.Imported, p.Refused, fhir.AppendOutcome(nil, issues...),
	})
	return &ExportStatus{Code: 200, Body: body}, fault.Wrap(fault.Internal, "interaction.PullStatus", err)
}

func (s *Session) openPull(ctx context.Context, id string) (*Pull, error) {
	if s.Imports == nil || !validJobID(id) || s.mayImport() != nil {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "interaction.openPull", Subject: cutText(id), Detail: "no such import"}
	}
	return s.Imports.GetPull(ctx, id)
}

// CancelPull stops an import; what it brought stays.
func (s *Session) CancelPull(ctx context.Context, id string) (*ExportStatus, error) {
	if _, err := s.openPull(ctx, id); err != nil {
		return nil, err
	}
	err := s.Imports.CancelPull(ctx, id)
	return &ExportStatus{Code: 202, Body: []byte("{}")}, err
}
