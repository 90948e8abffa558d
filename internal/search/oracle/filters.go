package oracle

import (
	"encoding/json"
	"strings"

	"github.com/tarn-fhir/tarn/internal/search"
)

// filter is a filter (search_filter.html) that the resource mostly meets.
func (g *Questions) filter(r *resource, hops int) string {
	text := g.operand(r, hops)
	for g.one(2) {
		of := r
		if g.one(3) {
			of = g.sibling(r)
		}
		text += pick(g.rng, []string{" and ", " or "}) + g.operand(of, hops)
	}
	return text
}

func (g *Questions) operand(r *resource, hops int) string {
	if g.one(8) {
		return "not (" + g.filter(g.sibling(r), hops) + ")"
	}
	if g.one(8) {
		return "(" + g.filter(r, hops) + ")"
	}
	return g.test(r, hops)
}

// test is a comparison along a path.
func (g *Questions) test(r *resource, hops int) string {
	if hops > 0 && g.one(4) {
		if p, target := g.pointing(r, func(*resource) bool { return true }); p != nil {
			where := ""
			if g.one(3) {
				where = "[" + g.filter(target, hops-1) + "]"
			}
			return p.Code + where + "." + g.test(target, hops-1)
		}
	}
	p, values := g.param(r)
	if len(values) == 0 || g.one(12) {
		return p.Code + " pr " + pick(g.rng, []string{"true", "false"})
	}
	op, value := g.comparison(r, p, pick(g.rng, values))
	return p.Code + " " + op + " " + g.quoted(value)
}

// quoted is a value in quotes, or without where it can be.
func (g *Questions) quoted(value string) string {
	if value != "" && !strings.ContainsAny(value, " \t\n\r\u00a0)]\"") && g.one(2) {
		return value
	}
	text, _ := json.Marshal(value) // a string always can be
	return string(text)
}

// comparison is an operator and a value for an element of a parameter.
func (g *Questions) comparison(r *resource, p *search.Param, v value) (op, value string) {
	switch p.Kind {
	case search.KindDate:
		return g.order("po"), g.shorter(g.dateOf(v))
	case search.KindNumber:
		return g.order("eq"), g.number(v)
	case search.KindQuantity:
		return g.order("eq"), g.number(v) + g.unit(v)
	case search.KindString:
		value = g.beginning(texts(v))
		if all := texts(v); len(all) > 0 && g.one(2) {
			value = pick(g.rng, all)
		}
		return pick(g.rng, []string{"eq", "eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"}), search.Escape(value)
	case search.KindToken:
		if codes := codings(v); len(codes) > 0 && codes[0].code != "" && g.one(4) {
			return "sw", search.Escape(g.beginning([]string{codes[0].code}))
		}
		return pick(g.rng, []string{"eq", "eq", "ne"}), g.code(codings(v))
	case search.KindURI:
		return pick(g.rng, []string{"eq", "eq", "ne", "co", "sw", "ew"}), search.Escape(text(v.json))
	case search.KindComposite:
		return pick(g.rng, []string{"eq", "eq", "ne"}), g.composite(r, p, v)
	}
	return pick(g.rng, []string{"re", "eq", "ne"}), g.plain(p.Kind, v)
}

// order is an operator of order, or another.
func (g *Questions) order(other string) string {
	return pick(g.rng, []string{other, other, "eq", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"})
}
