package lsm

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// The forms of a row of keyspace 01: its first byte. Rows of the first two are not
// written any more.
const (
	formVersion1 = 0x01 // as formVersion, with left in place of end, and a whole MAC
	formPurge1   = 0x02 // as formPurge, the same
	formVersion  = 0x03 // a version of a resource, or its deletion
	formPurge    = 0x04 // the fact that a resource was purged, for Follow
)

// firstForm reports whether a row has a form of before format 3.
func firstForm(form byte) bool { return form == formVersion1 || form == formPurge1 }

// The flags of a row: its second byte.
const flagDeleted = 0x01

// header is what stands before a version's body.
type header struct {
	purge   bool
	deleted bool
	codec   codec
	dict    uint64 // where codec is over one: which
	key     plan.Key
	version uint64
	commit  uint64 // number of the commit that made this row
	end     uint64 // the row behind the last one of that commit
	first   bool   // it has one of the first forms: end is how many rows of the commit come behind it
	updated int64  // milliseconds since 1970
	created int64  // milliseconds since 1970, of version 1
	tag     byte
}

// idUUID is the length byte of an id that is a UUID in canonical lower case,
// kept as its 16 bytes; other ids follow their length, 1 to 64.
const idUUID = 0

const maxIDLen = 64

// endAt is the row behind the last one of the commit of a row.
func (h *header) endAt(rid uint64) uint64 {
	if h.first {
		return rid + h.end + 1
	}
	return h.end
}

// append writes the header: form, flags, codec, tag, then numbers as varints,
// then the id. Whatever form it was read in, it is written in the present one.
func (h *header) append(dst []byte) []byte {
	form, flags := byte(formVersion), byte(0)
	if h.purge {
		form = formPurge
	}
	if h.deleted {
		flags |= flagDeleted
	}
	dst = append(dst, form, flags, byte(h.codec), h.tag)
	if h.codec.overDict() {
		dst = binary.AppendUvarint(dst, h.dict)
	}
	dst = binary.AppendUvarint(dst, uint64(h.key.Type))
	dst = binary.AppendUvarint(dst, h.version)
	dst = binary.AppendUvarint(dst, h.commit)
	dst = binary.AppendUvarint(dst, h.end)
	dst = binary.AppendVarint(dst, h.updated)
	dst = binary.AppendVarint(dst, h.updated-h.created)
	return appendID(dst, h.key.ID)
}

func appendID(dst []byte, id string) []byte {
	if raw, ok := parseUUID(id); ok {
		return append(append(dst, idUUID), raw[:]...)
	}
	return append(append(dst, byte(len(id))), id...)
}

// uuidDashes are the places of the dashes in a UUID's text (RFC 9562, 4).
var uuidDashes = [...]int{8, 13, 18, 23}

const uuidTextLen = 36

// parseUUID reads the canonical lower-case form, and no other.
func parseUUID[T string | []byte](id T) (raw [16]byte, ok bool) {
	if len(id) != uuidTextLen {
		return raw, false
	}
	for _, at := range uuidDashes {
		if id[at] != '-' {
			return raw, false
		}
	}
	bad := byte(0)
	for i, at := range uuidPlaces {
		high, low := hexValues[id[at]], hexValues[id[at+1]]
		raw[i], bad = high<<4|low, bad|high|low
	}
	return raw, bad&notHex == 0
}

// hexValues are the values of digits, and notHex for all other bytes.
var hexValues = func() (values [256]byte) {
	for c := range values {
		values[c] = notHex
	}
	for v, c := range []byte(hexDigits) {
		values[c] = byte(v)
	}
	return values
}()

const notHex = 0x80

// fields reads numbers and bytes one after the other; after the first that is
// not there, everything reads as zero and bad is set.
type fields struct {
	b   []byte
	bad bool
	ids *strings.Builder // where ids are put together; nil: each has memory of its own
}

func (f *fields) take(n int) []byte {
	if n < 0 || n > len(f.b) {
		f.bad, f.b = true, nil
		return nil
	}
	out := f.b[:n:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) byte() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) uvarint() uint64 {
	if len(f.b) > 0 && f.b[0] < 0x80 { // as most are
		v := f.b[0]
		f.b = f.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		n = -1
	}
	f.take(n)
	return v
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.b)
	if n <= 0 {
		n = -1
	}
	f.take(n)
	return v
}

func (f *fields) id() string {
	n := int(f.byte())
	switch {
	case f.bad || n > maxIDLen:
		f.bad = true
		return ""
	case n == idUUID:
		if raw := f.take(uuidSize); raw != nil {
			var text [uuidTextLen]byte
			return f.text(appendUUID(text[:0], raw))
		}
		return ""
	default:
		return f.text(f.take(n))
	}
}

// text gives bytes as a string.
func (f *fields) text(b []byte) string {
	if f.ids == nil {
		return string(b)
	}
	begin := f.ids.Len()
	f.ids.Write(b)
	return f.ids.String()[begin:]
}

// parseHeader reads a header and gives what stands behind it.
func parseHeader(row []byte) (h header, rest []byte, err error) { return parseHeaderIn(nil, row) }

// parseHeaderIn is parseHeader with the id in the memory of a page; nil: of its own.
func parseHeaderIn(page *pageRoom, row []byte) (h header, rest []byte, err error) {
	f := fields{b: row}
	if page != nil {
		f.ids = &page.ids
	}
	form, flags := f.byte(), f.byte()
	h.first = firstForm(form)
	h.purge, h.deleted = form == formPurge || form == formPurge1, flags&flagDeleted != 0
	h.codec, h.tag = codec(f.byte()), f.byte()
	if h.codec.overDict() {
		h.dict = f.uvarint()
	}
	typ := f.uvarint()
	h.key.Type = plan.Type(typ)
	h.version, h.commit, h.end = f.uvarint(), f.uvarint(), f.uvarint()
	h.updated = f.varint()
	h.created = h.updated - f.varint()
	h.key.ID = f.id()
	if f.bad || form < formVersion1 || form > formPurge || flags&^flagDeleted != 0 || typ > 0xffff {
		return header{}, nil, corrupt("the header of a row has a wrong form")
	}
	return h, f.b, nil
}

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// record is the header as the contract gives it, without the body.
func (h *header) record() store.Record {
	return store.Record{
		Key: h.key, Version: h.version, Updated: fromMillis(h.updated), Created: fromMillis(h.created),
		Deleted: h.deleted, Tag: h.tag,
	}
}

// pointer is the current version of a resource: a value of keyspace 02.
type pointer struct {
	rid     uint64
	version uint64
	updated int64 // milliseconds since 1970
	created int64
	deleted bool
	found   bool // false: there is no such resource
}

func (p *pointer) alive() bool { return p.found && !p.deleted }

func (p *pointer) append(dst []byte) []byte { //nolint:unparam // appends like header.append
	flags := byte(0)
	if p.deleted {
		flags |= flagDeleted
	}
	dst = append(appendRID(dst, p.rid), flags)
	dst = binary.AppendUvarint(dst, p.version)
	dst = binary.AppendVarint(dst, p.updated)
	return binary.AppendVarint(dst, p.updated-p.created)
}

func parsePointer(value []byte) (pointer, error) {
	f := fields{b: value}
	rid := f.take(ridSize)
	p := pointer{found: true, deleted: f.byte()&flagDeleted != 0}
	p.version, p.updated = f.uvarint(), f.varint()
	p.created = p.updated - f.varint()
	if f.bad || len(f.b) > 0 {
		return pointer{}, corrupt("a pointer has a wrong form")
	}
	p.rid = getRID(rid)
	return p, nil
}
