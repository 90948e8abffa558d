package sigv4

import (
	"net/http"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Precheck says what can be said of a request before its body is read, so that
// no stranger makes the server hold a large one: form, scope and time of the
// signature, and whether the access key exists (key ids are no secret). Errors
// are those of Verify, which is still to be asked.
func (v *Verifier) Precheck(r *http.Request) error {
	request, err := readTarget(r)
	if err != nil {
		return err
	}
	claim, err := readClaim(r, request.pairs)
	if err != nil {
		return err
	}
	if err := v.checkScope(claim); err != nil {
		return err
	}
	if err := v.checkTime(claim); err != nil {
		return err
	}
	_, err = v.config.Keys.Secret(r.Context(), claim.accessKeyID)
	return fault.Wrap(fault.Internal, "sigv4.Precheck", err)
}
