package suites

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Filters over HTTP, page by page, on candle's resources: the words of a filter
// survive the links.
func TestFilter(t *testing.T) {
	var file struct{ Setup []resource }
	read(t, "search-counts-candle.json", &file)
	d := newDatastore(t)
	for _, r := range file.Setup {
		d.load(t, r)
	}
	for filter, same := range map[string]string{
		`Patient?_filter=name co "ete"`:                                    `Patient?name:contains=ete`,
		`Patient?_filter=gender eq male or gender eq female`:               `Patient?gender=male,female`,
		`Patient?_filter=not (gender eq male)`:                             `Patient?gender:not=male`,
		`Patient?_filter=active pr false`:                                  `Patient?active:missing=true`,
		`Patient?_filter=birthdate ge 1982-01-23 and gender eq male`:       `Patient?birthdate=ge1982-01-23&gender=male`,
		`Observation?_filter=subject.name sw "pet"`:                        `Observation?subject.name=pet`,
		`Observation?_filter=subject[gender eq male].name sw "pet"`:        `Observation?subject.name=pet`,
		`Observation?_filter=code eq http://loinc.org|29463-7`:             `Observation?code=http://loinc.org|29463-7`,
		`Observation?_filter=value-quantity gt 100||lbs`:                   `Observation?value-quantity=gt100||lbs`,
		`Observation?_filter=subject re Patient/example&_sort=-date`:       `Observation?subject=Patient/example&_sort=-date`,
		`Observation?_filter=(_id eq 656) or not (subject pr true)`:        `Observation?_id=656`,
		`Patient?_has:Observation:patient:_filter=_id eq "blood-pressure"`: `Patient?_has:Observation:patient:_id=blood-pressure`,
	} {
		path, query, _ := strings.Cut(filter, "?")
		found := d.search(t, path, query+"&_count=1")
		path, query, _ = strings.Cut(same, "?")
		want := d.search(t, path, query+"&_count=1")
		if found.status != http.StatusOK || !slices.Equal(found.matches, want.matches) || found.total != len(found.matches) {
			t.Errorf("%s: status %d, found %v of %d, want %v %s", filter, found.status, found.matches, found.total, want.matches, found.outcome)
		}
		if len(want.matches) == 0 {
			t.Errorf("%s finds nothing", same)
		}
	}
	if found := d.search(t, "Patient", "_filter=name like x"); found.status != http.StatusBadRequest {
		t.Errorf("a wrong filter: status %d %s", found.status, found.outcome)
	}
}
