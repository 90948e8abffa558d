package seal

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// KeySize is the size of a data key and of every key derived from it, in
// bytes: AES-256.
const KeySize = 32

// redacted is how a key shows itself, whichever way it is printed.
const redacted = "seal.DataKey(redacted)"

// derivePrefix separates Tarn's derivations from any other use of a data key.
// Persisted in everything ever sealed: never change it.
const derivePrefix = "tarn.v1 "

// DataKey is the key of one data store. Copies share the same 32 bytes, so that
// Wipe reaches all of them. It never prints, marshals or logs its bytes. The
// zero DataKey is no key.
type DataKey struct{ s *secret }

type secret struct {
	mu    sync.RWMutex
	bytes [KeySize]byte
	wiped bool
}

// NewDataKey makes a key of fresh random bytes.
func NewDataKey(random io.Reader) (DataKey, error) {
	s := new(secret)
	if _, err := io.ReadFull(random, s.bytes[:]); err != nil {
		return DataKey{}, fault.Wrap(fault.Internal, "seal.NewDataKey", err)
	}
	return DataKey{s}, nil
}

// DataKeyFrom makes a key of 32 given bytes, which it copies; the caller wipes
// its own. Another length is fault.Invalid.
func DataKeyFrom(raw []byte) (DataKey, error) {
	if len(raw) != KeySize {
		return DataKey{}, fault.New(fault.Invalid, "seal.DataKeyFrom", "a data key has %d bytes, not %d", KeySize, len(raw))
	}
	s := new(secret)
	copy(s.bytes[:], raw)
	return DataKey{s}, nil
}

// Derive gives the sub-key of a purpose: HKDF-SHA256 (RFC 5869) without salt,
// with the label as info. The same label gives the same key for ever; labels in
// use are listed in DESIGN.md. Derive on no key or on a wiped key is a mistake
// of the program, and panics: sealing under zeros would lose the data.
func (k DataKey) Derive(label string) [KeySize]byte {
	if k.s == nil {
		panic("seal: Derive on no data key")
	}
	k.s.mu.RLock()
	defer k.s.mu.RUnlock()
	if k.s.wiped {
		panic("seal: Derive on a wiped data key")
	}
	return derive(k.s.bytes[:], nil, derivePrefix+label)
}

// derive is HKDF-SHA256 to one key. It can only fail for lengths beyond 255
// hashes, which KeySize is not.
func derive(ikm, salt []byte, info string) (key [KeySize]byte) {
	out, err := hkdf.Key(sha256.New, ikm, salt, info, KeySize)
	if err != nil {
		panic("seal: " + err.Error())
	}
	copy(key[:], out)
	clear(out)
	return key
}

// Reveal gives the key's 32 bytes to f, for a Keyring that wraps them; f must
// not keep them. It reports false, without calling f, for no key and for a
// wiped one.
func (k DataKey) Reveal(f func(raw []byte)) bool {
	if k.s == nil {
		return false
	}
	k.s.mu.RLock()
	defer k.s.mu.RUnlock()
	if k.s.wiped {
		return false
	}
	f(k.s.bytes[:])
	return true
}

// Equal compares in constant time. No key, and a wiped key, equal nothing.
func (k DataKey) Equal(other DataKey) bool {
	equal := false
	k.Reveal(func(mine []byte) {
		if k.s == other.s {
			equal = true
			return
		}
		other.Reveal(func(theirs []byte) {
			equal = subtle.ConstantTimeCompare(mine, theirs) == 1
		})
	})
	return equal
}

// Usable reports whether the key is there: given, and not wiped.
func (k DataKey) Usable() bool { return k.Reveal(func([]byte) {}) }

// Wipe overwrites the key in all its copies. Keys derived before stay with
// those who derived them.
func (k DataKey) Wipe() {
	if k.s == nil {
		return
	}
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	clear(k.s.bytes[:])
	k.s.wiped = true
}

// String never shows the key.
func (k DataKey) String() string { return redacted }

// Format never shows the key, whatever the verb.
func (k DataKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON never shows the key: what may be written down is Wrapped.
func (k DataKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText never shows the key.
func (k DataKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue never shows the key.
func (k DataKey) LogValue() slog.Value { return slog.StringValue(redacted) }
