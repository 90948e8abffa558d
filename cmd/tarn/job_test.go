package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/tarn-fhir/tarn/internal/bulk"
)

// An import's bar tells files, resources and, from what its files gave so far, of
// how many; it follows a job that begins again.
func TestImportBar(t *testing.T) {
	var out bytes.Buffer
	bar := newBar(&out, true, "job")
	for _, step := range []struct {
		report bulk.ImportReport
		want   string
	}{
		{bulk.ImportReport{}, "IN_PROGRESS, 0 of 0 files"},
		{bulk.ImportReport{ScannedFiles: 3, ImportedFiles: 1, ScannedBytes: 9000, ReadBytes: 3000, Scanned: 500}, "(500/1500"},
		{bulk.ImportReport{ScannedFiles: 3, ScannedBytes: 9000}, "IN_PROGRESS, 0 of 3 files"},
		{bulk.ImportReport{ScannedFiles: 3, ScannedBytes: 9000, ReadBytes: 3000, Scanned: 100}, "(100/300"},
		{bulk.ImportReport{ScannedFiles: 3, ImportedFiles: 1, FaultyFiles: 1, ScannedBytes: 9000, ReadBytes: 6000, Scanned: 600}, "(600/900"},
		{bulk.ImportReport{ScannedFiles: 3, ImportedFiles: 2, FaultyFiles: 1, ScannedBytes: 9000, ReadBytes: 9000, Scanned: 1000}, "3 of 3 files"},
	} {
		out.Reset()
		progress, err := json.Marshal(step.report)
		if err != nil {
			t.Fatal(err)
		}
		if err := (jobSummary{JobKind: bulk.KindImport, JobStatus: "IN_PROGRESS", Progress: progress}).show(bar); err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(out.Bytes(), []byte(step.want)) {
			t.Errorf("the bar shows %q, want %q in it", out.Bytes(), step.want)
		}
	}
}
