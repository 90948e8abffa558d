package search

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// filter reads _filter as a condition on one type.
func (p *parser) filter(t plan.Type, modifier string, pair Pair, depth int) (Cond, error) {
	if modifier != "" {
		return nil, invalid(pair, fmt.Sprintf("_filter has no modifier :%s", modifier), "")
	}
	text := pair.Value
	if p.read.text != text || p.read.is == nil {
		is, wrong := readFilter(text)
		if wrong != "" {
			return nil, invalid(pair, wrong, `write path operator value, as in given eq "peter" and birthdate ge 2014-10-10`)
		}
		p.read = filterRead{text, is}
	}
	cond, err := filterer{p, pair}.on(t, p.read.is, depth)
	var u unknown
	if errors.As(err, &u) && pair.Name == "_filter" {
		err = u.fault // a filter is not passed over because of a part; but a chain's target is
	}
	return AllOf{cond}, err // of one comparison too: its blanks are not those of a value
}

// filterRead is the filter that was read last: it is the same for every type.
type filterRead struct {
	text string
	is   filter
}

// filterer gives the meaning of filters. depth is how many hops are left.
type filterer struct {
	*parser
	pair Pair
}

func (f filterer) on(t plan.Type, read filter, depth int) (Cond, error) {
	switch read := read.(type) {
	case filterLogic:
		parts := make([]Cond, len(read.parts))
		for i, part := range read.parts {
			cond, err := f.on(t, part, depth)
			if err != nil {
				return nil, err
			}
			parts[i] = cond
		}
		if read.or {
			return AnyOf(parts), nil
		}
		return AllOf(parts), nil
	case filterNot:
		of, err := f.on(t, read.of, depth)
		return Not{of}, err
	case filterTest:
		return f.test(t, read, depth)
	}
	return nil, invalid(f.pair, "is not complete", "")
}

// test is one comparison. The operator looks at the set of all values that the
// path leads to: what says that there are none stands around the whole path.
func (f filterer) test(t plan.Type, test filterTest, depth int) (Cond, error) {
	none := false
	switch test.op {
	case "pr":
		if test.value != "true" && test.value != "false" {
			return nil, invalid(f.pair, "pr is followed by true or false", "")
		}
		none = test.value == "false"
	case "ni":
		none, test.op = true, "in"
	}
	cond, err := f.along(t, test.path, test, depth)
	if err != nil || !none {
		return cond, err
	}
	return Not{cond}, nil
}

// along follows a path to what is compared.
func (f filterer) along(t plan.Type, path []filterStep, test filterTest, depth int) (Cond, error) {
	if f.hops++; f.hops > MaxHops {
		return nil, tooMany("ways through the filter", MaxHops)
	}
	step := path[0]
	if len(path) == 1 {
		return f.compare(t, step.name, test)
	}
	return f.chainTo(t, step.name, "", f.pair, depth, func(target plan.Type) (Cond, error) {
		rest, err := f.along(target, path[1:], test, depth-1)
		if err != nil || step.where == nil {
			return rest, err
		}
		where, err := f.on(target, step.where, depth-1)
		return AllOf{where, rest}, err
	})
}

// compare is the comparison of one parameter of a type.
func (f filterer) compare(t plan.Type, code string, test filterTest) (Cond, error) {
	if code == "_filter" {
		return nil, invalid(f.pair, "_filter cannot stand within itself", "use parentheses")
	}
	if _, special := everyResource[code]; special {
		return f.compareEvery(code, test)
	}
	param, err := f.param(t, code, f.pair)
	if err != nil {
		return nil, err
	}
	if test.op == "pr" {
		return Missing{Param: param, Not: true}, nil
	}
	m, known := filterModifier(param.Kind, test.op)
	if !known {
		return nil, f.noOperator(param, test.op)
	}
	if test.op == "ne" && !isOrdered(param.Kind) && param.Kind != KindString {
		equal, err := f.match1(param, Plain, test.value)
		return AllOf{Missing{Param: param, Not: true}, Not{equal}}, err
	}
	text := test.value
	if isOrdered(param.Kind) && test.op != "po" {
		text = test.op + text
	}
	return f.match1(param, m, text)
}

// match1 is the condition to have one value.
func (f filterer) match1(param *Param, m Modifier, text string) (Cond, error) {
	if len(text) > MaxValueBytes {
		return nil, tooMany("bytes in a value of "+param.Code, MaxValueBytes)
	}
	v, wrong := f.one(param, m, nil, text)
	if wrong != "" {
		return nil, invalid(f.pair, fmt.Sprintf("%s: %q %s", param.Code, cut(text, maxSubjectBytes), wrong), "")
	}
	return Match{Param: param, Modifier: m, Values: []Value{v}}, nil
}

// isOrdered reports the kinds that have prefixes.
func isOrdered(k Kind) bool { return k == KindNumber || k == KindDate || k == KindQuantity }

// filterModifiers are the operators that a kind has beside those of order, as
// modifiers.
var filterModifiers = map[Kind]map[string]Modifier{
	KindString: {"eq": ModIs, "ne": ModIsNot, "co": ModContains, "sw": ModStarts, "ew": ModEnds,
		"gt": ModAfter, "ge": ModFrom, "lt": ModBefore, "le": ModUpTo},
	KindToken:     {"eq": Plain, "ne": Plain, "sw": ModStarts, "in": ModIn, "ss": ModBelow, "sb": ModAbove},
	KindReference: {"eq": Plain, "ne": Plain, "re": Plain},
	KindURI:       {"eq": Plain, "ne": Plain, "co": ModContains, "sw": ModStarts, "ew": ModEnds},
	KindComposite: {"eq": Plain, "ne": Plain},
	KindPosition:  {"eq": Plain},
	KindWords:     {"co": Plain},
	KindDate:      {"po": ModOverlaps},
}

// filterModifier is what an operator means to a kind of parameter.
func filterModifier(k Kind, op string) (Modifier, bool) {
	if isOrdered(k) && slices.Contains(prefixNames[:Overlaps], op) {
		return Plain, true
	}
	m, ok := filterModifiers[k][op]
	return m, ok
}

func (f filterer) noOperator(param *Param, op string) error {
	ops := []string{"pr"}
	for known := range filterOps {
		if _, ok := filterModifier(param.Kind, known); ok || known == "ni" && param.Kind == KindToken {
			ops = append(ops, known)
		}
	}
	slices.Sort(ops)
	return invalid(f.pair, fmt.Sprintf("%s is a %s parameter, which has no operator %s", param.Code, param.Kind, op),
		fmt.Sprintf("%s parameters have %s", param.Kind, strings.Join(ops, ", ")))
}

// compareEvery is the comparison of what is no index entry.
func (f filterer) compareEvery(code string, test filterTest) (Cond, error) {
	single := func(value string) (Cond, error) {
		return everyResource[code](f.parser, "", Pair{code, Escape(value)})
	}
	isTime := code == "_lastUpdated" || code == "createdAt"
	switch op := test.op; {
	case op == "pr" && code != "_list":
		return everyResource[code](f.parser, "missing", Pair{code, "false"})
	case isTime && slices.Contains(prefixNames[:Overlaps], op):
		return single(op + test.value)
	case isTime && op == "po", !isTime && op == "eq":
		return single(test.value)
	case code == "_id" && op == "ne":
		equal, err := single(test.value)
		return Not{equal}, err
	}
	return nil, invalid(f.pair, fmt.Sprintf("%s has no operator %s", code, test.op), "")
}
