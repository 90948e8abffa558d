package lsm_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// rankedPatients are patients with up to three values of each of params 9 and 10 and up
// to one of param 12, every other one of which a resource of type 2 points to by param 11.
type rankedPatients struct {
	key     plan.HashKey
	entries [][]plan.Entry // of each patient
	sources [][]plan.Entry // of each resource of type 2
	points  []int          // which patient it points to
}

func (p *rankedPatients) commit(t *testing.T, s store.Store, n int, r *rand.Rand) {
	values := func(param plan.Param, most int) (all []plan.Entry) {
		for range r.IntN(most + 1) {
			all = append(all, plan.Entry{Param: param, Value: fmt.Appendf(nil, "%02d%d", r.IntN(40), r.IntN(3))})
		}
		slices.SortFunc(all, func(a, b plan.Entry) int { return bytes.Compare(a.Value, b.Value) })
		return slices.CompactFunc(all, func(a, b plan.Entry) bool { return bytes.Equal(a.Value, b.Value) })
	}
	p.key = s.HashKey()
	for range n {
		i := len(p.entries)
		entries := append([]plan.Entry{name("all")}, slices.Concat(values(9, 3), values(10, 3), values(12, 1))...)
		p.entries = append(p.entries, entries)
		commit(t, s, put(patient(fmt.Sprint(i)), "{}", entries...))
		if i%2 == 1 {
			at := r.IntN(len(p.entries))
			self := p.key.Self(patient(fmt.Sprint(at)))
			entries := append(values(9, 3), plan.Entry{Param: 11, Value: self[:]})
			p.sources, p.points = append(p.sources, entries), append(p.points, at)
			commit(t, s, put(plan.Key{Type: 2, ID: fmt.Sprint(i)}, "{}", entries...))
		}
	}
}

// where is a condition by chance, with what it means of a patient.
func (p *rankedPatients) where(r *rand.Rand) (plan.Node, func(i int) bool) {
	within := func(param plan.Param) plan.Range {
		low := r.IntN(45)
		n := plan.Range{Param: param, Low: fmt.Appendf(nil, "%02d", low), High: fmt.Appendf(nil, "%02d%d", low+r.IntN(20), r.IntN(3))}
		switch r.IntN(4) {
		case 0:
			n.High = nil
		case 1:
			n.Tail = &plan.Tail{At: 2, Low: []byte("1"), High: []byte("2")}
		}
		return n
	}
	parts := plan.And{plan.Term{Param: 7, Value: []byte("all")}, plan.Or{within(9), within(10)}}
	if r.IntN(2) == 0 {
		parts = append(parts, within(10))
	}
	switch r.IntN(3) {
	case 0:
		parts = append(parts, within(12))
	case 1:
		parts = append(parts, plan.Or{within(12), within(12 + plan.Param(r.IntN(2)))})
	}
	if r.IntN(3) == 0 {
		parts = append(parts, plan.Or{within(9), plan.IDs{IDs: []string{"3", "30", "77"}}})
	}
	meets := func(i int) bool {
		met, ok := plan.Meets(parts, fmt.Sprint(i), p.entries[i])
		return met && ok
	}
	if r.IntN(3) > 0 {
		return parts, meets
	}
	from := within(9)
	pointed := map[int]bool{}
	for i, entries := range p.sources {
		if met, _ := plan.Meets(from, "", entries); met {
			pointed[p.points[i]] = true
		}
	}
	return append(parts, plan.Has{Params: []plan.Param{11}, From: []plan.Arm{{Type: 2, Where: from}}}), func(i int) bool { return meets(i) && pointed[i] }
}

// order sorts patients by their smallest or largest value of some params, newest first
// among others.
func (p *rankedPatients) order(of []int, params []plan.Param, desc bool) {
	key := func(i int) (best []byte) {
		for _, e := range p.entries[i] {
			if slices.Contains(params, e.Param) && (best == nil || desc == (bytes.Compare(e.Value, best) > 0)) {
				best = e.Value
			}
		}
		return best
	}
	slices.SortFunc(of, func(a, b int) int {
		x, y := key(a), key(b)
		if x == nil || y == nil {
			return cmp.Or(cmp.Compare(boolOf(x == nil), boolOf(y == nil)), cmp.Compare(b, a))
		}
		if desc {
			x, y = y, x
		}
		return cmp.Or(bytes.Compare(x, y), cmp.Compare(b, a))
	})
}

func boolOf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// What columns decide, for many rows at once or one by one, is what entries say:
// ranges, alternatives, orders and what is pointed to, while rows come.
func TestColumnsSayWhatEntriesSay(t *testing.T) {
	opts := memory(vfs.NewMem())
	opts.BlockRows = 64
	e := engine(t, opts)
	e.KeepSoon()
	s := made(t, e)
	r := rand.New(rand.NewPCG(8, 9))
	p := &rankedPatients{}
	for range 12 {
		p.commit(t, s, 25, r)
		view := viewed(t, s, "")
		for range 60 {
			where, meets := p.where(r)
			var want []int
			for i := range p.entries {
				if meets(i) {
					want = append(want, i)
				}
			}
			ask := &plan.Plan{Arms: []plan.Arm{{Type: 1, Where: where}}, Limit: 1 + r.IntN(12), Total: plan.TotalExact}
			if r.IntN(3) == 0 {
				slices.Reverse(want)
			} else {
				by := plan.Sort{Params: [][]plan.Param{{9}, {12}, {12, 9}}[r.IntN(3)], Desc: r.IntN(2) == 0}
				ask.Sort = []plan.Sort{by}
				p.order(want, by.Params, by.Desc)
			}
			if got := strings.Join(pages(t, view, ask, len(want)), " "); got != strings.Trim(fmt.Sprint(want), "[]") {
				t.Fatalf("%+v of %d patients: found %s, want %v", ask, len(p.entries), got, want)
			}
		}
	}
	if e.KeptBytes() == 0 {
		t.Fatal("no columns are kept")
	}
}

// pages gives the ids of all pages of a search.
func pages(t *testing.T, view store.View, ask *plan.Plan, total int) (ids []string) {
	t.Helper()
	for {
		page, err := view.Search(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		if page.Total != int64(total) {
			t.Fatalf("%+v: a total of %d, want %d", ask, page.Total, total)
		}
		for _, r := range page.Records {
			ids = append(ids, r.Key.ID)
		}
		if ask.After = page.Next; ask.After == nil {
			return ids
		}
	}
}
