// Package localkms is the built-in key management service: what AWS KMS is to
// HealthLake, in one file.
//
//	key file (0600)     root key, and per KMS key: id, ARN, state, its 32 bytes sealed by the root key
//	<key file>.lock     held while the file is changed
//
//	Open                                    opens, or makes at first, the key file
//	CreateKey List Disable Enable           a customer's keys
//	Rotate                                  new material; what older wrapped still opens
//	ScheduleDeletion CancelDeletion Delete
//	CreateAlias DeleteAlias Aliases
//	GenerateDataKey Unwrap Resolve          seal.Keyring
//	Rewrap                                  seal.Rewrapper
//	OwnedKey                                the server's own key, for AWS_OWNED_KMS_KEY
//
// A key is named as AWS KMS lets one name it: by id (a UUID), "key/<id>", ARN,
// "alias/<name>" or the alias's ARN.
//
// Several processes may use one key file: changes are made under a lock and
// replace the file whole, and a running server sees within a second (LookEvery)
// what the command line changed. A key file that has gone or cannot be read
// makes every answer fault.Unavailable, as a KMS that cannot be reached, until
// it is back.
//
// The root key stands in the file in the clear: whoever reads the file reads
// everything. It belongs on another volume than the data, and in no backup.
package localkms

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
)

// LookEvery is how often, at most, a use of the keyring looks whether another
// process has changed the key file.
const LookEvery = time.Second

// KMS is an open key file. Its methods may be called from many goroutines.
type KMS struct {
	path    string
	account string
	region  string
	random  io.Reader
	clock   func() time.Time

	mu     sync.Mutex
	ring   *ring       // as last read
	seen   os.FileInfo // the file that ring was read from
	looked time.Time   // when the file was last looked at
	broken error       // why it could not be read then, or nil
}

var (
	_ seal.Keyring   = (*KMS)(nil)
	_ seal.Rewrapper = (*KMS)(nil)
)

// Open opens a key file, and makes it, with a root key and the server's own key,
// where there is none. New keys get ARNs of this region and account; keys made
// under others keep theirs. A file that others than its owner may read or write
// is refused (fault.Forbidden), a damaged one too (fault.Internal), a newer one
// as fault.NotSupported. random makes keys, and may be read from many goroutines
// at once (crypto/rand.Reader); nonces come from crypto/rand in any case.
func Open(path, account, region string, random io.Reader, clock func() time.Time) (*KMS, error) {
	k := &KMS{path: path, account: account, region: region, random: random, clock: clock}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fault.Wrap(fault.Internal, "localkms.Open", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.read()
	if errors.Is(err, os.ErrNotExist) {
		err = k.found()
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// found makes the key file, unless another process was faster.
func (k *KMS) found() error {
	return k.locked(func() error {
		err := k.read()
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		fresh, err := newRing(k.random)
		if err != nil {
			return err
		}
		if _, err := fresh.add(k, "Tarn's own key for stores without a customer's", true); err != nil {
			return err
		}
		return k.write(fresh)
	})
}

// OwnedKey is the ARN of the key that seals data stores whose owner named none.
// It is not listed, and cannot be disabled, deleted or given an alias.
func (k *KMS) OwnedKey() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.ring.Keys {
		if key.Owned {
			return key.ARN
		}
	}
	return "" // parse refuses a file without one
}

// look reads the key file again when it is time and it has changed. mu is held.
func (k *KMS) look() error {
	now := k.clock()
	if since := now.Sub(k.looked); since >= 0 && since < LookEvery {
		return k.broken
	}
	k.looked = now
	k.broken = nil
	if stat, err := os.Stat(k.path); err == nil && same(stat, k.seen) {
		return nil
	}
	if err := k.read(); err != nil {
		k.seen = nil
		k.broken = &fault.Error{Kind: fault.Unavailable, Op: "localkms.look", Detail: "the key file cannot be read", Cause: errorText{err}}
	}
	return k.broken
}

// errorText keeps an error for the log only: its kind says nothing about a key.
type errorText struct{ err error }

func (e errorText) Error() string { return e.err.Error() }

func same(a, b os.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// ask answers a question from the present key file.
func ask[T any](k *KMS, question func(*ring) (T, error)) (T, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.look(); err != nil {
		var zero T
		return zero, err
	}
	answer, err := question(k.ring)
	if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Forbidden) {
		return answer, err
	}
	// A refusal is worth a look at the file: the operator may have made or
	// enabled the key a moment ago.
	before := k.ring
	k.looked = time.Time{}
	if err := k.look(); err != nil {
		return answer, err
	}
	if k.ring == before {
		return answer, err
	}
	return question(k.ring)
}

// change carries out one change: read under the lock, changed, written whole.
func change[T any](k *KMS, how func(*ring) (T, error)) (done T, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err = k.locked(func() error {
		if err := k.read(); err != nil {
			return err
		}
		changed := k.ring.clone()
		changed.forget(k.clock())
		if done, err = how(changed); err != nil {
			return err
		}
		return k.write(changed)
	})
	return done, err
}
