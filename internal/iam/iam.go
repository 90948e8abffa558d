// Package iam knows who may do what: principals, their access keys, and the
// policies that judge an action. It speaks no HTTP.
//
// The account's root has a key from the environment, or one made at first start:
//
//	<data>/credentials    [tarn] aws_access_key_id, aws_secret_access_key
//
// Users, roles and policies are declared in a file (YAML or JSON) that may
// change while the server runs:
//
//	users:    [{name, accessKeys: [{accessKeyId, secretAccessKey, status}], policies, tags}]
//	roles:    [{arn, policies, trust, tags}]
//	policies: [{name, document: {Version, Statement: […]}}]
//
// ParseDocument compiles a policy document, ParseAccount a file; NewDirectory
// keeps the account, looks access keys up, gives temporary credentials out and,
// as a Policy, judges. Authorize turns a judgement into a fault.
//
//	directory, err := iam.NewDirectory(iam.Options{…})
//	key, err := directory.Lookup(ctx, accessKeyID) // the verifier checks the signature
//	err = iam.Authorize(ctx, directory, iam.Request{
//		Principal: iam.Principal{ARN: key.Principal, AccessKeyID: accessKeyID},
//		Action:    "healthlake:ReadResource", Resource: store.ARN,
//		Values:    iam.Values{Time: now, SourceIP: ip, ResourceTags: store.Tags},
//	})
//
// DESIGN.md says how documents are read and where AWS leaves room.
package iam

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Principal is somebody recognised.
type Principal struct {
	ARN         string // "arn:aws:iam::111122223333:root"
	AccessKeyID string // the key that signed; empty for a role that a token stands for
}

// Anonymous is nobody in particular: who reads what is public.
var Anonymous = Principal{}

// Policy judges actions.
type Policy interface {
	// Judge says whether the principal may carry out the action on the resource.
	Judge(ctx context.Context, r Request) Decision
}

// Authorize returns nil where the policy allows the request, else
// fault.Forbidden in AWS's words.
func Authorize(ctx context.Context, p Policy, r Request) error {
	d := p.Judge(ctx, r)
	if d.Outcome == Allowed {
		return nil
	}
	return refusal(r, d)
}

// Unless returns fault.Forbidden where the policy denies the request explicitly,
// and nil where it allows it or says nothing. A bundle needs ProcessBundle; of
// its entries' own actions each may still be denied.
func Unless(ctx context.Context, p Policy, r Request) error {
	d := p.Judge(ctx, r)
	if d.Outcome != Denied {
		return nil
	}
	return refusal(r, d)
}

// refusal words a refusal as AWS does (IAM User Guide, "Troubleshoot access
// denied error messages").
func refusal(r Request, d Decision) error {
	who := "Anonymous"
	if r.Principal.ARN != "" {
		who = r.Principal.ARN
	}
	why := "because no identity-based policy allows the " + r.Action + " action"
	if d.Outcome == Denied {
		why = "with an explicit deny in an identity-based policy"
	}
	return fault.New(fault.Forbidden, "iam.Authorize", "User: %s is not authorized to perform: %s on resource: %s %s", who, r.Action, r.Resource, why)
}

// publicActions need no principal: the door lets them through unsigned only
// where the operator wants that.
var publicActions = map[string]bool{"healthlake:GetCapabilities": true, "healthlake:Discovery": true}

// anonymous judges a request of nobody in particular.
func anonymous(r Request) Decision {
	if publicActions[r.Action] {
		return Decision{Outcome: Allowed}
	}
	return Decision{}
}
