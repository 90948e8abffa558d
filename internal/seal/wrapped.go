package seal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Wrapped is a data key as a KMS key has wrapped it: what may be written down.
//
//	JSON    {"format":1,"keyArn":"arn:…","ciphertext":"<base64>"}
//	binary  "TWK" format:1 len:2 keyArn len:2 ciphertext        (big-endian)
type Wrapped struct {
	KeyARN     string // the KMS key that wraps it
	Ciphertext []byte // opaque: only that key opens it
}

// wrappedFormat numbers both forms of Wrapped. 1: the first.
const wrappedFormat = 1

// Bounds of a Wrapped. AWS: a CiphertextBlob has at most 6,144 bytes, a KeyId at
// most 2,048 characters (KMS API Reference, Decrypt).
const (
	maxCiphertext = 6144
	maxKeyARN     = 2048
)

var wrappedMagic = []byte("TWK")

type wrappedJSON struct {
	Format     int    `json:"format"`
	KeyARN     string `json:"keyArn"`
	Ciphertext []byte `json:"ciphertext"`
}

// Equal reports whether two wrapped keys are the same bytes under the same key.
func (w Wrapped) Equal(other Wrapped) bool {
	return w.KeyARN == other.KeyARN && bytes.Equal(w.Ciphertext, other.Ciphertext)
}

// check refuses what is not a wrapped key: fault.Invalid.
func (w Wrapped) check() error {
	switch {
	case w.KeyARN == "" || len(w.KeyARN) > maxKeyARN:
		return badWrapped("the key's ARN has %d bytes, not 1 to %d", len(w.KeyARN), maxKeyARN)
	case len(w.Ciphertext) == 0 || len(w.Ciphertext) > maxCiphertext:
		return badWrapped("the ciphertext has %d bytes, not 1 to %d", len(w.Ciphertext), maxCiphertext)
	}
	return nil
}

func badWrapped(format string, args ...any) error {
	return fault.New(fault.Invalid, "seal.Wrapped", "not a wrapped data key: "+format, args...)
}

// MarshalJSON gives the JSON form.
func (w Wrapped) MarshalJSON() ([]byte, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	return json.Marshal(wrappedJSON{wrappedFormat, w.KeyARN, w.Ciphertext})
}

// UnmarshalJSON reads the JSON form. Another format number is
// fault.NotSupported, anything else amiss fault.Invalid.
func (w *Wrapped) UnmarshalJSON(raw []byte) error {
	var read wrappedJSON
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&read); err != nil {
		return &fault.Error{Kind: fault.Invalid, Op: "seal.Wrapped", Detail: "not a wrapped data key", Cause: err}
	}
	return w.set(read.Format, Wrapped{read.KeyARN, read.Ciphertext})
}

// set takes over what a form held, when it is sound.
func (w *Wrapped) set(format int, read Wrapped) error {
	if format != wrappedFormat {
		return fault.New(fault.NotSupported, "seal.Wrapped", "format %d of wrapped data keys is not known to this version", format)
	}
	if err := read.check(); err != nil {
		return err
	}
	*w = read
	return nil
}

// MarshalBinary gives the binary form.
func (w Wrapped) MarshalBinary() ([]byte, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	out := append(bytes.Clone(wrappedMagic), wrappedFormat)
	out = binary.BigEndian.AppendUint16(out, uint16(len(w.KeyARN)))
	out = append(out, w.KeyARN...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(w.Ciphertext)))
	return append(out, w.Ciphertext...), nil
}

// UnmarshalBinary reads the binary form, whole: fault.NotSupported and
// fault.Invalid as UnmarshalJSON.
func (w *Wrapped) UnmarshalBinary(raw []byte) error {
	rest, ok := bytes.CutPrefix(raw, wrappedMagic)
	if !ok || len(rest) == 0 {
		return badWrapped("it does not begin with %q and a format", wrappedMagic)
	}
	format := int(rest[0])
	if format != wrappedFormat {
		return w.set(format, Wrapped{})
	}
	arn, rest, ok := cutString(rest[1:])
	if !ok {
		return badWrapped("it is cut short")
	}
	ciphertext, rest, ok := cutString(rest)
	if !ok || len(rest) != 0 {
		return badWrapped("its length does not fit")
	}
	return w.set(format, Wrapped{string(arn), bytes.Clone(ciphertext)})
}

// cutString takes 16 bits of length and so many bytes off the front.
func cutString(raw []byte) (s, rest []byte, ok bool) {
	if len(raw) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(raw))
	if len(raw)-2 < n {
		return nil, nil, false
	}
	return raw[2 : 2+n], raw[2+n:], true
}
