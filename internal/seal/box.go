package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"io"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Box seals small blobs: page tokens, secrets in records, wrapped keys.
//
//	format:1 (1)  nonce:24  ciphertext  tag:16
//
// The cipher is XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM with a key
// derived from the first half of a 24-byte random nonce. Plain AES-GCM with
// random nonces is good for 2^32 blobs a key (NIST SP 800-38D, 8.3), which page
// tokens would use up in weeks; this is good for 2^80.
//
// A Box may be used from many goroutines.
type Box struct {
	block  cipher.Block        // AES-256 under the box's key
	subkey [aes.BlockSize]byte // K1 of CMAC (NIST SP 800-38B)
	random io.Reader
}

const (
	boxFormat    = 1
	boxNonceSize = 24
	boxTagSize   = 16

	// BoxOverhead is by how many bytes a sealed blob is longer than its content.
	BoxOverhead = 1 + boxNonceSize + boxTagSize
)

// NewBox makes a box of a key that serves nothing else; see DataKey.Derive.
func NewBox(key [KeySize]byte) *Box { return NewBoxWith(key, rand.Reader) }

// NewBoxWith is NewBox with a given source of nonces.
func NewBoxWith(key [KeySize]byte, random io.Reader) *Box {
	b := &Box{block: newAES(key), random: random}
	b.block.Encrypt(b.subkey[:], b.subkey[:])
	double(&b.subkey)
	return b
}

// double multiplies by x in GF(2^128) as CMAC does (SP 800-38B, 6.1), without a
// branch on the secret.
func double(v *[aes.BlockSize]byte) {
	carry := byte(0)
	for i := len(v) - 1; i >= 0; i-- {
		v[i], carry = v[i]<<1|carry, v[i]>>7
	}
	v[len(v)-1] ^= carry * 0x87
}

// aead gives AES-256-GCM under the key of the nonce's first half.
func (b *Box) aead(nonce []byte) (cipher.AEAD, error) {
	var key [KeySize]byte
	defer clear(key[:])
	for i := range 2 {
		half := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		half[1], half[2] = byte(i+1), 'X'
		copy(half[4:], nonce[:12])
		for j := range half {
			half[j] ^= b.subkey[j]
		}
		b.block.Encrypt(half, half)
	}
	return cipher.NewGCM(newAES(key))
}

// Seal seals plain, bound to aad, which Open will ask for again. Sealing the
// same twice gives different bytes.
func (b *Box) Seal(plain, aad []byte) ([]byte, error) {
	out := make([]byte, 1+boxNonceSize, BoxOverhead+len(plain))
	out[0] = boxFormat
	nonce := out[1:]
	if _, err := io.ReadFull(b.random, nonce); err != nil {
		return nil, fault.Wrap(fault.Internal, "seal.Box", err)
	}
	aead, err := b.aead(nonce)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "seal.Box", err)
	}
	return aead.Seal(out, nonce[12:], plain, aad), nil
}

// Open gives back what Seal was given. What this key did not seal with this
// aad, whole and unchanged, is fault.Invalid.
func (b *Box) Open(sealed, aad []byte) ([]byte, error) {
	if len(sealed) < BoxOverhead || sealed[0] != boxFormat {
		return nil, fault.New(fault.Invalid, "seal.Box", "not a sealed blob")
	}
	nonce := sealed[1 : 1+boxNonceSize]
	aead, err := b.aead(nonce)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "seal.Box", err)
	}
	plain, err := aead.Open(nil, nonce[12:], sealed[1+boxNonceSize:], aad)
	if err != nil {
		return nil, fault.New(fault.Invalid, "seal.Box", "the sealed blob does not verify")
	}
	return plain, nil
}
