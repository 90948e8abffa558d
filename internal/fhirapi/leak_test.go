package fhirapi_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/smart"
)

// The leak suite: two data stores, one with the records of patients a and b, one
// with those of a alone. Whatever an app with access to a asks, both answer
// alike, byte for byte: so nothing of b is shown, counted, sorted by or told by
// a status.

// shared is what no patient owns; recordOf is one patient's record. Every text of
// b's says SECRET.
const shared = `
Practitioner/p {"name":[{"family":"Doc"}]}
Practitioner/q {"name":[{"family":"Other"}]}
Organization/org {"name":"Clinic"}
Location/loc {"name":"Ward"}`

const recordOf = `
RelatedPerson/r-@ {"patient":{"reference":"Patient/@"},"name":[{"family":"#"}]}
Patient/@ {"active":true,"name":[{"family":"#"}],"identifier":[{"system":"urn:x","value":"#"}],"generalPractitioner":[{"reference":"Practitioner/%"}],"managingOrganization":{"reference":"Organization/org"},"link":[{"other":{"reference":"RelatedPerson/r-@"},"type":"seealso"}]}
Encounter/e-@ {"status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/@"},"location":[{"location":{"reference":"Location/loc"}}],"participant":[{"individual":{"reference":"Practitioner/p"}}]}
Observation/o-@ {"meta":{"tag":[{"code":"#"}],"profile":["http://x/#"]},"status":"final","category":[{"coding":[{"code":"vital-signs"}]}],"code":{"text":"#","coding":[{"code":"c-#"}]},"subject":{"reference":"Patient/@"},"encounter":{"reference":"Encounter/e-@"},"performer":[{"reference":"Practitioner/p"}],"valueQuantity":{"value":1,"unit":"#"}}
Observation/l-@ {"meta":{"tag":[{"code":"#"}]},"status":"final","category":[{"coding":[{"code":"laboratory"}]}],"code":{"text":"#"},"subject":{"reference":"Patient/@"},"hasMember":[{"reference":"Observation/o-@"}]}
Condition/c-@ {"code":{"text":"#"},"subject":{"reference":"Patient/@"},"recorder":{"reference":"Practitioner/p"},"evidence":[{"detail":[{"reference":"Observation/o-@"}]}]}
Composition/d-@ {"status":"final","type":{"text":"#"},"date":"2024","author":[{"reference":"Practitioner/p"}],"title":"#","subject":{"reference":"Patient/@"},"section":[{"title":"#","entry":[{"reference":"Observation/o-@"}]}]}
Binary/b-@ {"contentType":"text/plain","securityContext":{"reference":"Patient/@"},"data":"U0VDUkVU"}
DocumentReference/f-@ {"status":"current","description":"#","subject":{"reference":"Patient/@"},"content":[{"attachment":{"url":"Binary/b-@"}}]}
Device/v-@ {"patient":{"reference":"Patient/@"},"deviceName":[{"name":"#","type":"other"}]}
List/s-@ {"status":"current","mode":"working","title":"#","subject":{"reference":"Patient/@"},"entry":[{"item":{"reference":"Condition/c-@"}}]}
Task/t-@ {"status":"draft","intent":"order","description":"#","for":{"reference":"Patient/@"}}
Group/g-@ {"type":"person","actual":true,"name":"#","member":[{"entity":{"reference":"Patient/@"}}]}
Provenance/w-@ {"target":[{"reference":"Observation/o-@"}],"recorded":"2024-01-01T00:00:00Z","agent":[{"who":{"reference":"Patient/@"}}]}
Observation/gone-@ {"status":"final","code":{"text":"#"},"subject":{"reference":"Patient/@"}}`

// auditOf is an audit event about a patient, which gets its id by being created.
const auditOf = `{"resourceType":"AuditEvent","type":{"code":"rest"},"recorded":"2024-01-01T00:00:00Z","agent":[{"requestor":true,"who":{"reference":"Practitioner/p"}}],"source":{"observer":{"display":"#"}},"entity":[{"what":{"reference":"Patient/@"}},{"what":{"reference":"Observation/o-@"}}]}`

// ties are what of a's record points at b's: a's own words, which lead nowhere.
const ties = `
Provenance/tie {"target":[{"reference":"Observation/o-b"},{"reference":"Patient/a"}],"recorded":"2024-01-01T00:00:00Z","agent":[{"who":{"reference":"Patient/a"}}]}
List/tie {"status":"current","mode":"working","subject":{"reference":"Patient/a"},"entry":[{"item":{"reference":"Condition/c-b"}},{"item":{"reference":"Condition/c-a"}}]}
Composition/tie {"status":"final","type":{"text":"x"},"date":"2024","author":[{"reference":"Practitioner/p"}],"title":"x","subject":{"reference":"Patient/a"},"encounter":{"reference":"Encounter/e-b"},"section":[{"entry":[{"reference":"Observation/o-b"},{"reference":"Binary/b-b"},{"reference":"Device/v-b"}]}]}
DocumentReference/tie {"status":"current","subject":{"reference":"Patient/a"},"context":{"related":[{"reference":"Patient/b"}],"encounter":[{"reference":"Encounter/e-b"}]},"relatesTo":[{"code":"replaces","target":{"reference":"DocumentReference/f-b"}}],"content":[{"attachment":{"url":"Binary/b-b"}}]}
Observation/tie {"status":"final","code":{"text":"tie"},"subject":{"reference":"Patient/a"},"focus":[{"reference":"Patient/b"},{"reference":"Observation/o-b"}]}`

// puts reads lines of "Type/id {members}" as entries of a transaction.
func puts(lines string) []string {
	var entries []string
	for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
		where, members, _ := strings.Cut(line, " ")
		typ, id, _ := strings.Cut(where, "/")
		entries = append(entries, entryOf("PUT", where, `{"resourceType":"`+typ+`","id":"`+id+`",`+members[1:]))
	}
	return entries
}

// leaky is a store with a's record, and with b's where asked.
func leaky(t *testing.T, withB bool) *server { return leakyOn(t, inMemory(t, stopped), withB) }

func leakyOn(t *testing.T, s *server, withB bool) *server {
	t.Helper()
	s.exports = started{}
	ofA := strings.NewReplacer("@", "a", "#", "open", "%", "p").Replace(recordOf)
	ofB := strings.NewReplacer("@", "b", "#", "SECRET", "%", "q").Replace(recordOf)
	s.must(t, "POST", "/", bundleOf("transaction", puts(shared)...))
	if withB { // before and after a's, so that b's rows lie around them
		s.must(t, "POST", "/", bundleOf("transaction", puts(ofB)...))
	}
	s.must(t, "POST", "/", bundleOf("transaction", puts(ofA+ties)...))
	s.must(t, "DELETE", "/Observation/gone-a", "")
	if withB {
		s.must(t, "DELETE", "/Observation/gone-b", "")
		s.must(t, "PUT", "/Patient/b", `{"resourceType":"Patient","id":"b","name":[{"family":"SECRET"}],"generalPractitioner":[{"reference":"Practitioner/q"}]}`)
		s.must(t, "PUT", "/Observation/late-b", about("late-b", "b", "SECRET"))
		s.must(t, "POST", "/Observation", about("", "b", "SECRET"), "x-amz-fhir-idempotency-key: "+usedKey)
	}
	s.created(t, "AuditEvent", "x-a", strings.NewReplacer("@", "a", "#", "open").Replace(auditOf))
	if withB {
		s.created(t, "AuditEvent", "x-b", strings.NewReplacer("@", "b", "#", "SECRET").Replace(auditOf))
	}
	s.touched = nil
	return s
}

// created creates a resource under this id.
func (s *server) created(t *testing.T, typ, id, resource string) {
	t.Helper()
	session := *s.session()
	session.NewID = func() (string, error) { return id, nil }
	if _, err := session.Create(t.Context(), interaction.CreateRequest{Type: typ, Body: []byte(resource)}); err != nil {
		t.Fatal(err)
	}
}

// usedKey is an idempotency key that somebody else created something of b's with.
const usedKey = "6f1ad3f4-3d06-4c4d-93b7-aa4d4a4e5ef1"

// started takes every export that a session lets start.
type started struct{ interaction.Exports }

func (started) Start(context.Context, interaction.ExportAsk) (string, error) {
	return "0123456789abcdef0123456789abcdef", nil
}

// tokens are the forms of scopes an app with access to a may hold.
var tokens = []struct {
	name, scope string
	form        smart.Features
	launch      smart.Launch
}{
	{"V1 read", "patient/*.read", smart.Features{}, smart.Launch{Patient: "a"}},
	{"V1 all", "patient/*.*", smart.Features{}, smart.Launch{Patient: "a"}},
	{"V1 types", "patient/Observation.* patient/Patient.read", smart.Features{}, smart.Launch{Patient: "a"}},
	{"V1 write", "patient/*.write", smart.Features{}, smart.Launch{Patient: "a"}},
	{"V2 all", "patient/*.cruds", smart.Features{V2: true}, smart.Launch{Patient: "a"}},
	{"V2 search alone", "patient/*.s", smart.Features{V2: true}, smart.Launch{Patient: "a"}},
	{"V2 read alone", "patient/*.r", smart.Features{V2: true}, smart.Launch{Patient: "a"}},
	{"V2 create and search", "patient/Observation.cs patient/Organization.rs", smart.Features{V2: true}, smart.Launch{Patient: "a"}},
	{"V2.2 filter", "patient/Observation.cruds?category=vital-signs patient/Patient.rs", smart.Features{V2: true, Filters: true}, smart.Launch{Patient: "a"}},
	{"V2.2 system filter", "system/Observation.cruds?_tag=open system/Organization.rs", smart.Features{V2: true, Filters: true}, smart.Launch{}},
	{"system, no patients", "system/Organization.* system/Practitioner.*", smart.Features{}, smart.Launch{}},
	{"practitioner", "user/*.cruds", smart.Features{V2: true}, smart.Launch{FHIRUser: "Practitioner/p", FineGrained: true}},
	{"patient as user", "user/*.*", smart.Features{}, smart.Launch{FHIRUser: "Patient/a", FineGrained: true}},
	{"related person", "user/*.*", smart.Features{}, smart.Launch{FHIRUser: "RelatedPerson/r-a", FineGrained: true}},
	{"two contexts", "patient/Observation.rs user/Patient.rs", smart.Features{V2: true}, smart.Launch{Patient: "a", FHIRUser: "Practitioner/p", FineGrained: true}},
	{"nothing", "launch/patient openid", smart.Features{V2: true}, smart.Launch{Patient: "a"}},
}

// ask is a request of the suite.
type ask struct{ method, target, body, header string }

func (a ask) String() string {
	return strings.TrimSpace(a.method + " " + a.target + " " + a.header + " " + a.body)
}

func (a ask) changes() bool {
	return a.method != http.MethodGet && !strings.Contains(a.target, "_search") || strings.Contains(a.target, "$")
}

// sample paths of a route's shape: of a's, of b's, and of nobody's.
var (
	leakTypes = []string{"AuditEvent", "DocumentReference", "Patient", "Observation", "Encounter", "Condition", "Composition", "Binary", "Device", "Group", "Task", "Provenance", "RelatedPerson", "Organization", "List"}
	leakIDs   = map[string]string{
		"AuditEvent": "x-b", "DocumentReference": "f-b",
		"Patient": "b", "Observation": "o-b", "Encounter": "e-b", "Condition": "c-b", "Composition": "d-b", "Binary": "b-b", "Device": "v-b",
		"Group": "g-b", "Task": "t-b", "Provenance": "w-b", "RelatedPerson": "r-b", "Organization": "org", "List": "s-b",
	}
)

// bodyFor is a body that a route takes.
func bodyFor(method, typ, id string) string {
	switch {
	case method == "PATCH":
		return `[{"op":"add","path":"/language","value":"en"}]`
	case method != "POST" && method != "PUT":
		return ""
	case id != "":
		return `{"resourceType":"` + typ + `","id":"` + id + `","subject":{"reference":"Patient/a"}}`
	}
	return `{"resourceType":"` + typ + `","subject":{"reference":"Patient/a"}}`
}

// generated are requests over every route, at every type, about b's resources.
func generated() []ask {
	var asks []ask
	for _, route := range fhirapi.Routes() {
		method, shape, _ := strings.Cut(route, " ")
		if !strings.Contains(shape, "T/") && shape != "T" {
			asks = append(asks, ask{method, "/" + strings.Replace(shape, "I", "0b7c0b7c-0b7c-4b7c-8b7c-0b7c0b7c0b7c", 1), "", ""})
			continue
		}
		for _, typ := range leakTypes {
			asks = append(asks, aboutType(method, shape, typ)...)
		}
	}
	for _, o := range interaction.Operations() {
		asks = append(asks, aboutOperation(o)...)
	}
	return asks
}

func aboutType(method, shape, typ string) []ask {
	parts := strings.Split(shape, "/")
	if parts[0] == "T" {
		parts[0] = typ
	}
	id := ""
	for i, p := range parts {
		switch p {
		case "I":
			id = leakIDs[typ]
			parts[i] = id
		case "V":
			parts[i] = "1"
		case "T":
			parts[i] = "Observation"
		}
	}
	target := "/" + strings.Join(parts, "/")
	if strings.HasSuffix(shape, "_search") {
		return []ask{{method, target, "", ""}}
	}
	a := ask{method, target, bodyFor(method, typ, id), ""}
	if shape == "T" && method != "GET" && method != "POST" { // by criteria
		a.target += "?_id=" + leakIDs[typ]
	}
	asks := []ask{a}
	if id != "" && (method == "PUT" || method == "DELETE" || method == "PATCH") {
		for _, header := range []string{`If-Match: W/"1"`, `If-Match: W/"2"`, `If-Match: W/"7"`} {
			asks = append(asks, ask{method, a.target, a.body, header})
		}
	}
	return asks
}

func aboutOperation(o interaction.Operation) []ask {
	types := o.Types
	if types == nil {
		types = leakTypes
	}
	var targets []string
	for _, typ := range types {
		if o.Levels&interaction.OnInstance != 0 {
			targets = append(targets, "/"+typ+"/"+leakIDs[typ]+"/"+o.Name)
		}
		if o.Levels&interaction.OnType != 0 {
			targets = append(targets, "/"+typ+"/"+o.Name)
		}
	}
	if o.Levels&interaction.OnSystem != 0 {
		targets = append(targets, "/"+o.Name)
	}
	var asks []ask
	for _, target := range targets {
		for _, body := range []string{"", `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"code":"x"}]}}]}`} {
			asks = append(asks, ask{"POST", target, body, ""})
		}
		if !o.Changes {
			asks = append(asks, ask{"GET", target, "", ""})
		}
	}
	return asks
}

// special are requests beyond what the routes generate: the ways by which one
// record could tell of another. Each operation must stand here or among those
// that have nothing to tell beyond the generated.
var special = []ask{
	{"GET", "/Patient?_summary=count", "", ""}, {"GET", "/Patient?_count=0", "", ""}, {"GET", "/Patient?family=SECRET", "", ""},
	{"GET", "/Patient?_sort=family", "", ""}, {"GET", "/Patient?_sort=-_lastUpdated&_count=1", "", ""}, {"GET", "/Patient?_id=a,b", "", ""},
	{"GET", "/Patient?_id:not=a", "", ""}, {"GET", "/Patient?identifier:missing=false", "", ""}, {"GET", "/Patient?_filter=family+eq+SECRET", "", ""},
	{"GET", "/Observation?_sort=code&_count=1", "", ""}, {"GET", "/Observation?_total=accurate&_count=1", "", ""}, {"GET", "/Observation?_total=estimate", "", ""},
	{"GET", "/Observation?subject=Patient/b", "", ""}, {"GET", "/Observation?subject.family=SECRET", "", ""}, {"GET", "/Observation?focus.family=SECRET", "", ""},
	{"GET", "/Observation?focus:Patient.family:missing=false", "", ""}, {"GET", "/Observation?focus:Patient._has:Observation:subject:code=c-SECRET", "", ""},
	{"GET", "/Observation?focus:Patient.identifier=SECRET", "", ""}, {"GET", "/Observation?focus:Patient._id=b", "", ""}, {"GET", "/Observation?focus:Observation.status=final", "", ""},
	{"GET", "/Observation?_tag=SECRET", "", ""}, {"GET", "/Observation?_text=SECRET", "", ""}, {"GET", "/Observation?_list=s-b", "", ""}, {"GET", "/Condition?_list=s-b", "", ""},
	{"GET", "/Observation?_include=*&_include:iterate=*", "", ""}, {"GET", "/Observation?_include=Observation:focus", "", ""}, {"GET", "/Observation?_include:iterate=Observation:subject&_include=Observation:focus", "", ""},
	{"GET", "/Observation?_revinclude=Provenance:target", "", ""}, {"GET", "/Practitioner?_revinclude=*", "", ""}, {"GET", "/Practitioner?_revinclude=Patient:general-practitioner", "", ""},
	{"GET", "/Organization?_revinclude=Patient:organization&_revinclude:iterate=Observation:subject", "", ""}, {"GET", "/Organization?_has:Patient:organization:family=SECRET", "", ""},
	{"GET", "/Organization?_has:Patient:organization:_has:Observation:subject:code=c-SECRET", "", ""}, {"GET", "/Practitioner?_has:Observation:performer:_tag=SECRET", "", ""},
	{"GET", "/Practitioner?_has:Patient:general-practitioner:_id=b", "", ""}, {"GET", "/Location?_has:Encounter:location:_id=e-b", "", ""}, {"GET", "/Location?_revinclude=Encounter:location", "", ""},
	{"GET", "/?_type=Patient,Observation,Condition", "", ""}, {"GET", "/?_id=b", "", ""}, {"GET", "/?_lastUpdated=gt2020&_summary=count", "", ""}, {"GET", "/?_tag=SECRET", "", ""},
	{"GET", "/Observation?_explain=true&subject.family=SECRET", "", ""}, {"GET", "/Observation?_explain=true&status=final&_sort=-date&_count=1", "", ""}, {"GET", "/?_explain=true&_id=b", "", ""},
	{"GET", "/Patient/a/Observation?_explain=true&status=final", "", ""}, {"GET", "/Organization?_explain=true&_has:Patient:organization:family=SECRET", "", ""},
	{"GET", "/_history?_count=3", "", ""}, {"GET", "/_history?_since=2020", "", ""}, {"GET", "/_history?_sort=_lastUpdated", "", ""}, {"GET", "/Observation/_history?_at=2026", "", ""}, {"GET", "/Patient/_history?_count=0", "", ""},
	{"GET", "/Patient/b/_history/2", "", ""}, {"GET", "/Patient/b/_history/9", "", ""}, {"GET", "/Observation/gone-b", "", ""}, {"GET", "/Observation/gone-b/_history", "", ""}, {"GET", "/Observation/gone-b/_history/1", "", ""},
	{"HEAD", "/Patient/b", "", ""}, {"GET", "/Patient/b", "", `If-None-Match: W/"2"`}, {"GET", "/Patient/b", "", "If-Modified-Since: Fri, 01 Jan 2027 00:00:00 GMT"}, {"GET", "/Patient/b?_summary=true", "", ""},
	{"GET", "/Practitioner/p/Observation", "", ""}, {"GET", "/Practitioner/p/*", "", ""}, {"GET", "/Encounter/e-b/Observation", "", ""}, {"GET", "/Device/v-b/Observation", "", ""}, {"GET", "/Patient/a/*?_summary=count", "", ""},
	{"GET", "/Patient/a/$everything?_count=1", "", ""}, {"GET", "/Patient/a/$everything", "", ""}, {"GET", "/Encounter/e-a/$everything", "", ""}, {"GET", "/Group/g-a/$everything", "", ""}, {"GET", "/Composition/d-a/$document", "", ""},
	{"GET", "/Patient/a", "", ""}, {"GET", "/Patient/a/_history", "", ""}, {"GET", "/Binary/b-a", "", ""}, {"GET", "/Binary/b-b", "", "Accept: text/plain"},
	{"POST", "/Observation", about("", "a", "x"), "If-None-Exist: code=c-SECRET"}, {"POST", "/Observation", about("", "b", "x"), ""}, {"POST", "/Observation", about("", "a", "x"), "If-None-Exist: subject.family=SECRET"},
	{"POST", "/Patient", `{"resourceType":"Patient"}`, "If-None-Exist: identifier=SECRET"}, {"POST", "/Organization", `{"resourceType":"Organization"}`, "If-None-Exist: _has:Patient:organization:family=SECRET"},
	{"PUT", "/Observation?code=c-SECRET", about("", "a", "x"), ""}, {"PUT", "/Observation?code=c-SECRET", about("o-b", "a", "x"), ""}, {"PUT", "/Observation/o-b", about("o-b", "a", "x"), "If-None-Match: *"},
	{"PUT", "/Observation/o-a", about("o-a", "b", "x"), ""}, {"PUT", "/Observation/gone-b", about("gone-b", "a", "x"), ""}, {"PUT", "/Observation/o-a", about("o-a", "a", "x"), `If-Match: W/"1"`},
	{"PATCH", "/Observation/o-a", `[{"op":"replace","path":"/subject/reference","value":"Patient/b"}]`, ""}, {"PATCH", "/Observation?code=c-SECRET", `[]`, ""}, {"PATCH", "/Observation/o-b", `[{"op":"test","path":"/code/text","value":"SECRET"}]`, ""},
	{"DELETE", "/Observation?code=c-SECRET", "", ""}, {"DELETE", "/Observation/gone-b", "", ""}, {"DELETE", "/Observation?_id=gone-b&_tag=x", "", ""}, {"DELETE", "/Patient/b", "", `If-Match: W/"2"`},
	{"POST", "/Observation/_search?subject=Patient/b", "", ""}, {"POST", "/Patient/b/Observation/_search", "", ""},
	{"POST", "/Observation/o-b/$validate?mode=delete", "", ""}, {"POST", "/Observation/o-a/$validate?mode=delete", "", ""}, {"POST", "/Observation/$validate", about("o-b", "b", "x"), ""}, {"POST", "/$convert", about("o-b", "b", "x"), ""},
	{"GET", "/$meta", "", ""}, {"GET", "/Observation/$meta", "", ""}, {"GET", "/Observation/o-a/$meta", "", ""},
	{"POST", "/", everyRead, ""}, {"POST", "/", everyWrite, ""}, {"POST", "/", everyWrite, "Prefer: return=representation"},
	{"POST", "/", bundleOf("transaction", entryOf("POST", "Observation", conditionalReference)), ""}, {"POST", "/", bundleOf("transaction", entryOf("GET", "Patient/b", "")), ""},
	{"POST", "/", bundleOf("transaction", entryOf("GET", "Observation?_tag=SECRET", ""), entryOf("GET", "_history", "")), ""}, {"POST", "/", bundleOf("transaction", entryOf("DELETE", "Observation/o-b", "")), ""},
	{"POST", "/", bundleOf("transaction", entryOf("PUT", "Observation/o-b", about("o-b", "a", "x"))), ""}, {"POST", "/", bundleOf("transaction", entryOf("PUT", "Observation?code=c-SECRET", about("o-b", "a", "x"))), ""},
	{"POST", "/", bundleOf("transaction", entryOf("DELETE", "Observation?code=c-SECRET", ""), entryOf("PUT", "Observation/o-a", about("o-a", "a", "x"))), ""},
	{"POST", "/", bundleOf("transaction", `{"request":{"method":"POST","url":"Observation","ifNoneExist":"code=c-SECRET"},"resource":`+about("", "a", "x")+`}`), ""},
	{"POST", "/", bundleOf("transaction", entryOf("PUT", "Observation/o-a", about("o-a", "a", "x")), entryOf("POST", "Observation", about("", "b", "x"))), ""},
	{"POST", "/", bundleOf("transaction", entryOf("GET", "Patient/b", "")), "Prefer: respond-async"},
	{"GET", "/$export?_type=Observation", "", "Prefer: respond-async"}, {"GET", "/Patient/$export", "", "Prefer: respond-async"}, {"GET", "/Group/g-b/$export", "", "Prefer: respond-async"},
	{"GET", "/Patient/$export?patient=Patient/b", "", "Prefer: respond-async"}, {"GET", "/$export?_typeFilter=Observation%3Fcode%3Dc-SECRET", "", "Prefer: respond-async"},
	{"POST", "/Observation/o-b/$erase", "", ""}, {"POST", "/Patient/b/$purge", "", ""}, {"POST", "/Observation/$bulk-delete", "", ""}, {"POST", "/$bulk-patch", "", ""},
	{"GET", "/$export", "", ""}, {"GET", "/Patient/$export?patient=Patient/b", "", ""}, {"GET", "/Group/g-b/$export", "", ""}, {"GET", "/$export?_type=Observation&_typeFilter=Observation?subject.family=SECRET", "", ""},
	// By a Binary's context, an audit event's patient, what a's own words point to.
	{"GET", "/Binary?security-context=Patient/b", "", ""}, {"GET", "/Binary?security-context:Patient.family=SECRET", "", ""}, {"GET", "/Binary?_summary=count", "", ""},
	{"GET", "/Binary?_include=Binary:security-context", "", ""}, {"GET", "/Patient?_revinclude=Binary:security-context", "", ""}, {"GET", "/Patient?_has:Binary:security-context:_id=b-b", "", ""},
	{"GET", "/Binary/b-b/_history/1", "", "Accept: text/plain"}, {"GET", "/Binary/b-a", "", "Accept: text/plain"}, {"POST", "/Binary", "x", "Content-Type: text/plain"},
	{"GET", "/AuditEvent?patient=Patient/b", "", ""}, {"GET", "/AuditEvent?entity=Observation/o-b", "", ""}, {"GET", "/AuditEvent?agent=Practitioner/p", "", ""}, {"GET", "/Practitioner?_has:AuditEvent:agent:entity=Patient/b", "", ""},
	{"GET", "/Provenance?target=Observation/o-b", "", ""}, {"GET", "/Provenance?_include=Provenance:target&_include:iterate=Observation:subject", "", ""}, {"GET", "/Provenance?target:Observation.code=c-SECRET", "", ""}, {"GET", "/Provenance?target:Patient.family=SECRET", "", ""},
	{"GET", "/List?item:Condition.code:text=SECRET", "", ""}, {"GET", "/List?_include=List:item", "", ""}, {"GET", "/Condition?_list=tie", "", ""}, {"GET", "/Condition?_has:List:item:_id=tie", "", ""},
	{"GET", "/Composition/tie/$document", "", ""}, {"POST", "/Composition/tie/$document?persist=true", "", ""}, {"GET", "/Composition?entry:Observation.code=c-SECRET", "", ""}, {"GET", "/Composition?_include=*", "", ""},
	{"GET", "/DocumentReference?related:Patient.family=SECRET", "", ""}, {"GET", "/DocumentReference?relatesto:DocumentReference.description:missing=false", "", ""}, {"GET", "/DocumentReference?_include=DocumentReference:relatesto&_include=DocumentReference:related", "", ""},
	// Chains through types that everybody reads, reverse chains back, and filters.
	{"GET", "/Encounter?participant:Practitioner._has:Patient:general-practitioner:family=SECRET", "", ""}, {"GET", "/Patient?general-practitioner:Practitioner._has:Observation:performer:code=c-SECRET", "", ""},
	{"GET", "/Patient?organization._has:Patient:organization:_id=b", "", ""}, {"GET", "/Observation?performer:Practitioner._has:Encounter:participant:_id=e-b", "", ""}, {"GET", "/Encounter?location._has:Encounter:location:_id=e-b", "", ""},
	{"GET", "/Observation?_filter=focus.family+eq+SECRET", "", ""}, {"GET", "/Observation?_filter=subject+re+Patient/b", "", ""}, {"GET", "/Observation?_filter=not(code+eq+c-open)", "", ""}, {"GET", "/Patient?_filter=_id+ne+a", "", ""},
	{"GET", "/Observation?code:not=c-open", "", ""}, {"GET", "/Observation?code-value-quantity=c-SECRET$1", "", ""}, {"GET", "/Observation?value-quantity=1&_sort=-value-quantity", "", ""}, {"GET", "/Observation?_sort=focus,-_id&_count=1", "", ""}, {"GET", "/Patient?_sort=general-practitioner&_count=1", "", ""},
	{"GET", "/RelatedPerson?patient.family=SECRET", "", ""}, {"GET", "/Device?patient.identifier=SECRET", "", ""}, {"GET", "/Patient?link:RelatedPerson.name=SECRET", "", ""}, {"GET", "/Patient?link=RelatedPerson/r-b", "", ""}, {"GET", "/Task?patient=Patient/b", "", ""}, {"GET", "/Group?member=Patient/b", "", ""}, {"GET", "/Patient?_has:Group:member:_id=g-b", "", ""},
	{"GET", "/Practitioner?_revinclude=Observation:performer&_revinclude:iterate=Provenance:target&_include:iterate=Provenance:agent", "", ""}, {"GET", "/Organization?_revinclude=*&_revinclude:iterate=*&_include:iterate=*", "", ""},
	{"GET", "/Observation?nonsense=SECRET", "", "Prefer: handling=lenient"}, {"GET", "/Observation?createdAt=gt2020", "", ""}, {"GET", "/Patient?_lastUpdated=gt2020&_total=accurate&_count=0", "", ""}, {"GET", "/?_type=Patient&_sort=_lastUpdated&_count=1", "", ""},
	// What was, by time.
	{"GET", "/_history?_at=2026", "", ""}, {"GET", "/_history?_sort=_lastUpdated&_count=1", "", ""}, {"GET", "/Patient/b/_history?_since=2020", "", ""}, {"GET", "/Observation/o-b/_history?_at=2026", "", ""}, {"GET", "/Observation/_history?_since=2027", "", ""},
	// Somebody else's idempotency key, once and again.
	{"POST", "/Observation", about("", "a", "x"), "x-amz-fhir-idempotency-key: " + usedKey},
	{"POST", "/Observation", about("", "a", "x"), "If-None-Exist: _has:Provenance:target:_id=w-b"}, {"POST", "/Observation", about("", "a", "x"), "If-None-Exist: focus:Patient.family=SECRET"}, {"POST", "/Observation", about("", "a", "x"), "If-None-Exist: _id=o-b"},
	{"PATCH", "/Observation?_id=o-b", `[{"op":"test","path":"/code/text","value":"x"}]`, ""}, {"DELETE", "/Observation?subject:Patient.family=SECRET", "", ""}, {"DELETE", "/Observation?focus:Patient.family=SECRET", "", ""}, {"PUT", "/Patient?identifier=SECRET", `{"resourceType":"Patient"}`, ""}, {"PUT", "/Patient?_id=b", `{"resourceType":"Patient","id":"b"}`, ""},
	{"PUT", "/Observation/o-b", about("o-b", "a", "x"), "If-Match: *"}, {"DELETE", "/Observation/o-b", "", "If-Match: *"}, {"PUT", "/Observation/new", about("new", "a", "x"), "If-Match: W/\"1\""}, {"PUT", "/Observation/new", about("new", "a", "x"), "If-None-Match: *"},
	{"POST", "/Observation/$validate", conditionalReference, ""}, {"POST", "/Observation/o-b/$validate?mode=update", about("o-b", "a", "x"), ""}, {"POST", "/Observation/$validate?mode=create", about("", "b", "x"), ""},
	{"POST", "/", bundleOf("transaction", entryOf("DELETE", "Patient?identifier=SECRET", "")), ""}, {"POST", "/", bundleOf("transaction", entryOf("PATCH", "Observation?code=c-SECRET", `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W10="}`)), ""},
	{"POST", "/", bundleOf("transaction", entryOf("POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/a"},"focus":[{"reference":"Observation?focus:Patient.family=SECRET"}]}`)), ""},
	{"POST", "/", bundleOf("batch", entryOf("GET", "Patient/a/$everything", ""), entryOf("GET", "Composition/tie/$document", ""), entryOf("GET", "Binary/b-b", ""), entryOf("GET", "Provenance?_include=*", ""), entryOf("GET", "Patient/b/$meta", "")), ""},
	{"POST", "/Composition/d-b/$document?persist=true", "", ""}, {"POST", "/Composition/d-a/$document?persist=true", "", ""},
}

const conditionalReference = `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/a"},"focus":[{"reference":"Patient?identifier=SECRET"}]}`

// everyRead and everyWrite are batches with an entry of each kind, about b. The
// entries of a batch are carried out side by side, so that reads of the whole
// store have no place beside writes.
var (
	everyRead = bundleOf("batch", entryOf("GET", "Patient/b", ""), entryOf("GET", "Patient/b/_history", ""), entryOf("GET", "Patient/b/_history/1", ""),
		entryOf("GET", "Observation?subject=Patient/b", ""), entryOf("GET", "Patient/b/Observation", ""), entryOf("GET", "Patient/b/$everything", ""),
		entryOf("GET", "Practitioner?_revinclude=*", ""), entryOf("GET", "_history", ""), entryOf("GET", "Observation/_history", ""), entryOf("HEAD", "Patient/b", ""))
	everyWrite = bundleOf("batch", entryOf("POST", "Observation", about("", "b", "x")),
		entryOf("PUT", "Condition/c-b", `{"resourceType":"Condition","id":"c-b","subject":{"reference":"Patient/a"}}`),
		entryOf("PUT", "Observation?code=c-SECRET", about("", "a", "x")), entryOf("DELETE", "Encounter/e-b", ""), entryOf("DELETE", "List?title=SECRET", ""),
		entryOf("PATCH", "Observation/l-b", `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W10="}`))
)

// examined are the operations whose ways to tell were thought about: those of
// special, and those that the generated requests exhaust.
var examined = []string{"$everything", "$document", "$validate", "$convert", "$meta", "$meta-add", "$meta-delete", "$bulk-delete", "$erase", "$purge", "$bulk-patch", "$export", "$import"}

// Every route and operation has its requests in the suite.
func TestLeakSuiteIsWhole(t *testing.T) {
	asked := map[string]bool{}
	for _, a := range slices.Concat(generated(), special) {
		path, _, _ := strings.Cut(a.target, "?")
		asked[fhirapi.RouteOf(a.method, path)] = true
	}
	for _, route := range fhirapi.Routes() {
		if !asked[route] {
			t.Errorf("no request of the leak suite is %s: add one that asks for another's data", route)
		}
	}
	for _, o := range interaction.Operations() {
		if !slices.Contains(examined, o.Name) {
			t.Errorf("%s is new: think how it could tell of another patient's record, add requests to special, and its name to examined", o.Name)
		}
	}
}

// authorized asks as an app with a token does: the gate of its action first,
// then under its grant.
func (s *server) authorized(t *testing.T, auth *smart.Authorization, a ask) string {
	t.Helper()
	path, _, _ := strings.Cut(a.target, "?")
	action, typ := fhirapi.Target(a.method, path)
	grant, err := auth.Permit(smart.World{Registry: registry, Key: s.store.HashKey(), Base: base, Now: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)}, action, typ)
	if err != nil {
		return "refused at the gate: " + fault.From(err).Message()
	}
	s.grant, s.owner, s.check = grant, "the app", false
	defer func() { s.grant, s.owner = search.Everything(), "" }()
	var headers []string
	if a.header != "" {
		headers = append(headers, a.header)
	}
	if strings.HasSuffix(path, "_search") {
		headers = append(headers, "Content-Type: application/x-www-form-urlencoded")
	}
	var answers strings.Builder
	for page := 0; page < 40; page++ {
		got := s.do(t, a.method, a.target, a.body, headers...)
		fmt.Fprintf(&answers, "%d\n", got.status)
		got.header.Write(minting{&answers})
		answers.WriteString(minted.ReplaceAllString(sealed.ReplaceAllString(string(got.body), "page=…"), "…") + "\n")
		next := got.link("next")
		if next == "" {
			break
		}
		a = ask{"GET", next, "", ""}
	}
	return answers.String()
}

func TestNothingLeaks(t *testing.T) {
	asks := slices.Concat(generated(), special)
	for _, token := range tokens {
		t.Run(token.name, func(t *testing.T) {
			scopes, err := smart.ParseScopes(token.scope, token.form)
			if err != nil {
				t.Fatal(err)
			}
			auth := &smart.Authorization{Claims: smart.Claims{Scope: token.scope}, Scopes: scopes, Launch: token.launch}
			var both, alone *server
			answered := 0
			for _, a := range asks {
				if both == nil {
					both, alone = leaky(t, true), leaky(t, false)
				}
				got, want := both.authorized(t, auth, a), alone.authorized(t, auth, a)
				if got != want {
					t.Errorf("%s\nwith b: %s\nwithout: %s", a, shorter(got), shorter(want))
				}
				if strings.HasPrefix(want, "2") {
					answered++
				}
				for _, touched := range both.touched {
					if touched.ID == "b" || strings.HasSuffix(touched.ID, "-b") {
						t.Errorf("%s touches %v", a, touched)
					}
				}
				both.touched = nil
				if a.changes() && !strings.HasPrefix(want, "refused") && !strings.HasPrefix(want, "4") || got != want {
					keptOf(t, both)
					both = nil
				}
			}
			if token.name != "nothing" && answered == 0 {
				t.Error("nothing was answered at all")
			}
		})
	}
}

// The embedded engine hides as much as the plain one, from every question that
// changes nothing. It keeps in memory what it finds for questions that are asked often,
// so somebody who may see everything asks all of them before, and the apps again.
func TestNothingLeaksFromDisk(t *testing.T) {
	both, alone := leakyOn(t, embedded(t, stopped), true), leakyOn(t, embedded(t, stopped), false)
	for range often {
		for _, a := range slices.Concat(generated(), special) {
			if !a.changes() {
				both.do(t, a.method, a.target, a.body)
			}
		}
	}
	for _, token := range tokens {
		scopes, err := smart.ParseScopes(token.scope, token.form)
		if err != nil {
			t.Fatal(err)
		}
		auth := &smart.Authorization{Claims: smart.Claims{Scope: token.scope}, Scopes: scopes, Launch: token.launch}
		for _, a := range slices.Concat(generated(), special) {
			if a.changes() {
				continue
			}
			want := alone.authorized(t, auth, a)
			for range often {
				if got := both.authorized(t, auth, a); got != want {
					t.Errorf("%s: %s\nwith b: %s\nwithout: %s", token.name, a, shorter(got), shorter(want))
				}
			}
		}
	}
}

// often is how often a question is asked before the engine keeps something for it, and
// once more.
const often = 4

// A page link that somebody with access to everything was given shows to an app
// what the app may see, and counts no more.
func TestPageLinksOfOthers(t *testing.T) {
	s := leaky(t, true)
	s.check = false
	for _, target := range []string{"/Observation?_count=1", "/Observation?_count=1&_sort=-_lastUpdated", "/_history?_count=2", "/Patient/b/$everything?_count=1", "/Practitioner?_count=1&_revinclude=*"} {
		s.grant = search.Everything()
		link := s.must(t, "GET", target, "").link("next")
		if link == "" {
			t.Fatalf("%s has one page", target)
		}
		for _, token := range tokens {
			scopes, err := smart.ParseScopes(token.scope, token.form)
			if err != nil {
				t.Fatal(err)
			}
			auth := &smart.Authorization{Claims: smart.Claims{Scope: token.scope}, Scopes: scopes, Launch: token.launch}
			shown := s.authorized(t, auth, ask{"GET", link, "", ""})
			if strings.Contains(shown, "SECRET") || ofB.MatchString(shown) {
				t.Errorf("%s by %s shows %s", target, token.name, shorter(shown))
			}
		}
	}
}

// Each version is within a grant or without by what it says itself: what was
// taken from a's record is seen there as it was, and what came into it as it is.
func TestVersionsThatMoved(t *testing.T) {
	s := leaky(t, true)
	s.must(t, "PUT", "/Observation/went", about("went", "a", "open"))
	s.must(t, "PUT", "/Observation/went", about("went", "b", "SECRET"))
	s.must(t, "PUT", "/Observation/came", about("came", "b", "SECRET"))
	s.must(t, "PUT", "/Observation/came", about("came", "a", "open"))
	s.must(t, "DELETE", "/Observation/came", "")
	s.must(t, "PUT", "/Observation/came", about("came", "b", "SECRET"))
	auth := &smart.Authorization{Launch: smart.Launch{Patient: "a"}}
	auth.Claims.Scope = "patient/*.read"
	var err error
	if auth.Scopes, err = smart.ParseScopes(auth.Claims.Scope, smart.Features{}); err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"/Observation/went": "404", "/Observation/went/_history/1": "200", "/Observation/went/_history/2": "404", "/Observation/went/_history": "404",
		"/Observation/came": "404", "/Observation/came/_history/1": "404", "/Observation/came/_history/2": "200", "/Observation/came/_history/3": "410", "/Observation/came/_history/4": "404",
		"/Observation/_history": "200", "/_history": "200", "/Observation?_id=went,came": "200",
	} {
		got := s.authorized(t, auth, ask{"GET", target, "", ""})
		if !strings.HasPrefix(got, want) || strings.Contains(got, "SECRET") {
			t.Errorf("%s: %s", target, shorter(got))
		}
	}
}

// keptOf holds b's record against what it was: nothing changed it.
func keptOf(t *testing.T, s *server) {
	t.Helper()
	for where, version := range map[string]string{"Patient/b": "2", "Observation/o-b": "1", "Condition/c-b": "1", "Encounter/e-b": "1", "Observation/late-b": "1"} {
		if got := s.do(t, "GET", "/"+where, ""); got.text("meta.versionId") != version {
			t.Errorf("%s was changed: %d %s", where, got.status, got.body)
		}
	}
}

// minting writes with minted ids taken out, which others' creates have moved on.
type minting struct{ out io.Writer }

func (m minting) Write(p []byte) (int, error) {
	_, err := m.out.Write(minted.ReplaceAll(p, []byte("…")))
	return len(p), err
}

// ofB is the fullUrl of a resource of b's.
var ofB = regexp.MustCompile(`/r4/[A-Za-z]+/(b|[a-z]+-b)"`)

// minted is an id of the server's: entries of a batch take them in any order.
var minted = regexp.MustCompile(`00000000-0000-4000-8000-[0-9]{12}`)

func shorter(s string) string { return s[:min(len(s), 1500)] }
