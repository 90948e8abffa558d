package fhir

import (
	"bytes"
	"time"
	"unicode/utf8"
)

// AppendString appends s as a JSON string. Only what JSON asks for is escaped
// (quote, backslash, control characters); bytes that are not UTF-8 become
// U+FFFD, so that the result always parses.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := plainPrefix(s); i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[from:i]...), "\ufffd"...)
				from = i + 1
			}
			i += size
			continue
		}
		dst = appendEscape(append(dst, s[from:i]...), c)
		i++
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// plainPrefix is how many bytes at the beginning of s, in steps of eight, are
// ASCII that stands for itself in JSON. Each word is looked at as a whole: a byte
// below x has a borrow into its high bit when x is taken from all bytes, and one
// that equals x is below 1 behind an exclusive or with it.
func plainPrefix(s string) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(s); n += 8 {
		w := uint64(s[n]) | uint64(s[n+1])<<8 | uint64(s[n+2])<<16 | uint64(s[n+3])<<24 |
			uint64(s[n+4])<<32 | uint64(s[n+5])<<40 | uint64(s[n+6])<<48 | uint64(s[n+7])<<56
		quote, slash := w^ones*'"', w^ones*'\\'
		if (w|(w-ones*' ')|(quote-ones)|(slash-ones))&highs != 0 {
			break
		}
	}
	return n
}

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// appendMember appends ,"name": in front of a value, without the comma where an
// object has just begun. The name must need no escaping.
func appendMember(dst []byte, name string) []byte {
	if len(dst) > 0 && dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

// appendText appends a member with a string value, nothing when it is empty:
// FHIR knows no empty strings.
func appendText(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return AppendString(appendMember(dst, name), value)
}

// stringEnd gives the place behind the closing quote of the string that opens
// at this place; len(src) when it does not close.
func stringEnd(src []byte, at int) int {
	for at++; ; {
		i := bytes.IndexByte(src[at:], '"')
		if i < 0 {
			return len(src)
		}
		at += i + 1
		slants := 0
		for src[at-2-slants] == '\\' {
			slants++
		}
		if slants%2 == 0 {
			return at
		}
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// AppendCompact appends JSON text without its white space outside strings;
// nothing else changes. src must be valid, or a piece of a valid text that
// begins and ends outside strings.
func AppendCompact(dst, src []byte) []byte {
	from := 0
	for i := 0; i < len(src); {
		switch c := src[i]; {
		case c == '"':
			i = stringEnd(src, i)
		case isSpace(c):
			dst = append(dst, src[from:i]...)
			for i < len(src) && isSpace(src[i]) {
				i++
			}
			from = i
		default:
			i++
		}
	}
	return append(dst, src[from:]...)
}

// Compact is AppendCompact into a new slice.
func Compact(src []byte) []byte { return AppendCompact(make([]byte, 0, len(src)), src) }

// indent is what AppendPretty puts before a line, once a level.
const indent = "  "

// AppendPretty appends JSON text with a line for each member and item, two
// spaces a level, as _pretty=true asks for; only white space changes. src must
// be valid.
func AppendPretty(dst, src []byte) []byte {
	level := 0
	for i := 0; i < len(src); {
		switch c := src[i]; c {
		case '"':
			end := stringEnd(src, i)
			dst = append(dst, src[i:end]...)
			i = end
			continue
		case '{', '[':
			dst = append(dst, c)
			closing := nextSolid(src, i+1)
			if closing < len(src) && src[closing] == c+2 { // in ASCII } is { + 2, ] is [ + 2
				dst = append(dst, c+2)
				i = closing + 1
				continue
			}
			level++
			dst = appendLine(dst, level)
		case '}', ']':
			level--
			dst = append(appendLine(dst, level), c)
		case ',':
			dst = appendLine(append(dst, c), level)
		case ':':
			dst = append(dst, ':', ' ')
		case ' ', '\n', '\r', '\t':
		default:
			dst = append(dst, c)
		}
		i++
	}
	return dst
}

func nextSolid(src []byte, at int) int {
	for at < len(src) && isSpace(src[at]) {
		at++
	}
	return at
}

func appendLine(dst []byte, level int) []byte {
	dst = append(dst, '\n')
	for range level {
		dst = append(dst, indent...)
	}
	return dst
}

// FormatInstant gives a time as Tarn writes instants: UTC, milliseconds, Z:
// "2006-01-02T15:04:05.000Z".
func FormatInstant(t time.Time) string {
	return string(AppendInstant(make([]byte, 0, len(instantLayout)), t))
}

const instantLayout = "2006-01-02T15:04:05.000Z"

// AppendInstant is FormatInstant onto a slice.
func AppendInstant(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(dst, instantLayout) // outside of FHIR, but never a wrong digit
	}
	hour, minute, second := t.Clock()
	dst = append2(append2(dst, year/100), year%100)
	dst = append2(append(dst, '-'), int(month))
	dst = append2(append(dst, '-'), day)
	dst = append2(append(dst, 'T'), hour)
	dst = append2(append(dst, ':'), minute)
	dst = append2(append(dst, ':'), second)
	milli := t.Nanosecond() / int(time.Millisecond)
	dst = append(dst, '.', byte('0'+milli/100))
	return append(append2(dst, milli%100), 'Z')
}

func append2(dst []byte, v int) []byte { return append(dst, byte('0'+v/10), byte('0'+v%10)) }
