package search

import (
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// The value of a composite's entry is one form byte per component, in the
// order of the definition, and then the components' bytes: first those that
// are compared exactly, then those that are compared by range, each in the
// order of the definition. A component that can be asked in several ways has
// several forms, and a resource has an entry for each combination.
//
// One range may look at sixteen bytes (an interval) when it is alone. Where
// there are two, each is a point of eight bytes.

// The forms. Persisted: append, never change.
const (
	formCode      = 'a' // token: H(code)
	formCoding    = 's' // token: H(system|code)
	formReference = 'r' // reference: as Main
	formURI       = 'u' // uri: as Main
	formExact     = 'x' // string: H(text)
	formText      = 't' // string: folded text, 0x00
	formInterval  = 'n' // number, date, quantity of any unit: low|high
	formEnd       = 'N' // the same, high|low
	formUnit      = 'q' // quantity: H(system|code)|low|high
	formUnitEnd   = 'Q' // the same, high|low
	formUnitCode  = 'c' // quantity: H(code or unit)|low|high
	formCodeEnd   = 'C' // the same, high|low
	formPoint     = 'p' // number: the value, where two ranges stand side by side
)

// maxCombinations bounds the entries that one item of a composite makes, and
// the alternatives that one value is compiled to.
const maxCombinations = 256

// ranged reports whether components of this kind are compared by range.
func ranged(k Kind) bool {
	return k == KindNumber || k == KindDate || k == KindQuantity || k == KindString
}

// points reports whether a composite has two ranges side by side; ok is false
// for composites that cannot be indexed.
func points(p *Param) (points, ok bool) {
	n := 0
	for _, c := range p.Components {
		if !ranged(c.Kind) {
			continue
		}
		if n++; n == 2 {
			points = true
		}
	}
	if n > 2 || len(p.Components) == 0 {
		return points, false
	}
	for _, c := range p.Components {
		if points && ranged(c.Kind) && c.Kind != KindNumber {
			return points, false
		}
	}
	return points, true
}

// ask is one way to ask for one component.
type ask struct {
	form  byte
	exact []byte // bytes that must be equal
	span  *span  // what follows them must lie in this
}

func (c *compiler) composite(p *Param, v CompositeValue) (plan.Node, error) {
	points, ok := points(p)
	if !ok || len(v) != len(p.Components) {
		return nil, fault.New(fault.NotSupported, "search.Compile", "%s: composites of this shape are not indexed", p.Code)
	}
	ways := [][]ask{nil}
	for i, component := range p.Components {
		asks, err := c.asks(component, v[i], points)
		if err != nil {
			return nil, err
		}
		if len(ways)*len(asks) > maxCombinations {
			return nil, tooMany("combinations in "+p.Code, maxCombinations)
		}
		ways = product(ways, asks)
	}
	any := plan.Or{}
	for _, way := range ways {
		any = append(any, compositeNode(p.At(Main), way))
	}
	return any, nil
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
	switch len(spans) {
	case 0:
		return plan.Term{Param: param, Value: lead}
	case 1:
		return spans[0].on(param, param, lead)
	}
	both := *spans[0]
	both.tailLow, both.tailHigh = spans[1].low, spans[1].high
	return both.on(param, param, lead)
}

// asks are the ways to ask for a component's value; more than one where its
// prefix needs several ranges.
func (c *compiler) asks(p *Param, v Value, points bool) ([]ask, error) {
	switch v := v.(type) {
	case TokenValue:
		return c.tokenAsks(p, v)
	case ReferenceValue:
		return c.referenceAsks(v), nil
	case URIValue:
		return []ask{hashAsk(formURI, c.env.Key.Sum(domainURL, string(v)))}, nil
	case StringValue:
		folded := []byte(foldedText(string(v)))
		if len(folded) == 0 {
			return nil, nil // as Match: nobody's text begins with punctuation alone
		}
		return []ask{{form: formText, span: &span{low: folded, high: plan.Successor(folded)}}}, nil
	case DateValue:
		return spanAsks(v.spans(c.env.Now), formInterval, formEnd, nil), nil
	case NumberValue:
		if points {
			return spanAsks(v.pointSpans(), formPoint, formPoint, nil), nil
		}
		return spanAsks(v.spans(), formInterval, formEnd, nil), nil
	case QuantityValue:
		if v.Unit && v.Code == "" {
			return nil, systemAlone(p)
		}
		return c.quantityAsks(v), nil
	}
	return nil, fault.New(fault.NotSupported, "search.Compile", "%s: composites of this shape are not indexed", p.Code)
}

func hashAsk(form byte, h plan.Hash) ask { return ask{form: form, exact: h[:]} }

func (c *compiler) tokenAsks(p *Param, v TokenValue) ([]ask, error) {
	switch {
	case v.Code == "":
		return nil, systemAlone(p)
	case v.Any:
		return []ask{hashAsk(formCode, hashCode(c.env.Key, v.Code))}, nil
	}
	asks := []ask{hashAsk(formCoding, hashCoding(c.env.Key, v.System, v.Code))}
	if v.System != "" && p.Implied != nil && p.Implied(v.System, v.Code) {
		asks = append(asks, hashAsk(formCoding, hashCoding(c.env.Key, "", v.Code)))
	}
	return asks, nil
}

func systemAlone(p *Param) error {
	return fault.New(fault.NotSupported, "search.Compile", "%s: a system without a code cannot be asked inside a composite", p.Code)
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

func (c *compiler) quantityAsks(v QuantityValue) []ask {
	if !v.Unit {
		return spanAsks(v.spans(), formInterval, formEnd, nil)
	}
	if v.System == "" {
		unit := c.env.Key.Sum(domainUnitCode, v.Code)
		return spanAsks(v.spans(), formUnitCode, formCodeEnd, unit[:])
	}
	unit := c.env.Key.Sum(domainUnit, v.System, v.Code)
	return spanAsks(v.spans(), formUnit, formUnitEnd, unit[:])
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

// pointSpans says each prefix for a value of eight bytes.
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
