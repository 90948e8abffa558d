package blackbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/healthlake"
	"github.com/aws/aws-sdk-go-v2/service/healthlake/types"
	"github.com/aws/smithy-go"
)

// wantDone holds a scene's script to its last line.
func wantDone(t *testing.T, out string) {
	t.Helper()
	if !strings.HasSuffix(strings.TrimSpace(out), "done") {
		t.Errorf("the scene did not come to its end: %s", out)
	}
}

// boto3 and botocore: testdata/boto3_scene.py.
func TestBoto3(t *testing.T) {
	t.Parallel()
	python := filepath.Join(pythonBin(t), "python")
	s := start(t, fewPatients(t)...)
	wantDone(t, s.program(python, "testdata/boto3_scene.py"))
}

// The AWS SDK for JavaScript v3: testdata/sdk_scene.mjs.
func TestJavaScriptSDK(t *testing.T) {
	t.Parallel()
	wantDone(t, start(t, fewPatients(t)...).script("testdata/sdk_scene.mjs"))
}

// fhir-kit-client and fhirclient, which know nothing of AWS but for a fetch that
// signs: testdata/fhir_clients_scene.mjs.
func TestJavaScriptFHIRClients(t *testing.T) {
	t.Parallel()
	tool(t, "TARN_TEST_NODE", "node_modules/fhir-kit-client", "node_modules/fhirclient")
	wantDone(t, start(t).script("testdata/fhir_clients_scene.mjs"))
}

// script runs a Node.js script and gives its output. It runs as a copy beside
// the packages, where Node looks for them.
func (s *server) script(path string) string {
	s.t.Helper()
	modules, err := filepath.Abs(filepath.Join(nodeModules(s.t), "node_modules"))
	s.must(err)
	node, err := exec.LookPath("node")
	if err != nil {
		lacking(s.t, "node is not installed")
	}
	folder := s.t.TempDir()
	text, err := os.ReadFile(path)
	s.must(err)
	s.must(os.Symlink(modules, filepath.Join(folder, "node_modules")))
	s.must(os.WriteFile(filepath.Join(folder, "script.mjs"), text, 0o600))
	return s.program(node, filepath.Join(folder, "script.mjs"))
}

// awsCLI runs the AWS CLI's healthlake commands.
type awsCLI struct {
	*server
	path string
}

// run gives the parsed answer, nil for an empty one.
func (a awsCLI) run(args ...string) any {
	a.t.Helper()
	out := a.program(a.path, append([]string{"healthlake", "--output", "json"}, args...)...)
	if strings.TrimSpace(out) == "" {
		return nil
	}
	return parse(a.t, []byte(out))
}

// refusedAs runs a command that fails with this error.
func (a awsCLI) refusedAs(exception string, args ...string) {
	a.t.Helper()
	_, errOut, status := a.attempt(a.path, append([]string{"healthlake"}, args...)...)
	if status == 0 || !strings.Contains(errOut, "("+exception+")") {
		a.t.Errorf("aws healthlake %s: exit status %d, %s, want a %s", strings.Join(args, " "), status, errOut, exception)
	}
}

// The AWS CLI, its waiter at its own delay: it asks at once, then after 60 s,
// while the other commands go on.
func TestAWSCLI(t *testing.T) {
	t.Parallel()
	s := start(t)
	cli := awsCLI{s, filepath.Join(pythonBin(t), "aws")}
	made := cli.run("create-fhir-datastore", "--datastore-name", "cli", "--datastore-type-version", "R4",
		"--sse-configuration", "KmsEncryptionConfig={CmkType=AWS_OWNED_KMS_KEY}",
		"--preload-data-config", "PreloadDataType=SYNTHEA", "--client-token", "cli-1",
		"--tags", "Key=team,Value=cardiology", "Key=cost,Value=7",
		"--identity-provider-configuration", fmt.Sprintf(`{"AuthorizationStrategy":"SMART_ON_FHIR","FineGrainedAuthorizationEnabled":true,"Metadata":%q}`, smart))
	id, arn := dig(made, "DatastoreId").(string), dig(made, "DatastoreArn").(string)
	if status := dig(made, "DatastoreStatus"); status != "CREATING" {
		t.Errorf("created as %v", status)
	}
	waited := make(chan string, 1)
	began := time.Now()
	go func() {
		_, errOut, status := execute(t, s.awsEnvironment(), "", cli.path, "healthlake", "wait", "fhir-datastore-active", "--datastore-id", id)
		waited <- fmt.Sprintf("%d%s", status, errOut)
	}()
	cli.others(id, arn)
	if result := <-waited; result != "0" {
		t.Errorf("aws healthlake wait fhir-datastore-active: exit status %s", result)
	}
	t.Logf("the waiter was content after %v", time.Since(began).Round(time.Second))
	found := dig(cli.run("describe-fhir-datastore", "--datastore-id", id), "DatastoreProperties")
	if dig(found, "DatastoreStatus") != "ACTIVE" || dig(found, "IdentityProviderConfiguration", "Metadata") != smart {
		t.Errorf("described as %v", found)
	}
	renamed := cli.run("update-fhir-datastore", "--datastore-id", id, "--datastore-name", "renamed")
	if name := dig(renamed, "DatastoreProperties", "DatastoreName"); name != "renamed" {
		t.Errorf("renamed to %v", name)
	}
	cli.deletion(id)
}

// others are the commands that need not wait.
func (a awsCLI) others(id, arn string) {
	a.t.Helper()
	second := dig(a.run("create-fhir-datastore", "--datastore-type-version", "R4"), "DatastoreId").(string)
	a.await(second, "ACTIVE")
	page := a.run("list-fhir-datastores", "--max-results", "1")
	first := dig(page, "DatastorePropertiesList", 0, "DatastoreId")
	token, _ := dig(page, "NextToken").(string)
	page = a.run("list-fhir-datastores", "--max-results", "1", "--next-token", token)
	other := dig(page, "DatastorePropertiesList", 0, "DatastoreId")
	if dig(page, "NextToken") != nil || !(first == id && other == second || first == second && other == id) {
		a.t.Errorf("the pages hold %v and %v", first, other)
	}
	page = a.run("list-fhir-datastores", "--filter", "DatastoreName=cli,CreatedAfter=2020-01-01T00:00:00Z,CreatedBefore=2100-01-01T00:00:00Z")
	if dig(page, "DatastorePropertiesList", 0, "DatastoreId") != id || dig(page, "DatastorePropertiesList", 1) != nil {
		a.t.Errorf("filtered by name: %v", page)
	}
	page = a.run("list-fhir-datastores", "--filter", "DatastoreStatus=DELETED")
	if dig(page, "DatastorePropertiesList", 0) != nil {
		a.t.Errorf("filtered by status: %v", page)
	}
	a.run("tag-resource", "--resource-arn", arn, "--tags", "Key=cost,Value=8")
	a.run("untag-resource", "--resource-arn", arn, "--tag-keys", "team")
	tags := dig(a.run("list-tags-for-resource", "--resource-arn", arn), "Tags")
	if fmt.Sprint(tags) != "[map[Key:cost Value:8]]" {
		a.t.Errorf("tagged %v", tags)
	}
	a.refusedAs("ValidationException", "create-fhir-datastore", "--datastore-type-version", "R4", "--datastore-name", "n!")
	a.refusedAs("ResourceNotFoundException", "describe-fhir-datastore", "--datastore-id", strings.Repeat("0", 32))
}

func (a awsCLI) deletion(id string) {
	a.t.Helper()
	if status := dig(a.run("delete-fhir-datastore", "--datastore-id", id), "DatastoreStatus"); status != "DELETING" {
		a.t.Errorf("deleted: %v", status)
	}
	a.await(id, "DELETED") // lest the waiter, which asks every 120 s, asks twice
	a.run("wait", "fhir-datastore-deleted", "--datastore-id", id)
	a.refusedAs("ConflictException", "delete-fhir-datastore", "--datastore-id", id)
}

// The AWS SDK for Go v2, which has no waiters for HealthLake.
func TestGoSDK(t *testing.T) {
	t.Parallel()
	s := start(t, fewPatients(t)...)
	client := s.goSDK(s.Key)
	ctx := t.Context()
	made, err := client.CreateFHIRDatastore(ctx, &healthlake.CreateFHIRDatastoreInput{
		DatastoreName: aws.String("go"), DatastoreTypeVersion: types.FHIRVersionR4,
		SseConfiguration:  &types.SseConfiguration{KmsEncryptionConfig: &types.KmsEncryptionConfig{CmkType: types.CmkTypeAoCmk}},
		PreloadDataConfig: &types.PreloadDataConfig{PreloadDataType: types.PreloadDataTypeSynthea},
		ClientToken:       aws.String("go-1"),
		Tags:              []types.Tag{{Key: aws.String("team"), Value: aws.String("cardiology")}},
		IdentityProviderConfiguration: &types.IdentityProviderConfiguration{
			AuthorizationStrategy: types.AuthorizationStrategySmartv1, FineGrainedAuthorizationEnabled: true, Metadata: aws.String(smart),
			IdpLambdaArn: aws.String("arn:aws:lambda:us-east-1:111122223333:function:tokens"),
		},
	})
	s.must(err)
	id := *made.DatastoreId
	s.await(id, "ACTIVE")
	found, err := client.DescribeFHIRDatastore(ctx, &healthlake.DescribeFHIRDatastoreInput{DatastoreId: &id})
	s.must(err)
	if p := found.DatastoreProperties; p.DatastoreStatus != types.DatastoreStatusActive || *p.IdentityProviderConfiguration.Metadata != smart ||
		p.PreloadDataConfig.PreloadDataType != types.PreloadDataTypeSynthea || time.Since(*p.CreatedAt) > 5*time.Minute {
		t.Errorf("described as %+v", p)
	}
	other, err := client.CreateFHIRDatastore(ctx, &healthlake.CreateFHIRDatastoreInput{DatastoreTypeVersion: types.FHIRVersionR4})
	s.must(err)
	s.await(*other.DatastoreId, "ACTIVE")
	goLists(t, client, 2)
	goTags(t, client, made.DatastoreArn)
	s.goErrors(client)
	_, err = client.DeleteFHIRDatastore(ctx, &healthlake.DeleteFHIRDatastoreInput{DatastoreId: &id})
	s.must(err)
	s.await(id, "DELETED")
	_, err = client.DeleteFHIRDatastore(ctx, &healthlake.DeleteFHIRDatastoreInput{DatastoreId: &id})
	if conflict := new(types.ConflictException); !errors.As(err, &conflict) {
		t.Errorf("deleted twice: %v, want a ConflictException", err)
	}
}

func (s *server) goSDK(key aws.Credentials) *healthlake.Client {
	return healthlake.New(healthlake.Options{
		BaseEndpoint: aws.String(s.url()), Region: "us-east-1", RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return key, nil }),
	})
}

func goLists(t *testing.T, client *healthlake.Client, want int) {
	t.Helper()
	pages := healthlake.NewListFHIRDatastoresPaginator(client, &healthlake.ListFHIRDatastoresInput{MaxResults: aws.Int32(1)})
	n := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.DatastorePropertiesList)
	}
	if n != want {
		t.Errorf("listed %d stores, want %d", n, want)
	}
	filtered, err := client.ListFHIRDatastores(t.Context(), &healthlake.ListFHIRDatastoresInput{Filter: &types.DatastoreFilter{
		DatastoreName: aws.String("go"), DatastoreStatus: types.DatastoreStatusActive,
		CreatedAfter: aws.Time(time.Now().Add(-time.Hour)), CreatedBefore: aws.Time(time.Now().Add(time.Hour)),
	}})
	if err != nil || len(filtered.DatastorePropertiesList) != 1 {
		t.Errorf("filtered: %+v, %v", filtered, err)
	}
}

func goTags(t *testing.T, client *healthlake.Client, arn *string) {
	t.Helper()
	_, err1 := client.TagResource(t.Context(), &healthlake.TagResourceInput{ResourceARN: arn, Tags: []types.Tag{{Key: aws.String("cost"), Value: aws.String("7")}}})
	_, err2 := client.UntagResource(t.Context(), &healthlake.UntagResourceInput{ResourceARN: arn, TagKeys: []string{"team"}})
	held, err3 := client.ListTagsForResource(t.Context(), &healthlake.ListTagsForResourceInput{ResourceARN: arn})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if len(held.Tags) != 1 || *held.Tags[0].Key != "cost" || *held.Tags[0].Value != "7" {
		t.Errorf("tagged %+v", held.Tags)
	}
}

func (s *server) goErrors(client *healthlake.Client) {
	s.t.Helper()
	_, err := client.DescribeFHIRDatastore(s.t.Context(), &healthlake.DescribeFHIRDatastoreInput{DatastoreId: aws.String(strings.Repeat("0", 32))})
	if absent := new(types.ResourceNotFoundException); !errors.As(err, &absent) {
		s.t.Errorf("%v, want a ResourceNotFoundException", err)
	}
	_, err = client.CreateFHIRDatastore(s.t.Context(), &healthlake.CreateFHIRDatastoreInput{DatastoreTypeVersion: "R5"})
	if invalid := new(types.ValidationException); !errors.As(err, &invalid) || !strings.Contains(invalid.ErrorMessage(), "datastoreTypeVersion") {
		s.t.Errorf("%v, want a ValidationException", err)
	}
	wrong := s.Key
	wrong.SecretAccessKey = "x"
	_, err = s.goSDK(wrong).ListFHIRDatastores(s.t.Context(), &healthlake.ListFHIRDatastoresInput{})
	var refused smithy.APIError
	if !errors.As(err, &refused) || refused.ErrorCode() != "InvalidSignatureException" {
		s.t.Errorf("%v, want an InvalidSignatureException", err)
	}
}

// curl signs too, since 7.75.
func TestCurl(t *testing.T) {
	t.Parallel()
	curl := curlThatSigns(t)
	s := start(t)
	d := s.store(nil)
	signed := func(args ...string) string {
		t.Helper()
		return s.program(curl, append([]string{"-sS", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:healthlake",
			"--user", s.Key.AccessKeyID + ":" + s.Key.SecretAccessKey}, args...)...)
	}
	made := parse(t, []byte(signed("-X", "POST", d.base()+"/Patient", "-H", "Content-Type: application/fhir+json",
		"-d", `{"resourceType":"Patient","name":[{"family":"Noor"}],"birthDate":"1984-06"}`)))
	id, _ := dig(made, "id").(string)
	if read := parse(t, []byte(signed(d.base()+"/Patient/"+id))); dig(read, "birthDate") != "1984-06" {
		t.Errorf("read back %v", read)
	}
	found := parse(t, []byte(signed(d.base()+"/Patient?birthdate=1984-06&family=noor")))
	if dig(found, "entry", 0, "resource", "id") != id {
		t.Errorf("found %v", found)
	}
	listed := parse(t, []byte(signed("-X", "POST", s.url()+"/", "-H", "Content-Type: application/x-amz-json-1.0",
		"-H", "X-Amz-Target: HealthLake.ListFHIRDatastores", "-d", "{}")))
	if dig(listed, "DatastorePropertiesList", 0, "DatastoreId") != d.id {
		t.Errorf("listed %v", listed)
	}
}

func curlThatSigns(t *testing.T) string {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		lacking(t, "curl is not installed")
	}
	if help, err := exec.Command(curl, "--help", "all").Output(); err != nil || !strings.Contains(string(help), "--aws-sigv4") {
		lacking(t, "curl knows no --aws-sigv4")
	}
	return curl
}
