package sigv4

import (
	"net/http"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Signed is a request whose signature was read and not verified yet.
type Signed struct {
	request *http.Request
	target  target
	claim   *claim
}

// Read reads what a request says of its own signature. Nothing is verified; the
// errors are those of Verify for a signature that is not there or not in form.
func Read(r *http.Request) (*Signed, error) {
	target, err := readTarget(r)
	if err != nil {
		return nil, err
	}
	claim, err := readClaim(r, target.pairs)
	if err != nil {
		return nil, err
	}
	return &Signed{r, target, claim}, nil
}

// AccessKeyID is the access key id that the signature names.
func (s *Signed) AccessKeyID() string { return s.claim.accessKeyID }

// Precheck says what can be said of a request before its body is read, so that
// no stranger makes the server hold a large one: scope and time of the
// signature, and whether the access key exists (key ids are no secret). Errors
// are those of Judge, which is still to be asked.
func (v *Verifier) Precheck(s *Signed) error {
	if err := v.checkScope(s.claim); err != nil {
		return err
	}
	if err := v.checkTime(s.claim); err != nil {
		return err
	}
	_, err := v.config.Keys.Secret(s.request.Context(), s.claim.accessKeyID)
	return fault.Wrap(fault.Internal, "sigv4.Precheck", err)
}
