// Package arn names things as AWS does.
//
// An ARN is six fields with colons between them,
//
//	arn:partition:service:region:account:resource
//
// and a data store's is
//
//	arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c
//
// A data store id and a job id are 32 lower-case hexadecimal digits, a request
// id is a random UUID (RFC 9562 section 5.4). Parse and ParseDatastore read,
// Datastore and Root write, NewDatastoreID, NewJobID and NewRequestID mint from
// a source of randomness the caller gives.
//
//	id, err := arn.NewDatastoreID(rand.Reader)
//	name := arn.Datastore("aws", "us-east-1", "111122223333", id)
package arn

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// LengthMax is the longest ARN that is read, in bytes: AWS gives IAM role
// ARNs, the longest it takes anywhere, 2048.
const LengthMax = 2048

// Service is the namespace of data store ARNs.
const Service = "healthlake"

const (
	scheme = "arn"
	fields = 6 // scheme, partition, service, region, account, resource

	datastorePrefix = "datastore/" // of the resource field
	fhirPrefix      = "fhir/"      // between datastorePrefix and the id
)

// ARN is a parsed Amazon Resource Name. Region and Account are empty where the
// service has none (an IAM role has no region).
type ARN struct {
	Partition string // "aws", "aws-cn", "aws-us-gov" …
	Service   string
	Region    string
	Account   string // 12 digits, or empty
	Resource  string // everything after the fifth colon
}

// String writes the ARN.
func (a ARN) String() string {
	return strings.Join([]string{scheme, a.Partition, a.Service, a.Region, a.Account, a.Resource}, ":")
}

// Parse reads any ARN; a *fault.Error of kind Invalid says why it is none.
func Parse(s string) (ARN, error) {
	if len(s) > LengthMax {
		return ARN{}, fault.New(fault.Invalid, "arn.Parse", "an ARN is at most %d bytes long", LengthMax)
	}
	part := strings.SplitN(s, ":", fields)
	if len(part) != fields || part[0] != scheme {
		return ARN{}, malformed("an ARN has the form arn:partition:service:region:account:resource")
	}
	a := ARN{Partition: part[1], Service: part[2], Region: part[3], Account: part[4], Resource: part[5]}
	if reason := a.wrong(); reason != "" {
		return ARN{}, malformed(reason)
	}
	return a, nil
}

func malformed(reason string) error {
	return &fault.Error{Kind: fault.Invalid, Op: "arn.Parse", Detail: reason}
}

// wrong says what is wrong with a, or nothing.
func (a ARN) wrong() string {
	switch {
	case !isPartition(a.Partition):
		return "an ARN's partition is aws or starts with aws-"
	case a.Service == "" || !isLabel(a.Service):
		return "an ARN's service is letters, digits and hyphens"
	case !isLabel(a.Region):
		return "an ARN's region is letters, digits and hyphens"
	case a.Account != "" && !IsAccount(a.Account):
		return "an ARN's account is 12 digits"
	case a.Resource == "" || hasControl(a.Resource):
		return "an ARN ends with a resource"
	}
	return ""
}

// Datastore writes a data store's ARN.
func Datastore(partition, region, account, id string) string {
	return ARN{partition, Service, region, account, datastorePrefix + fhirPrefix + id}.String()
}

// DatastoreName is what a data store's ARN says.
type DatastoreName struct {
	Partition string
	Region    string
	Account   string
	ID        string // 32 lower-case hexadecimal digits
}

// String writes the data store's ARN, always with fhir/.
func (d DatastoreName) String() string {
	return Datastore(d.Partition, d.Region, d.Account, d.ID)
}

// ParseDatastore reads a data store's ARN. The service model's pattern of
// DatastoreArn ends with datastore/.+, that of AmazonResourceName with
// datastore/fhir/.{32}, and AWS's documents show both: both are read here, only
// the second is ever written. A *fault.Error of kind Invalid says why it is no
// data store's.
func ParseDatastore(s string) (DatastoreName, error) {
	a, err := Parse(s)
	if err != nil {
		return DatastoreName{}, err
	}
	id, isDatastore := strings.CutPrefix(a.Resource, datastorePrefix)
	if a.Service != Service || !isDatastore || a.Region == "" || a.Account == "" {
		return DatastoreName{}, notDatastore()
	}
	id = strings.TrimPrefix(id, fhirPrefix)
	if !IsDatastoreID(id) {
		return DatastoreName{}, notDatastore()
	}
	return DatastoreName{a.Partition, a.Region, a.Account, id}, nil
}

func notDatastore() error {
	return fault.New(fault.Invalid, "arn.ParseDatastore",
		"a data store's ARN has the form arn:aws:healthlake:region:account:datastore/fhir/id")
}

// Root writes the ARN of an account's root, whom the server's own first
// credentials speak for.
func Root(partition, account string) string {
	return ARN{Partition: partition, Service: "iam", Account: account, Resource: "root"}.String()
}

// IsAccount reports whether s is an AWS account number: 12 decimal digits.
func IsAccount(s string) bool {
	const accountDigits = 12
	return len(s) == accountDigits && only(s, isDigit)
}

func isPartition(s string) bool {
	return s == "aws" || strings.HasPrefix(s, "aws-") && isLabel(s)
}

func isLabel(s string) bool {
	return only(s, func(c byte) bool { return isDigit(c) || isLetter(c) || c == '-' })
}

func hasControl(s string) bool {
	return !only(s, func(c byte) bool { return c >= ' ' && c != 0x7f })
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func only(s string, allowed func(byte) bool) bool {
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return true
}
