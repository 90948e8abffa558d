package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// lifecycle examines Engine, and what ends: stores, views, contexts.
func (x *exam) lifecycle(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Opener)
	}{
		{"create again", createAgain}, {"wrong key", wrongKey}, {"open twice", openTwice},
		{"unknown store", unknownStore}, {"store ids", storeIDs}, {"drop", dropStore},
		{"hash key", hashKey}, {"stores apart", storesApart}, {"closed store", closedStore},
		{"closed view", closedView}, {"ended context", endedContext}, {"foreign bytes", foreignBytes},
		{"follow waits", followWaits}, {"follow ends", followEnds}, {"import takes puts only", importPutsOnly},
		{"import beyond a flush", importBeyondFlush}, {"bytes are copied", bytesCopied},
		{"explain", explain}, {"rekey", rekey},
	} {
		x.run(t, "lifecycle/"+strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) { test.run(t, x.open) })
	}
}

// wantKind fails unless err is of one of these kinds.
func wantKind(t testing.TB, doing string, err error, kinds ...fault.Kind) {
	t.Helper()
	if err == nil {
		t.Fatalf("%s succeeded, %v was due", doing, kinds)
	}
	found, ok := errors.AsType[*fault.Error](err)
	if !ok || !slices.Contains(kinds, found.Kind) {
		t.Fatalf("%s gave %v, %v was due", doing, err, kinds)
	}
}

// patient is the key of a patient.
func patient(id string) plan.Key { return plan.Key{Type: typeNumbers["Patient"], ID: id} }

// putOp puts a body under a key, with entries name=…
func putOp(key plan.Key, body string, names ...string) store.Op {
	op := store.Op{Kind: store.Put, Key: key, Body: []byte(body)}
	for _, n := range names {
		op.Entries = append(op.Entries, plan.Entry{Param: paramNumbers["name"], Value: []byte(n)})
	}
	return op
}

// byName is the plan for patients of a name.
func byName(name string, limit int) *plan.Plan {
	where := plan.Term{Param: paramNumbers["name"], Value: []byte(name)}
	return &plan.Plan{Arms: []plan.Arm{{Type: typeNumbers["Patient"], Where: where}}, Limit: limit}
}

func commit(t testing.TB, s store.Store, ops ...store.Op) []store.Outcome {
	t.Helper()
	outcomes, err := s.Commit(testContext(t), ops)
	mustNot(t, "Commit", err)
	return outcomes
}

// viewOf opens a view that t.Cleanup closes.
func viewOf(t testing.TB, s store.Store, at store.Moment) store.View {
	t.Helper()
	view, err := s.View(testContext(t), at)
	mustNot(t, "View", err)
	t.Cleanup(func() { _ = view.Close() }) // tests close it too
	return view
}

// bodyOf reads the current body, "" when there is none.
func bodyOf(t testing.TB, s store.Store, key plan.Key) string {
	t.Helper()
	view, err := s.View(testContext(t), "")
	mustNot(t, "View", err)
	defer view.Close()
	r, err := view.Get(testContext(t), key)
	if fault.Is(err, fault.NotFound) {
		return ""
	}
	mustNot(t, "Get", err)
	return string(r.Body)
}

func createAgain(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	commit(t, s, putOp(patient("a"), "kept"))
	hash := s.HashKey()
	mustNot(t, "Create of an open store", engine.Create(testContext(t), storeID, testKey(t, 'k')))
	mustNot(t, "Close", s.Close())
	mustNot(t, "Create of a closed store", engine.Create(testContext(t), storeID, testKey(t, 'k')))
	s = openStore(t, engine)
	if bodyOf(t, s, patient("a")) != "kept" || s.HashKey() != hash {
		t.Error("Create changed a store that was there")
	}
}

func wrongKey(t *testing.T, open Opener) {
	engine, reopen := open(t, NewClock().Now)
	s := openStore(t, engine)
	mustNot(t, "Close", s.Close())
	for range 2 {
		_, err := engine.Open(testContext(t), storeID, testKey(t, 'x'))
		wantKind(t, "Open with a wrong key", err, fault.Forbidden)
		err = engine.Create(testContext(t), storeID, testKey(t, 'x'))
		wantKind(t, "Create over a store of another key", err, fault.Forbidden, fault.Conflict)
		engine = reopen()
	}
	openStore(t, engine) // the right key still opens
}

func openTwice(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	_, err := engine.Open(testContext(t), storeID, testKey(t, 'k'))
	wantKind(t, "a second Open", err, fault.Conflict)
	commit(t, s, putOp(patient("a"), "fine"))
	mustNot(t, "Close", s.Close())
	mustNot(t, "a second Close", s.Close())
	openStore(t, engine)
}

func unknownStore(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	_, err := engine.Open(testContext(t), "nobody", testKey(t, 'k'))
	wantKind(t, "Open of no store", err, fault.NotFound)
	mustNot(t, "Drop of no store", engine.Drop(testContext(t), "nobody"))
}

func storeIDs(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	for _, id := range []store.ID{"a", "0", "-", store.ID(strings.Repeat("z", 64))} {
		mustNot(t, "Create", engine.Create(testContext(t), id, testKey(t, 'k')))
	}
	for _, id := range []store.ID{"", "A", "a b", "..", "a/b", "ä", store.ID(strings.Repeat("z", 65))} {
		wantKind(t, "Create of "+string(id), engine.Create(testContext(t), id, testKey(t, 'k')), fault.Invalid)
		_, err := engine.Open(testContext(t), id, testKey(t, 'k'))
		wantKind(t, "Open of "+string(id), err, fault.Invalid)
		wantKind(t, "Drop of "+string(id), engine.Drop(testContext(t), id), fault.Invalid)
	}
}

func dropStore(t *testing.T, open Opener) {
	engine, reopen := open(t, NewClock().Now)
	s := openStore(t, engine)
	hash := s.HashKey()
	commit(t, s, putOp(patient("a"), "gone soon"))
	wantKind(t, "Drop of an open store", engine.Drop(testContext(t), storeID), fault.Conflict)
	mustNot(t, "Close", s.Close())
	mustNot(t, "Drop", engine.Drop(testContext(t), storeID))
	mustNot(t, "a second Drop", engine.Drop(testContext(t), storeID))
	_, err := engine.Open(testContext(t), storeID, testKey(t, 'k'))
	wantKind(t, "Open after Drop", err, fault.NotFound)
	engine = reopen()
	_, err = engine.Open(testContext(t), storeID, testKey(t, 'k'))
	wantKind(t, "Open after Drop and reopen", err, fault.NotFound)
	s = openStore(t, engine)
	if got := bodyOf(t, s, patient("a")); got != "" || s.HashKey() == hash {
		t.Errorf("a store made after Drop remembers the one before: %q", got)
	}
}

func hashKey(t *testing.T, open Opener) {
	engine, reopen := open(t, NewClock().Now)
	s := openStore(t, engine)
	first := s.HashKey()
	if first == (plan.HashKey{}) {
		t.Error("the hash key is zero")
	}
	mustNot(t, "Close", s.Close())
	if s = openStore(t, reopen()); s.HashKey() != first {
		t.Error("the hash key changed over a reopen")
	}
}

func storesApart(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	ctx := testContext(t)
	mustNot(t, "Create", engine.Create(ctx, "other", testKey(t, 'o')))
	other, err := engine.Open(ctx, "other", testKey(t, 'o'))
	mustNot(t, "Open", err)
	defer func() { mustNot(t, "Close", other.Close()) }()
	if s.HashKey() == other.HashKey() {
		t.Error("two stores have one hash key")
	}
	commit(t, s, putOp(patient("a"), "here", "ann"))
	if bodyOf(t, other, patient("a")) != "" {
		t.Error("a resource of one store shows in another")
	}
	view := viewOf(t, other, "")
	n, err := view.Count(ctx, byName("ann", 0))
	mustNot(t, "Count", err)
	if n != 0 {
		t.Error("an entry of one store is found in another")
	}
}

func closedStore(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	ctx := testContext(t)
	commit(t, s, putOp(patient("a"), "x"))
	view := viewOf(t, s, "")
	importer, err := s.Import(ctx, "load")
	mustNot(t, "Import", err)
	part, err := importer.Part(ctx, "p")
	mustNot(t, "Part", err)
	mustNot(t, "Close", s.Close())

	_, err = s.Commit(ctx, []store.Op{putOp(patient("a"), "y")})
	wantKind(t, "Commit after Close", err, fault.Unavailable)
	_, err = s.View(ctx, "")
	wantKind(t, "View after Close", err, fault.Unavailable)
	_, err = view.Get(ctx, patient("a"))
	wantKind(t, "Get after Close", err, fault.Unavailable)
	_, err = view.Search(ctx, byName("ann", 1))
	wantKind(t, "Search after Close", err, fault.Unavailable)
	_, err = view.History(ctx, store.HistoryQuery{Limit: 1})
	wantKind(t, "History after Close", err, fault.Unavailable)
	mustNot(t, "closing a view after its store", view.Close())
	_, err = s.Import(ctx, "load")
	wantKind(t, "Import after Close", err, fault.Unavailable)
	err = part.Add(ctx, []store.Op{putOp(patient("b"), "x")}, []byte("1"))
	if err == nil {
		err = part.Flush(ctx)
	}
	wantKind(t, "Add and Flush after Close", err, fault.Unavailable)
	for _, err := range s.Follow(ctx, "") {
		wantKind(t, "Follow after Close", err, fault.Unavailable)
		break
	}
}

func closedView(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	commit(t, s, putOp(patient("a"), "x"))
	view := viewOf(t, s, "")
	at := view.Moment()
	mustNot(t, "Close", view.Close())
	mustNot(t, "a second Close", view.Close())
	if again := viewOf(t, s, at); again.Moment() != at {
		t.Errorf("a view at %q calls itself %q", at, again.Moment())
	}
}

func endedContext(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	commit(t, s, putOp(patient("a"), "x"))
	view := viewOf(t, s, "")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for _, end := range []struct {
		ctx  context.Context
		kind fault.Kind
	}{{canceled, fault.Canceled}, {late, fault.Timeout}} {
		_, err := s.Commit(end.ctx, []store.Op{putOp(patient("b"), "x")})
		wantKind(t, "Commit", err, end.kind)
		_, err = view.Search(end.ctx, byName("ann", 1))
		wantKind(t, "Search", err, end.kind)
		_, err = view.Count(end.ctx, byName("ann", 1))
		wantKind(t, "Count", err, end.kind)
		_, err = view.History(end.ctx, store.HistoryQuery{Limit: 1})
		wantKind(t, "History", err, end.kind)
	}
	if bodyOf(t, s, patient("b")) != "" {
		t.Error("a commit under a context that had ended before was carried out")
	}
}

// foreignBytes: moments and tokens come back from clients, and may be anything.
func foreignBytes(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	commit(t, s, putOp(patient("a"), "x", "ann"), putOp(patient("b"), "x", "ann"))
	ctx := testContext(t)
	view := viewOf(t, s, "")
	for _, junk := range []string{"x", "\x00", "-1", strings.Repeat("\xff", 16), strings.Repeat("9", 400), string(view.Moment()) + "x"} {
		other, err := s.View(ctx, store.Moment(junk))
		if err == nil {
			_ = other.Close()
		}
		wantKind(t, "View at "+junk, err, fault.Invalid, fault.Gone)
		for _, err := range s.Follow(ctx, store.Moment(junk)) {
			wantKind(t, "Follow after "+junk, err, fault.Invalid, fault.Gone)
			break
		}
		p := byName("ann", 1)
		p.After = []byte(junk)
		if page, err := view.Search(ctx, p); err != nil {
			wantKind(t, "Search after "+junk, err, fault.Invalid)
		} else if len(page.Records) > 1 {
			t.Errorf("Search after %q gave %d records", junk, len(page.Records))
		}
		if _, err := view.History(ctx, store.HistoryQuery{Limit: 1, After: []byte(junk)}); err != nil {
			wantKind(t, "History after "+junk, err, fault.Invalid)
		}
	}
}

func followWaits(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	commit(t, s, putOp(patient("a"), "1"))
	changes := make(chan store.Change)
	ctx := testContext(t)
	go func() {
		defer close(changes)
		for c, err := range s.Follow(ctx, "") {
			if err != nil {
				return
			}
			select {
			case changes <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	if c := <-changes; string(c.Body) != "1" {
		t.Fatalf("the first change is %q", c.Body)
	}
	commit(t, s, putOp(patient("a"), "2")) // now it waits, or will
	if c := <-changes; string(c.Body) != "2" || c.Version != 2 {
		t.Fatalf("the second change is %q", c.Body)
	}
}

func followEnds(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	commit(t, s, putOp(patient("a"), "1"))
	ctx, cancel := context.WithCancel(testContext(t))
	for _, err := range s.Follow(ctx, "") {
		cancel()
		if err != nil {
			wantKind(t, "Follow under an ended context", err, fault.Canceled)
			break
		}
	}
	cancel()
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var last error
		for c, err := range s.Follow(testContext(t), "") {
			if last = err; err != nil {
				break
			}
			if c.Version == 1 {
				close(started)
			}
		}
		ended <- last
	}()
	<-started
	mustNot(t, "Close", s.Close())
	wantKind(t, "Follow of a closed store", <-ended, fault.Unavailable)
}

func importPutsOnly(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	ctx := testContext(t)
	importer, err := s.Import(ctx, "load")
	mustNot(t, "Import", err)
	part, err := importer.Part(ctx, "p")
	mustNot(t, "Part", err)
	for _, op := range []store.Op{
		{Kind: store.Delete, Key: patient("a")}, {Kind: store.Purge, Key: patient("a")}, {Kind: store.Check, Key: patient("a")},
		{Kind: store.Put, Key: patient("a"), If: []store.Condition{{Kind: store.Never}}},
		{Kind: store.Put, Key: patient("not an id")},
	} {
		wantKind(t, "Add", part.Add(ctx, []store.Op{op}, []byte("1")), fault.Invalid)
	}
	mustNot(t, "Add", part.Add(ctx, []store.Op{putOp(patient("a"), "fine")}, []byte("2")))
	mustNot(t, "Close", importer.Close(ctx))
	if bodyOf(t, s, patient("a")) != "fine" {
		t.Error("a refused Add spoiled the part")
	}
}

// importBeyondFlush: an engine may flush by itself. What is visible is what lies
// before the durable cursor, exactly; a reopened store goes on from there.
func importBeyondFlush(t *testing.T, open Opener) {
	const adds, size = 40, 10
	engine, reopen := open(t, NewClock().Now)
	s := openStore(t, engine)
	ctx := testContext(t)
	next := 0
	for round := 0; next < adds; round++ {
		importer, err := s.Import(ctx, "load")
		mustNot(t, "Import", err)
		part, err := importer.Part(ctx, "file")
		mustNot(t, "Part", err)
		next = cursorOf(part)
		for i := next; i < min(next+7*(round+1), adds); i++ {
			mustNot(t, "Add", part.Add(ctx, numbered(i*size, size), []byte{byte(i + 1)}))
			checkPrefix(t, s, part, size)
		}
		if round%2 == 1 {
			mustNot(t, "Flush", part.Flush(ctx))
		}
		if round >= 6 {
			mustNot(t, "Close", importer.Close(ctx))
		}
		mustNot(t, "Close", s.Close())
		s = openStore(t, reopen())
		next = reopenedCursor(t, s)
	}
	checkCount(t, s, adds*size)
}

// reopenedCursor is how many adds are durable.
func reopenedCursor(t *testing.T, s store.Store) int {
	importer, err := s.Import(testContext(t), "load")
	mustNot(t, "Import", err)
	part, err := importer.Part(testContext(t), "file")
	mustNot(t, "Part", err)
	return cursorOf(part)
}

func cursorOf(part store.Part) int {
	if c := part.Cursor(); len(c) == 1 {
		return int(c[0])
	}
	return 0
}

// numbered makes n puts of patients called n<from>, ….
func numbered(from, n int) []store.Op {
	ops := make([]store.Op, n)
	for i := range ops {
		ops[i] = putOp(patient("n"+strings.Repeat("i", (from+i)%7)+"-"+strconv.Itoa(from+i)), "x", "numbered")
	}
	return ops
}

// checkPrefix compares what is visible with the cursor. The cursor may move
// between the two looks, forwards.
func checkPrefix(t *testing.T, s store.Store, part store.Part, size int) {
	t.Helper()
	before := cursorOf(part) * size
	view, err := s.View(testContext(t), "")
	mustNot(t, "View", err)
	defer view.Close()
	n, err := view.Count(testContext(t), byName("numbered", 0))
	mustNot(t, "Count", err)
	if after := cursorOf(part) * size; int(n) < before || int(n) > after {
		t.Fatalf("%d imported resources are visible, the cursor stands behind %d, then %d", n, before, after)
	}
}

func checkCount(t *testing.T, s store.Store, want int) {
	t.Helper()
	n, err := viewOf(t, s, "").Count(testContext(t), byName("numbered", 0))
	mustNot(t, "Count", err)
	if int(n) != want {
		t.Fatalf("%d resources after the import, %d were added", n, want)
	}
}

// bytesCopied: the caller's slices are the caller's again after Commit.
func bytesCopied(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	op := putOp(patient("a"), "body", "ann")
	commit(t, s, op)
	copy(op.Body, "XXXX")
	copy(op.Entries[0].Value, "XXX")
	if got := bodyOf(t, s, patient("a")); got != "body" {
		t.Errorf("the body became %q", got)
	}
	n, err := viewOf(t, s, "").Count(testContext(t), byName("ann", 0))
	mustNot(t, "Count", err)
	if n != 1 {
		t.Error("the entry's value changed with the caller's slice")
	}
}

// explain: a View that explains does so for every kind of condition, with true
// counts and estimates that are not below them, and shows no value, no id and
// no body.
func explain(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	commit(t, s, putOp(patient("hidden-id"), "hidden body", "hidden name"))
	commit(t, s, putOp(patient("other"), "hidden body", "hidden too"))
	commit(t, s, putOp(patient("gone"), "hidden body", "hidden name"))
	commit(t, s, store.Op{Kind: store.Delete, Key: patient("gone")})
	explainer, ok := viewOf(t, s, "").(store.Explainer)
	if !ok {
		t.Skip("the engine does not explain")
	}
	name, patients := paramNumbers["name"], typeNumbers["Patient"]
	hidden := plan.Term{Param: name, Value: []byte("hidden name")}
	arms := []plan.Arm{{Type: patients, Where: hidden}}
	for _, c := range []struct {
		where plan.Node
		want  int64
	}{
		{nil, 2}, {hidden, 1}, {plan.Prefix(name, []byte("hidden")), 2}, {plan.Contains{Param: name, Part: []byte("too")}, 1},
		{plan.IDs{IDs: []string{"hidden-id"}}, 1}, {plan.Updated{Low: start}, 2}, {plan.Created{High: start}, 0},
		{plan.And{hidden, plan.Prefix(name, []byte("hidden"))}, 1}, {plan.Or{hidden}, 1}, {plan.Not{Of: hidden}, 1},
		{plan.Test{Name: "test", Holds: func(_ plan.Key, body []byte) bool { return string(body) == "hidden body" }}, 2},
		{plan.Chain{Params: []plan.Param{name}, To: arms}, 0}, {plan.Has{Params: []plan.Param{name}, From: arms}, 0},
	} {
		p := &plan.Plan{Arms: []plan.Arm{{Type: patients, Where: c.where}}, Limit: 10}
		told, err := explainer.Explain(testContext(t), p)
		mustNot(t, "Explain", err)
		text := fmt.Sprintf("%+v", told)
		if strings.Contains(text, "hidden") || told.Order == "" {
			t.Errorf("%#v is explained as %s", c.where, text)
		}
		if told.Matches != c.want || len(told.Arms) != 1 || told.Arms[0].Matches != c.want {
			t.Errorf("%#v finds %d: %s", c.where, c.want, text)
			continue
		}
		checkExplained(t, told.Arms[0].Where, c.want)
	}
}

// checkExplained: a condition has a kind, the true count, and no estimate below
// it; of the parts of a conjunction one leads at most.
func checkExplained(t *testing.T, told store.Explained, want int64) {
	t.Helper()
	leading := 0
	for _, part := range told.Parts {
		checkExplained(t, part, part.Matches)
		if part.Leads {
			leading++
		}
	}
	if told.Is == "" || told.Matches != want || told.AtMost != store.Unknown && told.AtMost < want || leading > 1 {
		t.Errorf("a condition that %d meet is explained as %+v", want, told)
	}
}

// rekey exchanges a store's data key: the new one opens it and no other, and
// what it holds is as it was.
func rekey(t *testing.T, open Opener) {
	engine, reopen := open(t, NewClock().Now)
	ctx := testContext(t)
	s := openStore(t, engine)
	power, ok := s.(store.Rekeyer)
	if !ok {
		t.Skip("the engine offers no Rekeyer")
	}
	hash := s.HashKey()
	commit(t, s, putOp(patient("a"), "before", "n"))
	wantKind(t, "Rekey without a key", power.Rekey(ctx, seal.DataKey{}), fault.Invalid)
	mustNot(t, "Reseal before anything", power.Reseal(ctx))
	for _, fill := range []byte{'x', 'y'} { // the second without a Reseal between
		mustNot(t, "Rekey", power.Rekey(ctx, testKey(t, fill)))
		mustNot(t, "Rekey again", power.Rekey(ctx, testKey(t, fill)))
		commit(t, s, putOp(patient("b"), "under "+string(fill), "n"))
	}
	for round := range 2 { // in the second round with Reseal
		mustNot(t, "Close", s.Close())
		engine = reopen()
		for _, fill := range []byte{'k', 'x'} {
			_, err := engine.Open(ctx, storeID, testKey(t, fill))
			wantKind(t, "Open under a key of before", err, fault.Forbidden)
		}
		var err error
		s, err = engine.Open(ctx, storeID, testKey(t, 'y'))
		mustNot(t, "Open under the new key", err)
		if round == 0 {
			mustNot(t, "Reseal", s.(store.Rekeyer).Reseal(ctx))
			mustNot(t, "Reseal again", s.(store.Rekeyer).Reseal(ctx))
		}
		if s.HashKey() != hash {
			t.Error("Rekey changed the hash key")
		}
		view := viewOf(t, s, "")
		page, err := view.Search(ctx, byName("n", 10))
		mustNot(t, "Search", err)
		if got := recordTexts(page.Records); len(got) != 2 {
			t.Errorf("found %q", got)
		}
		old, err := view.GetVersion(ctx, patient("b"), 1)
		mustNot(t, "GetVersion", err)
		if string(old.Body) != "under x" {
			t.Errorf("version 1 is %q", old.Body)
		}
		mustNot(t, "Close of a view", view.Close())
	}
	power = s.(store.Rekeyer)
	mustNot(t, "Close", s.Close())
	wantKind(t, "Rekey of a closed store", power.Rekey(ctx, testKey(t, 'z')), fault.Unavailable)
}
