package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/test/blackbox/patients"
)

// copies imports the patients several times over, with other ids each time, and
// gives how many resources that were.
func (b *bench) copies(ctx context.Context, store string) (int64, error) {
	in, out := filepath.Join(b.folder, "in"), filepath.Join(b.folder, "out")
	if err := os.MkdirAll(in, 0o700); err != nil {
		return 0, err
	}
	n, err := patients.Write(ctx, synthea.Embedded(), in, b.times)
	if err != nil {
		return 0, err
	}
	var made struct {
		JobID string `json:"JobId"`
	}
	err = b.client.Control(ctx, "StartFHIRImportJob", map[string]any{
		"DatastoreId": store, "DataAccessRoleArn": "arn:aws:iam::111122223333:role/load", "ValidationLevel": "minimal",
		"InputDataConfig":     map[string]string{"S3Uri": blob.FileLocation(in + "/").String()},
		"JobOutputDataConfig": map[string]any{"S3Configuration": map[string]string{"S3Uri": blob.FileLocation(out).String(), "KmsKeyId": "alias/load"}},
	}, &made)
	if err != nil {
		return 0, err
	}
	return int64(n), b.client.AwaitJob(ctx, store, made.JobID)
}
