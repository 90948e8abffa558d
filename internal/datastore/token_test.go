package datastore_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
)

func base() datastore.CreateRequest {
	return datastore.CreateRequest{
		Name: "clinic", TypeVersion: "R4", ClientToken: "t-1",
		Tags: []datastore.Tag{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}},
	}
}

// What counts as the same request, and what does not.
func TestTokenComparesRequests(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *datastore.CreateRequest)
		same   bool
	}{
		"the same":                 {func(r *datastore.CreateRequest) {}, true},
		"tags in another order":    {func(r *datastore.CreateRequest) { slices.Reverse(r.Tags) }, true},
		"the default key spelled":  {func(r *datastore.CreateRequest) { r.Encryption.CmkType = datastore.AWSOwned }, true},
		"the default strategy":     {func(r *datastore.CreateRequest) { r.Identity.Strategy = datastore.AWSAuth }, true},
		"NLP off":                  {func(r *datastore.CreateRequest) { r.Settings.NLP = "DISABLED" }, true},
		"backup off":               {func(r *datastore.CreateRequest) { r.Settings.Backup = &datastore.Backup{Status: "DISABLED"} }, true},
		"no profiles":              {func(r *datastore.CreateRequest) { r.Settings.DefaultProfiles = []string{} }, true},
		"another name":             {func(r *datastore.CreateRequest) { r.Name = "other" }, false},
		"a tag's value":            {func(r *datastore.CreateRequest) { r.Tags[0].Value = "x" }, false},
		"a tag less":               {func(r *datastore.CreateRequest) { r.Tags = r.Tags[:1] }, false},
		"a preload":                {func(r *datastore.CreateRequest) { r.Preload = "SYNTHEA" }, false},
		"a key":                    {func(r *datastore.CreateRequest) { r.Encryption = customer("alias/mine") }, false},
		"analytics paused, spoken": {func(r *datastore.CreateRequest) { r.Settings.Analytics = "PAUSED" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).Begin()
			w.Keys.Add("alias/mine")
			first, err := w.Plane.Create(t.Context(), base())
			if err != nil {
				t.Fatal(err)
			}
			w.Await(first.ID, datastore.Active)
			req := base()
			c.change(&req)
			again, err := w.Plane.Create(t.Context(), req)
			if !c.same {
				if f := fault.From(err); f.Kind != fault.Invalid || f.Subject != "clientToken" {
					t.Errorf("answer %v, %v; want Invalid naming clientToken", again, err)
				}
				return
			}
			if err != nil || again.ID != first.ID || again.Status != datastore.Creating {
				t.Errorf("answer %+v, %v; want the first one, CREATING", again, err)
			}
		})
	}
}

func customer(key string) datastore.Encryption {
	return datastore.Encryption{CmkType: datastore.CustomerManaged, KeyID: key}
}

// The first answer is given again over restarts, after the store is gone, and
// when its key could not be used any more.
func TestTokenAnswersAgain(t *testing.T) {
	w := newWorld(t).Begin()
	w.Keys.Add("alias/mine")
	req := base()
	req.Encryption = customer("alias/mine")
	first, err := w.Plane.Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	w.Await(first.ID, datastore.Active)
	again := func(when string) {
		t.Helper()
		got, err := w.Plane.Create(t.Context(), req)
		if err != nil || got.ID != first.ID || got.Status != datastore.Creating {
			t.Errorf("%s: %+v, %v", when, got, err)
		}
	}
	w.Crash()
	again("after a restart")
	w.Keys.Enable("alias/mine", false)
	again("with the key disabled")
	if _, err := w.Plane.Delete(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	w.Await(first.ID, datastore.Deleted)
	again("after deletion")
	w.Clock.Advance(datastore.TokenLife - time.Second)
	if err := w.Plane.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	again("a second short of a day")

	w.Clock.Advance(2 * time.Second)
	if err := w.Plane.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Keys.Enable("alias/mine", true)
	if later, err := w.Plane.Create(t.Context(), req); err != nil || later.ID == first.ID {
		t.Errorf("after a day: %+v, %v; want a new store", later, err)
	}
}

// A request that was refused leaves its token free.
func TestRefusalConsumesNoToken(t *testing.T) {
	w := newWorld(t).Begin()
	bad := base()
	bad.Encryption = customer("alias/absent")
	if _, err := w.Plane.Create(t.Context(), bad); !fault.Is(err, fault.Invalid) {
		t.Fatalf("absent key: %v", err)
	}
	bad.Encryption = customer("")
	if _, err := w.Plane.Create(t.Context(), bad); !fault.Is(err, fault.Invalid) {
		t.Fatalf("no key: %v", err)
	}
	if n, err := w.Plane.Tokens(t.Context()); n != 0 || err != nil {
		t.Errorf("%d tokens kept, %v", n, err)
	}
	if _, err := w.Plane.Create(t.Context(), base()); err != nil {
		t.Errorf("the token is used up: %v", err)
	}
}

// Requests that race with one token make one store; those that say something
// else are refused.
func TestTokensRaced(t *testing.T) {
	const clients = 64
	w := newWorld(t).Begin()
	var group sync.WaitGroup
	made, refused := make([]string, clients), make([]error, clients)
	start := make(chan struct{})
	for i := range clients {
		group.Go(func() {
			<-start
			req := base()
			if i%4 == 3 {
				req.Name = "another"
			}
			d, err := w.Plane.Create(t.Context(), req)
			if err != nil {
				refused[i] = err
				return
			}
			made[i] = d.ID
		})
	}
	close(start)
	group.Wait()
	ids, won := map[string]bool{}, -1
	for i := range clients {
		if refused[i] != nil {
			if !fault.Is(refused[i], fault.Invalid) {
				t.Errorf("client %d: %v", i, refused[i])
			}
			continue
		}
		if won >= 0 && (won%4 == 3) != (i%4 == 3) {
			t.Errorf("clients %d and %d asked for different stores and were both answered", won, i)
		}
		won = i
		ids[made[i]] = true
	}
	if len(ids) != 1 {
		t.Errorf("%d stores made of one token", len(ids))
	}
	page, err := w.Plane.List(t.Context(), datastore.Filter{}, 100, "", nil)
	if err != nil || len(page.Datastores) != 1 {
		t.Errorf("%d stores listed, %v", len(page.Datastores), err)
	}
}
