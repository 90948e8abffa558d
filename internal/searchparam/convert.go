package searchparam

import (
	"math"
	"strconv"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
)

// Members that conversion reads.
var (
	nameCoding     = fhir.Intern("coding")
	nameSystem     = fhir.Intern("system")
	nameCode       = fhir.Intern("code")
	nameDisplay    = fhir.Intern("display")
	nameText       = fhir.Intern("text")
	nameType       = fhir.Intern("type")
	nameValue      = fhir.Intern("value")
	nameUnit       = fhir.Intern("unit")
	nameCurrency   = fhir.Intern("currency")
	nameComparator = fhir.Intern("comparator")
	nameLow        = fhir.Intern("low")
	nameHigh       = fhir.Intern("high")
	nameReference  = fhir.Intern("reference")
	nameIdentifier = fhir.Intern("identifier")
	nameID         = fhir.Intern("id")
)

// convert makes the entries of one value. Types that R4 gives no meaning under
// a kind of parameter have none.
func (w *worker) convert(p *search.Param, v value) {
	switch p.Kind {
	case search.KindToken:
		w.token(p, v)
	case search.KindReference:
		w.reference(p, v)
	case search.KindString:
		w.strings(v, func(text string) { w.entries.String(p, text) })
	case search.KindDate:
		if i, ok := w.interval(v); ok {
			w.entries.Interval(p, i)
		}
	case search.KindNumber:
		if a, ok := w.amount(v); ok {
			w.entries.Number(p, a)
		}
	case search.KindQuantity:
		if a, ok := w.amount(v); ok {
			w.entries.Quantity(p, a)
		}
	case search.KindURI:
		w.uri(p, v)
	}
}

// forms makes the ways in which a value may be asked inside a composite.
func (w *worker) forms(of, component *search.Param, v value) []search.Form {
	var forms []search.Form
	switch component.Kind {
	case search.KindToken:
		w.codings(v, func(c search.Coding) {
			if c.Code != "" {
				forms = append(forms, w.entries.CodingForms(c)...)
			}
		})
	case search.KindReference:
		if to, _, ok := w.target(v); ok {
			forms = w.entries.ReferenceForms(to)
		}
	case search.KindString:
		w.strings(v, func(text string) { forms = append(forms, w.entries.StringForms(text)...) })
	case search.KindDate:
		if i, ok := w.interval(v); ok {
			forms = w.entries.IntervalForms(i)
		}
	case search.KindNumber:
		if a, ok := w.amount(v); ok {
			forms = w.entries.NumberForms(of, a)
		}
	case search.KindQuantity:
		if a, ok := w.amount(v); ok {
			forms = w.entries.QuantityForms(a)
		}
	case search.KindURI:
		forms = w.entries.URIForms(v.node.Text())
	}
	return forms
}

func (w *worker) token(p *search.Param, v value) {
	w.codings(v, func(c search.Coding) { w.entries.Coding(p, c) })
	switch v.typ {
	case "Coding":
		w.entries.TokenText(p, v.node.GetName(nameDisplay).Text())
	case "CodeableConcept":
		w.conceptTexts(v.node, func(text string) { w.entries.TokenText(p, text) })
	case "Identifier":
		w.identifier(p, v.node)
	}
}

// codings gives the codes of a token's value (R4 3.1.1.4.10). A contact point's
// system is no namespace: its value has none, and can be asked with it too.
func (w *worker) codings(v value, yield func(search.Coding)) {
	switch v.typ {
	case "Coding":
		yieldCoding(v.node, nameCode, yield)
	case "CodeableConcept":
		for c := range v.node.GetName(nameCoding).Items() {
			yieldCoding(c, nameCode, yield)
		}
	case "Identifier":
		yieldCoding(v.node, nameValue, yield)
	case "ContactPoint":
		if value := v.node.GetName(nameValue).Text(); value != "" {
			yield(search.Coding{Code: value})
			yieldCoding(v.node, nameValue, yield)
		}
	default:
		if text := v.node.Text(); isPrimitive(v.typ) && text != "" {
			yield(search.Coding{Code: text})
		}
	}
}

func yieldCoding(n fhir.Node, code fhir.Name, yield func(search.Coding)) {
	c := search.Coding{System: n.GetName(nameSystem).Text(), Code: n.GetName(code).Text()}
	if c != (search.Coding{}) {
		yield(c)
	}
}

func isPrimitive(typ string) bool {
	s, ok := r4.StructureOf(typ)
	return ok && s.Kind == r4.KindPrimitive
}

// conceptTexts gives what names a concept: its text and its codings' displays.
func (w *worker) conceptTexts(n fhir.Node, yield func(string)) {
	if text := n.GetName(nameText).Text(); text != "" {
		yield(text)
	}
	for c := range n.GetName(nameCoding).Items() {
		if text := c.GetName(nameDisplay).Text(); text != "" {
			yield(text)
		}
	}
}

// identifier makes what :text and :of-type ask of an identifier.
func (w *worker) identifier(p *search.Param, n fhir.Node) {
	kind := n.GetName(nameType)
	w.entries.TokenText(p, kind.GetName(nameText).Text())
	value := n.GetName(nameValue).Text()
	if value == "" {
		return
	}
	for c := range kind.GetName(nameCoding).Items() {
		yieldCoding(c, nameCode, func(c search.Coding) { w.entries.OfType(p, c, value) })
	}
}

// stringMembers are the components of names and addresses, each of which is
// found by its own beginning.
var stringMembers = map[string][]fhir.Name{
	"HumanName": interned("family", "given", "prefix", "suffix", "text"),
	"Address":   interned("line", "city", "district", "state", "postalCode", "country", "text"),
}

func interned(names ...string) []fhir.Name {
	ids := make([]fhir.Name, len(names))
	for i, name := range names {
		ids[i] = fhir.Intern(name)
	}
	return ids
}

// strings gives the texts of a string parameter's value (R4 3.1.1.4.8).
func (w *worker) strings(v value, yield func(string)) {
	switch v.typ {
	case "HumanName", "Address":
		for _, name := range stringMembers[v.typ] {
			for part := range v.node.GetName(name).Items() {
				yieldText(part, yield)
			}
		}
	case "CodeableConcept":
		w.conceptTexts(v.node, yield)
	case "Coding":
		yieldText(v.node.GetName(nameDisplay), yield)
	case "Annotation":
		yieldText(v.node.GetName(nameText), yield)
	default:
		yieldText(v.node, yield)
	}
}

func yieldText(n fhir.Node, yield func(string)) {
	if n.Kind() == fhir.String && len(n.TextBytes()) > 0 {
		yield(n.Text())
	}
}

func (w *worker) uri(p *search.Param, v value) {
	text := v.node.Text()
	if text == "" {
		return
	}
	w.entries.URI(p, text)
	if v.typ != "canonical" {
		return
	}
	if r := fhir.ParseReference(text); r.Form == fhir.Canonical && r.URL != text {
		w.entries.URI(p, r.URL) // a versioned canonical is found without version too
	}
}

// amount is the number or range of a value, with its unit.
func (w *worker) amount(v value) (search.Amount, bool) {
	switch v.typ {
	case "decimal", "integer", "positiveInt", "unsignedInt":
		f, ok := w.number(v.node)
		return search.Amount{Low: f, High: f}, ok
	case "Range":
		return w.rangeAmount(v.node)
	case "Money":
		f, ok := w.number(v.node.GetName(nameValue))
		code := v.node.GetName(nameCurrency).Text()
		return search.Amount{Low: f, High: f, System: currencySystem, Code: code}, ok
	}
	if r4.IsA(v.typ, "Quantity") {
		return w.quantity(v.node)
	}
	return search.Amount{}, false
}

// currencySystem is the code system of Money.currency (value set currencies).
const currencySystem = "urn:iso:std:iso:4217"

func (w *worker) number(n fhir.Node) (float64, bool) {
	if n.Kind() != fhir.Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(n.Text(), 64)
	if err != nil {
		w.warn(n, "is beyond the numbers that can be compared")
	}
	return f, err == nil
}

// quantity reads a Quantity; a comparator makes it a range with an open end.
func (w *worker) quantity(n fhir.Node) (search.Amount, bool) {
	f, ok := w.number(n.GetName(nameValue))
	a := search.Amount{Low: f, High: f,
		System: n.GetName(nameSystem).Text(), Code: n.GetName(nameCode).Text(), Unit: n.GetName(nameUnit).Text()}
	switch n.GetName(nameComparator).Text() {
	case "<":
		a.Low, a.High = search.MinAmount, math.Nextafter(f, search.MinAmount)
	case "<=":
		a.Low = search.MinAmount
	case ">":
		a.Low, a.High = math.Nextafter(f, search.MaxAmount), search.MaxAmount
	case ">=":
		a.High = search.MaxAmount
	}
	return a, ok
}

// rangeAmount reads a Range, whose missing ends are open.
func (w *worker) rangeAmount(n fhir.Node) (search.Amount, bool) {
	low, hasLow := w.quantity(n.GetName(nameLow))
	high, hasHigh := w.quantity(n.GetName(nameHigh))
	switch {
	case !hasLow && !hasHigh:
		return search.Amount{}, false
	case !hasLow:
		high.Low = search.MinAmount
		return high, true
	case !hasHigh:
		low.High = search.MaxAmount
	default:
		low.High = high.High
	}
	if low.Low > low.High {
		w.warn(n, "ends before it begins")
		return low, false
	}
	return low, true
}
