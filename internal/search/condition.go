package search

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// condition reads a parameter's name (with chain, modifier or _has) and value
// as a condition on one type. pair is the whole parameter, for messages; depth
// is how many hops are left.
func (p *parser) condition(t plan.Type, name string, pair Pair, depth int) (Cond, error) {
	if p.hops++; p.hops > MaxHops {
		return nil, tooMany("ways through the chain "+pair.Name, MaxHops)
	}
	if rest, ok := strings.CutPrefix(name, "_has:"); ok {
		return p.having(t, rest, pair, depth)
	}
	head, rest, chained := strings.Cut(name, ".")
	code, modifier, _ := strings.Cut(head, ":")
	if chained {
		return p.chain(t, code, modifier, rest, pair, depth)
	}
	if code == "_filter" {
		return p.filter(t, modifier, pair, depth)
	}
	if code == "_type" {
		return p.isType(t, modifier, pair)
	}
	if code == "_has" {
		return nil, incompleteHas(pair)
	}
	if code == contentParam.Code && !p.indexesContent(t) {
		return p.content(modifier, pair)
	}
	if read, ok := everyResource[code]; ok {
		return read(p, modifier, pair)
	}
	param, err := p.param(t, code, pair)
	if err != nil {
		return nil, err
	}
	if version, ok := p.versionOf(t, param, modifier, pair); ok {
		return p.canonical(param, version, pair)
	}
	return p.match(param, modifier, pair)
}

// indexesContent reports whether the registry keeps the words of a type.
func (p *parser) indexesContent(t plan.Type) bool {
	param, ok := p.reg.Param(t, contentParam.Code)
	return ok && param.Kind == KindWords
}

func (p *parser) param(t plan.Type, code string, pair Pair) (*Param, error) {
	param, ok := p.reg.Param(t, code)
	if !ok {
		return nil, p.unknownParam(t, code, pair)
	}
	if param.Pending != nil {
		return nil, &fault.Error{Kind: fault.NotSupported, Op: "search.Parse", Subject: subject(pair), Detail: param.Pending(),
			Hint: "search by it when that is done"}
	}
	if param.Kind == KindSpecial || param.Kind == KindUnknown {
		reason, known := notOffered[code]
		if !known {
			reason = "is not offered by this server"
		}
		return nil, unsupported(pair, reason)
	}
	return param, nil
}

// notOffered are parameters of R4 that Tarn knows by name and refuses.
var notOffered = map[string]string{
	"_query": "named queries are not offered by this server",
}

func (p *parser) unknownParam(t plan.Type, code string, pair Pair) error {
	e := &fault.Error{Kind: fault.Invalid, Op: "search.Parse", Subject: subject(pair),
		Detail: fmt.Sprintf("%s has no search parameter %q", p.reg.Name(t), code)}
	if near := nearest(code, p.reg.Codes(t)); len(near) > 0 {
		e.Hint = "Did you mean " + strings.Join(near, ", ") + "?"
	}
	return unknown{e}
}

// chain reads code[:type].rest (R4 3.1.1.4.13).
func (p *parser) chain(t plan.Type, code, typeName, rest string, pair Pair, depth int) (Cond, error) {
	return p.chainTo(t, code, typeName, pair, depth, func(target plan.Type) (Cond, error) {
		return p.condition(target, rest, pair, depth-1)
	})
}

// chainTo is a chain over a reference to what rest says of each target.
func (p *parser) chainTo(t plan.Type, code, typeName string, pair Pair, depth int, rest func(target plan.Type) (Cond, error)) (Cond, error) {
	if depth == 0 {
		return nil, tooMany("hops in "+pair.Name, MaxChain)
	}
	param, err := p.reference(t, code, pair)
	if err != nil {
		return nil, err
	}
	targets := p.targets(param)
	if typeName != "" {
		if targets, err = p.narrow(param, targets, typeName, pair); err != nil {
			return nil, err
		}
	}
	var to []On
	var refused error
	for _, target := range targets {
		cond, err := rest(target)
		if err == nil {
			to = append(to, On{target, cond})
			continue
		}
		if refused = keep(refused, err); !errors.As(err, new(unknown)) {
			return nil, err
		}
	}
	if len(to) == 0 {
		return nil, refused
	}
	return Chained{param, to}, nil
}

// keep is the first of errors.
func keep(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

func (p *parser) reference(t plan.Type, code string, pair Pair) (*Param, error) {
	param, err := p.param(t, code, pair)
	if err == nil && param.Kind != KindReference {
		err = invalid(pair, fmt.Sprintf("%s is a %s parameter, only references chain", code, param.Kind), "")
	}
	return param, err
}

// targets are the types a reference may point to.
func (p *parser) targets(param *Param) []plan.Type {
	if len(param.Targets) == 0 {
		return p.reg.Types()
	}
	return param.Targets
}

// narrow is the one target that the modifier :[type] names.
func (p *parser) narrow(param *Param, targets []plan.Type, typeName string, pair Pair) ([]plan.Type, error) {
	t, ok := p.reg.Type(typeName)
	if !ok {
		return nil, invalid(pair, fmt.Sprintf("%q is neither a modifier of references nor a resource type", typeName), "")
	}
	if !slices.Contains(targets, t) {
		names := make([]string, len(targets))
		for i, target := range targets {
			names[i] = p.reg.Name(target)
		}
		return nil, invalid(pair, fmt.Sprintf("%s never refers to %s", param.Code, typeName),
			"it refers to "+strings.Join(names, ", "))
	}
	return []plan.Type{t}, nil
}

// having reads Type:reference:rest of _has (R4 3.1.1.4.14).
func (p *parser) having(t plan.Type, spec string, pair Pair, depth int) (Cond, error) {
	if depth == 0 {
		return nil, tooMany("hops in "+pair.Name, MaxChain)
	}
	parts := strings.SplitN(spec, ":", 3)
	if len(parts) < 3 || parts[2] == "" {
		return nil, incompleteHas(pair)
	}
	from, ok := p.reg.Type(parts[0])
	if !ok {
		return nil, invalid(pair, fmt.Sprintf("%q is no resource type", parts[0]), "")
	}
	param, err := p.reference(from, parts[1], pair)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.targets(param), t) {
		if p.many {
			return Never{}, nil
		}
		return nil, unknown{&fault.Error{Kind: fault.Invalid, Op: "search.Parse", Subject: subject(pair),
			Detail: fmt.Sprintf("%s.%s never refers to %s", parts[0], parts[1], p.reg.Name(t))}} // of several targets another may do
	}
	cond, err := p.condition(from, parts[2], pair, depth-1)
	if err != nil {
		return nil, err
	}
	return Having{param, On{from, cond}, t}, nil
}

func incompleteHas(pair Pair) error {
	return invalid(pair, "_has is not complete", "write _has:Type:reference:parameter, as in _has:Observation:patient:code")
}

// isType reads _type behind a hop (R4 3.1.1.4.24): the type that is led to is
// known, so that it holds for all of its resources or for none.
func (p *parser) isType(t plan.Type, modifier string, pair Pair) (Cond, error) {
	if modifier == "missing" {
		return presentAlways(pair)
	}
	if modifier != "" && modifier != "not" {
		return nil, invalid(pair, fmt.Sprintf("_type has no modifier :%s", modifier), "")
	}
	named, strange := p.typesIn(pair.Value)
	if len(strange) > 0 {
		return nil, noType(pair, strange[0])
	}
	if slices.Contains(named, t) == (modifier == "not") {
		return Never{}, nil
	}
	return ByID{Not: true}, nil
}

// match reads the value of a parameter under its modifier.
func (p *parser) match(param *Param, modifier string, pair Pair) (Cond, error) {
	if modifier == "missing" {
		return missing(param, pair)
	}
	m := Match{Param: param}
	var only []plan.Type
	if modifier != "" {
		known, ok := modifiers[modifier]
		switch {
		case ok && slices.Contains(known.kinds, param.Kind):
			m.Modifier = known.is
		case !ok && param.Kind == KindReference:
			narrowed, err := p.narrow(param, p.targets(param), modifier, pair)
			if err != nil {
				return nil, err
			}
			only = narrowed
		default:
			return nil, invalid(pair, fmt.Sprintf("%s parameters have no modifier :%s", param.Kind, modifier), modifierHint(param.Kind))
		}
	}
	return p.values(m, only, pair)
}

func modifierHint(k Kind) string {
	names := []string{":missing"}
	for name, m := range modifiers {
		if slices.Contains(m.kinds, k) && name != "ofType" {
			names = append(names, ":"+name)
		}
	}
	if k == KindReference {
		names = append(names, ":[type]")
	}
	slices.Sort(names)
	return fmt.Sprintf("%s parameters have %s", k, strings.Join(names, ", "))
}

func missing(param *Param, pair Pair) (Cond, error) {
	switch pair.Value {
	case "true":
		return Missing{Param: param}, nil
	case "false":
		return Missing{Param: param, Not: true}, nil
	}
	return nil, invalid(pair, "is neither true nor false", "")
}

// values reads the alternatives of a value.
func (p *parser) values(m Match, only []plan.Type, pair Pair) (Cond, error) {
	texts, err := alternatives(pair)
	if err != nil {
		return nil, err
	}
	for _, text := range texts {
		v, wrong := p.one(m.Param, m.Modifier, only, text)
		if wrong != "" {
			return nil, invalid(pair, fmt.Sprintf("%q %s", cut(text, maxSubjectBytes), wrong), "")
		}
		m.Values = append(m.Values, v)
	}
	return m, nil
}

func alternatives(pair Pair) ([]string, error) {
	texts := split(pair.Value, ',')
	if len(texts) > MaxValues {
		return nil, tooMany("values in "+pair.Name, MaxValues)
	}
	for _, text := range texts {
		if text == "" {
			return nil, invalid(pair, "one of the values is empty", `write \, for a comma inside a value`)
		}
		if strayEscape(text) {
			return nil, invalid(pair, fmt.Sprintf("%q has a \\ that escapes nothing", cut(text, maxSubjectBytes)), `write \\ for a backslash; \, \| and \$ are the other escapes`)
		}
		if len(text) > MaxValueBytes {
			return nil, tooMany("bytes in a value of "+pair.Name, MaxValueBytes)
		}
	}
	return texts, nil
}

// one reads one value; wrong, when not empty, says what is wrong with it.
func (p *parser) one(param *Param, m Modifier, only []plan.Type, text string) (v Value, wrong string) {
	switch m {
	case ModText, ModCodeText:
		return StringValue(unescape(text)), ""
	case ModAdvanced:
		return parseAdvanced(text)
	case ModIn, ModNotIn:
		return URIValue(unescape(text)), ""
	case ModOfType:
		return parseOfType(text)
	case ModIdentifier:
		return parseToken(text)
	case ModAbove, ModBelow:
		if param.Kind == KindReference {
			return p.parseHierarchy(param, m, unescape(text))
		}
	case ModStarts:
		return parseStart(param, text)
	case ModOverlaps:
		v, wrong := parseDateValue(Eq.String() + text)
		v.Prefix = Overlaps
		return v, wrong
	}
	switch param.Kind {
	case KindNumber:
		return parseNumber(text)
	case KindDate:
		return parseDateValue(text)
	case KindString:
		return StringValue(unescape(text)), ""
	case KindToken:
		return parseToken(text)
	case KindReference:
		return p.parseReference(param, only, unescape(text))
	case KindQuantity:
		return parseQuantity(text)
	case KindURI:
		return URIValue(unescape(text)), ""
	case KindComposite:
		return p.parseComposite(param, text)
	case KindPosition:
		return parsePosition(text)
	case KindWords:
		return parseWords(text)
	}
	return nil, "belongs to a parameter that is not offered by this server"
}

func (p *parser) parseComposite(param *Param, text string) (Value, string) {
	parts := split(text, '$')
	if len(parts) != len(param.Components) {
		return nil, fmt.Sprintf(`has %d parts, not %d; separate them by $ (write \$ for a literal one)`, len(parts), len(param.Components))
	}
	v := make(CompositeValue, len(parts))
	for i, part := range parts {
		one, wrong := p.one(param.Components[i], Plain, nil, part)
		if wrong != "" {
			return nil, fmt.Sprintf("has a part %q that %s", part, wrong)
		}
		v[i] = one
	}
	return v, ""
}
