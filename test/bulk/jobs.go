package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/test/blackbox/patients"
)

// jobRole and jobKey are what a job must name, and a server that reads folders
// does not use.
const (
	jobRole = "arn:aws:iam::111122223333:role/load"
	jobKey  = "alias/load"
)

// bulk measures imports at each level and an export of what they brought.
func (b *bench) bulk(ctx context.Context, out io.Writer) (err error) {
	folder := filepath.Join(b.folder, "in")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	n, err := patients.Write(ctx, b.source, folder, b.times)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	defer func() { err = errors.Join(err, w.Flush()) }() // what was measured before a failure too
	fmt.Fprintln(w, "job\tresources\tseconds\ta second\tserver CPU each\tcores busy\tcores wanted\tpeak memory\t")
	var last string
	for _, level := range b.levels() {
		store, err := b.store(ctx, map[string]any{"DatastoreName": "import-" + level})
		if err != nil {
			return err
		}
		if err := b.measureJob(w, "import, "+level, n, func() error { return b.importAll(ctx, store, folder, level) }); err != nil {
			return err
		}
		last = store
	}
	err = b.measureJob(w, "export", n, func() error { return b.exportAll(ctx, last) })
	if err == nil && b.against != "" {
		err = b.other(ctx, w, folder, n)
	}
	return err
}

// measureJob prints a line about a job.
func (b *bench) measureJob(w io.Writer, name string, n int, run func() error) error {
	idle, err := b.server.Waited()
	if err != nil {
		return err
	}
	used, err := b.server.CPU()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := time.Since(began)
	cpu, err1 := b.server.CPU()
	waited, err2 := b.server.Waited()
	peak, err3 := b.server.Peak()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	cpu -= used
	wanted := cpu + waited - idle
	_, err = fmt.Fprintf(w, "%s\t%d\t%.2f\t%.0f\t%v\t%.2f\t%.2f\t%d MiB\t\n", name, n, took.Seconds(), float64(n)/took.Seconds(),
		(cpu / time.Duration(n)).Round(100*time.Nanosecond), cpu.Seconds()/took.Seconds(), wanted.Seconds()/took.Seconds(), peak>>20)
	return err
}

// importAll imports a folder and waits for the end.
func (b *bench) importAll(ctx context.Context, store, folder, level string) error {
	id, err := b.startImport(ctx, store, folder, level)
	if err != nil {
		return err
	}
	return b.client.AwaitJob(ctx, store, id)
}

func (b *bench) startImport(ctx context.Context, store, folder, level string) (string, error) {
	var made struct {
		JobID string `json:"JobId"`
	}
	err := b.client.Control(ctx, "StartFHIRImportJob", map[string]any{
		"DatastoreId": store, "DataAccessRoleArn": jobRole, "ValidationLevel": level,
		"InputDataConfig":     map[string]string{"S3Uri": blob.FileLocation(folder + "/").String()},
		"JobOutputDataConfig": b.jobOutput(),
	}, &made)
	return made.JobID, err
}

// jobOutput is where jobs write to.
func (b *bench) jobOutput() map[string]any {
	to := blob.FileLocation(filepath.Join(b.folder, "out")).String()
	return map[string]any{"S3Configuration": map[string]string{"S3Uri": to, "KmsKeyId": jobKey}}
}

func (b *bench) exportAll(ctx context.Context, store string) error {
	var made struct {
		JobID string `json:"JobId"`
	}
	err := b.client.Control(ctx, "StartFHIRExportJob", map[string]any{
		"DatastoreId": store, "DataAccessRoleArn": jobRole, "OutputDataConfig": b.jobOutput(),
	}, &made)
	if err != nil {
		return err
	}
	return b.client.AwaitJob(ctx, store, made.JobID)
}
