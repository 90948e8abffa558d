package search

import (
	"encoding/binary"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// appendInstant writes milliseconds since 1970 so that bytes sort as times: the
// sign bit is turned.
func appendInstant(dst []byte, ms int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(ms)^1<<63)
}

// appendMoment writes a moment with all digits.
func appendMoment(dst []byte, m fhir.Moment) []byte {
	return binary.BigEndian.AppendUint64(appendInstant(dst, m.Milli), m.Beyond)
}

// appendFloat writes a float64 so that bytes sort as numbers: negative numbers
// are complemented, the sign bit of others is set. Minus zero is zero.
func appendFloat(dst []byte, f float64) []byte {
	bits := math.Float64bits(f + 0)
	if f == 0 {
		bits = 0
	}
	if bits>>63 == 1 {
		bits = ^bits
	} else {
		bits |= 1 << 63
	}
	return binary.BigEndian.AppendUint64(dst, bits)
}

// FoldCode is how codes compare: without case (R4 3.1.1.4.10: matches are
// literal, but not case sensitive).
func FoldCode(code string) string { return strings.ToLower(code) }

// appendCode is FoldCode without a string of its own.
func appendCode(dst []byte, code string) []byte {
	start := len(dst)
	for i := range len(code) {
		c := code[i]
		if c >= utf8.RuneSelf {
			return append(dst[:start], FoldCode(code)...)
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// Fold is how strings compare in the plain form (R4 3.1.1.4.8): case, accents
// and punctuation do not count, white space counts once and not at the ends.
func Fold(s string) string { return string(appendFolded(nil, s, math.MaxInt)) }

// appendFolded appends Fold of a text, cut at a rune's border to at most so many
// bytes.
func appendFolded(dst []byte, s string, most int) []byte {
	start := len(dst)
	dst, ok := appendFoldedASCII(dst, s, most)
	if ok {
		return dst
	}
	return append(dst[:start], cut(foldRunes(norm.NFKD.String(s)), most)...)
}

// foldTable is Fold of the bytes below 0x80: what each becomes, 0 when it does
// not count, a blank for white space.
var foldTable = func() (table [utf8.RuneSelf]byte) {
	for c := range byte(utf8.RuneSelf) {
		switch {
		case asciiSpace(c):
			table[c] = ' '
		case c < ' ' || c == 0x7f || asciiPunct(c):
		case 'A' <= c && c <= 'Z':
			table[c] = c + 'a' - 'A'
		default:
			table[c] = c
		}
	}
	return table
}()

// appendFoldedASCII is appendFolded for text without bytes above 0x7f, which
// most text is; it reports false for other text.
func appendFoldedASCII(dst []byte, s string, most int) ([]byte, bool) {
	start, space := len(dst), false
	for i := range len(s) {
		c := s[i]
		if c >= utf8.RuneSelf {
			return dst, false
		}
		c = foldTable[c]
		switch c {
		case 0:
			continue
		case ' ':
			space = len(dst) > start
			continue
		}
		if space && len(dst)-start < most {
			dst = append(dst, ' ')
		}
		if space = false; len(dst)-start < most {
			dst = append(dst, c)
		}
	}
	return dst, true
}

func asciiSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// asciiPunct is Unicode's category P within ASCII; symbols ($+<=>^`|~) count.
func asciiPunct(c byte) bool { return strings.IndexByte(`!"#%&'()*,-./:;?@[\]_{}`, c) >= 0 }

func foldRunes(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for _, r := range s {
		if unicode.IsSpace(r) {
			space = true
			continue
		}
		if unicode.Is(unicode.M, r) || unicode.IsPunct(r) || unicode.IsControl(r) {
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		writeLower(&b, r)
	}
	return b.String()
}

// writeLower lowers a letter, and writes the sharp s and its kin as most people
// type them.
func writeLower(b *strings.Builder, r rune) {
	switch r {
	case 'ß', 'ẞ':
		b.WriteString("ss")
	case 'æ', 'Æ':
		b.WriteString("ae")
	case 'œ', 'Œ':
		b.WriteString("oe")
	case 'ø', 'Ø':
		b.WriteByte('o')
	case 'ł', 'Ł':
		b.WriteByte('l')
	case 'đ', 'Đ':
		b.WriteByte('d')
	case 'ı', 'İ':
		b.WriteByte('i')
	case 'ς': // final sigma
		b.WriteRune('σ')
	default:
		b.WriteRune(unicode.ToLower(r))
	}
}

// cut shortens text to at most n bytes, at a rune's border.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// foldedText is the beginning of the Main value of a string: without what ends
// it, so that it is a prefix.
func foldedText(s string, most int) string { return string(appendFolded(nil, s, most)) }

// appendText writes a string as Main has it: folded text, 00, and the hash of
// the text as written in bytes that no folded text has, so that a search inside
// the text cannot find them.
func appendText(dst []byte, key plan.HashKey, s string, most int) []byte {
	dst = append(appendFolded(dst, s, most), 0)
	return appendHidden(dst, key.Sum(domainExact, s))
}

// hidden is the first of the sixteen control characters that stand for the
// halves of a hash's bytes inside text.
const hidden = 0x02

func appendHidden(dst []byte, h plan.Hash) []byte {
	for _, b := range h {
		dst = append(dst, hidden+b>>4, hidden+b&15)
	}
	return dst
}

// appendURI writes a uri: as it is, and 00; a long one is cut, and its hash
// follows.
func appendURI(dst []byte, key plan.HashKey, uri string, most int) []byte {
	dst = append(append(dst, cut(uri, most)...), 0)
	if len(uri) > most {
		dst = appendHidden(dst, key.Sum(domainURL, uri))
	}
	return dst
}

// appendTerm writes a token's code: in lower case, and 00. A code that is long,
// or holds one of the bytes 00 and 01, is cut there, and 01 and its hash follow.
// So no two codes are written alike, and none is the beginning of another.
func appendTerm(dst []byte, key plan.HashKey, code string) []byte {
	start := len(dst)
	dst = appendCode(dst, code)
	written := dst[start:]
	end := min(len(written), maxCodeBytes)
	for i, c := range written[:end] {
		if c <= 1 {
			end = i
			break
		}
	}
	if end < len(written) {
		h := hashCode(key, code)
		dst = append(append(dst[:start+end], 1), h[:]...)
	}
	return append(dst, 0)
}

// appendCoding writes a token: its code, and the hash of its system if it has
// one.
func appendCoding(dst []byte, key plan.HashKey, system, code string) []byte {
	dst = appendTerm(dst, key, code)
	if system == "" {
		return dst
	}
	h := hashSystem(key, system)
	return append(dst, h[:]...)
}

func hashCode(key plan.HashKey, code string) plan.Hash { return key.Sum(domainCode, FoldCode(code)) }

func hashSystem(key plan.HashKey, system string) plan.Hash { return key.Sum(domainSystem, system) }

// slot is the place of a system behind a composite's value: its hash, or zeros
// where there is none.
func slot(key plan.HashKey, system string) plan.Hash {
	if system == "" {
		return plan.Hash{}
	}
	return hashSystem(key, system)
}

// hashKey is a reference to a resource of this store, or to one version of it.
func hashKey(key plan.HashKey, to plan.Key, version string) plan.Hash {
	if version == "" {
		return key.Self(to)
	}
	self := key.Self(to)
	return key.Sum(domainVersion, string(self[:]), version)
}
