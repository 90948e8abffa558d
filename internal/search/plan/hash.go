package plan

import (
	"encoding/binary"

	"github.com/dchest/siphash"
)

// Hash stands for a token, a reference or a URI inside an entry. It is 128 bits
// under a key of the data store's own, so that nobody can craft a collision and
// none ever reaches an answer.
type Hash [16]byte

// HashKey is the key of a data store's hashes, constant for the store's life
// and copied by a restore.
type HashKey [16]byte

// Sum hashes parts (SipHash-2-4, 128 bits). Each part is preceded by its
// length, so that no two lists of parts read the same; domain keeps apart what
// stands for different things.
func (k HashKey) Sum(domain byte, parts ...string) Hash {
	var room [160]byte
	buf := append(room[:0], domain)
	for _, p := range parts {
		buf = binary.AppendUvarint(buf, uint64(len(p)))
		buf = append(buf, p...)
	}
	return k.bytes(buf)
}

// domainSelf is the domain of Self; package search numbers the others from 1.
const domainSelf = 0

// Self is the hash that stands for a resource of this store. A reference entry
// that points to it holds the same 16 bytes, so that engines join by them.
func (k HashKey) Self(key Key) Hash {
	var room [80]byte
	buf := append(room[:0], domainSelf)
	buf = binary.BigEndian.AppendUint16(buf, uint16(key.Type))
	return k.bytes(append(buf, key.ID...))
}

func (k HashKey) bytes(b []byte) Hash {
	lo, hi := siphash.Hash128(binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:]), b)
	var h Hash
	binary.BigEndian.PutUint64(h[:8], hi)
	binary.BigEndian.PutUint64(h[8:], lo)
	return h
}
