package storetest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// generate writes a random history: a script without answers. The same seed
// gives the same script.
func generate(seed uint64, steps int) []step {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0x7461726e))}
	for len(g.steps) < steps {
		g.step()
	}
	return g.steps
}

// generator writes a script. It keeps no model of the store: small pools of
// ids and values make sure that most questions find something.
type generator struct {
	*rand.Rand
	steps   []step
	moments int
	tokens  int
	adds    int
	paging  bool // between two pages, where Reindex may do anything
}

// chance is true n times of a hundred.
func (g *generator) chance(n int) bool { return g.IntN(100) < n }

func pick[E any](g *generator, from ...E) E { return from[g.IntN(len(from))] }

// several picks up to most, at least one, possibly the same more than once.
func several[E any](g *generator, most int, one func() E) []E {
	some := make([]E, 1+g.IntN(most))
	for i := range some {
		some[i] = one()
	}
	return some
}

func (g *generator) do(a action) { g.steps = append(g.steps, step{do: a}) }

func (g *generator) step() {
	switch n := g.IntN(100); {
	case n < 33:
		g.do(commitOps{g.commit()})
	case n < 36:
		if !g.paging {
			g.do(reindex{g.reentries()})
		}
	case n < 43:
		g.imports()
	case n < 47:
		g.do(moveClock{time.Duration(g.IntN(4000)-500) * time.Millisecond})
	case n < 54:
		g.moments++
		g.do(mark{fmt.Sprintf("$m%d", g.moments)})
	case n < 56:
		g.do(reopen{})
	case n < 62:
		g.get()
	case n < 87:
		g.search()
	case n < 97:
		g.history()
	default:
		g.follow()
	}
}

// moment names a moment marked before, or none.
func (g *generator) moment() string {
	if g.moments == 0 || g.chance(65) {
		return ""
	}
	return fmt.Sprintf("$m%d", 1+g.IntN(g.moments))
}

// The pools.
var (
	resourceNames = []string{"Patient", "Patient", "Patient", "Observation", "Observation", "Observation", "Organization", "Group", "Binary", "Job"}
	textValues    = []string{"ann", "anna", "anne", "bob", "bobby", "c", "", "zoe", "ann\x00", "ann\x00a", "\xff", "\xff\xff", "\x00"}
	codeValues    = []string{"m", "f", "other"}
)

func (g *generator) typeNumber() plan.Type { return typeNumbers[pick(g, resourceNames...)] }

func (g *generator) key() plan.Key {
	key := plan.Key{Type: g.typeNumber()}
	switch key.Type {
	case typeNumbers["Patient"], typeNumbers["Observation"]:
		key.ID = pick(g, "1", "2", "3", "10", "a", "A", "a-1", "a.1")
	default:
		key.ID = pick(g, "1", "2", strings.Repeat("x", 64))
	}
	return key
}

// dated is a value of two bytes, or of two bytes with a tail of two.
func (g *generator) dated() []byte {
	v := []byte{0x10, byte(g.IntN(12))}
	if g.chance(70) {
		v = append(v, 0x20, byte(g.IntN(12)))
	}
	return v
}

func (g *generator) entry() plan.Entry {
	switch name := pick(g, "name", "name", "exact", "gender", "birth", "birth", "subject", "subject", "member", "code", "text", "value", "high", "present"); name {
	case "gender", "code":
		return plan.Entry{Param: paramNumbers[name], Value: []byte(pick(g, codeValues...))}
	case "birth", "value":
		return plan.Entry{Param: paramNumbers[name], Value: g.dated()}
	case "subject", "member":
		return plan.Entry{Param: paramNumbers[name], Value: []byte(selfMark + keyText(g.key()))}
	case "present":
		return plan.Entry{Param: paramNumbers[name], Value: []byte{}}
	default:
		return plan.Entry{Param: paramNumbers[name], Value: g.text()}
	}
}

func (g *generator) text() []byte {
	if g.chance(2) {
		return []byte(strings.Repeat("w", plan.MaxValueBytes-g.IntN(2)))
	}
	return []byte(pick(g, textValues...))
}

func (g *generator) entries() []plan.Entry {
	var entries []plan.Entry
	seen := map[string]bool{}
	for range g.IntN(9) {
		e := g.entry()
		if id := fmt.Sprint(e); !seen[id] {
			seen[id] = true
			entries = append(entries, e)
		}
	}
	return entries
}

func (g *generator) put() opText {
	op := opText{Op: store.Op{Kind: store.Put, Key: g.key(), Entries: g.entries()}}
	if g.chance(20) {
		op.Tag = byte(g.IntN(256))
	}
	if g.chance(5) {
		op.pad = g.IntN(40_000)
	}
	return op
}

// commit makes ops; now and then two of them write one key, which is refused.
func (g *generator) commit() []opText {
	return several(g, 4, func() opText {
		op := g.put()
		switch n := g.IntN(100); {
		case n < 22:
			op = opText{Op: store.Op{Kind: store.Delete, Key: op.Key, Tag: op.Tag}}
		case n < 26:
			op = opText{Op: store.Op{Kind: store.Purge, Key: op.Key}}
		case n < 30:
			op = opText{Op: store.Op{Kind: store.Check, Key: op.Key}}
		}
		if g.chance(20) {
			op.If = several(g, 2, g.condition)
		}
		return op
	})
}

// reentries are puts of entries alone, of versions that may be current.
func (g *generator) reentries() []opText {
	return several(g, 4, func() opText {
		of := store.Condition{Kind: store.AtVersion, Version: uint64(1 + g.IntN(3))}
		return opText{Op: store.Op{Kind: store.Put, Key: g.key(), Entries: g.entries(), If: []store.Condition{of}}}
	})
}

func (g *generator) condition() store.Condition {
	switch n := g.IntN(100); {
	case n < 25:
		return store.Condition{Kind: store.AtVersion, Version: uint64(1 + g.IntN(4))}
	case n < 45:
		return store.Condition{Kind: store.Exists}
	case n < 60:
		return store.Condition{Kind: store.Absent}
	case n < 70:
		return store.Condition{Kind: store.Never}
	}
	cond := store.Condition{Kind: store.Matches, Plan: &plan.Plan{Arms: g.arms(2)}}
	if g.chance(40) {
		cond.Keys = several(g, 2, g.key)
	}
	return cond
}

// imports adds to one or two parts and flushes them. Between add and flush an
// engine may show the one or the other, so nothing is asked there.
func (g *generator) imports() {
	part := pick(g, "load/a", "load/b", "later/a")
	for range 1 + g.IntN(3) {
		g.adds++
		g.do(add{part: part, cursor: fmt.Sprintf("c%d", g.adds), ops: several(g, 12, g.put)})
	}
	g.do(partAct{"flush", part})
	g.do(partAct{"cursor", part})
	if importName, _, _ := strings.Cut(part, "/"); g.chance(30) {
		g.do(partAct{"close", importName})
		if g.chance(50) {
			g.do(partAct{"forget", importName})
			g.do(partAct{"close", importName})
		}
	}
}

func (g *generator) get() {
	a := get{key: g.key(), at: g.moment()}
	if g.chance(60) {
		a.version = uint64(1 + g.IntN(5))
	}
	g.do(a)
}

// search asks for one page, for all pages, or for two pages with other steps
// between them.
func (g *generator) search() {
	s := search{plan: plan.Plan{Arms: g.arms(3), Sort: g.sorts(), Limit: defaultLimit}}
	s.at = g.moment()
	switch n := g.IntN(100); {
	case n < 15:
		s.count, s.plan.Sort = true, nil
	case n < 30:
		s.walk, s.plan.Limit = true, 1+g.IntN(4)
	case n < 50:
		g.moments, g.tokens = g.moments+1, g.tokens+1
		s.plan.Limit = 1 + g.IntN(5)
		g.twoPages(s)
		return
	}
	if !s.count {
		s.full = true
		s.plan.Total = pick(g, plan.TotalNone, plan.TotalEstimate, plan.TotalExact)
	}
	g.do(s)
}

func (g *generator) twoPages(s search) {
	at, token := fmt.Sprintf("$m%d", g.moments), fmt.Sprintf("$t%d", g.tokens)
	g.do(mark{at})
	s.at, s.next = at, token
	g.do(s)
	within := g.paging
	g.paging = true
	for range g.IntN(4) {
		g.step()
	}
	g.paging = within
	s.next, s.after = "", token
	g.do(s)
}

func (g *generator) sorts() []plan.Sort {
	if g.chance(55) {
		return nil
	}
	return several(g, 2, func() plan.Sort {
		s := plan.Sort{By: pick(g, plan.ByParam, plan.ByParam, plan.ByUpdated, plan.ByID, plan.ByType), Desc: g.chance(50)}
		if s.By == plan.ByParam {
			s.Params = several(g, 2, g.sortable)
		}
		return s
	})
}

// sortable is a parameter to sort by. References sort by hashes, each store in
// its own way, and tell nothing.
func (g *generator) sortable() plan.Param {
	return paramNumbers[pick(g, "name", "exact", "gender", "birth", "code", "text", "value", "present")]
}

// arms makes one to three arms of different types.
func (g *generator) arms(depth int) []plan.Arm {
	var arms []plan.Arm
	seen := map[plan.Type]bool{}
	for range 1 + g.IntN(3) {
		arm := plan.Arm{Type: g.typeNumber()}
		if seen[arm.Type] {
			continue
		}
		seen[arm.Type] = true
		if g.chance(85) {
			arm.Where = g.node(depth)
		}
		arms = append(arms, arm)
	}
	return arms
}

func (g *generator) node(depth int) plan.Node {
	if depth == 0 || g.chance(45) {
		return g.leaf()
	}
	inner := func() plan.Node { return g.node(depth - 1) }
	switch n := g.IntN(100); {
	case n < 20:
		return plan.And(several(g, 2, inner))
	case n < 50:
		return plan.Or(several(g, 3, inner))
	case n < 70:
		return plan.Not{Of: inner()}
	case n < 85:
		return plan.Chain{Params: g.references(), To: g.arms(depth - 1)}
	default:
		return plan.Has{Params: g.references(), From: g.arms(depth - 1)}
	}
}

func (g *generator) references() []plan.Param {
	return pick(g, []plan.Param{paramNumbers["subject"]}, []plan.Param{paramNumbers["member"]},
		[]plan.Param{paramNumbers["subject"], paramNumbers["member"]})
}

func (g *generator) leaf() plan.Node {
	e := g.entry()
	switch n := g.IntN(100); {
	case n < 35:
		return plan.Term(e)
	case n < 62:
		return g.ranged()
	case n < 70:
		return plan.Contains{Param: pick(g, paramNumbers["name"], paramNumbers["exact"]), Part: []byte(pick(g, "n", "ann", "\x00", "\xff", ""))}
	case n < 78:
		low, high := g.span()
		return plan.Updated{Low: low, High: high}
	case n < 84:
		low, high := g.span()
		return plan.Created{Low: low, High: high}
	case n < 92:
		return plan.IDs{IDs: several(g, 3, func() string { return g.key().ID })}
	case n < 93:
		return bodyTest([]byte(pick(g, "1", "b2", "3", "")))
	case n < 95:
		return pick[plan.Node](g, nil, plan.And{}, plan.Or{}, plan.IDs{})
	default:
		return plan.Not{Of: plan.Term(e)}
	}
}

// ranged makes a range: of texts, a prefix, or of dated values with a tail.
func (g *generator) ranged() plan.Node {
	r := plan.Range{Param: pick(g, paramNumbers["birth"], paramNumbers["value"])}
	end := func() []byte { return []byte{0x10, byte(g.IntN(13))} }
	switch n := g.IntN(100); {
	case n < 30:
		return plan.Prefix(pick(g, paramNumbers["name"], paramNumbers["exact"]), []byte(pick(g, textValues...)))
	case n < 50:
		r.Param = pick(g, paramNumbers["name"], paramNumbers["text"])
		end = func() []byte { return []byte(pick(g, textValues...)) }
	case n < 80:
		r.Tail = &plan.Tail{At: pick(g, 2, 2, 2, 1, 3)}
		if g.chance(70) {
			r.Tail.Low = []byte{0x20, byte(g.IntN(12))}
		}
		if g.chance(70) {
			r.Tail.High = []byte{0x20, byte(g.IntN(13))}
		}
	}
	if g.chance(75) {
		r.Low = end()
	}
	if g.chance(75) {
		r.High = end()
	}
	return r
}

// span makes a span of time somewhere in the history so far; ends may be open,
// or the wrong way round.
func (g *generator) span() (low, high time.Time) {
	at := func() time.Time {
		if g.chance(25) {
			return time.Time{}
		}
		return start.Add(time.Duration(g.IntN(2+len(g.steps)*80)) * time.Millisecond)
	}
	low, high = at(), at()
	if !low.IsZero() && !high.IsZero() && high.Before(low) && g.chance(90) {
		low, high = high, low
	}
	return low, high
}

func (g *generator) history() {
	h := history{query: store.HistoryQuery{Limit: defaultLimit, OldestFirst: g.chance(25), Total: g.chance(30)}}
	h.at, h.full = g.moment(), true
	switch n := g.IntN(100); {
	case n < 50:
		h.query.Key = g.key()
	case n < 80:
		h.query.Types = several(g, 2, g.typeNumber)
	}
	if g.chance(25) {
		h.query.Low, h.query.High = g.span()
	}
	if g.chance(25) {
		h.query.AtLow, h.query.AtHigh = g.span()
	}
	if g.chance(30) {
		h.query.Where = g.arms(2)
	}
	if g.chance(40) {
		h.walk, h.query.Limit = true, 1+g.IntN(7)
	}
	g.do(h)
}

func (g *generator) follow() {
	f := follow{after: g.moment()}
	if g.chance(30) {
		g.moments++
		f.keep, f.keepNth = fmt.Sprintf("$m%d", g.moments), 1+g.IntN(20)
	}
	g.do(f)
}
