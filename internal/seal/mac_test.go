package seal

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func split(p ...string) (out [][]byte) {
	for _, s := range p {
		out = append(out, []byte(s))
	}
	return out
}

func TestMACIsBoundToItsParts(t *testing.T) {
	key := keyOf(9)
	base := MAC(key, split("Patient", "1", "body")...)
	// Frozen: values carry it on disk.
	if got, want := hex.EncodeToString(base[:]), "7c983e584bf814ecd4bdedfcf9196561"; got != want {
		t.Errorf("MAC = %s, want %s", got, want)
	}
	for _, other := range [][][]byte{
		split("Patient", "1", "bodz"), split("Patient", "1body"), split("Patient1", "", "body"),
		split("Patient", "1", "body", ""), split("1", "Patient", "body"), split("Patient", "1"), nil,
	} {
		if MAC(key, other...) == base {
			t.Errorf("%q has the same MAC", other)
		}
	}
	if MAC(keyOf(8), split("Patient", "1", "body")...) == base {
		t.Error("another key gives the same MAC")
	}
	a := NewAuthenticator(key)
	for range 3 {
		if !a.Verify(base[:], split("Patient", "1", "body")...) {
			t.Error("a right MAC does not verify")
		}
		if !a.Verify(base[:ShortMACSize], split("Patient", "1", "body")...) || a.Verify(base[:ShortMACSize], split("Patient", "2", "body")...) ||
			a.Verify(base[:ShortMACSize-1], split("Patient", "1", "body")...) || a.Verify(base[1:ShortMACSize+1], split("Patient", "1", "body")...) {
			t.Error("the short form is not the first bytes, all of them")
		}
		if a.Verify(base[:], split("Patient", "2", "body")...) || a.Verify(base[:15], split("Patient", "1", "body")...) || a.Verify(nil) {
			t.Error("a wrong MAC verifies")
		}
	}
}

// plainMAC is the MAC by the book: GHASH with numbers as polynomials (SP
// 800-38D, 6.3 and 6.4), no shared code but AES.
func plainMAC(key [KeySize]byte, parts [][]byte) (mac [MACSize]byte) {
	var message []byte
	for _, part := range parts {
		message = binary.BigEndian.AppendUint64(message, uint64(len(part)))
		message = append(message, part...)
	}
	hashKey, finishKey := derive(key[:], nil, "tarn.v1 mac hash"), derive(key[:], nil, "tarn.v1 mac finish")
	var h, mask [aes.BlockSize]byte
	mask[15] = 1 // J0 of a nonce of 12 zeros
	newAES(hashKey).Encrypt(h[:], h[:])
	newAES(hashKey).Encrypt(mask[:], mask[:])

	padded := append(bytes.Clone(message), make([]byte, (16-len(message)%16)%16)...)
	padded = binary.BigEndian.AppendUint64(padded, uint64(len(message))*8)
	padded = binary.BigEndian.AppendUint64(padded, 0)
	y := new(big.Int)
	for block := range slices.Chunk(padded, 16) {
		y = multiply(y.Xor(y, new(big.Int).SetBytes(block)), new(big.Int).SetBytes(h[:]))
	}
	y.Xor(y, new(big.Int).SetBytes(mask[:])).FillBytes(mac[:])
	newAES(finishKey).Encrypt(mac[:], mac[:])
	return mac
}

// multiply is the product in GCM's field, whose bits count from the left.
func multiply(x, y *big.Int) *big.Int {
	reduce := new(big.Int).Lsh(big.NewInt(0xe1), 120)
	z, v := new(big.Int), new(big.Int).Set(y)
	for i := 127; i >= 0; i-- {
		if x.Bit(i) == 1 {
			z.Xor(z, v)
		}
		carry := v.Bit(0)
		v.Rsh(v, 1)
		if carry == 1 {
			v.Xor(v, reduce)
		}
	}
	return z
}

func TestMACByTheBook(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, sizes := range [][]int{{}, {0}, {1}, {16}, {8}, {7, 9}, {24, 300}, {3, 0, 17, 64}} {
		var key [KeySize]byte
		fill(random, key[:])
		var parts [][]byte
		for _, n := range sizes {
			part := make([]byte, n)
			fill(random, part)
			parts = append(parts, part)
		}
		if got, want := MAC(key, parts...), plainMAC(key, parts); got != want {
			t.Errorf("parts of %v bytes: %x, want %x", sizes, got, want)
		}
	}
}

func fill(random *rand.Rand, p []byte) {
	for i := range p {
		p[i] = byte(random.Uint32())
	}
}

func TestMACFromManyGoroutines(t *testing.T) {
	a, big := NewAuthenticator(keyOf(3)), make([]byte, 2*scratchKept)
	short, long := a.MAC([]byte("x")), a.MAC(big)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				if a.MAC([]byte("x")) != short || a.MAC(big) != long {
					t.Error("the MAC changed")
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkAuthenticator(b *testing.B) {
	a := NewAuthenticator(keyOf(1))
	for _, size := range []struct {
		name  string
		bytes int
	}{{"300B", 300}, {"1433B", 1433}} {
		b.Run(size.name, func(b *testing.B) {
			place, body := make([]byte, 24), make([]byte, size.bytes)
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			for b.Loop() {
				a.MAC(place, body)
			}
		})
	}
}
