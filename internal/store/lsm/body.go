package lsm

import (
	"encoding/binary"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// codec is how a body is kept.
type codec byte

// The codecs. Persisted.
const (
	codecRaw  codec = 0 // as it is
	codecS2   codec = 1 // S2 block
	codecDict codec = 2 // S2 block over a dictionary, whose number the header holds

	codecFolded     codec = 3 // folded (fold.go), then as codecS2
	codecFoldedDict codec = 4 // folded, then as codecDict
)

func (c codec) overDict() bool { return c == codecDict || c == codecFoldedDict }

func (c codec) folded() bool { return c == codecFolded || c == codecFoldedDict }

// Dictionaries gives the dictionaries of S2 that bodies are kept over. A
// dictionary's number stands in every header that used it: once given, a number
// means the same bytes for ever. A dictionary made of a customer's data is
// patient data; those that come through this hook are shipped with the program.
type Dictionaries interface {
	// For names the dictionary for new bodies of a type; 0 is none.
	For(t plan.Type) uint64
	// Bytes gives a dictionary as s2.MakeDict… wrote it; nil: not known.
	Bytes(number uint64) []byte
}

// bodies puts bodies away and gets them back.
type bodies struct {
	dicts Dictionaries // may be nil
	mac   *seal.Authenticator

	mu     sync.RWMutex
	parsed map[uint64]*s2.Dict

	rooms sync.Pool // *[]byte, to compress in
}

// macLabel derives the key of the MACs from a store's data key.
const macLabel = "values mac"

func newBodies(key seal.DataKey, dicts Dictionaries) *bodies {
	return &bodies{
		dicts: dicts, mac: seal.NewAuthenticator(key.Derive(macLabel)), parsed: map[uint64]*s2.Dict{},
		rooms: sync.Pool{New: func() any { return new([]byte) }},
	}
}

func (b *bodies) dict(number uint64) *s2.Dict {
	if b.dicts == nil || number == 0 {
		return nil
	}
	b.mu.RLock()
	d, known := b.parsed[number]
	b.mu.RUnlock()
	if known {
		return d
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if d, known = b.parsed[number]; !known {
		d = s2.NewDict(b.dicts.Bytes(number))
		b.parsed[number] = d
	}
	return d
}

// minCompressed is the size below which S2 gains nothing on JSON, in bytes.
const minCompressed = 48

// pack compresses a body, into memory of its own and no more than it needs.
func (b *bodies) pack(t plan.Type, body []byte) (packed []byte, how codec, dict uint64) {
	room := b.rooms.Get().(*[]byte)
	packed, how, dict = b.packInto(room, t, body)
	packed = append([]byte(nil), packed...)
	b.giveBack(room)
	return packed, how, dict
}

// maxPackRoom bounds the room that is kept for the next body, in bytes.
const maxPackRoom = 1 << 20

// packInto compresses a body into room, which it may replace by a larger one;
// what it gives is valid until room is used again, or is body itself.
func (b *bodies) packInto(room *[]byte, t plan.Type, body []byte) (packed []byte, how codec, dict uint64) {
	if len(body) < minCompressed {
		return body, codecRaw, 0
	}
	fold := b.rooms.Get().(*[]byte)
	defer b.giveBack(fold)
	text, folded := foldBody((*fold)[:0], body)
	if *fold = text; !folded {
		text = body
	}
	if n := s2.MaxEncodedLen(len(text)); n > cap(*room) {
		*room = make([]byte, n)
	}
	*room = (*room)[:cap(*room)]
	if b.dicts != nil {
		dict = b.dicts.For(t)
	}
	if d := b.dict(dict); d != nil {
		packed, how = d.Encode(*room, text), codecDict
	} else {
		packed, how, dict = s2.Encode(*room, text), codecS2, 0
	}
	if folded {
		how += codecFolded - codecS2
	}
	if len(packed) >= len(body) {
		return body, codecRaw, 0
	}
	return packed, how, dict
}

// giveBack keeps room for the next body.
func (b *bodies) giveBack(room *[]byte) {
	if cap(*room) <= maxPackRoom {
		b.rooms.Put(room)
	}
}

// unpack gives a body, in memory of its own, or in page where there is one.
func (b *bodies) unpack(page *pageRoom, packed []byte, how codec, dict uint64) ([]byte, error) {
	if how == codecRaw {
		return append([]byte(nil), packed...), nil
	}
	if !how.folded() {
		return b.decode(nil, packed, how, dict)
	}
	room := b.rooms.Get().(*[]byte)
	defer b.giveBack(room)
	folded, err := b.decode((*room)[:0], packed, how, dict)
	if err != nil {
		return nil, err
	}
	*room = folded
	if page == nil || len(folded) > pageBody {
		return unfoldBody(folded)
	}
	return page.unfold(folded)
}

// pageRoom is memory that bodies and ids of one page share: they are read together
// and let go together, and one piece of memory costs less than one for each.
type pageRoom struct {
	used []byte
	ids  strings.Builder
	left int // bodies still to come, that under way among them
}

const (
	pageRoomSize = 16 << 10
	pageBody     = 2 << 10 // folded bodies that are longer have memory of their own
)

// newPageRoom makes room for a page of n rows.
func newPageRoom(n int) *pageRoom {
	p := &pageRoom{left: n}
	p.ids.Grow(n * uuidTextLen)
	return p
}

// next makes room for the next bodies: for all that are left, as long as this one.
func (p *pageRoom) next(folded int) {
	p.used = make([]byte, 0, min(pageRoomSize, mostUnfolded*folded+max(p.left-1, 0)*folded*3/2))
}

func (p *pageRoom) unfold(folded []byte) ([]byte, error) {
	if cap(p.used)-len(p.used) < mostUnfolded*len(folded) {
		p.next(len(folded))
	}
	begin := len(p.used)
	used, err := appendUnfolded(p.used, folded)
	if err != nil {
		return nil, err
	}
	p.used = used
	return used[begin:len(used):len(used)], nil
}

// decode undoes S2, into dst where it has room.
func (b *bodies) decode(dst, packed []byte, how codec, dict uint64) ([]byte, error) {
	switch how {
	case codecS2, codecFolded:
		return unpacked(s2.Decode(dst, packed))
	case codecDict, codecFoldedDict:
		if d := b.dict(dict); d != nil {
			return unpacked(d.Decode(dst, packed))
		}
		return nil, corrupt("a body needs a dictionary that this program does not have")
	}
	return nil, corrupt("a body is kept in a form that is not known")
}

func unpacked(body []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, corrupt("a body cannot be decompressed")
	}
	return body, nil
}

// binding is what a row's MAC binds it to: the resource and the version, not the
// store, so that a restore into another store verifies.
func binding(dst []byte, key plan.Key, version uint64) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(key.Type))
	dst = binary.BigEndian.AppendUint64(dst, version)
	return append(dst, key.ID...)
}

// row makes the value of a row: header, packed body, MAC of both.
func (b *bodies) row(h *header, packed []byte) []byte {
	return b.appendRow(make([]byte, 0, 64+maxIDLen+len(packed)+seal.ShortMACSize), h, packed)
}

// appendRow writes the value of a row into dst, which must be empty.
func (b *bodies) appendRow(dst []byte, h *header, packed []byte) []byte {
	row := h.append(dst)
	row = append(row, packed...)
	var room [16 + maxIDLen]byte
	mac := b.mac.MAC(binding(room[:0], h.key, h.version), row)
	return append(row, mac[:seal.ShortMACSize]...)
}

// macSize is the size of the MAC at the end of a row, by its form.
func macSize(row []byte) int {
	if len(row) > 0 && firstForm(row[0]) {
		return seal.MACSize
	}
	return seal.ShortMACSize
}

// open checks a row and gives its header and packed body.
func (b *bodies) open(row []byte) (h header, packed []byte, err error) { return b.openIn(nil, row) }

// openIn is open with the id in the memory of a page; nil: of its own.
func (b *bodies) openIn(page *pageRoom, row []byte) (h header, packed []byte, err error) {
	n := len(row) - macSize(row)
	if n < 0 {
		return header{}, nil, corrupt("a row is too short")
	}
	if h, packed, err = parseHeaderIn(page, row[:n]); err != nil {
		return header{}, nil, err
	}
	var room [16 + maxIDLen]byte
	if !b.mac.Verify(row[n:], binding(room[:0], h.key, h.version), row[:n]) {
		return header{}, nil, corrupt("a row does not verify")
	}
	return h, packed, nil
}
