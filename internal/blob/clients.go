package blob

import (
	"context"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/fault"
)

// Clients makes the S3 clients of roles. Which credentials a role stands for, the
// first that fits:
//
//	Roles   has the role, or "*": those
//	Assume  AssumeRole of AWS STS, by the server's own credentials
//	        neither is configured: a role of the server's account means the
//	        server's own credentials
//
// Any other role is fault.Forbidden.
type Clients struct {
	Own     aws.Config // settings, and the server's own credentials
	Account string
	Roles   map[string]aws.CredentialsProvider // by ARN
	Assume  bool
	Options func(*s3.Options) // may be nil

	mu    sync.Mutex
	known map[string]*s3.Client
}

// maxClients bounds the clients that are kept; callers choose roles.
const maxClients = 256

// sessionName names the sessions of assumed roles in CloudTrail.
const sessionName = "tarn-healthlake"

// Client is the client of a role.
func (c *Clients) Client(_ context.Context, role string) (*s3.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.known[role]; client != nil {
		return client, nil
	}
	credentials, err := c.credentials(role)
	if err != nil {
		return nil, err
	}
	settings := c.Own.Copy()
	settings.Credentials = credentials
	options := []func(*s3.Options){}
	if c.Options != nil {
		options = append(options, c.Options)
	}
	client := s3.NewFromConfig(settings, options...)
	if c.known == nil || len(c.known) >= maxClients {
		c.known = map[string]*s3.Client{}
	}
	c.known[role] = client
	return client, nil
}

// OwnRole is Access.Role of the server itself, which works with its own
// credentials. It is no ARN, so no job can name it.
const OwnRole = "the server itself"

func (c *Clients) credentials(role string) (aws.CredentialsProvider, error) {
	if role == OwnRole {
		return c.Own.Credentials, nil
	}
	if found := c.Roles[role]; found != nil {
		return found, nil
	}
	if others := c.Roles["*"]; others != nil {
		return others, nil
	}
	if c.Assume {
		provider := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c.Own), role, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = sessionName
		})
		return aws.NewCredentialsCache(provider), nil
	}
	if parsed, err := arn.Parse(role); err == nil && len(c.Roles) == 0 && parsed.Account == c.Account && strings.HasPrefix(parsed.Resource, "role/") {
		return c.Own.Credentials, nil
	}
	return nil, &fault.Error{Kind: fault.Forbidden, Op: "blob.Client", Subject: "dataAccessRoleArn",
		Detail: "this server may not act in the role", Hint: "name a role that the server is configured for"}
}
