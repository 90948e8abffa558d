package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// A sealed file is 64 bytes of header and then the content, byte for byte,
// XORed with the keystream of AES-256-CTR (NIST SP 800-38A) from counter 0:
//
//	 0  magic    8  "\x89TARN\r\n\x1a"
//	 8  format   2  1
//	10  length   2  64: where the content begins
//	12  crc      4  CRC-32C of the header with these four bytes as zero
//	16  salt    32  random; file key = HKDF-SHA256(files key, salt, "tarn.v1 file")
//	48  check   16  HMAC-SHA256(files key, "check" + bytes 0 to 11 + salt), cut
//	64  content
//
// Numbers are big-endian. The CRC tells a damaged header from a wrong key; the
// check tells a wrong key, or a forged header, before a byte is read.
const (
	headerSize   = 64
	headerFormat = 1
	saltSize     = 32
	crcAt        = 12
	saltAt       = 16
	checkAt      = saltAt + saltSize
)

// magic begins with a byte outside ASCII and holds both kinds of line end, so
// that a transfer that mends text is noticed.
var magic = [8]byte{0x89, 'T', 'A', 'R', 'N', '\r', '\n', 0x1a}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fileInfo is the HKDF info of a file's key. Persisted: never change it.
const fileInfo = derivePrefix + "file"

// header is one file's header, read or about to be written.
type header [headerSize]byte

// newHeader draws a salt and makes the header of a new file.
func newHeader(files *[KeySize]byte, random io.Reader) (*header, error) {
	var h header
	copy(h[:], magic[:])
	binary.BigEndian.PutUint16(h[8:], headerFormat)
	binary.BigEndian.PutUint16(h[10:], headerSize)
	if _, err := io.ReadFull(random, h[saltAt:checkAt]); err != nil {
		return nil, fault.Wrap(fault.Internal, "seal.Create", err)
	}
	check := h.check(files)
	copy(h[checkAt:], check[:])
	binary.BigEndian.PutUint32(h[crcAt:], h.crc())
	return &h, nil
}

// parseHeader reads the first bytes of a file, at most 64 of them. A nil header
// without error is a file whose creation a crash cut short, or that nobody has
// written to yet: its content is empty. That is safe to say only because no
// content is written before the header is on disk (writer.begin).
func parseHeader(raw []byte) (*header, error) {
	if torn(raw) {
		return nil, nil
	}
	if len(raw) < headerSize || !bytes.Equal(raw[:len(magic)], magic[:]) {
		return nil, damaged("it does not begin as a sealed file")
	}
	h := header(raw[:headerSize])
	if format := binary.BigEndian.Uint16(h[8:]); h.crc() == h.storedCRC() && format != headerFormat {
		return nil, fault.New(fault.NotSupported, "seal.Open", "format %d of sealed files is not known to this version", format)
	}
	if h.crc() != h.storedCRC() || binary.BigEndian.Uint16(h[10:]) != headerSize {
		return nil, damaged("its header is damaged")
	}
	return &h, nil
}

// torn reports whether a file's first bytes are all it has, and what a crash
// leaves of a header: nothing, zeros, or its beginning.
func torn(raw []byte) bool {
	if len(raw) > headerSize {
		return false
	}
	if len(bytes.Trim(raw, "\x00")) == 0 {
		return true
	}
	n := min(len(raw), len(magic))
	return len(raw) < headerSize && bytes.Equal(raw[:n], magic[:n])
}

func damaged(why string) error {
	return &fault.Error{Kind: fault.Internal, Op: "seal.Open", Detail: "a sealed file cannot be read: " + why}
}

func (h *header) storedCRC() uint32 { return binary.BigEndian.Uint32(h[crcAt:]) }

func (h *header) crc() uint32 {
	blank := *h
	clear(blank[crcAt:saltAt])
	return crc32.Checksum(blank[:], castagnoli)
}

func (h *header) check(files *[KeySize]byte) (check [headerSize - checkAt]byte) {
	mac := hmac.New(sha256.New, files[:])
	mac.Write([]byte("check"))
	mac.Write(h[:crcAt])
	mac.Write(h[saltAt:checkAt])
	copy(check[:], mac.Sum(nil))
	return check
}

// keystream gives the file's keystream, or fault.Forbidden when the header was
// made under another key.
func (h *header) keystream(files *[KeySize]byte) (*keystream, error) {
	check := h.check(files)
	if subtle.ConstantTimeCompare(check[:], h[checkAt:]) != 1 {
		return nil, &fault.Error{Kind: fault.Forbidden, Op: "seal.Open", Detail: "a file is sealed under another key"}
	}
	key := derive(files[:], h[saltAt:checkAt], fileInfo)
	defer clear(key[:])
	return &keystream{newAES(key)}, nil
}

// keystream is AES-256-CTR under one file's key, from any place.
type keystream struct{ block cipher.Block }

// xor seals or opens src, which stands at this offset of the content, into dst.
func (k *keystream) xor(dst, src []byte, offset int64) {
	var counter, skip [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(offset)/aes.BlockSize)
	stream := cipher.NewCTR(k.block, counter[:])
	if n := offset % aes.BlockSize; n > 0 {
		stream.XORKeyStream(skip[:n], skip[:n])
	}
	stream.XORKeyStream(dst, src)
}
