package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"golang.org/x/sync/errgroup"
)

// The sizes of the concurrency tests: enough for commits to meet in a group,
// small enough for a busy machine.
const (
	racers      = 8
	raceRounds  = 15
	writeRounds = 40
)

// concurrency examines what happens side by side.
func (x *exam) concurrency(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Opener)
	}{
		{"one conditional create wins", raceCreates}, {"one update of a version wins", raceUpdates},
		{"write skew is refused", raceSkew}, {"no view is torn", tornViews}, {"pages stand still", stillPages},
		{"linearizable", linearizable}, {"the feed misses nothing", wholeFeed},
		{"imports beside commits", importsBeside}, {"close under load", closeUnderLoad},
		{"one view for many", sharedView},
	} {
		x.run(t, "concurrency/"+strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) { test.run(t, x.open) })
	}
}

// together runs n functions at the same time and waits for all.
func together(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var group errgroup.Group
	gate := make(chan struct{})
	for i := range n {
		group.Go(func() error {
			<-gate
			return f(i)
		})
	}
	close(gate)
	mustNot(t, "side by side", group.Wait())
}

// isUnmet reports whether a commit was refused by a precondition.
func isUnmet(err error) bool {
	_, ok := errors.AsType[*store.Unmet](err)
	return ok
}

// raceCreates: conditional creates of the same thing under different ids; one
// is made, and the others are told which.
func raceCreates(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	ctx := testContext(t)
	for round := range raceRounds {
		name := "r" + strconv.Itoa(round)
		var mu sync.Mutex
		var won, told []plan.Key
		together(t, racers, func(i int) error {
			op := putOp(patient(fmt.Sprintf("%s-%d", name, i)), "x", name)
			op.If = []store.Condition{{Kind: store.Matches, Plan: byName(name, 0)}}
			_, err := s.Commit(ctx, []store.Op{op})
			unmet, lost := errors.AsType[*store.Unmet](err)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, op.Key)
			case lost:
				told = append(told, unmet.Matched...)
			default:
				return err
			}
			return nil
		})
		if len(won) != 1 || len(told) != racers-1 || slices.ContainsFunc(told, func(k plan.Key) bool { return k != won[0] }) {
			t.Fatalf("round %d: %v were made, the others were told of %v", round, won, told)
		}
	}
}

// raceUpdates: everybody adds one to a counter, by version.
func raceUpdates(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	commit(t, s, putOp(patient("counter"), "0"))
	together(t, racers, func(int) error {
		for done := 0; done < raceRounds; {
			added, err := addOne(t, s)
			if err != nil {
				return err
			}
			if added {
				done++
			}
		}
		return nil
	})
	if got, want := bodyOf(t, s, patient("counter")), strconv.Itoa(racers*raceRounds); got != want {
		t.Errorf("the counter stands at %s after %s additions", got, want)
	}
}

func addOne(t testing.TB, s store.Store) (bool, error) {
	ctx := testContext(t)
	view, err := s.View(ctx, "")
	if err != nil {
		return false, err
	}
	defer view.Close()
	r, err := view.Get(ctx, patient("counter"))
	if err != nil {
		return false, err
	}
	n, err := strconv.Atoi(string(r.Body))
	if err != nil {
		return false, err
	}
	op := putOp(patient("counter"), strconv.Itoa(n+1))
	op.If = []store.Condition{{Kind: store.AtVersion, Version: r.Version}}
	outcomes, err := s.Commit(ctx, []store.Op{op})
	if isUnmet(err) {
		return false, nil
	}
	if err == nil && outcomes[0].Version != r.Version+1 {
		err = fmt.Errorf("after v%d came v%d", r.Version, outcomes[0].Version)
	}
	return err == nil, err
}

// raceSkew: two commits, each of which may happen only while the other's
// resource is absent, judged by a plan; both must never happen.
func raceSkew(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	ctx := testContext(t)
	for round := range raceRounds * 2 {
		names := []string{fmt.Sprintf("left%d", round), fmt.Sprintf("right%d", round)}
		var made sync.Map
		together(t, 2, func(i int) error {
			op := putOp(patient(names[i]), "x", names[i])
			op.If = []store.Condition{{Kind: store.Matches, Plan: byName(names[1-i], 0)}}
			_, err := s.Commit(ctx, []store.Op{op})
			if err == nil {
				made.Store(i, true)
			}
			if isUnmet(err) {
				return nil
			}
			return err
		})
		_, left := made.Load(0)
		_, right := made.Load(1)
		if left == right {
			t.Fatalf("round %d: left made: %v, right made: %v", round, left, right)
		}
	}
}

// pair is a commit that writes two resources with one body and one name.
func pair(writer, n int) []store.Op {
	name := fmt.Sprintf("w%d-%d", writer, n)
	return []store.Op{
		putOp(patient(fmt.Sprintf("pair%d-a", writer)), name, "pair"+strconv.Itoa(writer), name),
		putOp(patient(fmt.Sprintf("pair%d-b", writer)), name, "pair"+strconv.Itoa(writer), name),
	}
}

// tornViews: a view shows both halves of a pair in one state, whichever way it
// is asked, and never one that is older than what was acknowledged before.
func tornViews(t *testing.T, open Opener) {
	const writers, readers = 3, 3
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	var acked [writers]counter
	for w := range writers {
		commit(t, s, pair(w, 0)...)
	}
	together(t, writers+readers, func(i int) error {
		if i < writers {
			for n := 1; n <= writeRounds; n++ {
				if _, err := s.Commit(testContext(t), pair(i, n)); err != nil {
					return err
				}
				acked[i].set(n)
			}
			return nil
		}
		for range writeRounds {
			for w := range writers {
				if err := readPair(t, s, w, acked[w].get()); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// counter is a number between goroutines.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) set(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n = n
}

func (c *counter) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func readPair(t testing.TB, s store.Store, writer, atLeast int) error {
	ctx := testContext(t)
	view, err := s.View(ctx, "")
	if err != nil {
		return err
	}
	defer view.Close()
	page, err := view.Search(ctx, byName("pair"+strconv.Itoa(writer), 10))
	if err != nil {
		return err
	}
	a, err := view.Get(ctx, patient(fmt.Sprintf("pair%d-a", writer)))
	if err != nil {
		return err
	}
	body := string(a.Body)
	if len(page.Records) != 2 || string(page.Records[0].Body) != body || string(page.Records[1].Body) != body {
		return fmt.Errorf("torn: a is %s, the search found %v", body, recordTexts(page.Records))
	}
	found, err := view.Count(ctx, byName(body, 0))
	if err != nil {
		return err
	}
	if found != 2 {
		return fmt.Errorf("torn: %d resources have the name of %s", found, body)
	}
	_, number, _ := strings.Cut(body, "-")
	if n, err := strconv.Atoi(number); err != nil || n < atLeast {
		return fmt.Errorf("a view shows %s after %d was acknowledged", body, atLeast)
	}
	return nil
}

func recordTexts(records []store.Record) []string {
	texts := make([]string, len(records))
	for i, r := range records {
		texts[i] = recordText(r, true)
	}
	return texts
}

// stillPages: pages at one moment, walked while everything is written again and
// again, are those of that moment.
func stillPages(t *testing.T, open Opener) {
	const resources = 40
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	for _, op := range numbered(0, resources) {
		commit(t, s, op)
	}
	at, want := wholePage(t, s)
	together(t, 3, func(i int) error {
		if i == 0 {
			for n := range 3 * resources {
				op := numbered(n%resources, 1)[0]
				switch n % 3 {
				case 1:
					op = store.Op{Kind: store.Delete, Key: op.Key}
				case 2:
					op.Entries = nil
				}
				if _, err := s.Commit(testContext(t), []store.Op{op}); err != nil {
					return err
				}
			}
			return nil
		}
		for _, sorts := range [][]plan.Sort{nil, {{By: plan.ByParam, Params: []plan.Param{paramNumbers["name"]}}}} {
			if err := walkPages(t, s, at, i*3, sorts, want); err != nil {
				return err
			}
		}
		return nil
	})
}

func wholePage(t testing.TB, s store.Store) (store.Moment, []string) {
	view := viewOf(t, s, "")
	page, err := view.Search(testContext(t), byName("numbered", 1000))
	mustNot(t, "Search", err)
	return view.Moment(), recordTexts(page.Records)
}

func walkPages(t testing.TB, s store.Store, at store.Moment, limit int, sorts []plan.Sort, want []string) error {
	var got []string
	p := byName("numbered", limit)
	p.Sort = sorts
	for more := true; more; more = p.After != nil {
		view, err := s.View(testContext(t), at)
		if err != nil {
			return err
		}
		page, err := view.Search(testContext(t), p)
		if closed := view.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
		got, p.After = append(got, recordTexts(page.Records)...), page.Next
		if len(got) > len(want) {
			break
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("the pages gave %q, the moment had %q", got, want)
	}
	return nil
}

// wholeFeed: a follower that begins again now and then sees every version of
// everything, once, in order, both halves of a pair at one moment.
func wholeFeed(t *testing.T, open Opener) {
	const writers = 3
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	together(t, writers+1, func(i int) error {
		if i == writers {
			return followPairs(t, s, writers)
		}
		for n := range writeRounds {
			if _, err := s.Commit(testContext(t), pair(i, n)); err != nil {
				return err
			}
		}
		return nil
	})
}

func followPairs(t testing.TB, s store.Store, writers int) error {
	versions := map[plan.Key]uint64{}
	var after store.Moment
	for seen := 0; seen < 2*writers*writeRounds; {
		var batch []store.Change // since the last complete commit
		for c, err := range s.Follow(testContext(t), after) {
			if err != nil {
				return err
			}
			if batch = append(batch, c); len(batch) < 2 {
				continue
			}
			if batch[0].Moment != c.Moment || string(batch[0].Body) != string(c.Body) {
				return fmt.Errorf("torn: %s at %q, then %s at %q", batch[0].Body, batch[0].Moment, c.Body, c.Moment)
			}
			for _, c := range batch {
				if versions[c.Key]++; c.Version != versions[c.Key] {
					return fmt.Errorf("%s v%d came where v%d was due", keyText(c.Key), c.Version, versions[c.Key])
				}
			}
			after, batch, seen = c.Moment, nil, seen+2
			if seen%14 == 0 || seen == 2*writers*writeRounds {
				break // begin again
			}
		}
	}
	return nil
}

// importsBeside: two parts and ordinary commits write the same keys; every key
// ends with all its versions, without a gap.
func importsBeside(t *testing.T, open Opener) {
	const keys, rounds = 7, 10
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	importer, err := s.Import(testContext(t), "load")
	mustNot(t, "Import", err)
	all := func(body string) []store.Op {
		ops := make([]store.Op, keys)
		for k := range ops {
			ops[k] = putOp(patient("k"+strconv.Itoa(k)), body, "numbered", body)
		}
		return ops
	}
	together(t, 3, func(i int) error {
		if i == 2 {
			for n := range rounds {
				if _, err := s.Commit(testContext(t), all(fmt.Sprintf("commit-%d", n))); err != nil {
					return err
				}
			}
			return nil
		}
		part, err := importer.Part(testContext(t), strconv.Itoa(i))
		if err != nil {
			return err
		}
		for n := range rounds {
			if err := part.Add(testContext(t), all(fmt.Sprintf("part%d-%d", i, n)), []byte{byte(n + 1)}); err != nil {
				return err
			}
			if n%3 == 0 {
				if err := part.Flush(testContext(t)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	mustNot(t, "Close", importer.Close(testContext(t)))
	checkCount(t, s, keys)
	for k := range keys {
		checkVersions(t, s, patient("k"+strconv.Itoa(k)), 3*rounds)
	}
}

// checkVersions: the history is whole, newest first, each part of it in its own
// order, and only the newest version is found.
func checkVersions(t testing.TB, s store.Store, key plan.Key, want int) {
	t.Helper()
	view := viewOf(t, s, "")
	page, err := view.History(testContext(t), store.HistoryQuery{Key: key, Limit: 1000})
	mustNot(t, "History", err)
	last := map[string]int{}
	for i, r := range page.Records {
		stream, number, _ := strings.Cut(string(r.Body), "-")
		n, err := strconv.Atoi(number)
		mustNot(t, "Atoi", err)
		if before, seen := last[stream]; r.Version != uint64(want-i) || seen && n >= before {
			t.Fatalf("%s: the history is %q", keyText(key), recordTexts(page.Records))
		}
		last[stream] = n
	}
	if len(page.Records) != want {
		t.Fatalf("%s has %d versions of %d", keyText(key), len(page.Records), want)
	}
	p := byName(string(page.Records[0].Body), 1000)
	found, err := view.Search(testContext(t), p)
	mustNot(t, "Search", err)
	if !slices.ContainsFunc(found.Records, func(r store.Record) bool { return r.Key == key }) {
		t.Fatalf("%s is not found by the name of its newest version", keyText(key))
	}
}

// closeUnderLoad: after Close calls fail as unavailable; what was acknowledged
// before is there when the store is opened again, and pairs are whole.
func closeUnderLoad(t *testing.T, open Opener) {
	engine, reopen := open(t, NewClock().Now)
	s := openStore(t, engine)
	var acked [racers]counter
	for w := range racers {
		commit(t, s, pair(w, 0)...)
	}
	half := make(chan struct{})
	var once sync.Once
	together(t, racers+1, func(i int) error {
		if i == racers {
			<-half
			return s.Close()
		}
		for n := 1; ; n++ {
			_, err := s.Commit(testContext(t), pair(i, n))
			if fault.Is(err, fault.Unavailable) {
				return nil
			}
			if err != nil {
				return err
			}
			acked[i].set(n)
			if n == writeRounds/4 {
				once.Do(func() { close(half) })
			}
		}
	})
	s = openStore(t, reopen())
	for w := range racers {
		mustNot(t, "after reopen", readPair(t, s, w, acked[w].get()))
	}
}

// sharedView: one View answers many at once, beside a writer, and always the
// same.
func sharedView(t *testing.T, open Opener) {
	engine, _ := open(t, NewClock().Now)
	s := openStore(t, engine)
	commit(t, s, numbered(0, 30)...)
	view := viewOf(t, s, "")
	want, err := view.Search(testContext(t), byName("numbered", 100))
	mustNot(t, "Search", err)
	texts := recordTexts(want.Records)
	together(t, racers, func(i int) error {
		for n := range writeRounds {
			if i == 0 {
				op := numbered(n%30, 1)[0]
				op.Entries = nil
				if _, err := s.Commit(testContext(t), []store.Op{op}); err != nil {
					return err
				}
				continue
			}
			if err := sameAnswer(testContext(t), view, texts, want.Records[n%30]); err != nil {
				return err
			}
		}
		return nil
	})
}

// sameAnswer asks a view in each of its ways.
func sameAnswer(ctx context.Context, view store.View, texts []string, record store.Record) error {
	page, err := view.Search(ctx, byName("numbered", 100))
	if err != nil || !slices.Equal(recordTexts(page.Records), texts) {
		return fmt.Errorf("the view's search changed to %q (%w)", recordTexts(page.Records), err)
	}
	n, err := view.Count(ctx, byName("numbered", 0))
	if err != nil || int(n) != len(texts) {
		return fmt.Errorf("the view's count changed to %d (%w)", n, err)
	}
	r, err := view.Get(ctx, record.Key)
	if err != nil || recordText(r, true) != recordText(record, true) {
		return fmt.Errorf("the view's record changed to %s (%w)", recordText(r, true), err)
	}
	page, err = view.History(ctx, store.HistoryQuery{Key: record.Key, Limit: 10})
	if err != nil || len(page.Records) != 1 {
		return fmt.Errorf("the view's history changed to %q (%w)", recordTexts(page.Records), err)
	}
	return nil
}
