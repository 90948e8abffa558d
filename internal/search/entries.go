package search

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Entries collects the index entries of one resource. searchparam walks the
// resource and hands over typed values; the bytes are written here, by the
// functions that Compile uses. Texts that it is given are copied.
//
//	e := search.NewEntries(key)
//	e.Coding(param, search.Coding{System: "http://loinc.org", Code: "8480-6"})
//	entries := e.Done()
//	e.Reset() // for the next resource
type Entries struct {
	key      plan.HashKey
	marks    []mark
	arena    []byte // values, one after the other
	item     item   // the composite in the making
	most     int    // bytes of a text that are kept
	known    [knownSystems]knownSystem
	measures [knownMeasures]knownMeasure
}

// knownSystem is a system and its hash: a store's resources name the same few
// again and again.
type knownSystem struct {
	system string
	hash   plan.Hash
}

// Bounds of what is kept of systems: how many, and how long they may be.
const (
	knownSystems     = 64
	knownSystemBytes = 128
)

// system is hashSystem, remembered.
func (e *Entries) system(system string) plan.Hash {
	if system == "" || len(system) > knownSystemBytes {
		return hashSystem(e.key, system)
	}
	known := &e.known[(len(system)*7+int(system[len(system)-1])+int(system[len(system)/2])*3)%knownSystems]
	if known.system != system {
		*known = knownSystem{strings.Clone(system), hashSystem(e.key, system)}
	}
	return known.hash
}

// coding is appendCoding to the arena.
func (e *Entries) coding(c Coding) {
	if e.arena = appendTerm(e.arena, e.key, c.Code); c.System != "" {
		h := e.system(c.System)
		e.arena = append(e.arena, h[:]...)
	}
}

// mark is an entry: a column, and where its value lies in the arena.
type mark struct {
	param    plan.Param
	from, to uint32
}

// NewEntries begins a resource under a store's hash key.
func NewEntries(key plan.HashKey) *Entries { return &Entries{key: key, most: MaxTextBytes} }

// NewWhole is NewEntries with texts uncut, for conditions on one body (Bodies):
// such entries are not stored.
func NewWhole(key plan.HashKey) *Entries { return &Entries{key: key, most: math.MaxInt} }

// whole reports whether the entries are of a body, and not stored.
func (e *Entries) whole() bool { return e.most == math.MaxInt }

// long keeps that a text of so many bytes, of which kept are there, was cut.
func (e *Entries) long(p *Param, text string, kept int) {
	if kept > e.most-foldedMost && len(Fold(text)) > kept {
		e.keep(p, Long, e.begin())
	}
}

// behindText is what appendText writes behind a text.
const behindText = 1 + 2*len(plan.Hash{})

// foldedMost is more than the bytes that the folded form of one character has.
const foldedMost = 64

// Bounds of the room that Reset keeps for the next resource.
const (
	maxKeptBytes = 1 << 20
	maxKeptMarks = 1 << 16
)

// Reset begins another resource. What Done gave stays good.
func (e *Entries) Reset() {
	if cap(e.arena) > maxKeptBytes || cap(e.marks) > maxKeptMarks {
		e.arena, e.marks = nil, nil
	}
	e.arena, e.marks = e.arena[:0], e.marks[:0]
}

// Len is how many entries were kept so far.
func (e *Entries) Len() int { return len(e.marks) }

// begin is where the next value lies in the arena.
func (e *Entries) begin() int { return len(e.arena) }

// keep makes an entry of what was appended to the arena.
func (e *Entries) keep(p *Param, f Facet, from int) {
	e.marks = append(e.marks, mark{p.At(f), uint32(from), uint32(len(e.arena))})
}

func (e *Entries) keepHash(p *Param, f Facet, h plan.Hash) {
	from := e.begin()
	e.arena = append(e.arena, h[:]...)
	e.keep(p, f, from)
}

// Presence says whether the parameter has a value: with an entry for the rarer
// of the two, unless Main tells.
func (e *Entries) Presence(p *Param, has bool) {
	if has == p.Usual || p.Kind.mainTells() {
		return
	}
	f := Present
	if p.Usual {
		f = Absent
	}
	e.keep(p, f, e.begin())
}

// Coding is a code of a token, with or without system.
func (e *Entries) Coding(p *Param, c Coding) {
	from := e.begin()
	e.coding(c)
	e.keep(p, Main, from)
	if p.ManyCodes && c.System != "" {
		e.keepHash(p, System, e.system(c.System))
	}
}

// TokenText is what :text searches of a token: display, text, or an
// identifier's type.
func (e *Entries) TokenText(p *Param, text string) {
	from := e.begin()
	if e.arena = appendFolded(e.arena, text, e.most); len(e.arena) > from {
		kept := len(e.arena) - from
		e.arena = append(e.arena, 0)
		e.keep(p, Text, from)
		e.long(p, text, kept)
	}
}

// OfType is an identifier under one coding of its type.
func (e *Entries) OfType(p *Param, kind Coding, value string) {
	e.keepHash(p, Identifier, e.key.Sum(domainOfType, kind.System, FoldCode(kind.Code), FoldCode(value)))
}

// Reference is where a reference points.
func (e *Entries) Reference(p *Param, to Target) {
	if to.Key.ID != "" {
		e.keepHash(p, Main, e.key.Self(to.Key))
		if to.Version != "" {
			e.keepHash(p, Main, hashKey(e.key, to.Key, to.Version))
		}
	}
	if to.URL != "" {
		e.keepHash(p, Main, e.key.Sum(domainURL, to.URL))
	}
	if to.Versioned != "" {
		e.keepHash(p, Main, e.key.Sum(domainURL, to.Versioned))
	}
}

// ReferenceIdentifier is Reference.identifier.
func (e *Entries) ReferenceIdentifier(p *Param, c Coding) {
	from := e.begin()
	e.coding(c)
	e.keep(p, Identifier, from)
	if c.System != "" {
		e.keepHash(p, IdentifierSystem, e.system(c.System))
	}
}

// String is text: one entry per component of a name or an address.
func (e *Entries) String(p *Param, text string) {
	from := e.begin()
	e.arena = appendText(e.arena, e.key, text, e.most)
	kept := len(e.arena) - from - behindText
	e.keep(p, Main, from)
	e.long(p, text, kept)
}

// maxParts is how many parts of a family name are found by themselves.
const maxParts = 8

// Parts keeps what stands behind each blank or hyphen of a family name, up to
// maxParts of them, so that "Quinones" finds Carreno Quinones.
func (e *Entries) Parts(p *Param, family string) {
	for i, n := 0, 0; n < maxParts; n++ {
		at := strings.IndexFunc(family[i:], parts)
		if at < 0 {
			return
		}
		_, size := utf8.DecodeRuneInString(family[i+at:])
		i += at + size
		from := e.begin()
		if e.arena = appendFolded(e.arena, family[i:], e.most); len(e.arena) > from {
			e.arena = append(e.arena, 0)
			e.keep(p, FamilyPart, from)
		}
	}
}

func parts(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) }

// Interval is a date, a period, or the outer limits of a timing.
func (e *Entries) Interval(p *Param, s Stretch) {
	i, from := s.Interval(), e.begin()
	e.arena = appendInstant(appendInstant(e.arena, i.Low), i.High)
	e.keep(p, Main, from)
	if long(i) {
		from = e.begin()
		e.arena = appendInstant(appendInstant(e.arena, i.High), i.Low)
		e.keep(p, End, from)
	}
	if e.whole() {
		from = e.begin()
		e.arena = appendMoment(appendMoment(e.arena, s.Low), s.High)
		e.keep(p, Exact, from)
	}
}

// Amount is a number or a quantity: Low ≤ x ≤ High, mostly a point. System,
// Code and Unit are empty where there are none.
type Amount struct {
	Low, High          float64
	System, Code, Unit string
}

func (a Amount) point() bool { return a.Low == a.High }

// Open ends of amounts.
var (
	MinAmount = math.Inf(-1)
	MaxAmount = math.Inf(1)
)

// Number is an amount without unit.
func (e *Entries) Number(p *Param, a Amount) { e.amount(p, Main, End, nil, "", a) }

// Quantity is an amount, with its unit in every way that it may be asked.
func (e *Entries) Quantity(p *Param, a Amount) {
	behind := a.System
	if !a.point() {
		behind = ""
		e.units(p, a)
	}
	e.amount(p, Main, End, nil, behind, a)
	if a.Code != "" {
		h := e.key.Sum(domainUnitCode, a.Code)
		e.amount(p, Code, CodeEnd, h[:], behind, a)
	}
	if a.Unit != "" && a.Unit != a.Code {
		h := e.key.Sum(domainUnitCode, a.Unit)
		e.amount(p, Code, CodeEnd, h[:], "", a)
	}
	if m, ok := e.measure(a); ok {
		e.amount(p, Canonical, CanonicalEnd, m.hash[:], "", m.bring(a))
	}
}

// units keeps a range under its system, with and without its code: a point has
// the system behind it instead.
func (e *Entries) units(p *Param, a Amount) {
	if a.System == "" {
		return
	}
	h := e.key.Sum(domainUnit, a.System, "")
	e.amount(p, Unit, UnitEnd, h[:], "", a)
	if a.Code != "" {
		h = e.key.Sum(domainUnit, a.System, a.Code)
		e.amount(p, Unit, UnitEnd, h[:], "", a)
	}
}

// amount keeps low|high, and high|low where they differ, between lead and the
// hash of a system.
func (e *Entries) amount(p *Param, main, end Facet, lead []byte, system string, a Amount) {
	from := e.begin()
	e.arena = appendFloat(appendFloat(append(e.arena, lead...), a.Low), a.High)
	if system != "" {
		h := e.system(system)
		e.arena = append(e.arena, h[:]...)
	}
	e.keep(p, main, from)
	if !a.point() {
		from = e.begin()
		e.arena = appendFloat(appendFloat(append(e.arena, lead...), a.High), a.Low)
		e.keep(p, end, from)
	}
}

// URI is a uri, url or canonical under a uri parameter.
func (e *Entries) URI(p *Param, uri string) {
	from := e.begin()
	e.arena = appendURI(e.arena, e.key, uri, e.most)
	e.keep(p, Main, from)
	if len(uri) > e.most {
		e.keep(p, Long, e.begin())
	}
}

// Contained says that the resource contains one of a type.
func (e *Entries) Contained(t plan.Type) {
	from := e.begin()
	e.arena = binary.BigEndian.AppendUint16(e.arena, uint16(t))
	e.marks = append(e.marks, mark{containedColumn, uint32(from), uint32(len(e.arena))})
}

// Done gives the entries in order, each once. They have memory of their own.
func (e *Entries) Done() []plan.Entry {
	e.sort()
	e.compact()
	size := 0
	for _, m := range e.marks {
		size += int(m.to - m.from)
	}
	list := make([]plan.Entry, len(e.marks))
	values := make([]byte, 0, size)
	for i, m := range e.marks {
		at := len(values)
		values = append(values, e.arena[m.from:m.to]...)
		list[i] = plan.Entry{Param: m.param, Value: values[at:len(values):len(values)]}
	}
	return list
}

// fewMarks is up to how many entries are sorted by insertion, which is fastest
// for the few that most resources have.
const fewMarks = 48

func (e *Entries) sort() {
	if len(e.marks) > fewMarks {
		slices.SortFunc(e.marks, e.compare)
		return
	}
	for i := 1; i < len(e.marks); i++ {
		m, at := e.marks[i], i
		for at > 0 && (m.param < e.marks[at-1].param || m.param == e.marks[at-1].param && e.compare(m, e.marks[at-1]) < 0) {
			e.marks[at] = e.marks[at-1]
			at--
		}
		e.marks[at] = m
	}
}

func (e *Entries) compare(a, b mark) int {
	if a.param != b.param {
		return cmp.Compare(a.param, b.param)
	}
	return bytes.Compare(e.arena[a.from:a.to], e.arena[b.from:b.to])
}

// compact keeps one of entries that are the same.
func (e *Entries) compact() {
	kept := 0
	for i, m := range e.marks {
		if i == 0 || m.param != e.marks[kept-1].param || e.compare(m, e.marks[kept-1]) != 0 {
			e.marks[kept] = m
			kept++
		}
	}
	e.marks = e.marks[:kept]
}
