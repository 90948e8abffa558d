package oracle

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// value is a piece of JSON and the FHIR type it is of.
type value struct {
	json any
	typ  string
}

// evaluate takes an expression apart as text, each time anew: unions, and in
// them calls behind points.
func evaluate(root object, expression string, from value) []value {
	if of, rest, ok := strings.Cut(expression, ".exists() and "); ok && rest == of+" != false" {
		found := evaluate(root, of, from)
		yes := len(found) > 1 || len(found) == 1 && found[0].json != any(false)
		return []value{{yes, "boolean"}}
	}
	var all []value
	for _, path := range cutAll(expression, '|') {
		at := []value{from}
		for i, call := range cutAll(strings.TrimSpace(path), '.') {
			at = step(root, at, call, i == 0)
		}
		all = append(all, at...)
	}
	return all
}

// cutAll splits outside parentheses and quotes.
func cutAll(s string, by rune) []string {
	parts, depth, quoted := []string{""}, 0, false
	for _, c := range s {
		switch {
		case c == '\'':
			quoted = !quoted
		case !quoted && c == '(':
			depth++
		case !quoted && c == ')':
			depth--
		}
		if c == by && depth == 0 && !quoted {
			parts = append(parts, "")
			continue
		}
		parts[len(parts)-1] += string(c)
	}
	return parts
}

// step applies one call to every value.
func step(root object, at []value, call string, first bool) []value {
	name, arg, isCall := strings.Cut(call, "(")
	arg = strings.TrimSuffix(arg, ")")
	var all []value
	for _, v := range at {
		switch {
		case call == "%resource":
			all = append(all, value{root, root["resourceType"].(string)})
		case isCall && (name == "ofType" || name == "as"):
			// Exactly: a canonical is no uri here, though uri is its ancestor, or
			// target-uri would find what target does.
			if v.typ == arg {
				all = append(all, v)
			}
		case isCall && name == "where":
			if holds(root, v, arg) {
				all = append(all, v)
			}
		case isCall && name == "extension":
			for _, e := range member(v, "extension") {
				if holds(root, e, "url = "+arg) {
					all = append(all, e)
				}
			}
		case isCall:
			panic("oracle: unknown function " + call)
		case first && call[0] >= 'A' && call[0] <= 'Z':
			if r4.IsA(v.typ, call) {
				all = append(all, v)
			}
		default:
			all = append(all, placed(v, call)...)
		}
	}
	return all
}

// placed is a member, or with [n] one of its values.
func placed(v value, call string) []value {
	name, place, ok := strings.Cut(call, "[")
	found := member(v, name)
	if !ok {
		return found
	}
	n, err := strconv.Atoi(strings.TrimSuffix(place, "]"))
	if err != nil {
		panic("oracle: " + call)
	}
	if n >= len(found) {
		return nil
	}
	return found[n : n+1]
}

// member gives what stands under a name, a choice by any of its types.
func member(v value, name string) []value {
	o, ok := v.json.(object)
	e, known := r4.Element(v.typ, name)
	if !ok || !known {
		return nil
	}
	if !e.IsChoice() {
		return each(o[name], e.Type)
	}
	var all []value
	for _, t := range e.Types {
		all = append(all, each(o[name+strings.ToUpper(t.Name[:1])+t.Name[1:]], t.Name)...)
	}
	return all
}

// each gives the items of an array but for null, or the one value.
func each(v any, typ string) []value {
	if v == nil {
		return nil
	}
	items, ok := v.(array)
	if !ok {
		return []value{{v, typ}}
	}
	var all []value
	for _, item := range items {
		if item != nil {
			all = append(all, value{item, typ})
		}
	}
	return all
}

// holds evaluates a condition of where() in a resource.
func holds(root object, v value, condition string) bool {
	o, _ := v.json.(object)
	if typ, ok := strings.CutPrefix(condition, "resolve() is "); ok {
		if id, ok := strings.CutPrefix(str(o, "reference"), "#"); ok {
			return slices.ContainsFunc(member(value{root, str(root, "resourceType")}, "contained"), func(c value) bool {
				inner, _ := c.json.(object)
				return str(inner, "id") == id && str(inner, "resourceType") == strings.TrimSpace(typ)
			})
		}
		if m := relative.FindStringSubmatch(beforeHash(str(o, "reference"))); m != nil {
			return m[2] == strings.TrimSpace(typ)
		}
		return str(o, "type") == strings.TrimSpace(typ)
	}
	if url, ok := strings.CutPrefix(condition, "hasExtension("); ok {
		for _, e := range member(v, "extension") {
			if holds(root, e, "url = "+strings.TrimSuffix(url, ")")) {
				return true
			}
		}
		return false
	}
	name, wanted, ok := strings.Cut(condition, "=")
	if !ok {
		panic("oracle: unknown condition " + condition)
	}
	return str(o, strings.TrimSpace(name)) == strings.Trim(strings.TrimSpace(wanted), "'")
}

func beforeHash(s string) string {
	before, _, _ := strings.Cut(s, "#")
	return before
}

// str is a string member, "" without.
func str(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// text is a primitive as it is written.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}
