package sigv4

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// timestampFormat is ISO 8601 basic, the only form a string to sign knows.
const timestampFormat = "20060102T150405Z"

// dateFormat is the date of a credential scope.
const dateFormat = "20060102"

// terminator ends every credential scope.
const terminator = "aws4_request"

// ScopedService is the service that a request's signature claims to be for, so
// that a server of several services knows whose Verifier to ask; empty where the
// request has no signature in form. Nothing is verified.
func ScopedService(r *http.Request) string {
	s, err := Read(r)
	if err != nil {
		return ""
	}
	return s.claim.service
}

// checkScope holds the credential scope against this server and the request's
// own date. The wording is AWS's ("Troubleshoot signed requests for AWS APIs",
// IAM User Guide).
func (v *Verifier) checkScope(c *claim) error {
	switch {
	case c.terminator != terminator:
		return badScope("Credential should be scoped with a valid terminator: '%s'.", terminator)
	case c.region != v.config.Region && !slices.Contains(v.config.OtherRegions, c.region):
		return badScope("Credential should be scoped to a valid region.")
	case c.service != v.config.Service:
		return badScope("Credential should be scoped to correct service: '%s'.", v.config.Service)
	case c.date != stamp(c.when)[:len(dateFormat)]:
		return badScope("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "+
			"'%.16s' != '%s', from '%s'.", c.date, c.when.Format(dateFormat), stamp(c.when))
	}
	return nil
}

func badScope(format string, args ...any) error {
	return fault.New(fault.BadSignature, opVerify, format, args...)
}

// checkTime refuses what was signed too long ago or in the future. A header
// signature lives for MaxSkew; a presigned one for as long as it says.
func (v *Verifier) checkTime(c *claim) error {
	now := v.config.Clock().UTC()
	life := v.config.MaxSkew
	if c.expires > 0 {
		life = c.expires
	}
	if oldest := now.Add(-life); c.when.Before(oldest) {
		return badScope("Signature expired: %s is now earlier than %s (%s - %s)",
			stamp(c.when), stamp(oldest), stamp(now), span(life))
	}
	if newest := now.Add(v.config.MaxSkew); c.when.After(newest) {
		return badScope("Signature not yet current: %s is still later than %s (%s + %s)",
			stamp(c.when), stamp(newest), stamp(now), span(v.config.MaxSkew))
	}
	return nil
}

func stamp(t time.Time) string { return t.Format(timestampFormat) }

// span writes a duration as AWS does: "15 min.", or "90 s." where it is not
// whole minutes.
func span(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d min.", d/time.Minute)
	}
	return fmt.Sprintf("%d s.", d/time.Second)
}
