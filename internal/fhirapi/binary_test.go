package fhirapi

import (
	"bytes"
	"encoding/base64"
	"io"
	"testing"
)

// A text that base64Size takes is decoded without an error, to that many bytes;
// what it refuses, the decoder refuses too, but for line ends, which are taken
// out before.
func FuzzBase64Size(f *testing.F) {
	for _, seed := range []string{"", "eA==", "aGVsbG8=", "AAAA", "AAA", "A===", "====", "eA==eA==", "eB==", "e\nA=", "e-_A"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		size, ok := base64Size(text)
		got, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(text)))
		switch {
		case ok && (err != nil || len(got) != size):
			t.Errorf("%q: %d bytes are promised, there are %d: %v", text, size, len(got), err)
		case !ok && err == nil && !bytes.ContainsAny(text, "\r\n"):
			t.Errorf("%q is refused", text)
		}
	})
}
