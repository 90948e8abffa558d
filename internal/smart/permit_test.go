package smart

import (
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

func authorization(t testing.TB, scopes string, l Launch) *Authorization {
	t.Helper()
	parsed, err := ParseScopes(scopes, Features{V2: true, Filters: true})
	if err != nil {
		t.Fatal(err)
	}
	return &Authorization{Claims: Claims{Scope: scopes}, Scopes: parsed, Launch: l}
}

// Which scopes are enough for which actions.
func TestPermit(t *testing.T) {
	a := Launch{Patient: "a"}
	tests := []struct {
		scopes string
		launch Launch
		asks   string // "Action:Type", those in parentheses are refused
	}{
		{"patient/Observation.rs", a, `ReadResource:Observation VersionReadResource:Observation SearchWithGet:Observation SearchWithPost:Observation
			GetHistoryByResourceId:Observation GetHistoryByResourceType:Observation SearchWithGet: GetFullHistory: ProcessBundle: GetCapabilities: Discovery:
			(ReadResource:Condition) (SearchWithGet:Condition) (CreateResource:Observation) (UpdateResource:Observation) (PatchResource:Observation)
			(DeleteResource:Observation) (ReadResource:Practitioner) (SearchEverything:Patient) (ReadResource:Transaction)`},
		{"patient/Observation.r", a, "ReadResource:Observation GetHistoryByResourceId:Observation (SearchWithGet:Observation) (SearchWithGet:) (GetHistoryByResourceType:Observation) (GetFullHistory:)"},
		{"patient/Observation.s", a, "SearchWithGet:Observation (ReadResource:Observation) (GetHistoryByResourceId:Observation) (GetHistoryByResourceType:Observation)"},
		{"patient/Observation.r patient/Observation.s", a, "GetHistoryByResourceType:Observation"},
		{"patient/Observation.c", a, "CreateResource:Observation ProcessBundle: (UpdateResource:Observation) (ReadResource:Observation)"},
		{"patient/Observation.rs?category=laboratory", a, "ReadResource:Observation SearchWithGet:Observation (StartFHIRExportJobWithGet:Patient)"},
		{"patient/Observation.rs?nonsense=1", a, "GetCapabilities: (ReadResource:Observation) (SearchWithGet:) (ProcessBundle:)"},
		{"patient/*.*", Launch{}, "(ReadResource:Patient) (ProcessBundle:) (SearchWithGet:) (DescribeFHIRExportJobWithGet:Transaction)"},
		{"patient/*.*", a, `SearchEverything:Patient ReadResource:Practitioner ReadResource:Transaction (CreateResource:Practitioner) (ReadResource:Group) (ReadResource:Task)
			(StartFHIRExportJobWithPost:) (StartFHIRExportJobWithGet:Patient) (GetExportedFile:) (MemberMatch:Patient) (StartFHIRBulkDeleteJob:Observation)`},
		{"user/*.cruds", a, `UpdateResource:Practitioner ReadResource:Group SubmitPreAuthClaim:Claim ExpandValueSetWithGet:ValueSet ReadResource:NoSuchType
			(StartFHIRExportJobWithPost:) (StartFHIRBulkPatchJob:) (MemberMatch:Patient)`},
		{"system/*.read", Launch{}, `StartFHIRExportJobWithPost: StartFHIRExportJobWithGet:Group DescribeFHIRExportJobWithGet: CancelFHIRExportJobWithDelete: GetExportedFile:
			MemberMatch:Patient RetrieveAttributionStatus:Group DescribeFHIRBulkDeleteJob: DescribeFHIRBulkPatchJob: SearchWithGet:Transaction
			(StartFHIRBulkDeleteJob:Patient) (StartFHIRBulkPatchJob:) (StartFHIRBulkMemberMatchJob:Group) (CreateResource:Patient) (MemberAdd:Group)`},
		{"system/Patient.rs?active=true", Launch{}, "ReadResource:Patient (StartFHIRExportJobWithPost:) (StartFHIRExportJobWithGet:Patient)"},
		{"system/Patient.cruds", Launch{}, "StartFHIRBulkDeleteJob:Patient StartFHIRBulkPatchJob: StartFHIRExportJobWithGet:Patient (StartFHIRBulkDeleteJob:Observation) (MemberMatch:Patient)"},
		{"system/Observation.ud", Launch{}, "StartFHIRBulkDeleteJob:Observation DescribeFHIRBulkDeleteJob:Observation (StartFHIRBulkPatchJob:Observation)"},
		{"system/Patient.read system/Coverage.read system/Group.write system/Consent.write", Launch{}, "MemberMatch:Patient StartFHIRBulkMemberMatchJob:Group"},
		{"user/ClaimResponse.s", Launch{}, "InquirePreAuthClaim:Claim (SubmitPreAuthClaim:Claim)"},
		{"user/Transaction.read", Launch{}, "ReadResource:Transaction (ReadResource:Patient)"},
		{"user/Transaction.s", Launch{}, "(ReadResource:Transaction)"},
		{"system/*.*", Launch{}, "UpdateResource:Group ReadResource:Transaction (NoSuchAction:Patient) (None:) (:)"},
		{"openid launch", a, "GetCapabilities: (ReadResource:Patient) (SearchWithGet:) (ProcessBundle:) (ValidateResource:Patient)"},
	}
	for _, tt := range tests {
		auth := authorization(t, tt.scopes, tt.launch)
		for _, ask := range strings.Fields(tt.asks) {
			inner, no := strings.CutPrefix(strings.TrimSuffix(ask, ")"), "(")
			action, typ, _ := strings.Cut(inner, ":")
			grant, err := auth.Permit(testWorld, action, typ)
			switch {
			case no && (!fault.Is(err, fault.Forbidden) || fault.From(err).Message() != "Insufficient SMART scope permissions."):
				t.Errorf("%s permits %s on %s: %v", tt.scopes, action, typ, err)
			case !no && (err != nil || grant == nil):
				t.Errorf("%s does not permit %s on %s: %v", tt.scopes, action, typ, err)
			}
		}
	}
}

// Bulk operations see what system/ scopes without filters show, and no more.
func TestBulkGrant(t *testing.T) {
	w := twoWorlds(t)
	auth := authorization(t, "system/Condition.read system/Observation.rs?category=laboratory patient/Encounter.read user/Coverage.read", Launch{Patient: "a"})
	if got := strings.Join(w.shown(auth.BulkGrant(testWorld), search.Read), " "); got != "Condition/c-a Condition/c-b" {
		t.Errorf("bulk shows %s", got)
	}
	permitted, err := auth.Permit(testWorld, "StartFHIRExportJobWithPost", "")
	if err != nil || strings.Join(w.shown(permitted, search.Read), " ") != "Condition/c-a Condition/c-b" {
		t.Errorf("an export is given another grant: %v", err)
	}
}

// Grants are kept, and no two that differ are taken for each other.
func TestGrantsAreKeptApart(t *testing.T) {
	w := twoWorlds(t)
	grants := newKept[grantKey, grantMade](MaxGrants)
	shown := func(scopes string, l Launch, f Features, base string) string {
		parsed, err := ParseScopes(scopes, f)
		if err != nil {
			t.Fatal(err)
		}
		auth := &Authorization{Claims: Claims{Scope: scopes}, Scopes: parsed, Launch: l, grants: grants}
		world := testWorld
		world.Base = base
		return strings.Join(w.shown(auth.Grant(world), search.Read), " ")
	}
	on := Features{V2: true, Filters: true}
	user := Launch{FineGrained: true, FHIRUser: testBase + "Patient/a"}
	for range 2 {
		for _, tt := range []struct {
			scopes string
			launch Launch
			form   Features
			base   string
			want   string
		}{
			{"patient/Condition.r", Launch{Patient: "a"}, on, testBase, "Condition/c-a"},
			{"patient/Condition.r", Launch{Patient: "b"}, on, testBase, "Condition/c-b"},
			{"patient/Condition.r", Launch{Patient: "b"}, Features{}, testBase, ""},
			{"user/Condition.r", user, on, testBase, "Condition/c-a"},
			{"user/Condition.r", user, on, "https://other.example/r4/", ""},
			{"user/Condition.r", Launch{FHIRUser: user.FHIRUser}, on, testBase, "Condition/c-a Condition/c-b"},
			{"patient/Observation.r?category=laboratory", Launch{Patient: "a"}, on, testBase, "Observation/lab-a"},
		} {
			if got := shown(tt.scopes, tt.launch, tt.form, tt.base); got != tt.want {
				t.Errorf("%s for %+v under %+v at %s shows %s, want %s", tt.scopes, tt.launch, tt.form, tt.base, got, tt.want)
			}
		}
	}
	if grants.len() != 6 {
		t.Errorf("%d grants are kept", grants.len())
	}
}

// A search under a grant finds what both allow; no chain leads out.
func TestSearchUnderGrant(t *testing.T) {
	w := twoWorlds(t)
	world := memory.NewWorld(testWorld.Key, w.all)
	tests := []struct {
		scopes, typ, query string
		want               []string
	}{
		{"patient/*.rs", "Observation", "status=final", []string{"lab-a"}},
		{"patient/*.rs", "Observation", "subject=Patient/b", nil},
		{"patient/*.rs", "Observation", "_id=lab-b", nil},
		{"patient/*.rs", "Observation", "_id:not=zzz", []string{"lab-a", "vital-a"}},
		{"patient/*.rs", "Observation", "subject:Patient._id=b", nil},
		{"patient/*.rs", "Patient", "active=true", []string{"a"}},
		{"patient/*.rs", "Patient", "_has:Observation:patient:status=final", []string{"a"}},
		{"patient/*.rs", "Organization", "_has:Coverage:payor:_id=cov-b", nil},
		{"patient/*.rs", "Organization", "_has:Coverage:payor:_id=cov-a", []string{"org"}},
		{"patient/*.rs", "Practitioner", "_has:Patient:general-practitioner:_id=b", nil},
		{"patient/Organization.rs", "Organization", "_has:Coverage:payor:status=active", nil}, // the scope shows no Coverage
		{"patient/Observation.rs?category=laboratory", "Observation", "status=final", []string{"lab-a"}},
		{"patient/Observation.rs?category=laboratory", "Observation", "status=preliminary", nil},
		{"patient/Observation.rs?category=laboratory patient/Patient.rs", "Patient", "_has:Observation:patient:status=preliminary", nil},
		{"patient/Observation.rs?category=laboratory patient/Patient.rs", "Patient", "_has:Observation:patient:status=final", []string{"a"}},
	}
	for _, tt := range tests {
		g, _ := granted(t, tt.scopes, Launch{Patient: "a"})
		typ, _ := registry.Type(tt.typ)
		pairs, err := search.ParsePairs(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := search.Parse(registry, []plan.Type{typ}, pairs, search.Options{Base: testBase})
		if err != nil {
			t.Fatal(err)
		}
		p, err := q.Compile(search.Env{Registry: registry, Key: testWorld.Key, Grant: g, Now: testWorld.Now})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range w.all {
			if world.Matches(p.Arms, c) {
				got = append(got, c.Key.ID)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s %s?%s finds %v, want %v", tt.scopes, tt.typ, tt.query, got, tt.want)
		}
	}
}

// Refused tells of both kinds of scopes that grant nothing.
func TestRefusedScopes(t *testing.T) {
	got := authorization(t, "patient/Observation.xyz user/NoSuch.read openid system/Patient.read", Launch{}).Refused(testWorld)
	if len(got) != 2 || got[0].Scope != "patient/Observation.xyz" || got[1].Scope != "user/NoSuch.read" {
		t.Errorf("refused %v", got)
	}
}
