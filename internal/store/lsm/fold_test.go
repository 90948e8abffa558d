package lsm

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

const someUUID = "00112233-4455-6677-8899-aabbccddeeff"

// What is folded, and what is not: the numbers of its mark and of its bytes.
func TestBodiesFold(t *testing.T) {
	for _, c := range []struct {
		text string
		size int // 0: as long as text
	}{
		{"", 0}, {"-", 0}, {"plain", 0},
		{someUUID, 18}, {"x" + someUUID + "y", 20}, {"abcdef" + someUUID, 24},
		{someUUID + someUUID, 36}, {"2001-" + someUUID, 23},
		{strings.ToUpper(someUUID), 0}, {someUUID[:35], 0}, {"00112233-4455-6677-8899+aabbccddeeff", 0},
		{"2023-04-16T02:19:45Z", 7}, {"2023-04-16T02:19:45+00:00", 7}, {`"2023-04-16T02:19:45.352-05:30",`, 12},
		{"0000-01-01T00:00:00Z", 7}, {"9999-12-31T23:59:59.999+14:00", 9}, {"2024-02-29T00:00:00-14:00", 7},
		{"2023-04-16T02:19:45.352Z2023-04-16T02:19:45.352Z", 18},
		{"2023-02-29T00:00:00Z", 0}, {"2023-04-16T24:00:00Z", 0}, {"2023-04-16T02:19:60Z", 0},
		{"2023-04-16T02:19:45-00:00", 0}, {"2023-04-16T02:19:45+14:15", 0}, {"2023-04-16T02:19:45+01:07", 0},
		{"2023-04-16T02:19:45+01:60", 0}, {"2023-04-16T02:19:45", 0}, {"2023-04-16T02:19:45.35Z", 0},
		{"2023-04-16T02:19:45.3521Z", 0}, {"2023-04-16t02:19:45Z", 0}, {"2023-04-16", 0},
		{"\xff", 0}, {"\xff\xff" + someUUID + "\xff", 24}, {someUUID + "-\xff-", 22},
	} {
		folded, did := foldBody(nil, []byte(c.text))
		if did != (c.size > 0) || did && len(folded) != c.size {
			t.Errorf("%q is folded (%v) into %d bytes, want %d", c.text, did, len(folded), c.size)
		}
		if !did {
			continue
		}
		if got, err := unfoldBody(folded); err != nil || string(got) != c.text || cap(got) > len(got)+16 {
			t.Errorf("%q comes back as %q in room of %d, %v", c.text, got, cap(got), err)
		}
		for n := range folded {
			if got, err := unfoldBody(folded[:n]); err == nil && string(got) != c.text[:len(got)] {
				t.Errorf("the first %d bytes of %q folded are read as %q", n, c.text, got)
			}
		}
	}
}

// The form is persisted: these bytes may never change.
func TestFoldedBodiesAreFrozen(t *testing.T) {
	for text, want := range map[string]string{
		someUUID:                        "ff0000112233445566778899aabbccddeeff",
		"1970-01-01T00:00:00Z":          "ff010e79747c00",
		"1970-01-01T00:00:01.258Z":      "ff020e79747c010102",
		"1969-12-31T23:59:59+00:00":     "ff730e79747bff",
		"1970-01-01T00:00:00-14:00":     "ff030e79747c00",
		"1970-01-01T00:00:00.001+14:00": "ffe40e79747c000001",
	} {
		if folded, ok := foldBody(nil, []byte(text)); !ok || hex.EncodeToString(folded) != want {
			t.Errorf("%s is %x, want %s", text, folded, want)
		}
	}
}

// Every day of 10,000 years, by Go's calendar.
func TestMomentsUnfoldAsGoWritesThem(t *testing.T) {
	end := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for at, n := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), 0; !at.After(end); at, n = at.Add(86399*time.Second), n+1 {
		text := at.Format(time.RFC3339)
		if got := string(appendClock(nil, uint64(at.Unix()+yearZero))) + "Z"; got != text {
			t.Fatalf("%s is written as %s", text, got)
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add([]byte(`{"reference":"Patient/` + someUUID + `","at":"2023-04-16T02:19:45.352-05:30"}`))
	f.Add([]byte("\xff\x00" + someUUID))
	f.Add([]byte("2023-04-16T02:19:45+00:00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if folded, ok := foldBody(nil, body); ok {
			if back, err := unfoldBody(folded); err != nil || !bytes.Equal(back, body) {
				t.Fatalf("%q comes back as %q, %v", body, back, err)
			}
		}
		_, _ = unfoldBody(body) // whatever it holds
	})
}
