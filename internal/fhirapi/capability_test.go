package fhirapi_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/interaction"
)

// offered ties each interaction of the statement to the requests that carry it
// out, and to the IAM action that they need (healthlake.md 6.1).
var offered = map[string][]struct{ method, path, action string }{
	"read":             {{"GET", "/Patient/1", "ReadResource"}},
	"vread":            {{"GET", "/Patient/1/_history/1", "VersionReadResource"}},
	"update":           {{"PUT", "/Patient/1", "UpdateResource"}, {"PUT", "/Patient", "UpdateResource"}},
	"patch":            {{"PATCH", "/Patient/1", "PatchResource"}, {"PATCH", "/Patient", "PatchResource"}},
	"delete":           {{"DELETE", "/Patient/1", "DeleteResource"}, {"DELETE", "/Patient", "DeleteResource"}},
	"history-instance": {{"GET", "/Patient/1/_history", "GetHistoryByResourceId"}},
	"history-type":     {{"GET", "/Patient/_history", "GetHistoryByResourceType"}},
	"create":           {{"POST", "/Patient", "CreateResource"}},
	"search-type": {{"GET", "/Patient", "SearchWithGet"}, {"GET", "/Patient/_search", "SearchWithGet"}, {"POST", "/Patient/_search", "SearchWithPost"},
		{"GET", "/Patient/1/Observation/_search", "SearchWithGet"}, {"GET", "/Patient/1/*/_search", "SearchWithGet"},
		{"GET", "/Patient/1/Observation", "SearchWithGet"}, {"GET", "/Patient/1/*", "SearchWithGet"},
		{"POST", "/Patient/1/Observation/_search", "SearchWithPost"}, {"POST", "/Patient/1/*/_search", "SearchWithPost"}},
	"transaction":    {{"POST", "/", "ProcessBundle"}},
	"batch":          {{"POST", "/", "ProcessBundle"}},
	"search-system":  {{"GET", "/", "SearchWithGet"}, {"GET", "/_search", "SearchWithGet"}, {"POST", "/_search", "SearchWithPost"}},
	"history-system": {{"GET", "/_history", "GetFullHistory"}},
	// Not in the statement's lists, but offered to everybody.
	"": {{"GET", "/metadata", "GetCapabilities"}, {"GET", "/.well-known/smart-configuration", "Discovery"},
		{"GET", "/Transaction/1", "ReadResource"}, {"GET", "/$bulk-delete/1", "DescribeFHIRBulkDeleteJob"},
		{"GET", "/$erase/1", "DescribeFHIRBulkDeleteJob"}, {"GET", "/$purge/1", "DescribeFHIRBulkDeleteJob"},
		{"GET", "/$bulk-patch/1", "DescribeFHIRBulkPatchJob"}, {"GET", "/export/1", "DescribeFHIRExportJobWithGet"},
		{"DELETE", "/export/1", "CancelFHIRExportJobWithDelete"}, {"GET", "/export/1/f", "GetExportedFile"},
		{"GET", "/import/1", "DescribeFHIRImportJob"}, {"DELETE", "/import/1", "StartFHIRImportJob"}},
}

// The statement says what is routed, and nothing else (R4
// http.html#capabilities; issue 2: true to what is there).
func TestStatementIsTrue(t *testing.T) {
	s := newServer(t)
	a := s.must(t, "GET", "/metadata", "")
	if a.text("resourceType") != "CapabilityStatement" || a.text("fhirVersion") != "4.0.1" || a.text("kind") != "instance" {
		t.Errorf("got %.300s", a.body)
	}
	said := map[string]bool{"": true}
	for resource := range a.at("rest[0].resource").Items() {
		for i := range resource.Get("interaction").Items() {
			said[i.Get("code").Text()] = true
		}
		if resource.Get("type").Is("AuditEvent") {
			continue
		}
		if n := resource.Get("interaction").Len(); n != len(interaction.TypeInteractions) {
			t.Errorf("%s has %d interactions", resource.Get("type").Text(), n)
		}
	}
	for i := range a.at("rest[0].interaction").Items() {
		said[i.Get("code").Text()] = true
	}
	routed := map[string]bool{}
	for code, requests := range offered {
		if !said[code] {
			t.Errorf("%q is routed and not said", code)
		}
		for _, r := range requests {
			if got := fhirapi.Action(r.method, r.path); got != r.action {
				t.Errorf("%s %s is %s, want %s", r.method, r.path, got, r.action)
			}
			routed[r.method+" "+r.action] = true
		}
	}
	for code := range said {
		if _, ok := offered[code]; !ok {
			t.Errorf("%q is said and not routed", code)
		}
	}
	count, saidOperations := 0, a.at("rest[0].operation").Len()
	for _, requests := range offered {
		count += len(requests)
	}
	for resource := range a.at("rest[0].resource").Items() {
		for o := range resource.Get("operation").Items() {
			typ, name := resource.Get("type").Text(), "$"+o.Get("name").Text()
			onInstance, ok1 := interaction.FindOperation(interaction.OnInstance, typ, name)
			onType, ok2 := interaction.FindOperation(interaction.OnType, typ, name)
			if !(ok1 && fhirapi.Action("GET", "/"+typ+"/1/"+name) == onInstance.Action || ok2 && fhirapi.Action("GET", "/"+typ+"/"+name) == onType.Action) {
				t.Errorf("%s on %s is said and not routed", name, typ)
			}
			saidOperations++
		}
	}
	offeredOperations := 0
	for _, o := range interaction.Operations() {
		offeredOperations += max(len(o.Types), 1)
	}
	if saidOperations != offeredOperations {
		t.Errorf("%d operations are said, %d offered", saidOperations, offeredOperations)
	}
	if n := len(fhirapi.Routes()); n != count-1 { // batch and transaction share a route
		t.Errorf("%d routes, %d are in the table above", n, count-1)
	}
}

// Every search parameter of the statement can be searched by, and every include
// followed.
func TestStatedParametersParse(t *testing.T) {
	s := newServer(t)
	a := s.must(t, "GET", "/metadata", "")
	values := map[string]string{"number": "1", "quantity": "1", "date": "2000", "string": "x", "token": "x", "reference": "x", "uri": "x", "special": ""}
	special := map[string]string{"_filter": "_id eq x", "near": "1|1"}
	stated := map[string]int{}
	for resource := range a.at("rest[0].resource").Items() {
		typ := resource.Get("type").Text()
		for p := range resource.Get("searchParam").Items() {
			kind := p.Get("type").Text()
			stated[kind]++
			if kind == "composite" {
				continue // tried by the statement itself, component by component
			}
			name := p.Get("name").Text()
			target := "/" + typ + "?" + url.Values{name: {values[kind] + special[name]}}.Encode()
			if got := s.do(t, "GET", target, ""); got.status != 200 {
				t.Errorf("%s: %d %s", target, got.status, got.body)
			}
		}
		var includes []string
		for i := range resource.Get("searchInclude").Items() {
			includes = append(includes, "_include="+url.QueryEscape(i.Text()))
		}
		if typ == "Patient" || typ == "Binary" {
			for i := range resource.Get("searchRevInclude").Items() {
				includes = append(includes, "_revinclude="+url.QueryEscape(i.Text()))
			}
		}
		for part := range slices.Chunk(includes, 32) {
			if got := s.do(t, "GET", "/"+typ+"?"+strings.Join(part, "&"), ""); got.status != 200 {
				t.Errorf("%s: %d %s", typ, got.status, got.body)
			}
		}
	}
	for kind := range values {
		if stated[kind] == 0 {
			t.Errorf("no parameter of type %s is stated", kind)
		}
	}
}

// HEAD needs the action of GET; what is no route needs none that exists.
func TestActions(t *testing.T) {
	tests := []struct{ method, path, want string }{
		{"HEAD", "/Patient/1", "ReadResource"},
		{"GET", "/Patient//1", "ReadResource"},
		{"GET", "/Patient/1/2/3", fhirapi.Unrouted},
		{"GET", "/%zz", fhirapi.Unrouted},
		{"PUT", "/", fhirapi.Unrouted},
		{"GET", "/Patient/1/$everything", "SearchEverything"},
		{"POST", "/Patient/1/$everything", "SearchEverything"},
		{"DELETE", "/Patient/1/$everything", fhirapi.Unrouted},
		{"GET", "/Organization/1/$everything", fhirapi.Unrouted},
		{"GET", "/Patient/$everything", fhirapi.Unrouted},
	}
	for _, tt := range tests {
		if got := fhirapi.Action(tt.method, tt.path); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.method, tt.path, got, tt.want)
		}
	}
	if !fhirapi.Discovery("/metadata") || !fhirapi.Discovery("//.well-known/smart-configuration") || fhirapi.Discovery("/Patient") {
		t.Error("Discovery")
	}
}
