package search

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Shape is the query without its values: what may be logged of a search, and
// what groups searches of a kind.
//
//	Observation?code(2)&date(ge)&subject:Patient.name:contains&_sort=-date&_total=none
//
// A number in parentheses is how many values there are, where there are several;
// prefixes stand as they are. Of several types the conditions of the first are
// shown.
func (q *Query) Shape(reg Registry) string {
	s := shaper{reg}
	var parts []string
	if q.In != nil {
		parts = append(parts, "in "+reg.Name(q.In.Of.Type))
	}
	for _, clause := range q.Clauses {
		parts = append(parts, s.cond(clause.On[0].Cond))
	}
	return s.types(q.Types) + "?" + strings.Join(append(parts, s.results(q)...), "&")
}

// maxShapeTypes is how many types a shape names.
const maxShapeTypes = 4

type shaper struct{ reg Registry }

func (s shaper) types(types []plan.Type) string {
	if len(types) > maxShapeTypes {
		return fmt.Sprintf("%d types", len(types))
	}
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = s.reg.Name(t)
	}
	return strings.Join(names, ",")
}

func (s shaper) results(q *Query) []string {
	var parts []string
	for _, key := range q.Sort {
		parts = append(parts, "_sort="+key.shape())
	}
	for _, inc := range q.Includes {
		parts = append(parts, s.include(inc))
	}
	if q.Summary != SummaryFalse {
		parts = append(parts, "_summary="+q.Summary.String())
	}
	if q.Contained != ContainedFalse {
		parts = append(parts, "_contained="+q.Contained.String())
	}
	switch q.Total {
	case plan.TotalNone:
		parts = append(parts, "_total=none")
	case plan.TotalEstimate:
		parts = append(parts, "_total=estimate")
	}
	return parts
}

func (k SortKey) shape() string {
	desc := ""
	if k.Desc {
		desc = "-"
	}
	switch k.By {
	case plan.ByUpdated:
		return desc + "_lastUpdated"
	case plan.ByID:
		return desc + "_id"
	case plan.ByType:
		return desc + "_type"
	}
	return desc + k.Params[0].Code
}

func (s shaper) include(inc Include) string {
	name, source, code := "_include", "*", "*"
	if inc.Reverse {
		name = "_revinclude"
	}
	if inc.Iterate {
		name += ":iterate"
	}
	if inc.Source != 0 {
		source = s.reg.Name(inc.Source)
	}
	if inc.Param != nil {
		code = inc.Param.Code
	}
	return name + "=" + source + ":" + code
}

// cond is a condition without values.
func (s shaper) cond(c Cond) string {
	switch c := c.(type) {
	case Match:
		return c.Param.Code + c.Modifier.suffix() + manner(c.Values)
	case Missing:
		return fmt.Sprintf("%s:missing(%t)", c.Param.Code, !c.Not)
	case Chained:
		types := make([]plan.Type, len(c.To))
		for i, on := range c.To {
			types[i] = on.Type
		}
		return c.Param.Code + ":" + s.types(types) + "." + s.cond(c.To[0].Cond)
	case Having:
		return "_has:" + s.reg.Name(c.From.Type) + ":" + c.Param.Code + ":" + s.cond(c.From.Cond)
	case ByID:
		return "_id" + not(c.Not) + several(len(c.IDs))
	case ByTime:
		name := "_lastUpdated"
		if c.Created {
			name = "createdAt"
		}
		return name + manner(c.Values)
	case Content:
		return contentParam.Code + several(len(c.Words))
	case AllOf:
		return s.joined(c, " and ")
	case AnyOf:
		return s.joined(c, " or ")
	case Not:
		return "not (" + s.cond(c.Of) + ")"
	}
	return "nothing"
}

func (s shaper) joined(conds []Cond, word string) string {
	parts := make([]string, len(conds))
	for i, c := range conds {
		parts[i] = s.cond(c)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "(" + strings.Join(parts, word) + ")"
}

func not(is bool) string {
	if is {
		return ":not"
	}
	return ""
}

func several(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf("(%d)", n)
}

// manner is the prefixes of values, or how many there are.
func manner[V Value](values []V) string {
	var prefixes []string
	for _, v := range values {
		if p := prefixOf(v); p != Eq && !slices.Contains(prefixes, p.String()) {
			prefixes = append(prefixes, p.String())
		}
	}
	if len(prefixes) > 0 {
		return "(" + strings.Join(prefixes, ",") + ")"
	}
	return several(len(values))
}

func prefixOf(v Value) Prefix {
	switch v := v.(type) {
	case DateValue:
		return v.Prefix
	case NumberValue:
		return v.Prefix
	case QuantityValue:
		return v.Prefix
	}
	return Eq
}

// filterSuffixes are the modifiers that only filters have, by their operators; po
// shows in the values.
var filterSuffixes = map[Modifier]string{ModIs: "eq", ModIsNot: "ne", ModStarts: "sw", ModEnds: "ew",
	ModAfter: "gt", ModFrom: "ge", ModBefore: "lt", ModUpTo: "le"}

// suffix is the modifier behind a name.
func (m Modifier) suffix() string {
	if op, ok := filterSuffixes[m]; ok {
		return " " + op
	}
	for name, known := range modifiers {
		if known.is == m && name != "ofType" {
			return ":" + name
		}
	}
	return ""
}
