package search_test

import (
	"slices"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Two patients' worlds; the grant shows the first one's only.
var twoWorlds = []string{
	`{"resourceType":"Organization","id":"open","name":"Open"}`,
	`{"resourceType":"Patient","id":"mine","name":[{"family":"Mine"}],"managingOrganization":{"reference":"Organization/open"}}`,
	`{"resourceType":"Patient","id":"theirs","name":[{"family":"Theirs"}],"managingOrganization":{"reference":"Organization/open"}}`,
	`{"resourceType":"Observation","id":"my-o","subject":{"reference":"Patient/mine"},"encounter":{"reference":"Encounter/my-e"},"code":{"coding":[{"code":"x"}]}}`,
	`{"resourceType":"Observation","id":"their-o","subject":{"reference":"Patient/theirs"},"encounter":{"reference":"Encounter/their-e"},"code":{"coding":[{"code":"x"}]}}`,
	// A resource of the first world that points into the second.
	`{"resourceType":"Observation","id":"crossing","subject":{"reference":"Patient/mine"},"encounter":{"reference":"Encounter/their-e"},"code":{"coding":[{"code":"y"}]}}`,
	`{"resourceType":"Encounter","id":"my-e","subject":{"reference":"Patient/mine"},"class":{"code":"A"}}`,
	`{"resourceType":"Encounter","id":"their-e","subject":{"reference":"Patient/theirs"},"class":{"code":"B"}}`,
	`{"resourceType":"Practitioner","id":"shut","name":[{"family":"Shut"}]}`,
	`{"resourceType":"Observation","id":"by-shut","subject":{"reference":"Patient/mine"},"performer":[{"reference":"Practitioner/shut"}]}`,
}

// mineOnly shows the compartment of Patient/mine, and organizations.
func mineOnly(t *testing.T) *search.Grant {
	t.Helper()
	patient, _ := r4.TypeByName("Patient")
	organization, _ := r4.TypeByName("Organization")
	mine := plan.Key{Type: patient, ID: "mine"}
	rules := map[plan.Type][]search.Rule{
		patient:      {{Access: search.AllAccess, Where: plan.IDs{IDs: []string{"mine"}}}},
		organization: {{Access: search.Read | search.Search}},
	}
	for _, name := range []string{"Observation", "Encounter"} {
		typ, _ := r4.TypeByName(name)
		rules[typ] = []search.Rule{{Access: search.Search, Where: search.InCompartment(registry, hashKey, mine, typ)}}
	}
	return search.NewGrant(rules)
}

// No hop of a query escapes the grant: what it does not show is neither found,
// nor found through, nor counted by its absence.
func TestNoHopEscapesTheGrant(t *testing.T) {
	w := newWorld()
	for _, json := range twoWorlds {
		w.load(t, json)
	}
	grant := mineOnly(t)
	cases := []struct {
		query         string
		all, narrowed []string
	}{
		{"Patient?", []string{"mine", "theirs"}, []string{"mine"}},
		{"Patient?_id=theirs", []string{"theirs"}, nil},
		{"Patient?_id:not=nobody", []string{"mine", "theirs"}, []string{"mine"}},
		{"Observation?code=x", []string{"my-o", "their-o"}, []string{"my-o"}},
		{"Observation?code:not=z", []string{"my-o", "their-o", "crossing", "by-shut"}, []string{"my-o", "crossing", "by-shut"}},
		{"Observation?subject.family=theirs", []string{"their-o"}, nil},
		{"Observation?encounter.class=B", []string{"their-o", "crossing"}, nil},
		{"Observation?encounter:Encounter.class=A", []string{"my-o"}, []string{"my-o"}},
		{"Observation?encounter.subject:Patient.family=theirs", []string{"their-o", "crossing"}, nil},
		{"Observation?performer:Practitioner.family=shut", []string{"by-shut"}, nil},
		{"Observation?performer.family:missing=false", []string{"by-shut"}, nil},
		{"Organization?_has:Patient:organization:family=theirs", []string{"open"}, nil},
		{"Organization?_has:Patient:organization:family=mine", []string{"open"}, []string{"open"}},
		{"Organization?_has:Patient:organization:_has:Observation:patient:code=x", []string{"open"}, []string{"open"}},
		{"Encounter?_has:Observation:encounter:code=y", []string{"their-e"}, nil},
		{"Patient?organization._has:Patient:organization:family=theirs", []string{"mine", "theirs"}, nil},
		{"Observation?_filter=encounter.class eq B or subject.family eq theirs", []string{"their-o", "crossing"}, nil},
		{"Observation?_filter=encounter[class eq B].class pr true", []string{"their-o", "crossing"}, nil},
		{"Observation?_filter=encounter.subject[family eq theirs].gender pr false and encounter.class eq B", []string{"their-o", "crossing"}, nil},
		// What is hidden is as if it were not there, also where that is asked for.
		{"Observation?_filter=not (encounter.class eq B)", []string{"my-o", "by-shut"}, []string{"my-o", "crossing", "by-shut"}},
		{"Observation?_filter=performer.name pr false", []string{"my-o", "their-o", "crossing"}, []string{"my-o", "crossing", "by-shut"}},
		{"Patient?_filter=organization pr true", []string{"mine", "theirs"}, []string{"mine"}},
		{"Organization?_has:Patient:organization:_filter=family eq theirs", []string{"open"}, nil},
		{"Practitioner?", []string{"shut"}, nil},
		{"?_id=shut,my-e,their-e", []string{"my-e", "their-e", "shut"}, []string{"my-e"}},
		{"Patient/theirs/Observation?", []string{"their-o"}, nil},
		{"Patient/theirs/*?", []string{"their-o", "their-e"}, nil},
		{"Encounter/their-e/Observation?", []string{"their-o", "crossing"}, []string{"crossing"}},
	}
	for _, c := range cases {
		for _, seen := range []struct {
			grant *search.Grant
			want  []string
		}{{search.Everything(), c.all}, {grant, c.narrowed}, {nil, nil}, {search.NewGrant(nil), nil}} {
			got, err := w.search(c.query, seen.grant)
			if err != nil || !slices.Equal(got, seen.want) {
				t.Errorf("%s: found %v (%v), want %v", c.query, got, err, seen.want)
			}
		}
	}
}

// An access that no rule gives is shut, also where another is open.
func TestGrantTellsAccessesApart(t *testing.T) {
	g := mineOnly(t)
	organization, _ := r4.TypeByName("Organization")
	observation, _ := r4.TypeByName("Observation")
	if _, ok := g.Where(organization, search.Update); ok {
		t.Error("organizations may be updated")
	}
	if where, ok := g.Where(organization, search.Read); !ok || where != nil {
		t.Errorf("organizations may be read under %v, %v", where, ok)
	}
	if _, ok := g.Where(observation, search.Read); ok {
		t.Error("observations may be read, though only search was given")
	}
	if arms := g.Arms([]plan.Type{organization, observation}, search.Read); len(arms) != 1 || arms[0].Type != organization {
		t.Errorf("arms %v", arms)
	}
	if !search.Everything().Unbounded() || g.Unbounded() {
		t.Error("Unbounded is wrong")
	}
}
