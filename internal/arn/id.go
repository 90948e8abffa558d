package arn

import (
	"encoding/hex"
	"io"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// idBytes is the randomness in every id: 128 bits, so that two ids minted
// anywhere never meet.
const idBytes = 16

// NewDatastoreID mints a data store id: 32 lower-case hexadecimal digits. It
// fails only when random does.
func NewDatastoreID(random io.Reader) (string, error) {
	return newHexID("arn.NewDatastoreID", random)
}

// NewJobID mints the id of an import, export or other job: the same shape as a
// data store id. It fails only when random does.
func NewJobID(random io.Reader) (string, error) {
	return newHexID("arn.NewJobID", random)
}

func newHexID(op string, random io.Reader) (string, error) {
	raw, err := draw(op, random)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(raw[:]), nil
}

// NewRequestID mints what x-amzn-requestid carries: a UUID of version 4 (RFC
// 9562 section 5.4), lower-case with hyphens. It fails only when random does.
func NewRequestID(random io.Reader) (string, error) {
	raw, err := draw("arn.NewRequestID", random)
	if err != nil {
		return "", err
	}
	raw[6] = raw[6]&0x0f | 0x40 // version 4
	raw[8] = raw[8]&0x3f | 0x80 // variant of RFC 9562
	var text [36]byte
	hex.Encode(text[0:], raw[0:4])
	hex.Encode(text[9:], raw[4:6])
	hex.Encode(text[14:], raw[6:8])
	hex.Encode(text[19:], raw[8:10])
	hex.Encode(text[24:], raw[10:16])
	for _, at := range hyphens {
		text[at] = '-'
	}
	return string(text[:]), nil
}

// hyphens are the places of the hyphens in a UUID.
var hyphens = [...]int{8, 13, 18, 23}

func draw(op string, random io.Reader) (raw [idBytes]byte, err error) {
	_, err = io.ReadFull(random, raw[:])
	return raw, fault.Wrap(fault.Internal, op, err)
}

// IsDatastoreID reports whether s is 32 lower-case hexadecimal digits.
func IsDatastoreID(s string) bool {
	return len(s) == hex.EncodedLen(idBytes) && only(s, isLowerHex)
}

// IsJobID reports whether s has the shape of a job id.
func IsJobID(s string) bool { return IsDatastoreID(s) }

func isLowerHex(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' }
