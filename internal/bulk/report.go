package bulk

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/job"
)

// ImportReport is what an import job reports: JobProgressReport, as counted.
type ImportReport struct {
	ScannedFiles   int64
	ScannedBytes   int64 // of the files, as stored; 0 for those of a manifest
	ReadBytes      int64 // of them, behind what was scanned
	ImportedFiles  int64 // read to their end
	FaultyFiles    int64 // that could not be read to their end
	Scanned        int64 // resources
	Imported       int64
	ImportedBytes  int64   // of resources, as JSON
	CustomerErrors int64   // resources refused
	Throughput     float64 // resources imported a second, of this attempt
	// Errors are the first resources that were refused.
	Errors []LineError `json:",omitempty"`
}

// LineError says why a line was refused.
type LineError struct {
	File    string
	Line    int64
	Message string
}

// maxErrors bounds Errors.
const maxErrors = 20

// status is how a job with this report ends.
func (r ImportReport) status() job.Status {
	switch {
	case r.CustomerErrors+r.FaultyFiles == 0:
		return job.Completed
	case r.Imported == 0:
		return job.Failed
	}
	return job.CompletedWithErrors
}

// counts are what one file adds to the report.
type counts struct {
	Scanned, Imported, Bytes, Errors int64
	Faulty                           bool
}

// tally counts while many files are under way.
type tally struct {
	clock func() time.Time
	began time.Time

	mu     sync.Mutex
	report ImportReport
	fresh  int64 // imported in this attempt
}

func newTally(clock func() time.Time) *tally { return &tally{clock: clock, began: clock()} }

func (t *tally) listed(size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.ScannedFiles++
	t.report.ScannedBytes += size
}

// add counts lines; fresh of them were not durable before this attempt.
func (t *tally) add(c counts, fresh int64, errors []LineError) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Scanned += c.Scanned
	t.report.Imported += c.Imported
	t.report.ImportedBytes += c.Bytes
	t.report.CustomerErrors += c.Errors
	t.fresh += fresh
	for _, e := range errors {
		if len(t.report.Errors) < maxErrors {
			t.report.Errors = append(t.report.Errors, e)
		}
	}
}

// read counts bytes of files, as stored.
func (t *tally) read(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.ReadBytes += bytes
}

// finished counts a file.
func (t *tally) finished(faulty bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if faulty {
		t.report.FaultyFiles++
	} else {
		t.report.ImportedFiles++
	}
}

func (t *tally) snapshot() ImportReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	report := t.report
	report.Errors = append([]LineError(nil), t.report.Errors...)
	if took := t.clock().Sub(t.began).Seconds(); took > 0 {
		report.Throughput = float64(t.fresh) / took
	}
	return report
}

// Megabytes is a size as HealthLake reports it.
func Megabytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// manifest is Manifest.json, with HealthLake's keys.
func (a *importRun) manifest() []byte {
	r := a.tally.snapshot()
	type uri struct {
		S3Uri           string `json:"s3Uri"`
		EncryptionKeyID string `json:"encryptionKeyID,omitempty"`
	}
	raw, _ := json.Marshal(map[string]any{ // strings and numbers always marshal
		"inputDataConfig":                       uri{S3Uri: a.Input},
		"outputDataConfig":                      uri{a.folder.String(), a.KMSKey},
		"successOutput":                         map[string]string{"successOutputS3Uri": a.folder.Under(folders[success]).String()},
		"failureOutput":                         map[string]string{"failureOutputS3Uri": a.folder.Under(folders[failure]).String()},
		"numberOfScannedFiles":                  r.ScannedFiles,
		"numberOfFilesImported":                 r.ImportedFiles,
		"sizeOfScannedFilesInMB":                Megabytes(r.ScannedBytes),
		"sizeOfDataImportedSuccessfullyInMB":    Megabytes(r.ImportedBytes),
		"numberOfResourcesScanned":              r.Scanned,
		"numberOfResourcesImportedSuccessfully": r.Imported,
		"numberOfResourcesWithCustomerError":    r.CustomerErrors,
		"numberOfResourcesWithServerError":      0,
	})
	return raw
}
