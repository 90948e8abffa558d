package fhirpath

import (
	"strings"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// tokenKind sorts the tokens of the grammar (http://hl7.org/fhirpath/N1/grammar.html).
type tokenKind uint8

const (
	tokenEnd        tokenKind = iota
	tokenName                 // identifier or keyword; text is the name
	tokenQuoted               // `identifier`; text is the name
	tokenString               // 'text'; text is the content
	tokenNumber               // 12 or 1.20, as written
	tokenTime                 // @2015-02T, @T10:30; text without the @
	tokenSymbol               // operator or bracket
	tokenSpecial              // $this, $index, $total; text without the $
	tokenDoubleName           // "text": only behind %, as FHIR before R4 wrote
)

type token struct {
	kind tokenKind
	text string
	pos  int // byte offset of the first character
}

// lexer cuts an expression into tokens; white space and comments fall away.
type lexer struct {
	src string
	pos int
}

func (l *lexer) next() (token, error) {
	if err := l.skipSpace(); err != nil {
		return token{}, err
	}
	start := l.pos
	if start == len(l.src) {
		return token{tokenEnd, "", start}, nil
	}
	switch c := l.src[start]; {
	case isNameStart(c):
		return token{tokenName, l.takeWhile(isNamePart), start}, nil
	case isDigit(c):
		return token{tokenNumber, l.number(), start}, nil
	case c == '\'':
		return l.quoted('\'', tokenString)
	case c == '`':
		return l.quoted('`', tokenQuoted)
	case c == '"':
		return l.quoted('"', tokenDoubleName)
	case c == '@':
		return l.time()
	case c == '$':
		l.pos++
		return token{tokenSpecial, l.takeWhile(isNamePart), start}, nil
	}
	return l.symbol()
}

func (l *lexer) skipSpace() error {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			l.pos++
		case strings.HasPrefix(rest, "//"):
			end := strings.IndexAny(rest, "\r\n")
			if end < 0 {
				end = len(rest)
			}
			l.pos += end
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				return syntax(l.src, l.pos, "a comment does not end")
			}
			l.pos += end + 4
		default:
			return nil
		}
	}
	return nil
}

func (l *lexer) takeWhile(in func(byte) bool) string {
	start := l.pos
	for l.pos < len(l.src) && in(l.src[l.pos]) {
		l.pos++
	}
	return l.src[start:l.pos]
}

func (l *lexer) number() string {
	start := l.pos
	l.takeWhile(isDigit)
	if l.pos+1 < len(l.src) && l.src[l.pos] == '.' && isDigit(l.src[l.pos+1]) {
		l.pos++
		l.takeWhile(isDigit)
	}
	return l.src[start:l.pos]
}

// symbols, the longer ones first.
var symbols = []string{
	"!=", "!~", "<=", ">=", "(", ")", "[", "]", "{", "}", ".", ",", "+", "-", "*", "/", "&", "|", "<", ">", "=", "~", "%",
}

func (l *lexer) symbol() (token, error) {
	for _, s := range symbols {
		if strings.HasPrefix(l.src[l.pos:], s) {
			l.pos += len(s)
			return token{tokenSymbol, s, l.pos - len(s)}, nil
		}
	}
	r, _ := utf8.DecodeRuneInString(l.src[l.pos:])
	return token{}, syntax(l.src, l.pos, "%q does not belong here", r)
}

// quoted reads a string or a quoted identifier, with its escapes.
func (l *lexer) quoted(quote byte, kind tokenKind) (token, error) {
	start := l.pos
	var b strings.Builder
	for l.pos++; l.pos < len(l.src); {
		c := l.src[l.pos]
		switch c {
		case quote:
			l.pos++
			return token{kind, b.String(), start}, nil
		case '\\':
			if err := l.escape(&b); err != nil {
				return token{}, err
			}
		default:
			b.WriteByte(c)
			l.pos++
		}
	}
	return token{}, syntax(l.src, start, "a quote does not end")
}

// escape reads one escape sequence (N1 section 2.1.1, "String"). An unknown one
// stands for the character itself.
func (l *lexer) escape(b *strings.Builder) error {
	at := l.pos
	if at+1 >= len(l.src) {
		return syntax(l.src, at, "an escape does not end")
	}
	c := l.src[at+1]
	l.pos += 2
	switch c {
	case 'f':
		b.WriteByte('\f')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'u':
		r, ok := l.hex4()
		if !ok {
			return syntax(l.src, at, `\u needs four hexadecimal digits`)
		}
		b.WriteRune(l.surrogate(r))
	default:
		b.WriteByte(c)
	}
	return nil
}

func (l *lexer) hex4() (rune, bool) {
	if l.pos+4 > len(l.src) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(l.src[l.pos : l.pos+4]) {
		d := hexDigit(c)
		if d < 0 {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	l.pos += 4
	return r, true
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// surrogate joins a leading half with a trailing one that follows as \uXXXX.
func (l *lexer) surrogate(r rune) rune {
	if r < 0xD800 || r > 0xDBFF || !strings.HasPrefix(l.src[l.pos:], `\u`) {
		return r
	}
	back := l.pos
	l.pos += 2
	low, ok := l.hex4()
	if !ok || low < 0xDC00 || low > 0xDFFF {
		l.pos = back
		return r
	}
	return 0x10000 + (r-0xD800)<<10 + (low - 0xDC00)
}

// time reads a date, dateTime or time literal as far as its characters go;
// what it means is judged later.
func (l *lexer) time() (token, error) {
	start := l.pos
	l.pos++
	if l.pos < len(l.src) && l.src[l.pos] == 'T' {
		l.pos++
		l.clock()
		return token{tokenTime, l.src[start+1 : l.pos], start}, nil
	}
	l.takeWhile(func(c byte) bool { return isDigit(c) || c == '-' })
	if l.pos < len(l.src) && l.src[l.pos] == 'T' {
		l.pos++
		l.clock()
		l.zone()
	}
	return token{tokenTime, l.src[start+1 : l.pos], start}, nil
}

func (l *lexer) clock() {
	l.takeWhile(func(c byte) bool { return isDigit(c) || c == ':' })
	if l.pos+1 < len(l.src) && l.src[l.pos] == '.' && isDigit(l.src[l.pos+1]) {
		l.pos++
		l.takeWhile(isDigit)
	}
}

// zone takes Z or an offset; a sign that does not begin hh:mm is an operator.
func (l *lexer) zone() {
	rest := l.src[l.pos:]
	switch {
	case strings.HasPrefix(rest, "Z"):
		l.pos++
	case len(rest) >= 6 && (rest[0] == '+' || rest[0] == '-') && isDigit(rest[1]) && isDigit(rest[2]) &&
		rest[3] == ':' && isDigit(rest[4]) && isDigit(rest[5]):
		l.pos += 6
	}
}

func isDigit(c byte) bool     { return '0' <= c && c <= '9' }
func isNameStart(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }
func isNamePart(c byte) bool  { return isNameStart(c) || isDigit(c) }

// isIdentifier reports whether a name needs no back quotes.
func isIdentifier(name string) bool {
	for i := range len(name) {
		if !isNamePart(name[i]) || i == 0 && !isNameStart(name[i]) {
			return false
		}
	}
	return name != ""
}

// syntax makes the error for a place in the source.
func syntax(src string, pos int, format string, args ...any) error {
	return errorAt(fault.Syntax, src, pos, format, args...)
}

func errorAt(kind fault.Kind, src string, pos int, format string, args ...any) *fault.Error {
	e := fault.New(kind, "fhirpath", format, args...)
	line, col := place(src, pos)
	e.Subject = clip(src)
	e.Place = []fault.Issue{{Kind: kind, Detail: e.Detail, Line: line, Col: col}}
	return e
}

// maxQuoted bounds what an error repeats of an expression, in bytes.
const maxQuoted = 120

func clip(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	cut := maxQuoted
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

func place(src string, pos int) (line, col int) {
	before := src[:min(pos, len(src))]
	last := strings.LastIndexByte(before, '\n')
	return 1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[last+1:])
}
