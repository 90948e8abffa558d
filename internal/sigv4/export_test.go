package sigv4

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// SignatureOf signs a canonical request, for tests that sign what no library
// would.
func SignatureOf(secret string, at time.Time, region, service, canonical string) string {
	c := &claim{date: at.Format(dateFormat), region: region, service: service, terminator: terminator, when: at}
	sum := sha256.Sum256([]byte(canonical))
	mac := hmac.New(sha256.New, deriveKey(secret, c.date, region, service))
	mac.Write([]byte((&signedRequest{claim: c}).stringToSignHead() + hex.EncodeToString(sum[:])))
	return hex.EncodeToString(mac.Sum(nil))
}

// noKeys knows no access key.
type noKeys struct{}

func (noKeys) Secret(context.Context, string) (Credential, error) {
	return Credential{}, &fault.Error{Kind: fault.UnknownKey}
}

// scopeOf is the credential scope as the Authorization header writes it.
func scopeOf(c *claim) string {
	return c.date + "/" + c.region + "/" + c.service + "/" + c.terminator
}
