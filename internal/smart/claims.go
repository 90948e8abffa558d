package smart

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Claims are what a judge says of a token.
type Claims struct {
	Issuer   string
	Subject  string
	ClientID string
	Audience []string
	IssuedAt time.Time // zero where the token does not say
	// NotBefore and Expires bound the token's life, to the second, skew not
	// counted; a zero NotBefore is open. Expires is always there.
	NotBefore time.Time
	Expires   time.Time
	Scope     string // space separated
	Patient   string // launch context, as given
	FHIRUser  string
	UID       string // the Lambda's name for the user
	RoleARN   string // the Lambda's iamRoleARN: its policies must allow too; empty with other judges
}

// Skew is how far the clocks of an issuer and of this server may be apart.
const Skew = time.Minute

// payload is a token's claims as JSON has them: a JWT's (RFC 7519, RFC 9068), an
// introspection's (RFC 7662) or a Lambda's authPayload.
type payload struct {
	Issuer       string         `json:"iss"`
	Subject      string         `json:"sub"`
	ClientID     string         `json:"client_id"`
	Authorized   string         `json:"azp"` // OpenID Connect's name for the client
	Audience     texts          `json:"aud"`
	IssuedAt     *moment        `json:"iat"`
	NotBefore    *moment        `json:"nbf"`
	Expires      *moment        `json:"exp"`
	Scope        texts          `json:"scope"`
	Scp          texts          `json:"scp"` // some issuers' name for scope
	Patient      string         `json:"patient"`
	FHIRUser     string         `json:"fhirUser"`
	UID          loose          `json:"uid"`
	IsAuthorized yes            `json:"isAuthorized"`
	Active       jsontext.Value `json:"active"`
}

// texts is a string, or an array of strings.
type texts []string

// UnmarshalJSONFrom reads either form; null is none.
func (t *texts) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case '[':
		return json.UnmarshalDecode(d, (*[]string)(t))
	case 'n':
		*t = nil
		return d.SkipValue()
	}
	var one string
	if err := json.UnmarshalDecode(d, &one); err != nil {
		return err
	}
	*t = texts{one}
	return nil
}

// moment is a NumericDate (RFC 7519 section 2): seconds since 1970, perhaps with
// a fraction, which is cut.
type moment time.Time

// maxSeconds is the last second of the year 9999.
const maxSeconds = 253402300799

// UnmarshalJSONFrom refuses what is not a number of this era.
func (m *moment) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var seconds float64
	if err := json.UnmarshalDecode(d, &seconds); err != nil {
		return err
	}
	if seconds < 0 || seconds > maxSeconds || math.IsNaN(seconds) {
		return fault.New(fault.Invalid, "smart.moment", "not a date")
	}
	*m = moment(time.Unix(int64(seconds), 0))
	return nil
}

func (m *moment) time() time.Time {
	if m == nil {
		return time.Time{}
	}
	return time.Time(*m)
}

// yes is true, "true", and nothing else.
type yes bool

// UnmarshalJSONFrom never fails: what is neither is no.
func (y *yes) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case 't':
		*y = true
	case '"':
		text, err := jsontext.AppendUnquote(nil, v)
		*y = yes(err == nil && strings.EqualFold(string(text), "true"))
	}
	return nil
}

// loose is a string, or nothing where it is of another kind.
type loose string

// UnmarshalJSONFrom never fails for a value that is JSON.
func (l *loose) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil || v.Kind() != '"' {
		return err
	}
	text, err := jsontext.AppendUnquote(nil, v)
	*l = loose(text)
	return err
}

// parsePayload reads claims: an object, each member at most once.
func parsePayload(text []byte) (payload, error) {
	var p payload
	if kind := jsontext.Value(text).Kind(); kind != '{' {
		return p, fault.New(fault.Syntax, "smart.parsePayload", "the claims are not a JSON object")
	}
	err := json.Unmarshal(text, &p)
	return p, err
}

func (p *payload) claims() Claims {
	scope := p.Scope
	if len(scope) == 0 {
		scope = p.Scp
	}
	client := p.ClientID
	if client == "" {
		client = p.Authorized
	}
	return Claims{
		Issuer: p.Issuer, Subject: p.Subject, ClientID: client, Audience: p.Audience,
		IssuedAt: p.IssuedAt.time(), NotBefore: p.NotBefore.time(), Expires: p.Expires.time(),
		Scope: strings.Join(scope, " "), Patient: p.Patient, FHIRUser: p.FHIRUser, UID: string(p.UID),
	}
}

// alive holds a token's times against the clock.
func (c *Claims) alive(op string, now time.Time) error {
	switch {
	case c.Expires.IsZero():
		return unknown(op, "it does not say when it expires", nil)
	case !now.Before(c.Expires.Add(Skew)):
		return &fault.Error{Kind: fault.ExpiredToken, Op: op, Detail: "the bearer token is expired"}
	case now.Add(Skew).Before(c.NotBefore):
		return unknown(op, "it is not valid yet", nil)
	case now.Add(Skew).Before(c.IssuedAt):
		return unknown(op, "it was issued in the future", nil)
	}
	return nil
}

// meantFor holds a token's audience against the data store's endpoint; a slash
// at the end makes no difference.
func (c *Claims) meantFor(op, endpoint string) error {
	if slices.ContainsFunc(c.Audience, func(aud string) bool { return slashed(aud) == slashed(endpoint) }) {
		return nil
	}
	return unknown(op, "it was issued for another audience", nil)
}
