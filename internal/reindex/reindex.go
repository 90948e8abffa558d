// Package reindex keeps what a data store's resources are found by in step with
// what they shall be found by: with the SearchParameter resources in the store,
// and with this program's own extraction.
//
//	SearchParameter written ─▶ Changed ─▶ State (which definitions, ready or not)
//	                                        │ new Index: writes make the new entries
//	                                        ▼
//	                  job ─▶ drain ─▶ every current resource: Store.Reindex ─▶ ready
//
// A definition is searched by when it is ready, and refused with its progress
// before. A definition that changes goes by its old form until the new one is
// ready: entries of the two have different numbers.
//
// State is a document in the data store itself. Whatever was not told by Changed
// (a crash between two commits, an import) is found when the store is used next,
// or after recheck.
package reindex

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store"
)

// TypeState is the document type of State, in each data store. Persisted.
const TypeState = plan.SystemTypes + 0x110

// stateID is the id of the one State of a store.
const stateID = "search-parameters"

var states = record.Kind[State]{Type: TypeState}

// State is how a data store's resources are indexed.
type State struct {
	Extraction int // the program's extraction that made the entries; 0: the first; -1: some are lost
	Next       uint16
	Parameters []Parameter `json:",omitempty"`
}

// Parameter is one definition in use.
type Parameter struct {
	searchparam.Definition
	Ready bool // every resource has its entries
}

// Bounds of definitions in one data store.
const (
	// MaxParameters is how many are read; those made later have no effect.
	MaxParameters = 1000
	// maxNumbers is how many numbers of entries there are for them, over the
	// store's life.
	maxNumbers = 0x7fff
)

// recheck is how long a change of definitions that nobody told of may go
// unnoticed while the store is in use.
const recheck = time.Minute

// Index is what requests on one store work with. It does not change; a store
// gets another when its definitions do.
type Index struct {
	Registry   *searchparam.Registry
	Extractor  *searchparam.Extractor
	Statements *interaction.Statements
	// Unready says why nothing can be searched now: the entries of the store are
	// of another extraction. Nil: all is well.
	Unready error

	generation  uint64
	definitions []searchparam.Definition
}

// Check gives what is wrong with a SearchParameter resource that is to be
// written: errors for one that would be used at once, for a draft the same as
// information.
func (x *Index) Check(root fhir.Node) []fault.Issue {
	d, used := searchparam.ReadDefinition(root)
	if !used {
		return nil
	}
	issues := d.Check(x.definitions)
	if root.Get("status").Is("draft") {
		for i := range issues {
			issues[i].Severity = fault.SeverityInformation
			issues[i].Detail += "; it has no effect"
		}
	}
	return issues
}

// Options are what a Keeper needs.
type Options struct {
	Registry *searchparam.Registry  // R4's own
	Base     func(id string) string // of a store, with a slash at its end
	// Submit begins the job that carries Run out for a data store; changed says
	// that there is work that a job under way may not know of.
	Submit func(ctx context.Context, datastore string, changed bool) error
	Clock  func() time.Time
	Log    *slog.Logger
	// Extraction is the number of the program's extraction; 0: searchparam's.
	Extraction int
}

// Keeper keeps the Index of every data store in use.
type Keeper struct {
	Options
	rows atomic.Int64

	mu     sync.Mutex
	stores map[string]*kept
}

// New makes a Keeper.
func New(o Options) *Keeper {
	if o.Extraction == 0 {
		o.Extraction = searchparam.Extraction
	}
	return &Keeper{Options: o, stores: map[string]*kept{}}
}

// Rows is how many resources were given new entries since the start.
func (k *Keeper) Rows() int64 { return k.rows.Load() }

// kept is one data store's.
type kept struct {
	done, total atomic.Int64  // of the pass under way
	turn        chan struct{} // of one: held while State is read and written

	mu    sync.Mutex // guards what follows
	key   plan.HashKey
	now   *Index         // nil: not read yet
	holds map[uint64]int // generation → requests that use it
	freed chan struct{}  // closed and made anew when a hold ends
	seen  time.Time      // when State was last compared with the definitions
}

func (k *Keeper) kept(id string) *kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stores[id]
	if s == nil {
		s = &kept{turn: make(chan struct{}, 1), holds: map[uint64]int{}, freed: make(chan struct{})}
		k.stores[id] = s
	}
	return s
}

// Forget drops what is kept for a data store that is gone.
func (k *Keeper) Forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.stores, id)
}

// Use gives the Index of a store, and release, to be called when what was made
// by it is written: a new definition waits for that.
func (k *Keeper) Use(ctx context.Context, id string, st store.Store) (_ *Index, release func(), err error) {
	s := k.kept(id)
	if x := s.hold(st.HashKey(), k.Clock()); x != nil {
		return x, func() { s.release(x.generation) }, nil
	}
	if err := k.Changed(ctx, id, st); err != nil {
		return nil, nil, err
	}
	x := s.holdAny()
	return x, func() { s.release(x.generation) }, nil
}

// hold takes the present Index, nil when it is to be compared first.
func (s *kept) hold(key plan.HashKey, now time.Time) *Index {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || s.key != key || now.Sub(s.seen) > recheck {
		return nil
	}
	s.holds[s.now.generation]++
	return s.now
}

func (s *kept) holdAny() *Index {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds[s.now.generation]++
	return s.now
}

func (s *kept) release(generation uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds[generation]--; s.holds[generation] == 0 {
		delete(s.holds, generation)
	}
	close(s.freed)
	s.freed = make(chan struct{})
}

// drain waits until nobody writes by an Index before the present one.
func (s *kept) drain(ctx context.Context) error {
	for {
		s.mu.Lock()
		older, freed := 0, s.freed
		for generation, n := range s.holds {
			if generation < s.now.generation {
				older += n
			}
		}
		s.mu.Unlock()
		if older == 0 {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return fault.Wrap(fault.Canceled, "reindex.drain", ctx.Err())
		}
	}
}

// Changed compares State with the definitions in the store, and begins a job
// where resources have to be indexed.
func (k *Keeper) Changed(ctx context.Context, id string, st store.Store) error {
	s := k.kept(id)
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return fault.Wrap(fault.Canceled, "reindex.Changed", ctx.Err())
	}
	if err := k.begin(ctx, st); err != nil {
		return err
	}
	wanted, err := k.wanted(ctx, st)
	if err != nil {
		return err
	}
	changed := false
	state, err := change(ctx, st, func(state *State) bool {
		changed = state.settle(wanted) || changed
		return changed
	})
	if err != nil {
		return err
	}
	k.publish(s, id, st, state)
	if !state.ready(k.Extraction) {
		return k.Submit(ctx, id, changed)
	}
	return nil
}

// begin notes in a store that has no resources yet that all of them will be
// indexed by the program's extraction: whoever writes them asks for the Index
// first. A store without State that has some was written before there was one.
func (k *Keeper) begin(ctx context.Context, st store.Store) error {
	if _, err := states.Get(ctx, st, stateID); !fault.Is(err, fault.NotFound) {
		return err
	}
	view, err := st.View(ctx, "")
	if err != nil {
		return err
	}
	defer view.Close()
	all := &plan.Plan{}
	for _, t := range r4.ResourceTypes() {
		all.Arms = append(all.Arms, plan.Arm{Type: t})
	}
	if n, err := view.Count(ctx, all); err != nil || n > 0 {
		return err
	}
	return states.Create(ctx, st, stateID, &State{Extraction: k.Extraction})
}

// change reads State, and writes it when do says that it changed.
func change(ctx context.Context, st store.Store, do func(*State) bool) (*State, error) {
	state, err := states.Get(ctx, st, stateID)
	if fault.Is(err, fault.NotFound) {
		state = &State{Extraction: 1}
		if !do(state) {
			return state, nil
		}
		return state, states.Create(ctx, st, stateID, state)
	}
	if err != nil || !do(state) {
		return state, err
	}
	return states.Update(ctx, st, stateID, func(now *State) error {
		do(now)
		return nil
	})
}

// listPage is how many definitions are read at a time.
const listPage = 200

// wanted reads the definitions of a store that can be used, the oldest first:
// of two that clash, the older one stands.
func (k *Keeper) wanted(ctx context.Context, st store.Store) ([]searchparam.Definition, error) {
	view, err := st.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	t, _ := r4.TypeByName("SearchParameter")
	p := &plan.Plan{Arms: []plan.Arm{{Type: t}}, Limit: listPage}
	var records []store.Record
	for len(records) < MaxParameters {
		page, err := view.Search(ctx, p)
		if err != nil {
			return nil, err
		}
		if records = append(records, page.Records...); page.Next == nil {
			break
		}
		p.After = page.Next
	}
	slices.Reverse(records) // of one time, the first first
	slices.SortStableFunc(records, func(a, b store.Record) int { return a.Created.Compare(b.Created) })
	var read []searchparam.Definition
	for _, rec := range records[:min(len(records), MaxParameters)] {
		if d, used, err := definition(rec); err == nil && used { // what cannot be read was not written by this server
			read = append(read, d)
		}
	}
	return k.usable(read), nil
}

// usable are the definitions that stand beside each other: of two that clash the one
// that comes first, and composites behind all that they may be made of.
func (k *Keeper) usable(read []searchparam.Definition) (all []searchparam.Definition) {
	for _, composites := range []bool{false, true} {
		for _, d := range read {
			if composites != (len(d.Components) > 0) {
				continue
			}
			if issues := d.Check(all); len(issues) > 0 {
				k.Log.Warn("a search parameter is not used", "id", d.ID, "reason", issues[0].Detail)
				continue
			}
			all = append(all, d)
		}
	}
	return all
}

func definition(rec store.Record) (d searchparam.Definition, used bool, err error) {
	doc, err := document(rec)
	if err != nil {
		return d, false, err
	}
	d, used = searchparam.ReadDefinition(doc.Root())
	d.ID = rec.Key.ID
	return d, used, nil
}

func document(rec store.Record) (*fhir.Document, error) {
	body := make([]byte, 0, fhir.ResourceSize(rec.Body))
	return fhir.ParseStored(fhir.AppendResource(body, rec.Body, rec.Key.ID, rec.Version, rec.Updated))
}

// settle brings State up to the definitions, and reports whether it changed.
func (state *State) settle(wanted []searchparam.Definition) (changed bool) {
	var kept []Parameter
	for _, p := range state.Parameters {
		if slices.ContainsFunc(wanted, func(d searchparam.Definition) bool { return d.ID == p.ID && (p.Ready || d.Same(&p.Definition)) }) {
			kept = append(kept, p)
		}
	}
	changed = len(kept) != len(state.Parameters)
	for _, d := range wanted {
		if slices.ContainsFunc(kept, func(p Parameter) bool { return p.ID == d.ID && d.Same(&p.Definition) }) {
			continue
		}
		if state.Next >= maxNumbers {
			break
		}
		d.Number = r4.UserParams + state.Next
		state.Next++
		kept, changed = append(kept, Parameter{Definition: d}), true
	}
	state.Parameters = kept
	return changed
}

// ready reports whether nothing has to be indexed.
func (state *State) ready(extraction int) bool {
	return state.Extraction == extraction && !slices.ContainsFunc(state.Parameters, func(p Parameter) bool { return !p.Ready })
}

// publish makes the Index of a State the present one.
func (k *Keeper) publish(s *kept, id string, st store.Store, state *State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = k.Clock()
	x := &Index{Registry: k.Registry, Statements: &interaction.Statements{}}
	if s.now != nil {
		x.generation = s.now.generation + 1
		if s.key == st.HashKey() && s.now.matches(state, k.Extraction) {
			return
		}
	}
	s.key = st.HashKey()
	var defined []searchparam.Defined
	for _, p := range state.Parameters {
		d := searchparam.Defined{Definition: p.Definition}
		if !p.Ready {
			d.Pending = s.pending(p.Code)
		}
		defined = append(defined, d)
		x.definitions = append(x.definitions, p.Definition)
	}
	if len(defined) > 0 {
		x.Registry = k.Registry.With(defined)
	}
	if state.Extraction != k.Extraction {
		x.Unready = &fault.Error{Kind: fault.Unavailable, Op: "reindex", Retry: 5,
			Detail: "the data store is being indexed anew for this version of the server; reads and writes go on, searches wait"}
	}
	x.Extractor = searchparam.NewExtractor(x.Registry, s.key, k.Base(id))
	s.now = x
}

// matches reports whether the Index is that of a State.
func (x *Index) matches(state *State, extraction int) bool {
	return len(state.Parameters) == len(x.definitions) && (x.Unready == nil) == (state.Extraction == extraction) &&
		!slices.ContainsFunc(state.Parameters, func(p Parameter) bool {
			return !slices.ContainsFunc(x.definitions, func(d searchparam.Definition) bool { return d.Number == p.Number }) || p.Ready == x.pends(p)
		})
}

func (x *Index) pends(p Parameter) bool {
	for _, t := range p.Types() {
		if found, ok := x.Registry.Param(t, p.Code); ok {
			return found.Pending != nil
		}
	}
	return false
}

func (s *kept) pending(code string) func() string {
	return func() string {
		share := int64(0)
		if total := s.total.Load(); total > 0 {
			share = min(99, 100*s.done.Load()/total)
		}
		return fmt.Sprintf("the resources of this data store are being indexed by the search parameter %q: %d%% are done", code, share)
	}
}
