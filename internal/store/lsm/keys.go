package lsm

import (
	"bytes"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// The keyspaces: the first byte of every key. Numbers are big-endian; rid is a
// row number (6 bytes), self is plan.HashKey.Self of a resource (16), ^x is x
// with every bit turned, so that the newest comes first.
//
//	01 body       rid:6                              → header | body | MAC
//	02 pointer    self:16                            → current version: rid, version, times
//	03 history    self:16 ^version:8                 → rid, of superseded versions
//	04 index      param:4 escaped(value) 00 ^block:4 → container
//	05            kept free for columns
//	06 dead       block:4                            → container of superseded rows
//	07 successor  rid:6                              → rid of the next version
//	08 type       type:2 kind:1 ^block:4             → container of versions or of deletions
//	09 facts      rid:6                              → self, entries: loose ones
//	0a sheet      rid:6                              → entries of the rows up to this one
//	0f meta       name                               → see meta keys below
//
// Persisted: docs/format/lsm-keys.md draws keys and values, and nothing here
// may change without a new number in FORMAT.
const (
	spaceBody      = 0x01
	spacePointer   = 0x02
	spaceHistory   = 0x03
	spaceIndex     = 0x04
	spaceDead      = 0x06
	spaceSuccessor = 0x07
	spaceType      = 0x08
	spaceFacts     = 0x09
	spaceSheet     = 0x0a
	spaceMeta      = 0x0f
)

// The kinds of keyspace 08.
const (
	kindPut    = 0 // versions with a body: the type's universe
	kindDelete = 1 // deletion markers
)

// The meta keys begin with one of these, after spaceMeta.
const (
	metaCursor = 'I' // I import 00 part → cursor of an import
	metaPurged = 'P' // P → there are purged bytes that no compaction dropped yet
)

const (
	ridSize     = 6
	hashSize    = len(plan.Hash{})
	blockSize   = 4 // of a block's number in a key, in bytes
	paramSize   = 4
	versionSize = 8

	// maxRID bounds row numbers: 48 bits.
	maxRID = 1<<48 - 1
)

// The value of an index key is escaped, so that it holds no zero byte, and ends
// with one: 00 becomes 01 01 and 01 becomes 01 02. That keeps the order of the
// values, makes no value's bytes the beginning of another's, and lets Split
// find where the value ends. Text, which holds neither byte, stays as it is.
const (
	escape     = 0x01
	escapeZero = 0x01
	escapeOne  = 0x02
	terminator = 0x00
)

func appendEscaped(dst, value []byte) []byte {
	kept := 0 // what stands before is in dst
	for i, b := range value {
		if b > escape {
			continue
		}
		as := byte(escapeOne)
		if b == 0 {
			as = escapeZero
		}
		dst = append(append(dst, value[kept:i]...), escape, as)
		kept = i + 1
	}
	return append(dst, value[kept:]...)
}

// unescape appends what escaped stands for to dst.
func unescape(dst, escaped []byte) ([]byte, error) {
	for {
		at := bytes.IndexByte(escaped, escape)
		if at < 0 {
			return append(dst, escaped...), nil
		}
		dst, escaped = append(dst, escaped[:at]...), escaped[at+1:]
		switch {
		case len(escaped) > 0 && escaped[0] == escapeZero:
			dst = append(dst, 0)
		case len(escaped) > 0 && escaped[0] == escapeOne:
			dst = append(dst, escape)
		default:
			return nil, corrupt("an index key's value is not escaped as it must be")
		}
		escaped = escaped[1:]
	}
}

func corrupt(what string) error {
	return &fault.Error{Kind: fault.Internal, Op: "lsm", Detail: "stored data is damaged: " + what}
}

func appendRID(dst []byte, rid uint64) []byte {
	return append(dst, byte(rid>>40), byte(rid>>32), byte(rid>>24), byte(rid>>16), byte(rid>>8), byte(rid))
}

func getRID(b []byte) uint64 {
	return uint64(b[0])<<40 | uint64(b[1])<<32 | uint64(b[2])<<24 | uint64(b[3])<<16 | uint64(b[4])<<8 | uint64(b[5])
}

func rowKey(space byte, rid uint64) []byte {
	return appendRID(append(make([]byte, 0, 1+ridSize), space), rid)
}

func bodyKey(rid uint64) []byte      { return rowKey(spaceBody, rid) }
func successorKey(rid uint64) []byte { return rowKey(spaceSuccessor, rid) }
func factsKey(rid uint64) []byte     { return rowKey(spaceFacts, rid) }

// keyRID reads the row number of a key of keyspaces 01, 07, 09 and 0a.
func keyRID(key []byte) (uint64, error) {
	if len(key) != 1+ridSize {
		return 0, corrupt("a row's key has a wrong length")
	}
	return getRID(key[1:]), nil
}

func pointerKey(self plan.Hash) []byte {
	return append(append(make([]byte, 0, 1+hashSize), spacePointer), self[:]...)
}

func historyPrefix(self plan.Hash) []byte {
	return append(append(make([]byte, 0, 1+hashSize+versionSize), spaceHistory), self[:]...)
}

func historyKey(self plan.Hash, version uint64) []byte {
	return binary.BigEndian.AppendUint64(historyPrefix(self), ^version)
}

// historyVersion reads the version of a history key.
func historyVersion(key []byte) (uint64, error) {
	if len(key) != 1+hashSize+versionSize {
		return 0, corrupt("a history key has a wrong length")
	}
	return ^binary.BigEndian.Uint64(key[1+hashSize:]), nil
}

func paramPrefix(dst []byte, param plan.Param) []byte {
	return binary.BigEndian.AppendUint32(append(dst, spaceIndex), uint32(param))
}

// indexPrefix is an index key up to its block: what Split gives of it.
func indexPrefix(param plan.Param, value []byte) []byte {
	dst := make([]byte, 0, 1+paramSize+len(value)+len(value)/8+1+blockSize)
	return append(appendEscaped(paramPrefix(dst, param), value), terminator)
}

// indexBounds are the keys from value low (nil: the first) to value high (nil:
// the last), high excluded.
func indexBounds(param plan.Param, low, high []byte) (lower, upper []byte) {
	lower, upper = paramPrefix(nil, param), plan.Successor(paramPrefix(nil, param))
	if low != nil {
		lower = indexPrefix(param, low)
	}
	if high != nil {
		upper = indexPrefix(param, high)
	}
	return lower, upper
}

func typePrefix(t plan.Type, kind byte) []byte {
	dst := append(make([]byte, 0, 1+2+1+blockSize), spaceType)
	return append(binary.BigEndian.AppendUint16(dst, uint16(t)), kind)
}

// appendBlock completes the prefix of an index or type key.
func appendBlock(prefix []byte, block uint32) []byte {
	return binary.BigEndian.AppendUint32(prefix, ^block)
}

// keyBlock reads the block at the end of an index or type key.
func keyBlock(key []byte) uint32 {
	return ^binary.BigEndian.Uint32(key[len(key)-blockSize:])
}

func deadKey(block uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{spaceDead}, block)
}

func cursorKey(name, part string) []byte {
	return append(append(append([]byte{spaceMeta, metaCursor}, name...), 0), part...)
}

// split is the Split of Comparer: index and type keys end before their block,
// so that Pebble's filters know each (param, value); others are whole.
func split(key []byte) int {
	if len(key) == 0 {
		return 0
	}
	switch key[0] {
	case spaceIndex:
		if len(key) > 1+paramSize {
			if end := bytes.IndexByte(key[1+paramSize:], terminator); end >= 0 {
				return 1 + paramSize + end + 1
			}
		}
	case spaceType:
		return min(len(key), 1+2+1)
	}
	return len(key)
}

// indexKeyParts reads an index key.
func indexKeyParts(key []byte) (param plan.Param, escaped []byte, block uint32, err error) {
	n := split(key)
	if len(key) != n+blockSize || n < 1+paramSize+1 {
		return 0, nil, 0, corrupt("an index key has a wrong form")
	}
	param = plan.Param(binary.BigEndian.Uint32(key[1:]))
	return param, key[1+paramSize : n-1], keyBlock(key), nil
}

// schemaName is persisted by Pebble as the name of comparer and merger: a
// directory opens only with both.
const schemaName = "tarn.v1"

// comparer orders keys by their bytes.
func comparer() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = schemaName
	c.Split = split
	c.ImmediateSuccessor = nextPrefix
	return &c
}

// nextPrefix appends the smallest key above prefix that is whole before its
// block (Pebble's ImmediateSuccessor).
func nextPrefix(dst, prefix []byte) []byte {
	n := len(prefix)
	index := n > 1+paramSize && prefix[0] == spaceIndex && prefix[n-1] == terminator
	kind := n == 1+2+1 && prefix[0] == spaceType
	if index || kind {
		if next := plan.Successor(prefix); len(next) == n {
			return append(dst, next...)
		}
	}
	if kind { // a kind of 0xff, which does not exist: the next type begins
		return append(dst, plan.Successor(prefix)...)
	}
	return append(append(dst, prefix...), 0)
}
