package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/awsquery"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/principals"
	"github.com/tarn-fhir/tarn/internal/sigv4"
	"github.com/tarn-fhir/tarn/internal/store"
)

// directory knows who there is: the root, whose key comes from the environment
// or the credentials file, and whom the IAM file declares.
func (c *serveCommand) directory(log *slog.Logger) (*iam.Directory, error) {
	root, err := c.rootKey()
	if err != nil {
		return nil, err
	}
	d, err := iam.NewDirectory(iam.Options{
		Partition: partition, Account: c.Account, Root: root, File: c.IAM, Clock: time.Now,
		Report: func(r iam.Reload) { report(log, r) },
	})
	if err != nil {
		return nil, err
	}
	if c.IAM != "" {
		report(log, iam.Reload{File: c.IAM, Warnings: d.Warnings()})
	}
	return d, nil
}

// report logs how an IAM file was taken.
func report(log *slog.Logger, r iam.Reload) {
	for _, w := range r.Warnings {
		log.Warn("the IAM file says what it hardly means", "file", r.File, "finding", iam.Finding(w))
	}
	if r.Err != nil {
		log.Error("the changed IAM file is refused; what was in force stays so", "file", r.File, "error", r.Err)
		return
	}
	log.Info("the IAM file is in force", "file", r.File)
}

func (c *serveCommand) rootKey() (iam.Credentials, error) {
	if c.RootAccessKeyID != "" {
		return iam.Credentials{AccessKeyID: c.RootAccessKeyID, SecretAccessKey: c.RootSecretAccessKey}, nil
	}
	return iam.LoadOrMake(credentialsFile(c.DataDir))
}

// accessKeys finds credentials in a directory, for the verifier.
type accessKeys struct{ *iam.Directory }

// Secret looks an access key up.
func (k accessKeys) Secret(ctx context.Context, accessKeyID string) (sigv4.Credential, error) {
	found, err := k.Lookup(ctx, accessKeyID)
	return sigv4.Credential(found), err
}

// principals opens the users, roles and policies that the server keeps itself.
func (c *serveCommand) principals(ctx context.Context, d *iam.Directory, system store.Store, log *slog.Logger) (*principals.Registry, error) {
	r, err := principals.Open(ctx, principals.Options{
		Directory: d, System: system, Partition: partition, Account: c.Account, Clock: time.Now, Random: rand.Reader,
		Report: func(err error) { log.Error("the last uses of access keys could not be written", "error", err) },
	})
	if err != nil {
		return nil, fmt.Errorf("principals made with tarn iam cannot stand with the IAM file: %w", err)
	}
	return r, nil
}

// beside tends several things until the context ends.
func beside(all ...func(context.Context)) func(context.Context) {
	return func(ctx context.Context) {
		var group sync.WaitGroup
		for _, tend := range all {
			group.Go(func() { tend(ctx) })
		}
		group.Wait()
	}
}

// globalRegion is the region that AWS's global services are signed for.
const globalRegion = "us-east-1"

// identities are the principals that are kept, and who verifies requests to the
// token and identity services.
func (c *serveCommand) identities(ctx context.Context, d *iam.Directory, system store.Store, log *slog.Logger) (*principals.Registry, map[string]*sigv4.Verifier, error) {
	people, err := c.principals(ctx, d, system, log)
	if err != nil {
		return nil, nil, err
	}
	verifiers, err := c.queryVerifiers(d)
	return people, verifiers, err
}

// queryVerifiers verify requests to the token and identity services.
func (c *serveCommand) queryVerifiers(d *iam.Directory) (map[string]*sigv4.Verifier, error) {
	all := map[string]*sigv4.Verifier{}
	for _, service := range awsquery.Services() {
		v, err := sigv4.New(sigv4.Config{
			Region: c.Region, OtherRegions: []string{globalRegion}, Service: service, Clock: time.Now, Keys: accessKeys{d},
			MaxBody: awsquery.MaxBody, Debug: c.DebugAuth,
		})
		if err != nil {
			return nil, err
		}
		all[service] = v
	}
	return all, nil
}
