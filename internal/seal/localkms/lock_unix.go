//go:build unix

package localkms

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// locked runs f while no other process changes the key file: flock(2) on a file
// beside it, since the key file itself is replaced. mu is held.
func (k *KMS) locked(f func() error) error {
	lock, err := os.OpenFile(k.path+".lock", os.O_RDWR|os.O_CREATE, ownerOnly)
	if err != nil {
		return fault.Wrap(fault.Internal, "localkms.lock", err)
	}
	// Closing the file gives the lock back; there is nothing in it to lose.
	defer lock.Close() //nolint:errcheck
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockRetry) {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f()
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return fault.Wrap(fault.Internal, "localkms.lock", err)
		case time.Now().After(deadline):
			return &fault.Error{Kind: fault.Unavailable, Op: "localkms.lock",
				Detail: "another process holds the key file's lock", Retry: 1}
		}
	}
}
