package sigv4

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

const algorithm = "AWS4-HMAC-SHA256"

// Bounds of what a signature may name; a real one is below 500 bytes and a
// dozen headers.
const (
	authorizationBytesMax = 8 << 10
	signedHeadersMax      = 64
	credentialElements    = 5 // key id, date, region, service, terminator
	signatureDigits       = 64
)

// Parameters of the query form (IAM User Guide, "Authentication methods").
const (
	paramAlgorithm     = "X-Amz-Algorithm"
	paramCredential    = "X-Amz-Credential"
	paramDate          = "X-Amz-Date"
	paramExpires       = "X-Amz-Expires"
	paramSignedHeaders = "X-Amz-SignedHeaders"
	paramSignature     = "X-Amz-Signature"
	paramToken         = "X-Amz-Security-Token"
	paramContentHash   = "X-Amz-Content-Sha256"
)

// expiresMax is the longest life of a presigned request, in seconds: a week.
const expiresMax = 604_800

// claim is what a request says about its own signature, in either form.
type claim struct {
	presigned bool

	accessKeyID string
	date        string // YYYYMMDD of the scope
	region      string
	service     string
	terminator  string

	signedHeaders string   // as written: "host;x-amz-date"
	names         []string // signedHeaders taken apart: lower-case, no two alike
	signature     string
	token         string        // session token, or empty
	contentHash   string        // x-amz-content-sha256, or empty
	when          time.Time     // UTC, whole seconds
	expires       time.Duration // presigned only; 0 is unsaid
}

// Presented tells whether r carries a Version 4 signature, well-formed or not,
// so that a server that also takes bearer tokens knows whom to ask.
func Presented(r *http.Request) bool {
	if strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-") {
		return true
	}
	_, query, _ := strings.Cut(rawTarget(r), "?")
	return isPresigned(splitQuery(query))
}

func isPresigned(pairs []pair) bool {
	for _, p := range pairs {
		if name := unescape(p.name, plusIsSpace); name == paramSignature || name == paramAlgorithm {
			return true
		}
	}
	return false
}

// readClaim reads the signature out of the header or, where there is none, out
// of the query.
func readClaim(r *http.Request, pairs []pair) (*claim, error) {
	written, presigned := r.Header["Authorization"], isPresigned(pairs)
	switch {
	case len(written) == 0 && !presigned:
		return nil, &fault.Error{Kind: fault.MissingToken, Op: opVerify}
	case len(written) > 1, len(written) > 0 && presigned:
		return nil, incomplete("Only one authentication mechanism is allowed: " +
			"the Authorization header once, or the query parameters of a presigned request.")
	case presigned:
		return readQueryClaim(r, pairs)
	}
	return readHeaderClaim(r, written[0])
}

func incomplete(reason string) error {
	return &fault.Error{Kind: fault.IncompleteSignature, Op: opVerify, Detail: reason}
}

func readHeaderClaim(r *http.Request, authorization string) (*claim, error) {
	stamps, formats := headerDate(r.Header)
	c, err := parseAuthorization(authorization, len(stamps) == 0)
	if err != nil {
		return nil, err
	}
	if c.when, err = parseDate(stamps, formats); err != nil {
		return nil, err
	}
	c.token = strings.Join(r.Header["X-Amz-Security-Token"], ",")
	c.contentHash = strings.Join(r.Header["X-Amz-Content-Sha256"], ",")
	return c, nil
}

// parseAuthorization reads the Authorization header. The header itself is never
// shown again: it may hold another scheme's secret. withoutDate makes the
// complaint about a missing date part of the list, as AWS does.
func parseAuthorization(header string, withoutDate bool) (*claim, error) {
	if len(header) > authorizationBytesMax {
		return nil, incomplete(fmt.Sprintf("Authorization header is longer than %d bytes.", authorizationBytesMax))
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if strings.HasPrefix(scheme, "AWS4-") && scheme != algorithm {
		return nil, incomplete("Unsupported AWS 'algorithm': only " + algorithm + " is supported.")
	}
	if scheme != algorithm {
		rest = ""
	}
	var part authorization
	if err := part.read(rest); err != nil {
		return nil, err
	}
	if reasons := part.missing(withoutDate); len(reasons) > 0 {
		return nil, incomplete(strings.Join(reasons, " "))
	}
	c := &claim{signature: part[partSignature].value, signedHeaders: part[partSignedHeaders].value}
	return c, c.takeApart(part[partCredential].value)
}

// authorization holds the parts of an Authorization header.
type authorization [len(authorizationNames)]struct {
	value string
	there bool
}

const (
	partCredential = iota
	partSignature
	partSignedHeaders
)

// authorizationNames are the names of the parts, in the order in which AWS
// complains of missing ones.
var authorizationNames = [...]string{partCredential: "Credential", partSignature: "Signature", partSignedHeaders: "SignedHeaders"}

// read reads "name=value, name=value".
func (a *authorization) read(list string) error {
	for element := range strings.SplitSeq(list, ",") {
		element = strings.TrimSpace(element)
		if element == "" {
			continue
		}
		name, value, found := strings.Cut(element, "=")
		if !found || strings.ContainsAny(value, " \t") {
			return incomplete("Authorization header holds what is not a valid key=value pair (missing equal-sign).")
		}
		at := slices.Index(authorizationNames[:], name)
		if at < 0 {
			return incomplete("Authorization header holds a parameter other than Credential, SignedHeaders and Signature.")
		}
		if a[at].there {
			return incomplete("Authorization header holds '" + name + "' twice.")
		}
		a[at].value, a[at].there = value, true
	}
	return nil
}

// missing complains of each part that is not there.
func (a *authorization) missing(withoutDate bool) (reasons []string) {
	for at, name := range authorizationNames {
		if a[at].value == "" {
			reasons = append(reasons, "Authorization header requires '"+name+"' parameter.")
		}
	}
	if withoutDate {
		reasons = append(reasons, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	return reasons
}

// missingParts complains of each name that part lacks.
func missingParts(format string, part map[string]string, names ...string) (reasons []string) {
	for _, name := range names {
		if part[name] == "" {
			reasons = append(reasons, fmt.Sprintf(format, name))
		}
	}
	return reasons
}

// takeApart reads credential and signed headers.
func (c *claim) takeApart(credential string) error {
	rest, found := credential, strings.Count(credential, "/") == credentialElements-1
	for _, element := range [...]*string{&c.accessKeyID, &c.date, &c.region, &c.service, &c.terminator} {
		*element, rest, _ = strings.Cut(rest, "/")
	}
	if !found || c.accessKeyID == "" {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	c.names = strings.Split(c.signedHeaders, ";")
	return c.checkNames()
}

// checkNames refuses names no HTTP header has, repeated ones, and a list
// without host, which must always be signed.
func (c *claim) checkNames() error {
	if len(c.names) > signedHeadersMax {
		return incomplete(fmt.Sprintf("SignedHeaders names more than %d headers.", signedHeadersMax))
	}
	for i, name := range c.names {
		if !isHeaderName(name) || slices.Contains(c.names[:i], name) {
			return incomplete("SignedHeaders is not a list of different lower-case header names with semicolons between them.")
		}
	}
	if !c.signs("host") {
		return incomplete("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return nil
}

// isHeaderName reports whether s is a token of RFC 9110 section 5.6.2 without
// upper-case letters.
func isHeaderName(s string) bool {
	for i := range len(s) {
		c := s[i]
		isWord := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !isWord && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// signs reports whether the list of signed headers holds name.
func (c *claim) signs(name string) bool { return slices.Contains(c.names, name) }

// headerDate finds when a request was signed, and the forms that may take:
// X-Amz-Date where it is there, else Date, which may be in any of HTTP's forms,
// in RFC 5322's with a numeric zone (botocore writes -0000) or in ISO 8601 basic.
func headerDate(h http.Header) (stamps, formats []string) {
	if stamps = h["X-Amz-Date"]; len(stamps) > 0 {
		return stamps, dateFormats[:1]
	}
	return h["Date"], dateFormats
}

var dateFormats = []string{timestampFormat, http.TimeFormat, time.RFC1123Z, time.RFC850, time.ANSIC}

func parseDate(stamps, formats []string) (time.Time, error) {
	if len(stamps) == 1 {
		for _, format := range formats {
			if when, err := time.Parse(format, stamps[0]); err == nil {
				return when.UTC(), nil
			}
		}
	}
	return time.Time{}, incomplete("Date must be in ISO-8601 'basic format', as in 20260101T000000Z.")
}

// readQueryClaim reads the query form.
func readQueryClaim(r *http.Request, pairs []pair) (*claim, error) {
	part, err := queryParts(pairs)
	if err != nil {
		return nil, err
	}
	const lacking = "AWS query-string parameters must include '%s'."
	reasons := missingParts(lacking, part, paramAlgorithm, paramCredential, paramSignature, paramSignedHeaders, paramDate)
	if len(reasons) > 0 {
		return nil, incomplete(strings.Join(reasons, " "))
	}
	if part[paramAlgorithm] != algorithm {
		return nil, incomplete("Unsupported AWS 'algorithm': only " + algorithm + " is supported.")
	}
	c := &claim{presigned: true, signature: part[paramSignature], signedHeaders: part[paramSignedHeaders], token: part[paramToken]}
	if err := c.takeApart(part[paramCredential]); err != nil {
		return nil, err
	}
	if c.when, err = time.Parse(timestampFormat, part[paramDate]); err != nil {
		return nil, incomplete("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\".")
	}
	c.contentHash = part[paramContentHash]
	if c.contentHash == "" {
		c.contentHash = strings.Join(r.Header["X-Amz-Content-Sha256"], ",")
	}
	c.expires, err = parseExpires(part[paramExpires])
	return c, err
}

// queryParts gathers the parameters of the query form, each at most once.
func queryParts(pairs []pair) (map[string]string, error) {
	part := make(map[string]string, 8)
	for _, p := range pairs {
		name := unescape(p.name, plusIsSpace)
		if !isAuthParam(name) {
			continue
		}
		if _, twice := part[name]; twice {
			return nil, incomplete("AWS query-string parameters hold '" + name + "' twice.")
		}
		part[name] = unescape(p.value, plusIsSpace)
	}
	return part, nil
}

func isAuthParam(name string) bool {
	switch name {
	case paramAlgorithm, paramCredential, paramDate, paramExpires,
		paramSignedHeaders, paramSignature, paramToken, paramContentHash:
		return true
	}
	return false
}

// parseExpires reads the life of a presigned request in seconds. Unsaid it is 0:
// AWS's services other than S3 then take MaxSkew, and so do we.
func parseExpires(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	seconds, err := strconv.ParseUint(s, 10, 32)
	if err != nil || seconds < 1 || seconds > expiresMax {
		return 0, incomplete(fmt.Sprintf("X-Amz-Expires must be a number of seconds from 1 to a week; that is, %d.", expiresMax))
	}
	return time.Duration(seconds) * time.Second, nil
}

// WithoutAuth takes the parameters of the query form out of a raw query and
// leaves the rest as written, so that a presigned search searches for what its
// user asked.
func WithoutAuth(rawQuery string) string {
	if !strings.Contains(rawQuery, "X-Amz-") && !strings.Contains(rawQuery, "%") {
		return rawQuery
	}
	var kept []string
	for element := range strings.SplitSeq(rawQuery, "&") {
		name, _, _ := strings.Cut(element, "=")
		if !isAuthParam(unescape(name, plusIsSpace)) {
			kept = append(kept, element)
		}
	}
	return strings.Join(kept, "&")
}
