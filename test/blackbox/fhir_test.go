package blackbox

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// One resource through its life: every interaction on a single resource, with
// the headers that clients rely on.
func TestLifeOfAResource(t *testing.T) {
	t.Parallel()
	d := start(t).store(nil)
	sent := `{"resourceType":"Observation","status":"final","code":{"text":"pH"},"valueQuantity":{"value":7.40,"unit":"1"},"note":[{"text":"ä\u00e4 😀"}]}`
	made := d.fhir("POST", "/Observation", sent).want(201)
	id := made.text("id")
	if got := made.Header.Get("Location"); got != d.base()+"/Observation/"+id+"/_history/1" {
		t.Errorf("Location is %q", got)
	}
	if !strings.Contains(string(made.Body), `"value":7.40`) {
		t.Errorf("the decimal lost its trailing zero: %s", made.Body)
	}
	changed := strings.Replace(sent, `{`, `{"id":"`+id+`",`, 1)
	changed = strings.Replace(changed, "final", "amended", 1)
	d.fhir("PUT", "/Observation/"+id, changed, "If-Match", `W/"7"`).want(412)
	updated := d.fhir("PUT", "/Observation/"+id, changed, "If-Match", `W/"1"`).want(200)
	if updated.Header.Get("ETag") != `W/"2"` || updated.text("meta", "versionId") != "2" {
		t.Errorf("updated to %s, %s", updated.Header.Get("ETag"), updated.Body)
	}
	if _, err := http.ParseTime(updated.Header.Get("Last-Modified")); err != nil {
		t.Error(err)
	}
	d.get("/Observation/"+id, "If-None-Match", `W/"2"`).want(304)
	if got := d.get("/Observation/" + id + "/_history/1").want(200).text("status"); got != "final" {
		t.Errorf("version 1 is %s", got)
	}
	d.fhir("DELETE", "/Observation/"+id, nil).want(204)
	d.fhir("DELETE", "/Observation/"+id, nil).want(204)
	d.get("/Observation/" + id).want(410)
	d.get("/Observation/" + id + "/_history/3").want(410)
	d.get("/Observation/never").want(404)
	history := d.get("/Observation/" + id + "/_history").want(200)
	var methods []string
	for i := range 4 {
		if method := history.text("entry", i, "request", "method"); method != "" {
			methods = append(methods, method)
		}
	}
	if strings.Join(methods, " ") != "DELETE PUT POST" {
		t.Errorf("the history tells of %v", methods)
	}
	d.fhir("PUT", "/Observation/chosen", strings.Replace(sent, `{`, `{"id":"chosen",`, 1)).want(201)
	if minimal := d.fhir("POST", "/Observation", sent, "Prefer", "return=minimal").want(201); len(minimal.Body) != 0 {
		t.Errorf("return=minimal gave %s", minimal.Body)
	}
}

// Every refusal is an OperationOutcome with the right status.
func TestRefusals(t *testing.T) {
	t.Parallel()
	d := start(t).store(nil)
	patient := `{"resourceType":"Patient","active":true}`
	for _, scene := range []struct {
		method, path, body, contentType string
		status                          int
	}{
		{"POST", "/Patient", `{"resourceType":"Patient",`, "", 400},
		{"POST", "/Patient", `{"resourceType":"Patient","active":true,"active":false}`, "", 400},
		{"POST", "/Patient", "{\"resourceType\":\"Patient\",\"language\":\"\xff\"}", "", 400},
		{"POST", "/Patient", `{"resourceType":"Observation"}`, "", 400},
		{"POST", "/Patient", patient, "text/plain", 415},
		{"POST", "/Patience", patient, "", 404},
		{"PUT", "/Patient/one", `{"resourceType":"Patient","id":"two"}`, "", 400},
		{"GET", "/Patient?unknown-parameter=1", "", "", 400},
		{"GET", "/Patient?birthdate=yesterday", "", "", 400},
		{"GET", "/Patient?_count=minus", "", "", 400},
		{"GET", "/Patient/$nothing", "", "", 404},
		{"DELETE", "/metadata", "", "", 405},
		{"POST", "/Patient", `{"resourceType":"Patient","id":"` + strings.Repeat("a", 6<<20) + `"}`, "", 413},
	} {
		t.Run(scene.method+" "+scene.path, func(t *testing.T) {
			var body any
			headers := []string{}
			if scene.body != "" {
				body = scene.body
			}
			if scene.contentType != "" {
				headers = append(headers, "Content-Type", scene.contentType)
			}
			got := d.fhir(scene.method, scene.path, body, headers...)
			if got.Status != scene.status || got.text("resourceType") != "OperationOutcome" {
				t.Errorf("%d %s, want %d with an OperationOutcome", got.Status, short(got.Body), scene.status)
			}
		})
	}
}

// Searches by GET and POST, in pages whose links stand still while the store
// changes.
func TestSearchPages(t *testing.T) {
	t.Parallel()
	d := start(t).store(nil)
	const patients = 25
	for i := range patients {
		d.fhir("PUT", fmt.Sprintf("/Patient/p%02d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"p%02d","name":[{"family":"Fam%d"}],"birthDate":"19%02d-06-01"}`, i, i%2, 50+i)).want(201)
	}
	first := d.get("/Patient?family=fam0&_count=5&_total=accurate").want(200)
	if first.at("total") == nil || fmt.Sprint(first.at("total")) != "13" {
		t.Errorf("the total is %v, want 13", first.at("total"))
	}
	// Everything changes while the client turns pages; its pages do not.
	for i := range patients {
		d.fhir("DELETE", fmt.Sprintf("/Patient/p%02d", i), nil).want(204)
	}
	seen := map[string]bool{}
	for page := first; ; page = d.get(strings.TrimPrefix(page.link("next"), d.base())).want(200) {
		for _, e := range page.at("entry").([]any) {
			seen[dig(e, "resource", "id").(string)] = true
		}
		if page.link("next") == "" {
			break
		}
	}
	if len(seen) != 13 {
		t.Errorf("the pages hold %d patients, want 13", len(seen))
	}
	if n := d.total("Patient"); n != 0 {
		t.Errorf("a new search counts %d patients after they were deleted", n)
	}
	d.fhir("PUT", "/Patient/q", `{"resourceType":"Patient","id":"q","name":[{"family":"O'Neil, Jr | x$"}],"birthDate":"2001-02-03"}`).want(201)
	form := url.Values{"family": {`O'Neil\, Jr \| x\$`}, "birthdate": {"ge2001-02", "lt2001-03"}}
	posted := d.fhir("POST", "/Patient/_search", form.Encode(), "Content-Type", "application/x-www-form-urlencoded").want(200)
	if posted.text("entry", 0, "resource", "id") != "q" {
		t.Errorf("POST found %s", short(posted.Body))
	}
}

// A batch goes on where an entry fails, a transaction does all or nothing.
func TestBundles(t *testing.T) {
	t.Parallel()
	d := start(t).store(nil)
	entry := func(method, url, resource, more string) string {
		if resource != "" {
			resource = `"resource":` + resource + `,`
		}
		return `{` + resource + more + `"request":{"method":"` + method + `","url":"` + url + `"}}`
	}
	bundle := func(kind string, entries ...string) string {
		return `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`
	}
	batch := d.fhir("POST", "", bundle("batch",
		entry("PUT", "Patient/a", `{"resourceType":"Patient","id":"a"}`, ""),
		entry("GET", "Patient/none", "", ""),
		entry("POST", "Patient", `{"resourceType":"Patient","identifier":[{"system":"urn:s","value":"1"}]}`, ""))).want(200)
	for i, want := range []string{"201", "404", "201"} {
		if got := batch.text("entry", i, "response", "status"); !strings.HasPrefix(got, want) {
			t.Errorf("entry %d of the batch: %s, want %s", i, got, want)
		}
	}
	mother := entry("POST", "Patient", `{"resourceType":"Patient","name":[{"family":"Mother"}]}`, `"fullUrl":"urn:uuid:7f0f0d5e-7cf5-4e5c-8a39-0bbf0e0a4c01",`)
	child := entry("POST", "RelatedPerson", `{"resourceType":"RelatedPerson","patient":{"reference":"urn:uuid:7f0f0d5e-7cf5-4e5c-8a39-0bbf0e0a4c01"}}`, "")
	link := entry("POST", "RelatedPerson", `{"resourceType":"RelatedPerson","patient":{"reference":"Patient?identifier=urn:s|1"}}`, "")
	done := d.fhir("POST", "", bundle("transaction", child, mother, link)).want(200)
	where := strings.SplitN(done.text("entry", 1, "response", "location"), "/_history", 2)[0]
	if n := d.total("RelatedPerson?patient=" + where[strings.LastIndex(where, "Patient/"):]); n != 1 {
		t.Errorf("%d related persons of %s, want 1", n, where)
	}
	if n := d.total("RelatedPerson?patient.identifier=urn:s|1"); n != 1 {
		t.Errorf("%d related persons of the conditional reference, want 1", n)
	}
	before := d.total("Patient")
	d.fhir("POST", "", bundle("transaction", mother, entry("PUT", "Patient/x", `{"resourceType":"Patient","id":"y"}`, ""))).want(400)
	if after := d.total("Patient"); after != before {
		t.Errorf("a refused transaction left %d patients behind", after-before)
	}
}

// What is said of itself is public, in AWS's own host-and-path manners too.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(nil)
	answer, err := http.Get(d.base() + "/metadata")
	s.must(err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("/metadata unsigned: %d", answer.StatusCode)
	}
	said := d.get("/metadata").want(200)
	if said.text("fhirVersion") != "4.0.1" {
		t.Errorf("fhirVersion is %q", said.text("fhirVersion"))
	}
	// A doubled slash, as in AWS's samples, and an unencoded = in a value.
	d.get("//Patient").want(200)
	d.get("/Patient?identifier=urn:s|a=b").want(200)
}

// The request ends when its time or the connection does; the next one is fine.
func TestGoneClient(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(nil)
	impatient := *s.Client
	impatient.HTTP = &http.Client{Timeout: time.Millisecond}
	for i := range 20 {
		// Whether the answer comes in time is not the question.
		_, _ = impatient.Do(t.Context(), process.Request{Method: "PUT", URL: fmt.Sprintf("%s/Patient/g%d", d.base(), i),
			Body: []byte(fmt.Sprintf(`{"resourceType":"Patient","id":"g%d"}`, i)), Header: map[string]string{"Content-Type": "application/fhir+json"}})
	}
	// Total and entries in one answer: what a client no longer waits for may still
	// be on its way, and would stand between two.
	whole := d.get("/Patient?_count=100").want(200)
	listed, _ := whole.at("entry").([]any)
	if n := fmt.Sprint(whole.at("total")); n != strconv.Itoa(len(listed)) {
		t.Errorf("%s patients are counted, %d listed", n, len(listed))
	}
	for i := range listed {
		d.get("/Patient/" + whole.text("entry", i, "resource", "id")).want(200)
	}
}
