package awsapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/fault"
)

func TestMalformedBodies(t *testing.T) {
	w := newWorld(t)
	for name, body := range map[string]string{
		"empty":                  "",
		"blank":                  "  \n",
		"not JSON":               "{",
		"a list":                 "[]",
		"null":                   "null",
		"a text":                 `"{}"`,
		"two values":             "{}{}",
		"a comma too many":       `{"MaxResults":1,}`,
		"text for a number":      `{"MaxResults":"1"}`,
		"a fraction":             `{"MaxResults":1.5}`,
		"number out of range":    `{"MaxResults":1e30}`,
		"number for a text":      `{"NextToken":1}`,
		"a text for a structure": `{"Filter":"a"}`,
		"a member twice":         `{"MaxResults":1,"MaxResults":2}`,
		"broken UTF-8":           "{\"NextToken\":\"\xff\"}",
		"a time as text":         `{"Filter":{"CreatedBefore":"2026-10-01T00:00:00Z"}}`,
		"a time beyond time":     `{"Filter":{"CreatedBefore":1e300}}`,
	} {
		out := w.call("ListFHIRDatastores", body)
		if e := exception(t, out); out.Code != http.StatusBadRequest || e.Type != "SerializationException" {
			t.Errorf("%s: %d %+v", name, out.Code, e)
		}
	}
}

// Members that nobody knows are passed over, as AWS does; names are taken to
// the letter.
func TestUnknownMembersAreTolerated(t *testing.T) {
	w := newWorld(t)
	if out := w.call("ListFHIRDatastores", ` {"MaxResults":5,"Future":{"a":[1,{}]},"Filter":{"DatastoreStatus":"ACTIVE","More":null}} `); out.Code != http.StatusOK {
		t.Errorf("%d %s", out.Code, out.Body)
	}
	out := w.call("CreateFHIRDatastore", `{"datastoreTypeVersion":"R4"}`)
	if e := exception(t, out); !strings.Contains(e.Message, "Value null at 'datastoreTypeVersion'") {
		t.Errorf("%+v", e)
	}
}

func TestOperationsAndContentTypes(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		target, media string
		status        int
		exception     string
	}{
		{"HealthLake.ListFHIRDatastores", "application/x-amz-json-1.0", 200, ""},
		{"HealthLake.ListFHIRDatastores", "application/x-amz-json-1.0; charset=utf-8", 200, ""},
		{"HealthLake.ListFHIRDatastores", "Application/X-AMZ-JSON-1.0", 200, ""},
		{"HealthLake.ListFHIRDatastores", "application/json", 415, "SerializationException"},
		{"HealthLake.ListFHIRDatastores", "", 415, "SerializationException"},
		{"HealthLake.ListEverything", "application/x-amz-json-1.0", 400, "UnknownOperationException"},
		{"ListFHIRDatastores", "application/x-amz-json-1.0", 400, "UnknownOperationException"},
		{"DynamoDB_20120810.ListTables", "application/x-amz-json-1.0", 400, "UnknownOperationException"},
		{"", "application/x-amz-json-1.0", 400, "UnknownOperationException"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
		r.Header.Set("Content-Type", c.media)
		r.Header.Set("X-Amz-Target", c.target)
		out := httptest.NewRecorder()
		w.ServeHTTP(out, r)
		if out.Code != c.status {
			t.Errorf("%s as %q: %d %s", c.target, c.media, out.Code, out.Body)
			continue
		}
		if c.exception == "" {
			continue
		}
		if e := exception(t, out); e.Type != c.exception {
			t.Errorf("%s as %q: %+v", c.target, c.media, e)
		}
	}
}

// The members of answers are spelled as in the service model; absent ones are
// left out.
func TestShapesOnTheWire(t *testing.T) {
	w := newWorld(t)
	id := w.active(map[string]any{"DatastoreName": "clinic ä/+%"})
	got := w.ok("DescribeFHIRDatastore", map[string]string{"DatastoreId": id})["DatastoreProperties"].(map[string]any)
	if at, ok := got["CreatedAt"].(float64); !ok || at < 1.7e9 || at > 1e11 {
		t.Errorf("CreatedAt %v, want seconds since 1970", got["CreatedAt"])
	}
	delete(got, "CreatedAt")
	want := map[string]any{
		"DatastoreId": id, "DatastoreArn": "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/" + id,
		"DatastoreName": "clinic ä/+%", "DatastoreStatus": "ACTIVE", "DatastoreTypeVersion": "R4",
		"DatastoreEndpoint":             "http://tarn.test/datastore/" + id + "/r4/",
		"SseConfiguration":              map[string]any{"KmsEncryptionConfig": map[string]any{"CmkType": "AWS_OWNED_KMS_KEY"}},
		"IdentityProviderConfiguration": map[string]any{"AuthorizationStrategy": "AWS_AUTH", "FineGrainedAuthorizationEnabled": false},
		"NlpConfiguration":              map[string]any{"Status": "DISABLED"},
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got  %s\nwant %s", a, b)
	}
	arn := want["DatastoreArn"]
	if out := w.call("TagResource", `{"ResourceARN":"`+arn.(string)+`","Tags":[]}`); out.Body.String() != "{}" {
		t.Errorf("TagResource answers %s", out.Body)
	}
	if out := w.call("ListTagsForResource", `{"ResourceARN":"`+arn.(string)+`"}`); out.Body.String() != `{"Tags":[]}` {
		t.Errorf("ListTagsForResource answers %s", out.Body)
	}
}

// Update goes beyond what the SDK of the day knows.
func TestUpdateOnTheWire(t *testing.T) {
	w := newWorld(t)
	id := w.active(map[string]any{"DatastoreName": "clinic"})
	got := w.ok("UpdateFHIRDatastore", with{"DatastoreId": id, "DatastoreName": "ward", "AnalyticsConfiguration": with{"Status": "PAUSED"},
		"BackupConfiguration": with{"Status": "DISABLED"}})["DatastoreProperties"].(map[string]any)
	raw, _ := json.Marshal([]any{got["DatastoreName"], got["DatastoreStatus"], got["AnalyticsConfiguration"], got["BackupStatusInfo"]})
	if want := `["ward","ACTIVE",{"Status":"PAUSED"},{"Configuration":{"BackupTagsEnabled":false,"Status":"DISABLED"}}]`; string(raw) != want {
		t.Errorf("%s, want %s", raw, want)
	}
	for member, in := range map[string]with{
		"nlpConfiguration.status":              {"NlpConfiguration": with{"Status": "ENABLED"}},
		"analyticsConfiguration.status":        {"AnalyticsConfiguration": with{"Status": "ENABLED"}},
		"profileConfiguration.defaultProfiles": {"ProfileConfiguration": with{"DefaultProfiles": []string{"us-core-3.1.1"}}},
		"backupConfiguration.status":           {"BackupConfiguration": with{"Status": "ENABLED"}},
	} {
		in["DatastoreId"] = id
		body, _ := json.Marshal(in)
		if e := exception(t, w.call("UpdateFHIRDatastore", string(body))); e.Type != "ValidationException" || !strings.HasPrefix(e.Message, member+": ") {
			t.Errorf("%s: %+v", member, e)
		}
	}
}

func TestNextTokens(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.active(map[string]any{"DatastoreName": "a"})
	}
	first := w.ok("ListFHIRDatastores", with{"MaxResults": 2, "Filter": with{"DatastoreName": "a"}})
	token := first["NextToken"].(string)
	for name, c := range map[string]struct {
		in   with
		want int // stores; -1: refused
	}{
		"goes on":                {with{"NextToken": token}, 1},
		"with the same filter":   {with{"NextToken": token, "Filter": with{"DatastoreName": "a"}}, 1},
		"with another page size": {with{"NextToken": token, "MaxResults": 1}, 1},
		"with another filter":    {with{"NextToken": token, "Filter": with{"DatastoreName": "b"}}, -1},
		"empty begins":           {with{"NextToken": ""}, 3},
		"nonsense":               {with{"NextToken": "nonsense"}, -1},
		"of another purpose":     {with{"NextToken": "616263.7b7d"}, -1},
		"a byte off":             {with{"NextToken": token + "0"}, -1},
	} {
		body, _ := json.Marshal(c.in)
		out := w.call("ListFHIRDatastores", string(body))
		if c.want < 0 {
			if e := exception(t, out); e.Type != "ValidationException" || !strings.HasPrefix(e.Message, "nextToken: ") {
				t.Errorf("%s: %+v", name, e)
			}
			continue
		}
		var page struct {
			DatastorePropertiesList []json.RawMessage
			NextToken               *string
		}
		if err := json.Unmarshal(out.Body.Bytes(), &page); err != nil || len(page.DatastorePropertiesList) != c.want || page.NextToken != nil {
			t.Errorf("%s: %s", name, out.Body)
		}
	}
}

// Our own mistakes show nothing of their cause.
func TestInternalFaults(t *testing.T) {
	out := httptest.NewRecorder()
	awsapi.WriteFault(out, &fault.Error{Kind: fault.Internal, Detail: "a secret path", Subject: "x"})
	if e := exception(t, out); out.Code != 500 || e.Type != "InternalServerException" || strings.Contains(e.Message, "secret") {
		t.Errorf("%d %+v", out.Code, e)
	}
	out = httptest.NewRecorder()
	awsapi.WriteFault(out, &fault.Error{Kind: fault.Throttled, Retry: 2})
	if e := exception(t, out); out.Code != 429 || e.Type != "ThrottlingException" || out.Header().Get("Retry-After") != "2" {
		t.Errorf("%d %+v %v", out.Code, e, out.Header())
	}
}

// TestSubject: what is allowed is what is carried out. Members that are not the
// operation's own are not looked at, and a body that cannot be read is refused
// before anybody is asked.
func TestSubject(t *testing.T) {
	const other = "ffffffffffffffffffffffffffffffff"
	for _, c := range []struct{ operation, body, want string }{
		{"DescribeFHIRDatastore", `{"DatastoreId":"` + anID + `"}`, anID},
		{"DeleteFHIRDatastore", `{"DatastoreId":"` + anID + `","Tags":5,"ResourceARN":7}`, anID},
		{"TagResource", `{"ResourceARN":"` + anARN + `","Tags":[]}`, anID},
		{"UntagResource", `{"ResourceARN":"` + anARN + `","DatastoreId":"` + other + `"}`, anID},
		{"ListTagsForResource", `{"ResourceARN":"` + anARN + `","DatastoreId":"` + other + `"}`, anID},
		{"DescribeFHIRDatastore", `{"DatastoreId":"Jane Doe"}`, ""},
		{"DescribeFHIRDatastore", `{}`, ""},
		{"TagResource", `{"ResourceARN":"arn:aws:s3:::b"}`, ""},
		{"CreateFHIRDatastore", `{"DatastoreTypeVersion":"R4","DatastoreName":"` + anID + `","DatastoreId":"` + anID + `"}`, ""},
		{"DescribeFHIRDatastore", `{"DatastoreId":7}`, "refused"},
		{"DescribeFHIRDatastore", `{`, "refused"},
		{"DescribeFHIRDatastore", ``, "refused"},
	} {
		got := "refused"
		if request, err := read(c.operation, c.body); err == nil {
			got = request.Subject.Datastore
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q", c.operation, c.body, got, c.want)
		}
	}
}

func TestSubjectTags(t *testing.T) {
	request, err := read("TagResource", `{"Tags":[{"Key":"a","Value":"1"},{"Key":"b"}],"TagKeys":["c"]}`)
	if want := (awsapi.Subject{Tags: map[string]string{"a": "1", "b": ""}}); err != nil || !reflect.DeepEqual(request.Subject, want) {
		t.Errorf("%+v, %v, want %+v", request, err, want)
	}
	request, err = read("UntagResource", `{"TagKeys":["c"]}`)
	if want := (awsapi.Subject{TagKeys: []string{"c"}}); err != nil || !reflect.DeepEqual(request.Subject, want) {
		t.Errorf("%+v, %v, want %+v", request, err, want)
	}
}

func read(operation, body string) (*awsapi.Request, error) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "HealthLake."+operation)
	return (&awsapi.API{}).Read(r, []byte(body))
}

// FuzzOperations: whatever the body, the answer is 200 or an exception, and
// never our own mistake.
func FuzzOperations(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"DatastoreTypeVersion":"R4"}`, `{"DatastoreId":"` + anID + `"}`, `{"MaxResults":1,"Filter":{"CreatedAfter":1.5e9}}`,
		`{"ResourceARN":"` + anARN + `","Tags":[{"Key":"a","Value":"b"}],"TagKeys":["a",null]}`,
		`{"DatastoreTypeVersion":"R4","IdentityProviderConfiguration":{"AuthorizationStrategy":"SMART_ON_FHIR","Metadata":"{}"}}`,
		`{"NextToken":"a"}`, `null`, `[`,
	} {
		f.Add("CreateFHIRDatastore", seed)
		f.Add("ListFHIRDatastores", seed)
		f.Add("UntagResource", seed)
		f.Add("UpdateFHIRDatastore", seed)
	}
	f.Fuzz(func(t *testing.T, operation, body string) {
		out := newWorld(t).call(operation, body)
		if out.Code >= 500 || !json.Valid(out.Body.Bytes()) {
			t.Errorf("%d %s", out.Code, out.Body)
		}
	})
}
