package lsm_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// pointing is what a store should hold: resources of type 2 that point to patients by
// param 11 and have names.
type pointing struct {
	patients map[string]bool // there, and not deleted
	sources  map[string]pointer
}

type pointer struct{ name, to string }

func (p *pointing) copy() *pointing {
	return &pointing{maps.Clone(p.patients), maps.Clone(p.sources)}
}

// reached gives the patients that sources of some names point to.
func (p *pointing) reached(names ...string) string {
	var ids []string
	for _, s := range p.sources {
		if slices.Contains(names, s.name) && p.patients[s.to] {
			ids = append(ids, s.to)
		}
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " ")
}

// has asks for patients that sources of some names point to.
func has(names ...string) plan.Has {
	var any plan.Or
	for _, n := range names {
		any = append(any, plan.Term{Param: 7, Value: []byte(n)})
	}
	var where plan.Node = any
	if len(any) == 1 {
		where = any[0]
	}
	return plan.Has{Params: []plan.Param{11}, From: []plan.Arm{{Type: 2, Where: where}}}
}

func reachedIn(t *testing.T, view store.View, names ...string) string {
	t.Helper()
	page, err := view.Search(t.Context(), &plan.Plan{Arms: []plan.Arm{{Type: 1, Where: has(names...)}}, Limit: 1000, Total: plan.TotalExact})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range page.Records {
		ids = append(ids, r.Key.ID)
	}
	if slices.Sort(ids); int(page.Total) != len(ids) {
		t.Fatalf("a total of %d over %d records", page.Total, len(ids))
	}
	return strings.Join(ids, " ")
}

// pointed is a store with pointing and what changes both by chance.
type pointed struct {
	pointing
	*lsm.Store
	r *rand.Rand
}

func (p *pointed) source(id string) (store.Op, pointer) {
	s := pointer{[]string{"a", "b", "c"}[p.r.IntN(3)], fmt.Sprint(p.r.IntN(pointedPatients))}
	self := p.HashKey().Self(patient(s.to))
	return put(plan.Key{Type: 2, ID: id}, "{}", name(s.name), plan.Entry{Param: 11, Value: self[:]}), s
}

// pointedPatients is how many patients sources may point to, about half of which are
// there at first.
const pointedPatients = 200

// change commits something; rewritten: it shows at every moment. Mostly nothing is
// superseded.
func (p *pointed) change(t *testing.T) (rewritten bool) {
	id := fmt.Sprint(p.r.IntN(pointedPatients))
	source := plan.Key{Type: 2, ID: id}
	switch n := p.r.IntN(100); {
	case n < 40:
		if _, there := p.sources[id]; !there || n < 4 {
			op, s := p.source(id)
			commit(t, p, op)
			p.sources[id] = s
		}
	case n < 70:
		if !p.patients[id] || n < 43 {
			commit(t, p, put(patient(id), "{}", name("patient")))
			p.patients[id] = true
		}
	case n < 74:
		commit(t, p, store.Op{Kind: store.Delete, Key: patient(id)})
		delete(p.patients, id)
	case n < 79:
		p.drop(t)
	case n < 83:
		p.load(t)
	case n < 85:
		commit(t, p, store.Op{Kind: store.Purge, Key: source})
		delete(p.sources, id)
		return true
	case n < 87:
		commit(t, p, store.Op{Kind: store.Purge, Key: patient(id)})
		delete(p.patients, id)
		return true
	case n < 89:
		return p.reindex(t, source)
	}
	return false
}

// drop deletes one of the sources, or has it point elsewhere.
func (p *pointed) drop(t *testing.T) {
	ids := slices.Sorted(maps.Keys(p.sources))
	if len(ids) == 0 {
		return
	}
	id := ids[p.r.IntN(len(ids))]
	if p.r.IntN(2) == 0 {
		commit(t, p, store.Op{Kind: store.Delete, Key: plan.Key{Type: 2, ID: id}})
		delete(p.sources, id)
		return
	}
	op, s := p.source(id)
	commit(t, p, op)
	p.sources[id] = s
}

// load brings new sources and patients through the bulk door.
func (p *pointed) load(t *testing.T) {
	var ops []store.Op
	for range 4 {
		id := fmt.Sprint("loaded", p.r.IntN(1<<30))
		op, s := p.source(id)
		p.sources[id] = s
		ops = append(ops, op)
	}
	if id := fmt.Sprint(p.r.IntN(pointedPatients)); !p.patients[id] {
		ops = append(ops, put(patient(id), "{}", name("patient")))
		p.patients[id] = true
	}
	imported(t, p, ops...)
}

// reindex gives a source another name and target.
func (p *pointed) reindex(t *testing.T, key plan.Key) (rewritten bool) {
	if _, there := p.sources[key.ID]; !there {
		return false
	}
	record, err := viewed(t, p.Store, "").Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	op, s := p.source(key.ID)
	if _, err := p.Reindex(t.Context(), []store.Reentry{{Key: key, Version: record.Version, Entries: op.Entries}}); err != nil {
		t.Fatal(err)
	}
	p.sources[key.ID] = s
	return true
}

// What a Has reaches is that of the moment that is read, whatever was created, changed,
// loaded, deleted, indexed anew and purged since it was kept, by whichever way it was
// found.
func TestKeptReachOfEachMoment(t *testing.T) {
	for way, share := range map[string]int64{"followed": 1, "compared": 100} {
		t.Run(way, func(t *testing.T) { reachOfEachMoment(t, share) })
	}
}

func reachOfEachMoment(t *testing.T, share int64) {
	opts := memory(vfs.NewMem())
	opts.BlockRows = 64
	e := engine(t, opts)
	e.TakeEveryWay()
	e.SelfShare(share)
	p := &pointed{pointing{map[string]bool{}, map[string]pointer{}}, made(t, e), rand.New(rand.NewPCG(11, 12))}
	for i := range pointedPatients / 2 {
		commit(t, p, put(patient(fmt.Sprint(2*i)), "{}", name("patient")))
		p.patients[fmt.Sprint(2*i)] = true
	}
	var moments []pointedMoment
	used, grown := 0, 0
	for n := range 400 {
		if p.change(t) {
			moments = nil // what was rewritten is so in views that are opened later
		}
		ask := [][]string{{"a"}, {"b"}, {"a", "c"}, {"a", "b"}}[p.r.IntN(4)]
		moments = append(moments[max(0, len(moments)-8):], pointedMoment{viewed(t, p.Store, ""), p.copy()})
		then := moments[p.r.IntN(len(moments))]
		then.view = viewed(t, p.Store, then.view.Moment())
		for range p.r.IntN(3) {
			then.look(t, n, ask)
		}
		now, kept := moments[len(moments)-1], p.KeepsReach(1, has(ask...))
		for i := range 3 {
			now.look(t, n, ask)
			if i == 0 && kept > 0 {
				used++
				grown += boolOf(p.KeepsReach(1, has(ask...)) > kept)
			}
		}
		then.look(t, n, ask)
		moments[p.r.IntN(len(moments))].look(t, n, ask)
	}
	if used < 150 || grown < 50 {
		t.Errorf("rows were kept before %d of 400 searches, and taken on in %d", used, grown)
	}
}

// pointedMoment is a view with what should be seen in it.
type pointedMoment struct {
	view store.View
	want *pointing
}

func (m pointedMoment) look(t *testing.T, n int, ask []string) {
	t.Helper()
	if got := reachedIn(t, m.view, ask...); got != m.want.reached(ask...) {
		t.Fatalf("after %d changes: %v reach %s, want %s", n+1, ask, got, m.want.reached(ask...))
	}
}

// Where more rows came than are looked at one by one, what a Has reaches is gathered anew.
func TestKeptReachWhereManyCame(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	e.TakeEveryWay()
	p := &pointed{pointing{map[string]bool{}, map[string]pointer{}}, made(t, e), rand.New(rand.NewPCG(1, 2))}
	come := func(from, to int) {
		var ops []store.Op
		for i := from; i < to; i++ {
			ops = append(ops, put(patient(fmt.Sprint(i)), "{}", name("patient")))
			p.patients[fmt.Sprint(i)] = true
		}
		commit(t, p, ops...)
	}
	for i := range 60 {
		op, s := p.source(fmt.Sprint(i))
		commit(t, p, op)
		p.sources[fmt.Sprint(i)] = s
	}
	come(0, 30)
	for _, many := range []int{30, 30, 130, 131, pointedPatients} {
		come(len(p.patients), many)
		for range 4 {
			pointedMoment{viewed(t, p.Store, ""), &p.pointing}.look(t, many, []string{"a"})
		}
		if p.KeepsReach(1, has("a")) == 0 {
			t.Fatal("nothing is kept")
		}
	}
}

// Where few may be reached by many, they are tested and the many not gathered; what is
// found so is kept too.
func TestKeptReachOfFewByMany(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	e.TakeEveryWay()
	p := &pointed{pointing{map[string]bool{}, map[string]pointer{}}, made(t, e), rand.New(rand.NewPCG(3, 4))}
	for i := range 8 {
		commit(t, p, put(patient(fmt.Sprint(i)), "{}", name("patient")))
		p.patients[fmt.Sprint(i)] = true
	}
	come := func(from, to int) {
		for i := from; i < to; i++ {
			op, s := p.source(fmt.Sprint(i))
			commit(t, p, op)
			p.sources[fmt.Sprint(i)] = s
		}
	}
	come(0, 400)
	for range 4 {
		pointedMoment{viewed(t, p.Store, ""), &p.pointing}.look(t, 400, []string{"a"})
	}
	kept := p.KeepsReach(1, has("a"))
	if kept == 0 {
		t.Fatal("nothing is kept")
	}
	come(400, 440)
	pointedMoment{viewed(t, p.Store, ""), &p.pointing}.look(t, 440, []string{"a"})
	if now := p.KeepsReach(1, has("a")); now <= kept {
		t.Errorf("what is kept stands for the rows before %d, and did for those before %d", now, kept)
	}
}

// What a Has reaches goes when something is purged, though nobody asks again.
func TestKeptReachForgetsWhatIsPurged(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	e.TakeEveryWay()
	p := &pointed{pointing{map[string]bool{}, map[string]pointer{}}, made(t, e), rand.New(rand.NewPCG(1, 2))}
	for i := range 60 {
		commit(t, p, put(patient(fmt.Sprint(i)), "{}", name("patient")))
	}
	for i := range 30 {
		op, _ := p.source(fmt.Sprint(i))
		commit(t, p, op)
	}
	before := viewed(t, p.Store, "")
	for range 5 {
		reachedIn(t, before, "a")
	}
	if p.KeepsReach(1, has("a")) == 0 {
		t.Fatal("nothing is kept")
	}
	commit(t, p, store.Op{Kind: store.Purge, Key: patient("20")})
	for range 5 {
		if p.KeepsReach(1, has("a")) != 0 || e.KeptRowsBytes() != 0 {
			t.Fatal("rows of before are kept")
		}
		reachedIn(t, before, "a")
	}
}

// Many searches at once, beside commits, each see what a Has reaches in their own view.
func TestKeptReachBesideCommits(t *testing.T) {
	e := engine(t, memory(vfs.NewMem()))
	e.TakeEveryWay()
	s := made(t, e)
	for i := range 50 {
		commit(t, s, put(patient(fmt.Sprint(i)), "{}", name("patient")))
	}
	var readers, writers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if err := sameReach(t.Context(), s); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	writers.Go(func() {
		r, ids := rand.New(rand.NewPCG(7, 8)), []string(nil)
		for i := range 300 {
			to := fmt.Sprint(r.IntN(100))
			self := s.HashKey().Self(patient(to))
			id := fmt.Sprint(i, "-", to)
			op := put(plan.Key{Type: 2, ID: id}, "{}", name("a"), plan.Entry{Param: 11, Value: self[:]})
			switch n := r.IntN(12); {
			case n == 0:
				op = put(patient(to), "{}", name("patient"))
			case n < 3 && len(ids) > 0:
				op = store.Op{Kind: store.Delete, Key: plan.Key{Type: 2, ID: ids[r.IntN(len(ids))]}}
			default:
				ids = append(ids, id)
			}
			if _, err := s.Commit(t.Context(), []store.Op{op}); err != nil {
				t.Error(err)
			}
		}
	})
	writers.Wait()
	close(done)
	readers.Wait()
}

// sameReach holds the patients that a Has finds in a view against those that the
// sources' ids name there.
func sameReach(ctx context.Context, s *lsm.Store) error {
	view, err := s.View(ctx, "")
	if err != nil {
		return err
	}
	defer view.Close()
	ids := func(t plan.Type, where plan.Node) (all []string) {
		page, failed := view.Search(ctx, &plan.Plan{Arms: []plan.Arm{{Type: t, Where: where}}, Limit: 1000})
		err = errors.Join(err, failed)
		for _, r := range page.Records {
			all = append(all, r.Key.ID)
		}
		slices.Sort(all)
		return all
	}
	there, got := ids(1, nil), ids(1, has("a"))
	var want []string
	for _, id := range ids(2, plan.Term{Param: 7, Value: []byte("a")}) {
		if _, to, _ := strings.Cut(id, "-"); slices.Contains(there, to) {
			want = append(want, to)
		}
	}
	slices.Sort(want)
	if want = slices.Compact(want); err == nil && !slices.Equal(got, want) {
		return fmt.Errorf("reached %v, want %v", got, want)
	}
	return err
}
