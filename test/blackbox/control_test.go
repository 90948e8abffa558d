package blackbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// smart is a discovery document with what HealthLake requires of one.
const smart = `{"authorization_endpoint":"https://id.example/authorize","token_endpoint":"https://id.example/token",` +
	`"grant_types_supported":["authorization_code"],"capabilities":["launch-ehr"],"code_challenge_methods_supported":["S256"]}`

// sevenMembers is a CreateFHIRDatastore request with every member of the first
// service model.
func sevenMembers(name, token string) map[string]any {
	return map[string]any{
		"DatastoreName":        name,
		"DatastoreTypeVersion": "R4",
		"SseConfiguration":     map[string]any{"KmsEncryptionConfig": map[string]any{"CmkType": "AWS_OWNED_KMS_KEY"}},
		"PreloadDataConfig":    map[string]any{"PreloadDataType": "SYNTHEA"},
		"ClientToken":          token,
		"Tags":                 []any{map[string]any{"Key": "team", "Value": "cardiology"}},
		"IdentityProviderConfiguration": map[string]any{
			"AuthorizationStrategy": "SMART_ON_FHIR", "FineGrainedAuthorizationEnabled": true, "Metadata": smart,
			"IdpLambdaArn": "arn:aws:lambda:us-east-1:111122223333:function:tokens",
		},
	}
}

// A store without preload is ACTIVE at once: the figure is in the log.
func TestCreateIsQuick(t *testing.T) {
	s := start(t)
	began := time.Now()
	d := s.store(nil)
	t.Logf("CreateFHIRDatastore to ACTIVE: %v", time.Since(began).Round(time.Millisecond))
	d.get("/Patient").want(200)
}

// A preloaded store holds exactly what the source says, and answers about it.
func TestPreload(t *testing.T) {
	t.Parallel()
	s := start(t)
	began := time.Now()
	made, err := s.Create(t.Context(), sevenMembers("ward", "one"))
	s.must(err)
	if made.DatastoreStatus != "CREATING" {
		t.Errorf("the answer is %s, want CREATING", made.DatastoreStatus)
	}
	d := &datastore{server: s, id: made.DatastoreID}
	// An answer that early is right only if the preload was done by then.
	if early := d.get("/Patient"); early.Status == 200 && s.mustDescribe(d.id).DatastoreStatus != "ACTIVE" {
		t.Error("a store that is not ACTIVE answered a search")
	}
	s.await(d.id, "ACTIVE")
	t.Logf("CreateFHIRDatastore with SYNTHEA to ACTIVE: %v", time.Since(began).Round(10*time.Millisecond))

	want := embedded(t)
	if want.Patients < 100 {
		t.Errorf("%d patients, want at least 100", want.Patients)
	}
	for kind, n := range want.Types {
		if got := d.total(kind); got != n {
			t.Errorf("%s: %d resources, want %d", kind, got, n)
		}
	}
	d.checkSearches()
	if got := d.get("/.well-known/smart-configuration").want(200).text("token_endpoint"); got != "https://id.example/token" {
		t.Errorf("token_endpoint is %q", got)
	}
}

// checkSearches asks the preloaded patients in ways whose answers follow from
// one another.
func (d *datastore) checkSearches() {
	d.t.Helper()
	observation := d.get("/Observation?_count=1").want(200)
	subject := observation.text("entry", 0, "resource", "subject", "reference")
	system, code := observation.text("entry", 0, "resource", "code", "coding", 0, "system"), observation.text("entry", 0, "resource", "code", "coding", 0, "code")
	patient := d.get("/" + subject).want(200)
	family, gender := patient.text("name", 0, "family"), patient.text("gender")

	chained := "Observation?subject:Patient.family:exact=" + family + "&subject:Patient.gender=" + gender + "&code=" + system + "|" + code
	direct := "Observation?code=" + system + "|" + code + "&subject="
	sum := 0
	for _, p := range d.pages("Patient?_count=50&family:exact=" + family + "&gender=" + gender) {
		sum += d.total(direct + "Patient/" + p["id"].(string))
	}
	if got := d.total(chained); got != sum || sum == 0 {
		d.t.Errorf("%s: %d, want %d as its patients have", chained, got, sum)
	}
	male, female := d.total("Patient?gender=male"), d.total("Patient?gender=female")
	if all := d.total("Patient"); male+female != all || male == 0 || female == 0 {
		d.t.Errorf("%d male and %d female patients of %d", male, female, all)
	}
	if n := len(d.pages("Patient?_count=17")); n != male+female {
		d.t.Errorf("paging gives %d patients, the total is %d", n, male+female)
	}
}

func (s *server) mustDescribe(id string) process.Datastore {
	s.t.Helper()
	d, err := s.Describe(s.t.Context(), id)
	s.must(err)
	return d
}

// The same token makes one store however often and however at once it is asked
// for, also after a restart; with another request it is refused.
func TestClientToken(t *testing.T) {
	t.Parallel()
	s := start(t)
	request := map[string]any{"DatastoreName": "once", "ClientToken": "same-token",
		"Tags": []any{map[string]any{"Key": "a", "Value": "1"}, map[string]any{"Key": "b", "Value": "2"}}}
	const askers = 32
	ids := make([]string, askers)
	var all sync.WaitGroup
	for i := range askers {
		all.Go(func() {
			made, err := s.Create(t.Context(), request)
			if err != nil {
				t.Error(err)
			}
			ids[i] = made.DatastoreID
		})
	}
	all.Wait()
	if distinct := slices.Compact(slices.Sorted(slices.Values(ids))); len(distinct) != 1 {
		t.Errorf("%d answers name %d stores", askers, len(distinct))
	}
	s.must(s.Stop())
	s.restart()
	// The tags are a set: their order does not make another request.
	request["Tags"] = []any{map[string]any{"Key": "b", "Value": "2"}, map[string]any{"Key": "a", "Value": "1"}}
	again, err := s.Create(t.Context(), request)
	s.must(err)
	if again.DatastoreID != ids[0] {
		t.Errorf("after a restart the token makes another store")
	}
	request["DatastoreName"] = "twice"
	_, err = s.Create(t.Context(), request)
	s.refused(err, 400, "ValidationException", "")
	list, err := s.List(t.Context())
	s.must(err)
	if len(list) != 1 {
		t.Errorf("%d stores are listed, want 1", len(list))
	}
}

// refused ends the test unless the control plane said no in this way.
func (s *server) refused(err error, status int, exception, says string) {
	s.t.Helper()
	var e *process.Exception
	if !errors.As(err, &e) {
		s.t.Fatalf("%v, want a %s", err, exception)
	}
	if e.Status != status || e.Type != exception || !strings.Contains(e.Message, says) {
		s.t.Errorf("%v, want %d %s with %q", e, status, exception, says)
	}
}

// Lists filter, page and go on at one moment.
func TestList(t *testing.T) {
	t.Parallel()
	s := start(t)
	var ids []string
	for i := range 5 {
		ids = append(ids, s.store(map[string]any{"DatastoreName": fmt.Sprintf("store-%d", i%2)}).id)
		for made := time.Now().UnixMilli(); time.Now().UnixMilli() == made; {
			time.Sleep(time.Millisecond) // CreatedAt is in milliseconds: let them differ
		}
	}
	var deleted process.Datastore
	s.must(s.Control(t.Context(), "DeleteFHIRDatastore", map[string]any{"DatastoreId": ids[4]}, &deleted))
	if deleted.DatastoreStatus != "DELETING" {
		t.Errorf("the answer to a delete is %s", deleted.DatastoreStatus)
	}
	s.await(ids[4], "DELETED")
	third := s.mustDescribe(ids[2])

	for name, scene := range map[string]struct {
		filter map[string]any
		want   []string
	}{
		"all":      {nil, ids},
		"name":     {map[string]any{"DatastoreName": "store-1"}, []string{ids[1], ids[3]}},
		"active":   {map[string]any{"DatastoreStatus": "ACTIVE"}, ids[:4]},
		"deleted":  {map[string]any{"DatastoreStatus": "DELETED"}, ids[4:]},
		"both":     {map[string]any{"DatastoreStatus": "ACTIVE", "DatastoreName": "store-0"}, []string{ids[0], ids[2]}},
		"after":    {map[string]any{"CreatedAfter": third.CreatedAt + 0.0005}, ids[3:]},
		"before":   {map[string]any{"CreatedBefore": third.CreatedAt - 0.0005}, ids[:2]},
		"no match": {map[string]any{"DatastoreName": "store-7"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			in := map[string]any{"MaxResults": 1}
			if scene.filter != nil {
				in["Filter"] = scene.filter
			}
			got := listIDs(t, s, in)
			slices.Sort(got)
			if want := slices.Sorted(slices.Values(scene.want)); !slices.Equal(got, want) {
				t.Errorf("listed %v, want %v", got, want)
			}
		})
	}
	err := s.Control(t.Context(), "ListFHIRDatastores", map[string]any{"NextToken": "not-a-token"}, &struct{}{})
	s.refused(err, 400, "ValidationException", "")
}

// listIDs follows NextToken; every page holds at most one.
func listIDs(t *testing.T, s *server, in map[string]any) []string {
	t.Helper()
	var ids []string
	for {
		var page struct {
			DatastorePropertiesList []process.Datastore
			NextToken               string
		}
		s.must(s.Control(t.Context(), "ListFHIRDatastores", in, &page))
		if len(page.DatastorePropertiesList) > 1 {
			t.Errorf("a page of %d, MaxResults is 1", len(page.DatastorePropertiesList))
		}
		for _, d := range page.DatastorePropertiesList {
			ids = append(ids, d.DatastoreID)
		}
		if page.NextToken == "" {
			return ids
		}
		in["NextToken"] = page.NextToken
	}
}

// Every refusal has the type that AWS's clients turn into their exceptions.
func TestExceptions(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(nil)
	unknown := strings.Repeat("0", 32)
	arn := s.mustDescribe(d.id).DatastoreArn
	many := make([]any, 201)
	for i := range many {
		many[i] = map[string]any{"Key": fmt.Sprint(i), "Value": ""}
	}
	for _, scene := range []struct {
		name, operation string
		in              map[string]any
		status          int
		exception, says string
	}{
		{"version", "CreateFHIRDatastore", map[string]any{"DatastoreTypeVersion": "R5"}, 400, "ValidationException", "datastoreTypeVersion"},
		{"no version", "CreateFHIRDatastore", map[string]any{}, 400, "ValidationException", "datastoreTypeVersion"},
		{"name too long", "CreateFHIRDatastore", map[string]any{"DatastoreTypeVersion": "R4", "DatastoreName": strings.Repeat("n", 257)}, 400, "ValidationException", "datastoreName"},
		{"customer key without id", "CreateFHIRDatastore", map[string]any{"DatastoreTypeVersion": "R4",
			"SseConfiguration": map[string]any{"KmsEncryptionConfig": map[string]any{"CmkType": "CUSTOMER_MANAGED_KMS_KEY"}}}, 400, "ValidationException", "kmsKeyId"},
		{"absent key", "CreateFHIRDatastore", map[string]any{"DatastoreTypeVersion": "R4",
			"SseConfiguration": map[string]any{"KmsEncryptionConfig": map[string]any{"CmkType": "CUSTOMER_MANAGED_KMS_KEY", "KmsKeyId": "alias/nobody"}}}, 400, "ValidationException", "kmsKeyId"},
		{"identity without metadata", "CreateFHIRDatastore", map[string]any{"DatastoreTypeVersion": "R4",
			"IdentityProviderConfiguration": map[string]any{"AuthorizationStrategy": "SMART_ON_FHIR"}}, 400, "ValidationException", "metadata"},
		{"201 tags", "CreateFHIRDatastore", map[string]any{"DatastoreTypeVersion": "R4", "Tags": many}, 400, "ValidationException", "tags"},
		{"unknown store", "DescribeFHIRDatastore", map[string]any{"DatastoreId": unknown}, 404, "ResourceNotFoundException", ""},
		{"delete unknown", "DeleteFHIRDatastore", map[string]any{"DatastoreId": unknown}, 404, "ResourceNotFoundException", ""},
		{"MaxResults 0", "ListFHIRDatastores", map[string]any{"MaxResults": 0}, 400, "ValidationException", "maxResults"},
		{"MaxResults 501", "ListFHIRDatastores", map[string]any{"MaxResults": 501}, 400, "ValidationException", "maxResults"},
		{"tags of unknown", "ListTagsForResource", map[string]any{"ResourceARN": strings.Replace(arn, d.id, unknown, 1)}, 404, "ResourceNotFoundException", ""},
		{"tags of another account", "ListTagsForResource", map[string]any{"ResourceARN": strings.Replace(arn, "111122223333", "999999999999", 1)}, 404, "ResourceNotFoundException", ""},
		{"unknown operation", "LaunchFHIRDatastore", map[string]any{}, 400, "UnknownOperationException", ""},
		{"wrong shape", "DescribeFHIRDatastore", map[string]any{"DatastoreId": []int{1}}, 400, "SerializationException", ""},
		{"NLP", "CreateFHIRDatastore", map[string]any{"DatastoreTypeVersion": "R4", "NlpConfiguration": map[string]any{"Status": "ENABLED"}}, 400, "ValidationException", "nlpConfiguration"},
	} {
		t.Run(scene.name, func(t *testing.T) {
			err := s.Control(t.Context(), scene.operation, scene.in, &struct{}{})
			s.refused(err, scene.status, scene.exception, scene.says)
		})
	}
	s.must(s.Control(t.Context(), "DeleteFHIRDatastore", map[string]any{"DatastoreId": d.id}, &struct{}{}))
	s.await(d.id, "DELETED")
	err := s.Control(t.Context(), "DeleteFHIRDatastore", map[string]any{"DatastoreId": d.id}, &struct{}{})
	s.refused(err, 409, "ConflictException", "DELETED")
	d.get("/Patient").want(404)
}

// What a signature gets wrong is told apart, on both planes.
func TestSignatures(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(nil)
	for _, scene := range []struct {
		name      string
		spoil     func(*process.Client)
		status    int
		exception string
		fhir      int
	}{
		{"unknown key", func(c *process.Client) { c.Key.AccessKeyID = "AKIAAAAAAAAAAAAAAAAA" }, 403, "UnrecognizedClientException", 401},
		{"wrong secret", func(c *process.Client) { c.Key.SecretAccessKey += "x" }, 403, "InvalidSignatureException", 403},
		{"16 minutes fast", func(c *process.Client) { c.Clock = func() time.Time { return time.Now().Add(16 * time.Minute) } }, 403, "InvalidSignatureException", 403},
		{"16 minutes slow", func(c *process.Client) { c.Clock = func() time.Time { return time.Now().Add(-16 * time.Minute) } }, 403, "InvalidSignatureException", 403},
		{"another region", func(c *process.Client) { c.Region = "eu-west-1" }, 403, "InvalidSignatureException", 403},
	} {
		t.Run(scene.name, func(t *testing.T) {
			stranger := *s.Client
			scene.spoil(&stranger)
			s.refused(stranger.Control(t.Context(), "ListFHIRDatastores", map[string]any{}, &struct{}{}), scene.status, scene.exception, "")
			answer, err := stranger.Do(t.Context(), process.Request{Method: "GET", URL: d.base() + "/Patient"})
			s.must(err)
			(&reply{answer, t, "GET /Patient"}).want(scene.fhir)
			if kind := dig(parse(t, answer.Body), "resourceType"); kind != "OperationOutcome" {
				t.Errorf("the data plane answers with %v, want an OperationOutcome", kind)
			}
		})
	}
	for name, header := range map[string]string{"nothing": "", "bearer": "Bearer token", "nonsense": "AWS4-HMAC-SHA256 nonsense"} {
		t.Run("unsigned "+name, func(t *testing.T) {
			req := process.Request{Method: "GET", URL: d.base() + "/Patient"}
			signed, err := s.Sign(t.Context(), req)
			s.must(err)
			signed.Header.Del("Authorization")
			if header != "" {
				signed.Header.Set("Authorization", header)
			}
			answer, err := s.Send(signed)
			s.must(err)
			(&reply{answer, t, "unsigned GET /Patient"}).want(401)
		})
	}
}

// Update changes what may be changed, at once; tags come and go.
func TestUpdateAndTags(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(map[string]any{"DatastoreName": "before"})
	var updated struct{ DatastoreProperties process.Datastore }
	s.must(s.Control(t.Context(), "UpdateFHIRDatastore", map[string]any{"DatastoreId": d.id, "DatastoreName": "after",
		"IdentityProviderConfiguration": map[string]any{"AuthorizationStrategy": "SMART_ON_FHIR", "Metadata": smart}}, &updated))
	if p := updated.DatastoreProperties; p.DatastoreName != "after" || p.DatastoreStatus != "ACTIVE" {
		t.Errorf("updated to %+v", p)
	}
	d.get("/.well-known/smart-configuration").want(200)
	arn := updated.DatastoreProperties.DatastoreArn
	s.must(s.Control(t.Context(), "TagResource", map[string]any{"ResourceARN": arn,
		"Tags": []any{map[string]any{"Key": "a", "Value": "1"}, map[string]any{"Key": "b", "Value": ""}}}, &struct{}{}))
	s.must(s.Control(t.Context(), "TagResource", map[string]any{"ResourceARN": arn, "Tags": []any{map[string]any{"Key": "a", "Value": "2"}}}, &struct{}{}))
	s.must(s.Control(t.Context(), "UntagResource", map[string]any{"ResourceARN": arn, "TagKeys": []any{"b", "c"}}, &struct{}{}))

	s.must(s.Kill())
	s.restart()
	var tags struct{ Tags json.RawMessage }
	s.must(s.Control(t.Context(), "ListTagsForResource", map[string]any{"ResourceARN": arn}, &tags))
	if want := `[{"Key":"a","Value":"2"}]`; string(tags.Tags) != want {
		t.Errorf("tags are %s, want %s", tags.Tags, want)
	}
	if p := s.mustDescribe(d.id); p.DatastoreName != "after" {
		t.Errorf("the name did not survive: %+v", p)
	}
}
