package search

import (
	"encoding/binary"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// appendInstant writes milliseconds since 1970 so that bytes sort as times: the
// sign bit is turned.
func appendInstant(dst []byte, ms int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(ms)^1<<63)
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

// Fold is how strings compare in the plain form (R4 3.1.1.4.8): case, accents
// and punctuation do not count, white space counts once and not at the ends.
func Fold(s string) string {
	if folded, ok := foldASCII(s); ok {
		return folded
	}
	return foldRunes(norm.NFKD.String(s))
}

// foldASCII is Fold for text without bytes above 0x7f, which most text is.
func foldASCII(s string) (string, bool) {
	buf := make([]byte, 0, len(s))
	space := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			return "", false
		case asciiSpace(c):
			space = true
			continue
		case c < ' ' || c == 0x7f || asciiPunct(c):
			continue
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		}
		if space && len(buf) > 0 {
			buf = append(buf, ' ')
		}
		space = false
		buf = append(buf, c)
	}
	return string(buf), true
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

// foldedText is the beginning of the Main value of a string: without the
// terminator, so that it is a prefix.
func foldedText(s string) string { return cut(Fold(s), MaxTextBytes) }

// hashCode is the first half of a token.
func hashCode(key plan.HashKey, code string) plan.Hash { return key.Sum(domainCode, FoldCode(code)) }

// hashCoding is the second half of a token.
func hashCoding(key plan.HashKey, system, code string) plan.Hash {
	return key.Sum(domainSystemCode, system, FoldCode(code))
}

// appendCoding writes a token: H(code), then H(system|code).
func appendCoding(dst []byte, key plan.HashKey, system, code string) []byte {
	first, second := hashCode(key, code), hashCoding(key, system, code)
	return append(append(dst, first[:]...), second[:]...)
}

// hashKey is a reference to a resource of this store, or to one version of it.
func hashKey(key plan.HashKey, to plan.Key, version string) plan.Hash {
	if version == "" {
		return key.Self(to)
	}
	self := key.Self(to)
	return key.Sum(domainVersion, string(self[:]), version)
}
