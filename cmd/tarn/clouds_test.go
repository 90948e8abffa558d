//go:build !clouds

package main

import (
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// An executable that was built without other clouds says so when it begins.
func TestCloudsAreBuiltInOnRequest(t *testing.T) {
	for _, bucket := range []string{"gs://in", "azblob://in?storage_account=x"} {
		flags := storageFlags{CloudBuckets: []string{bucket}, S3Dir: t.TempDir()}
		if _, err := flags.storage(t.Context(), "us-east-1", "111122223333"); !fault.Is(err, fault.NotSupported) {
			t.Errorf("%s: %v", bucket, err)
		}
	}
}
