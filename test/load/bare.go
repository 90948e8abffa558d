package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/gateway"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/seal/localkms"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/sigv4"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/memory"
	"github.com/tarn-fhir/tarn/internal/throttle"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// The bare server is Tarn without its store: the same door, with signatures,
// policy, limits, metrics and audit, and the same parsing, validation,
// extraction and rendering, over an engine that keeps nothing and answers what a
// real server answered. It is wired here as cmd/tarn wires the real one, as far
// as the measured requests go.

// bareScript is what the bare server is told before it starts.
type bareScript struct {
	AccessKeyID, SecretAccessKey string
	Folder                       string // for keyring and audit file
	Answers                      []answers
}

// bareReady is what it tells when it serves.
type bareReady struct {
	URL    string
	Stores []string // ids, in the order of the script's answers
}

const (
	bareAccount = "111122223333"
	bareRegion  = "us-east-1"
)

// bare is the server under way.
type bare struct {
	script   bareScript
	registry *searchparam.Registry
	validate *validate.Validator
	url      string
	box      *seal.Box
	plane    *datastore.Plane
	queue    *job.Queue

	mu     sync.Mutex
	stores map[string]*answers // by id

	extractors sync.Map // id → *searchparam.Extractor
}

// serveBare is the child: it reads its script, tells where it serves, and ends
// when its input does.
func serveBare(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	dec := json.NewDecoder(in)
	b := &bare{registry: searchparam.NewRegistry(), validate: validate.New(validate.Options{}), stores: map[string]*answers{}}
	if err := dec.Decode(&b.script); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.url = "http://" + listener.Addr().String()
	file, err := audit.OpenFile(audit.FileOptions{Path: filepath.Join(b.script.Folder, "audit.jsonl"), Log: slog.Default()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	door, err := b.wire(ctx, file)
	if err != nil {
		return err
	}
	defer func() { b.queue.Stop(); b.plane.Close() }()
	ready := bareReady{URL: b.url}
	for i := range b.script.Answers {
		id, err := b.make(ctx, &b.script.Answers[i])
		if err != nil {
			return err
		}
		ready.Stores = append(ready.Stores, id)
	}
	return serveUntil(listener, door, in, func() error { return json.NewEncoder(out).Encode(ready) })
}

// serveUntil serves until the input ends, and calls ready before.
func serveUntil(listener net.Listener, handler http.Handler, in io.Reader, ready func() error) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ReadTimeout: time.Hour, ConnContext: gateway.ConnContext}
	go func() {
		_, _ = io.Copy(io.Discard, in) // ends when the parent closes it, or ends
		_ = server.Close()
	}()
	if err := ready(); err != nil {
		return err
	}
	if err := server.Serve(gateway.Listener(listener)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// wire puts the door together.
func (b *bare) wire(ctx context.Context, file io.Writer) (http.Handler, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	kms, err := localkms.Open(filepath.Join(b.script.Folder, "keyring"), bareAccount, bareRegion, rand.Reader, time.Now)
	if err != nil {
		return nil, err
	}
	key, _, err := kms.GenerateDataKey(ctx, kms.OwnedKey(), nil)
	if err != nil {
		return nil, err
	}
	b.box = seal.NewBox(key.Derive("tokens"))
	engine := hollow{memory.New(memory.Options{Clock: time.Now, Rand: rand.Reader}), b.answersOf}
	if err := engine.Create(ctx, systemStore, key); err != nil {
		return nil, err
	}
	system, err := engine.Open(ctx, systemStore, key)
	if err != nil {
		return nil, err
	}
	b.queue = job.NewQueue(job.Options{System: system, Workers: 1, Clock: time.Now, Log: log, NewID: func() string { return strings.ToLower(rand.Text()) }})
	b.plane = datastore.New(datastore.Options{
		Partition: "aws", Region: bareRegion, Account: bareAccount, Engine: engine, System: system, Jobs: b.queue,
		Keyring: kms, OwnedKey: kms.OwnedKey(), Clock: time.Now, Random: rand.Reader, Log: log,
	})
	directory, err := iam.NewDirectory(iam.Options{Account: bareAccount, Clock: time.Now,
		Root: iam.Credentials{AccessKeyID: b.script.AccessKeyID, SecretAccessKey: b.script.SecretAccessKey}})
	if err != nil {
		return nil, err
	}
	verifier, err := sigv4.New(sigv4.Config{Region: bareRegion, Service: arn.Service, Clock: time.Now, Keys: bareKeys{directory}, MaxBody: gateway.MaxDataBody})
	if err != nil {
		return nil, err
	}
	return gateway.New(gateway.Options{
		Verifier: verifier, Policy: directory, Plane: b.plane, Data: &fhirapi.API{}, Sessions: b,
		Limiter: throttle.New(throttle.Defaults), Failures: throttle.NewFailures(), Metrics: gateway.NewMetrics(), Log: log,
		Recorder: audit.NewTrail(audit.TrailOptions{Out: file, Partition: "aws", Region: bareRegion, Account: bareAccount, Random: rand.Reader, Log: log}),
		Clock:    time.Now, Random: rand.Reader, PublicDiscovery: true,
	}), b.queue.Start(ctx)
}

// bareKeys knows the access keys of a directory.
type bareKeys struct{ *iam.Directory }

// Secret implements sigv4.Keys.
func (k bareKeys) Secret(ctx context.Context, id string) (sigv4.Credential, error) {
	found, err := k.Lookup(ctx, id)
	return sigv4.Credential(found), err
}

// barePoll is how often make looks whether a store is there.
const barePoll = 5 * time.Millisecond

// make creates the data store that gives these answers.
func (b *bare) make(ctx context.Context, a *answers) (string, error) {
	if err := a.prepare(b.registry); err != nil {
		return "", fmt.Errorf("%s: %w", a.Name, err)
	}
	d, err := b.plane.Create(ctx, datastore.CreateRequest{TypeVersion: "R4"})
	if err != nil {
		return "", err
	}
	b.mu.Lock()
	b.stores[d.ID] = a
	b.mu.Unlock()
	for {
		now, err := b.plane.Describe(ctx, d.ID)
		switch {
		case err != nil:
			return "", err
		case now.Status == datastore.Active:
			return d.ID, nil
		case now.Status != datastore.Creating:
			return "", fmt.Errorf("the data store is %s: %+v", now.Status, now.Failure)
		}
		time.Sleep(barePoll)
	}
}

// answersOf finds what a data store answers.
func (b *bare) answersOf(id store.ID) *answers {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stores[string(id)]
}

func (b *bare) base(id string) string { return b.url + "/datastore/" + id + "/r4" }

// Session implements gateway.SessionMaker.
func (b *bare) Session(lease *datastore.Lease, _ iam.Principal, touched func(audit.Target)) (*interaction.Session, error) {
	id := lease.Datastore.ID
	extractor, kept := b.extractors.Load(id)
	if !kept {
		extractor, _ = b.extractors.LoadOrStore(id, searchparam.NewExtractor(b.registry, lease.Store.HashKey(), b.base(id)+"/"))
	}
	return &interaction.Session{
		StoreID: id, Store: lease.Store, Grant: search.Everything(), Registry: b.registry, Validator: b.validate,
		Extractor: extractor.(*searchparam.Extractor), Base: b.base(id), Pages: b.box,
		Clock: time.Now, NewID: func() (string, error) { return arn.NewRequestID(rand.Reader) }, Touched: touched,
	}, nil
}
