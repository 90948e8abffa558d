package fhirapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/interaction"
)

// route is one line of the table: which method on which shape of path is which
// interaction.
type route struct {
	method string
	shape  string // see match
	action string // IAM action (Service Authorization Reference, AWS HealthLake)
	serve  func(*exchange) error
}

// routes is the whole data plane. In a shape, T is a resource type, I an id, V a
// version, and anything else itself.
var routes = []route{
	{"GET", "metadata", "GetCapabilities", (*exchange).capabilities},
	{"GET", ".well-known/smart-configuration", "Discovery", (*exchange).discovery},
	{"POST", "", "ProcessBundle", (*exchange).bundle},
	{"GET", "", "SearchWithGet", (*exchange).searchGet},
	{"GET", "_search", "SearchWithGet", (*exchange).searchGet},
	{"POST", "_search", "SearchWithPost", (*exchange).searchPost},
	{"GET", "_history", "GetFullHistory", (*exchange).history},
	{"GET", "T", "SearchWithGet", (*exchange).searchGet},
	{"POST", "T", "CreateResource", (*exchange).create},
	{"PUT", "T", "UpdateResource", (*exchange).updateWhere},
	{"PATCH", "T", "PatchResource", (*exchange).patchWhere},
	{"DELETE", "T", "DeleteResource", (*exchange).deleteWhere},
	{"GET", "T/_search", "SearchWithGet", (*exchange).searchGet},
	{"POST", "T/_search", "SearchWithPost", (*exchange).searchPost},
	{"GET", "T/_history", "GetHistoryByResourceType", (*exchange).history},
	{"GET", "Transaction/I", "ReadResource", (*exchange).transaction},
	{"GET", "export/I", "DescribeFHIRExportJobWithGet", (*exchange).exportStatus},
	{"DELETE", "export/I", "CancelFHIRExportJobWithDelete", (*exchange).cancelExport},
	{"GET", "export/I/I", "GetExportedFile", (*exchange).exportedFile},
	{"GET", "import/I", "DescribeFHIRImportJob", (*exchange).importStatus},
	{"DELETE", "import/I", "StartFHIRImportJob", (*exchange).cancelImport},
	{"GET", "$bulk-delete/I", "DescribeFHIRBulkDeleteJob", (*exchange).bulkStatus},
	{"GET", "$erase/I", "DescribeFHIRBulkDeleteJob", (*exchange).bulkStatus},
	{"GET", "$purge/I", "DescribeFHIRBulkDeleteJob", (*exchange).bulkStatus},
	{"GET", "$bulk-patch/I", "DescribeFHIRBulkPatchJob", (*exchange).bulkStatus},
	{"GET", "T/I", "ReadResource", (*exchange).read},
	{"PUT", "T/I", "UpdateResource", (*exchange).update},
	{"PATCH", "T/I", "PatchResource", (*exchange).patch},
	{"DELETE", "T/I", "DeleteResource", (*exchange).delete},
	{"GET", "T/I/_history", "GetHistoryByResourceId", (*exchange).history},
	{"GET", "T/I/_history/V", "VersionReadResource", (*exchange).vread},
	{"GET", "T/I/T", "SearchWithGet", (*exchange).searchGet},
	{"GET", "T/I/*", "SearchWithGet", (*exchange).searchGet},
	{"GET", "T/I/T/_search", "SearchWithGet", (*exchange).searchGet},
	{"GET", "T/I/*/_search", "SearchWithGet", (*exchange).searchGet},
	{"POST", "T/I/T/_search", "SearchWithPost", (*exchange).searchPost},
	{"POST", "T/I/*/_search", "SearchWithPost", (*exchange).searchPost},
}

// maxSegments bounds a path's depth; the deepest route has four.
const maxSegments = 8

// usualSegments is how deep most paths are.
const usualSegments = 4

// split takes a raw path apart, passing over doubled slashes, and decodes each
// segment.
func split(raw string) ([]string, error) {
	segments := make([]string, 0, usualSegments)
	for part := range strings.SplitSeq(raw, "/") {
		if part == "" {
			continue
		}
		decoded, err := url.PathUnescape(part)
		if err != nil {
			return nil, &fault.Error{Kind: fault.Syntax, Op: "fhirapi.split", Subject: part, Detail: "not percent-encoded properly", Cause: err}
		}
		if segments = append(segments, decoded); len(segments) > maxSegments {
			return nil, fault.New(fault.NotFound, "fhirapi.split", "the path is no FHIR interaction")
		}
	}
	return segments, nil
}

// match holds a path against a shape.
func match(shape string, segments []string) bool {
	if shape == "" || len(segments) == 0 {
		return shape == "" && len(segments) == 0
	}
	for i, segment := range segments {
		want, rest, more := strings.Cut(shape, "/")
		if more != (i < len(segments)-1) || !matchSegment(want, segment) {
			return false
		}
		shape = rest
	}
	return true
}

func matchSegment(want, segment string) bool {
	switch want {
	case "T":
		return segment[0] >= 'A' && segment[0] <= 'Z'
	case "I", "V":
		return !strings.HasPrefix(segment, "_") && !strings.HasPrefix(segment, "$")
	}
	return segment == want
}

// operationShapes are where operations are called, by level.
var operationShapes = []struct {
	level interaction.Level
	shape string
}{{interaction.OnSystem, ""}, {interaction.OnType, "T/"}, {interaction.OnInstance, "T/I/"}}

// operation is the route of an extended operation (R4 operations.html), by GET,
// where it changes nothing, and by POST.
func operation(method string, segments []string) (r *route, ok bool, err error) {
	last := len(segments) - 1
	if last < 0 || last >= len(operationShapes) {
		return nil, false, nil
	}
	at := operationShapes[last]
	o, ok := interaction.FindOperation(at.level, segments[0], segments[last])
	switch {
	case !ok || !match(at.shape+o.Name, segments):
		return nil, false, nil
	case method != http.MethodGet && method != http.MethodPost:
		return nil, true, notOffered(method, "GET, POST")
	}
	r = &route{method: method, shape: at.shape + o.Name, action: o.Action, serve: (*exchange).operate}
	if method == http.MethodPost && o.PostAction != "" {
		r.action = o.PostAction
	}
	return r, true, nil
}

// notOffered is the fault of a method that a path does not have.
func notOffered(method, allowed string) error {
	return &fault.Error{Kind: fault.MethodNotAllowed, Op: "fhirapi.find", Subject: allowed, Detail: method + " is not offered here"}
}

// find gives the route of a request; where only the method is wrong, the fault's
// Subject lists the right ones.
func find(method string, segments []string) (*route, error) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if r, ok, err := operation(method, segments); ok {
		return r, err
	}
	var allowed []string
	for i := range routes {
		if !match(routes[i].shape, segments) {
			continue
		}
		if routes[i].method == method {
			return &routes[i], nil
		}
		allowed = append(allowed, routes[i].method)
	}
	if allowed != nil {
		return nil, notOffered(method, strings.Join(allowed, ", "))
	}
	if len(segments) > 0 && strings.HasPrefix(segments[len(segments)-1], "$") {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "fhirapi.find", Subject: segments[len(segments)-1], Detail: "no such operation on this server"}
	}
	return nil, fault.New(fault.NotFound, "fhirapi.find", "the path is no FHIR interaction")
}

// Unrouted is the action of a request that is none of the routes.
const Unrouted = "None"

// Action is the IAM action of a request, for authorization, logs and metrics: of
// a closed list.
func Action(method, rawPath string) string {
	action, _ := Target(method, rawPath)
	return action
}

// Target is the IAM action of a request and the type of the resources that it
// asks for, as written: "" where it is about several types, "Transaction" for the
// poll of an asynchronous transaction.
func Target(method, rawPath string) (action, typ string) {
	segments, err := split(rawPath)
	if err != nil {
		return Unrouted, ""
	}
	r, err := find(method, segments)
	if err != nil {
		return Unrouted, ""
	}
	return r.action, r.typ(segments)
}

// typ is the last type that a route's path names: in a compartment that of the
// resources searched.
func (r *route) typ(segments []string) (typ string) {
	at := 0
	for part := range strings.SplitSeq(r.shape, "/") {
		switch part {
		case "T", pollType:
			typ = segments[at]
		case "*":
			return ""
		}
		at++
	}
	return typ
}

// pollType is HealthLake's type for the answers of asynchronous transactions.
const pollType = "Transaction"

// Discovery reports whether a path is what SMART lets everybody read: the
// capability statement and the SMART configuration.
func Discovery(rawPath string) bool {
	action := Action(http.MethodGet, rawPath)
	return action == "GetCapabilities" || action == "Discovery"
}

// Routes lists the table as "METHOD shape", for documents and tests.
func Routes() []string {
	list := make([]string, len(routes))
	for i, r := range routes {
		list[i] = r.method + " " + r.shape
	}
	return list
}

// Actions are the IAM actions of all routes and operations, each once.
func Actions() []string {
	var all []string
	for _, r := range routes {
		all = append(all, r.action)
	}
	for _, o := range interaction.Operations() {
		all = append(all, o.Action, o.PostAction)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(name string) bool { return name == "" })
}
