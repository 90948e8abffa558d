package searchparam

import (
	"math"
	"strconv"

	"github.com/tarn-fhir/tarn/internal/fhir"
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
	nameLatitude   = fhir.Intern("latitude")
	nameLongitude  = fhir.Intern("longitude")
	nameFamily     = fhir.Intern("family")
)

// convert makes the entries of one value. Types that R4 gives no meaning under
// a kind of parameter have none.
func (w *worker) convert(p *search.Param, as element, n fhir.Node) {
	switch p.Kind {
	case search.KindToken:
		w.token(p, as, n)
	case search.KindReference:
		w.reference(p, as, n)
	case search.KindString:
		w.strings(p, as, n)
	case search.KindDate:
		if s, ok := w.stretch(as, n); ok {
			w.entries.Interval(p, s)
		}
	case search.KindNumber:
		if a, ok := w.amount(as, n); ok {
			w.entries.Number(p, a)
		}
	case search.KindQuantity:
		if a, ok := w.amount(as, n); ok {
			w.entries.Quantity(p, a)
		}
	case search.KindURI:
		w.uri(p, as, n)
	}
}

// convertForm makes the ways in which a value may be asked inside a composite.
func (w *worker) convertForm(kind search.Kind, as element, n fhir.Node) {
	switch kind {
	case search.KindToken:
		w.codings(nil, as, n)
	case search.KindReference:
		if to, ok := locate(w.locator, as, n); ok {
			w.entries.ReferenceForm(to)
		}
	case search.KindString:
		w.strings(nil, as, n)
	case search.KindDate:
		if s, ok := w.stretch(as, n); ok {
			w.entries.IntervalForm(s)
		}
	case search.KindNumber, search.KindQuantity:
		if a, ok := w.amount(as, n); ok {
			w.entries.AmountForm(a)
		}
	case search.KindURI:
		w.entries.URIForm(n.View())
	}
}

func (w *worker) token(p *search.Param, as element, n fhir.Node) {
	w.codings(p, as, n)
	switch as {
	case elementCoding:
		w.entries.TokenText(p, n.GetName(nameDisplay).View())
	case elementConcept:
		w.entries.TokenText(p, n.GetName(nameText).View())
		for c := n.GetName(nameCoding).FirstItem(); c.Exists(); c = c.NextItem() {
			w.entries.TokenText(p, c.GetName(nameDisplay).View())
		}
	case elementIdentifier:
		w.identifier(p, n)
	}
}

// codings takes the codes of a token's value (R4 3.1.1.4.10), as entries of p or
// without it as forms of a composite. A contact point's system is no namespace:
// its value has none, and can be asked with it too.
func (w *worker) codings(p *search.Param, as element, n fhir.Node) {
	switch as {
	case elementCoding:
		w.coding(p, n, nameCode)
	case elementConcept:
		for c := n.GetName(nameCoding).FirstItem(); c.Exists(); c = c.NextItem() {
			w.coding(p, c, nameCode)
		}
	case elementIdentifier:
		w.coding(p, n, nameValue)
	case elementContact:
		if value := n.GetName(nameValue).View(); value != "" {
			w.oneCoding(p, search.Coding{Code: value})
			w.coding(p, n, nameValue)
		}
	default:
		if text := n.View(); text != "" && as.primitive() {
			w.oneCoding(p, search.Coding{Code: text})
		}
	}
}

func (w *worker) coding(p *search.Param, n fhir.Node, code fhir.Name) {
	if c := codingOf(n, code); c != (search.Coding{}) {
		w.oneCoding(p, c)
	}
}

func codingOf(n fhir.Node, code fhir.Name) search.Coding {
	return search.Coding{System: n.GetName(nameSystem).View(), Code: n.GetName(code).View()}
}

func (w *worker) oneCoding(p *search.Param, c search.Coding) {
	if p != nil {
		w.entries.Coding(p, c)
	} else if c.Code != "" {
		w.entries.CodingForm(c)
	}
}

// identifier makes what :text and :of-type ask of an identifier.
func (w *worker) identifier(p *search.Param, n fhir.Node) {
	kind := n.GetName(nameType)
	w.entries.TokenText(p, kind.GetName(nameText).View())
	value := n.GetName(nameValue).View()
	if value == "" {
		return
	}
	for c := kind.GetName(nameCoding).FirstItem(); c.Exists(); c = c.NextItem() {
		if of := codingOf(c, nameCode); of != (search.Coding{}) {
			w.entries.OfType(p, of, value)
		}
	}
}

// The components of names and addresses, each of which is found by its own
// beginning.
var (
	nameParts    = interned("family", "given", "prefix", "suffix", "text")
	addressParts = interned("line", "city", "district", "state", "postalCode", "country", "text")
)

func interned(names ...string) []fhir.Name {
	ids := make([]fhir.Name, len(names))
	for i, name := range names {
		ids[i] = fhir.Intern(name)
	}
	return ids
}

// strings takes the texts of a string parameter's value (R4 3.1.1.4.8), as
// entries of p or without it as forms of a composite.
func (w *worker) strings(p *search.Param, as element, n fhir.Node) {
	switch as {
	case elementName:
		w.members(p, n, nameParts)
		w.familyParts(p, n.GetName(nameFamily))
	case elementFamily:
		w.text(p, n)
		w.familyParts(p, n)
	case elementAddress:
		w.members(p, n, addressParts)
	case elementConcept:
		w.text(p, n.GetName(nameText))
		for c := n.GetName(nameCoding).FirstItem(); c.Exists(); c = c.NextItem() {
			w.text(p, c.GetName(nameDisplay))
		}
	case elementCoding:
		w.text(p, n.GetName(nameDisplay))
	case elementAnnotation:
		w.text(p, n.GetName(nameText))
	default:
		w.text(p, n)
	}
}

// familyParts makes the parts of a family name be found by themselves ("servers
// should search the parts of a family name independently", R4
// datatypes.html#HumanName).
func (w *worker) familyParts(p *search.Param, n fhir.Node) {
	if p != nil && n.Kind() == fhir.String {
		w.entries.Parts(p, n.View())
	}
}

func (w *worker) members(p *search.Param, n fhir.Node, names []fhir.Name) {
	for _, name := range names {
		for part := n.GetName(name).FirstItem(); part.Exists(); part = part.NextItem() {
			w.text(p, part)
		}
	}
}

func (w *worker) text(p *search.Param, n fhir.Node) {
	if n.Kind() != fhir.String {
		return
	}
	switch text := n.View(); {
	case text == "":
	case p != nil:
		w.entries.String(p, text)
	default:
		w.entries.StringForm(text)
	}
}

func (w *worker) uri(p *search.Param, as element, n fhir.Node) {
	text := n.View()
	if text == "" {
		return
	}
	w.entries.URI(p, text)
	if as != elementCanonical {
		return
	}
	r := fhir.ParseReference(text)
	if r.Form != fhir.Canonical || r.URL == text {
		return
	}
	w.entries.URI(p, r.URL) // a versioned canonical is found without version too
	if r.Fragment != "" && r.Version != "" {
		w.entries.URI(p, r.URL+"|"+r.Version) // and with it, without the fragment
	}
}

// amount is the number or range of a value, with its unit.
func (w *worker) amount(as element, n fhir.Node) (search.Amount, bool) {
	switch as {
	case elementNumber:
		f, ok := w.number(n)
		return search.Amount{Low: f, High: f}, ok
	case elementRange:
		return w.rangeAmount(n)
	case elementMoney:
		f, ok := w.number(n.GetName(nameValue))
		return search.Amount{Low: f, High: f, System: currencySystem, Code: n.GetName(nameCurrency).View()}, ok
	case elementQuantity:
		return w.quantity(n)
	}
	return search.Amount{}, false
}

// currencySystem is the code system of Money.currency (value set currencies).
const currencySystem = "urn:iso:std:iso:4217"

func (w *worker) number(n fhir.Node) (float64, bool) {
	if n.Kind() != fhir.Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(n.View(), 64)
	if err != nil {
		w.warn(n, "is beyond the numbers that can be compared")
	}
	return f, err == nil
}

// quantity reads a Quantity; a comparator makes it a range with an open end.
func (w *worker) quantity(n fhir.Node) (search.Amount, bool) {
	f, ok := w.number(n.GetName(nameValue))
	a := search.Amount{Low: f, High: f,
		System: n.GetName(nameSystem).View(), Code: n.GetName(nameCode).View(), Unit: n.GetName(nameUnit).View()}
	switch n.GetName(nameComparator).View() {
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

// position reads Location.position.
func (w *worker) position(as element, n fhir.Node) (search.Position, bool) {
	if as != elementPosition {
		return search.Position{}, false
	}
	latitude, ok1 := w.number(n.GetName(nameLatitude))
	longitude, ok2 := w.number(n.GetName(nameLongitude))
	at := search.Position{Latitude: latitude, Longitude: longitude}
	if ok1 && ok2 && !at.Valid() {
		w.warn(n, "is no position in degrees")
	}
	return at, ok1 && ok2 && at.Valid()
}
