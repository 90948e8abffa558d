package fhir

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Limits bound one document. A zero member stands for the default.
type Limits struct {
	MaxBytes int // length of the text
	MaxDepth int // objects and arrays inside each other
	MaxNodes int // values; the tape takes 32 bytes for each
}

// DefaultLimits hold where the caller says nothing. The wires set tighter
// ones; these keep the tape's 32-bit offsets and memory in bounds.
var DefaultLimits = Limits{
	MaxBytes: 64 << 20,
	MaxDepth: 512,     // R4 examples stay below 30; a Questionnaire takes two for each level of items
	MaxNodes: 4 << 20, // 128 MiB of tape; real resources have a value per 20 to 30 bytes
}

// bytesPerNode guesses the length of a new tape: Synthea's resources have a
// value per 20 to 30 bytes without white space.
const bytesPerNode = 24

// maxDocumentBytes is the most that offsets on the tape can carry; MaxBytes
// never goes above it.
const maxDocumentBytes = math.MaxInt32

func (l Limits) orDefault() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultLimits.MaxBytes
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = DefaultLimits.MaxDepth
	}
	if l.MaxNodes <= 0 {
		l.MaxNodes = DefaultLimits.MaxNodes
	}
	l.MaxBytes = min(l.MaxBytes, maxDocumentBytes)
	l.MaxNodes = min(l.MaxNodes, math.MaxInt32)
	return l
}

// Parse reads one JSON value within DefaultLimits. The Document keeps src; the
// caller must not change it as long as the Document is in use.
//
// It is strict as FHIR's JSON needs it (R4 json.html; RFC 8259; RFC 7493
// sections 2.1 and 2.3): refused are repeated member names however they are
// spelled, text that is not UTF-8, escapes of lone surrogates, raw control
// characters, numbers outside the grammar, a byte order mark, and anything
// behind the value. The value need not be an object.
//
// The error is a *fault.Error: Syntax with one Place (line, column), or
// TooLarge when a bound on length or count is passed.
func Parse(src []byte) (*Document, error) { return ParseLimits(src, Limits{}) }

// ParseStored is Parse of a resource that was taken in before, within whatever
// bounds, and of what this server made of it: as long as it is.
func ParseStored(text []byte) (*Document, error) {
	return ParseLimits(text, Limits{MaxBytes: len(text), MaxNodes: 2 * DefaultLimits.MaxNodes, MaxDepth: 2 * DefaultLimits.MaxDepth})
}

// ParseLimits is Parse with bounds of the caller's.
func ParseLimits(src []byte, l Limits) (*Document, error) {
	l = l.orDefault()
	if len(src) > l.MaxBytes {
		return nil, fault.New(fault.TooLarge, "fhir.Parse", "the document has more than %d bytes", l.MaxBytes)
	}
	d := documents.Get().(*Document)
	if cap(d.nodes) == 0 {
		d.nodes = make([]node, 0, len(src)/bytesPerNode+8)
	}
	p := parser{src: src, nodes: d.nodes[:0], names: names(), cur: -1, limits: l}
	ok := p.document()
	d.src, d.nodes, d.spaced = src, p.nodes, p.spaced
	if !ok {
		d.Release()
		return nil, p.failure()
	}
	return d, nil
}

// parser reads one document from left to right. It keeps no stack: the open
// container is cur, and the ones around it are found through parent.
type parser struct {
	src    []byte
	pos    int
	nodes  []node
	names  *nameTable
	cur    int32 // innermost open container, -1 outside
	depth  int
	spaced bool
	limits Limits

	wrong   string // what the first fault is
	wrongAt int
	kind    fault.Kind
}

func (p *parser) fail(at int, wrong string) bool {
	p.wrong, p.wrongAt, p.kind = wrong, at, fault.Syntax
	return false
}

func (p *parser) failure() error {
	line, col := position(p.src, p.wrongAt)
	return &fault.Error{
		Kind:   p.kind,
		Op:     "fhir.Parse",
		Detail: fmt.Sprintf("%s at line %d, column %d", p.wrong, line, col),
		Place: []fault.Issue{{
			Severity: fault.SeverityFatal, Kind: p.kind, Detail: p.wrong, Line: line, Col: col,
		}},
	}
}

func (p *parser) document() bool {
	if len(p.src) >= 3 && string(p.src[:3]) == "\xef\xbb\xbf" {
		return p.fail(0, "byte order mark before the document")
	}
	p.nodes = append(p.nodes, node{parent: -1})
	for {
		opened, ok := p.value()
		if !ok {
			return false
		}
		if opened {
			continue
		}
		more, ok := p.follow()
		if !ok {
			return false
		}
		if !more {
			return p.ended()
		}
	}
}

func (p *parser) ended() bool {
	p.space()
	if p.pos < len(p.src) {
		return p.fail(p.pos, "text behind the end of the document")
	}
	return true
}

// space skips white space.
func (p *parser) space() {
	if p.pos < len(p.src) && p.src[p.pos] <= ' ' {
		p.skipSpace()
	}
}

func (p *parser) skipSpace() {
	for p.pos < len(p.src) && isSpace(p.src[p.pos]) {
		p.pos++
		p.spaced = true
	}
}

// value reads the value of the last node on the tape. Of a container with
// something in it, it reads the bracket and prepares the first child's node.
func (p *parser) value() (opened, ok bool) {
	p.space()
	if p.pos >= len(p.src) {
		return false, p.fail(p.pos, "the document ends early, a value is expected")
	}
	i := int32(len(p.nodes) - 1)
	switch c := p.src[p.pos]; {
	case c == '"':
		return false, p.stringValue(i)
	case c == '{':
		return p.open(i, Object, '}')
	case c == '[':
		return p.open(i, Array, ']')
	case c == '-' || '0' <= c && c <= '9':
		return false, p.number(i)
	case c == 't':
		return false, p.literal(i, Bool, "true")
	case c == 'f':
		return false, p.literal(i, Bool, "false")
	case c == 'n':
		return false, p.literal(i, Null, "null")
	}
	return false, p.fail(p.pos, "a value is expected")
}

func (p *parser) scalar(i int32, kind Kind, end int) bool {
	t := &p.nodes[i]
	t.kind, t.off, t.end, t.next = kind, uint32(p.pos), uint32(end), i+1
	p.pos = end
	return true
}

func (p *parser) literal(i int32, kind Kind, text string) bool {
	end := p.pos + len(text)
	if end > len(p.src) || string(p.src[p.pos:end]) != text {
		return p.fail(p.pos, "a value is expected")
	}
	return p.scalar(i, kind, end)
}

func (p *parser) stringValue(i int32) bool {
	end, escaped, ok := p.text(p.pos + 1)
	if !ok {
		return false
	}
	if escaped {
		p.nodes[i].flags |= flagEscaped
	}
	return p.scalar(i, String, end+1)
}

// number follows RFC 8259 section 6.
func (p *parser) number(i int32) bool {
	at := p.pos
	if p.src[at] == '-' {
		at++
	}
	whole := p.digits(at)
	if whole == at {
		return p.fail(p.pos, "a number needs a digit")
	}
	if p.src[at] == '0' && whole > at+1 {
		return p.fail(p.pos, "a number must not begin with zeros")
	}
	at = whole
	if at < len(p.src) && p.src[at] == '.' {
		end := p.digits(at + 1)
		if end == at+1 {
			return p.fail(p.pos, "a number needs a digit behind the point")
		}
		at = end
	}
	if at < len(p.src) && p.src[at]|0x20 == 'e' {
		at++
		if at < len(p.src) && (p.src[at] == '+' || p.src[at] == '-') {
			at++
		}
		end := p.digits(at)
		if end == at {
			return p.fail(p.pos, "a number needs a digit in the exponent")
		}
		at = end
	}
	return p.scalar(i, Number, at)
}

func (p *parser) digits(at int) int {
	for at < len(p.src) && p.src[at]-'0' <= 9 {
		at++
	}
	return at
}

func (p *parser) open(i int32, kind Kind, closing byte) (opened, ok bool) {
	if p.depth == p.limits.MaxDepth {
		return false, p.fail(p.pos, fmt.Sprintf("nested deeper than %d", p.limits.MaxDepth))
	}
	t := &p.nodes[i]
	t.kind, t.off = kind, uint32(p.pos)
	p.pos++
	p.space()
	if p.pos < len(p.src) && p.src[p.pos] == closing {
		p.pos++
		t.end, t.next = uint32(p.pos), i+1
		return false, true
	}
	p.depth++
	p.cur = i
	return true, p.child()
}

// child prepares the node of the next member or item of cur; of a member it
// reads the name and the colon.
func (p *parser) child() bool {
	if len(p.nodes) >= p.limits.MaxNodes {
		p.fail(p.pos, fmt.Sprintf("more than %d values", p.limits.MaxNodes))
		p.kind = fault.TooLarge
		return false
	}
	parent := &p.nodes[p.cur]
	parent.count++
	isMember := parent.kind == Object
	p.nodes = append(p.nodes, node{parent: p.cur})
	return !isMember || p.memberName()
}

func (p *parser) memberName() bool {
	p.space()
	if p.pos >= len(p.src) || p.src[p.pos] != '"' {
		return p.fail(p.pos, "a member name in quotes is expected")
	}
	start := p.pos + 1
	end, escaped, ok := p.text(start)
	if !ok {
		return false
	}
	t := &p.nodes[len(p.nodes)-1]
	t.nameOff, t.nameLen = uint32(start), uint32(end-start)
	name := p.src[start:end]
	if escaped {
		t.flags |= flagNameEscaped
		name = unescaped(name)
	}
	t.name = p.names.lookup(name)
	p.pos = end + 1
	p.space()
	if p.pos >= len(p.src) || p.src[p.pos] != ':' {
		return p.fail(p.pos, "a colon is expected behind a member name")
	}
	p.pos++
	return true
}

// follow goes on behind a complete value: closes what closes, and prepares the
// next member or item. more is false behind the root.
func (p *parser) follow() (more, ok bool) {
	for p.cur >= 0 {
		p.space()
		if p.pos >= len(p.src) {
			return false, p.fail(p.pos, "the document ends early, an object or array is open")
		}
		t := &p.nodes[p.cur]
		c := p.src[p.pos]
		switch {
		case c == ',':
			p.pos++
			return true, p.child()
		case c == '}' && t.kind == Object, c == ']' && t.kind == Array:
			p.pos++
			if !p.close(t) {
				return false, false
			}
		case t.kind == Object:
			return false, p.fail(p.pos, "a comma or } is expected")
		default:
			return false, p.fail(p.pos, "a comma or ] is expected")
		}
	}
	return false, true
}

func (p *parser) close(t *node) bool {
	t.end, t.next = uint32(p.pos), int32(len(p.nodes))
	if t.kind == Object && t.count > 1 && !p.distinct(t) {
		return false
	}
	p.cur = t.parent
	p.depth--
	return true
}

// manyMembers is the size from which an object's names are compared through a
// map; below, a 64-bit filter and plain comparison are faster.
const manyMembers = 64

// distinct reports whether the members of the object that just closed have
// distinct names.
func (p *parser) distinct(object *node) bool {
	if object.count >= manyMembers {
		return p.distinctMany()
	}
	var seen uint64
	first := p.cur + 1
	for i := first; i < object.next; i = p.nodes[i].next {
		t := &p.nodes[i]
		bit := p.filterBit(t)
		if seen&bit != 0 && p.earlier(first, i) {
			return p.fail(int(t.nameOff)-1, "member name given twice")
		}
		seen |= bit
	}
	return true
}

// filterBit is one of 64 bits by name; equal names have equal bits. Escaped
// spellings of names that nobody interned all share a bit with every name of
// that kind, so those always compare.
func (p *parser) filterBit(t *node) uint64 {
	if t.name != 0 {
		return 1 << ((uint32(t.name) * 0x9e3779b1) >> 27) // bits 0 to 31
	}
	name := p.src[t.nameOff : t.nameOff+t.nameLen]
	if t.flags&flagNameEscaped != 0 {
		name = unescaped(name)
	}
	return 1 << (32 + hashName(name)>>27) // bits 32 to 63
}

// earlier reports whether a sibling from first up to i has i's name.
func (p *parser) earlier(first, i int32) bool {
	t := &p.nodes[i]
	for j := first; j < i; j = p.nodes[j].next {
		if p.sameName(&p.nodes[j], t) {
			return true
		}
	}
	return false
}

func (p *parser) sameName(a, b *node) bool {
	if a.name != 0 || b.name != 0 {
		return a.name == b.name
	}
	if (a.flags|b.flags)&flagNameEscaped == 0 {
		return string(p.src[a.nameOff:a.nameOff+a.nameLen]) == string(p.src[b.nameOff:b.nameOff+b.nameLen])
	}
	d := Document{src: p.src}
	return string(d.nameBytes(a)) == string(d.nameBytes(b))
}

// distinctMany is distinct without the quadratic comparison.
func (p *parser) distinctMany() bool {
	d := Document{src: p.src}
	object := &p.nodes[p.cur]
	seen := make(map[string]struct{}, object.count)
	for i := p.cur + 1; i < object.next; i = p.nodes[i].next {
		t := &p.nodes[i]
		name := string(d.nameBytes(t))
		if _, twice := seen[name]; twice {
			return p.fail(int(t.nameOff)-1, "member name given twice")
		}
		seen[name] = struct{}{}
	}
	return true
}

// Eight bytes at a time: masks with one byte repeated.
const (
	each01 = 0x0101010101010101
	each80 = 0x8080808080808080
	quotes = '"' * each01
	slants = '\\' * each01
	blanks = ' ' * each01
)

// text reads a string's content from at, behind the opening quote, and gives
// the place of the closing one.
func (p *parser) text(at int) (end int, escaped, ok bool) {
	src, start := p.src, at
	for at+8 <= len(src) {
		x := binary.LittleEndian.Uint64(src[at:])
		// The high bit of a byte is set below for a quote, a backslash, a control
		// character or a byte above ASCII; borrows spoil only bytes behind the
		// first such one.
		stop := (((x ^ quotes) - each01) | ((x ^ slants) - each01) | (x - blanks) | x) & each80
		if stop == 0 {
			at += 8
			continue
		}
		at += bits.TrailingZeros64(stop) >> 3
		switch src[at] {
		case '"':
			return at, escaped, true
		case '\\':
			n := p.escape(at)
			if n == 0 {
				return 0, false, false
			}
			escaped = true
			at += n
		default:
			return p.wideText(start, at, escaped)
		}
	}
	return p.wideText(start, at, escaped)
}

// wideText is text from at on, for strings with more than ASCII and for the
// document's last bytes.
func (p *parser) wideText(start, at int, escaped bool) (end int, _, ok bool) {
	for {
		at = skipPlain(p.src, at)
		if at >= len(p.src) {
			return 0, false, p.fail(at, "the document ends inside a string")
		}
		switch p.src[at] {
		case '"':
			if text := p.src[start:at]; !utf8.Valid(text) {
				return 0, false, p.fail(start+invalidUTF8(text), "not UTF-8")
			}
			return at, escaped, true
		case '\\':
			n := p.escape(at)
			if n == 0 {
				return 0, false, false
			}
			escaped = true
			at += n
		default:
			return 0, false, p.fail(at, "control character inside a string, it must be escaped")
		}
	}
}

// skipPlain gives the place of the next quote, backslash or control character.
func skipPlain(src []byte, at int) int {
	for at+8 <= len(src) {
		x := binary.LittleEndian.Uint64(src[at:])
		q, s := x^quotes, x^slants
		if stop := ((q-each01)&^q | (s-each01)&^s | (x-blanks)&^x) & each80; stop != 0 {
			return at + bits.TrailingZeros64(stop)>>3
		}
		at += 8
	}
	for at < len(src) && src[at] >= ' ' && src[at] != '"' && src[at] != '\\' {
		at++
	}
	return at
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return 0
}

// escape checks the escape at the backslash and gives its length in bytes, 0
// when it is wrong. Surrogates come in pairs (RFC 7493 section 2.1).
func (p *parser) escape(at int) int {
	if at+1 < len(p.src) {
		switch p.src[at+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			return 2
		}
	}
	unit, ok := hexUnit(p.src, at)
	switch {
	case !ok:
		p.fail(at, "no such escape")
		return 0
	case unit < 0xd800 || unit > 0xdfff:
		return 6
	}
	low, ok := hexUnit(p.src, at+6)
	if unit > 0xdbff || !ok || low < 0xdc00 || low > 0xdfff {
		p.fail(at, "escape of half a surrogate pair")
		return 0
	}
	return 12
}

// hexUnit reads \uXXXX at this place.
func hexUnit(src []byte, at int) (rune, bool) {
	if at+6 > len(src) || src[at] != '\\' || src[at+1] != 'u' {
		return 0, false
	}
	var unit rune
	for _, c := range src[at+2 : at+6] {
		switch {
		case '0' <= c && c <= '9':
			unit = unit<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			unit = unit<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return unit, true
}

// unescaped decodes the inside of a string that the parser accepted.
func unescaped(raw []byte) []byte {
	var dst []byte
	for at := 0; at < len(raw); {
		if raw[at] != '\\' || at+1 == len(raw) {
			dst = append(dst, raw[at])
			at++
			continue
		}
		c := raw[at+1]
		if c != 'u' {
			dst = append(dst, shortEscape(c))
			at += 2
			continue
		}
		unit, _ := hexUnit(raw, at)
		at += 6
		if low, ok := hexUnit(raw, at); ok && 0xd800 <= unit && unit <= 0xdbff {
			unit = (unit-0xd800)<<10 + (low - 0xdc00) + 0x10000
			at += 6
		}
		dst = utf8.AppendRune(dst, unit)
	}
	return dst
}

func shortEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}
