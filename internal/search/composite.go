package search

import (
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// The value of a composite's entry is one form byte per component, in the
// order of the definition, and then the components' bytes: first those that
// are compared exactly, then those that are compared by range, each in the
// order of the definition. A component that can be asked in several ways has
// several forms, and a resource has an entry for each combination.
//
// Most composites are tight: codes, and at most one number that is a point.
// There the systems of codes and unit stand behind everything, where a tail can
// ask for them, and one entry answers with and without them. Others are loose:
// what is a range needs the tail for itself, and a system makes another form.

// The forms. Persisted: append, never change.
const (
	formCode         = 'a' // token: H(code); tight with the system behind
	formCoding       = 's' // token, loose: H(code) H(system)
	formReference    = 'r' // reference: as Main
	formURI          = 'u' // uri: H(uri)
	formText         = 't' // string: folded text, 0x00
	formInterval     = 'n' // number, date, quantity of any unit, loose: low|high
	formEnd          = 'N' // the same, high|low
	formUnit         = 'q' // quantity, loose: H(system|code)|low|high
	formUnitEnd      = 'Q' // the same, high|low
	formUnitCode     = 'c' // quantity, loose: H(code or unit)|low|high
	formCodeEnd      = 'C' // the same, high|low
	formCanonical    = 'm' // quantity, loose: H(dimension)|low|high
	formCanonicalEnd = 'M' // the same, high|low
	formPoint        = 'p' // number: the value, where two ranges stand side by side
	formTight        = 'i' // number, quantity of any unit, tight: the value
	formTightCode    = 'd' // quantity, tight: H(code or unit), the value; the system behind
	formTightBase    = 'k' // quantity, tight: H(dimension), the value in base units
)

// Forms of entries that are read of a body (NewWhole), for what stored ones are not
// asked: any code of a system, and digits beyond a millisecond. Not persisted.
const (
	formSystem      = 'y' // token: H(system)
	formOfSystem    = 'w' // quantity, loose: H(system)|low|high
	formOfSystemEnd = 'W' // the same, high|low
	formTightSystem = 'x' // quantity, tight: H(system), the value
	formExact       = 'e' // date: low|high with all digits
)

// Bounds of the entries that one item of a composite makes, and, the first, of the
// alternatives that one value is compiled to. Entries of a body have more forms of
// the same components.
const (
	maxCombinations      = 256
	maxWholeCombinations = 8 * maxCombinations
)

// ranged reports whether components of this kind are compared by range.
func ranged(k Kind) bool {
	return k == KindNumber || k == KindDate || k == KindQuantity || k == KindString
}

// shape is which entries a composite has.
type shape struct {
	tight, loose bool // neither: it cannot be indexed
	points       bool // two numbers stand side by side, each a point
}

// pointBytes is the length of a point in tight entries.
const pointBytes = 8

// maxSlots is how many systems may stand behind a tight entry, so that those
// that are asked for are always side by side.
const maxSlots = 2

func shapeOf(p *Param) shape {
	ranges, numbers, slots, amounts := 0, 0, 0, 0
	for _, c := range p.Components {
		switch c.Kind {
		case KindToken:
			slots++
		case KindQuantity:
			slots++
			amounts++
		case KindNumber:
			numbers++
			amounts++
		}
		if ranged(c.Kind) {
			ranges++
		}
	}
	switch {
	case ranges > 2 || len(p.Components) == 0 || ranges == 2 && numbers != 2:
		return shape{}
	case ranges == 2:
		return shape{loose: true, points: true}
	case ranges == amounts && slots <= maxSlots:
		return shape{tight: true, loose: amounts > 0}
	}
	return shape{loose: true}
}

// ask is one way to ask for one component.
type ask struct {
	form  byte
	exact []byte // bytes that must be equal
	span  *span  // what follows them must lie in this
	slots int    // systems behind, in tight entries
	// system is what stands in the slot; nil is any.
	system *plan.Hash
}

func (c *compiler) composite(p *Param, v CompositeValue) (plan.Node, error) {
	s := shapeOf(p)
	if !s.tight && !s.loose || len(v) != len(p.Components) {
		return nil, fault.New(fault.NotSupported, "search.Compile", "%s: composites of this shape are not indexed", p.Code)
	}
	if v.systemAlone() && !c.whole() {
		return c.ofSystems(p, v)
	}
	entries, doubt := v, false
	if !c.whole() && c.env.Bodies != nil {
		entries, doubt = v.roughly()
	}
	any := plan.Or{}
	for _, tight := range []bool{true, false} {
		if tight && !s.tight || !tight && !s.loose {
			continue
		}
		ways, err := c.ways(p, entries, tight, s.points)
		if err != nil {
			return nil, err
		}
		for _, way := range ways {
			any = append(any, compositeNode(p.At(Main), way))
		}
	}
	if doubt {
		return c.inBody(p, v, plan.And{any})
	}
	return any, nil
}

// roughly is what entries can say: whatever meets v meets that too. doubt reports
// that the reverse does not hold, of texts that stand cut and of dates with digits
// beyond a millisecond.
func (v CompositeValue) roughly() (rough CompositeValue, doubt bool) {
	rough = slices.Clone(v)
	for i, part := range v {
		switch part := part.(type) {
		case StringValue:
			doubt = doubt || len(foldedText(string(part), maxCompositeText+1)) > maxCompositeText
		case DateValue:
			if part.fine() {
				rough[i], doubt = part.roughly(), true
			}
		}
	}
	return rough, doubt
}

// systemAlone reports a part that asks for any code of a system.
func (v CompositeValue) systemAlone() bool {
	return slices.ContainsFunc(v, func(part Value) bool {
		switch part := part.(type) {
		case TokenValue:
			return part.Code == ""
		case QuantityValue:
			return part.Unit && part.Code == ""
		}
		return false
	})
}

// ofSystems is a composite with a part that asks for any code of a system: entries
// begin with the code, so that the body decides, of those resources whose entries
// have the system somewhere.
func (c *compiler) ofSystems(p *Param, v CompositeValue) (plan.Node, error) {
	if c.env.Bodies == nil {
		return nil, fault.New(fault.NotSupported, "search.Compile", "%s: a system without a code cannot be asked inside a composite here", p.Code)
	}
	maybe := plan.And{plan.Range{Param: p.At(Main)}}
	for i, part := range v {
		if t, ok := part.(TokenValue); ok && t.Code == "" && !p.Components[i].implies(t.System) {
			h := slot(c.env.Key, t.System)
			maybe = plan.And{plan.Contains{Param: p.At(Main), Part: h[:]}}
		}
	}
	return c.inBody(p, v, maybe)
}

// inBody is what entries leave in doubt, decided by the body.
func (c *compiler) inBody(p *Param, v CompositeValue, maybe plan.And) (plan.Node, error) {
	node, err := c.onBodies().composite(p, v)
	if err != nil {
		return nil, err
	}
	return append(maybe, c.testBody(p.Code+" in the resource itself", Simplify(node))), nil
}

// implies reports whether codes without system are of a system.
func (p *Param) implies(system string) bool { return p.Implied != nil && p.Implied(system, "") }

// ways are the combinations of the ways to ask for each component.
func (c *compiler) ways(p *Param, v CompositeValue, tight, points bool) ([][]ask, error) {
	ways := [][]ask{nil}
	for i, component := range p.Components {
		asks, err := c.asks(component, v[i], tight, points)
		if err != nil {
			return nil, err
		}
		if len(ways)*len(asks) > maxCombinations {
			return nil, tooMany("combinations in "+p.Code, maxCombinations)
		}
		ways = product(ways, asks)
	}
	return ways, nil
}

// product puts every item behind every list.
func product[T any](lists [][]T, items []T) [][]T {
	var all [][]T
	for _, list := range lists {
		for _, item := range items {
			all = append(all, append(list[:len(list):len(list)], item))
		}
	}
	return all
}

// compositeNode is one combination as a condition on the composite's entries.
func compositeNode(param plan.Param, way []ask) plan.Node {
	var lead []byte
	var spans []*span
	for _, a := range way {
		lead = append(lead, a.form)
	}
	for _, a := range way {
		lead = append(lead, a.exact...)
		if a.span != nil {
			spans = append(spans, a.span)
		}
	}
	tail := slotTail(way, len(lead)+pointBytes*len(spans))
	switch len(spans) {
	case 0:
		r := plan.Prefix(param, lead)
		r.Tail = tail
		return r
	case 1:
		r := spans[0].on(param, param, lead)
		if tail != nil { // the span is a point's, which has no tail of its own
			r.Tail = tail
		}
		return r
	}
	both := *spans[0]
	both.tailLow, both.tailHigh = spans[1].low, spans[1].high
	return both.on(param, param, lead)
}

// slotTail asks for the systems behind a tight entry that begin at a place.
func slotTail(way []ask, at int) *plan.Tail {
	var tail *plan.Tail
	for _, a := range way {
		if a.system != nil {
			if tail == nil {
				tail = &plan.Tail{At: at}
			}
			tail.Low = append(tail.Low, a.system[:]...)
			tail.High = plan.Successor(tail.Low)
		}
		at += a.slots * len(plan.Hash{})
	}
	return tail
}

// asks are the ways to ask for a component's value; more than one where its
// prefix needs several ranges.
func (c *compiler) asks(p *Param, v Value, tight, points bool) ([]ask, error) {
	switch v := v.(type) {
	case TokenValue:
		return c.tokenAsks(p, v, tight)
	case ReferenceValue:
		return c.referenceAsks(v), nil
	case URIValue:
		return []ask{hashAsk(formURI, c.env.Key.Sum(domainURL, string(v)))}, nil
	case StringValue:
		most := maxCompositeText
		if c.whole() {
			most = maxInBody
		}
		folded := appendFolded(nil, string(v), most)
		if len(folded) == 0 {
			return nil, nil // as Match: nobody's text begins with punctuation alone
		}
		return []ask{{form: formText, span: &span{low: folded, high: plan.Successor(folded)}}}, nil
	case DateValue:
		if c.whole() && v.fine() {
			return spanAsks(v.exactSpans(), formExact, formExact, nil), nil
		}
		return spanAsks(v.spans(c.env.Now), formInterval, formEnd, nil), nil
	case NumberValue:
		switch {
		case points:
			return spanAsks(v.pointSpans(), formPoint, formPoint, nil), nil
		case tight:
			return spanAsks(v.pointSpans(), formTight, formTight, nil), nil
		}
		return spanAsks(v.spans(), formInterval, formEnd, nil), nil
	case QuantityValue:
		return c.quantityAsks(v, tight), nil
	}
	return nil, fault.New(fault.NotSupported, "search.Compile", "%s: composites of this shape are not indexed", p.Code)
}

func hashAsk(form byte, h plan.Hash) ask { return ask{form: form, exact: h[:]} }

func (c *compiler) tokenAsks(p *Param, v TokenValue, tight bool) ([]ask, error) {
	if v.Code == "" {
		asks := []ask{hashAsk(formSystem, slot(c.env.Key, v.System))}
		if p.implies(v.System) {
			asks = append(asks, hashAsk(formSystem, plan.Hash{}))
		}
		return asks, nil
	}
	any := hashAsk(formCode, hashCode(c.env.Key, v.Code))
	if tight {
		any.slots = 1
	}
	if v.Any {
		return []ask{any}, nil
	}
	systems := []string{v.System}
	if v.System != "" && p.Implied != nil && p.Implied(v.System, v.Code) {
		systems = append(systems, "")
	}
	var asks []ask
	for _, system := range systems {
		a, h := any, slot(c.env.Key, system)
		if tight {
			a.system = &h
		} else {
			a.form, a.exact = formCoding, join(a.exact, h[:])
		}
		asks = append(asks, a)
	}
	return asks, nil
}

func (c *compiler) referenceAsks(v ReferenceValue) []ask {
	if v.URL != "" {
		return []ask{hashAsk(formReference, c.env.Key.Sum(domainURL, v.URL))}
	}
	var asks []ask
	for _, key := range v.Keys {
		asks = append(asks, hashAsk(formReference, hashKey(c.env.Key, key, v.Version)))
	}
	return asks
}

func (c *compiler) quantityAsks(v QuantityValue, tight bool) []ask {
	if tight {
		return c.tightAsks(v)
	}
	code := c.env.Key.Sum(domainUnitCode, v.Code)
	switch {
	case !v.Unit:
		return spanAsks(v.spans(), formInterval, formEnd, nil)
	case v.System == "":
		return spanAsks(v.spans(), formUnitCode, formCodeEnd, code[:])
	case v.Code == "":
		system := slot(c.env.Key, v.System)
		return spanAsks(v.spans(), formOfSystem, formOfSystemEnd, system[:])
	}
	unit := c.env.Key.Sum(domainUnit, v.System, v.Code)
	asks := spanAsks(v.spans(), formUnit, formUnitEnd, unit[:])
	if base, dimension, ok := v.inBase(c.env.Key); ok {
		asks = append(asks, spanAsks(base.spans(), formCanonical, formCanonicalEnd, dimension[:])...)
	}
	return asks
}

// tightAsks are the ways to ask for a quantity that is a point.
func (c *compiler) tightAsks(v QuantityValue) []ask {
	if !v.Unit {
		return spanAsks(v.pointSpans(), formTight, formTight, nil)
	}
	if v.Code == "" {
		system := slot(c.env.Key, v.System)
		return spanAsks(v.pointSpans(), formTightSystem, formTightSystem, system[:])
	}
	code, system := c.env.Key.Sum(domainUnitCode, v.Code), slot(c.env.Key, v.System)
	asks := spanAsks(v.pointSpans(), formTightCode, formTightCode, code[:])
	for i := range asks {
		if asks[i].slots = 1; v.System != "" {
			asks[i].system = &system
		}
	}
	if base, dimension, ok := v.inBase(c.env.Key); ok {
		asks = append(asks, spanAsks(base.pointSpans(), formTightBase, formTightBase, dimension[:])...)
	}
	return asks
}

func spanAsks(spans []span, main, end byte, exact []byte) []ask {
	asks := make([]ask, len(spans))
	for i := range spans {
		asks[i] = ask{form: main, exact: exact, span: &spans[i]}
		if spans[i].end {
			asks[i].form = end
		}
	}
	return asks
}

// pointSpans says each prefix for a value that begins with a point's eight
// bytes.
func (v NumberValue) pointSpans() []span {
	at := double(v.Value)
	pl, ph := double(v.Low), double(v.High)
	switch v.Prefix {
	case Ne:
		return []span{{high: pl}, {low: ph}}
	case Gt, Sa:
		return []span{{low: after(at)}}
	case Lt, Eb:
		return []span{{high: at}}
	case Ge:
		return []span{{low: at}}
	case Le:
		return []span{{high: after(at)}}
	case Ap:
		return []span{{low: double(v.ApproxLow), high: after(double(v.ApproxHigh))}}
	}
	return []span{{low: pl, high: ph}}
}
