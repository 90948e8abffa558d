package iam

import "strings"

// managedPrefix begins the ARN of a policy that AWS keeps.
const managedPrefix = "arn:aws:iam::aws:policy/"

// Names of the managed policies.
const (
	FullAccess     = "AmazonHealthLakeFullAccess"
	ReadOnlyAccess = "AmazonHealthLakeReadOnlyAccess"
)

// HealthLakeService is the service principal of roles' trust policies.
const HealthLakeService = "healthlake.amazonaws.com"

// managedTexts are the managed policies of this service. AWS's FullAccess also
// lets its console list buckets, keys and roles, which are no actions here; its
// ReadOnlyAccess allows fewer actions than there are that read, neither versions
// nor histories (AWS Managed Policy Reference, version 2 of the latter, edited
// 2026-08-04).
var managedTexts = map[string]string{
	FullAccess: `{
		"Version": "2012-10-17",
		"Statement": [
			{"Effect": "Allow", "Action": "healthlake:*", "Resource": "*"},
			{"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*",
				"Condition": {"StringEquals": {"iam:PassedToService": "` + HealthLakeService + `"}}}
		]
	}`,
	ReadOnlyAccess: `{
		"Version": "2012-10-17",
		"Statement": {"Effect": "Allow", "Resource": "*", "Action": [
			"healthlake:DescribeDataTransformationJob", "healthlake:DescribeFHIRDatastore",
			"healthlake:DescribeFHIRExportJob", "healthlake:DescribeFHIRImportJob",
			"healthlake:GetCapabilities", "healthlake:GetDataTransformationProfile",
			"healthlake:ListDataTransformationJobs", "healthlake:ListDataTransformationProfiles",
			"healthlake:ListDataTransformationProfileVersions", "healthlake:ListFHIRDatastores",
			"healthlake:ReadResource", "healthlake:SearchWithGet", "healthlake:SearchWithPost",
			"healthlake:ValidateSource"
		]}
	}`,
}

// ManagedPolicy gives the text of one of AWS's managed policies, by name or ARN.
func ManagedPolicy(name string) (text string, ok bool) {
	text, ok = managedTexts[strings.TrimPrefix(name, managedPrefix)]
	return text, ok
}

// managedPolicies compiles them all, by name.
func managedPolicies() (map[string]*Document, error) {
	all := make(map[string]*Document, len(managedTexts))
	for name, text := range managedTexts {
		d, err := ParseDocument(managedPrefix+name, []byte(text))
		if err != nil {
			return nil, err
		}
		all[name] = d
	}
	return all, nil
}
