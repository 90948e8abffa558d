package fault

// Kind is one way of saying no. The list is closed: the wires know every entry.
type Kind uint8

// The kinds. New ones go at the end, with a row in the sheet.
const (
	Internal            Kind = iota // our own fault; the cause is in the log
	Syntax                          // not parseable: JSON, a URL, a date
	Invalid                         // parseable, but against a rule
	Unprocessable                   // right in form, cannot be applied (patch, bundle rule)
	NotFound                        // no such thing, or none that the caller may know of
	Gone                            // it was here and is deleted
	Conflict                        // the state forbids it now
	Duplicate                       // the same request was already carried out
	Precondition                    // If-Match, If-None-Match or If-None-Exist failed
	MultipleMatches                 // a conditional interaction matched several
	NotSupported                    // Tarn does not offer this
	MethodNotAllowed                // the resource knows no such method
	MediaType                       // Content-Type not understood
	NotAcceptable                   // Accept or _format cannot be met
	TooLarge                        // a size or count limit
	TooCostly                       // a work limit
	Throttled                       // a rate limit
	Quota                           // a quota that waiting does not lift
	MissingToken                    // no credentials at all
	UnknownKey                      // an access key or token nobody knows
	BadSignature                    // credentials that do not verify
	IncompleteSignature             // Authorization not in the form of Signature V4
	ExpiredToken                    // credentials that were good once
	Forbidden                       // known, and not allowed
	UnknownOperation                // X-Amz-Target names none
	Serialization                   // a body that is not the operation's shape
	FailedDependency                // another service said no
	Unavailable                     // not now: starting, draining, quarantined, key disabled upstream
	Full                            // no disk space left below the floor
	Timeout                         // a time limit
	Canceled                        // the client went away
)

// Row is one line of the sheet.
type Row struct {
	Name       string
	Sentence   string // what is said when nothing better is known
	FHIRStatus int    // HTTP status on the data plane
	IssueCode  string // R4 issue-type
	AWSStatus  int    // HTTP status on the control plane
	AWSType    string // __type and X-Amzn-ErrorType
}

// sheet is indexed by Kind. AWS types beyond the service model's six are those
// that AWS's front door gives before a service sees the request.
var sheet = [...]Row{
	Internal:            {"internal", "An internal error occurred", 500, "exception", 500, "InternalServerException"},
	Syntax:              {"syntax", "The request cannot be parsed", 400, "structure", 400, "ValidationException"},
	Invalid:             {"invalid", "The request breaks a rule", 400, "invalid", 400, "ValidationException"},
	Unprocessable:       {"unprocessable", "The request cannot be applied", 422, "processing", 400, "ValidationException"},
	NotFound:            {"not found", "Not found", 404, "not-found", 404, "ResourceNotFoundException"},
	Gone:                {"gone", "The resource is deleted", 410, "deleted", 404, "ResourceNotFoundException"},
	Conflict:            {"conflict", "The present state forbids it", 409, "conflict", 409, "ConflictException"},
	Duplicate:           {"duplicate", "The request was already carried out", 409, "duplicate", 409, "ConflictException"},
	Precondition:        {"precondition failed", "A precondition failed", 412, "conflict", 409, "ConflictException"},
	MultipleMatches:     {"multiple matches", "The criteria match more than one resource", 412, "multiple-matches", 409, "ConflictException"},
	NotSupported:        {"not supported", "Interaction not supported", 400, "not-supported", 400, "ValidationException"},
	MethodNotAllowed:    {"method not allowed", "Interaction not supported", 405, "not-supported", 405, "UnknownOperationException"},
	MediaType:           {"unsupported media type", "Incorrect MIME-type. Update request Content-Type header.", 415, "value", 415, "SerializationException"},
	NotAcceptable:       {"not acceptable", "No acceptable representation", 406, "not-supported", 406, "ValidationException"},
	TooLarge:            {"too large", "The request is larger than the limit", 413, "too-long", 413, "RequestEntityTooLargeException"},
	TooCostly:           {"too costly", "The request needs more work than the limit", 422, "too-costly", 400, "ValidationException"},
	Throttled:           {"throttled", "Rate exceeded", 429, "throttled", 429, "ThrottlingException"},
	Quota:               {"quota exceeded", "A quota is used up", 429, "too-costly", 402, "ServiceQuotaExceededException"},
	MissingToken:        {"missing credentials", "Missing Authentication Token", 401, "login", 403, "MissingAuthenticationTokenException"},
	UnknownKey:          {"unknown credentials", "The security token included in the request is invalid.", 401, "login", 403, "UnrecognizedClientException"},
	BadSignature:        {"bad signature", "The request signature we calculated does not match the signature you provided.", 403, "security", 403, "InvalidSignatureException"},
	IncompleteSignature: {"incomplete signature", "Invalid authorization header", 401, "security", 400, "IncompleteSignatureException"},
	ExpiredToken:        {"expired credentials", "The security token included in the request is expired", 401, "expired", 403, "ExpiredTokenException"},
	Forbidden:           {"forbidden", "Not authorized", 403, "forbidden", 403, "AccessDeniedException"},
	UnknownOperation:    {"unknown operation", "Unknown operation", 404, "not-supported", 400, "UnknownOperationException"},
	Serialization:       {"serialization", "The body does not have the operation's shape", 400, "structure", 400, "SerializationException"},
	FailedDependency:    {"failed dependency", "A service this depends on refused", 424, "transient", 424, "FailedDependencyException"},
	Unavailable:         {"unavailable", "Not available now", 503, "transient", 503, "ServiceUnavailableException"},
	Full:                {"storage full", "The server has no storage space left", 507, "no-store", 500, "InternalServerException"},
	Timeout:             {"timeout", "The time limit was reached", 504, "timeout", 500, "InternalServerException"},
	Canceled:            {"canceled", "The request was canceled", 499, "transient", 499, "InternalServerException"},
}

// Row gives the sheet's line of a kind; a number outside the list is Internal.
func (k Kind) Row() Row {
	if int(k) >= len(sheet) {
		return sheet[Internal]
	}
	return sheet[k]
}

func (k Kind) String() string   { return k.Row().Name }
func (k Kind) sentence() string { return k.Row().Sentence }

// Kinds lists every kind, for tests and documents.
func Kinds() []Kind {
	all := make([]Kind, len(sheet))
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}
