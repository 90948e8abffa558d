package datastore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// check refuses what the shapes of healthlake-2017-07-01 allow and the service
// does not.
func (r *CreateRequest) check() error {
	if r.Encryption.CmkType == CustomerManaged && r.Encryption.KeyID == "" {
		return invalid(keyMember, "a customer managed key needs its id",
			"give KmsKeyId, or use AWS_OWNED_KMS_KEY")
	}
	if r.Encryption.CmkType == AWSOwned && r.Encryption.KeyID != "" {
		return invalid(keyMember, "an AWS owned key cannot be chosen",
			"leave KmsKeyId out, or use CUSTOMER_MANAGED_KMS_KEY")
	}
	if err := r.Identity.check(); err != nil {
		return err
	}
	if err := r.Settings.check(true); err != nil {
		return err
	}
	return checkTags(r.Tags)
}

func invalid(member, detail, hint string) error {
	return &fault.Error{Kind: fault.Invalid, Op: "datastore.check", Subject: member, Detail: detail, Hint: hint}
}

// check holds IdentityProviderConfiguration against what the SMART pages of the
// developer guide require of it.
func (i Identity) check() error {
	if i.Strategy == AWSAuth {
		return i.checkAWS()
	}
	if i.Metadata == "" {
		return invalid("identityProviderConfiguration.metadata", "a SMART on FHIR data store needs its discovery document",
			"give Metadata as a JSON string")
	}
	return checkMetadata(i.Metadata)
}

func (i Identity) checkAWS() error {
	switch {
	case i.FineGrained:
		return invalid("identityProviderConfiguration.fineGrainedAuthorizationEnabled", "fine-grained authorization needs a SMART on FHIR strategy",
			"use SMART_ON_FHIR, or leave it out")
	case i.Metadata != "":
		return invalid("identityProviderConfiguration.metadata", "AWS_AUTH takes no metadata", "leave it out")
	case i.IdpLambdaARN != "":
		return invalid("identityProviderConfiguration.idpLambdaArn", "AWS_AUTH takes no token Lambda", "leave it out")
	}
	return nil
}

// checkMetadata requires what a SMART App Launch discovery document of
// HealthLake must hold; more members and values are tolerated.
func checkMetadata(text string) error {
	const member = "identityProviderConfiguration.metadata"
	var m struct {
		AuthorizationEndpoint string   `json:"authorization_endpoint"`
		TokenEndpoint         string   `json:"token_endpoint"`
		GrantTypes            []string `json:"grant_types_supported"`
		Capabilities          []string `json:"capabilities"`
		ChallengeMethods      []string `json:"code_challenge_methods_supported"`
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil || !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return invalid(member, "not a JSON object with the members of a SMART discovery document", "see SMART App Launch, .well-known/smart-configuration")
	}
	for _, need := range []struct {
		name string
		met  bool
	}{
		{"authorization_endpoint", m.AuthorizationEndpoint != ""},
		{"token_endpoint", m.TokenEndpoint != ""},
		{"grant_types_supported", len(m.GrantTypes) > 0},
		{"capabilities", len(m.Capabilities) > 0},
		{"code_challenge_methods_supported", len(m.ChallengeMethods) > 0},
	} {
		if !need.met {
			return invalid(member, fmt.Sprintf("%s is missing or empty", need.name), "add it to the metadata")
		}
	}
	if !slices.Contains(m.ChallengeMethods, "S256") {
		return invalid(member, "code_challenge_methods_supported lacks S256", "add S256")
	}
	return nil
}

func (s *Settings) setDefaults() {
	s.NLP = orDefault(s.NLP, "DISABLED")
}

// check refuses settings whose machinery is not in this version of Tarn, so
// that none is accepted in silence.
func (s Settings) check(creating bool) error {
	switch s.NLP {
	case "", "DISABLED":
	case "ENABLED":
		return missing("nlpConfiguration.status", "integrated natural language processing")
	default:
		return invalid("nlpConfiguration.status", s.NLP+" is an answer, not a request", "use ENABLED or DISABLED")
	}
	if err := s.checkAnalytics(creating); err != nil {
		return err
	}
	if len(s.DefaultProfiles) > 0 {
		return missing("profileConfiguration.defaultProfiles", "validation against profiles")
	}
	return s.Backup.check()
}

func (b *Backup) check() error {
	switch {
	case b == nil, b.Status == backupOff, b.On():
		return nil
	case b.Status == "":
		return invalid("backupConfiguration.status", "a backup configuration says whether backup is on", "give Status")
	}
	return invalid("backupConfiguration.status", b.Status+" is no status", "use ENABLED or DISABLED")
}

// backupOff is BackupConfiguration.Status of a store without backup.
const backupOff = "DISABLED"

func (s Settings) checkAnalytics(creating bool) error {
	switch s.Analytics {
	case "", "PAUSED":
		return nil
	case "ENABLED":
		return missing("analyticsConfiguration.status", "analytics")
	case "DISABLED":
		if creating {
			return invalid("analyticsConfiguration.status", "DISABLED is not accepted at creation", "use PAUSED, or leave it out")
		}
		return nil
	}
	return invalid("analyticsConfiguration.status", s.Analytics+" is an answer, not a request", "use ENABLED, PAUSED or DISABLED")
}

func missing(member, what string) error {
	return invalid(member, what+" is not available in this version of Tarn", "leave it out")
}

// reservedTag begins tag keys that users cannot set (AWS General Reference,
// "Tag naming limits").
const reservedTag = "aws:"

// MaxTags is how many tags a data store may carry (TagList, healthlake-2017-07-01).
const MaxTags = 200

func checkTags(tags []Tag) error {
	if len(tags) > MaxTags {
		return invalid("tags", fmt.Sprintf("more than %d tags", MaxTags), "remove some")
	}
	seen := map[string]bool{}
	for _, tag := range tags {
		if strings.HasPrefix(strings.ToLower(tag.Key), reservedTag) {
			return invalid("tags", fmt.Sprintf("the key %q begins with %s, which AWS keeps for itself", tag.Key, reservedTag), "use another key")
		}
		if seen[tag.Key] {
			return invalid("tags", fmt.Sprintf("the key %q stands twice", tag.Key), "give each key once")
		}
		seen[tag.Key] = true
	}
	return nil
}
