package awsapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// with is a request of one operation with members set; its members are given as
// JSON.
type with map[string]any

func repeat(s string, n int) string { return strings.Repeat(s, n) }

func tagList(n int) []map[string]string {
	list := make([]map[string]string, n)
	for i := range list {
		list[i] = map[string]string{"Key": fmt.Sprint("k", i), "Value": "v"}
	}
	return list
}

func keyList(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint("k", i)
	}
	return list
}

func kms(id any) with {
	return with{"KmsEncryptionConfig": with{"CmkType": "CUSTOMER_MANAGED_KMS_KEY", "KmsKeyId": id}}
}

func smart(lambda any) with {
	return with{"AuthorizationStrategy": "SMART_ON_FHIR", "IdpLambdaArn": lambda, "Metadata": "{"}
}

func s3(uri, key any) with {
	return with{"OutputDataConfig": with{"S3Configuration": with{"S3Uri": uri, "KmsKeyId": key}}}
}

const (
	lambda48 = "arn:aws:lambda:us-east-1:111122223333:function:f" // one character short of the least
	anID     = "0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c"
	anARN    = "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/" + anID
)

// TestConstraints holds every constraint of healthlake-2017-07-01 that requests
// of these operations have at its edge: the longest that is right, and one more.
// want is the message's core; an empty one says that this member is not found
// wrong (the operation may still refuse the request for another reason).
func TestConstraints(t *testing.T) {
	const (
		create, list, update = "CreateFHIRDatastore", "ListFHIRDatastores", "UpdateFHIRDatastore"
		tag, untag, tags     = "TagResource", "UntagResource", "ListTagsForResource"
		export               = "StartFHIRExportJob"
		describeExport       = "DescribeFHIRExportJob"
		listExports          = "ListFHIRExportJobs"
		class                = `satisfy regular expression pattern: ([\p{L}\p{Z}\p{N}_.:/=+\-%@]*)`
		tagClass             = `satisfy regular expression pattern: ([\p{L}\p{Z}\p{N}_.:/=+\-@]*)`
	)
	for _, c := range []struct {
		operation string
		in        with
		member    string
		want      string
	}{
		{create, with{}, "datastoreTypeVersion", "not be null"},
		{create, with{"DatastoreTypeVersion": nil}, "datastoreTypeVersion", "not be null"},
		{create, with{"DatastoreTypeVersion": "R4"}, "datastoreTypeVersion", ""},
		{create, with{"DatastoreTypeVersion": "R5"}, "datastoreTypeVersion", "satisfy enum value set: [R4]"},
		{create, with{"DatastoreTypeVersion": "r4"}, "datastoreTypeVersion", "satisfy enum value set: [R4]"},

		{create, with{"DatastoreName": ""}, "datastoreName", "have length greater than or equal to 1"},
		{create, with{"DatastoreName": "x"}, "datastoreName", ""},
		{create, with{"DatastoreName": repeat("ä", 256)}, "datastoreName", ""},
		{create, with{"DatastoreName": repeat("ä", 257)}, "datastoreName", "have length less than or equal to 256"},
		{create, with{"DatastoreName": "Ärzte 東京 50% a@b_c.d:e/f=g+h-i"}, "datastoreName", ""},
		{create, with{"DatastoreName": "no*star"}, "datastoreName", class},
		{create, with{"DatastoreName": "line\nbreak"}, "datastoreName", class},
		{create, with{"DatastoreName": "ends\n"}, "datastoreName", class},

		{create, with{"ClientToken": ""}, "clientToken", "have length greater than or equal to 1"},
		{create, with{"ClientToken": repeat("a", 64)}, "clientToken", ""},
		{create, with{"ClientToken": repeat("a", 65)}, "clientToken", "have length less than or equal to 64"},
		{create, with{"ClientToken": "a_b"}, "clientToken", "satisfy regular expression pattern: [a-zA-Z0-9-]+"},

		{create, with{"SseConfiguration": with{}}, "sseConfiguration.kmsEncryptionConfig", "not be null"},
		{create, with{"SseConfiguration": with{"KmsEncryptionConfig": with{}}}, "sseConfiguration.kmsEncryptionConfig.cmkType", "not be null"},
		{create, with{"SseConfiguration": with{"KmsEncryptionConfig": with{"CmkType": "MINE"}}}, "sseConfiguration.kmsEncryptionConfig.cmkType", "satisfy enum value set: [CUSTOMER_MANAGED_KMS_KEY, AWS_OWNED_KMS_KEY]"},
		{create, with{"SseConfiguration": kms("")}, "sseConfiguration.kmsEncryptionConfig.kmsKeyId", "have length greater than or equal to 1"},
		{create, with{"SseConfiguration": kms(repeat("a", 401))}, "sseConfiguration.kmsEncryptionConfig.kmsKeyId", "have length less than or equal to 400"},
		{create, with{"SseConfiguration": kms("a b")}, "sseConfiguration.kmsEncryptionConfig.kmsKeyId", "satisfy regular expression pattern"},
		{create, with{"SseConfiguration": kms("alias/a b")}, "sseConfiguration.kmsEncryptionConfig.kmsKeyId", "satisfy regular expression pattern"},

		{create, with{"PreloadDataConfig": with{}}, "preloadDataConfig.preloadDataType", "not be null"},
		{create, with{"PreloadDataConfig": with{"PreloadDataType": "MIMIC"}}, "preloadDataConfig.preloadDataType", "satisfy enum value set: [SYNTHEA]"},

		{create, with{"Tags": tagList(200)}, "tags", ""},
		{create, with{"Tags": tagList(201)}, "tags", "have length less than or equal to 200"},
		{create, with{"Tags": []with{{}}}, "tags.1.member.key", "not be null"},
		{create, with{"Tags": []with{{"Key": "a"}}}, "tags.1.member.value", "not be null"},
		{create, with{"Tags": []with{{"Key": "", "Value": ""}}}, "tags.1.member.key", "have length greater than or equal to 1"},
		{create, with{"Tags": []with{{"Key": repeat("k", 128), "Value": ""}}}, "tags.1.member.key", ""},
		{create, with{"Tags": []with{{"Key": repeat("k", 129), "Value": ""}}}, "tags.1.member.key", "have length less than or equal to 128"},
		{create, with{"Tags": []with{{"Key": "a", "Value": repeat("v", 256)}}}, "tags.1.member.value", ""},
		{create, with{"Tags": []with{{"Key": "a", "Value": repeat("v", 257)}}}, "tags.1.member.value", "have length less than or equal to 256"},
		{create, with{"Tags": []with{{"Key": "ok", "Value": "v"}, {"Key": "50%", "Value": "v"}}}, "tags.2.member.key", tagClass},
		{create, with{"Tags": []with{{"Key": "a", "Value": "50%"}}}, "tags.1.member.value", tagClass},

		{create, with{"IdentityProviderConfiguration": with{}}, "identityProviderConfiguration.authorizationStrategy", "not be null"},
		{create, with{"IdentityProviderConfiguration": with{"AuthorizationStrategy": "OIDC"}}, "identityProviderConfiguration.authorizationStrategy", "satisfy enum value set: [SMART_ON_FHIR_V1, SMART_ON_FHIR, AWS_AUTH]"},
		{create, with{"IdentityProviderConfiguration": smart(lambda48)}, "identityProviderConfiguration.idpLambdaArn", "have length greater than or equal to 49"},
		{create, with{"IdentityProviderConfiguration": smart(lambda48 + "g")}, "identityProviderConfiguration.idpLambdaArn", ""},
		{create, with{"IdentityProviderConfiguration": smart(lambda48 + "g:$LATEST")}, "identityProviderConfiguration.idpLambdaArn", ""},
		{create, with{"IdentityProviderConfiguration": smart(lambda48 + repeat("g", 208))}, "identityProviderConfiguration.idpLambdaArn", ""},
		{create, with{"IdentityProviderConfiguration": smart(lambda48 + repeat("g", 209))}, "identityProviderConfiguration.idpLambdaArn", "have length less than or equal to 256"},
		{create, with{"IdentityProviderConfiguration": smart(strings.Replace(lambda48, "lambda", "lambada", 1) + "ggg")}, "identityProviderConfiguration.idpLambdaArn", "satisfy regular expression pattern"},

		{create, with{"NlpConfiguration": with{}}, "nlpConfiguration.status", "not be null"},
		{create, with{"NlpConfiguration": with{"Status": "ON"}}, "nlpConfiguration.status", "satisfy enum value set: [ENABLED, ENABLING, DISABLED, DISABLING]"},
		{create, with{"AnalyticsConfiguration": with{}}, "analyticsConfiguration.status", "not be null"},
		{create, with{"AnalyticsConfiguration": with{"Status": "ON"}}, "analyticsConfiguration.status", "satisfy enum value set: [ENABLED, ENABLING, DISABLED, DISABLING, PAUSING, PAUSED]"},
		{create, with{"ProfileConfiguration": with{"DefaultProfiles": []string{repeat("p", 10001)}}}, "profileConfiguration.defaultProfiles.1.member", "have length less than or equal to 10000"},
		{create, with{"ProfileConfiguration": with{"DefaultProfiles": []string{repeat("p", 10000)}}}, "profileConfiguration.defaultProfiles.1.member", ""},
		{create, with{"BackupConfiguration": with{"Status": "ON"}}, "backupConfiguration.status", "satisfy enum value set: [ENABLED, DISABLED]"},
		{create, with{"BackupConfiguration": with{"BackupType": "DAILY"}}, "backupConfiguration.backupType", "satisfy enum value set: [CONTINUOUS]"},
		{create, with{"BackupConfiguration": with{"RetentionPeriodInDays": 0}}, "backupConfiguration.retentionPeriodInDays", "have value greater than or equal to 1"},
		{create, with{"BackupConfiguration": with{"RetentionPeriodInDays": 1}}, "backupConfiguration.retentionPeriodInDays", ""},
		{create, with{"BackupConfiguration": with{"RetentionPeriodInDays": 30}}, "backupConfiguration.retentionPeriodInDays", ""},
		{create, with{"BackupConfiguration": with{"RetentionPeriodInDays": 31}}, "backupConfiguration.retentionPeriodInDays", "have value less than or equal to 30"},

		{"DescribeFHIRDatastore", with{}, "datastoreId", "not be null"},
		{"DescribeFHIRDatastore", with{"DatastoreId": ""}, "datastoreId", "have length greater than or equal to 1"},
		{"DescribeFHIRDatastore", with{"DatastoreId": repeat("a", 32)}, "datastoreId", ""},
		{"DescribeFHIRDatastore", with{"DatastoreId": repeat("a", 33)}, "datastoreId", "have length less than or equal to 32"},
		{"DescribeFHIRDatastore", with{"DatastoreId": "a*b"}, "datastoreId", class},
		{"DeleteFHIRDatastore", with{}, "datastoreId", "not be null"},
		{"DeleteFHIRDatastore", with{"DatastoreId": repeat("a", 33)}, "datastoreId", "have length less than or equal to 32"},

		{list, with{"MaxResults": 0}, "maxResults", "have value greater than or equal to 1"},
		{list, with{"MaxResults": -1}, "maxResults", "have value greater than or equal to 1"},
		{list, with{"MaxResults": 1}, "maxResults", ""},
		{list, with{"MaxResults": 500}, "maxResults", ""},
		{list, with{"MaxResults": 501}, "maxResults", "have value less than or equal to 500"},
		{list, with{"NextToken": repeat("a", 8193)}, "nextToken", "have length less than or equal to 8192"},
		{list, with{"NextToken": "ä"}, "nextToken", "satisfy regular expression pattern"},
		{list, with{"Filter": with{"DatastoreName": ""}}, "filter.datastoreName", "have length greater than or equal to 1"},
		{list, with{"Filter": with{"DatastoreName": repeat("a", 257)}}, "filter.datastoreName", "have length less than or equal to 256"},
		{list, with{"Filter": with{"DatastoreStatus": "GONE"}}, "filter.datastoreStatus", "satisfy enum value set: [CREATING, ACTIVE, DELETING, DELETED, CREATE_FAILED, UPDATING, UPDATE_FAILED]"},
		{list, with{"Filter": with{"DatastoreStatus": "UPDATE_FAILED"}}, "filter.datastoreStatus", ""},

		{update, with{}, "datastoreId", "not be null"},
		{update, with{"DatastoreId": anID, "DatastoreName": repeat("a", 257)}, "datastoreName", "have length less than or equal to 256"},
		{update, with{"DatastoreId": anID, "DatastoreName": ""}, "datastoreName", "have length greater than or equal to 1"},
		{update, with{"DatastoreId": anID, "NlpConfiguration": with{"Status": "x"}}, "nlpConfiguration.status", "satisfy enum value set"},
		{update, with{"DatastoreId": anID, "IdentityProviderConfiguration": with{}}, "identityProviderConfiguration.authorizationStrategy", "not be null"},

		{tag, with{"Tags": tagList(1)}, "resourceARN", "not be null"},
		{tag, with{"ResourceARN": anARN}, "tags", "not be null"},
		{tag, with{"ResourceARN": "", "Tags": tagList(1)}, "resourceARN", "have length greater than or equal to 1"},
		{tag, with{"ResourceARN": anARN, "Tags": tagList(200)}, "tags", ""},
		{tag, with{"ResourceARN": anARN, "Tags": tagList(201)}, "tags", "have length less than or equal to 200"},
		{tag, with{"ResourceARN": "arn:aws:healthlake:us-east-1:111122223333:datastore/" + anID, "Tags": tagList(1)}, "resourceARN", "satisfy regular expression pattern"},
		{tag, with{"ResourceARN": "arn:aws:s3:::bucket", "Tags": tagList(1)}, "resourceARN", "satisfy regular expression pattern"},
		{tag, with{"ResourceARN": repeat("a", 1012), "Tags": tagList(1)}, "resourceARN", "have length less than or equal to 1011"},
		{untag, with{"ResourceARN": anARN}, "tagKeys", "not be null"},
		{untag, with{"ResourceARN": anARN, "TagKeys": keyList(200)}, "tagKeys", ""},
		{untag, with{"ResourceARN": anARN, "TagKeys": keyList(201)}, "tagKeys", "have length less than or equal to 200"},
		{untag, with{"ResourceARN": anARN, "TagKeys": []string{""}}, "tagKeys.1.member", "have length greater than or equal to 1"},
		{untag, with{"ResourceARN": anARN, "TagKeys": []string{"a", repeat("k", 129)}}, "tagKeys.2.member", "have length less than or equal to 128"},
		{tags, with{}, "resourceARN", "not be null"},

		{export, with{}, "outputDataConfig", "not be null"},
		{export, with{}, "datastoreId", "not be null"},
		{export, with{}, "dataAccessRoleArn", "not be null"},
		{export, with{"OutputDataConfig": with{}}, "outputDataConfig.s3Configuration", "not be null"},
		{export, s3(nil, nil), "outputDataConfig.s3Configuration.s3Uri", "not be null"},
		{export, s3(nil, nil), "outputDataConfig.s3Configuration.kmsKeyId", "not be null"},
		{export, s3("s3://clinic/x", "alias/x"), "outputDataConfig.s3Configuration.s3Uri", ""},
		{export, s3("s3://clinic/x", "alias/x"), "outputDataConfig.s3Configuration.kmsKeyId", ""},
		{export, s3("s3://C/x", nil), "outputDataConfig.s3Configuration.s3Uri", "satisfy regular expression pattern: s3://"},
		{export, s3("file:///x", nil), "outputDataConfig.s3Configuration.s3Uri", "satisfy regular expression pattern: s3://"},
		{export, s3("s3://clinic/"+repeat("x", 1013), nil), "outputDataConfig.s3Configuration.s3Uri", "have length less than or equal to 1024"},
		{export, s3(nil, repeat("k", 401)), "outputDataConfig.s3Configuration.kmsKeyId", "have length less than or equal to 400"},
		{export, with{"DataAccessRoleArn": "arn:aws:iam::111122223333:user/x"}, "dataAccessRoleArn", "satisfy regular expression pattern: arn:aws"},
		{export, with{"DataAccessRoleArn": "arn:aws:iam::111122223333:role/x"}, "dataAccessRoleArn", ""},
		{export, with{"JobName": repeat("n", 64)}, "jobName", ""},
		{export, with{"JobName": repeat("n", 65)}, "jobName", "have length less than or equal to 64"},
		{export, with{"ClientToken": "a_b"}, "clientToken", "satisfy regular expression pattern"},
		{describeExport, with{}, "jobId", "not be null"},
		{describeExport, with{"JobId": repeat("j", 33)}, "jobId", "have length less than or equal to 32"},
		{listExports, with{}, "datastoreId", "not be null"},
		{listExports, with{"JobStatus": "DONE"}, "jobStatus", "satisfy enum value set: ["},
		{listExports, with{"MaxResults": 501}, "maxResults", "have value less than or equal to 500"},
		{listExports, with{"MaxResults": 500}, "maxResults", ""},
	} {
		w := newWorld(t)
		if _, has := c.in["DatastoreTypeVersion"]; c.operation == create && !has && c.member != "datastoreTypeVersion" {
			c.in["DatastoreTypeVersion"] = "R4"
		}
		body, err := json.Marshal(c.in)
		if err != nil {
			t.Fatal(err)
		}
		out := w.call(c.operation, string(body))
		name := fmt.Sprintf("%s %.120s", c.operation, body)
		marker := fmt.Sprintf("at '%s' failed to satisfy constraint: Member must ", c.member)
		if c.want == "" {
			if strings.Contains(out.Body.String(), marker) {
				t.Errorf("%s: %s", name, out.Body)
			}
			continue
		}
		e := exception(t, out)
		if out.Code != http.StatusBadRequest || e.Type != "ValidationException" || !strings.Contains(e.Message, marker+c.want) {
			t.Errorf("%s: %d %+v, want %s%s", name, out.Code, e, marker, c.want)
		}
		if !strings.Contains(e.Message, " detected: Value ") {
			t.Errorf("%s: %s", name, e.Message)
		}
	}
}

// All findings stand in one message, which stays within its bound.
func TestManyFindings(t *testing.T) {
	w := newWorld(t)
	e := exception(t, w.call("CreateFHIRDatastore", `{"DatastoreTypeVersion":"R5","ClientToken":"_"}`))
	if want := "2 validation errors detected: Value 'R5' at 'datastoreTypeVersion' failed to satisfy constraint: Member must satisfy enum value set: [R4]; " +
		"Value '_' at 'clientToken' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-]+"; e.Message != want {
		t.Errorf("%s\nwant %s", e.Message, want)
	}
	var bad []map[string]string
	for range 200 {
		bad = append(bad, map[string]string{"Key": repeat("*", 500), "Value": repeat("ä*", 300)})
	}
	body, _ := json.Marshal(with{"DatastoreTypeVersion": "R4", "Tags": bad})
	e = exception(t, w.call("CreateFHIRDatastore", string(body)))
	if len(e.Message) > 10000 || !strings.HasPrefix(e.Message, "400 validation errors detected: ") || !strings.HasSuffix(e.Message, "; and 388 more") {
		t.Errorf("%d bytes: %s", len(e.Message), e.Message)
	}
}

// The names under which AWS's patterns let a key be given.
func TestKeyNames(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{
		"1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-1234abcd12ab34cd56ef1234567890ab", "key/1234abcd", "alias/mine", "alias/aws/healthlake",
		"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:us-east-1:111122223333:alias/mine",
		"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/1234abcd",
	} {
		body, _ := json.Marshal(with{"DatastoreTypeVersion": "R4", "SseConfiguration": kms(name)})
		e := exception(t, w.call("CreateFHIRDatastore", string(body))) // no such key, but right in form
		if e.Type != "ValidationException" || !strings.Contains(e.Message, "does not exist") || !strings.HasPrefix(e.Message, "sseConfiguration.kmsEncryptionConfig.kmsKeyId: ") {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
