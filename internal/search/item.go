package search

import (
	"slices"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// item is one item of a composite while its components' values come in: the
// forms in which each may be asked, one component after the other.
//
//	e.BeginItem(param)
//	e.NextComponent()
//	e.CodingForm(coding)
//	e.NextComponent()
//	e.AmountForm(amount)
//	ok := e.EndItem()
type item struct {
	param   *Param
	shape   shape
	forms   []form
	borders []int  // where each component's forms begin
	bytes   []byte // of the forms, one after the other
	picked  []int  // EndItem: the form of each component
}

// form is one way in which a component may be asked: bytes that are compared
// exactly or by range, and behind everything the hash of a system.
type form struct {
	is       byte
	ranged   bool
	tight    bool // stands in tight entries; else in loose ones
	slots    int8 // systems behind: 0 or 1
	from, to uint32
	system   plan.Hash
}

// BeginItem begins an item of a composite.
func (e *Entries) BeginItem(p *Param) {
	i := &e.item
	i.param, i.shape = p, shapeOf(p)
	i.forms, i.borders, i.bytes = i.forms[:0], i.borders[:0], i.bytes[:0]
}

// NextComponent says that the forms that follow are of the next component.
func (e *Entries) NextComponent() { e.item.borders = append(e.item.borders, len(e.item.forms)) }

// ComponentLen is how many forms the present component has.
func (e *Entries) ComponentLen() int {
	i := &e.item
	return len(i.forms) - i.borders[len(i.borders)-1]
}

// add makes a form of what was appended to the item's bytes.
func (i *item) add(f form, from int) {
	f.from, f.to = uint32(from), uint32(len(i.bytes))
	i.forms = append(i.forms, f)
}

func (e *Entries) hashForm(f form, h plan.Hash) {
	from := len(e.item.bytes)
	e.item.bytes = append(e.item.bytes, h[:]...)
	e.item.add(f, from)
}

// slot is slot of a system, remembered.
func (e *Entries) slot(system string) plan.Hash {
	if system == "" {
		return plan.Hash{}
	}
	return e.system(system)
}

// CodingForm is a token component.
func (e *Entries) CodingForm(c Coding) {
	i := &e.item
	code, system := hashCode(e.key, c.Code), e.slot(c.System)
	if i.shape.tight {
		e.hashForm(form{is: formCode, tight: true, slots: 1, system: system}, code)
	}
	if i.shape.loose {
		e.hashForm(form{is: formCode}, code)
		from := len(i.bytes)
		i.bytes = append(append(i.bytes, code[:]...), system[:]...)
		i.add(form{is: formCoding}, from)
	}
	if e.whole() {
		e.both(formSystem, system)
	}
}

// both adds a form to tight and loose entries alike.
func (e *Entries) both(is byte, h plan.Hash) {
	if e.item.shape.tight {
		e.hashForm(form{is: is, tight: true}, h)
	}
	if e.item.shape.loose {
		e.hashForm(form{is: is}, h)
	}
}

// ReferenceForm is a reference component.
func (e *Entries) ReferenceForm(to Target) {
	if to.Key.ID != "" {
		e.both(formReference, e.key.Self(to.Key))
		if to.Version != "" {
			e.both(formReference, hashKey(e.key, to.Key, to.Version))
		}
	}
	if to.URL != "" {
		e.both(formReference, e.key.Sum(domainURL, to.URL))
	}
	if to.Versioned != "" {
		e.both(formReference, e.key.Sum(domainURL, to.Versioned))
	}
}

// URIForm is a uri component.
func (e *Entries) URIForm(uri string) { e.both(formURI, e.key.Sum(domainURL, uri)) }

// maxCompositeText leaves room for the other components beside a text.
const maxCompositeText = MaxTextBytes - 256

// StringForm is a string component.
func (e *Entries) StringForm(text string) {
	i := &e.item
	from := len(i.bytes)
	most := maxCompositeText
	if e.whole() {
		most = e.most
	}
	if i.bytes = appendFolded(i.bytes, text, most); len(i.bytes) > from {
		i.bytes = append(i.bytes, 0)
		i.add(form{is: formText, ranged: true}, from)
	}
}

// IntervalForm is a date component.
func (e *Entries) IntervalForm(s Stretch) {
	i, v := &e.item, s.Interval()
	from := len(i.bytes)
	i.bytes = appendInstant(appendInstant(i.bytes, v.Low), v.High)
	i.add(form{is: formInterval, ranged: true}, from)
	if long(v) {
		from = len(i.bytes)
		i.bytes = appendInstant(appendInstant(i.bytes, v.High), v.Low)
		i.add(form{is: formEnd, ranged: true}, from)
	}
	if e.whole() {
		from = len(i.bytes)
		i.bytes = appendMoment(appendMoment(i.bytes, s.Low), s.High)
		i.add(form{is: formExact, ranged: true}, from)
	}
}

// AmountForm is a number component, or with its unit a quantity component.
func (e *Entries) AmountForm(a Amount) {
	i := &e.item
	if i.shape.points {
		if a.point() {
			from := len(i.bytes)
			i.bytes = appendFloat(i.bytes, a.Low)
			i.add(form{is: formPoint, ranged: true}, from)
		}
		return
	}
	system := e.slot(a.System)
	if i.shape.tight && a.point() {
		if e.tightForms(a); e.whole() {
			e.tightForm(form{is: formTightSystem}, system[:], a.Low)
		}
		return
	}
	if e.whole() {
		e.amountForm(formOfSystem, formOfSystemEnd, system[:], a)
	}
	e.amountForm(formInterval, formEnd, nil, a)
	if a.Code != "" {
		h := e.key.Sum(domainUnitCode, a.Code)
		e.amountForm(formUnitCode, formCodeEnd, h[:], a)
		h = e.key.Sum(domainUnit, a.System, a.Code)
		e.amountForm(formUnit, formUnitEnd, h[:], a)
	}
	if a.Unit != "" && a.Unit != a.Code {
		h := e.key.Sum(domainUnitCode, a.Unit)
		e.amountForm(formUnitCode, formCodeEnd, h[:], a)
	}
	if m, ok := e.measure(a); ok {
		e.amountForm(formCanonical, formCanonicalEnd, m.hash[:], m.bring(a))
	}
}

func (e *Entries) amountForm(main, end byte, lead []byte, a Amount) {
	i := &e.item
	from := len(i.bytes)
	i.bytes = appendFloat(appendFloat(append(i.bytes, lead...), a.Low), a.High)
	i.add(form{is: main, ranged: true}, from)
	if !a.point() {
		from = len(i.bytes)
		i.bytes = appendFloat(appendFloat(append(i.bytes, lead...), a.High), a.Low)
		i.add(form{is: end, ranged: true}, from)
	}
}

// tightForms are those of a point in a tight entry.
func (e *Entries) tightForms(a Amount) {
	e.tightForm(form{is: formTight}, nil, a.Low)
	if a.Code != "" {
		h := e.key.Sum(domainUnitCode, a.Code)
		e.tightForm(form{is: formTightCode, slots: 1, system: e.slot(a.System)}, h[:], a.Low)
	}
	if a.Unit != "" && a.Unit != a.Code {
		h := e.key.Sum(domainUnitCode, a.Unit)
		e.tightForm(form{is: formTightCode, slots: 1}, h[:], a.Low)
	}
	if m, ok := e.measure(a); ok {
		e.tightForm(form{is: formTightBase}, m.hash[:], m.base(a.Low))
	}
}

func (e *Entries) tightForm(f form, lead []byte, x float64) {
	i := &e.item
	from := len(i.bytes)
	i.bytes = appendFloat(append(i.bytes, lead...), x)
	f.ranged, f.tight = true, true
	i.add(f, from)
}

// EndItem keeps every combination of the components' forms. It reports false
// when they are too many, and keeps none.
func (e *Entries) EndItem() bool {
	i := &e.item
	i.borders = append(i.borders, len(i.forms))
	i.picked = slices.Grow(i.picked[:0], len(i.borders))[:len(i.borders)-1]
	ways, most := 1, maxCombinations
	if e.whole() {
		most = maxWholeCombinations
	}
	for c := range i.picked {
		i.picked[c] = i.borders[c]
		if ways *= i.borders[c+1] - i.borders[c]; ways > most {
			return false
		}
	}
	for more := ways > 0 && (i.shape.tight || i.shape.loose); more; more = i.next() {
		e.combination()
	}
	return true
}

// next picks the next combination, like an odometer.
func (i *item) next() bool {
	for c := len(i.picked) - 1; c >= 0; c-- {
		if i.picked[c]++; i.picked[c] < i.borders[c+1] {
			return true
		}
		i.picked[c] = i.borders[c]
	}
	return false
}

// combination keeps the picked forms as one entry, unless some stand in tight
// entries and others do not.
func (e *Entries) combination() {
	i := &e.item
	tight := i.forms[i.picked[0]].tight
	for _, at := range i.picked {
		if i.forms[at].tight != tight {
			return
		}
	}
	from := e.begin()
	for _, at := range i.picked {
		e.arena = append(e.arena, i.forms[at].is)
	}
	e.arena = i.appendBytes(i.appendBytes(e.arena, false), true)
	for _, at := range i.picked {
		if f := &i.forms[at]; tight && f.slots > 0 {
			e.arena = append(e.arena, f.system[:]...)
		}
	}
	e.keep(i.param, Main, from)
}

func (i *item) appendBytes(dst []byte, ranged bool) []byte {
	for _, at := range i.picked {
		if f := &i.forms[at]; f.ranged == ranged {
			dst = append(dst, i.bytes[f.from:f.to]...)
		}
	}
	return dst
}
