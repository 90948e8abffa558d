package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tarn-fhir/tarn/internal/blob"
)

// storageFlags say where imports read and exports write. Beside them the SDK's
// standard settings hold: AWS_ENDPOINT_URL_S3, AWS_CA_BUNDLE, profiles, ….
type storageFlags struct {
	S3Dir        string            `name:"s3-dir" help:"Serve s3://bucket/key of jobs from this folder, a folder a bucket, instead of an S3 server; roles need not exist." type:"existingdir" env:"TARN_S3_DIR"`
	S3Endpoint   string            `name:"s3-endpoint" help:"The S3-compatible server of jobs; else the SDK's own settings." placeholder:"URL" env:"TARN_S3_ENDPOINT"`
	S3Region     string            `name:"s3-region" help:"Region of the buckets; else the server's." env:"TARN_S3_REGION"`
	S3Addressing string            `name:"s3-addressing" help:"How buckets are named in requests: ${enum}; auto is path where an endpoint is set." enum:"auto,path,virtual" default:"auto" env:"TARN_S3_ADDRESSING"`
	S3Sealing    string            `name:"s3-sealing" help:"Ask S3 to seal what jobs write under their KmsKeyId: ${enum}." enum:"kms,none" default:"kms" env:"TARN_S3_SEALING"`
	S3Role       map[string]string `name:"s3-role" help:"The AWS profile whose credentials a DataAccessRoleArn stands for; * is every other role. Without any, roles of the server's account mean the server's own credentials." placeholder:"ARN=PROFILE" mapsep:"," env:"TARN_S3_ROLE"`
	S3AssumeRole bool              `name:"s3-assume-role" help:"Assume the DataAccessRoleArn by AWS STS." env:"TARN_S3_ASSUME_ROLE"`
	FileDirs     []string          `name:"file-dir" help:"Folders that jobs may reach as file:///path." placeholder:"DIR" env:"TARN_FILE_DIR"`
	ImportFrom   []string          `name:"import-from" help:"Origins that $import may fetch manifests and files from, https://host:port, each with =FILE behind it where it wants the bearer token in that file." placeholder:"ORIGIN" env:"TARN_IMPORT_FROM"`
	CloudBuckets []string          `name:"cloud-bucket" help:"Buckets of Google Cloud Storage and containers of Azure that jobs may reach: gs://bucket, azblob://container?storage_account=name." placeholder:"URL" env:"TARN_CLOUD_BUCKET"`
}

// storage is what jobs read from and write to.
func (f storageFlags) storage(ctx context.Context, region, account string) (blob.Schemes, error) {
	schemes := blob.Schemes{}
	if len(f.FileDirs) > 0 {
		files := blob.Files{}
		for _, dir := range f.FileDirs {
			absolute, err := filepath.Abs(dir)
			if err != nil {
				return nil, err
			}
			files.Allowed = append(files.Allowed, absolute)
		}
		schemes["file"] = files
	}
	if err := f.clouds(schemes); err != nil {
		return nil, err
	}
	if f.S3Dir != "" {
		absolute, err := filepath.Abs(f.S3Dir)
		schemes["s3"] = blob.Dir{Root: absolute}
		return schemes, err
	}
	clients, err := f.clients(ctx, region, account)
	if err != nil {
		return nil, err
	}
	schemes["s3"] = blob.S3{Client: clients.Client, Seal: f.S3Sealing == "kms"}
	return schemes, nil
}

// clouds adds other clouds.
func (f storageFlags) clouds(schemes blob.Schemes) error {
	others, err := blob.NewCloud(f.CloudBuckets)
	if err != nil {
		return fmt.Errorf("--cloud-bucket: %w", err)
	}
	for _, scheme := range others.Schemes() {
		schemes[scheme] = others
	}
	return nil
}

// schemes are those of locations that jobs may name besides s3.
func (f storageFlags) schemes() map[string]bool {
	known := map[string]bool{"file": len(f.FileDirs) > 0}
	for _, bucket := range f.CloudBuckets {
		scheme, _, _ := strings.Cut(bucket, "://")
		known[scheme] = true
	}
	return known
}

func (f storageFlags) clients(ctx context.Context, region, account string) (*blob.Clients, error) {
	if f.S3Region != "" {
		region = f.S3Region
	}
	own, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
	if err != nil {
		return nil, fmt.Errorf("the AWS settings for S3: %w", err)
	}
	clients := &blob.Clients{Own: own, Account: account, Assume: f.S3AssumeRole, Options: f.options, Roles: map[string]aws.CredentialsProvider{}}
	for role, profile := range f.S3Role {
		if role != "*" && !strings.HasPrefix(role, "arn:") {
			return nil, fmt.Errorf("--s3-role: %q is not the ARN of a role, nor *", role)
		}
		named, err := config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithSharedConfigProfile(profile))
		if err != nil {
			return nil, fmt.Errorf("--s3-role: the profile %q: %w", profile, err)
		}
		clients.Roles[role] = named.Credentials
	}
	return clients, nil
}

func (f storageFlags) options(o *s3.Options) {
	if f.S3Endpoint != "" {
		o.BaseEndpoint = &f.S3Endpoint
	}
	o.UsePathStyle = f.S3Addressing == "path" || f.S3Addressing == "auto" && o.BaseEndpoint != nil
}
