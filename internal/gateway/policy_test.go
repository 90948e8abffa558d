package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/gateway"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/throttle"
)

// deniesOne is a policy that allows everything but one action.
type deniesOne struct {
	mu     sync.Mutex
	action string
}

func (d *deniesOne) Judge(_ context.Context, r iam.Request) iam.Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Action == "healthlake:"+d.action {
		return iam.Decision{Outcome: iam.Denied}
	}
	return iam.Decision{Outcome: iam.Allowed}
}

func (d *deniesOne) deny(action string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.action = action
}

// bundleEntries spells each form of an entry with the action it stands for.
var bundleEntries = []struct{ method, url, resource, action string }{
	{"POST", "Patient", `{"resourceType":"Patient"}`, "CreateResource"},
	{"PUT", "Patient/put", `{"resourceType":"Patient","id":"put"}`, "UpdateResource"},
	{"PUT", "Patient?identifier=a", `{"resourceType":"Patient","identifier":[{"value":"a"}]}`, "UpdateResource"},
	{"PATCH", "Patient/there", `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W3sib3AiOiJhZGQiLCJwYXRoIjoiL2FjdGl2ZSIsInZhbHVlIjp0cnVlfV0="}`, "PatchResource"},
	{"DELETE", "Patient/old", "", "DeleteResource"},
	{"DELETE", "Patient?identifier=nobody", "", "DeleteResource"},
	{"GET", "Patient/there", "", "ReadResource"},
	{"GET", "Patient/there/_history/1", "", "VersionReadResource"},
	{"GET", "Patient/there/_history", "", "GetHistoryByResourceId"},
	{"GET", "Patient/_history", "", "GetHistoryByResourceType"},
	{"GET", "_history", "", "GetFullHistory"},
	{"GET", "Patient?name=x", "", "SearchWithGet"},
	{"GET", "Patient/there/Observation", "", "SearchWithGet"},
	{"GET", "Patient/there/*", "", "SearchWithGet"},
	{"GET", "Patient/there/$everything", "", "SearchEverything"},
	{"GET", "metadata", "", "GetCapabilities"},
}

func bundleOf(kind string, at ...int) string {
	entries := make([]string, len(at))
	for i, n := range at {
		e := bundleEntries[n]
		resource := ""
		if e.resource != "" {
			resource = `"resource":` + e.resource + `,`
		}
		entries[i] = fmt.Sprintf(`{%s"request":{"method":%q,"url":%q}}`, resource, e.method, e.url)
	}
	return `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`
}

// A bundle needs ProcessBundle; an explicit deny of an entry's own action
// refuses that entry of a batch, and a transaction that holds one.
func TestDeniedEntries(t *testing.T) {
	policy := new(deniesOne)
	w := newWorld(t, func(o *gateway.Options) { o.Policy = policy })
	r4 := "/datastore/" + w.active() + "/r4"
	post := func(denied, kind string, at ...int) reply {
		policy.deny("")
		for _, id := range []string{"there", "old"} {
			w.signed("PUT", r4+"/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`"}`, "Content-Type", fhirJSON)
		}
		policy.deny(denied)
		return w.signed("POST", r4, bundleOf(kind, at...), "Content-Type", fhirJSON)
	}
	var every []int
	for i := range bundleEntries {
		every = append(every, i)
	}
	for _, denied := range []string{"Nothing", "CreateResource", "UpdateResource", "PatchResource", "DeleteResource", "ReadResource", "VersionReadResource",
		"GetHistoryByResourceId", "GetHistoryByResourceType", "GetFullHistory", "SearchWithGet", "SearchEverything", "GetCapabilities"} {
		statuses := statusesOf(t, post(denied, "batch", every...))
		for i, e := range bundleEntries {
			if refused := strings.HasPrefix(statuses[i], "403"); refused != (e.action == denied) || !refused && !strings.HasPrefix(statuses[i], "20") && e.url != "Patient?identifier=nobody" {
				t.Errorf("%s is denied: %s %s: %s", denied, e.method, e.url, statuses[i])
			}
		}
	}
	for i, e := range bundleEntries {
		if got := post(e.action, "transaction", i); got.status != 403 || !strings.Contains(got.body, "healthlake:"+e.action) || !strings.Contains(got.body, "Bundle.entry[0]") {
			t.Errorf("transaction with %s %s: %d %s", e.method, e.url, got.status, got.body)
		}
	}
	if got := post("ProcessBundle", "batch", 0); got.status != 403 || !strings.Contains(got.body, "healthlake:ProcessBundle") {
		t.Errorf("without ProcessBundle: %d %s", got.status, got.body)
	}
}

func statusesOf(t *testing.T, r reply) []string {
	t.Helper()
	var bundle struct {
		Entry []struct{ Response struct{ Status string } }
	}
	if err := json.Unmarshal([]byte(r.body), &bundle); err != nil || r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	statuses := make([]string, len(bundle.Entry))
	for i, e := range bundle.Entry {
		statuses[i] = e.Response.Status
	}
	return statuses
}

// Whoever keeps failing is held off before anything is verified, the right
// secret included; others are not.
func TestLockOut(t *testing.T) {
	failures := throttle.NewFailures()
	w := newWorld(t, func(o *gateway.Options) { o.Failures = failures })
	list := func(key string) reply {
		return w.do(w.sign(w.request("POST", "/", "{}", control("ListFHIRDatastores")...), keyID, key))
	}
	held := false
	for range 200 { // far more than are borne
		got := list("guess")
		if held = got.status == 429; held {
			if got.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			break
		}
	}
	if !held {
		t.Fatal("a guesser is never held off")
	}
	if got := w.do(w.sign(w.request("POST", "/", "{}", control("ListFHIRDatastores")...), "AKIAANOTHER", secret)); got.status != 403 {
		t.Errorf("another key: %d %s", got.status, got.body)
	}
}

func TestSecurityHeaders(t *testing.T) {
	w := newWorld(t)
	got := w.signed("POST", "/", "{}", control("ListFHIRDatastores")...)
	if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Cache-Control") != "no-store" || got.header.Get("Strict-Transport-Security") != "" {
		t.Errorf("%v", got.header)
	}
}

// allowsOne is a policy that allows one action alone.
type allowsOne struct{ action string }

func (a *allowsOne) Judge(_ context.Context, r iam.Request) iam.Decision {
	if r.Action == "healthlake:"+a.action {
		return iam.Decision{Outcome: iam.Allowed}
	}
	return iam.Decision{Outcome: iam.NotAllowed}
}

// requestsOfAll are a request of every route, operation and control plane
// operation, with the action of each.
func requestsOfAll(id string) map[string][2]string {
	all := map[string][2]string{}
	fill := strings.NewReplacer("T", "Composition", "I", "x", "V", "1")
	add := func(method, shape string) {
		path := "/" + fill.Replace(shape)
		all[method+" /datastore/"+id+"/r4"+path] = [2]string{fhirapi.Action(method, path), ""}
	}
	for _, route := range fhirapi.Routes() {
		method, shape, _ := strings.Cut(route, " ")
		if strings.HasPrefix(shape, "Transaction") {
			shape = "Transaction/x"
		}
		add(method, shape)
	}
	for _, o := range interaction.Operations() {
		for level, prefix := range map[interaction.Level]string{interaction.OnSystem: "", interaction.OnType: "T/", interaction.OnInstance: "T/x/"} {
			if o.Levels&level == 0 {
				continue
			}
			if o.Types != nil {
				prefix = strings.Replace(prefix, "T", o.Types[0], 1)
			}
			path := "/" + strings.Replace(prefix, "T", "Composition", 1) + o.Name
			for _, method := range []string{"GET", "POST"} {
				if action := fhirapi.Action(method, path); action != fhirapi.Unrouted {
					all[method+" /datastore/"+id+"/r4"+path] = [2]string{action, ""}
				}
			}
		}
	}
	for _, name := range awsapi.Operations() {
		all["POST /?"+name] = [2]string{name, name}
	}
	return all
}

// Every route, operation and operation of the control plane asks the policy for
// an action of the catalogue: denied that one, it is refused; allowed that one
// alone, it is not.
func TestEveryRouteAsksForItsAction(t *testing.T) {
	denies, allows := new(deniesOne), new(allowsOne)
	policy := &either{denies}
	w := newWorld(t, func(o *gateway.Options) { o.Policy, o.PublicDiscovery = policy, false })
	id := w.active()
	catalogue := map[string]bool{}
	for _, a := range iam.Actions() {
		catalogue[a.Name] = true
	}
	requests := requestsOfAll(id)
	if len(requests) < len(fhirapi.Routes())+len(awsapi.Operations()) {
		t.Fatalf("only %d requests", len(requests))
	}
	for what, asks := range requests {
		method, path, _ := strings.Cut(what, " ")
		action, headers := asks[0], []string{"Content-Type", fhirJSON}
		if asks[1] != "" {
			path, headers = "/", control(asks[1])
		}
		if !catalogue["healthlake:"+action] && action != "Discovery" { // which is judged as GetCapabilities
			t.Errorf("%s asks for %s, which is not in the catalogue", what, action)
		}
		denies.deny(action)
		policy.Policy = denies
		if got := w.signed(method, path, "{}", headers...); got.status != 403 {
			t.Errorf("%s without %s: %d %s", what, action, got.status, got.body)
		}
		allows.action = action
		policy.Policy = allows
		if got := w.signed(method, path, "{}", headers...); got.status == 403 {
			t.Errorf("%s with %s alone: %d %s", what, action, got.status, got.body)
		}
	}
}

// either is a policy that changes.
type either struct{ iam.Policy }
