package seal

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// ContextDatastore is the name under which a data store's ARN stands in the
// encryption context of its data key.
const ContextDatastore = "aws:healthlake:datastore-arn"

// Keyring makes and opens data keys with the keys of a KMS. Its methods may be
// called from many goroutines. Errors, besides those of ctx (fault.Canceled,
// fault.Timeout):
//
//	fault.NotFound          no such key or alias
//	fault.Forbidden         the key is disabled or about to be deleted, its use is
//	                        not allowed, or key, context and ciphertext do not match
//	fault.Invalid           the key is asymmetric, the name malformed
//	fault.Unavailable       the KMS cannot be asked now: says nothing about the key
//	fault.FailedDependency  the KMS answered with what cannot be
type Keyring interface {
	// GenerateDataKey makes a data key and wraps it with the key named (id,
	// ARN, alias or alias ARN), bound to the encryption context. The context
	// is not secret and may appear in a KMS's logs.
	GenerateDataKey(ctx context.Context, keyID string, encryption map[string]string) (DataKey, Wrapped, error)
	// Unwrap opens a wrapped data key; the encryption context is the one it was
	// wrapped with, to the letter.
	Unwrap(ctx context.Context, w Wrapped, encryption map[string]string) (DataKey, error)
	// Resolve finds a key by id, ARN, alias or alias ARN. A disabled or
	// asymmetric key is found, and KeyInfo says so.
	Resolve(ctx context.Context, keyID string) (KeyInfo, error)
}

// Rewrapper is an optional power of a Keyring: it wraps data keys anew when their
// KMS key has newer material than the one that wraps them. KMS keys keep the
// older, so what was wrapped before opens still.
type Rewrapper interface {
	// Rewrap gives the data key wrapped under the newest material of its KMS key:
	// w itself where that is so already. Errors are Unwrap's.
	Rewrap(ctx context.Context, w Wrapped, encryption map[string]string) (Wrapped, error)
}

// KeyInfo is what a KMS tells about one of its keys.
type KeyInfo struct {
	ARN       string // of the key itself, never of an alias
	Enabled   bool   // usable now
	Symmetric bool   // SYMMETRIC_DEFAULT for ENCRYPT_DECRYPT
	Manager   string // "CUSTOMER" or "AWS"
	State     string // as AWS KMS names it: "Enabled", "Disabled", "PendingDeletion", …
}

// CanonicalContext turns an encryption context into bytes for use as associated
// data: count, then names and values in the order of the names, each after its
// length (32 bits, big-endian). Different contexts give different bytes.
func CanonicalContext(encryption map[string]string) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(encryption)))
	for _, name := range slices.Sorted(maps.Keys(encryption)) {
		out = appendString(out, name)
		out = appendString(out, encryption[name])
	}
	return out
}

func appendString(to []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(s))), s...)
}

// Keyrings asks several keyrings as one: each question goes to the first, and
// on to the next where the key is not found (fault.NotFound). Put the keyring
// that answers without a network first.
func Keyrings(rings ...Keyring) Keyring { return chain(rings) }

type chain []Keyring

func (c chain) GenerateDataKey(ctx context.Context, keyID string, encryption map[string]string) (DataKey, Wrapped, error) {
	var made Wrapped
	key, err := firstFound(c, keyID, func(ring Keyring) (key DataKey, err error) {
		key, made, err = ring.GenerateDataKey(ctx, keyID, encryption)
		return key, err
	})
	return key, made, err
}

func (c chain) Unwrap(ctx context.Context, w Wrapped, encryption map[string]string) (DataKey, error) {
	return firstFound(c, w.KeyARN, func(ring Keyring) (DataKey, error) { return ring.Unwrap(ctx, w, encryption) })
}

func (c chain) Resolve(ctx context.Context, keyID string) (KeyInfo, error) {
	return firstFound(c, keyID, func(ring Keyring) (KeyInfo, error) { return ring.Resolve(ctx, keyID) })
}

// Rewrap implements Rewrapper: of a KMS that does not tell of its material, every
// wrapped key is as it should be.
func (c chain) Rewrap(ctx context.Context, w Wrapped, encryption map[string]string) (Wrapped, error) {
	return firstFound(c, w.KeyARN, func(ring Keyring) (Wrapped, error) {
		if power, ok := ring.(Rewrapper); ok {
			return power.Rewrap(ctx, w, encryption)
		}
		return w, nil
	})
}

func firstFound[T any](c chain, keyID string, ask func(Keyring) (T, error)) (T, error) {
	var zero T
	var err error = &fault.Error{Kind: fault.NotFound, Op: "seal.Keyrings", Subject: keyID, Detail: "no such key"}
	for _, ring := range c {
		var found T
		if found, err = ask(ring); err == nil || !fault.Is(err, fault.NotFound) {
			return found, err
		}
	}
	return zero, err
}
