package interaction

import (
	"context"
	"fmt"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// processing is R4's order of the writing methods (http.html#trules).
var processing = [...][]string{{"DELETE"}, {"POST"}, {"PUT", "PATCH"}}

// identify settles which resource each writing entry is about.
func (t *txn) identify(ctx context.Context, entries []*entry) error {
	for _, methods := range processing {
		for _, e := range entries {
			if e.method != methods[0] && e.method != methods[len(methods)-1] {
				continue
			}
			w := &write{entry: e}
			if err := t.resolve(ctx, w); err != nil {
				return e.in(err)
			}
			if err := t.take(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// take notes an entry's identity: each resource stands for one entry only, and
// each fullUrl for one resource.
func (t *txn) take(w *write) error {
	t.writes = append(t.writes, w)
	if w.nothing {
		return nil
	}
	first, twice := t.taken[w.key]
	switch {
	case !twice:
		t.taken[w.key] = w
	case !w.found || !first.found && first != w.like:
		return w.invalid("request.url", "it is about the same resource as "+first.place())
	}
	if w.fullURL == "" {
		return nil
	}
	to := t.Registry.Name(w.key.Type) + "/" + w.key.ID
	if other, known := t.ids[w.fullURL]; known && other != to {
		return w.invalid("fullUrl", "another entry has the same")
	}
	t.ids[w.fullURL] = to
	t.noteVersion(w, to)
	return nil
}

// noteVersion has references to the version that the entry's resource says it
// is, Type/id/_history/n below the fullUrl's base, lead where it goes (R4
// bundle.html#references): to the first version of what is made, and else to the
// resource, whose next version has no number yet.
func (t *txn) noteVersion(w *write, to string) {
	version := w.resource.Get("meta").Get("versionId").Text()
	if version == "" || baseOf(w.fullURL) == "" {
		return
	}
	if w.method == "POST" && !w.found {
		to += "/_history/1"
	}
	t.ids[w.fullURL+"/_history/"+version] = to
}

// resolve finds the identity of one entry.
func (t *txn) resolve(ctx context.Context, w *write) error {
	typ, err := t.mayWrite(w)
	if err != nil {
		return err
	}
	switch {
	case w.method == "POST" && w.none == "":
		w.key, err = t.fresh(typ)
		return err
	case w.method == "POST":
		return t.resolveCreate(ctx, w, typ)
	case w.target.id != "":
		w.key, err = t.key(w.target.typ, w.target.id)
	default:
		err = t.resolveWhere(ctx, w, typ)
	}
	if err != nil || w.nothing {
		return err
	}
	return t.lookAt(ctx, w)
}

// mayWrite asks the grant and the type.
func (t *txn) mayWrite(w *write) (plan.Type, error) {
	typ, err := t.typ(w.target.typ)
	if err != nil {
		return 0, err
	}
	switch w.method {
	case "POST":
		_, err = t.granted(typ, search.Create)
		return typ, err
	case "DELETE":
		_, err = t.granted(typ, search.Delete)
		return typ, keep(err, t.changeable(typ))
	}
	return typ, t.mayChange(typ)
}

// lookAt reads what a patch applies to, and passes over deletes of what the
// grant does not show.
func (t *txn) lookAt(ctx context.Context, w *write) (err error) {
	switch {
	case w.method == "PATCH":
		if w.patch, err = t.readPatch(w.key.Type, w.operations); err != nil {
			return w.placedPatch(err)
		}
		w.old, err = t.patchable(ctx, t.view, w.key, w.match)
	case w.method == "DELETE" && !t.Grant.Unbounded():
		_, shown, err := t.current(ctx, t.view, w.key, search.Delete)
		w.nothing = !shown
		return err
	}
	return err
}

func (t *txn) fresh(typ plan.Type) (plan.Key, error) {
	id, err := t.NewID()
	return plan.Key{Type: typ, ID: id}, err
}

// lookup is what criteria match.
type lookup struct {
	keys []plan.Key // stored, cut at two, without what this transaction deletes
	made *write     // the entry that makes what they match, when nothing stored does
}

// one is the resource the criteria stand for; ok is false for none.
func (l *lookup) one() (plan.Key, bool) {
	switch {
	case len(l.keys) == 1:
		return l.keys[0], true
	case len(l.keys) == 0 && l.made != nil:
		return l.made.key, true
	}
	return plan.Key{}, false
}

// look finds what criteria match, once for the same criteria, and has the commit
// check that it is still so.
func (t *txn) look(ctx context.Context, typ plan.Type, query string) (*lookup, error) {
	pairs, err := search.ParsePairs(query)
	if err != nil {
		return nil, err
	}
	id := t.Registry.Name(typ) + "?" + search.Encode(pairs) // however they were percent-encoded
	if known, ok := t.lookups[id]; ok {
		return known, nil
	}
	where, err := t.criteria(ctx, typ, query)
	if err != nil {
		return nil, err
	}
	found, err := matchesIn(ctx, t.view, where)
	if err != nil {
		return nil, err
	}
	t.checks = append(t.checks, store.Condition{Kind: store.Matches, Plan: where, Keys: found})
	l := &lookup{keys: found}
	if len(found) == 1 && t.deletes(found[0]) {
		l.keys = nil // deletes come first
	}
	t.lookups[id] = l
	return l, nil
}

func (t *txn) deletes(key plan.Key) bool {
	w := t.taken[key]
	return w != nil && w.method == "DELETE"
}

// resolveCreate is a conditional create: it finds what is stored, or what an
// entry before it makes under the same criteria.
func (t *txn) resolveCreate(ctx context.Context, w *write, typ plan.Type) error {
	l, err := t.look(ctx, typ, w.none)
	if err != nil {
		return err
	}
	if len(l.keys) > 1 {
		return w.many("ifNoneExist")
	}
	if key, ok := l.one(); ok {
		w.key, w.found = key, true
		if len(l.keys) == 0 {
			w.like = l.made
		}
		return nil
	}
	w.key, err = t.fresh(typ)
	l.made = w
	return err
}

func (e *entry) many(member string) error {
	return &fault.Error{Kind: fault.MultipleMatches, Op: "interaction.transaction", Subject: e.place() + ".request." + member,
		Detail: "the criteria match more than one resource"}
}

// resolveWhere is a conditional update, patch or delete.
func (t *txn) resolveWhere(ctx context.Context, w *write, typ plan.Type) error {
	l, err := t.look(ctx, typ, w.target.query)
	switch {
	case err != nil:
		return err
	case len(l.keys) > 1:
		return w.many("url")
	case w.method == "PUT":
		bodyID, err := writtenID(w.target.query, w.resource.Get("id").Text())
		if err != nil {
			return err
		}
		if len(l.keys) == 0 && l.made != nil { // one that comes first makes what this would find
			w.key = l.made.key
			return nil // take refuses it
		}
		w.key, err = t.conditionalTarget(typ, l.keys, bodyID)
		w.absent = len(l.keys) == 0 && bodyID != ""
		if len(l.keys) == 0 {
			l.made, w.access = w, t.making(typ, bodyID)
		}
		return err
	case len(l.keys) == 1:
		w.key = l.keys[0]
	case w.method == "PATCH":
		return noneMatch()
	default:
		w.nothing = true
	}
	return nil
}

// findReferences resolves conditional references ("Practitioner?identifier=…")
// of everything that is written (R4 http.html#trules): to what is stored, or to
// what an entry with the same criteria makes.
func (t *txn) findReferences(ctx context.Context, _ []*entry) error {
	for _, w := range t.writes {
		if w.method != "POST" && w.method != "PUT" || w.found {
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

func (t *txn) findReference(ctx context.Context, w *write, node fhir.Node) error {
	raw := node.Raw()
	if !conditionalText(raw) {
		return nil
	}
	text := node.Text()
	typ, query, ok := t.conditionalReference(text)
	if !ok || t.conditional[text] != "" {
		return nil
	}
	l, err := t.look(ctx, typ, query)
	if err != nil {
		return w.in(err)
	}
	key, ok := l.one()
	if !ok {
		return badReference(node, len(l.keys))
	}
	t.conditional[text] = t.Registry.Name(typ) + "/" + key.ID
	return nil
}

// conditionalText reports whether a reference, as written, may be "Type?query":
// a cheap test for the many that are not.
func conditionalText(raw []byte) bool {
	if len(raw) < 2 || raw[1] < 'A' || raw[1] > 'Z' {
		return false
	}
	for _, c := range raw[2:] {
		switch c {
		case '?':
			return true
		case '/', ':':
			return false
		}
	}
	return false
}

func badReference(node fhir.Node, matches int) error {
	kind, detail := fault.Precondition, "the conditional reference matches no resource"
	if matches > 1 {
		kind, detail = fault.MultipleMatches, "the conditional reference matches more than one resource"
	}
	return &fault.Error{Kind: kind, Op: "interaction.transaction", Subject: node.Path(), Detail: detail,
		Place: []fault.Issue{{Kind: kind, Detail: fmt.Sprintf("%s: %s", cutText(node.Text()), detail), Expression: node.Path()}}}
}

// conditionalReference splits "Type?query".
func (t *txn) conditionalReference(text string) (plan.Type, string, bool) {
	name, query, found := cutQuery(text)
	if !found {
		return 0, "", false
	}
	typ, ok := t.Registry.Type(name)
	return typ, query, ok
}
