package interaction

import (
	"context"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/patch"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// transaction carries out all entries or none, in R4's order (DELETE, POST, PUT
// and PATCH, GET), as one commit whose conditions hold at the commit point.
//
//	entries → identities (new ids, conditional matches)      identity.go
//	        → references rewritten to them                   rewrite.go
//	        → stored and extracted in parallel → one commit → reads
//
// DESIGN.md tells the path and why.
func (s *Session) transaction(ctx context.Context, items fhir.Node) (*BundleAnswer, error) {
	entries, err := s.readTransaction(items)
	if err != nil {
		return nil, err
	}
	for range maxRaces {
		answers, err := s.attempt(ctx, entries)
		if _, again := unmet(err); again {
			continue
		}
		if err != nil {
			return nil, err
		}
		return s.respond("transaction-response", answers), nil
	}
	return nil, raced()
}

// write is what one writing entry of a transaction comes to.
type write struct {
	*entry
	key     plan.Key
	found   bool        // a conditional create found its resource: nothing is written
	like    *write      // found: the entry of this transaction that makes it; nil: it is stored
	nothing bool        // a delete of what is not there
	old     *Version    // PATCH: what it applies to
	patch   patch.Patch // PATCH
	op      store.Op
	access  search.Access // that the grant must allow: 0 as the method says
	draft   *draft        // what op makes; nil for deletes
	issues  []fault.Issue // of the resource, that do not forbid it
	// ours is how many of op's conditions, from the first, are the server's own:
	// when one of these fails, others wrote in between and the attempt is
	// repeated. The rest are the client's.
	ours int
	out  *Version // after the commit
}

// txn is one attempt at a transaction.
type txn struct {
	*Session
	view   store.View // the moment at which matches are looked up
	writes []*write
	taken  map[plan.Key]*write
	// Where references go: fullUrl → "Type/id", and conditional reference →
	// "Type/id".
	ids, conditional map[string]string
	lookups          map[string]*lookup // by "Type?criteria"
	checks           []store.Condition
	reads            []store.Op // Check that what GET entries read is there
}

// attempt tries once; *store.Unmet says that others wrote in between.
func (s *Session) attempt(ctx context.Context, entries []*entry) ([]fhir.BundleEntry, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	t := &txn{
		Session: s, view: view, taken: map[plan.Key]*write{}, lookups: map[string]*lookup{},
		ids: map[string]string{}, conditional: map[string]string{},
	}
	for _, step := range []func(context.Context, []*entry) error{t.identify, t.findReferences, t.tryReads, t.prepare, t.enclose, t.commit} {
		if err := step(ctx, entries); err != nil {
			return nil, err
		}
	}
	return t.answers(ctx, entries)
}

// isRead reports whether an entry only reads.
func (e *entry) isRead() bool { return e.method == "GET" || e.method == "HEAD" }

// tryReads finds out before the commit whether GET entries will succeed: one
// that fails fails the transaction (R4 http.html#transaction-response: every
// action ends in 2xx or 3xx, or all are rejected).
func (t *txn) tryReads(ctx context.Context, entries []*entry) error {
	quiet := *t.Session
	quiet.Touched = nil
	var read readings
	for _, e := range entries {
		if !e.isRead() {
			continue
		}
		key, one := t.readKey(e)
		if w := t.taken[key]; one && w != nil {
			if w.method == "DELETE" {
				return e.in(gone(e.target.typ, e.target.id))
			}
			continue // this transaction writes it
		}
		got, err := quiet.get(ctx, e)
		if err == nil {
			err = read.add(len(got.Resource))
		}
		if err != nil {
			return e.in(err)
		}
		if one {
			t.reads = append(t.reads, store.Op{Kind: store.Check, Key: key, If: []store.Condition{{Kind: store.Exists}}})
		}
	}
	return nil
}

// readKey is the resource whose current version an entry reads.
func (t *txn) readKey(e *entry) (plan.Key, bool) {
	if t := e.target; t.id == "" || t.version != "" || t.history || t.in != "" || t.operation != "" {
		return plan.Key{}, false
	}
	key, err := t.key(e.target.typ, e.target.id)
	return key, err == nil
}

// prepareChunk is how many entries a goroutine prepares at a time.
const prepareChunk = 16

// prepare rewrites, stores and extracts what is written, on all processors.
func (t *txn) prepare(ctx context.Context, _ []*entry) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for part := range slices.Chunk(t.writes, prepareChunk) {
		group.Go(func() error {
			for _, w := range part {
				if err := t.prepareOne(ctx, w); err != nil {
					return w.in(err)
				}
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

func (t *txn) prepareOne(ctx context.Context, w *write) (err error) {
	switch {
	case w.nothing, w.found:
		return nil
	case w.method == "DELETE":
		w.op, err = t.deleteOp(w.key, w.match)
		w.ours = len(w.op.If) - len(w.match.conditions())
		return err
	}
	doc, err := t.content(w)
	if err != nil {
		return err
	}
	defer doc.Release()
	tag, conditions := t.conditions(w)
	w.op, w.issues, err = t.put(ctx, w.key, doc, tag, conditions...)
	if err == nil {
		w.draft = t.draft(w.op, doc.Root())
	}
	if err != nil && len(fault.From(err).Place) > 0 {
		return t.asSent(ctx, w, err)
	}
	return err
}

// enclose holds what is written against the grant; the commit checks it again.
func (t *txn) enclose(ctx context.Context, _ []*entry) error {
	if t.Grant.Unbounded() {
		return nil
	}
	drafts := map[plan.Key]*draft{}
	for _, w := range t.writes {
		if !w.nothing && !w.found {
			drafts[w.key] = w.draft
		}
	}
	for _, w := range t.writes {
		if w.draft == nil {
			continue
		}
		guard, err := t.hold(ctx, t.view, w.draft, w.needs(), drafts)
		if err != nil {
			return w.in(err)
		}
		t.checks = append(t.checks, guard...)
	}
	return nil
}

// needs is the access that an entry's write asks of the grant.
func (w *write) needs() search.Access {
	switch {
	case w.access != 0:
		return w.access
	case w.method == "POST":
		return search.Create
	}
	return search.Update
}

// content is the resource that an entry writes, its references rewritten.
func (t *txn) content(w *write) (*fhir.Document, error) {
	if w.method == "PATCH" {
		doc, err := t.patched(w.old, w.patch)
		if err != nil {
			return nil, err
		}
		defer doc.Release()
		return t.parse(t.rewrite(doc.Root(), ""), w.target.typ)
	}
	doc, err := t.parse(t.rewrite(w.resource, w.fullURL), w.target.typ)
	if err == nil && w.method == "PUT" && w.target.id != "" {
		err = checkID(doc, w.target.id)
	}
	return doc, err
}

// conditions are the tag and the conditions of an entry's op.
func (t *txn) conditions(w *write) (tag byte, all []store.Condition) {
	switch {
	case w.method == "POST":
		return tagCreate, []store.Condition{{Kind: store.Never}}
	case w.method == "PATCH":
		w.ours = 1
		return tagPatch, []store.Condition{{Kind: store.AtVersion, Version: w.old.Number}}
	case w.absent:
		all = append(all, store.Condition{Kind: store.Absent})
	}
	return tagUpdate, append(all, w.match.conditions()...)
}

// in says in which entry something is wrong.
func (e *entry) in(err error) error {
	if err == nil {
		return nil
	}
	if _, again := unmet(err); again {
		return err
	}
	f := *fault.From(err)
	if f.Kind == fault.MethodNotAllowed {
		f.Kind, f.Subject = fault.NotSupported, "" // 405 is about the request's own method
	}
	if !strings.HasPrefix(f.Subject, e.place()) {
		f.Subject = strings.TrimSuffix(e.place()+": "+f.Subject, ": ")
	}
	if len(f.Place) == 0 {
		plain := f // the hint is told with the first place
		plain.Hint = ""
		f.Place = []fault.Issue{{Kind: f.Kind, Detail: plain.Message(), Expression: e.place()}}
	} else {
		f.Place = slices.Clone(f.Place)
		for i := range f.Place {
			f.Place[i].Expression = e.within(f.Place[i].Expression)
		}
	}
	return &f
}

// within puts a place in the entry's resource into the bundle.
func (e *entry) within(expression string) string {
	if strings.HasPrefix(expression, "Bundle.") {
		return expression
	}
	_, path, _ := strings.Cut(expression, ".")
	return strings.TrimSuffix(e.place()+".resource."+path, ".")
}

// commit commits what is written, in one.
func (t *txn) commit(ctx context.Context, _ []*entry) error {
	ops := []store.Op{{Kind: store.Check, If: t.checks}}
	var done []*write
	for _, w := range t.writes {
		if !w.nothing && !w.found {
			ops, done = append(ops, w.op), append(done, w)
		}
	}
	if len(done) == 0 && len(t.checks) == 0 {
		return nil // there are only reads
	}
	ops = append(ops, t.reads...)
	if t.note != nil {
		op, err := t.note(t.writes)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	out, err := t.Store.Commit(ctx, ops)
	if failed, no := unmet(err); no && t.note != nil && failed.Op == len(ops)-1 {
		return &fault.Error{Kind: fault.Unavailable, Op: "interaction.commit", Detail: "the transaction is being carried out elsewhere"}
	}
	if err != nil {
		return commitFault(err, done)
	}
	for i, w := range done {
		w.out = t.made(w.op, out[i+1])
		w.out.Issues = w.issues
	}
	return nil
}

// commitFault tells a match that changed (tried again) from a client's condition
// that failed (the transaction's end).
func commitFault(err error, done []*write) error {
	failed, ok := unmet(err)
	if !ok || failed.Op == 0 || failed.Op > len(done) {
		return err
	}
	w := done[failed.Op-1]
	switch {
	case failed.Condition < w.ours:
		return err
	case w.op.If[failed.Condition].Kind == store.Absent:
		return w.in(idTaken(w.key.ID))
	}
	return w.in(matchFault(err))
}

// answers are the response entries, in the order of the request.
func (t *txn) answers(ctx context.Context, entries []*entry) ([]fhir.BundleEntry, error) {
	all := make([]fhir.BundleEntry, len(entries))
	for _, w := range t.writes {
		answer, err := t.answer(ctx, w)
		if err != nil {
			return nil, err
		}
		all[w.at] = answer
	}
	for _, e := range entries {
		if !e.isRead() {
			continue
		}
		answer, err := t.get(ctx, e)
		if err != nil { // another writer came behind the commit
			answer = failedEntry(err)
		}
		all[e.at] = answer
	}
	return all, nil
}

func (t *txn) answer(ctx context.Context, w *write) (fhir.BundleEntry, error) {
	switch {
	case w.nothing, w.method == "DELETE" && w.out.Number == 0:
		return fhir.BundleEntry{Response: &fhir.BundleResponse{Status: "204 No Content"}}, nil
	case w.like != nil:
		same := *w.like.out
		same.Created = false
		return t.wroteEntry(&same), nil
	case w.found:
		v, err := t.readIn(ctx, t.view, w.key)
		if err != nil {
			return fhir.BundleEntry{}, err
		}
		return t.wroteEntry(v), nil
	}
	return t.wroteEntry(w.out), nil
}
