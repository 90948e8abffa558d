package reindex

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Checkpoint is how far a job came.
type Checkpoint struct {
	Numbers []uint16 // of the definitions that the pass makes ready
	Moment  store.Moment
	Type    int    // place in the pass's types
	After   []byte // page token within the type
	Done    int64
	Total   int64
}

// passPage is how many resources are given entries in one step of the store.
const passPage = 256

// Run indexes a store until every definition is ready. from is the Checkpoint of
// an attempt before, nil for none; keep makes one durable.
func (k *Keeper) Run(ctx context.Context, id string, st store.Store, from []byte, keep func(context.Context, *Checkpoint) error) error {
	_, release, err := k.Use(ctx, id, st)
	if err != nil {
		return err
	}
	release()
	s := k.kept(id)
	for {
		state, err := change(ctx, st, func(*State) bool { return false })
		if err != nil || state.ready(k.Extraction) {
			return err
		}
		if err := s.drain(ctx); err != nil {
			return err
		}
		p := &pass{Keeper: k, kept: s, store: st, index: s.present(), keep: keep}
		if err := p.begin(ctx, state, from); err != nil {
			return err
		}
		from = nil
		if err := p.run(ctx); err != nil {
			return err
		}
		if err := k.finish(ctx, id, st, p.Numbers); err != nil {
			return err
		}
	}
}

// Again has every resource of a store indexed anew as soon as a server uses the
// store: for entries that were lost and that a Repair cannot make again. Until it
// is done, searches wait. No server may use the store meanwhile.
func Again(ctx context.Context, st store.Store) error {
	_, err := change(ctx, st, func(state *State) bool {
		state.Extraction = noExtraction
		return true
	})
	return err
}

// noExtraction is the extraction of no program.
const noExtraction = -1

func (s *kept) present() *Index {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Progress is how many resources of the present pass over a store are done, and
// how many there are.
func (k *Keeper) Progress(id string) (done, total int64) {
	s := k.kept(id)
	return s.done.Load(), s.total.Load()
}

// pass is one walk over all resources that need new entries.
type pass struct {
	*Keeper
	Checkpoint
	kept  *kept
	store store.Store
	index *Index
	types []plan.Type
	keep  func(context.Context, *Checkpoint) error
}

// begin settles what the pass looks at: the resources that are current now, when
// every write makes the new entries already; or what an attempt before began.
func (p *pass) begin(ctx context.Context, state *State, from []byte) error {
	var numbers []uint16
	bases := map[plan.Type]bool{}
	for _, d := range state.Parameters {
		if d.Ready {
			continue
		}
		numbers = append(numbers, d.Number)
		for _, t := range d.Types() {
			bases[t] = true
		}
	}
	for _, t := range r4.ResourceTypes() {
		if bases[t] || state.Extraction != p.Extraction {
			p.types = append(p.types, t)
		}
	}
	var before Checkpoint
	if json.Unmarshal(from, &before) == nil && before.Moment != "" && slices.Equal(before.Numbers, numbers) {
		p.Checkpoint = before
		return nil
	}
	view, err := p.store.View(ctx, "")
	if err != nil {
		return err
	}
	defer view.Close()
	p.Checkpoint = Checkpoint{Numbers: numbers, Moment: view.Moment()}
	count := &plan.Plan{}
	for _, t := range p.types {
		count.Arms = append(count.Arms, plan.Arm{Type: t})
	}
	p.Total, err = view.Count(ctx, count)
	return err
}

func (p *pass) run(ctx context.Context) error {
	for p.Type < len(p.types) {
		p.kept.done.Store(p.Done)
		p.kept.total.Store(p.Total)
		next, err := p.page(ctx, p.types[p.Type])
		if err != nil {
			return err
		}
		if p.After = next; next == nil {
			p.Type++
			continue // types without resources are not worth a checkpoint
		}
		if err := p.keep(ctx, &p.Checkpoint); err != nil {
			return err
		}
	}
	return nil
}

// page gives one page of resources their entries, each step in a view of its
// own, so that nothing is held back for long.
func (p *pass) page(ctx context.Context, t plan.Type) (next []byte, err error) {
	view, err := p.store.View(ctx, p.Moment)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	page, err := view.Search(ctx, &plan.Plan{Arms: []plan.Arm{{Type: t}}, Limit: passPage, After: p.After})
	if err != nil {
		return nil, err
	}
	versions := make([]store.Reentry, 0, len(page.Records))
	for _, rec := range page.Records {
		v, err := p.reentry(rec)
		if err != nil {
			p.Log.Warn("a resource keeps the entries that it has", "type", r4.TypeName(t), "reason", fault.From(err).Kind)
			continue
		}
		versions = append(versions, v)
	}
	if len(versions) > 0 {
		if _, err := p.store.Reindex(ctx, versions); err != nil {
			return nil, err
		}
	}
	p.Done += int64(len(page.Records))
	p.rows.Add(int64(len(versions)))
	return page.Next, nil
}

func (p *pass) reentry(rec store.Record) (store.Reentry, error) {
	doc, err := document(rec)
	if err != nil {
		return store.Reentry{}, err
	}
	defer doc.Release()
	entries, err := p.index.Extractor.Extract(rec.Key, doc.Root())
	return store.Reentry{Key: rec.Key, Version: rec.Version, Entries: entries}, err
}

// finish makes the definitions of a pass ready: from now on they are searched
// by, and what they replace is not.
func (k *Keeper) finish(ctx context.Context, id string, st store.Store, numbers []uint16) error {
	s := k.kept(id)
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return fault.Wrap(fault.Canceled, "reindex.finish", ctx.Err())
	}
	state, err := change(ctx, st, func(state *State) bool {
		state.finish(numbers, k.Extraction)
		return true
	})
	if err != nil {
		return err
	}
	k.publish(s, id, st, state)
	return nil
}

func (state *State) finish(numbers []uint16, extraction int) {
	state.Extraction = extraction
	fresh := map[string]bool{}
	for i := range state.Parameters {
		if p := &state.Parameters[i]; !p.Ready && slices.Contains(numbers, p.Number) {
			p.Ready, fresh[p.ID] = true, true
		}
	}
	state.Parameters = slices.DeleteFunc(state.Parameters, func(p Parameter) bool {
		return fresh[p.ID] && !slices.Contains(numbers, p.Number) && p.Ready
	})
}
