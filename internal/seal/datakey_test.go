package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// testKey is a data key whose bytes are all b.
func testKey(t testing.TB, b byte) DataKey {
	t.Helper()
	key, err := DataKeyFrom(bytes.Repeat([]byte{b}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestDataKeyNeverShowsItself(t *testing.T) {
	raw := bytes.Repeat([]byte{0xA7}, KeySize)
	key, err := DataKeyFrom(raw)
	if err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&shown, verb+"\n", key)
		fmt.Fprintf(&shown, verb+"\n", &key)
		fmt.Fprintf(&shown, verb+"\n", struct{ Key DataKey }{key})
	}
	fmt.Fprintln(&shown, key)
	slog.New(slog.NewJSONHandler(&shown, nil)).Info("made", "key", key)
	slog.New(slog.NewTextHandler(&shown, nil)).Info("made", "key", key)
	encoded, err := json.Marshal(map[string]any{"key": key, "pointer": &key})
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(encoded)
	for _, leak := range []string{hex.EncodeToString(raw[:4]), strings.ToUpper(hex.EncodeToString(raw[:4])), "167 167", "167,167", string(raw[:4]), "p6en"} {
		if strings.Contains(shown.String(), leak) {
			t.Errorf("the key shows as %q in:\n%s", leak, shown.String())
		}
	}
	if got := strings.Count(shown.String(), redacted); got < 28 {
		t.Errorf("redacted %d times in:\n%s", got, shown.String())
	}
}

func TestDataKeyDerive(t *testing.T) {
	key := testKey(t, 7)
	// Frozen: what was sealed under these must open for ever. Computed apart
	// with Python's hmac, by RFC 5869.
	for label, want := range map[string]string{
		"files":      "3ea0eddf75ca1dd9eab1228481147872d578d0bc98781a8e78c439244cf36685",
		"values mac": "013e9a3505a8403da8fa403997226df6379ba3bc3075dd78dd658456e8a73264",
		"hash":       "cceaba7c485fb0eb9bee24c398e33a49a6a07553e791514ff34fddbe84d059cc",
	} {
		got := key.Derive(label)
		if hex.EncodeToString(got[:]) != want {
			t.Errorf("Derive(%q) = %x, want %s", label, got, want)
		}
	}
}

func TestDataKeyWipeReachesCopies(t *testing.T) {
	key := testKey(t, 1)
	other := key
	if !other.Equal(key) || !other.Equal(testKey(t, 1)) || other.Equal(testKey(t, 2)) {
		t.Fatal("Equal is wrong before Wipe")
	}
	key.Wipe()
	key.Wipe()
	if other.Usable() || other.Equal(key) || key.Equal(testKey(t, 0)) {
		t.Error("a wiped key is still a key")
	}
	if other.s.bytes != [KeySize]byte{} {
		t.Error("the bytes are still there")
	}
	if other.Reveal(func([]byte) { t.Error("a wiped key was revealed") }) {
		t.Error("Reveal reports a wiped key")
	}
	mustPanic(t, func() { other.Derive("files") })
}

func TestNoDataKey(t *testing.T) {
	var none DataKey
	none.Wipe()
	if none.Usable() || none.Equal(DataKey{}) || none.Equal(testKey(t, 0)) {
		t.Error("the zero DataKey is a key")
	}
	mustPanic(t, func() { none.Derive("files") })
}

func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f()
}

func TestNewDataKey(t *testing.T) {
	one, err := NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	two, err := NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if one.Equal(two) {
		t.Error("two new keys are equal")
	}
	if _, err := NewDataKey(iotest.ErrReader(errors.New("no entropy"))); !fault.Is(err, fault.Internal) {
		t.Errorf("without randomness: %v", err)
	}
	if _, err := NewDataKey(bytes.NewReader(make([]byte, KeySize-1))); err == nil {
		t.Error("a key was made of 31 bytes")
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := DataKeyFrom(make([]byte, n)); !fault.Is(err, fault.Invalid) {
			t.Errorf("key of %d bytes: %v", n, err)
		}
	}
}

func TestDataKeyFromCopies(t *testing.T) {
	raw := bytes.Repeat([]byte{1}, KeySize)
	key, err := DataKeyFrom(raw)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if !key.Equal(testKey(t, 1)) {
		t.Error("the key changed with its source")
	}
}

func TestCanonicalContext(t *testing.T) {
	different := []map[string]string{
		nil,
		{"a": "b"}, {"ab": ""}, {"": "ab"}, {"a": "b", "": ""},
		{"a": "bc"}, {"ab": "c"}, {"a": "c", "b": "b"}, {"a": "b", "b": "c"},
	}
	seen := map[string]int{}
	for i, c := range different {
		raw := string(CanonicalContext(c))
		if j, ok := seen[raw]; ok {
			t.Errorf("contexts %v and %v are the same bytes", different[j], c)
		}
		seen[raw] = i
	}
	want := "0000000200000001610000000178000000026262000000022020"
	got := CanonicalContext(map[string]string{"bb": "  ", "a": "x"})
	if hex.EncodeToString(got) != want {
		t.Errorf("canonical form %x, want %s", got, want)
	}
}

// fakeRing knows one key and counts what it is asked.
type fakeRing struct {
	arn   string
	err   error
	asked *int
}

func (f fakeRing) find(keyID string) error {
	*f.asked++
	if f.err == nil && keyID != f.arn {
		return fault.New(fault.NotFound, "fake", "no key %s", keyID)
	}
	return f.err
}

func (f fakeRing) GenerateDataKey(_ context.Context, keyID string, _ map[string]string) (DataKey, Wrapped, error) {
	return DataKey{}, Wrapped{KeyARN: f.arn}, f.find(keyID)
}

func (f fakeRing) Unwrap(_ context.Context, w Wrapped, _ map[string]string) (DataKey, error) {
	return DataKey{}, f.find(w.KeyARN)
}

func (f fakeRing) Resolve(_ context.Context, keyID string) (KeyInfo, error) {
	return KeyInfo{ARN: f.arn}, f.find(keyID)
}

func TestKeyringsAskInOrder(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		name        string
		first       error
		key         string
		kind        fault.Kind
		found       bool
		askedSecond int
	}{
		{name: "in the first", key: "one", found: true},
		{name: "in the second", key: "two", found: true, askedSecond: 3},
		{name: "nowhere", key: "three", kind: fault.NotFound, askedSecond: 3},
		{name: "first says no", first: fault.New(fault.Forbidden, "fake", "disabled"), key: "two", kind: fault.Forbidden},
		{name: "first is away", first: fault.New(fault.Unavailable, "fake", "away"), key: "two", kind: fault.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			var first, second int
			ring := Keyrings(fakeRing{"one", c.first, &first}, fakeRing{"two", nil, &second})
			info, err := ring.Resolve(ctx, c.key)
			check := func(err error) {
				t.Helper()
				if c.found != (err == nil) || !c.found && !fault.Is(err, c.kind) {
					t.Errorf("got %v", err)
				}
			}
			check(err)
			if c.found && info.ARN != c.key {
				t.Errorf("resolved to %s", info.ARN)
			}
			_, wrapped, err := ring.GenerateDataKey(ctx, c.key, nil)
			check(err)
			if c.found && wrapped.KeyARN != c.key {
				t.Errorf("wrapped with %s", wrapped.KeyARN)
			}
			_, err = ring.Unwrap(ctx, Wrapped{KeyARN: c.key}, nil)
			check(err)
			if second != c.askedSecond {
				t.Errorf("the second was asked %d times, want %d", second, c.askedSecond)
			}
		})
	}
	if _, err := Keyrings().Resolve(ctx, "x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("no keyrings: %v", err)
	}
}
