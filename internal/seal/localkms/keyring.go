package localkms

import (
	"context"
	"encoding/hex"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
)

// A wrapped data key is 1 byte of format, the 16 bytes of the KMS key's id, and
// a seal.Box of the data key under that key, bound to the ARN and the
// encryption context.
const (
	wrapFormat = 1
	idSize     = 16
)

// GenerateDataKey makes a data key and wraps it: seal.Keyring.
func (k *KMS) GenerateDataKey(ctx context.Context, keyID string, encryption map[string]string) (seal.DataKey, seal.Wrapped, error) {
	if err := alive(ctx); err != nil {
		return seal.DataKey{}, seal.Wrapped{}, err
	}
	with, err := k.usable(keyID)
	if err != nil {
		return seal.DataKey{}, seal.Wrapped{}, err
	}
	made, err := seal.NewDataKey(k.random)
	if err != nil {
		return seal.DataKey{}, seal.Wrapped{}, err
	}
	wrapped, err := with.wrap(made, encryption)
	if err != nil {
		made.Wipe()
		return seal.DataKey{}, seal.Wrapped{}, err
	}
	return made, wrapped, nil
}

// Unwrap opens a wrapped data key: seal.Keyring.
func (k *KMS) Unwrap(ctx context.Context, w seal.Wrapped, encryption map[string]string) (seal.DataKey, error) {
	if err := alive(ctx); err != nil {
		return seal.DataKey{}, err
	}
	with, err := k.usable(w.KeyARN)
	if err != nil {
		return seal.DataKey{}, err
	}
	return with.unwrap(w, encryption)
}

// Resolve finds a key: seal.Keyring.
func (k *KMS) Resolve(ctx context.Context, keyID string) (seal.KeyInfo, error) {
	if err := alive(ctx); err != nil {
		return seal.KeyInfo{}, err
	}
	return ask(k, func(r *ring) (seal.KeyInfo, error) {
		found, err := r.find(k, keyID)
		if err != nil {
			return seal.KeyInfo{}, err
		}
		manager := "CUSTOMER"
		if found.Owned {
			manager = "AWS"
		}
		return seal.KeyInfo{ARN: found.ARN, Enabled: found.State == Enabled, Symmetric: true, Manager: manager, State: found.State}, nil
	})
}

// alive refuses to begin what nobody waits for any more.
func alive(ctx context.Context) error {
	switch ctx.Err() {
	case nil:
		return nil
	case context.DeadlineExceeded:
		return fault.Wrap(fault.Timeout, "localkms", ctx.Err())
	default:
		return fault.Wrap(fault.Canceled, "localkms", ctx.Err())
	}
}

// usable finds a key that may be used now.
func (k *KMS) usable(name string) (*key, error) {
	return ask(k, func(r *ring) (*key, error) {
		found, err := r.find(k, name)
		if err != nil {
			return nil, err
		}
		if found.State != Enabled {
			return nil, &fault.Error{Kind: fault.Forbidden, Op: "localkms.use", Subject: found.ARN, Detail: "the KMS key is " + stateWords[found.State]}
		}
		return found, nil
	})
}

var stateWords = map[string]string{Disabled: "disabled", PendingDeletion: "about to be deleted"}

func (k *key) wrap(made seal.DataKey, encryption map[string]string) (w seal.Wrapped, err error) {
	id, err := k.rawID()
	if err != nil {
		return w, err
	}
	var blob []byte
	made.Reveal(func(raw []byte) { blob, err = k.box.Seal(raw, k.wrapAAD(encryption)) })
	if err != nil {
		return w, err
	}
	return seal.Wrapped{KeyARN: k.ARN, Ciphertext: append(append([]byte{wrapFormat}, id...), blob...)}, nil
}

func (k *key) unwrap(w seal.Wrapped, encryption map[string]string) (seal.DataKey, error) {
	const op = "localkms.Unwrap"
	id, err := k.rawID()
	if err != nil {
		return seal.DataKey{}, err
	}
	const prefix = 1 + idSize
	if len(w.Ciphertext) < prefix || w.Ciphertext[0] != wrapFormat {
		return seal.DataKey{}, &fault.Error{Kind: fault.Invalid, Op: op, Subject: k.ARN, Detail: "not a data key wrapped here"}
	}
	mismatch := &fault.Error{Kind: fault.Forbidden, Op: op, Subject: k.ARN, Detail: "key, encryption context and wrapped data key do not match"}
	if string(w.Ciphertext[1:prefix]) != string(id) {
		return seal.DataKey{}, mismatch
	}
	raw, err := k.box.Open(w.Ciphertext[prefix:], k.wrapAAD(encryption))
	if err != nil {
		return seal.DataKey{}, mismatch
	}
	defer clear(raw)
	return seal.DataKeyFrom(raw)
}

// rawID is the key's id as 16 bytes.
func (k *key) rawID() ([]byte, error) {
	id := k.ID[:8] + k.ID[9:13] + k.ID[14:18] + k.ID[19:23] + k.ID[24:]
	raw, err := hex.DecodeString(id)
	return raw, fault.Wrap(fault.Internal, "localkms.rawID", err)
}

func (k *key) wrapAAD(encryption map[string]string) []byte {
	return append([]byte("tarn.localkms.v1 wrap "+k.ARN+"\x00"), seal.CanonicalContext(encryption)...)
}
