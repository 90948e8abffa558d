package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"testing/iotest"

	"github.com/tarn-fhir/tarn/internal/fault"
)

func keyOf(b byte) (key [KeySize]byte) {
	copy(key[:], bytes.Repeat([]byte{b}, KeySize))
	return key
}

// The test vectors of c2sp.org/XAES-256-GCM.
func TestBoxVectors(t *testing.T) {
	const nonce = "ABCDEFGHIJKLMNOPQRSTUVWX"
	for _, c := range []struct {
		key       byte
		aad, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		box := NewBoxWith(keyOf(c.key), bytes.NewReader([]byte(nonce)))
		sealed, err := box.Seal([]byte("XAES-256-GCM"), []byte(c.aad))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := hex.EncodeToString(sealed), "01"+hex.EncodeToString([]byte(nonce))+c.want; got != want {
			t.Errorf("key %d: %s\nwant %s", c.key, got, want)
		}
	}
}

func TestBoxOpensWhatItSealed(t *testing.T) {
	box := NewBox(keyOf(5))
	for _, plain := range []string{"", "x", "a page token of some length"} {
		sealed, err := box.Seal([]byte(plain), []byte("page"))
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) != len(plain)+BoxOverhead {
			t.Errorf("%d bytes became %d", len(plain), len(sealed))
		}
		opened, err := box.Open(sealed, []byte("page"))
		if err != nil || string(opened) != plain {
			t.Errorf("opened to %q, %v", opened, err)
		}
		again, err := box.Seal([]byte(plain), []byte("page"))
		if err != nil || bytes.Equal(sealed, again) {
			t.Errorf("sealing twice gave the same bytes (%v)", err)
		}
	}
}

func TestBoxRefuses(t *testing.T) {
	box := NewBox(keyOf(5))
	sealed, err := box.Seal([]byte("secret"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, box *Box, sealed, aad []byte) {
		t.Helper()
		if plain, err := box.Open(sealed, aad); !fault.Is(err, fault.Invalid) || plain != nil {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
	}
	refused("other key", NewBox(keyOf(6)), sealed, []byte("aad"))
	refused("other aad", box, sealed, []byte("aae"))
	refused("no aad", box, sealed, nil)
	for n := range sealed {
		refused("cut short", box, sealed[:n], []byte("aad"))
		for bit := range 8 {
			flipped := bytes.Clone(sealed)
			flipped[n] ^= 1 << bit
			refused("flipped", box, flipped, []byte("aad"))
		}
	}
	refused("longer", box, append(bytes.Clone(sealed), 0), []byte("aad"))
	if _, err := NewBoxWith(keyOf(1), iotest.ErrReader(errors.New("no entropy"))).Seal(nil, nil); !fault.Is(err, fault.Internal) {
		t.Errorf("without randomness: %v", err)
	}
}

func BenchmarkBox(b *testing.B) {
	box, token := NewBox(keyOf(1)), make([]byte, 100)
	for b.Loop() {
		sealed, err := box.Seal(token, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := box.Open(sealed, nil); err != nil {
			b.Fatal(err)
		}
	}
}
