package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/awsquery"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir/dictionary"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/gateway"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/seal/awskms"
	"github.com/tarn-fhir/tarn/internal/seal/localkms"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/sigv4"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/internal/throttle"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// partition is the AWS partition that ARNs name.
const partition = "aws"

// systemStore is the id of the store that holds the server's own records.
const systemStore store.ID = "system"

// wire puts the server together, from the disk up. What it opened, server.stop
// closes in the reverse order.
func wire(ctx context.Context, c *serveCommand, log *slog.Logger) (_ *server, err error) {
	var closing closers
	defer func() {
		if err != nil {
			err = errors.Join(err, closing.close())
		}
	}()
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, err
	}
	c.limitMemory()
	directory, err := c.directory(log)
	if err != nil {
		return nil, err
	}
	local, keyring, err := c.keyring(ctx, log)
	if err != nil {
		return nil, err
	}
	engine, err := c.engine(log)
	if err != nil {
		return nil, err
	}
	closing.add(engine.Close)
	system, box, err := openSystem(ctx, c, engine, local)
	if err != nil {
		return nil, err
	}
	closing.add(system.Close)
	queue := job.NewQueue(job.Options{System: system, Workers: c.Workers, NewID: mintJob, Clock: time.Now, Log: log})
	shared, err := c.sessions(box, queue, log)
	if err != nil {
		return nil, err
	}
	limiter, err := c.limiter()
	if err != nil {
		return nil, err
	}
	authority, err := c.authority(ctx)
	if err != nil {
		return nil, err
	}
	backups, err := c.backups(ctx)
	if err != nil {
		return nil, err
	}
	plane := datastore.New(datastore.Options{
		Partition: partition, Region: c.Region, Account: c.Account, Engine: engine, System: system, Jobs: queue,
		Keyring: keyring, OwnedKey: local.OwnedKey(), Preload: shared, Clock: time.Now, Random: rand.Reader, Log: log,
		KeepDeleted: c.KeepDeleted, IdleClose: c.IdleClose, KeyCheck: c.KeyCheck, KeyGrace: c.KeyGrace, MaxOpen: c.maxOpen(log), MaxDatastores: c.maxDatastores(),
		Backups: backups, BackupEvery: c.BackupEvery,
		Gone: func(id string) { limiter.Forget(id); authority.Forget(id); shared.gone(id) },
	})
	closing.add(func() error { plane.Close(); return nil })
	if err := c.jobs(ctx, queue, system, plane, shared, log); err != nil {
		return nil, err
	}
	trail, err := c.recorder(log, &closing)
	if err != nil {
		return nil, err
	}
	recorder := &storeAudit{next: trail, plane: plane, sessions: shared, log: log}
	verifier, err := c.verifier(directory)
	if err != nil {
		return nil, err
	}
	people, queries, err := c.identities(ctx, directory, system, log)
	if err != nil {
		return nil, err
	}
	development, err := c.devServer(plane, shared, log)
	if err != nil {
		return nil, err
	}
	door := gateway.New(gateway.Options{
		Failures: throttle.NewFailures(), Query: &awsquery.API{Tokens: directory, Principals: people}, QueryVerifiers: queries,
		Verifier: verifier, Policy: directory, Plane: plane,
		Control: &awsapi.API{Plane: plane, Endpoint: func(id string) string { return c.storeBase(id) + "/" }, Tokens: listTokens{box},
			Jobs: queue, Imports: shared.imports, Exports: shared.exports, Schemes: c.schemes()},
		Data: &fhirapi.API{}, Sessions: shared, Limiter: limiter, Recorder: recorder,
		Metrics: metrics(shared.parameters, queue, engine), Log: log, Clock: time.Now, Random: rand.Reader, PublicDiscovery: !c.PrivateDiscovery,
		Searches: interaction.SearchLimits{Time: c.SearchTime, Rows: c.SearchRows}, SlowSearch: c.SlowSearch,
		Bearers: authority, Roles: directory, DevIDP: development, Endpoint: func(id string) string { return c.storeBase(id) + "/" },
	})
	if err := queue.Start(ctx); err != nil {
		return nil, err
	}
	closing.add(func() error { queue.Stop(); return nil })
	return &server{handler: door, tend: beside(plane.Tend, people.Tend, shared.exports.tend, systemKeys{c.DataDir, local}.tend(log)), stop: closing.close, log: log}, nil
}

// jobs gives the sessions what goes on behind requests, and the queue its kinds.
func (c *serveCommand) jobs(ctx context.Context, queue *job.Queue, system store.Store, plane *datastore.Plane, shared *sessions, log *slog.Logger) (err error) {
	shared.parameters.plane = plane
	shared.later = &transactions{queue: queue, system: system, plane: plane, sessions: shared}
	queue.Register(kindTransaction, shared.later)
	shared.bulk = newBulkJobs(queue, system, plane, shared)
	if shared.imports, err = c.imports(ctx, queue, plane, shared, log); err != nil {
		return err
	}
	shared.exports, err = c.exports(ctx, queue, plane, shared, log)
	return err
}

// engine opens the folder of all data stores.
func (c *serveCommand) engine(log *slog.Logger) (*lsm.Engine, error) {
	dictionaries, err := dictionary.Shipped()
	if err != nil {
		return nil, err
	}
	shared, memtable := c.budget()
	return lsm.New(lsm.Options{
		Root: filepath.Join(c.DataDir, "stores"), Clock: time.Now, CacheBytes: shared, MemTableBytes: uint64(memtable),
		MinFreeBytes: c.MinFreeMiB << 20, BallastBytes: c.BallastMiB << 20, OwnRecords: systemStore, Log: log,
		Dictionaries: dictionaries,
	})
}

// sessions are what every request works with; the jobs among it come later.
func (c *serveCommand) sessions(pages *seal.Box, queue *job.Queue, log *slog.Logger) (*sessions, error) {
	source, err := c.source()
	if err != nil {
		return nil, err
	}
	s := &sessions{
		registry: searchparam.NewRegistry(), base: c.storeBase, pages: pages, random: rand.Reader, clock: time.Now,
		source: source, validator: validate.New(validate.Options{}), log: log,
	}
	s.parameters = newParameters(s.registry, c.storeBase, queue, log)
	return s, nil
}

// gone forgets a deleted data store.
func (s *sessions) gone(id string) {
	s.parameters.Forget(id)
	s.later.looks.forget(id)
	s.bulk.looks.forget(id)
	s.exports.forget(id)
}

// verifier verifies the signatures of both planes.
func (c *serveCommand) verifier(directory *iam.Directory) (*sigv4.Verifier, error) {
	return sigv4.New(sigv4.Config{
		Region: c.Region, Service: "healthlake", Clock: time.Now, Keys: accessKeys{directory}, MaxBody: gateway.MaxDataBody,
		AllowUnsignedPayload: loopbackOrTLS, Debug: c.DebugAuth,
	})
}

// exports writes to the storage that jobs may reach, and for those without a
// bucket below the data folder.
func (c *serveCommand) exports(ctx context.Context, queue *job.Queue, plane *datastore.Plane, shared *sessions, log *slog.Logger) (*exports, error) {
	storage, err := c.storage(ctx, c.Region, c.Account)
	if err != nil {
		return nil, err
	}
	return newExports(queue, plane, shared, storage, filepath.Join(c.DataDir, "exports"), c.Workers, log), nil
}

// closers close in the reverse of the order they were added.
type closers struct{ list []func() error }

func (c *closers) add(f func() error) { c.list = append(c.list, f) }

func (c *closers) close() (err error) {
	for i := len(c.list) - 1; i >= 0; i-- {
		err = errors.Join(err, c.list[i]())
	}
	return err
}

func mintJob() string {
	id, err := arn.NewJobID(rand.Reader)
	if err != nil { // crypto/rand never fails
		panic(err)
	}
	return id
}

// keyring opens the built-in KMS, and puts AWS KMS behind it where asked.
func (c *serveCommand) keyring(ctx context.Context, log *slog.Logger) (*localkms.KMS, seal.Keyring, error) {
	path := c.keyFile()
	local, err := localkms.Open(path, c.Account, c.Region, rand.Reader, time.Now)
	if err != nil {
		return nil, nil, err
	}
	if filepath.Dir(path) == filepath.Clean(c.DataDir) {
		log.Warn("the keyring lies beside the data it seals: whoever copies the folder has both; --key-file moves it", "keyring", path)
	}
	if !c.AWSKMS {
		return local, local, nil
	}
	settings, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region))
	if err != nil {
		return nil, nil, err
	}
	return local, seal.Keyrings(local, awskms.New(kms.NewFromConfig(settings))), nil
}

// openSystem opens the system store, at first start with a new data key, and
// gives the box that seals what the server hands out and takes back: page
// tokens and list tokens.
func openSystem(ctx context.Context, c *serveCommand, engine store.Engine, keys *localkms.KMS) (store.Store, *seal.Box, error) {
	key, err := systemKeys{c.DataDir, keys}.open(ctx, engine)
	if err != nil {
		return nil, nil, err
	}
	defer key.Wipe()
	system, err := engine.Open(ctx, systemStore, key)
	return system, seal.NewBox(key.Derive("tokens")), err
}

func (c *serveCommand) source() (synthea.Source, error) {
	if c.SyntheaDir == "" {
		return synthea.Embedded(), nil
	}
	return synthea.Dir(c.SyntheaDir)
}

// loopbackOrTLS says where a body that the signature does not cover is allowed.
func loopbackOrTLS(r *http.Request) bool {
	return r.TLS != nil || isLoopback(r.RemoteAddr)
}

// listTokens seals NextToken.
type listTokens struct{ box *seal.Box }

// Seal seals a token for one purpose.
func (l listTokens) Seal(plain []byte, purpose string) (string, error) {
	sealed, err := l.box.Seal(plain, []byte(purpose))
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// Open opens a token of that purpose.
func (l listTokens) Open(sealed, purpose string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "listTokens.Open", err)
	}
	return l.box.Open(raw, []byte(purpose))
}

var _ io.Closer = (*lsm.Engine)(nil)
