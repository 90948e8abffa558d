package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/reindex"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// sessions makes what a data plane request works with, and preloads stores by
// the same means.
type sessions struct {
	registry *searchparam.Registry
	base     func(id string) string
	pages    interaction.Sealer
	random   io.Reader
	clock    func() time.Time
	source   synthea.Source

	validator  *validate.Validator
	later      *transactions
	bulk       *bulkJobs
	exports    *exports
	imports    *bulk.Imports
	parameters *parameters
	log        *slog.Logger
}

// Session makes the session of one request on a leased store. There is one kind
// of principal, the root, and it may see everything.
func (s *sessions) Session(lease *datastore.Lease, _ iam.Principal, touched func(audit.Target)) (*interaction.Session, error) {
	id := lease.Datastore.ID
	index, err := s.index(lease)
	if err != nil {
		return nil, err
	}
	return &interaction.Session{
		StoreID: id, Store: watched{lease.Store, s.parameters, id, s.log}, Grant: search.Everything(), Registry: index.Registry,
		Unsearchable: index.Unready, Extractor: index.Extractor, Base: s.base(id), Pages: s.pages, Clock: s.clock,
		NewID: func() (string, error) { return arn.NewRequestID(s.random) }, Touched: touched,
		Validator: definitions{s.validator, index}, Statements: index.Statements, Later: later{s.later, id}, Jobs: storeJobs{s.bulk, id}, Exports: storeExports{s.exports, id, lease.Store},
		Imports: storeImports{s.imports, id},
		Rules:   lease.Datastore.Operator.Rules(),
	}, nil
}

// index is how the resources of a leased store are indexed. New search parameters
// wait until the lease is released, so that nothing is written behind their
// back.
func (s *sessions) index(lease *datastore.Lease) (*reindex.Index, error) {
	index, release, err := s.parameters.Use(context.Background(), lease.Datastore.ID, lease.Store)
	if err == nil {
		lease.OnRelease(release)
	}
	return index, err
}

// preloadName is the import under which a preload keeps its cursors.
const preloadName = "preload"

// Preload loads the Synthea patients.
func (s *sessions) Preload(ctx context.Context, d *datastore.Datastore, st store.Store, progress func(done, total int64)) error {
	parts, err := s.source.Parts(ctx)
	if err != nil {
		return err
	}
	streams := make([]bulk.Stream, len(parts))
	for i, p := range parts {
		streams[i] = bulk.Stream{Name: p.Name, Resources: int64(p.Resources), Open: p.Open}
	}
	index, release, err := s.parameters.Use(ctx, d.ID, st)
	if err != nil {
		return err
	}
	defer release()
	loader := &bulk.Loader{
		Store: st, Types: s.registry, Extractor: index.Extractor, Workers: cores, Progress: progress,
	}
	return loader.Load(ctx, preloadName, streams)
}
