package blackbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// moments draws when to kill; TARN_CRASH_SEED moves them, and a round draws the
// same whatever the rounds before it did.
func moments(t testing.TB, round int) *rand.Rand {
	t.Helper()
	seed, err := strconv.ParseUint(orDefault(os.Getenv("TARN_CRASH_SEED"), "1"), 10, 64)
	if err != nil {
		t.Fatalf("TARN_CRASH_SEED: %v", err)
	}
	return rand.New(rand.NewPCG(seed, uint64(round)))
}

func orDefault(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// between draws a duration.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}

// revive starts a killed server again; in every second round it is killed once
// more while it recovers.
func (s *server) revive(r *rand.Rand, round int) {
	s.t.Helper()
	if round%2 == 1 {
		ctx, cancel := context.WithTimeout(s.t.Context(), between(r, time.Millisecond, 80*time.Millisecond))
		defer cancel()
		// Whether it was ready in time is chance; it is killed either way.
		if again, err := process.Start(ctx, s.Options); err == nil {
			s.must(again.Kill())
		}
	}
	s.restart()
}

// storeFolders are the names below <data>/stores.
func (s *server) storeFolders() []string {
	s.t.Helper()
	found, err := os.ReadDir(filepath.Join(s.Data, "stores"))
	s.must(err)
	var names []string
	for _, f := range found {
		if f.IsDir() {
			names = append(names, f.Name())
		}
	}
	return names
}

// asked is a data store as one client asked for it.
type asked struct {
	name    string
	id      string // empty: the answer never came
	deleted string // "", "asked" or "answered"
}

// kill -9 while stores are created and deleted: every acknowledged store is
// there and goes on to where it was going, every token still means one store.
func TestKillCreate(t *testing.T) {
	t.Parallel()
	s := start(t)
	for round := range rounds(t) {
		r := moments(t, round)
		after := between(r, 0, 150*time.Millisecond)
		made := s.createUntilKilled(round, after)
		s.revive(r, round)
		s.checkAsked(made)
		if t.Failed() {
			t.Fatalf("round %d, killed after %v", round, after)
		}
	}
}

// createUntilKilled lets several clients create and delete until the server is
// killed.
func (s *server) createUntilKilled(round int, after time.Duration) []*asked {
	const creators = 6
	var all sync.WaitGroup
	made := make([][]*asked, creators)
	for c := range creators {
		all.Go(func() {
			for i := 0; ; i++ {
				a := &asked{name: fmt.Sprintf("r%d-c%d-%d", round, c, i)}
				made[c] = append(made[c], a)
				d, err := s.Create(s.t.Context(), a.request())
				if err != nil {
					return
				}
				a.id = d.DatastoreID
				if i%3 == 2 && s.deleteOne(made[c][i-1]) != nil {
					return
				}
			}
		})
	}
	time.Sleep(after) // the seeded moment
	s.must(s.Kill())
	all.Wait()
	return slices.Concat(made...)
}

func (a *asked) request() map[string]any {
	return map[string]any{"DatastoreName": a.name, "ClientToken": a.name}
}

// deleteOne asks to delete a store; one that is not ACTIVE yet refuses, and
// stays.
func (s *server) deleteOne(a *asked) error {
	a.deleted = "asked"
	err := s.Control(s.t.Context(), "DeleteFHIRDatastore", map[string]any{"DatastoreId": a.id}, &struct{}{})
	if _, refused := errors.AsType[*process.Exception](err); refused {
		a.deleted = ""
		return nil
	}
	if err == nil {
		a.deleted = "answered"
	}
	return err
}

// checkAsked holds what is there against what was asked.
func (s *server) checkAsked(made []*asked) {
	s.t.Helper()
	for _, a := range made {
		again, err := s.Create(s.t.Context(), a.request()) // the same token: the same store
		s.must(err)
		if a.id != "" && again.DatastoreID != a.id {
			s.t.Errorf("%s: its token made %s, and after the crash %s", a.name, a.id, again.DatastoreID)
		}
		a.id = again.DatastoreID
		switch a.deleted {
		case "":
			s.await(a.id, "ACTIVE")
			d := &datastore{server: s, id: a.id}
			d.fhir("PUT", "/Patient/p", `{"resourceType":"Patient","id":"p"}`).want(201)
		case "asked":
			if now := s.settled(a.id); now != "ACTIVE" && now != "DELETED" {
				s.t.Errorf("%s: a deletion that was not answered left it %s", a.name, now)
			}
		case "answered":
			s.await(a.id, "DELETED")
		}
	}
	s.checkListing(made)
}

// settled waits until the state is one that stays.
func (s *server) settled(id string) string {
	s.t.Helper()
	for deadline := time.Now().Add(activeTimeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if now := s.mustDescribe(id).DatastoreStatus; now != "CREATING" && now != "DELETING" {
			return now
		}
	}
	s.t.Fatalf("%s does not settle", id)
	return ""
}

// checkListing wants each store once in the list, and a folder for each that is
// there and for no other.
func (s *server) checkListing(made []*asked) {
	s.t.Helper()
	list, err := s.List(s.t.Context())
	s.must(err)
	seen, folders := map[string]string{}, []string{"system"}
	for _, d := range list {
		if seen[d.DatastoreName] != "" {
			s.t.Errorf("%s is listed as %s and as %s", d.DatastoreName, seen[d.DatastoreName], d.DatastoreID)
		}
		seen[d.DatastoreName] = d.DatastoreID
		if d.DatastoreStatus != "DELETED" {
			folders = append(folders, d.DatastoreID)
		}
	}
	for _, a := range made {
		if seen[a.name] != a.id {
			s.t.Errorf("%s is listed as %q, not as %s", a.name, seen[a.name], a.id)
		}
	}
	slices.Sort(folders)
	if found := s.storeFolders(); !slices.Equal(found, folders) {
		s.t.Errorf("%d folders for %d stores: %s", len(found), len(folders), firstDifference(found, folders))
	}
}

// kill -9 during a preload, and during the deletion after it: the preload goes
// on to exactly what it should load, the deletion to nothing.
func TestKillPreload(t *testing.T) {
	t.Parallel()
	s := start(t)
	want := embedded(t)
	for round := range rounds(t) {
		r := moments(t, round)
		made, err := s.Create(t.Context(), synthea)
		s.must(err)
		for range 1 + round%2 {
			time.Sleep(between(r, 0, 3*time.Second)) // the seeded moment
			s.must(s.Kill())
			s.revive(r, round)
		}
		s.await(made.DatastoreID, "ACTIVE")
		d := &datastore{server: s, id: made.DatastoreID}
		for kind, n := range want.Types {
			if got := d.total(kind); got != n {
				t.Errorf("%s: %d resources, want %d", kind, got, n)
			}
		}
		if n := len(d.pages("Patient?_count=100")); n != want.Patients {
			t.Errorf("%d patients are listed, want %d", n, want.Patients)
		}
		d.killDeletion(r)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

func (d *datastore) killDeletion(r *rand.Rand) {
	d.t.Helper()
	d.must(d.Control(d.t.Context(), "DeleteFHIRDatastore", map[string]any{"DatastoreId": d.id}, &struct{}{}))
	time.Sleep(between(r, 0, 50*time.Millisecond)) // the seeded moment
	d.must(d.Kill())
	d.restart()
	d.await(d.id, "DELETED")
	if found := d.storeFolders(); !slices.Equal(found, []string{"system"}) {
		d.t.Errorf("a deleted store left %v", found)
	}
}

// Numbers of the load: writers at once, and the most acknowledged writes before
// the kill.
const (
	writers     = 64
	mostWrites  = 2500
	fewestWrite = 20
)

// kill -9 under a load of creates, updates, deletes and transactions: whatever
// was acknowledged is there, whatever was not is there whole or not at all, and
// index, totals and listing agree.
func TestKillLoad(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(nil)
	model := newModel()
	for round := range rounds(t) {
		r := moments(t, round)
		acks := fewestWrite + r.Int64N(mostWrites-fewestWrite)
		d.writeUntilKilled(model, round, acks)
		s.revive(r, round)
		model.check(d, r)
		if t.Failed() {
			t.Fatalf("round %d, killed after %d acknowledged writes", round, acks)
		}
		t.Logf("round %d: killed after %d acknowledged writes; %d resources are there", round, acks, len(model.known))
	}
}

// writeUntilKilled runs the writers until the server has acknowledged so many
// writes, and kills it while the others' are under way.
func (d *datastore) writeUntilKilled(model *model, round int, acks int64) {
	d.t.Helper()
	var acknowledged atomic.Int64
	reached := make(chan struct{})
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			writer := &writer{datastore: d, model: model, name: fmt.Sprintf("r%d-w%d", round, w), random: rand.New(rand.NewPCG(uint64(round), uint64(w)))}
			for writer.step() {
				if acknowledged.Add(1) == acks {
					close(reached)
				}
			}
		})
	}
	select {
	case <-reached:
	case <-time.After(activeTimeout):
		d.t.Errorf("%d writes were acknowledged, not %d", acknowledged.Load(), acks)
	}
	d.must(d.Kill())
	all.Wait()
}
