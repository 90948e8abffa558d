package awsapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/healthlake"
	"github.com/aws/aws-sdk-go-v2/service/healthlake/types"
	"github.com/aws/smithy-go"

	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
)

// sdk is AWS's own client against a handler. It does not try again.
func sdk(t *testing.T, h http.Handler) *healthlake.Client {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return healthlake.New(healthlake.Options{
		Region: region, BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
		Retryer: aws.NopRetryer{},
	})
}

func TestSDKLifeCycle(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	client := sdk(t, w)
	key, err := w.kms.CreateKey("for a test")
	if err != nil {
		t.Fatal(err)
	}
	metadata := `{"authorization_endpoint":"https://a","token_endpoint":"https://t","grant_types_supported":["client_credentials"],"capabilities":["launch-ehr"],"code_challenge_methods_supported":["S256"]}`
	made, err := client.CreateFHIRDatastore(ctx, &healthlake.CreateFHIRDatastoreInput{
		DatastoreTypeVersion: types.FHIRVersionR4,
		DatastoreName:        aws.String("clinic"),
		ClientToken:          aws.String("token-1"),
		SseConfiguration: &types.SseConfiguration{KmsEncryptionConfig: &types.KmsEncryptionConfig{
			CmkType: types.CmkTypeCmCmk, KmsKeyId: aws.String(key.ARN)}},
		Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("")}},
		IdentityProviderConfiguration: &types.IdentityProviderConfiguration{
			AuthorizationStrategy: types.AuthorizationStrategySmartv1, FineGrainedAuthorizationEnabled: true, Metadata: &metadata},
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.DatastoreStatus != types.DatastoreStatusCreating {
		t.Errorf("status %s", made.DatastoreStatus)
	}
	waiter := healthlake.NewFHIRDatastoreActiveWaiter(client, func(o *healthlake.FHIRDatastoreActiveWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 5*time.Millisecond
	})
	got, err := waiter.WaitForOutput(ctx, &healthlake.DescribeFHIRDatastoreInput{DatastoreId: made.DatastoreId}, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	p := got.DatastoreProperties
	if *p.DatastoreName != "clinic" || *p.SseConfiguration.KmsEncryptionConfig.KmsKeyId != key.ARN || *p.DatastoreArn != *made.DatastoreArn ||
		*p.DatastoreEndpoint != *made.DatastoreEndpoint || *p.IdentityProviderConfiguration.Metadata != metadata ||
		!p.IdentityProviderConfiguration.FineGrainedAuthorizationEnabled || time.Since(*p.CreatedAt).Abs() > time.Minute {
		t.Errorf("%+v", p)
	}
	tags, err := client.ListTagsForResource(ctx, &healthlake.ListTagsForResourceInput{ResourceARN: p.DatastoreArn})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Key != "team" || *tags.Tags[0].Value != "" {
		t.Errorf("%+v, %v", tags, err)
	}
	if _, err := client.UntagResource(ctx, &healthlake.UntagResourceInput{ResourceARN: p.DatastoreArn, TagKeys: []string{"team"}}); err != nil {
		t.Error(err)
	}
	gone, err := client.DeleteFHIRDatastore(ctx, &healthlake.DeleteFHIRDatastoreInput{DatastoreId: made.DatastoreId})
	if err != nil || gone.DatastoreStatus != types.DatastoreStatusDeleting {
		t.Fatalf("%+v, %v", gone, err)
	}
	w.await(*made.DatastoreId, datastore.Deleted)
}

func TestSDKPaginates(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.active(map[string]any{"DatastoreName": "page"})
	}
	w.active(map[string]any{"DatastoreName": "other"})
	pages := healthlake.NewListFHIRDatastoresPaginator(sdk(t, w), &healthlake.ListFHIRDatastoresInput{
		MaxResults: aws.Int32(2), Filter: &types.DatastoreFilter{DatastoreName: aws.String("page"), CreatedAfter: aws.Time(time.Now().Add(-time.Hour))},
	})
	seen := map[string]bool{}
	count := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.DatastorePropertiesList {
			seen[*p.DatastoreId] = true
			count++
		}
	}
	if count != 5 || len(seen) != 5 {
		t.Errorf("%d stores in pages, %d different, want 5", count, len(seen))
	}
}

func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// The SDK makes its typed exceptions of ours.
func TestSDKExceptions(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	client := sdk(t, w)
	disabled, err := w.kms.CreateKey("disabled")
	if err == nil {
		_, err = w.kms.Disable(disabled.ARN)
	}
	if err != nil {
		t.Fatal(err)
	}
	create := func(change func(*healthlake.CreateFHIRDatastoreInput)) error {
		in := &healthlake.CreateFHIRDatastoreInput{DatastoreTypeVersion: types.FHIRVersionR4}
		change(in)
		_, err := client.CreateFHIRDatastore(ctx, in)
		return err
	}
	withKey := func(id string) func(*healthlake.CreateFHIRDatastoreInput) {
		return func(in *healthlake.CreateFHIRDatastoreInput) {
			in.SseConfiguration = &types.SseConfiguration{KmsEncryptionConfig: &types.KmsEncryptionConfig{CmkType: types.CmkTypeCmCmk, KmsKeyId: aws.String(id)}}
		}
	}
	first := create(func(in *healthlake.CreateFHIRDatastoreInput) { in.ClientToken = aws.String("t") })
	if first != nil {
		t.Fatal(first)
	}
	deleted := w.active(map[string]any{})
	w.ok("DeleteFHIRDatastore", map[string]string{"DatastoreId": deleted})
	w.await(deleted, datastore.Deleted)
	describe := func(id string) error {
		_, err := client.DescribeFHIRDatastore(ctx, &healthlake.DescribeFHIRDatastoreInput{DatastoreId: &id})
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want func(error) bool
	}{
		"bad version":  {create(func(in *healthlake.CreateFHIRDatastoreInput) { in.DatastoreTypeVersion = "R5" }), as[*types.ValidationException]},
		"absent key":   {create(withKey("alias/absent")), as[*types.ValidationException]},
		"disabled key": {create(withKey(disabled.ARN)), as[*types.AccessDeniedException]},
		"token reused": {create(func(in *healthlake.CreateFHIRDatastoreInput) {
			in.ClientToken, in.DatastoreName = aws.String("t"), aws.String("x")
		}), as[*types.ValidationException]},
		"absent store": {describe(anID), as[*types.ResourceNotFoundException]},
		"odd id":       {describe("Jane Doe"), as[*types.ResourceNotFoundException]},
		"long id":      {describe(anID + "0"), as[*types.ValidationException]},
		"deleted store": {func() error {
			_, err := client.DeleteFHIRDatastore(ctx, &healthlake.DeleteFHIRDatastoreInput{DatastoreId: &deleted})
			return err
		}(), as[*types.ConflictException]},
	} {
		if c.err == nil || !c.want(c.err) {
			t.Errorf("%s: %T %v", name, c.err, c.err)
		}
	}
}

// Every kind of fault has a name that the SDK reads, and those of the model
// their types.
func TestSDKReadsEveryFault(t *testing.T) {
	typed := map[string]func(error) bool{
		"ValidationException": as[*types.ValidationException], "AccessDeniedException": as[*types.AccessDeniedException],
		"ResourceNotFoundException": as[*types.ResourceNotFoundException], "ConflictException": as[*types.ConflictException],
		"ThrottlingException": as[*types.ThrottlingException], "InternalServerException": as[*types.InternalServerException],
	}
	var now fault.Kind
	client := sdk(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		awsapi.WriteFault(w, &fault.Error{Kind: now, Detail: "said so"})
	}))
	for _, now = range fault.Kinds() {
		// Delete: of the model's operations it declares the most exceptions.
		_, err := client.DeleteFHIRDatastore(context.WithoutCancel(t.Context()), &healthlake.DeleteFHIRDatastoreInput{DatastoreId: aws.String(anID)})
		api, ok := errors.AsType[smithy.APIError](err)
		if !ok || api.ErrorCode() != now.Row().AWSType {
			t.Errorf("%v: %v, want %s", now, err, now.Row().AWSType)
			continue
		}
		if is, known := typed[api.ErrorCode()]; known && !is(err) {
			t.Errorf("%v: %T is not typed", now, err)
		}
		if now != fault.Internal && api.ErrorMessage() != "said so" {
			t.Errorf("%v: message %q", now, api.ErrorMessage())
		}
	}
}
