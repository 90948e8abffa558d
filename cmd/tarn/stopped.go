package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir/dictionary"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// stopped is where commands find the data folder of a server that does not run,
// and the keys to it.
type stopped struct {
	DataDir string `name:"data" help:"The server's data folder." default:"./tarn-data" env:"TARN_DATA"`
	KeyFile string `help:"The built-in key management service's keyring; else <data>/keyring." placeholder:"FILE" env:"TARN_KEY_FILE"`
	AWSKMS  bool   `name:"aws-kms" help:"Look for keys in AWS KMS too, by the SDK's standard settings." env:"TARN_AWS_KMS"`
	Region  string `help:"AWS region that the server is." default:"us-east-1" env:"TARN_REGION,AWS_REGION"`
	Account string `help:"AWS account that the server is." default:"111122223333" env:"TARN_ACCOUNT"`
}

// house is a data folder, opened as the server would, but serving nobody: no job
// runs.
type house struct {
	system store.Store
	keys   systemKeys
	plane  *datastore.Plane
	engine *lsm.Engine
	shut   closers
}

func (h *house) close() { _ = h.shut.close() /* what was acknowledged is on disk */ }

// open opens the data folder, as nobody else may at the same time.
func (s *stopped) open(ctx context.Context) (_ *house, err error) {
	if _, err := os.Stat(filepath.Join(s.DataDir, "system-key")); err != nil {
		return nil, fmt.Errorf("no server's data in %s: %w", s.DataDir, err)
	}
	h := &house{}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.shut.close())
		}
	}()
	c := &serveCommand{DataDir: s.DataDir, KeyFile: s.KeyFile, AWSKMS: s.AWSKMS, Region: s.Region, Account: s.Account}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError, ReplaceAttr: plainErrors}))
	local, keyring, err := c.keyring(ctx, log)
	if err != nil {
		return nil, err
	}
	dictionaries, err := dictionary.Shipped()
	if err != nil {
		return nil, err
	}
	if h.engine, err = lsm.New(lsm.Options{Root: filepath.Join(s.DataDir, "stores"), Log: log, Dictionaries: dictionaries}); err != nil {
		return nil, err
	}
	h.shut.add(h.engine.Close)
	system, _, err := openSystem(ctx, c, h.engine, local)
	if fault.Is(err, fault.Conflict) {
		return nil, fmt.Errorf("a server is running on %s: stop it first", s.DataDir)
	}
	if err != nil {
		return nil, err
	}
	h.system, h.keys = system, systemKeys{s.DataDir, local}
	h.shut.add(system.Close)
	queue := job.NewQueue(job.Options{System: system, NewID: mintJob, Clock: time.Now, Log: log})
	h.plane = datastore.New(datastore.Options{
		Partition: partition, Region: s.Region, Account: s.Account, Engine: h.engine, System: system, Jobs: queue,
		Keyring: keyring, OwnedKey: local.OwnedKey(), Clock: time.Now, Random: rand.Reader, Log: log,
	})
	h.shut.add(func() error { h.plane.Close(); return nil })
	return h, nil
}

// listPiece is how many records are read at a time.
const listPiece = 500

// ids are the stores that have files.
func (h *house) ids(ctx context.Context) (ids []string, err error) {
	var at store.Moment
	var after []byte
	for {
		page, err := h.plane.List(ctx, datastore.Filter{}, listPiece, at, after)
		if err != nil {
			return nil, err
		}
		for _, d := range page.Datastores {
			if d.Status != datastore.Deleted && d.Status != datastore.CreateFailed {
				ids = append(ids, d.ID)
			}
		}
		if page.After == nil {
			return ids, nil
		}
		at, after = page.At, page.After
	}
}

// activeIDs asks a running server for the stores that serve.
func (c connection) activeIDs(ctx context.Context) ([]string, error) {
	in := map[string]any{"Filter": map[string]string{"DatastoreStatus": "ACTIVE"}}
	var ids []string
	for {
		var page struct {
			DatastorePropertiesList []properties
			NextToken               string
		}
		if err := c.call(ctx, "ListFHIRDatastores", in, &page); err != nil {
			return nil, err
		}
		for _, d := range page.DatastorePropertiesList {
			ids = append(ids, d.DatastoreId)
		}
		if page.NextToken == "" {
			return ids, nil
		}
		in["NextToken"] = page.NextToken
	}
}
