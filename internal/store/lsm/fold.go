package lsm

import (
	"bytes"
	"encoding/binary"
	"time"
)

// A folded body is a body in which UUIDs and moments stand as bytes instead of as
// text: a reference takes 18 bytes instead of 36, and is the same bytes wherever
// it stands, in the id of its resource's row too. So codes that come after it find
// more that is alike, and fewer bytes are copied to read it.
//
//	ff 00 uuid:16            a UUID in canonical lower case
//	ff how:1 seconds:5       YYYY-MM-DDThh:mm:ss and a zone; of the text's own clock,
//	                         since the year 0, big-endian
//	ff how:1 seconds:5 ms:2  the same with three digits behind the second
//	ff ff                    the byte ff
//
// how is 1 + 2·zone, and one more with milliseconds; zone is 0 for Z, else 57 + its
// quarters of an hour, from -14:00 to +14:00. All other bytes stand for themselves.
const (
	foldMark = 0xff // not in UTF-8
	foldUUID = 0x00
	foldByte = 0xff

	uuidSize    = 16
	secondsSize = 5
	millisSize  = 2

	zoneZ    = 0
	zoneMid  = 57 // +00:00
	mostZone = 56 // quarters of an hour
)

const (
	secondText = "2006-01-02T15:04:05"
	millisText = ".000"
	zoneText   = "+00:00"
)

// yearZero is the year 0, in seconds before 1970.
const yearZero = 62167219200

// foldBody appends a folded body to dst; folded is false where nothing of it can be
// folded, and dst is not to be used.
func foldBody(dst, body []byte) (out []byte, folded bool) {
	kept := 0 // what stands before is in dst
	for at := 0; ; {
		dash := bytes.IndexByte(body[at:], '-')
		if dash < 0 {
			return appendMarked(dst, body[kept:]), kept > 0
		}
		at += dash
		piece, begin, n := foldAround(body, kept, at)
		if at++; n > 0 {
			dst = append(appendMarked(dst, body[kept:begin]), piece.bytes()...)
			kept = begin + n
			at = kept
		}
	}
}

// appendMarked appends text that is not folded.
func appendMarked(dst, text []byte) []byte {
	for {
		mark := bytes.IndexByte(text, foldMark)
		if mark < 0 {
			return append(dst, text...)
		}
		dst = append(append(dst, text[:mark]...), foldMark, foldByte)
		text = text[mark+1:]
	}
}

// foldPiece is what a piece of text is folded to.
type foldPiece struct {
	room [2 + uuidSize]byte
	size int
}

func (p *foldPiece) bytes() []byte { return p.room[:p.size] }

// foldAround folds what has its first dash at a place: n bytes from begin on, which
// is not before kept. n is 0 where there is nothing to fold.
func foldAround(body []byte, kept, dash int) (p foldPiece, begin, n int) {
	if begin = dash - uuidDashes[0]; begin >= kept {
		if n = p.uuid(body[begin:]); n > 0 {
			return p, begin, n
		}
	}
	if begin = dash - len("2006"); begin >= kept {
		n = p.time(body[begin:])
	}
	return p, begin, n
}

// uuid folds the UUID that text begins with, of n bytes.
func (p *foldPiece) uuid(text []byte) (n int) {
	if len(text) < uuidTextLen {
		return 0
	}
	raw, ok := parseUUID(text[:uuidTextLen])
	if !ok {
		return 0
	}
	p.room[0], p.room[1], p.size = foldMark, foldUUID, 2+uuidSize
	copy(p.room[2:], raw[:])
	return uuidTextLen
}

// time folds the moment that text begins with, of n bytes.
func (p *foldPiece) time(text []byte) (n int) {
	if len(text) < len(secondText)+1 || text[10] != 'T' || text[13] != ':' {
		return 0
	}
	var clock [len(secondText) + 1]byte
	copy(clock[:], text)
	clock[len(secondText)] = 'Z'
	var t time.Time
	if t.UnmarshalText(clock[:]) != nil {
		return 0
	}
	seconds := uint64(t.Unix() + yearZero)
	for i := range secondsSize {
		p.room[2+i] = byte(seconds >> (8 * (secondsSize - 1 - i)))
	}
	n, p.size = len(secondText), 2+secondsSize
	how := byte(1)
	if ms, ok := digits(text[n:], millisText); ok {
		binary.BigEndian.PutUint16(p.room[p.size:], uint16(ms))
		n, p.size, how = n+len(millisText), p.size+millisSize, how+1
	}
	zone, length := foldZone(text[n:])
	if length == 0 {
		return 0
	}
	p.room[0], p.room[1] = foldMark, how+2*zone
	return n + length
}

// digits reads a number of the form of a pattern: 0 is a digit.
func digits(text []byte, pattern string) (n int, ok bool) {
	if len(text) < len(pattern) {
		return 0, false
	}
	for i := range len(pattern) {
		switch c := text[i]; {
		case pattern[i] == '0' && '0' <= c && c <= '9':
			n = 10*n + int(c-'0')
		case pattern[i] != c:
			return 0, false
		}
	}
	return n, true
}

// foldZone reads a zone; n is 0 where there is none that can be folded.
func foldZone(text []byte) (zone byte, n int) {
	if len(text) > 0 && text[0] == 'Z' {
		return zoneZ, 1
	}
	if len(text) < len(zoneText) || text[0] != '+' && text[0] != '-' {
		return 0, 0
	}
	hm, ok := digits(text[1:], zoneText[1:])
	quarters, minutes := hm/100*4+hm%100/15, hm%100
	if !ok || minutes >= 60 || minutes%15 != 0 || quarters > mostZone || quarters == 0 && text[0] == '-' {
		return 0, 0
	}
	if text[0] == '-' {
		quarters = -quarters
	}
	return byte(zoneMid + quarters), len(zoneText)
}

// foldedPiece gives the size of the piece that a folded body goes on with behind
// its mark, and of the text it stands for.
func foldedPiece(how byte) (size, text int) {
	switch how {
	case foldUUID:
		return 1 + uuidSize, uuidTextLen
	case foldByte:
		return 1, 1
	}
	size, text = 1+secondsSize, len(secondText)
	if how%2 == 0 {
		size, text = size+millisSize, text+len(millisText)
	}
	if (how-1)/2 == zoneZ {
		return size, text + 1
	}
	return size, text + len(zoneText)
}

// unfoldBody gives the body that was folded.
func unfoldBody(folded []byte) ([]byte, error) {
	size, err := unfoldedSize(folded)
	if err != nil {
		return nil, err
	}
	return appendUnfolded(make([]byte, 0, size), folded)
}

// mostUnfolded is how many times as long as a folded body a body is at most: a
// moment of 7 bytes becomes one of 25.
const mostUnfolded = 4

// appendUnfolded appends the body that was folded to dst.
func appendUnfolded(dst, folded []byte) ([]byte, error) {
	for {
		next := bytes.IndexByte(folded, foldMark)
		if next < 0 {
			return append(dst, folded...), nil
		}
		dst = append(dst, folded[:next]...)
		if folded = folded[next+1:]; len(folded) == 0 {
			return nil, badFold()
		}
		size, _ := foldedPiece(folded[0])
		if size > len(folded) {
			return nil, badFold()
		}
		switch folded[0] {
		case foldUUID:
			dst = appendUUID(dst, folded[1:size])
		case foldByte:
			dst = append(dst, foldMark)
		default:
			dst = appendTime(dst, folded[:size])
		}
		folded = folded[size:]
	}
}

// unfoldedSize is the size of the body, once it is known that no piece of it is cut
// short.
func unfoldedSize(folded []byte) (total int, err error) {
	total = len(folded)
	for {
		next := bytes.IndexByte(folded, foldMark)
		if next < 0 {
			return total, nil
		}
		if folded = folded[next+1:]; len(folded) == 0 {
			return 0, badFold()
		}
		size, text := foldedPiece(folded[0])
		if size > len(folded) {
			return 0, badFold()
		}
		total += text - size - 1
		folded = folded[size:]
	}
}

func badFold() error { return corrupt("a folded body has a wrong form") }

const hexDigits = "0123456789abcdef"

// hexPairs are the two digits of each byte.
var hexPairs = func() (pairs [256][2]byte) {
	for b := range pairs {
		pairs[b] = [2]byte{hexDigits[b>>4], hexDigits[b&15]}
	}
	return pairs
}()

// uuidPlaces are where the digits of each byte stand in a UUID's text.
var uuidPlaces = [uuidSize]byte{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

func appendUUID(dst, raw []byte) []byte {
	n := len(dst)
	dst = append(dst, "00000000-0000-0000-0000-000000000000"...)
	text := (*[uuidTextLen]byte)(dst[n:])
	for i, b := range (*[uuidSize]byte)(raw) {
		at := uuidPlaces[i]
		text[at], text[at+1] = hexPairs[b][0], hexPairs[b][1]
	}
	return dst
}

// appendTime writes the moment of a piece, which begins with how.
func appendTime(dst, piece []byte) []byte {
	how, seconds := piece[0]-1, uint64(0)
	for _, b := range piece[1 : 1+secondsSize] {
		seconds = seconds<<8 | uint64(b)
	}
	dst = appendClock(dst, seconds)
	if how%2 == 1 {
		ms := uint64(binary.BigEndian.Uint16(piece[1+secondsSize:]))
		dst = append2(append(dst, '.', '0'+byte(ms/100)), ms%100)
	}
	zone := int(how / 2)
	if zone == zoneZ {
		return append(dst, 'Z')
	}
	sign, quarters := byte('+'), zone-zoneMid
	if quarters < 0 {
		sign, quarters = '-', -quarters
	}
	dst = append2(append(dst, sign), uint64(quarters/4))
	return append2(append(dst, ':'), uint64(quarters%4*15))
}

// append2 appends two digits.
func append2(dst []byte, n uint64) []byte { return append(dst, '0'+byte(n/10), '0'+byte(n%10)) }

// The days of the Gregorian calendar.
const (
	secondsOfDay = 24 * 60 * 60
	daysOfEra    = 146097 // 400 years
	marchZero    = 60     // the day of 1 March in the year 0, which is a leap year
)

// appendClock writes YYYY-MM-DDThh:mm:ss. Years are counted from March on, so that
// the leap day is the last of one.
func appendClock(dst []byte, seconds uint64) []byte {
	day, second := seconds/secondsOfDay+daysOfEra-marchZero, seconds%secondsOfDay
	era, dayOfEra := day/daysOfEra, day%daysOfEra
	yearOfEra := (dayOfEra - dayOfEra/1460 + dayOfEra/36524 - dayOfEra/146096) / 365
	dayOfYear := dayOfEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	month := (5*dayOfYear + 2) / 153 // from March
	date := dayOfYear - (153*month+2)/5 + 1
	year := era*400 + yearOfEra - 400
	if month += 3; month > 12 {
		month, year = month-12, year+1
	}
	dst = append2(append2(dst, year/100%100), year%100)
	dst = append2(append(dst, '-'), month)
	dst = append2(append(dst, '-'), date)
	dst = append2(append(dst, 'T'), second/3600)
	dst = append2(append(dst, ':'), second/60%60)
	return append2(append(dst, ':'), second%60)
}
