package main

import (
	"context"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
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
	statements *interaction.Statements
	later      *transactions
	bulk       *bulkJobs
	exports    *exports

	mu         sync.Mutex
	extractors map[string]extractor // by data store id
}

// extractor is a store's extraction, which hashes under the store's own key.
type extractor struct {
	key plan.HashKey
	*searchparam.Extractor
}

// Session makes the session of one request on a leased store. There is one kind
// of principal, the root, and it may see everything.
func (s *sessions) Session(lease *datastore.Lease, _ iam.Principal, touched func(audit.Target)) (*interaction.Session, error) {
	id := lease.Datastore.ID
	return &interaction.Session{
		StoreID: id, Store: lease.Store, Grant: search.Everything(), Registry: s.registry,
		Extractor: s.extractor(id, lease.Store), Base: s.base(id), Pages: s.pages, Clock: s.clock,
		NewID: func() (string, error) { return arn.NewRequestID(s.random) }, Touched: touched,
		Validator: s.validator, Statements: s.statements, Later: later{s.later, id}, Jobs: storeJobs{s.bulk, id}, Exports: storeExports{s.exports, id, lease.Store},
		Rules: lease.Datastore.Operator.Rules(),
	}, nil
}

func (s *sessions) extractor(id string, st store.Store) *searchparam.Extractor {
	key := st.HashKey()
	s.mu.Lock()
	defer s.mu.Unlock()
	x, known := s.extractors[id]
	if !known || x.key != key {
		x = extractor{key, searchparam.NewExtractor(s.registry, key, s.base(id)+"/")}
		s.extractors[id] = x
	}
	return x.Extractor
}

// forget drops what is kept for a data store that is gone.
func (s *sessions) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.extractors, id)
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
	loader := &bulk.Loader{
		Store: st, Types: s.registry, Extractor: s.extractor(d.ID, st), Workers: runtime.GOMAXPROCS(0), Progress: progress,
	}
	return loader.Load(ctx, preloadName, streams)
}
