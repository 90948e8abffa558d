package datastore_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
)

func names(list []*datastore.Datastore) (out []string) {
	for _, d := range list {
		out = append(out, d.Name)
	}
	return out
}

// threeStores makes a, b and c an hour apart; b is deleted.
func threeStores(t *testing.T) (*World, []*datastore.Datastore) {
	w := newWorld(t).Begin()
	var all []*datastore.Datastore
	for _, name := range []string{"a", "b", "c"} {
		all = append(all, w.Create(datastore.CreateRequest{Name: name}))
		w.Clock.Advance(time.Hour)
	}
	if _, err := w.Plane.Delete(t.Context(), all[1].ID); err != nil {
		t.Fatal(err)
	}
	w.Await(all[1].ID, datastore.Deleted)
	return w, all
}

func TestListFilters(t *testing.T) {
	w, all := threeStores(t)
	ms := time.Millisecond
	for name, c := range map[string]struct {
		filter datastore.Filter
		want   []string
	}{
		"all, newest first":  {datastore.Filter{}, []string{"c", "b", "a"}},
		"name":               {datastore.Filter{Name: "a"}, []string{"a"}},
		"part of a name":     {datastore.Filter{Name: ""}, []string{"c", "b", "a"}},
		"no such name":       {datastore.Filter{Name: "A"}, nil},
		"active":             {datastore.Filter{Status: datastore.Active}, []string{"c", "a"}},
		"deleted":            {datastore.Filter{Status: datastore.Deleted}, []string{"b"}},
		"before is open":     {datastore.Filter{CreatedBefore: all[1].CreatedAt}, []string{"a"}},
		"just before":        {datastore.Filter{CreatedBefore: all[1].CreatedAt.Add(ms)}, []string{"b", "a"}},
		"after is open":      {datastore.Filter{CreatedAfter: all[1].CreatedAt}, []string{"c"}},
		"just after":         {datastore.Filter{CreatedAfter: all[1].CreatedAt.Add(-ms)}, []string{"c", "b"}},
		"a span":             {datastore.Filter{CreatedAfter: all[0].CreatedAt, CreatedBefore: all[2].CreatedAt}, []string{"b"}},
		"all must hold":      {datastore.Filter{Name: "b", Status: datastore.Active}, nil},
		"all four do":        {datastore.Filter{"c", datastore.Active, all[2].CreatedAt.Add(ms), all[1].CreatedAt}, []string{"c"}},
		"before everything":  {datastore.Filter{CreatedBefore: time.Unix(0, 0)}, nil},
		"after the far past": {datastore.Filter{CreatedAfter: time.Unix(-1000, 0)}, []string{"c", "b", "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := w.Plane.List(t.Context(), c.filter, 10, "", nil)
			if got := names(page.Datastores); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%v, %v; want %v", got, err, c.want)
			}
		})
	}
}

// All pages show the list as it was at the first, whatever happens meanwhile.
func TestListPagesAtOneMoment(t *testing.T) {
	w := newWorld(t).Begin()
	var want []string
	for i := range 7 {
		w.Create(datastore.CreateRequest{Name: fmt.Sprint(i)})
		want = append([]string{fmt.Sprint(i)}, want...)
		if i%2 == 0 { // some of the same millisecond
			w.Clock.Advance(time.Second)
		}
	}
	var got []string
	var at store.Moment
	var after []byte
	for range 10 {
		page, err := w.Plane.List(t.Context(), datastore.Filter{}, 2, at, after)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, names(page.Datastores)...)
		if page.After == nil {
			break
		}
		at, after = page.At, page.After
		w.Create(datastore.CreateRequest{Name: "late"})
		if len(got) == 2 { // of the next page
			if _, err := w.Plane.Delete(t.Context(), page.Datastores[1].ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("pages gave %v, want %v", got, want)
	}
}

func ptr[T any](v T) *T { return &v }

const smartMetadata = `{"authorization_endpoint":"https://a","token_endpoint":"https://t","grant_types_supported":["client_credential"],
	"capabilities":["permission-v2"],"code_challenge_methods_supported":["S256","foo"]}`

func TestUpdate(t *testing.T) {
	smart := datastore.Identity{Strategy: datastore.SMARTonFHIR, FineGrained: true, Metadata: smartMetadata,
		IdpLambdaARN: "arn:aws:lambda:us-east-1:111122223333:function:f"}
	for name, c := range map[string]struct {
		req     datastore.UpdateRequest
		kind    fault.Kind
		subject string // of a refusal
		want    func(d *datastore.Datastore) bool
	}{
		"nothing":        {datastore.UpdateRequest{}, 0, "", func(d *datastore.Datastore) bool { return d.Name == "clinic" && d.Identity == smart }},
		"name":           {datastore.UpdateRequest{Name: ptr("ward")}, 0, "", func(d *datastore.Datastore) bool { return d.Name == "ward" && d.Identity == smart }},
		"identity whole": {datastore.UpdateRequest{Identity: &datastore.Identity{Strategy: datastore.SMARTonFHIR, Metadata: smartMetadata}}, 0, "", func(d *datastore.Datastore) bool { return !d.Identity.FineGrained && d.Identity.IdpLambdaARN == "" }},
		"identity back to AWS": {datastore.UpdateRequest{Identity: &datastore.Identity{Strategy: datastore.AWSAuth}}, 0, "", func(d *datastore.Datastore) bool {
			return d.Identity == datastore.Identity{Strategy: datastore.AWSAuth}
		}},
		"identity short":          {datastore.UpdateRequest{Identity: &datastore.Identity{Strategy: datastore.SMARTonFHIR}}, fault.Invalid, "identityProviderConfiguration.metadata", nil},
		"NLP off":                 {datastore.UpdateRequest{NLP: ptr("DISABLED")}, 0, "", func(d *datastore.Datastore) bool { return d.Settings.NLP == "DISABLED" }},
		"NLP on":                  {datastore.UpdateRequest{NLP: ptr("ENABLED")}, fault.Invalid, "nlpConfiguration.status", nil},
		"NLP under way":           {datastore.UpdateRequest{NLP: ptr("ENABLING")}, fault.Invalid, "nlpConfiguration.status", nil},
		"analytics off":           {datastore.UpdateRequest{Analytics: ptr("DISABLED")}, 0, "", func(d *datastore.Datastore) bool { return d.Settings.Analytics == "DISABLED" }},
		"analytics paused":        {datastore.UpdateRequest{Analytics: ptr("PAUSED")}, 0, "", func(d *datastore.Datastore) bool { return d.Settings.Analytics == "PAUSED" }},
		"analytics on":            {datastore.UpdateRequest{Analytics: ptr("ENABLED")}, fault.Invalid, "analyticsConfiguration.status", nil},
		"profiles":                {datastore.UpdateRequest{DefaultProfiles: &[]string{"us-core-3.1.1"}}, fault.Invalid, "profileConfiguration.defaultProfiles", nil},
		"no profiles":             {datastore.UpdateRequest{DefaultProfiles: &[]string{}}, 0, "", func(d *datastore.Datastore) bool { return len(d.Settings.DefaultProfiles) == 0 }},
		"backup off":              {datastore.UpdateRequest{Backup: &datastore.Backup{Status: "DISABLED"}}, 0, "", func(d *datastore.Datastore) bool { return d.Settings.Backup.Status == "DISABLED" }},
		"backup on":               {datastore.UpdateRequest{Backup: &datastore.Backup{Status: "ENABLED"}}, fault.Invalid, "backupConfiguration.status", nil},
		"backup neither":          {datastore.UpdateRequest{Backup: &datastore.Backup{RetentionDays: 3}}, fault.Invalid, "backupConfiguration.status", nil},
		"no such store":           {datastore.UpdateRequest{ID: "0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c"}, fault.NotFound, "Datastore 0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c", nil},
		"all or nothing (name)":   {datastore.UpdateRequest{Name: ptr("ward"), NLP: ptr("ENABLED")}, fault.Invalid, "nlpConfiguration.status", nil},
		"encryption is not there": {datastore.UpdateRequest{Name: ptr("x")}, 0, "", func(d *datastore.Datastore) bool { return d.Encryption.CmkType == datastore.AWSOwned }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).Begin()
			d := w.Create(datastore.CreateRequest{Name: "clinic", Identity: smart})
			if c.req.ID == "" {
				c.req.ID = d.ID
			}
			got, err := w.Plane.Update(t.Context(), c.req)
			if c.want == nil {
				if f := fault.From(err); f.Kind != c.kind || f.Subject != c.subject {
					t.Errorf("%v, want %v about %s", err, c.kind, c.subject)
				}
				if now, err := w.Plane.Describe(t.Context(), d.ID); err != nil || now.Name != "clinic" {
					t.Errorf("a refused update left %q, %v", now.Name, err)
				}
				return
			}
			if err != nil || got.Status != datastore.Active || !c.want(got) {
				t.Errorf("%+v, %v", got, err)
			}
			now, err := w.Plane.Describe(t.Context(), d.ID)
			if err != nil || !c.want(now) {
				t.Errorf("described: %+v, %v", now, err)
			}
		})
	}
}

func TestUpdateOnlyWhenActive(t *testing.T) {
	w := newWorld(t).Make()
	d, err := w.Plane.Create(t.Context(), datastore.CreateRequest{TypeVersion: "R4"})
	if err != nil {
		t.Fatal(err)
	}
	req := datastore.UpdateRequest{ID: d.ID, Name: ptr("x")}
	if _, err := w.Plane.Update(t.Context(), req); !fault.Is(err, fault.Conflict) {
		t.Errorf("CREATING: %v", err)
	}
	w.Begin().Await(d.ID, datastore.Active)
	if _, err := w.Plane.Update(t.Context(), req); err != nil {
		t.Errorf("ACTIVE: %v", err)
	}
	if _, err := w.Plane.Delete(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	w.Await(d.ID, datastore.Deleted)
	if _, err := w.Plane.Update(t.Context(), req); !fault.Is(err, fault.Conflict) {
		t.Errorf("DELETED: %v", err)
	}
}

func TestCreateRefusesWhatIsNotThere(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(r *datastore.CreateRequest)
		subject string
	}{
		"analytics":           {func(r *datastore.CreateRequest) { r.Settings.Analytics = "ENABLED" }, "analyticsConfiguration.status"},
		"analytics off":       {func(r *datastore.CreateRequest) { r.Settings.Analytics = "DISABLED" }, "analyticsConfiguration.status"},
		"NLP":                 {func(r *datastore.CreateRequest) { r.Settings.NLP = "ENABLED" }, "nlpConfiguration.status"},
		"profiles":            {func(r *datastore.CreateRequest) { r.Settings.DefaultProfiles = []string{"p"} }, "profileConfiguration.defaultProfiles"},
		"backup":              {func(r *datastore.CreateRequest) { r.Settings.Backup = &datastore.Backup{Status: "ENABLED"} }, "backupConfiguration.status"},
		"a tag twice":         {func(r *datastore.CreateRequest) { r.Tags = []datastore.Tag{{"a", "1"}, {"a", "2"}} }, "tags"},
		"a tag of AWS's":      {func(r *datastore.CreateRequest) { r.Tags = []datastore.Tag{{"AWS:x", "1"}} }, "tags"},
		"fine-grained by AWS": {func(r *datastore.CreateRequest) { r.Identity.FineGrained = true }, "identityProviderConfiguration.fineGrainedAuthorizationEnabled"},
		"metadata by AWS":     {func(r *datastore.CreateRequest) { r.Identity.Metadata = smartMetadata }, "identityProviderConfiguration.metadata"},
		"Lambda by AWS":       {func(r *datastore.CreateRequest) { r.Identity.IdpLambdaARN = "arn" }, "identityProviderConfiguration.idpLambdaArn"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).Begin()
			req := datastore.CreateRequest{TypeVersion: "R4"}
			c.change(&req)
			if _, err := w.Plane.Create(t.Context(), req); fault.From(err).Kind != fault.Invalid || fault.From(err).Subject != c.subject {
				t.Errorf("%v, want Invalid about %s", err, c.subject)
			}
		})
	}
}

func TestSmartMetadata(t *testing.T) {
	for name, c := range map[string]struct {
		metadata string
		ok       bool
	}{
		"as AWS's examples":     {smartMetadata, true},
		"absent":                {"", false},
		"not JSON":              {"{", false},
		"null":                  {"null", false},
		"a list":                {"[]", false},
		"a text":                {`"{}"`, false},
		"empty":                 {"{}", false},
		"authorization missing": {`{"token_endpoint":"t","grant_types_supported":["g"],"capabilities":["c"],"code_challenge_methods_supported":["S256"]}`, false},
		"token missing":         {`{"authorization_endpoint":"a","grant_types_supported":["g"],"capabilities":["c"],"code_challenge_methods_supported":["S256"]}`, false},
		"grants empty":          {`{"authorization_endpoint":"a","token_endpoint":"t","grant_types_supported":[],"capabilities":["c"],"code_challenge_methods_supported":["S256"]}`, false},
		"capabilities missing":  {`{"authorization_endpoint":"a","token_endpoint":"t","grant_types_supported":["g"],"code_challenge_methods_supported":["S256"]}`, false},
		"only plain":            {`{"authorization_endpoint":"a","token_endpoint":"t","grant_types_supported":["g"],"capabilities":["c"],"code_challenge_methods_supported":["plain"]}`, false},
		"grants no list":        {`{"authorization_endpoint":"a","token_endpoint":"t","grant_types_supported":"g","capabilities":["c"],"code_challenge_methods_supported":["S256"]}`, false},
		"names in other case":   {`{"Authorization_Endpoint":"a","token_endpoint":"t","grant_types_supported":["g"],"capabilities":["c"],"code_challenge_methods_supported":["S256"]}`, false},
		"more members":          {`{"issuer":{"x":[1]},"authorization_endpoint":"a","token_endpoint":"t","grant_types_supported":["g"],"capabilities":["c"],"code_challenge_methods_supported":["S256"]}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).Begin()
			_, err := w.Plane.Create(t.Context(), datastore.CreateRequest{TypeVersion: "R4",
				Identity: datastore.Identity{Strategy: datastore.SMARTonFHIRv1, Metadata: c.metadata}})
			if c.ok && err != nil || !c.ok && (fault.From(err).Subject != "identityProviderConfiguration.metadata" || !fault.Is(err, fault.Invalid)) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTags(t *testing.T) {
	w := newWorld(t).Begin()
	d := w.Create(datastore.CreateRequest{Tags: []datastore.Tag{{"a", "1"}, {"b", "2"}}})
	tags := func() []datastore.Tag {
		t.Helper()
		list, err := w.Plane.Tags(t.Context(), d.ARN)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	expect := func(want ...datastore.Tag) {
		t.Helper()
		if got := tags(); !slices.Equal(got, want) {
			t.Errorf("tags %v, want %v", got, want)
		}
	}
	expect(datastore.Tag{"a", "1"}, datastore.Tag{"b", "2"})
	if err := w.Plane.Tag(t.Context(), d.ARN, []datastore.Tag{{"b", "3"}, {"c", ""}}); err != nil {
		t.Fatal(err)
	}
	expect(datastore.Tag{"a", "1"}, datastore.Tag{"b", "3"}, datastore.Tag{"c", ""})
	if err := w.Plane.Untag(t.Context(), d.ARN, []string{"a", "never"}); err != nil {
		t.Fatal(err)
	}
	expect(datastore.Tag{"b", "3"}, datastore.Tag{"c", ""})
	w.Crash()
	expect(datastore.Tag{"b", "3"}, datastore.Tag{"c", ""})

	var many []datastore.Tag
	for i := range datastore.MaxTags - 2 {
		many = append(many, datastore.Tag{fmt.Sprint("k", i), "v"})
	}
	if err := w.Plane.Tag(t.Context(), d.ARN, many); err != nil {
		t.Errorf("%d tags: %v", datastore.MaxTags, err)
	}
	if err := w.Plane.Tag(t.Context(), d.ARN, []datastore.Tag{{"one", "more"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("%d tags: %v", datastore.MaxTags+1, err)
	}
	for name, arn := range map[string]string{
		"another id":      w.Plane.ARN(AbsentID(t)),
		"another account": "arn:aws:healthlake:us-east-1:999999999999:datastore/fhir/" + d.ID,
		"another region":  "arn:aws:healthlake:eu-west-1:111122223333:datastore/fhir/" + d.ID,
		"another thing":   "arn:aws:healthlake:us-east-1:111122223333:dataTransformationProfile/" + d.ID,
		"no id":           "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ",
	} {
		if _, err := w.Plane.Tags(t.Context(), arn); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.Plane.Tag(t.Context(), arn, nil); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTagsRaced(t *testing.T) {
	w := newWorld(t).Begin()
	d := w.Create(datastore.CreateRequest{})
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			if err := w.Plane.Tag(t.Context(), d.ARN, []datastore.Tag{{fmt.Sprint(i), "v"}}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if tags, err := w.Plane.Tags(t.Context(), d.ARN); err != nil || len(tags) != 16 {
		t.Errorf("%d of 16 tags, %v", len(tags), err)
	}
}

// A deleted store is shown for KeepDeleted, and then forgotten with its jobs.
func TestSweepForgets(t *testing.T) {
	w := newWorld(t)
	w.Options.KeepDeleted = 48 * time.Hour
	var told []string
	w.Options.Gone = func(id string) { told = append(told, id) }
	w.Begin()
	d, stays := w.Create(datastore.CreateRequest{}), w.Create(datastore.CreateRequest{})
	if _, err := w.Plane.Delete(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	w.Await(d.ID, datastore.Deleted)
	w.Until("the end of the job", func() bool { return idle(w) })
	if !slices.Equal(told, []string{d.ID}) {
		t.Errorf("told that %v are gone", told)
	}
	w.Clock.Advance(48*time.Hour - time.Second)
	sweep := func() {
		t.Helper()
		if err := w.Plane.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	w.Await(d.ID, datastore.Deleted)
	if err := w.Plane.Tag(t.Context(), d.ARN, []datastore.Tag{{"a", "b"}}); !fault.Is(err, fault.NotFound) {
		t.Errorf("tagging a DELETED store: %v", err)
	}
	w.Clock.Advance(2 * time.Second)
	sweep()
	if _, err := w.Plane.Describe(t.Context(), d.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("still described: %v", err)
	}
	w.Await(stays.ID, datastore.Active)
	sweep() // again changes nothing
}

// A bound on data stores counts those that are not deleted, races included, and
// a repeated ClientToken is answered all the same.
func TestMaxDatastores(t *testing.T) {
	w := newWorld(t)
	w.Options.MaxDatastores = 2
	w.Begin()
	var group sync.WaitGroup
	var made, refused atomic.Int32
	for range 8 {
		group.Go(func() {
			_, err := w.Plane.Create(t.Context(), datastore.CreateRequest{TypeVersion: "R4"})
			switch {
			case err == nil:
				made.Add(1)
			case fault.Is(err, fault.Quota):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if made.Load() != 2 || refused.Load() != 6 {
		t.Errorf("%d made and %d refused of 8", made.Load(), refused.Load())
	}
}
