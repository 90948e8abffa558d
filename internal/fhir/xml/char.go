package xml

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// isSpace is the production S of XML 1.0 (section 2.3).
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// isChar is the production Char of XML 1.0 (section 2.2).
func isChar(r rune) bool {
	return r >= 0x20 && r <= 0xd7ff || r == '\t' || r == '\n' || r == '\r' ||
		r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}

// Eight bytes at a time: masks with one byte repeated.
const (
	each80 = 0x8080808080808080
	blanks = ' ' * 0x0101010101010101
)

// badChar gives the place of the first byte that begins no character XML allows,
// and -1 when there is none.
func badChar(src []byte) int {
	for i := 0; i < len(src); {
		if i+8 <= len(src) {
			// The high bit of a byte is set below where one is above ASCII or, for
			// the first such one, below a space.
			if x := binary.LittleEndian.Uint64(src[i:]); (x|(x-blanks))&each80 == 0 {
				i += 8
				continue
			}
		}
		n := charLength(src[i:])
		if n == 0 {
			return i
		}
		i += n
	}
	return -1
}

// charLength is the length of the character at the beginning of src, 0 when XML
// does not allow it.
func charLength(src []byte) int {
	if c := src[0]; c < utf8.RuneSelf {
		if c < ' ' && !isSpace(c) {
			return 0
		}
		return 1
	}
	r, size := utf8.DecodeRune(src)
	if r == utf8.RuneError && size == 1 || !isChar(r) {
		return 0
	}
	return size
}

// nameRunes are the characters beyond ASCII that a name may begin with (XML 1.0,
// section 2.3, NameStartChar), as pairs of first and last.
var nameRunes = [...][2]rune{
	{0xc0, 0xd6}, {0xd8, 0xf6}, {0xf8, 0x2ff}, {0x370, 0x37d}, {0x37f, 0x1fff}, {0x200c, 0x200d}, {0x2070, 0x218f},
	{0x2c00, 0x2fef}, {0x3001, 0xd7ff}, {0xf900, 0xfdcf}, {0xfdf0, 0xfffd}, {0x10000, 0xeffff},
}

func isNameStart(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r|0x20 && r|0x20 <= 'z' || r == '_' || r == ':'
	}
	for _, span := range nameRunes {
		if span[0] <= r && r <= span[1] {
			return true
		}
	}
	return false
}

func isNameRune(r rune) bool {
	return isNameStart(r) || '0' <= r && r <= '9' || r == '-' || r == '.' ||
		r == 0xb7 || 0x300 <= r && r <= 0x36f || r == 0x203f || r == 0x2040
}

// nameASCII is isNameRune for ASCII.
var nameASCII = func() (table [utf8.RuneSelf]bool) {
	for c := range table {
		table[c] = isNameRune(rune(c))
	}
	return table
}()

// nameLength is the length of the name at the beginning of src, 0 without one.
func nameLength(src []byte) int {
	n := 0
	for n < len(src) {
		if c := src[n]; c < utf8.RuneSelf {
			if !nameASCII[c] {
				break
			}
			n++
			continue
		}
		r, size := utf8.DecodeRune(src[n:])
		if !isNameRune(r) {
			break
		}
		n += size
	}
	if first, _ := utf8.DecodeRune(src[:n]); !isNameStart(first) {
		return 0
	}
	return n
}

// maxReference bounds the bytes from & to ; so that a stray & is found at once.
// The longest names and numbers that mean something are far shorter.
const maxReference = 32

// referenceLength is the length of the reference at the & that src begins with,
// ; included; 0 when it does not end.
func referenceLength(src []byte) int {
	return bytes.IndexByte(src[:min(len(src), maxReference)], ';') + 1
}

// reference reads the reference at the & that src begins with: a number, or one of
// the five names that XML itself knows (XML 1.0, sections 4.1 and 4.6).
func reference(src []byte) (r rune, length int, ok bool) {
	length = referenceLength(src)
	if length < 3 {
		return 0, 0, false
	}
	body := src[1 : length-1]
	if body[0] == '#' {
		r, ok = number(body[1:])
		return r, length, ok
	}
	switch string(body) {
	case "amp":
		r = '&'
	case "lt":
		r = '<'
	case "gt":
		r = '>'
	case "quot":
		r = '"'
	case "apos":
		r = '\''
	}
	return r, length, r != 0
}

// number reads the number of a character reference, decimal or behind an x.
func number(digits []byte) (rune, bool) {
	base := rune(10)
	if len(digits) > 0 && digits[0] == 'x' {
		base, digits = 16, digits[1:]
	}
	if len(digits) == 0 {
		return 0, false
	}
	var r rune
	for _, c := range digits {
		digit := digitOf(c)
		if digit >= base {
			return 0, false
		}
		if r = r*base + digit; r > utf8.MaxRune {
			return 0, false
		}
	}
	return r, isChar(r)
}

// digitOf is the value of a hexadecimal digit, 16 for anything else.
func digitOf(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return 16
}

// appendValue appends what an attribute means: references decoded, white space as
// spaces, a line end as one (XML 1.0, sections 2.11 and 3.3.3). raw is checked.
func appendValue(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		switch c := raw[i]; c {
		case '&':
			r, n, _ := reference(raw[i:])
			dst = utf8.AppendRune(dst, r)
			i += max(n, 1)
		case '\r':
			dst = append(dst, ' ')
			if i++; i < len(raw) && raw[i] == '\n' {
				i++
			}
		case '\n', '\t':
			dst = append(dst, ' ')
			i++
		default:
			dst = append(dst, c)
			i++
		}
	}
	return dst
}

// plainValue reports whether an attribute means exactly its bytes.
func plainValue(raw []byte) bool {
	for _, c := range raw {
		if c == '&' || c < ' ' {
			return false
		}
	}
	return true
}

// appendAttribute appends text so that an attribute in double quotes means it
// (Canonical XML 1.0, section 2.3).
func appendAttribute(dst, text []byte) []byte {
	from := 0
	for i, c := range text {
		escape := ""
		switch c {
		case '&':
			escape = "&amp;"
		case '<':
			escape = "&lt;"
		case '"':
			escape = "&quot;"
		case '\t':
			escape = "&#x9;"
		case '\n':
			escape = "&#xA;"
		case '\r':
			escape = "&#xD;"
		default:
			continue
		}
		dst = append(append(dst, text[from:i]...), escape...)
		from = i + 1
	}
	return append(dst, text[from:]...)
}

// appendQuoted appends text as a JSON string. text is UTF-8.
func appendQuoted(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, text[from:]...), '"')
}
