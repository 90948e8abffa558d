package storetest

import (
	"context"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// mutantVariable names the mutant that TestMutant examines.
const mutantVariable = "TARN_STORETEST_MUTANT"

// mutants are engines with one thing wrong each, and the parts of the
// examination that must find it.
var mutants = map[string]struct {
	caughtBy []string
	open     Opener
}{
	"nothing wrong":                {nil, wrapped(func(s store.Store) store.Store { return s })},
	"short pages":                  {[]string{"examples", "differential"}, wrapped(onSearch(shortPage))},
	"after is ignored":             {[]string{"examples", "differential"}, wrapped(onPlan(func(p *plan.Plan) { p.After = nil }))},
	"no descending":                {[]string{"examples", "differential"}, wrapped(onPlan(ascending))},
	"chains escape":                {[]string{"examples", "differential"}, wrapped(onPlan(openChains))},
	"no bound of work":             {[]string{"examples"}, wrapped(onPlan(func(p *plan.Plan) { p.Work = 0 }))},
	"no oldest first":              {[]string{"examples", "differential"}, wrapped(onHistory(func(q *store.HistoryQuery) { q.OldestFirst = false }))},
	"no where":                     {[]string{"examples", "differential"}, wrapped(onHistory(func(q *store.HistoryQuery) { q.Where = nil }))},
	"always now":                   {[]string{"examples", "differential"}, wrapped(onView(func(store.Moment) store.Moment { return "" }))},
	"purge only deletes":           {[]string{"examples", "differential"}, wrapped(onOps(purgeToDelete))},
	"no conditions":                {[]string{"examples", "differential", "concurrency/one-conditional-create-wins"}, wrapped(onOps(withoutConditions))},
	"conditions too early":         {[]string{"concurrency/one-update-of-a-version-wins", "concurrency/write-skew-is-refused"}, wrapped(conditionsTooEarly)},
	"commits fall apart":           {[]string{"examples", "differential", "concurrency/no-view-is-torn", "concurrency/the-feed-misses-nothing"}, wrapped(fallApart)},
	"views are behind":             {[]string{"examples", "differential", "concurrency/linearizable"}, wrapped(behind)},
	"the feed hides purges":        {[]string{"examples", "differential"}, wrapped(hidePurges)},
	"imports show at once":         {[]string{"examples"}, wrapped(showAtOnce)},
	"a crash loses a commit":       {[]string{"crash/commits"}, taped(loseLast)},
	"a crash halves a commit":      {[]string{"crash/commits"}, taped(halveLast)},
	"a crash loses a flush":        {[]string{"crash/import"}, taped(loseFlush)},
	"a crash loses a cursor":       {[]string{"crash/import"}, taped(loseCursor)},
	"a crash changes the hash key": {[]string{"crash/create-and-drop"}, taped(loseCreate)},
}

// TestMutantsAreCaught runs the examination on each mutant, each in a process of
// its own, because it must fail.
func TestMutantsAreCaught(t *testing.T) {
	if dir, out := examine(t, "nothing wrong", ""); !passed(out) {
		t.Fatalf("in %s the twin itself failed:\n%s", dir, out)
	}
	for name, m := range mutants {
		for _, part := range m.caughtBy {
			t.Run(name+"/"+part, func(t *testing.T) {
				dir, out := examineUntilCaught(t, name, part)
				if !caught(part, out) || strings.Contains(out, "panic:") {
					t.Fatalf("%s was not caught:\n%s", part, out)
				}
				if part == "differential" {
					checkFound(t, dir, m.open)
				}
			})
		}
	}
}

// examine runs one part of the examination on a mutant, in a folder of its own.
func examine(t *testing.T, mutant, part string) (dir, out string) {
	dir = t.TempDir()
	pattern := "^TestMutant$"
	for _, name := range strings.Split(part, "/") {
		pattern += "/^" + name
	}
	cmd := exec.Command(os.Args[0], "-test.run", pattern)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), mutantVariable+"="+mutant, "TARN_HISTORIES=3")
	text, _ := cmd.CombinedOutput() // that it fails is what is hoped for
	return dir, string(text)
}

// racyTries is how often a part that depends on who runs first may pass a mutant
// before the mutant counts as not caught.
const racyTries = 20

func examineUntilCaught(t *testing.T, mutant, part string) (dir, out string) {
	tries := 1
	if strings.HasPrefix(part, "concurrency/") {
		tries = racyTries
	}
	for range tries {
		if dir, out = examine(t, mutant, part); caught(part, out) {
			break
		}
	}
	return dir, out
}

func caught(part, out string) bool { return strings.Contains(out, "--- FAIL: TestMutant/"+part) }

func passed(out string) bool { return strings.HasPrefix(out, "PASS") }

// TestMutant is the examination of one mutant.
func TestMutant(t *testing.T) {
	m, ok := mutants[os.Getenv(mutantVariable)]
	if !ok {
		t.Skip("runs for TestMutantsAreCaught")
	}
	Run(t, m.open)
}

// checkFound reads the script that the differential test wrote: it is short, the
// mutant fails it and the twin passes it.
func checkFound(t *testing.T, dir string, open Opener) {
	files, err := filepath.Glob(filepath.Join(dir, ownExamples, "*.test"))
	mustNot(t, "Glob", err)
	if len(files) != 1 {
		t.Fatalf("%d scripts were written", len(files))
	}
	text, err := os.ReadFile(files[0])
	mustNot(t, "ReadFile", err)
	scenarios, err := parseScenarios(string(text))
	mustNot(t, "parseScenarios", err)
	runExample(t, Twin, files[0], scenarios[0])
	m := newMachine(t, open)
	wrong := func(s step) bool { return !s.accepts(s.do.run(m)) }
	if !slices.ContainsFunc(scenarios[0].steps, wrong) {
		t.Errorf("the mutant passes the script:\n%s", text)
	}
	if len(scenarios[0].steps) > 12 {
		t.Errorf("the script has %d steps:\n%s", len(scenarios[0].steps), text)
	}
}

// wrapped opens twins whose stores are wrapped.
func wrapped(wrap func(store.Store) store.Store) Opener {
	return func(t testing.TB, clock func() time.Time) (store.Engine, func() store.Engine) {
		engine, _ := Twin(t, clock)
		mutant := &mutantEngine{engine, wrap}
		return mutant, func() store.Engine { return mutant }
	}
}

type mutantEngine struct {
	store.Engine
	wrap func(store.Store) store.Store
}

func (e *mutantEngine) Open(ctx context.Context, id store.ID, key seal.DataKey) (store.Store, error) {
	s, err := e.Engine.Open(ctx, id, key)
	if err != nil {
		return nil, err
	}
	return e.wrap(s), nil
}

// mutantStore and mutantView do what their hooks do, where there are any.
type mutantStore struct {
	store.Store
	commit func(context.Context, []store.Op) ([]store.Outcome, error)
	view   func(context.Context, store.Moment) (store.View, error)
	follow func(context.Context, store.Moment) iter.Seq2[store.Change, error]
	imp    func(context.Context, string) (store.Importer, error)
}

func (s *mutantStore) Commit(ctx context.Context, ops []store.Op) ([]store.Outcome, error) {
	if s.commit != nil {
		return s.commit(ctx, ops)
	}
	return s.Store.Commit(ctx, ops)
}

func (s *mutantStore) View(ctx context.Context, at store.Moment) (store.View, error) {
	if s.view != nil {
		return s.view(ctx, at)
	}
	return s.Store.View(ctx, at)
}

func (s *mutantStore) Follow(ctx context.Context, after store.Moment) iter.Seq2[store.Change, error] {
	if s.follow != nil {
		return s.follow(ctx, after)
	}
	return s.Store.Follow(ctx, after)
}

func (s *mutantStore) Import(ctx context.Context, name string) (store.Importer, error) {
	if s.imp != nil {
		return s.imp(ctx, name)
	}
	return s.Store.Import(ctx, name)
}

type mutantView struct {
	store.View
	search  func(store.Page) store.Page
	plan    func(*plan.Plan)
	history func(*store.HistoryQuery)
}

func (v *mutantView) Search(ctx context.Context, p *plan.Plan) (store.Page, error) {
	asked := *p
	if v.plan != nil {
		v.plan(&asked)
	}
	page, err := v.View.Search(ctx, &asked)
	if err == nil && v.search != nil {
		page = v.search(page)
	}
	return page, err
}

func (v *mutantView) History(ctx context.Context, q store.HistoryQuery) (store.Page, error) {
	if v.history != nil {
		v.history(&q)
	}
	return v.View.History(ctx, q)
}

// onViews wraps every view of a store.
func onViews(wrap func(store.View) store.View) func(store.Store) store.Store {
	return func(s store.Store) store.Store {
		return &mutantStore{Store: s, view: func(ctx context.Context, at store.Moment) (store.View, error) {
			v, err := s.View(ctx, at)
			if err != nil {
				return nil, err
			}
			return wrap(v), nil
		}}
	}
}

func onSearch(spoil func(store.Page) store.Page) func(store.Store) store.Store {
	return onViews(func(v store.View) store.View { return &mutantView{View: v, search: spoil} })
}

func onPlan(spoil func(*plan.Plan)) func(store.Store) store.Store {
	return onViews(func(v store.View) store.View { return &mutantView{View: v, plan: spoil} })
}

func onHistory(spoil func(*store.HistoryQuery)) func(store.Store) store.Store {
	return onViews(func(v store.View) store.View { return &mutantView{View: v, history: spoil} })
}

func onView(spoil func(store.Moment) store.Moment) func(store.Store) store.Store {
	return func(s store.Store) store.Store {
		return &mutantStore{Store: s, view: func(ctx context.Context, at store.Moment) (store.View, error) {
			return s.View(ctx, spoil(at))
		}}
	}
}

func onOps(spoil func(*store.Op)) func(store.Store) store.Store {
	return func(s store.Store) store.Store {
		return &mutantStore{Store: s, commit: func(ctx context.Context, ops []store.Op) ([]store.Outcome, error) {
			ops = slices.Clone(ops)
			for i := range ops {
				spoil(&ops[i])
			}
			return s.Commit(ctx, ops)
		}}
	}
}

func shortPage(page store.Page) store.Page {
	if len(page.Records) > 2 {
		page.Records = page.Records[:len(page.Records)-1]
	}
	return page
}

func ascending(p *plan.Plan) {
	p.Sort = slices.Clone(p.Sort)
	for i := range p.Sort {
		p.Sort[i].Desc = false
	}
}

// openChains forgets the conditions of chains that stand at the top of an arm.
func openChains(p *plan.Plan) {
	p.Arms = slices.Clone(p.Arms)
	for i, arm := range p.Arms {
		if chain, ok := arm.Where.(plan.Chain); ok {
			chain.To = slices.Clone(chain.To)
			for j := range chain.To {
				chain.To[j].Where = nil
			}
			p.Arms[i].Where = chain
		}
	}
}

func purgeToDelete(op *store.Op) {
	if op.Kind == store.Purge {
		op.Kind = store.Delete
	}
}

func withoutConditions(op *store.Op) { op.If = nil }

// conditionsTooEarly judges conditions in a commit of their own.
func conditionsTooEarly(s store.Store) store.Store {
	return &mutantStore{Store: s, commit: func(ctx context.Context, ops []store.Op) ([]store.Outcome, error) {
		checks := slices.Clone(ops)
		ops = slices.Clone(ops)
		for i := range ops {
			checks[i] = store.Op{Kind: store.Check, Key: ops[i].Key, If: ops[i].If}
			ops[i].If = nil
		}
		if _, err := s.Commit(ctx, checks); err != nil {
			return nil, err
		}
		time.Sleep(100 * time.Microsecond) // let the others in
		return s.Commit(ctx, ops)
	}}
}

// fallApart makes a commit of every operation.
func fallApart(s store.Store) store.Store {
	return &mutantStore{Store: s, commit: func(ctx context.Context, ops []store.Op) ([]store.Outcome, error) {
		var outcomes []store.Outcome
		for _, op := range ops {
			one, err := s.Commit(ctx, []store.Op{op})
			if err != nil {
				return nil, err
			}
			outcomes = append(outcomes, one...)
			time.Sleep(100 * time.Microsecond) // let the others in
		}
		return outcomes, nil
	}}
}

// behind shows each store as it was at the view before.
func behind(s store.Store) store.Store {
	moments := make(chan store.Moment, 1)
	moments <- ""
	return &mutantStore{Store: s, view: func(ctx context.Context, at store.Moment) (store.View, error) {
		if at != "" {
			return s.View(ctx, at)
		}
		before := <-moments
		now, err := s.View(ctx, "")
		if err != nil {
			moments <- before
			return nil, err
		}
		moments <- now.Moment()
		if before == "" {
			return now, nil
		}
		_ = now.Close()
		return s.View(ctx, before)
	}}
}

func hidePurges(s store.Store) store.Store {
	return &mutantStore{Store: s, follow: func(ctx context.Context, after store.Moment) iter.Seq2[store.Change, error] {
		return func(yield func(store.Change, error) bool) {
			for c, err := range s.Follow(ctx, after) {
				if !c.Purged && !yield(c, err) {
					return
				}
			}
		}
	}}
}

// showAtOnce flushes every Add.
func showAtOnce(s store.Store) store.Store {
	return &mutantStore{Store: s, imp: func(ctx context.Context, name string) (store.Importer, error) {
		importer, err := s.Import(ctx, name)
		if err != nil {
			return nil, err
		}
		return eagerImporter{importer}, nil
	}}
}

type eagerImporter struct{ store.Importer }

func (im eagerImporter) Part(ctx context.Context, name string) (store.Part, error) {
	part, err := im.Importer.Part(ctx, name)
	if err != nil {
		return nil, err
	}
	return eagerPart{part}, nil
}

type eagerPart struct{ store.Part }

func (p eagerPart) Add(ctx context.Context, ops []store.Op, cursor []byte) error {
	if err := p.Part.Add(ctx, ops, cursor); err != nil {
		return err
	}
	return p.Flush(ctx)
}
