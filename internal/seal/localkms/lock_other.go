//go:build !unix

package localkms

import "github.com/tarn-fhir/tarn/internal/fault"

// locked refuses: without flock(2) two processes could undo each other's keys.
func (k *KMS) locked(func() error) error {
	return fault.New(fault.NotSupported, "localkms.lock", "the built-in key file needs a Unix system")
}
