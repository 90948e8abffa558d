package iam

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/testpath"
)

// TestCatalogue holds the catalogue against the table of actions in the
// reference, area by area.
func TestCatalogue(t *testing.T) {
	text, err := os.ReadFile(testpath.Shared(t, "reference", "healthlake.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "### 6.1 IAM actions")
	if !found {
		t.Fatal("the reference has no section 6.1")
	}
	section, _, _ = strings.Cut(section, "Resources:")
	want := map[string]string{} // action: area in the reference
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.Contains(line, "unlisted") {
			continue
		}
		area := strings.TrimSpace(cells[1])
		list := strings.ReplaceAll(cells[2], "/WithPost", ", %WithPost")
		last := ""
		for _, name := range regexp.MustCompile(`[%A-Z][A-Za-z]{3,}`).FindAllString(list, -1) {
			if rest, ok := strings.CutPrefix(name, "%"); ok {
				name = strings.TrimSuffix(last, "WithGet") + rest
			}
			want[name], last = area, name
		}
	}
	areas := map[Area]string{AreaControl: "control", AreaFHIRRead: "FHIR read", AreaFHIRWrite: "FHIR write", AreaTransform: "DTA"}
	unlisted := map[string]bool{
		"GetHistoryByResourceType": true, "GetFullHistory": true, // HealthLake's, undocumented
		"DescribeDatastoreSettings": true, "UpdateDatastoreSettings": true, "ListJobs": true, "DescribeJob": true, "CancelJob": true, // this server's
		"CheckDatastore": true, "CompactDatastore": true, "BackupDatastore": true, "RotateDatastoreKey": true,
	}
	for _, a := range Actions() {
		name, ours := strings.CutPrefix(a.Name, "healthlake:")
		if !ours || unlisted[name] {
			continue
		}
		if got, ok := want[name]; !ok || !strings.HasPrefix(got, areas[a.Area]) {
			t.Errorf("%s (%s): the reference has it under %q", name, a.Area, got)
		}
		delete(want, name)
	}
	for name, area := range want {
		t.Errorf("%s (%s) is missing", name, area)
	}
}

func TestCatalogueNames(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range Actions() {
		if seen[foldText(a.Name)] {
			t.Errorf("%s is there twice", a.Name)
		}
		seen[foldText(a.Name)] = true
	}
	for own, other := range nearest {
		if seen[foldText(own)] || !seen[foldText(other)] {
			t.Errorf("%s stands for %s", own, other)
		}
	}
}

func TestManagedPolicies(t *testing.T) {
	policies, err := managedPolicies()
	if err != nil {
		t.Fatal(err)
	}
	reads := 0
	for _, a := range Actions() {
		resource := "*"
		if a.OnResource {
			resource = testStore
		}
		e := request(t, []string{a.Name, resource})
		full := evaluate([]*Document{policies[FullAccess]}, e).Outcome
		if ours := a.Area != AreaIdentity; (full == Allowed) != ours {
			t.Errorf("%s with full access: %v", a.Name, full)
		}
		if evaluate([]*Document{policies[ReadOnlyAccess]}, e).Outcome != Allowed {
			continue
		}
		if reads++; a.Level == LevelWrite || a.Level == LevelTagging {
			t.Errorf("read-only access allows %s (%s)", a.Name, a.Level)
		}
	}
	if reads != 14 {
		t.Errorf("read-only access allows %d actions, want the 14 of AWS", reads)
	}
	for name, d := range policies {
		if len(d.Warnings()) > 0 {
			t.Errorf("%s: %v", name, d.Warnings())
		}
	}
}
