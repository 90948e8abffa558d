// Package dictionary ships the dictionaries that bodies of R4 resources compress
// well over: for each type that Synthea makes, up to 64 KiB of typical content.
//
//	dictionaries.zst   zstd of { number uvarint, type, content } …
//
// type and content stand behind their lengths (uvarint). A dictionary's number
// is written beside every body kept over it: once shipped, a number means the
// same bytes for ever. A better dictionary gets a new number; the newest of a
// type is used for new bodies. They are made of synthetic patients only (see
// gen): a dictionary of real ones would be patient data.
package dictionary

import (
	_ "embed"
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

//go:embed dictionaries.zst
var shipped []byte

// Set is a set of dictionaries by number and by type.
type Set struct {
	byNumber map[uint64][]byte
	newest   map[plan.Type]uint64
}

// Entry is one dictionary as it is shipped.
type Entry struct {
	Number  uint64
	Type    string
	Content []byte // as s2.NewDict reads it
}

// Shipped gives the dictionaries that are in the binary.
var Shipped = sync.OnceValues(func() (*Set, error) { return Read(shipped) })

// Read reads what Write wrote.
func Read(packed []byte) (*Set, error) {
	z, err := zstd.NewReader(nil)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "dictionary.Read", err)
	}
	defer z.Close()
	raw, err := z.DecodeAll(packed, nil)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "dictionary.Read", err)
	}
	s := &Set{byNumber: map[uint64][]byte{}, newest: map[plan.Type]uint64{}}
	for len(raw) > 0 {
		var e Entry
		if e, raw, err = next(raw); err != nil {
			return nil, err
		}
		s.byNumber[e.Number] = e.Content
		if t, known := r4.TypeByName(e.Type); known {
			s.newest[t] = max(s.newest[t], e.Number)
		}
	}
	return s, nil
}

func next(raw []byte) (e Entry, rest []byte, err error) {
	number, n := binary.Uvarint(raw)
	if n <= 0 || number == 0 {
		return e, nil, damaged()
	}
	name, raw, ok := bytesOf(raw[n:])
	content, raw, ok2 := bytesOf(raw)
	if !ok || !ok2 {
		return e, nil, damaged()
	}
	return Entry{number, string(name), content}, raw, nil
}

func bytesOf(raw []byte) (b, rest []byte, ok bool) {
	size, n := binary.Uvarint(raw)
	if n <= 0 || size > uint64(len(raw)-n) {
		return nil, nil, false
	}
	return raw[n : n+int(size)], raw[n+int(size):], true
}

func damaged() error {
	return fault.New(fault.Internal, "dictionary.Read", "the dictionaries are damaged")
}

// Write packs dictionaries.
func Write(entries []Entry) ([]byte, error) {
	var raw []byte
	for _, e := range entries {
		raw = binary.AppendUvarint(raw, e.Number)
		raw = append(binary.AppendUvarint(raw, uint64(len(e.Type))), e.Type...)
		raw = append(binary.AppendUvarint(raw, uint64(len(e.Content))), e.Content...)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return nil, err
	}
	return z.EncodeAll(raw, nil), z.Close()
}

// For names the dictionary for new bodies of a type; 0 is none.
func (s *Set) For(t plan.Type) uint64 { return s.newest[t] }

// Bytes gives a dictionary; nil when the number is not known.
func (s *Set) Bytes(number uint64) []byte { return s.byNumber[number] }
