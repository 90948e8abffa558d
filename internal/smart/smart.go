// Package smart lets apps in by bearer tokens, as SMART App Launch 2.2 and AWS
// HealthLake say: it verifies a token with the one judge of its data store,
// reads its scopes, and turns them into a search.Grant.
//
//	token → Judge → Claims{scope, patient, fhirUser, roleARN, exp}
//	scope → Scopes → rules per resource type → *search.Grant
//
// A store's judge is its token Lambda where it has one, else its issuer's keys
// (JWT), else its issuer's introspection endpoint (RFC 7662). What was verified
// is kept for a while, per store, in bounded memory.
//
//	authority, err := smart.New(smart.Options{…})                  // one per server
//	auth, err := authority.Authorize(ctx, store, "ReadResource", token) // 401, 403, 424, 504
//	grant, err := auth.Permit(world, "ReadResource", "Observation")     // 403
//
// The Grant goes into the request's interaction.Session, which asks it at every
// hop; nothing here reads a resource. DESIGN.md has the table of what a patient/
// scope shows beyond its compartment, and the readings of the specifications.
//
// Spec: http://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html.
package smart

import "github.com/tarn-fhir/tarn/internal/fault"

// Strategy is a store's AuthorizationStrategy.
type Strategy string

// The strategies that take bearer tokens; any other takes none.
const (
	V1Only Strategy = "SMART_ON_FHIR_V1"
	All    Strategy = "SMART_ON_FHIR"
)

// Store is what the package must know of a data store. Two equal Stores are
// judged alike; a change in any member begins anew.
type Store struct {
	ID string
	// Endpoint is the data store's URL as its tokens' audience names it,
	// "https://host/datastore/id/r4/".
	Endpoint    string
	Strategy    Strategy
	FineGrained bool   // FineGrainedAuthorizationEnabled
	Metadata    string // JSON text of the discovery document
	LambdaARN   string // IdpLambdaArn; empty is none
}

// insufficient is HealthLake's word for a scope that is too small (developer
// guide, "Troubleshooting", as seen live).
const insufficient = "Insufficient SMART scope permissions."

func tooSmall(op, subject string) error {
	return &fault.Error{Kind: fault.Forbidden, Op: op, Detail: insufficient, Subject: subject}
}

// unknown refuses a token that does not verify; the reason names no part of it.
func unknown(op, reason string, cause error) error {
	return &fault.Error{Kind: fault.UnknownKey, Op: op, Detail: "the bearer token is not accepted: " + reason, Cause: cause}
}

// broken is a judge that cannot say: the issuer or the Lambda failed.
func broken(op, what string, cause error) error {
	return &fault.Error{Kind: fault.FailedDependency, Op: op, Detail: what, Cause: cause}
}
