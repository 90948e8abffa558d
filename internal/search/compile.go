package search

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Env is what a Query is compiled under.
type Env struct {
	Registry Registry
	// Key is the store's hash key.
	Key plan.HashKey
	// Grant narrows every hop; nil shuts everything.
	Grant *Grant
	// Now is the moment that ap compares dates with.
	Now time.Time
	// Terms answers :in, :not-in, :above and :below of tokens; nil refuses them.
	Terms Terminology
	// Bodies reads what entries do not hold; nil: what needs it is refused, or
	// found by entries alone.
	Bodies Bodies
	// Canonicals answers chains and _has over canonicals; nil: they lead nowhere.
	Canonicals Canonicals
	// Refuse, when set, is what Compile answers: nothing can be searched now.
	Refuse error
}

// Terminology is what search asks of code systems and value sets. Errors are
// given to the client as they are.
type Terminology interface {
	// Members are the codings of a value set, by URL or reference.
	Members(valueSet string) ([]Coding, error)
	// Below are the coding and all it subsumes.
	Below(c Coding) ([]Coding, error)
	// Above are the coding and all that subsume it.
	Above(c Coding) ([]Coding, error)
}

// Compile turns a query into a plan. Types of which the grant leaves nothing
// are left out.
func (q *Query) Compile(env Env) (*plan.Plan, error) {
	if env.Refuse != nil {
		return nil, env.Refuse
	}
	c := &compiler{env: env, most: MaxTextBytes}
	p := &plan.Plan{Limit: q.Count, Total: q.Total}
	if q.Summary == SummaryCount || q.Count == 0 {
		p.Limit, p.Total = 0, plan.TotalExact
	}
	if p.Total == plan.TotalEstimate && !env.Grant.Unbounded() {
		p.Total = plan.TotalExact // an engine's estimate tells of what the grant hides
	}
	var err error
	if q.Contained == ContainedFalse {
		p.Arms, err = c.matches(q)
	} else {
		p.Arms, err = c.containers(q)
	}
	if err != nil {
		return nil, err
	}
	for _, key := range q.Sort {
		p.Sort = append(p.Sort, key.compile())
	}
	return p, nil
}

func (k SortKey) compile() plan.Sort {
	s := plan.Sort{By: k.By, Desc: k.Desc}
	for _, param := range k.Params {
		s.Params = append(s.Params, param.Columns(Main)...)
	}
	return s
}

type compiler struct {
	env  Env
	most int // bytes of texts that entries hold
}

// matches are the arms of resources that match by themselves.
func (c *compiler) matches(q *Query) ([]plan.Arm, error) {
	var arms []plan.Arm
	for i, t := range q.Types {
		where, err := c.all(q, i)
		if err != nil {
			return nil, err
		}
		if arm, ok := c.env.Grant.Arm(t, where); ok {
			arms = append(arms, arm)
		}
	}
	return arms, nil
}

// all is the condition on the i-th type: every clause, and the compartment.
func (c *compiler) all(q *Query, i int) (plan.Node, error) {
	var all plan.And
	for _, clause := range q.Clauses {
		node, err := c.cond(clause.On[i].Cond)
		if err != nil {
			return nil, err
		}
		all = append(all, node)
	}
	if q.In != nil {
		all = append(all, InCompartment(c.env.Registry, c.env.Key, q.In.Of, q.Types[i]))
	}
	return Simplify(all), nil
}

// InCompartment is the condition on a resource of type t to belong to the
// compartment of a resource (http://hl7.org/fhir/R4/compartmentdefinition.html).
func InCompartment(reg Registry, key plan.HashKey, of plan.Key, t plan.Type) plan.Node {
	params, self := reg.Compartment(of.Type, t)
	any := plan.Or{PointingTo(key, params, []plan.Key{of})}
	if self {
		any = append(any, plan.IDs{IDs: []string{of.ID}})
	}
	return Simplify(any)
}

// PointingTo is the condition to refer to one of keys by one of params: what a
// _revinclude asks. The caller passes it through Grant.Arm.
func PointingTo(key plan.HashKey, params []*Param, keys []plan.Key) plan.Node {
	any := plan.Or{}
	for _, k := range keys {
		hash := key.Self(k)
		for _, param := range params {
			if !param.refersTo(k.Type) {
				continue
			}
			for _, column := range param.Columns(Main) {
				any = append(any, plan.Term{Param: column, Value: hash[:]})
			}
		}
	}
	return Simplify(any)
}

func (c *compiler) cond(cond Cond) (plan.Node, error) {
	switch cond := cond.(type) {
	case Match:
		return c.match(cond)
	case Missing:
		if present := present(cond.Param); cond.Not {
			return Simplify(present), nil
		} else {
			return Simplify(plan.Not{Of: present}), nil
		}
	case Chained:
		arms, err := c.arms(cond.To)
		if err != nil {
			return nil, err
		}
		if cond.Param.Inline {
			return Simplify(c.within(cond)), nil // not one of the same id that is stored
		}
		naming, err := c.naming(cond.Param, arms)
		return Simplify(plan.Or{plan.Chain{Params: cond.Param.Columns(Main), To: arms}, c.within(cond), naming}), err
	case Having:
		arms, err := c.arms([]On{cond.From})
		if err != nil {
			return nil, err
		}
		named, err := c.named(cond, arms)
		return Simplify(plan.Or{plan.Has{Params: cond.Param.Columns(Main), From: arms}, named}), err
	case ByID:
		ids := plan.IDs{IDs: cond.IDs}
		if cond.Not {
			return Simplify(plan.Not{Of: Simplify(ids)}), nil
		}
		return ids, nil
	case ByTime:
		return c.time(cond), nil
	case Never:
		return never, nil
	case Content:
		return c.content(cond)
	case AllOf:
		all, err := c.conds(cond)
		return Simplify(plan.And(all)), err
	case AnyOf:
		any, err := c.conds(cond)
		return Simplify(plan.Or(any)), err
	case Not:
		of, err := c.cond(cond.Of)
		return Simplify(plan.Not{Of: of}), err
	}
	return nil, fault.New(fault.Internal, "search.Compile", "unknown condition %T", cond)
}

func (c *compiler) conds(conds []Cond) ([]plan.Node, error) {
	nodes := make([]plan.Node, len(conds))
	for i, cond := range conds {
		node, err := c.cond(cond)
		if err != nil {
			return nil, err
		}
		nodes[i] = node
	}
	return nodes, nil
}

// arms compiles the conditions behind a hop, each narrowed by the grant.
func (c *compiler) arms(ons []On) ([]plan.Arm, error) {
	var arms []plan.Arm
	for _, on := range ons {
		where, err := c.cond(on.Cond)
		if err != nil {
			return nil, err
		}
		if arm, ok := c.env.Grant.Arm(on.Type, where); ok {
			arms = append(arms, arm)
		}
	}
	return arms, nil
}

func (c *compiler) time(cond ByTime) plan.Node {
	any := plan.Or{}
	for _, v := range cond.Values {
		for _, i := range v.updatedSpans(c.env.Now) {
			low, high := times(i)
			if cond.Created {
				any = append(any, plan.Created{Low: low, High: high})
			} else {
				any = append(any, plan.Updated{Low: low, High: high})
			}
		}
	}
	return Simplify(any)
}

// match is any of the values, turned round by the modifiers that negate.
func (c *compiler) match(m Match) (plan.Node, error) {
	any := plan.Or{}
	parts := m.Param.Union
	if parts == nil {
		parts = []*Param{m.Param}
	}
	for _, part := range parts {
		for _, v := range m.Values {
			node, err := c.value(part, m.Modifier, v)
			if err != nil {
				return nil, err
			}
			any = append(any, node)
		}
	}
	if m.Modifier == ModNot || m.Modifier == ModNotIn {
		return Simplify(plan.Not{Of: any}), nil
	}
	return Simplify(any), nil
}

func (c *compiler) value(p *Param, m Modifier, v Value) (plan.Node, error) {
	switch v := v.(type) {
	case TokenValue:
		return c.token(p, m, v)
	case OfTypeValue:
		return term(p, Identifier, c.env.Key.Sum(domainOfType, v.System, FoldCode(v.Code), FoldCode(v.Value))), nil
	case ReferenceValue:
		if m == ModAbove || m == ModBelow {
			return c.hierarchy(p, m, v)
		}
		return c.reference(p, v), nil
	case CanonicalBelow:
		return c.canonical(p, v), nil
	case StringValue:
		return c.text(p, m, string(v)), nil
	case URIValue:
		return c.uri(p, m, string(v))
	case DateValue:
		return c.date(p, v), nil
	case NumberValue:
		return onAll(v.spans(), p.At(Main), p.At(End), nil), nil
	case QuantityValue:
		return c.quantity(p, v), nil
	case CompositeValue:
		return c.composite(p, v)
	case PositionValue:
		return v.near(p.At(Main)), nil
	case WordsValue:
		if m == ModAdvanced {
			return c.advanced(p, v), nil
		}
		return v.on(p.At(Main)), nil
	}
	return nil, fault.New(fault.Internal, "search.Compile", "unknown value %T", v)
}

// present is the condition to have a value of the parameter.
func present(p *Param) plan.Node {
	if p.Union != nil {
		any := plan.Or{}
		for _, part := range p.Union {
			any = append(any, present(part))
		}
		return any
	}
	if p.Kind.mainTells() {
		return plan.Range{Param: p.At(Main)}
	}
	if p.usual() {
		return plan.Not{Of: plan.Term{Param: p.At(Absent)}}
	}
	return plan.Term{Param: p.At(Present)}
}

func term(p *Param, f Facet, h plan.Hash) plan.Node { return plan.Term{Param: p.At(f), Value: h[:]} }

func (c *compiler) token(p *Param, m Modifier, v TokenValue) (plan.Node, error) {
	switch m {
	case ModIdentifier:
		return c.tokenAt(p, Identifier, IdentifierSystem, v), nil
	case ModAbove, ModBelow:
		return c.subsumed(p, m, v)
	case ModStarts:
		return plan.Prefix(p.At(Main), appendCode(nil, v.Code)), nil
	}
	return c.plainToken(p, v), nil
}

func (c *compiler) tokenAt(p *Param, main, system Facet, v TokenValue) plan.Node {
	switch {
	case v.Code == "" && main == Main && !p.manyCodes():
		h := hashSystem(c.env.Key, v.System)
		return plan.Contains{Param: p.At(main), Part: append([]byte{0}, h[:]...)}
	case v.Code == "":
		return term(p, system, hashSystem(c.env.Key, v.System))
	case v.Any:
		return plan.Prefix(p.At(main), appendTerm(nil, c.env.Key, v.Code))
	}
	return plan.Term{Param: p.At(main), Value: appendCoding(nil, c.env.Key, v.System, v.Code)}
}

// plainToken is a token in Main; a system that the elements imply need not
// stand in the entries.
func (c *compiler) plainToken(p *Param, v TokenValue) plan.Node {
	node := c.tokenAt(p, Main, System, v)
	if v.System == "" || p.Implied == nil || !p.Implied(v.System, v.Code) {
		return node
	}
	if v.Code == "" {
		return plan.Or{node, present(p)}
	}
	return plan.Or{node, c.tokenAt(p, Main, System, TokenValue{Code: v.Code})}
}

func (c *compiler) subsumed(p *Param, m Modifier, v TokenValue) (plan.Node, error) {
	if c.env.Terms == nil {
		return nil, fault.New(fault.NotSupported, "search.Compile", "%s: no terminology is at hand for :above and :below", p.Code)
	}
	ask := c.env.Terms.Below
	if m == ModAbove {
		ask = c.env.Terms.Above
	}
	codings, err := ask(Coding{v.System, v.Code})
	return c.codings(p, codings), err
}

func (c *compiler) members(p *Param, valueSet string) (plan.Node, error) {
	if c.env.Terms == nil {
		return nil, fault.New(fault.NotSupported, "search.Compile", "%s: no terminology is at hand for :in and :not-in", p.Code)
	}
	codings, err := c.env.Terms.Members(valueSet)
	return c.codings(p, codings), err
}

func (c *compiler) codings(p *Param, codings []Coding) plan.Node {
	any := plan.Or{}
	for _, coding := range codings {
		any = append(any, c.plainToken(p, TokenValue{System: coding.System, Code: coding.Code}))
	}
	return any
}

func (c *compiler) reference(p *Param, v ReferenceValue) plan.Node {
	if v.URL != "" {
		at := term(p, Main, c.env.Key.Sum(domainURL, v.URL))
		if p.OfMain { // what has no reference of its type has none of these either
			return plan.And{at, present(p)}
		}
		return at
	}
	any := plan.Or{}
	for _, key := range v.Keys {
		any = append(any, term(p, Main, hashKey(c.env.Key, key, v.Version)))
	}
	return any
}

// text compares strings; see appendText.
func (c *compiler) text(p *Param, m Modifier, s string) plan.Node {
	if m == ModExact {
		return plan.Term{Param: p.At(Main), Value: appendText(nil, c.env.Key, s, c.most)}
	}
	if node, ok := c.longText(p, m, s); ok {
		return node
	}
	return c.shortText(p, m, s, foldedText(s, c.most))
}

// shortText compares with a text that entries can hold.
func (c *compiler) shortText(p *Param, m Modifier, s, folded string) plan.Node {
	if whole, ok := wholeText(p.At(Main), m, folded); ok {
		return whole
	}
	if folded == "" {
		return never // nothing but punctuation: nobody's name begins with it
	}
	switch m {
	case ModEnds:
		return plan.Contains{Param: p.At(Main), Part: append([]byte(folded), 0)}
	case ModContains:
		return plan.Contains{Param: p.At(Main), Part: []byte(folded)}
	case ModText:
		return plan.Prefix(p.At(Text), []byte(folded))
	case ModCodeText:
		return plan.Or{plan.Prefix(p.At(Text), []byte(folded)), plan.Prefix(p.At(Main), appendCode(nil, cut(s, maxCodeBytes)))}
	}
	begins := plan.Prefix(p.At(Main), []byte(folded))
	if m == Plain && p.Parts {
		return plan.Or{begins, plan.Prefix(p.At(FamilyPart), []byte(folded))}
	}
	return begins
}

// wholeText compares whole strings, as folded. An entry is the text, 00 and what
// is more than 01, so that text and 01 stand behind all entries of the text.
func wholeText(column plan.Param, m Modifier, folded string) (plan.Node, bool) {
	low, high := append([]byte(folded), 0), append([]byte(folded), 1)
	switch m {
	case ModIs:
		return plan.Range{Param: column, Low: low, High: high}, true
	case ModIsNot:
		return plan.Or{plan.Range{Param: column, High: low}, plan.Range{Param: column, Low: high}}, true
	case ModAfter:
		return plan.Range{Param: column, Low: high}, true
	case ModFrom:
		return plan.Range{Param: column, Low: low}, true
	case ModBefore:
		return plan.Range{Param: column, High: low}, true
	case ModUpTo:
		return plan.Range{Param: column, High: high}, true
	}
	return nil, false
}

// uri compares URIs exactly; :below finds those that begin with the value, :above
// those that the value begins with (R4 3.1.1.4.4, 3.1.1.4.9).
func (c *compiler) uri(p *Param, m Modifier, s string) (plan.Node, error) {
	switch m {
	case ModIn, ModNotIn:
		return c.members(p, s)
	case ModContains:
		if strings.ContainsFunc(s, unicode.IsControl) {
			return never, nil // no URI holds these, but the hash behind a long one does
		}
		return c.longURI(p, m, s, plan.Contains{Param: p.At(Main), Part: []byte(cut(s, c.most))}), nil
	case ModStarts:
		return c.longURI(p, m, s, plan.Prefix(p.At(Main), []byte(cut(s, c.most)))), nil
	case ModEnds:
		if strings.ContainsFunc(s, unicode.IsControl) {
			return never, nil
		}
		return c.longURI(p, m, s, plan.Contains{Param: p.At(Main), Part: append([]byte(cut(s, c.most)), 0)}), nil
	case ModBelow:
		if isURN(s) {
			return c.exactURI(p, s), nil
		}
		return c.longURI(p, m, s, urlsFrom(p.At(Main), cut(s, c.most))), nil
	case ModAbove:
		any := plan.Or{}
		for _, beginning := range beginnings(s) {
			any = append(any, c.exactURI(p, beginning))
		}
		return any, nil
	}
	return c.exactURI(p, s), nil
}

func (c *compiler) exactURI(p *Param, s string) plan.Node {
	return plan.Term{Param: p.At(Main), Value: appendURI(nil, c.env.Key, s, c.most)}
}

// urlsFrom are the URIs that begin with a text, without the URNs among them.
func urlsFrom(column plan.Param, text string) plan.Node {
	all := plan.Prefix(column, []byte(text))
	if !strings.HasPrefix(urnScheme, text) {
		return all
	}
	urns := plan.Prefix(column, []byte(urnScheme))
	return plan.Or{plan.Range{Param: column, Low: all.Low, High: urns.Low}, plan.Range{Param: column, Low: urns.High, High: all.High}}
}

const urnScheme = "urn:"

// isURN reports a URI to which :above and :below do not apply (R4 3.1.1.4.9).
func isURN(s string) bool { return len(s) >= 4 && strings.EqualFold(s[:4], "urn:") }

// beginnings are a URL and all that it begins with, from its authority on.
func beginnings(s string) []string {
	all := []string{s}
	if isURN(s) {
		return all
	}
	least := 0
	if i := strings.Index(s, "://"); i >= 0 {
		least = i + len("://")
	}
	for i := len(s) - 1; i > least; i-- {
		if utf8.RuneStart(s[i]) {
			all = append(all, s[:i])
		}
	}
	return all
}

// quantity asks points in their unit's entries with the system behind, and
// ranges, whose system cannot stand there, under the unit as a whole.
func (c *compiler) quantity(p *Param, v QuantityValue) plan.Node {
	if !v.Unit {
		return onAll(v.spans(), p.At(Main), p.At(End), nil)
	}
	code := c.env.Key.Sum(domainUnitCode, v.Code)
	if v.System == "" {
		return onAll(v.spans(), p.At(Code), p.At(CodeEnd), code[:])
	}
	unit := c.env.Key.Sum(domainUnit, v.System, v.Code)
	ranges := onAll(v.spans(), p.At(Unit), p.At(UnitEnd), unit[:])
	if v.Code == "" {
		return append(c.points(v, p.At(Main), nil), ranges...)
	}
	exact := append(c.points(v, p.At(Code), code[:]), ranges...)
	if base, dimension, ok := v.inBase(c.env.Key); ok {
		return append(onAll(base.spans(), p.At(Canonical), p.At(CanonicalEnd), dimension[:]), exact...)
	}
	return exact
}

// points asks for points with a system behind.
func (c *compiler) points(v QuantityValue, column plan.Param, lead []byte) plan.Or {
	system := hashSystem(c.env.Key, v.System)
	any := plan.Or{}
	for _, s := range v.pointSpans() {
		r := s.on(column, column, lead)
		r.Tail = &plan.Tail{At: len(lead) + 16, Low: system[:], High: plan.Successor(system[:])}
		any = append(any, r)
	}
	return any
}
