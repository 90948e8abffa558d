package search

import (
	"bytes"
	"math"
	"slices"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Entries collects the index entries of one resource. searchparam walks the
// resource and hands over typed values; the bytes are written here, by the
// functions that Compile uses.
//
//	e := search.NewEntries(key)
//	e.Coding(param, search.Coding{System: "http://loinc.org", Code: "8480-6"})
//	entries := e.Done()
type Entries struct {
	key   plan.HashKey
	list  []plan.Entry
	arena []byte // values, one after the other
}

// NewEntries begins a resource under a store's hash key.
func NewEntries(key plan.HashKey) *Entries { return &Entries{key: key} }

// Len is how many entries were kept so far.
func (e *Entries) Len() int { return len(e.list) }

// expected sizes of one resource's entries: rooms to begin with, no bounds.
const (
	expectedEntries    = 64
	expectedArenaBytes = 2048
)

// room makes the arena ready for a value of about n bytes.
func (e *Entries) room(n int) []byte {
	if cap(e.arena)-len(e.arena) < n {
		e.arena = make([]byte, 0, max(expectedArenaBytes, n))
	}
	return e.arena[len(e.arena):]
}

// add keeps a value that was appended to room's result.
func (e *Entries) add(p *Param, f Facet, value []byte) {
	if e.list == nil {
		e.list = make([]plan.Entry, 0, expectedEntries)
	}
	n := len(e.arena) + len(value)
	if n <= cap(e.arena) && len(value) > 0 && &e.arena[:n][len(e.arena)] == &value[0] {
		e.arena = e.arena[:n]
	}
	e.list = append(e.list, plan.Entry{Param: p.At(f), Value: value[:len(value):len(value)]})
}

func (e *Entries) addHash(p *Param, f Facet, h plan.Hash) {
	e.add(p, f, append(e.room(len(h)), h[:]...))
}

// Present says that the parameter has a value.
func (e *Entries) Present(p *Param) { e.add(p, Present, nil) }

// Coding is a code of a token, with or without system.
func (e *Entries) Coding(p *Param, c Coding) {
	e.add(p, Main, appendCoding(e.room(32), e.key, c.System, c.Code))
	if c.System != "" {
		e.addHash(p, System, e.key.Sum(domainSystem, c.System))
	}
	e.SortText(p, c.Code)
}

// TokenText is what :text searches of a token: display, text, or an
// identifier's type.
func (e *Entries) TokenText(p *Param, text string) {
	if folded := foldedText(text); folded != "" {
		e.addText(p, Text, folded)
	}
}

// addText keeps folded text with its terminator.
func (e *Entries) addText(p *Param, f Facet, folded string) {
	e.add(p, f, append(append(e.room(len(folded)+1), folded...), 0))
}

// OfType is an identifier under one coding of its type.
func (e *Entries) OfType(p *Param, kind Coding, value string) {
	e.addHash(p, Identifier, e.key.Sum(domainOfType, kind.System, FoldCode(kind.Code), FoldCode(value)))
}

// SortText is text by which a token or a reference sorts.
func (e *Entries) SortText(p *Param, text string) {
	folded := cut(FoldCode(text), MaxSortBytes)
	e.add(p, Sort, append(e.room(len(folded)), folded...))
}

// Reference is where a reference points. text is how it sorts.
func (e *Entries) Reference(p *Param, to Target, text string) {
	for _, h := range to.hashes(e.key) {
		e.addHash(p, Main, h)
	}
	e.SortText(p, text)
}

// ReferenceIdentifier is Reference.identifier.
func (e *Entries) ReferenceIdentifier(p *Param, c Coding) {
	e.add(p, Identifier, appendCoding(e.room(32), e.key, c.System, c.Code))
	if c.System != "" {
		e.addHash(p, IdentifierSystem, e.key.Sum(domainSystem, c.System))
	}
}

// String is text: one entry per component of a name or an address.
func (e *Entries) String(p *Param, text string) {
	e.addHash(p, Exact, e.key.Sum(domainExact, text))
	if folded := foldedText(text); folded != "" {
		e.addText(p, Main, folded)
	}
}

// Interval is a date, a period, or an event of a timing.
func (e *Entries) Interval(p *Param, i Interval) {
	e.add(p, Main, appendInstant(appendInstant(e.room(16), i.Low), i.High))
	e.add(p, End, appendInstant(appendInstant(e.room(16), i.High), i.Low))
}

// Amount is a number or a quantity: Low ≤ x ≤ High, mostly a point. System,
// Code and Unit are empty where there are none.
type Amount struct {
	Low, High          float64
	System, Code, Unit string
}

// Open ends of amounts.
var (
	MinAmount = math.Inf(-1)
	MaxAmount = math.Inf(1)
)

// Number is an amount without unit.
func (e *Entries) Number(p *Param, a Amount) { e.amount(p, Main, End, plan.Hash{}, 0, a) }

// Quantity is an amount, with its unit in every way that it may be asked.
func (e *Entries) Quantity(p *Param, a Amount) {
	e.Number(p, a)
	if a.System != "" {
		e.amount(p, Unit, UnitEnd, e.key.Sum(domainUnit, a.System, ""), 16, a)
	}
	if a.Code != "" {
		e.amount(p, Unit, UnitEnd, e.key.Sum(domainUnit, a.System, a.Code), 16, a)
		e.amount(p, Code, CodeEnd, e.key.Sum(domainUnitCode, a.Code), 16, a)
	}
	if a.Unit != "" && a.Unit != a.Code {
		e.amount(p, Code, CodeEnd, e.key.Sum(domainUnitCode, a.Unit), 16, a)
	}
}

// amount keeps low|high, and high|low where they differ, behind lead bytes of
// the unit.
func (e *Entries) amount(p *Param, main, end Facet, unit plan.Hash, lead int, a Amount) {
	value := append(e.room(32), unit[:lead]...)
	e.add(p, main, appendFloat(appendFloat(value, a.Low), a.High))
	if a.Low != a.High {
		value = append(e.room(32), unit[:lead]...)
		e.add(p, end, appendFloat(appendFloat(value, a.High), a.Low))
	}
}

// URI is a uri, url or canonical under a uri parameter.
func (e *Entries) URI(p *Param, uri string) {
	e.addHash(p, Main, e.key.Sum(domainURL, uri))
	e.add(p, Text, append(e.room(len(uri)), cut(uri, MaxTextBytes)...))
}

// Form is one way in which a component of a composite may be asked.
type Form struct {
	form   byte
	ranged bool
	bytes  []byte
}

// CodingForms are the forms of a token component.
func (e *Entries) CodingForms(c Coding) []Form {
	any, whole := hashCode(e.key, c.Code), hashCoding(e.key, c.System, c.Code)
	return []Form{{form: formCode, bytes: any[:]}, {form: formCoding, bytes: whole[:]}}
}

// ReferenceForms are the forms of a reference component.
func (e *Entries) ReferenceForms(to Target) []Form {
	var forms []Form
	for _, h := range to.hashes(e.key) {
		forms = append(forms, hashForm(formReference, h))
	}
	return forms
}

// URIForms are the forms of a uri component.
func (e *Entries) URIForms(uri string) []Form {
	return []Form{hashForm(formURI, e.key.Sum(domainURL, uri))}
}

func hashForm(form byte, h plan.Hash) Form { return Form{form: form, bytes: h[:]} }

// StringForms are the forms of a string component.
func (e *Entries) StringForms(text string) []Form {
	folded := cut(Fold(text), maxCompositeText)
	if folded == "" {
		return nil
	}
	return []Form{{form: formText, ranged: true, bytes: append([]byte(folded), 0)}}
}

// maxCompositeText leaves room for the other components beside a text.
const maxCompositeText = MaxTextBytes - 256

// IntervalForms are the forms of a date component.
func (e *Entries) IntervalForms(i Interval) []Form {
	return []Form{
		{formInterval, true, appendInstant(instant(i.Low), i.High)},
		{formEnd, true, appendInstant(instant(i.High), i.Low)},
	}
}

// NumberForms are the forms of a number component of a composite.
func (e *Entries) NumberForms(of *Param, a Amount) []Form {
	if points, _ := points(of); points {
		if a.Low != a.High {
			return nil
		}
		return []Form{{formPoint, true, double(a.Low)}}
	}
	return amountForms(nil, formInterval, formEnd, nil, a)
}

// QuantityForms are the forms of a quantity component.
func (e *Entries) QuantityForms(a Amount) []Form {
	forms := amountForms(nil, formInterval, formEnd, nil, a)
	if a.Code != "" {
		whole, code := e.key.Sum(domainUnit, a.System, a.Code), e.key.Sum(domainUnitCode, a.Code)
		forms = amountForms(forms, formUnit, formUnitEnd, whole[:], a)
		forms = amountForms(forms, formUnitCode, formCodeEnd, code[:], a)
	}
	if a.Unit != "" && a.Unit != a.Code {
		unit := e.key.Sum(domainUnitCode, a.Unit)
		forms = amountForms(forms, formUnitCode, formCodeEnd, unit[:], a)
	}
	return forms
}

func amountForms(forms []Form, main, end byte, lead []byte, a Amount) []Form {
	forms = append(forms, Form{main, true, join(lead, appendFloat(double(a.Low), a.High))})
	if a.Low != a.High {
		forms = append(forms, Form{end, true, join(lead, appendFloat(double(a.High), a.Low))})
	}
	return forms
}

// Composite keeps every combination of the forms of an item's components. It
// reports false when they are too many, and keeps none.
func (e *Entries) Composite(p *Param, components [][]Form) bool {
	if _, ok := points(p); !ok {
		return true // Compile refuses these
	}
	ways := [][]Form{nil}
	for _, forms := range components {
		if len(ways)*len(forms) > maxCombinations {
			return false
		}
		ways = product(ways, forms)
	}
	for _, way := range ways {
		e.add(p, Main, appendComposite(e.room(128), way))
	}
	return true
}

func appendComposite(dst []byte, way []Form) []byte {
	for _, f := range way {
		dst = append(dst, f.form)
	}
	for _, last := range []bool{false, true} {
		for _, f := range way {
			if f.ranged == last {
				dst = append(dst, f.bytes...)
			}
		}
	}
	return dst
}

// Done gives the entries in order, each once; of sort texts only the smallest
// and the largest.
func (e *Entries) Done() []plan.Entry {
	slices.SortFunc(e.list, compareEntries)
	list := slices.CompactFunc(e.list, func(a, b plan.Entry) bool { return compareEntries(a, b) == 0 })
	kept := list[:0]
	for i, entry := range list {
		middle := i > 0 && i+1 < len(list) && list[i+1].Param == entry.Param &&
			len(kept) > 0 && kept[len(kept)-1].Param == entry.Param
		if !middle || Facet(entry.Param.Facet()) != Sort {
			kept = append(kept, entry)
		}
	}
	return kept
}

func compareEntries(a, b plan.Entry) int {
	if a.Param != b.Param {
		if a.Param < b.Param {
			return -1
		}
		return 1
	}
	return bytes.Compare(a.Value, b.Value)
}
