package awsapi

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// findings collects what is wrong with a request's members, in AWS's words:
//
//	2 validation errors detected: Value 'R5' at 'datastoreTypeVersion' failed to
//	satisfy constraint: Member must satisfy enum value set: [R4]; Value …
type findings struct {
	list []string
	more int // beyond maxFindings
}

// maxFindings is how many findings a message lists: with maxQuoted it keeps
// under the 10,000 characters of an exception's Message.
const maxFindings = 12

func (f *findings) add(member, value, rule string) {
	if len(f.list) == maxFindings {
		f.more++
		return
	}
	f.list = append(f.list, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: Member must %s", value, member, rule))
}

// fault is the ValidationException of all findings, nil when there is none.
func (f *findings) fault() error {
	if len(f.list) == 0 {
		return nil
	}
	noun := "error"
	count := len(f.list) + f.more
	if count > 1 {
		noun = "errors"
	}
	listed := strings.Join(f.list, "; ")
	if f.more > 0 {
		listed += fmt.Sprintf("; and %d more", f.more)
	}
	return fault.New(fault.Invalid, "awsapi", "%d validation %s detected: %s", count, noun, listed)
}

// maxQuoted is how much of a bad value a message repeats, in bytes.
const maxQuoted = 256

func quoted(s string) string {
	if len(s) > maxQuoted {
		s = strings.ToValidUTF8(s[:maxQuoted], "") + "…"
	}
	return "'" + s + "'"
}

// text is the constraint of one string shape: its length in characters and its
// pattern, as the service model writes it.
type text struct {
	min, max int
	pattern  *regexp.Regexp // anchored at both ends
	spelled  string         // the pattern as AWS spells it
}

func pattern(low, high int, spelled string) text {
	return text{low, high, regexp.MustCompile(`^(?s:` + spelled + `)$`), spelled}
}

func (t text) check(f *findings, member string, value *string) {
	if value == nil {
		return
	}
	n := utf8.RuneCountInString(*value)
	if n < t.min {
		f.add(member, quoted(*value), fmt.Sprintf("have length greater than or equal to %d", t.min))
	}
	if n > t.max {
		f.add(member, quoted(*value), fmt.Sprintf("have length less than or equal to %d", t.max))
	}
	if t.pattern != nil && n <= t.max && !t.pattern.MatchString(*value) {
		f.add(member, quoted(*value), "satisfy regular expression pattern: "+t.spelled)
	}
}

func required[T any](f *findings, member string, value *T) {
	if value == nil {
		f.add(member, "null", "not be null")
	}
}

// requiredText is required and check in one.
func requiredText(f *findings, member string, value *string, t text) {
	required(f, member, value)
	t.check(f, member, value)
}

// enum is the constraint of one enumeration.
type enum []string

func (e enum) check(f *findings, member string, value *string) {
	if value == nil {
		return
	}
	for _, allowed := range e {
		if *value == allowed {
			return
		}
	}
	f.add(member, quoted(*value), "satisfy enum value set: ["+strings.Join(e, ", ")+"]")
}

func between(f *findings, member string, value *int, low, high int) {
	switch {
	case value == nil:
	case *value < low:
		f.add(member, fmt.Sprintf("'%d'", *value), fmt.Sprintf("have value greater than or equal to %d", low))
	case *value > high:
		f.add(member, fmt.Sprintf("'%d'", *value), fmt.Sprintf("have value less than or equal to %d", high))
	}
}

func length(f *findings, member string, n, low, high int) {
	if n < low {
		f.add(member, fmt.Sprintf("'[%d members]'", n), fmt.Sprintf("have length greater than or equal to %d", low))
	}
	if n > high {
		f.add(member, fmt.Sprintf("'[%d members]'", n), fmt.Sprintf("have length less than or equal to %d", high))
	}
}

// The shapes of healthlake-2017-07-01 that have constraints.
var (
	nameClass     = `([\p{L}\p{Z}\p{N}_.:/=+\-%@]*)`
	tagClass      = `([\p{L}\p{Z}\p{N}_.:/=+\-@]*)`
	datastoreID   = pattern(1, 32, nameClass)
	datastoreName = pattern(1, 256, nameClass)
	clientToken   = pattern(1, 64, `[a-zA-Z0-9-]+`)
	keyID         = pattern(1, 400, `(arn:aws((-us-gov)|(-iso)|(-iso-b)|(-cn))?:kms:)?([a-z]{2}-[a-z]+(-[a-z]+)?-\d:)?(\d{12}:)?(((key/)?[a-zA-Z0-9-_]+)|(alias/[a-zA-Z0-9:/_-]+))`)
	lambdaARN     = pattern(49, 256, `arn:aws:lambda:[a-z]{2}-[a-z]+-\d{1}:\d{12}:function:[a-zA-Z0-9\-_\.]+(:(\$LATEST|[a-zA-Z0-9\-_]+))?`)
	resourceARN   = pattern(1, 1011, `arn:aws((-us-gov)|(-iso)|(-iso-b)|(-cn))?:healthlake:[a-z0-9-]+:\d{12}:(datastore/fhir/.{32}|dataTransformationProfile/[a-f0-9]{32})`)
	tagKey        = pattern(1, 128, tagClass)
	tagValue      = pattern(0, 256, tagClass)
	nextToken     = pattern(0, 8192, `[\x00-\x7f]*`)
	profileName   = text{min: 0, max: 10000}

	fhirVersion     = enum{"R4"}
	cmkType         = enum{"CUSTOMER_MANAGED_KMS_KEY", "AWS_OWNED_KMS_KEY"}
	preloadType     = enum{"SYNTHEA"}
	strategy        = enum{"SMART_ON_FHIR_V1", "SMART_ON_FHIR", "AWS_AUTH"}
	nlpStatus       = enum{"ENABLED", "ENABLING", "DISABLED", "DISABLING"}
	analyticsStatus = enum{"ENABLED", "ENABLING", "DISABLED", "DISABLING", "PAUSING", "PAUSED"}
	backupStatus    = enum{"ENABLED", "DISABLED"}
	backupType      = enum{"CONTINUOUS"}
	datastoreStatus = enum{"CREATING", "ACTIVE", "DELETING", "DELETED", "CREATE_FAILED", "UPDATING", "UPDATE_FAILED"}
)

// List sizes of healthlake-2017-07-01.
const (
	maxTags       = 200
	maxResults    = 500
	defaultResult = 100 // what a list gives without MaxResults
)
