package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// maxPages bounds how many pages a walk asks for, so that an engine that pages
// in a circle fails instead of hanging.
const maxPages = 2000

// Lines of answers that are not records.
const (
	nothing = "nothing"
	more    = "more" // there is a next page
	comma   = ".."   // between pages, or between commits
)

// machine carries out steps on one store of one engine and tells the answers as
// text, which is the same for every engine that keeps the contract.
type machine struct {
	ctx       context.Context
	t         testing.TB
	clock     *Clock
	engine    store.Engine
	reopen    func() store.Engine
	store     store.Store
	moments   map[string]store.Moment
	tokens    map[string][]byte
	importers map[string]store.Importer
	puts      int // puts carried out, for the bodies
}

func newMachine(t testing.TB, open Opener) *machine {
	t.Helper()
	clock := NewClock()
	engine, again := open(t, clock.Now)
	m := &machine{
		ctx: testContext(t), t: t, clock: clock, engine: engine, reopen: again,
		moments: map[string]store.Moment{}, tokens: map[string][]byte{}, importers: map[string]store.Importer{},
	}
	mustNot(t, "Create", engine.Create(m.ctx, storeID, testKey(t, 'k')))
	m.open()
	t.Cleanup(func() { m.close() })
	return m
}

func (m *machine) open() {
	m.t.Helper()
	s, err := m.engine.Open(m.ctx, storeID, testKey(m.t, 'k'))
	mustNot(m.t, "Open", err)
	m.store = s
}

// close may be called again.
func (m *machine) close() {
	m.t.Helper()
	if m.store != nil {
		mustNot(m.t, "Close", m.store.Close())
		m.store = nil
	}
}

// errorText tells an error by its kind alone: the words are the engine's own.
func errorText(err error) string {
	if unmet, ok := errors.AsType[*store.Unmet](err); ok {
		return unmetText(unmet)
	}
	if _, ok := errors.AsType[*fault.Error](err); !ok {
		return fmt.Sprintf("error without a kind: %v", err)
	}
	return "error: " + fault.From(err).Kind.String()
}

func unmetText(u *store.Unmet) string {
	text := fmt.Sprintf("unmet: condition %d of operation %d", u.Condition, u.Op)
	if u.Current > 0 {
		text += fmt.Sprintf(", current v%d", u.Current)
	}
	if u.Deleted {
		text += " deleted"
	}
	if len(u.Matched) > 0 {
		text += ", matched" + keysText(sortedKeys(u.Matched))
	}
	return text
}

// sortedKeys sorts by type and id: the order in which a plan found keys is not
// part of an Unmet.
func sortedKeys(keys []plan.Key) []plan.Key {
	return slices.SortedFunc(slices.Values(keys), func(a, b plan.Key) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID))
	})
}

func failed(err error) []string { return []string{errorText(err)} }

// body makes the nth put's body, "b<n>", followed by size bytes that look
// half-random (they compress somewhat, as resources do).
func body(n, size int) []byte {
	text := fmt.Appendf(nil, "b%d", n)
	if size == 0 {
		return text
	}
	random := rand.New(rand.NewPCG(uint64(n), uint64(size)))
	text = fmt.Appendf(text, "+%d ", size)
	for range size {
		text = append(text, "aeinorst 0123456789"[random.IntN(19)])
	}
	return text
}

// bodyText shows a body in few letters, and any byte that is not as body made
// it.
func bodyText(b []byte) string {
	head, _, _ := strings.Cut(string(b), " ")
	number, size, _ := strings.Cut(strings.TrimPrefix(head, "b"), "+")
	n, err := strconv.Atoi(number)
	pad, _ := strconv.Atoi(size)
	if err == nil && pad <= maxRepeat && bytes.Equal(body(n, pad), b) {
		return head
	}
	if len(b) > 100 {
		return fmt.Sprintf("%d bytes %q…", len(b), b[:100])
	}
	return strconv.Quote(string(b))
}

// ready makes the store's ops of a script's.
func (m *machine) ready(texts []opText) []store.Op {
	hash := m.store.HashKey()
	ops := make([]store.Op, len(texts))
	for i, text := range texts {
		op := text.Op
		if op.Kind == store.Put {
			m.puts++
			if !text.given {
				op.Body = body(m.puts, text.pad)
			}
		}
		op.Entries = resolveEntries(text.Entries, hash)
		op.If = make([]store.Condition, len(text.If))
		for j, cond := range text.If {
			if cond.Plan != nil {
				cond.Plan = &plan.Plan{Arms: resolveArms(cond.Plan.Arms, hash)}
			}
			op.If[j] = cond
		}
		ops[i] = op
	}
	return ops
}

func (c commitOps) run(m *machine) []string {
	ops := m.ready(c.ops)
	outcomes, err := m.store.Commit(m.ctx, ops)
	if err != nil {
		return failed(err)
	}
	if len(outcomes) != len(ops) {
		return []string{fmt.Sprintf("BROKEN: %d outcomes of %d operations", len(outcomes), len(ops))}
	}
	lines := make([]string, len(ops))
	for i, o := range outcomes {
		lines[i] = outcomeText(ops[i], o)
	}
	return append(lines, m.checkOutcomes(ops, outcomes)...)
}

func (r reindex) run(m *machine) []string {
	hash := m.store.HashKey()
	versions := make([]store.Reentry, len(r.ops))
	for i, op := range r.ops {
		versions[i] = store.Reentry{Key: op.Key, Version: op.If[0].Version, Entries: resolveEntries(op.Entries, hash)}
	}
	done, err := m.store.Reindex(m.ctx, versions)
	if err != nil {
		return failed(err)
	}
	if len(done) != len(versions) {
		return []string{fmt.Sprintf("BROKEN: %d outcomes of %d versions", len(done), len(versions))}
	}
	lines := make([]string, len(done))
	for i, v := range versions {
		lines[i] = fmt.Sprintf("%s v%d", keyText(v.Key), v.Version)
		if !done[i] {
			lines[i] += " left"
		}
	}
	return lines
}

func resolveEntries(entries []plan.Entry, hash plan.HashKey) []plan.Entry {
	resolved := make([]plan.Entry, len(entries))
	for i, e := range entries {
		resolved[i] = plan.Entry{Param: e.Param, Value: resolveValue(e.Value, hash)}
	}
	return resolved
}

func outcomeText(op store.Op, o store.Outcome) string {
	if op.Kind == store.Check && op.Key == (plan.Key{}) {
		return "ok"
	}
	text := fmt.Sprintf("%s v%d", keyText(op.Key), o.Version)
	if o.Version > 0 {
		text += " at " + timeText(o.Updated)
	}
	if o.Created {
		text += " created"
	}
	if !o.Changed {
		text += " unchanged"
	}
	return text
}

// checkOutcomes compares what a commit said with what can be read right after:
// acknowledged is visible.
func (m *machine) checkOutcomes(ops []store.Op, outcomes []store.Outcome) []string {
	view, err := m.store.View(m.ctx, "")
	if err != nil {
		return failed(err)
	}
	defer view.Close()
	var broken []string
	for i, o := range outcomes {
		if o.Version == 0 || ops[i].Kind == store.Check {
			continue
		}
		r, err := view.Get(m.ctx, ops[i].Key)
		if err != nil || r.Version != o.Version || !r.Updated.Equal(o.Updated) {
			broken = append(broken, fmt.Sprintf("BROKEN: right after the commit %s reads as v%d %v, %v",
				keyText(ops[i].Key), r.Version, r.Updated, err))
		}
	}
	return broken
}

func (c moveClock) run(m *machine) []string {
	m.clock.Move(c.by)
	return nil
}

func (k mark) run(m *machine) []string {
	view, err := m.store.View(m.ctx, "")
	if err != nil {
		return failed(err)
	}
	defer view.Close()
	m.moments[k.moment] = store.Moment(string(view.Moment()))
	return nil
}

// view opens the store at a named moment; no name is now.
func (m *machine) view(name string) (store.View, error) {
	at, ok := m.moments[name]
	if name != "" && !ok {
		at = store.Moment(name) // scripts try moments that are none
	}
	view, err := m.store.View(m.ctx, at)
	if err == nil && ok && view.Moment() != at {
		_ = view.Close()
		return nil, fmt.Errorf("BROKEN: a view at %q calls itself %q", at, view.Moment())
	}
	return view, err
}

func (g get) run(m *machine) []string {
	view, err := m.view(g.at)
	if err != nil {
		return failed(err)
	}
	defer view.Close()
	var r store.Record
	if g.version > 0 {
		r, err = view.GetVersion(m.ctx, g.key, g.version)
	} else {
		r, err = view.Get(m.ctx, g.key)
	}
	if err != nil {
		return failed(err)
	}
	return []string{recordText(r, true)}
}

func recordText(r store.Record, full bool) string {
	text := fmt.Sprintf("%s v%d", keyText(r.Key), r.Version)
	if r.Deleted {
		text += " deleted"
	}
	if !r.Deleted || len(r.Body) > 0 {
		text += " " + bodyText(r.Body)
	}
	if full {
		text += fmt.Sprintf(" tag %d at %s created %s", r.Tag, timeText(r.Updated), timeText(r.Created))
	}
	if !r.Updated.Equal(r.Updated.Truncate(time.Millisecond)) {
		text += " BROKEN: finer than a millisecond"
	}
	return text
}

// asker asks one page of a question.
type asker func(view store.View, after []byte) (store.Page, error)

func (s search) run(m *machine) []string {
	p := s.plan
	p.Arms = resolveArms(p.Arms, m.store.HashKey())
	if s.count {
		return m.count(&p, s.at)
	}
	lines := m.pages(s.paging, p.Limit, func(view store.View, after []byte) (store.Page, error) {
		asked := p
		asked.After = after
		page, err := view.Search(m.ctx, &asked)
		if err == nil && p.Total == plan.TotalEstimate {
			page.Total, err = m.estimate(view, &p, page.Total)
		}
		return page, err
	})
	return lines
}

// estimate puts the exact total in the place of an estimated one, which may be
// anything that is not below it.
func (m *machine) estimate(view store.View, p *plan.Plan, estimated int64) (int64, error) {
	exact, err := view.Count(m.ctx, p)
	if err == nil && estimated < exact {
		err = fmt.Errorf("BROKEN: an estimate of %d for %d matches", estimated, exact)
	}
	return exact, err
}

func (m *machine) count(p *plan.Plan, at string) []string {
	view, err := m.view(at)
	if err != nil {
		return failed(err)
	}
	defer view.Close()
	n, err := view.Count(m.ctx, p)
	if err != nil {
		return failed(err)
	}
	return []string{strconv.FormatInt(n, 10)}
}

func (h history) run(m *machine) []string {
	q := h.query
	q.Where = resolveArms(q.Where, m.store.HashKey())
	return m.pages(h.paging, q.Limit, func(view store.View, after []byte) (store.Page, error) {
		asked := q
		asked.After = after
		return view.History(m.ctx, asked)
	})
}

// pages asks for one page, or for all one after the other, each in a view of
// its own at the same moment.
func (m *machine) pages(g paging, limit int, ask asker) []string {
	after, ok := m.tokens[g.after]
	if g.after != "" && !ok {
		after = []byte(g.after) // scripts try tokens that are none
	}
	view, err := m.view(g.at)
	if err != nil {
		return failed(err)
	}
	at := view.Moment()
	var lines []string
	for range maxPages {
		page, err := ask(view, after)
		if closed := view.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return append(lines, errorText(err))
		}
		lines = append(lines, pageText(page, limit, g.full)...)
		if g.next != "" {
			m.keepToken(g.next, page.Next)
		}
		if !g.walk || page.Next == nil {
			return lines
		}
		lines[len(lines)-1] = comma // it was "more"
		if view, err = m.store.View(m.ctx, at); err != nil {
			return append(lines, errorText(err))
		}
		after = page.Next
	}
	return append(lines, "BROKEN: pages without end")
}

func (m *machine) keepToken(name string, token []byte) {
	if token == nil {
		delete(m.tokens, name)
		return
	}
	m.tokens[name] = bytes.Clone(token)
}

// pageText tells a page: its records, its total when there is one, and whether
// more follows.
func pageText(page store.Page, limit int, full bool) []string {
	var lines []string
	for _, r := range page.Records {
		lines = append(lines, recordText(r, full))
	}
	if len(page.Records) > limit {
		lines = append(lines, fmt.Sprintf("BROKEN: %d records where %d were the limit", len(page.Records), limit))
	}
	if len(page.Records) == 0 {
		lines = append(lines, nothing)
	}
	if page.Total >= 0 {
		lines = append(lines, fmt.Sprintf("total %d", page.Total))
	}
	if page.Next != nil {
		lines = append(lines, more)
	}
	return lines
}

// sentinel is written by follow, to see where the present is; nothing shows it.
var sentinel = plan.Key{Type: typeNumbers["Sentinel"], ID: "follow"}

func (f follow) run(m *machine) []string {
	after, ok := m.moments[f.after]
	if f.after != "" && !ok {
		after = store.Moment(f.after)
	}
	outcomes, err := m.store.Commit(m.ctx, []store.Op{{Kind: store.Put, Key: sentinel}})
	if err != nil {
		return failed(err)
	}
	var lines []string
	var last store.Moment
	seen := 0
	for c, err := range m.store.Follow(m.ctx, after) {
		if err != nil {
			return append(lines, errorText(err))
		}
		if c.Key == sentinel {
			if c.Version == outcomes[0].Version {
				return orNothing(lines)
			}
			continue
		}
		if seen++; f.commits && last != "" && c.Moment != last {
			lines = append(lines, comma)
		}
		last = c.Moment
		if seen == f.keepNth {
			m.moments[f.keep] = c.Moment
		}
		lines = append(lines, changeText(c))
	}
	return append(lines, "BROKEN: the feed ended by itself")
}

func changeText(c store.Change) string {
	if c.Purged {
		return keyText(c.Key) + " purged"
	}
	return recordText(c.Record, true)
}

func orNothing(lines []string) []string {
	if len(lines) == 0 {
		return []string{nothing}
	}
	return lines
}

func (reopen) run(m *machine) []string {
	m.close()
	m.importers = map[string]store.Importer{}
	m.engine = m.reopen()
	m.open()
	return nil
}

// part finds import/part, and opens what is not open.
func (m *machine) part(name string) (store.Part, error) {
	importName, partName, _ := strings.Cut(name, "/")
	importer, err := m.importer(importName)
	if err != nil {
		return nil, err
	}
	return importer.Part(m.ctx, partName)
}

func (m *machine) importer(name string) (store.Importer, error) {
	if m.importers[name] == nil {
		importer, err := m.store.Import(m.ctx, name)
		if err != nil {
			return nil, err
		}
		m.importers[name] = importer
	}
	return m.importers[name], nil
}

func (a add) run(m *machine) []string {
	part, err := m.part(a.part)
	if err == nil {
		err = part.Add(m.ctx, m.ready(a.ops), []byte(a.cursor))
	}
	if err != nil {
		return failed(err)
	}
	return []string{"ok"}
}

func (p partAct) run(m *machine) []string {
	line := "ok"
	importName, _, isPart := strings.Cut(p.name, "/")
	if !isPart {
		importer, err := m.importer(importName)
		if err == nil {
			err = m.endImport(p.verb, importName, importer)
		}
		if err != nil {
			return failed(err)
		}
		return []string{line}
	}
	part, err := m.part(p.name)
	if err == nil && p.verb == "flush" {
		err = part.Flush(m.ctx)
	}
	if err != nil {
		return failed(err)
	}
	if p.verb == "cursor" {
		if line = nothing; part.Cursor() != nil {
			line = string(part.Cursor())
		}
	}
	return []string{line}
}

func (m *machine) endImport(verb, name string, importer store.Importer) error {
	if verb == "close" {
		delete(m.importers, name)
		return importer.Close(m.ctx)
	}
	return importer.Forget(m.ctx)
}
