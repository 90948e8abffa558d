package smart

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/searchparam"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

const testBase = "https://tarn.example/datastore/d/r4/"

var (
	registry  = searchparam.NewRegistry()
	testWorld = World{Registry: registry, Key: plan.HashKey{7}, Base: testBase, Now: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}
)

// resources are the content of a store, with index entries.
type resources struct {
	extractor *searchparam.Extractor
	all       []memory.Candidate
}

func load(t testing.TB, list ...string) *resources {
	t.Helper()
	w := &resources{extractor: searchparam.NewExtractor(registry, testWorld.Key, testBase)}
	for _, json := range list {
		w.all = append(w.all, w.candidate(t, json))
	}
	return w
}

// candidate is a resource as it is, or would be, stored.
func (w *resources) candidate(t testing.TB, json string) memory.Candidate {
	t.Helper()
	doc, err := fhir.Parse([]byte(json))
	if err != nil {
		t.Fatalf("%v in %s", err, json)
	}
	typ, ok := r4.TypeByName(doc.ResourceType())
	if !ok {
		t.Fatalf("no type in %s", json)
	}
	key := plan.Key{Type: typ, ID: doc.ID()}
	entries, err := w.extractor.Extract(key, doc.Root())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2024, 1, 1, 0, 0, len(w.all), 0, time.UTC)
	return memory.Candidate{Key: key, Updated: at, Created: at, Entries: entries}
}

// shown lists what a grant shows of the resources, as "Type/id", sorted.
func (w *resources) shown(g *search.Grant, access search.Access) []string {
	world := memory.NewWorld(testWorld.Key, w.all)
	var list []string
	for _, c := range w.all {
		if allows(world, g, c, access) {
			list = append(list, registry.Name(c.Key.Type)+"/"+c.Key.ID)
		}
	}
	slices.Sort(list)
	return list
}

func allows(world *memory.World, g *search.Grant, c memory.Candidate, access search.Access) bool {
	where, ok := g.Where(c.Key.Type, access)
	return ok && world.Matches([]plan.Arm{{Type: c.Key.Type, Where: where}}, c)
}

// granted makes the Grant of a scope string with everything switched on.
func granted(t testing.TB, scopes string, l Launch) (*search.Grant, []Refusal) {
	t.Helper()
	parsed, err := ParseScopes(scopes, Features{V2: true, Filters: true})
	if err != nil || len(parsed.Refused) > 0 {
		t.Fatalf("%s: %+v, %v", scopes, parsed.Refused, err)
	}
	return NewGrant(testWorld, parsed.Resources, l)
}

// twoWorlds are two patients with the same of everything, what they share, and
// what leads from one to the other.
func twoWorlds(t testing.TB) *resources {
	var list []string
	for _, who := range []string{"a", "b"} {
		fill := strings.NewReplacer("{}", who, "{doc}", map[string]string{"a": "doc", "b": "other"}[who])
		for _, json := range []string{
			`{"resourceType":"Patient","id":"{}","generalPractitioner":[{"reference":"Practitioner/{doc}"}],"active":true}`,
			`{"resourceType":"Observation","id":"lab-{}","status":"final","category":[{"coding":[{"system":"http://c","code":"laboratory"}]}],"code":{"text":"x"},"subject":{"reference":"Patient/{}"},"valueQuantity":{"value":5}}`,
			`{"resourceType":"Observation","id":"vital-{}","status":"preliminary","category":[{"coding":[{"system":"http://c","code":"vital-signs"}]}],"code":{"text":"x"},"subject":{"reference":"Patient/{}"}}`,
			`{"resourceType":"Condition","id":"c-{}","subject":{"reference":"Patient/{}"}}`,
			`{"resourceType":"Encounter","id":"e-{}","status":"finished","class":{"code":"A"},"subject":{"reference":"Patient/{}"}}`,
			`{"resourceType":"Coverage","id":"cov-{}","status":"active","beneficiary":{"reference":"Patient/{}"},"payor":[{"reference":"Organization/org"}]}`,
			`{"resourceType":"RelatedPerson","id":"rel-{}","patient":{"reference":"Patient/{}"}}`,
			`{"resourceType":"Appointment","id":"app-{}","status":"booked","participant":[{"actor":{"reference":"Patient/{}"},"status":"accepted"}]}`,
			`{"resourceType":"Device","id":"dev-{}","patient":{"reference":"Patient/{}"}}`,
			`{"resourceType":"Task","id":"task-{}","status":"draft","intent":"order","for":{"reference":"Patient/{}"}}`,
			`{"resourceType":"Binary","id":"bin-{}","contentType":"text/plain","securityContext":{"reference":"Patient/{}"},"data":"eA=="}`,
			`{"resourceType":"Basic","id":"basic-{}","code":{"text":"x"},"subject":{"reference":"Patient/{}"}}`,
		} {
			list = append(list, fill.Replace(json))
		}
	}
	return load(t, append(list,
		`{"resourceType":"Practitioner","id":"doc"}`, `{"resourceType":"Practitioner","id":"other"}`,
		`{"resourceType":"Organization","id":"org"}`, `{"resourceType":"Location","id":"loc"}`, `{"resourceType":"Medication","id":"med"}`,
		`{"resourceType":"PractitionerRole","id":"role","practitioner":{"reference":"Practitioner/doc"}}`,
		`{"resourceType":"Group","id":"both","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/a"}},{"entity":{"reference":"Patient/b"}}]}`,
		`{"resourceType":"ResearchStudy","id":"study","status":"active"}`,
		`{"resourceType":"Endpoint","id":"end","status":"active","address":"http://x","connectionType":{"code":"x"},"payloadType":[{"text":"x"}]}`,
		`{"resourceType":"Observation","id":"nobodys","status":"final","code":{"text":"x"}}`,
		`{"resourceType":"Observation","id":"elsewhere","status":"final","code":{"text":"x"},"subject":{"reference":"https://other.example/r4/Patient/a"}}`,
	)...)
}
