package iam

import (
	"net/netip"
	"time"
)

// Request is what a policy judges.
type Request struct {
	Principal Principal
	Action    string // "healthlake:ReadResource"
	Resource  string // an ARN, or "*" where the action names none
	Values    Values
}

// Values are what conditions may look at besides principal and resource: the
// request context of IAM. A zero member is a key that the request does not have,
// SecureTransport excepted, which every request has.
type Values struct {
	Time            time.Time         // aws:CurrentTime, aws:EpochTime
	SourceIP        netip.Addr        // aws:SourceIp: of the client, not of a proxy in front
	SecureTransport bool              // aws:SecureTransport: the request came over TLS
	UserAgent       string            // aws:UserAgent
	Region          string            // aws:RequestedRegion
	ResourceTags    map[string]string // aws:ResourceTag/…: the tags that Resource has now
	RequestTags     map[string]string // aws:RequestTag/…: the tags that the request would set
	TagKeys         []string          // aws:TagKeys, where tags are named without values; else RequestTags' keys
	PassedToService string            // iam:PassedToService: whom iam:PassRole hands a role to
	SourceAccount   string            // aws:SourceAccount: the account a service acts for, in trust
	SourceARN       string            // aws:SourceArn: the resource a service acts for, in trust
	ExternalID      string            // sts:ExternalId, in trust
}

// subject is what is known of who asks.
type subject struct {
	arn     string // of the user, the root or the role (not of its session)
	account string
	name    string // of a user; aws:username
	tags    map[string]string
}

// environment is one judgement: the request, who asks, and the effect of the
// statement in hand.
type environment struct {
	*Request
	subject subject
	action  string // the request's, folded
	denying bool
}
