package devidp

import (
	"bytes"
	"strings"
	"testing"
)

// A client id is an argument of many commands, where a leading dash is an option's.
func TestSecretsAreNoOptions(t *testing.T) {
	s := &Server{Options: Options{Random: bytes.NewReader(bytes.Repeat([]byte{0xfb}, secretBytes))}} // "-" in base64url
	id, err := s.secret()
	if err != nil || len(id) < secretBytes || strings.HasPrefix(id, "-") {
		t.Errorf("%q, %v", id, err)
	}
}
