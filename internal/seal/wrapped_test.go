package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
)

const someARN = "arn:aws:kms:us-east-1:111122223333:key/0a1b2c3d-0000-4000-8000-000000000000"

func TestWrappedForms(t *testing.T) {
	w := Wrapped{KeyARN: someARN, Ciphertext: []byte{1, 2, 250}}
	// Frozen: records hold these forms.
	const wantJSON = `{"format":1,"keyArn":"` + someARN + `","ciphertext":"AQL6"}`
	wantBinary := "54574b01004b" + hex.EncodeToString([]byte(someARN)) + "0003" + "0102fa"

	asJSON, err := json.Marshal(w)
	if err != nil || string(asJSON) != wantJSON {
		t.Errorf("JSON %s, %v", asJSON, err)
	}
	asBinary, err := w.MarshalBinary()
	if err != nil || hex.EncodeToString(asBinary) != wantBinary {
		t.Errorf("binary %x, %v", asBinary, err)
	}
	var read Wrapped
	if err := json.Unmarshal([]byte(wantJSON), &read); err != nil || !read.Equal(w) {
		t.Errorf("read JSON as %v, %v", read, err)
	}
	read = Wrapped{}
	if err := read.UnmarshalBinary(asBinary); err != nil || !read.Equal(w) {
		t.Errorf("read binary as %v, %v", read, err)
	}
	clear(asBinary)
	if !read.Equal(w) {
		t.Error("the read form shares memory with its source")
	}
}

func TestWrappedRefuses(t *testing.T) {
	good, err := Wrapped{KeyARN: someARN, Ciphertext: []byte{1}}.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(good)
	newer[3] = 2
	for _, c := range []struct {
		name string
		raw  []byte
		kind fault.Kind
	}{
		{"nothing", nil, fault.Invalid},
		{"no format", []byte("TWK"), fault.Invalid},
		{"other magic", append([]byte("TWL"), good[3:]...), fault.Invalid},
		{"newer format", newer, fault.NotSupported},
		{"too long", append(bytes.Clone(good), 0), fault.Invalid},
		{"no ARN", []byte("TWK\x01\x00\x00\x00\x01x"), fault.Invalid},
		{"no ciphertext", []byte("TWK\x01\x00\x01a\x00\x00"), fault.Invalid},
	} {
		var w Wrapped
		if err := w.UnmarshalBinary(c.raw); !fault.Is(err, c.kind) || w.KeyARN != "" {
			t.Errorf("%s: %v, %v", c.name, w, err)
		}
	}
	for n := range good {
		if err := new(Wrapped).UnmarshalBinary(good[:n]); err == nil {
			t.Errorf("%d bytes of %d were taken", n, len(good))
		}
	}
	for text, kind := range map[string]fault.Kind{
		`{}`: fault.NotSupported,
		`{"format":2,"keyArn":"a","ciphertext":"AQ=="}`:              fault.NotSupported,
		`{"format":1,"keyArn":"","ciphertext":"AQ=="}`:               fault.Invalid,
		`{"format":1,"keyArn":"a"}`:                                  fault.Invalid,
		`{"format":1,"keyArn":"a","ciphertext":"!"}`:                 fault.Invalid,
		`{"format":1,"keyArn":"a","ciphertext":"AQ==","extra":true}`: fault.Invalid,
	} {
		if err := new(Wrapped).UnmarshalJSON([]byte(text)); !fault.Is(err, kind) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, w := range []Wrapped{
		{}, {KeyARN: "a"}, {Ciphertext: []byte{1}},
		{KeyARN: strings.Repeat("a", maxKeyARN+1), Ciphertext: []byte{1}},
		{KeyARN: "a", Ciphertext: make([]byte, maxCiphertext+1)},
	} {
		if _, err := w.MarshalBinary(); !fault.Is(err, fault.Invalid) {
			t.Errorf("binary of %d, %d bytes: %v", len(w.KeyARN), len(w.Ciphertext), err)
		}
		if _, err := w.MarshalJSON(); !fault.Is(err, fault.Invalid) {
			t.Errorf("JSON of %d, %d bytes: %v", len(w.KeyARN), len(w.Ciphertext), err)
		}
	}
}

func FuzzWrapped(f *testing.F) {
	good := Wrapped{KeyARN: someARN, Ciphertext: []byte{1, 2, 3}}
	asBinary, err := good.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	asJSON, err := good.MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(asBinary)
	f.Add(asJSON)
	f.Add([]byte("TWK\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var w Wrapped
		if w.UnmarshalBinary(raw) == nil {
			if back, err := w.MarshalBinary(); err != nil || !bytes.Equal(back, raw) {
				t.Errorf("%x became %x, %v", raw, back, err)
			}
		}
		w = Wrapped{}
		if w.UnmarshalJSON(raw) != nil {
			return
		}
		back, err := w.MarshalJSON()
		if err != nil {
			t.Fatalf("%q was read as %v and does not marshal: %v", raw, w, err)
		}
		var again Wrapped
		if err := again.UnmarshalJSON(back); err != nil || !again.Equal(w) {
			t.Errorf("%q became %q, %v", raw, back, err)
		}
	})
}
