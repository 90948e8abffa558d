package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// exportCommand starts an export and watches it.
type exportCommand struct {
	connection
	Datastore string `help:"Data store id." required:""`
	Out       string `help:"Where the files go: s3://bucket/prefix, or a folder that the server may reach (tarn serve --file-dir)." required:"" placeholder:"URI"`
	Role      string `help:"DataAccessRoleArn." default:"arn:aws:iam::111122223333:role/tarn"`
	KmsKey    string `help:"The key that the files are sealed under in S3." default:"alias/tarn"`
	Name      string `help:"A name for people."`
	Token     string `help:"ClientToken: the same token gives the same job."`
	NoWait    bool   `help:"Return at once."`
}

// Run starts the export.
func (c *exportCommand) Run(ctx context.Context) error {
	out, err := place(c.Out)
	if err != nil {
		return err
	}
	in := map[string]any{
		"DatastoreId": c.Datastore, "DataAccessRoleArn": c.Role,
		"OutputDataConfig": map[string]any{"S3Configuration": map[string]string{"S3Uri": out, "KmsKeyId": c.KmsKey}},
	}
	if c.Name != "" {
		in["JobName"] = c.Name
	}
	if c.Token != "" {
		in["ClientToken"] = c.Token
	}
	var made struct{ JobId string }
	if err := c.call(ctx, "StartFHIRExportJob", in, &made); err != nil {
		return err
	}
	job := jobFlags{c.connection, c.Datastore, made.JobId}
	if c.NoWait {
		return (&jobDescribe{job}).Run(ctx)
	}
	return errors.Join(job.watch(ctx), c.where(ctx, made.JobId))
}

// where tells people which folder the job made.
func (c *exportCommand) where(ctx context.Context, id string) error {
	if c.Output == "json" || errors.Is(ctx.Err(), context.Canceled) {
		return nil // a program reads the job, and who pressed Ctrl-C knows
	}
	var answer struct {
		ExportJobProperties struct {
			OutputDataConfig struct{ S3Configuration struct{ S3Uri string } }
		}
	}
	if err := c.call(ctx, "DescribeFHIRExportJob", map[string]string{"DatastoreId": c.Datastore, "JobId": id}, &answer); err != nil {
		return err
	}
	_, err := fmt.Fprintln(os.Stdout, answer.ExportJobProperties.OutputDataConfig.S3Configuration.S3Uri)
	return err
}
