package awsquery

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/iam"
)

var stsOperations = map[string]operation{
	"AssumeRole":        assumeRole,
	"GetCallerIdentity": getCallerIdentity,
	"GetSessionToken":   getSessionToken,
}

// credentials are temporary credentials as they are handed out.
type credentials struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time
}

func handOut(s iam.Session) credentials {
	return credentials{s.AccessKeyID, s.SecretAccessKey, s.SessionToken, s.Expiry}
}

// assumeRole is not asked of the policies here: a role's trust may allow it
// alone, which the directory knows.
func assumeRole(a *API, p *parameters) (*Request, error) {
	role, err := p.needed("RoleArn")
	if err != nil {
		return nil, err
	}
	in := iam.AssumeRole{Role: role, SessionName: p.text("RoleSessionName"), Policy: p.text("Policy")}
	if in.Duration, err = p.seconds("DurationSeconds"); err != nil {
		return nil, err
	}
	external := p.text("ExternalId")
	return &Request{run: func(ctx context.Context, c Caller) (any, error) {
		c.Values.ExternalID = external
		s, err := a.Tokens.AssumeRole(ctx, c.Principal, in, c.Values)
		if err != nil {
			return nil, policyFault(err, in.Policy)
		}
		var out struct {
			Credentials     credentials
			AssumedRoleUser struct{ Arn, AssumedRoleId string }
		}
		out.Credentials = handOut(s)
		out.AssumedRoleUser.Arn, out.AssumedRoleUser.AssumedRoleId = s.Principal.ARN, userID(s.Principal.ARN)
		return out, nil
	}}, nil
}

// policyFault calls a session's policy that is refused by its name.
func policyFault(err error, policy string) error {
	f := fault.From(err)
	if policy == "" || f.Kind != fault.Invalid || f.Subject != "" {
		return err
	}
	named := *f
	named.Kind, named.Subject = fault.Unprocessable, "Policy"
	return &named
}

// getCallerIdentity needs no permission.
func getCallerIdentity(*API, *parameters) (*Request, error) {
	return &Request{run: func(_ context.Context, c Caller) (any, error) {
		return struct{ Arn, UserId, Account string }{c.ARN, userID(c.ARN), accountOf(c.ARN)}, nil
	}}, nil
}

// getSessionToken needs no permission: it gives a user that user's own.
func getSessionToken(a *API, p *parameters) (*Request, error) {
	lasting, err := p.seconds("DurationSeconds")
	if err != nil {
		return nil, err
	}
	return &Request{run: func(ctx context.Context, c Caller) (any, error) {
		s, err := a.Tokens.SessionToken(ctx, c.Principal, lasting)
		if err != nil {
			return nil, err
		}
		return struct{ Credentials credentials }{handOut(s)}, nil
	}}, nil
}

func accountOf(name string) string {
	parsed, err := arn.Parse(name)
	if err != nil {
		return ""
	}
	return parsed.Account
}

// idLength is the length of a unique id behind its prefix (IAM User Guide, "IAM
// identifiers").
const idLength = 17

// userID is the unique id of a principal: the account of a root, AROA…:session
// of a role's session, AIDA… of a user. It follows from the ARN, so that one of
// the same name has the same id again.
func userID(name string) string {
	parsed, err := arn.Parse(name)
	if err != nil {
		return ""
	}
	kind, rest, _ := strings.Cut(parsed.Resource, "/")
	if kind == "assumed-role" {
		role, session, _ := strings.Cut(rest, "/")
		return uniqueID("AROA", parsed.Account+"/"+role) + ":" + session
	}
	if kind == "user" {
		return uniqueID("AIDA", name)
	}
	return parsed.Account
}

func uniqueID(prefix, of string) string {
	sum := sha256.Sum256([]byte(of))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:idLength]
}
