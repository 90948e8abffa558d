package interaction

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// transaction carries out all entries or none, in R4's order (DELETE, POST, PUT,
// GET), as one commit whose conditions hold at the commit point.
//
//	entries → identities (new ids, conditional matches)
//	        → references rewritten to them → extracted in parallel → one commit → reads
func (s *Session) transaction(ctx context.Context, items fhir.Node) ([]byte, error) {
	entries := make([]*entry, 0, items.Len())
	for item := range items.Items() {
		e, err := s.readEntry(len(entries), item)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	for range maxRaces {
		answers, err := s.attempt(ctx, entries)
		if _, again := unmet(err); again {
			continue
		}
		if err != nil {
			return nil, err
		}
		return respond("transaction-response", answers), nil
	}
	return nil, raced()
}

// write is what one writing entry of a transaction comes to.
type write struct {
	*entry
	key      plan.Key
	existing bool // a conditional create found its resource: nothing is written
	nothing  bool // a conditional delete found none
	op       store.Op
}

// txn is one attempt at a transaction.
type txn struct {
	*Session
	writes  []*write
	ids     map[string]string     // fullUrl → "Type/id"
	checks  []store.Condition     // conditional references and matches
	lookups map[string][]plan.Key // criteria → what they match
}

// attempt tries once; *store.Unmet says that a conditional match changed before
// the commit.
func (s *Session) attempt(ctx context.Context, entries []*entry) ([]fhir.BundleEntry, error) {
	t := &txn{Session: s, ids: map[string]string{}, lookups: map[string][]plan.Key{}}
	if err := t.identify(ctx, entries); err != nil {
		return nil, err
	}
	if err := t.findReferences(ctx); err != nil {
		return nil, err
	}
	if err := t.prepare(); err != nil {
		return nil, err
	}
	answers := make([]fhir.BundleEntry, len(entries))
	if err := t.commit(ctx, answers); err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.method != "GET" && e.method != "HEAD" {
			continue
		}
		out, err := s.get(ctx, e)
		if err != nil {
			out = failedEntry(err)
		}
		answers[e.at] = out
	}
	return answers, nil
}

// order is R4's processing order of the writing methods.
var order = []string{"DELETE", "POST", "PUT"}

// identify settles which resource each writing entry is about.
func (t *txn) identify(ctx context.Context, entries []*entry) error {
	taken := map[plan.Key]*entry{}
	for _, method := range order {
		for _, e := range entries {
			if e.method != method {
				continue
			}
			w := &write{entry: e}
			if err := t.resolve(ctx, w); err != nil {
				return err
			}
			t.writes = append(t.writes, w)
			if w.nothing {
				continue
			}
			if first, twice := taken[w.key]; twice && !(w.existing && t.onlyFound(first, w)) {
				return e.invalid("request.url", fmt.Sprintf("it is about the same resource as %s", first.place()))
			}
			taken[w.key] = e
			if e.fullURL != "" {
				t.ids[e.fullURL] = t.Registry.Name(w.key.Type) + "/" + w.key.ID
			}
		}
	}
	return nil
}

// onlyFound reports whether both entries are conditional creates that found the
// same resource: then neither writes.
func (t *txn) onlyFound(first *entry, w *write) bool {
	for _, other := range t.writes {
		if other.entry == first {
			return other.existing
		}
	}
	return false
}

// resolve finds the identity of one entry.
func (t *txn) resolve(ctx context.Context, w *write) error {
	typ, err := t.typ(w.target.typ)
	if err != nil {
		return err
	}
	access := map[string]search.Access{"POST": search.Create, "PUT": search.Update, "DELETE": search.Delete}[w.method]
	if w.method != "DELETE" {
		err = t.mayMake(typ, access)
	}
	if err != nil {
		return err
	}
	switch {
	case w.target.id != "":
		w.key, err = t.key(w.target.typ, w.target.id)
	case w.method == "POST" && w.none == "":
		w.key, err = t.fresh(typ)
	case w.method == "POST":
		err = t.resolveCreate(ctx, w, typ)
	default:
		err = t.resolveWhere(ctx, w, typ)
	}
	return err
}

func (t *txn) fresh(typ plan.Type) (plan.Key, error) {
	id, err := t.NewID()
	return plan.Key{Type: typ, ID: id}, err
}

// lookup finds what criteria match, once for the same criteria, and has the
// commit check that it is still so.
func (t *txn) lookup(ctx context.Context, typ plan.Type, query string) ([]plan.Key, error) {
	id := t.Registry.Name(typ) + "?" + query
	if found, known := t.lookups[id]; known {
		return found, nil
	}
	where, err := t.criteria(typ, query)
	if err != nil {
		return nil, err
	}
	found, err := t.matches(ctx, where)
	if err != nil {
		return nil, err
	}
	t.lookups[id] = found
	t.checks = append(t.checks, store.Condition{Kind: store.Matches, Plan: where, Keys: found})
	return found, nil
}

func (t *txn) resolveCreate(ctx context.Context, w *write, typ plan.Type) error {
	found, err := t.lookup(ctx, typ, w.none)
	if err != nil {
		return err
	}
	switch len(found) {
	case 0:
		w.key, err = t.fresh(typ)
		return err
	case 1:
		w.key, w.existing = found[0], true
		return nil
	}
	return w.many("ifNoneExist")
}

func (w *write) many(member string) error {
	return &fault.Error{Kind: fault.MultipleMatches, Op: "interaction.transaction", Subject: w.place() + ".request." + member,
		Detail: "the criteria match more than one resource"}
}

func (t *txn) resolveWhere(ctx context.Context, w *write, typ plan.Type) error {
	found, err := t.lookup(ctx, typ, w.target.query)
	if err != nil {
		return err
	}
	if len(found) > 1 {
		return w.many("url")
	}
	if w.method == "PUT" {
		w.key, err = t.conditionalTarget(typ, found, w.resource.Get("id").Text())
		return err
	}
	if len(found) == 0 {
		w.nothing = true
		return nil
	}
	w.key = found[0]
	return nil
}

// findReferences resolves conditional references ("Practitioner?identifier=…")
// of everything that is written (R4 http.html#trules).
func (t *txn) findReferences(ctx context.Context) error {
	for _, w := range t.writes {
		if !w.writesContent() {
			continue
		}
		for node := range fhir.References(w.resource) {
			if err := t.findReference(ctx, w, node); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *write) writesContent() bool { return w.method != "DELETE" && !w.existing }

func (t *txn) findReference(ctx context.Context, w *write, node fhir.Node) error {
	text := node.Text()
	typ, query, ok := t.conditionalReference(text)
	if !ok || t.ids[text] != "" {
		return nil
	}
	found, err := t.lookup(ctx, typ, query)
	if err != nil {
		return err
	}
	if len(found) != 1 {
		kind, detail := fault.Precondition, "the conditional reference matches no resource"
		if len(found) > 1 {
			kind, detail = fault.MultipleMatches, "the conditional reference matches more than one resource"
		}
		at := w.place() + ".resource." + node.Path()
		return &fault.Error{Kind: kind, Op: "interaction.transaction", Subject: at, Detail: detail,
			Place: []fault.Issue{{Kind: kind, Detail: detail, Expression: at}}}
	}
	t.ids[text] = t.Registry.Name(typ) + "/" + found[0].ID
	return nil
}

// conditionalReference splits "Type?query".
func (t *txn) conditionalReference(text string) (plan.Type, string, bool) {
	name, query, found := strings.Cut(text, "?")
	if !found {
		return 0, "", false
	}
	typ, ok := t.Registry.Type(name)
	return typ, query, ok
}

// prepare rewrites, stores and extracts what is written, on all processors.
func (t *txn) prepare() error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for part := range slices.Chunk(t.writes, prepareChunk) {
		group.Go(func() error {
			for _, w := range part {
				if err := t.prepareOne(w); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// prepareChunk is how many entries a goroutine prepares at a time.
const prepareChunk = 16

func (t *txn) prepareOne(w *write) (err error) {
	switch {
	case w.nothing, w.existing:
		return nil
	case w.method == "DELETE":
		w.op, err = t.deleteOp(w.key, w.match)
		return err
	}
	doc, err := t.parse(t.rewrite(w.resource, w.fullURL), w.target.typ)
	if err != nil {
		return w.inEntry(err)
	}
	defer doc.Release()
	tag := tagCreate
	conditions := []store.Condition{{Kind: store.Never}}
	if w.method == "PUT" {
		if tag, conditions = tagUpdate, w.match.conditions(); w.target.id != "" {
			if err := checkID(doc, w.target.id); err != nil {
				return w.inEntry(err)
			}
		}
	}
	w.op, err = t.put(w.key, doc, tag, conditions...)
	return w.inEntry(err)
}

// inEntry says in which entry something is wrong.
func (w *write) inEntry(err error) error {
	if err == nil {
		return nil
	}
	f := *fault.From(err)
	f.Subject = strings.TrimSuffix(w.place()+".resource: "+f.Subject, ": ")
	return &f
}

// commit commits what is written and fills in the answers.
func (t *txn) commit(ctx context.Context, answers []fhir.BundleEntry) error {
	ops := []store.Op{{Kind: store.Check, If: t.checks}}
	var done []*write
	for _, w := range t.writes {
		switch {
		case w.nothing:
			answers[w.at] = fhir.BundleEntry{Response: &fhir.BundleResponse{Status: "204 No Content"}}
		case w.existing:
			v, err := t.existing(ctx, w.key)
			if err != nil {
				return err
			}
			answers[w.at] = t.wroteEntry(v)
		default:
			ops, done = append(ops, w.op), append(done, w)
		}
	}
	out, err := t.Store.Commit(ctx, ops)
	if err != nil {
		return t.commitFault(err, done)
	}
	for i, w := range done {
		v := t.made(ops[i+1], out[i+1])
		if w.method == "DELETE" && v.Number == 0 {
			answers[w.at] = fhir.BundleEntry{Response: &fhir.BundleResponse{Status: "204 No Content"}}
			continue
		}
		answers[w.at] = t.wroteEntry(v)
	}
	return nil
}

// commitFault tells a conditional match that changed (tried again) from a
// version condition that failed (the transaction's end).
func (t *txn) commitFault(err error, done []*write) error {
	failed, ok := unmet(err)
	if !ok || failed.Op == 0 {
		return err
	}
	w := done[failed.Op-1]
	return w.inEntry(matchFault(err))
}
