package localkms

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
)

// A wrapped data key is 1 byte of format, the 16 bytes of the KMS key's id, in
// format 2 the version of its material (32 bits, big-endian, from 2), and a
// seal.Box of the data key under that material, bound to the ARN, in format 2 the
// version, and the encryption context. Format 1 is of version 1.
const (
	wrapFormat    = 1
	versionFormat = 2
	idSize        = 16
	versionSize   = 4
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

// Rewrap implements seal.Rewrapper.
func (k *KMS) Rewrap(ctx context.Context, w seal.Wrapped, encryption map[string]string) (seal.Wrapped, error) {
	if err := alive(ctx); err != nil {
		return w, err
	}
	with, err := k.usable(w.KeyARN)
	if err != nil {
		return w, err
	}
	version, _, err := with.parse(w)
	if err != nil || version == with.version() {
		return w, err
	}
	data, err := with.unwrap(w, encryption)
	if err != nil {
		return w, err
	}
	defer data.Wipe()
	return with.wrap(data, encryption)
}

func (k *key) wrap(made seal.DataKey, encryption map[string]string) (w seal.Wrapped, err error) {
	id, err := k.rawID()
	if err != nil {
		return w, err
	}
	version := k.version()
	head := append([]byte{wrapFormat}, id...)
	if version > 1 {
		head[0] = versionFormat
		head = binary.BigEndian.AppendUint32(head, uint32(version))
	}
	var blob []byte
	made.Reveal(func(raw []byte) { blob, err = k.boxes[version-1].Seal(raw, k.wrapAAD(version, encryption)) })
	if err != nil {
		return w, err
	}
	return seal.Wrapped{KeyARN: k.ARN, Ciphertext: append(head, blob...)}, nil
}

// parse gives the version of the material that wraps a data key, and the box.
func (k *key) parse(w seal.Wrapped) (version int, box []byte, err error) {
	const op = "localkms.Unwrap"
	id, err := k.rawID()
	if err != nil {
		return 0, nil, err
	}
	alien := &fault.Error{Kind: fault.Invalid, Op: op, Subject: k.ARN, Detail: "not a data key wrapped here"}
	rest, version := w.Ciphertext, 1
	if len(rest) < 1+idSize || rest[0] != wrapFormat && rest[0] != versionFormat {
		return 0, nil, alien
	}
	if string(rest[1:1+idSize]) != string(id) {
		return 0, nil, k.mismatch()
	}
	numbered := rest[0] == versionFormat
	rest = rest[1+idSize:]
	if numbered {
		if len(rest) < versionSize {
			return 0, nil, alien
		}
		version, rest = int(binary.BigEndian.Uint32(rest)), rest[versionSize:]
		if version < 2 || version > k.version() {
			return 0, nil, k.mismatch()
		}
	}
	return version, rest, nil
}

func (k *key) mismatch() error {
	return &fault.Error{Kind: fault.Forbidden, Op: "localkms.Unwrap", Subject: k.ARN, Detail: "key, encryption context and wrapped data key do not match"}
}

func (k *key) unwrap(w seal.Wrapped, encryption map[string]string) (seal.DataKey, error) {
	version, box, err := k.parse(w)
	if err != nil {
		return seal.DataKey{}, err
	}
	raw, err := k.boxes[version-1].Open(box, k.wrapAAD(version, encryption))
	if err != nil {
		return seal.DataKey{}, k.mismatch()
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

func (k *key) wrapAAD(version int, encryption map[string]string) []byte {
	if version == 1 {
		return append([]byte("tarn.localkms.v1 wrap "+k.ARN+"\x00"), seal.CanonicalContext(encryption)...)
	}
	return append(fmt.Appendf(nil, "tarn.localkms.v2 wrap %s\x00%d\x00", k.ARN, version), seal.CanonicalContext(encryption)...)
}
