package sigv4_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/sigv4"
)

// BenchmarkVerify measures a small request, the key's signing key kept. The
// aim is below 20 µs on one core.
func BenchmarkVerify(b *testing.B) {
	for name, target := range map[string]string{
		"read":   "/datastore/0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c/r4/Patient/1",
		"search": "/datastore/0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c/r4/Patient?name=a%20b&birthdate=ge1980&_count=50",
		"wrong":  "/datastore/0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c/r4//Patient/$x?code=http://loinc.org|1+2&a:b=1&a=2",
	} {
		b.Run(name, func(b *testing.B) {
			verifier := mustNew(b, healthlake(sdkNow))
			r := httptest.NewRequest(http.MethodGet, strings.ReplaceAll(target, "|", "%7C"), nil)
			signed(b, r, sdkNow)
			if name == "wrong" {
				r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Signature=", "Signature=0", 1))
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.Verify(r, nil); (err != nil) != (name == "wrong") {
					b.Fatal(err)
				}
			}
		})
	}
}

var _ sigv4.Keys = oneKey{}
