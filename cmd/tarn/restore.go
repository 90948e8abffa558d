package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/backup"
	"github.com/tarn-fhir/tarn/internal/blob"
)

type backupCommand struct {
	connection
	ID string `arg:"" help:"Data store id; it has continuous backup."`
}

// Run brings a store's backup up to date, now.
func (c *backupCommand) Run(ctx context.Context) error {
	var done struct{ LatestRestorePoint float64 }
	if err := c.call(ctx, "BackupDatastore", map[string]string{"DatastoreId": c.ID}, &done); err != nil {
		return err
	}
	fmt.Println(time.UnixMilli(int64(done.LatestRestorePoint * 1000)).UTC().Format(time.RFC3339Nano))
	return nil
}

type restoreCommand struct {
	connection
	Source string `arg:"" help:"Id of the data store whose backup it is; it may be deleted."`
	Name   string `arg:"" optional:"" help:"A name for the new data store."`
	At     string `help:"The moment to restore, as 2026-11-20T12:00:00Z (RFC 3339); else the latest." placeholder:"TIME"`
	KmsKey string `help:"KMS key that wraps the new store's data key; else the server's own."`
	NoWait bool   `help:"Return at once, while the store is CREATING."`
}

// Run makes a new store of a backup.
func (c *restoreCommand) Run(ctx context.Context) error {
	create := datastoreCreate{connection: c.connection, Name: c.Name, KmsKey: c.KmsKey}
	in, err := create.request()
	if err != nil {
		return err
	}
	delete(in, "DatastoreTypeVersion")
	in["SourceDatastoreId"] = c.Source
	point := map[string]any{}
	if c.At != "" {
		at, err := time.Parse(time.RFC3339, c.At)
		if err != nil {
			return fmt.Errorf("--at %s: not a moment of the form 2026-11-20T12:00:00Z", c.At)
		}
		point["RestorePointTime"] = float64(at.UnixMilli()) / 1000
	}
	in["RestoreConfiguration"] = map[string]any{"ContinuousBackupRestoreConfiguration": point}
	var made struct{ DatastoreId string }
	if err := c.call(ctx, "RestoreFHIRDatastore", in, &made); err != nil {
		return err
	}
	if c.NoWait {
		d, err := c.describe(ctx, made.DatastoreId)
		return errors.Join(err, c.show(d))
	}
	d, err := c.await(ctx, made.DatastoreId, "ACTIVE")
	return errors.Join(c.show(d), err)
}

// backups is where the server keeps backups; nil: nowhere. s3://bucket/prefix is
// reached as jobs reach S3, with the server's own credentials.
func (c *serveCommand) backups(ctx context.Context) (*backup.Dir, error) {
	if !strings.Contains(c.BackupDir, "://") {
		if c.BackupDir == "" {
			return nil, nil
		}
		return &backup.Dir{Root: c.BackupDir}, nil
	}
	at, err := blob.Parse(c.BackupDir)
	if err != nil || at.Scheme != "s3" {
		return nil, fmt.Errorf("--backup-dir: %q is neither a folder nor s3://bucket/prefix", c.BackupDir)
	}
	storage, err := c.storage(ctx, c.Region, c.Account)
	if err != nil {
		return nil, err
	}
	bucket, err := storage.Bucket(ctx, at, blob.Access{Role: blob.OwnRole})
	if err != nil {
		return nil, fmt.Errorf("--backup-dir: %w", err)
	}
	dir := &backup.Dir{Bucket: bucket, Prefix: strings.Trim(at.Key, "/")}
	if dir.Prefix != "" {
		dir.Prefix += "/"
	}
	return dir, nil
}
