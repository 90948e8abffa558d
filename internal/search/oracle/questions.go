package oracle

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/search"
)

// Questions makes random searches over a World. Most are made of what stands in
// its resources, so that they find something.
type Questions struct {
	world *World
	rng   *rand.Rand
}

// NewQuestions begins with a source of randomness.
func NewQuestions(w *World, rng *rand.Rand) *Questions { return &Questions{w, rng} }

// maxHops bounds chains and _has in a question.
const maxHops = 2

// Next is a search: "Observation?code=x&date=gt2020".
func (g *Questions) Next() string {
	r := pick(g.rng, g.world.all)
	clauses := make([]string, 1+g.rng.IntN(2))
	for i := range clauses {
		of := r
		if g.one(6) {
			of = g.sibling(r)
		}
		name, value := g.clause(of, maxHops)
		clauses[i] = url.QueryEscape(name) + "=" + url.QueryEscape(value)
	}
	return g.world.reg.Name(r.Key.Type) + "?" + strings.Join(clauses, "&")
}

func pick[T any](rng *rand.Rand, all []T) T { return all[rng.IntN(len(all))] }

// one is true one time in n.
func (g *Questions) one(n int) bool { return g.rng.IntN(n) == 0 }

// sibling is another resource of the type.
func (g *Questions) sibling(r *resource) *resource {
	for range 20 {
		if other := pick(g.rng, g.world.all); other.Key.Type == r.Key.Type {
			return other
		}
	}
	return r
}

// clause is a parameter that the resource mostly meets.
func (g *Questions) clause(r *resource, hops int) (name, value string) {
	switch n := g.rng.IntN(24); {
	case n == 0:
		return "_id", r.Key.ID
	case n == 1:
		return "_lastUpdated", g.prefix() + g.shorter(r.Updated.UTC().Format("2006-01-02T15:04:05.000Z"))
	case n <= 4 && hops > 0:
		if name, value, ok := g.chain(r, hops); ok {
			return name, value
		}
	case n <= 6 && hops > 0:
		if name, value, ok := g.having(r, hops); ok {
			return name, value
		}
	case n <= 9:
		return "_filter", g.filter(r, hops)
	}
	p, values := g.param(r)
	if g.one(12) {
		return p.Code + ":missing", pick(g.rng, []string{"true", "false"})
	}
	if len(values) == 0 {
		return p.Code + ":missing", "true"
	}
	modifier, value := g.value(r, p, pick(g.rng, values))
	if g.one(8) {
		if again, second := g.value(r, p, pick(g.rng, values)); again == modifier {
			value += "," + second
		}
	}
	return p.Code + modifier, value
}

// param is a parameter that the resource has values of, if chance finds one.
func (g *Questions) param(r *resource) (p *search.Param, values []value) {
	codes := g.world.reg.Codes(r.Key.Type)
	for range 40 {
		found, ok := g.world.reg.Param(r.Key.Type, pick(g.rng, codes))
		if !ok || found.Kind == search.KindSpecial || found.Kind == search.KindPosition || found.Kind == search.KindWords || found.Code == "_id" || found.Code == "_lastUpdated" {
			continue
		}
		p = found
		if values = (asker{World: g.world}).values(r, p); len(values) > 0 {
			return p, values
		}
	}
	return p, nil
}

// references are the reference parameters of a resource that point to others.
func (g *Questions) pointing(from *resource, to func(*resource) bool) (*search.Param, *resource) {
	codes := slices.Clone(g.world.reg.Codes(from.Key.Type))
	g.rng.Shuffle(len(codes), func(i, j int) { codes[i], codes[j] = codes[j], codes[i] })
	for _, code := range codes {
		p, ok := g.world.reg.Param(from.Key.Type, code)
		if !ok || p.Kind != search.KindReference {
			continue
		}
		for _, key := range (asker{World: g.world}).targets(from, p) {
			for _, r := range g.world.all {
				if r.Key == key && to(r) {
					return p, r
				}
			}
		}
	}
	return nil, nil
}

// chainInside asks for what stands in a contained resource.
func (g *Questions) chainInside(r *resource) (name, value string, ok bool) {
	if r.root["contained"] == nil {
		return "", "", false
	}
	for _, code := range g.world.reg.Codes(r.Key.Type) {
		p, known := g.world.reg.Param(r.Key.Type, code)
		if !known || p.Kind != search.KindReference {
			continue
		}
		if inside := (asker{World: g.world}).inside(r, p); len(inside) > 0 {
			to := pick(g.rng, inside)
			name, value = g.clause(to, 0)
			return code + ":" + g.world.reg.Name(to.Key.Type) + "." + name, value, true
		}
	}
	return "", "", false
}

func (g *Questions) chain(r *resource, hops int) (name, value string, ok bool) {
	if g.one(2) {
		if name, value, ok := g.chainInside(r); ok {
			return name, value, true
		}
	}
	p, target := g.pointing(r, func(*resource) bool { return true })
	if p == nil {
		return "", "", false
	}
	name, value = g.clause(target, hops-1)
	typed := ""
	if g.one(2) || len(p.Targets) != 1 {
		typed = ":" + g.world.reg.Name(target.Key.Type)
	}
	return p.Code + typed + "." + name, value, true
}

func (g *Questions) having(r *resource, hops int) (name, value string, ok bool) {
	for range 60 {
		from := pick(g.rng, g.world.all)
		if p, to := g.pointing(from, func(to *resource) bool { return to == r }); to != nil {
			name, value = g.clause(from, hops-1)
			return "_has:" + g.world.reg.Name(from.Key.Type) + ":" + p.Code + ":" + name, value, true
		}
	}
	return "", "", false
}

func (g *Questions) prefix() string {
	return pick(g.rng, []string{"", "", "", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"})
}

// value is a modifier and a value that an element of the parameter mostly meets.
func (g *Questions) value(r *resource, p *search.Param, v value) (modifier, text string) {
	switch p.Kind {
	case search.KindToken:
		return g.token(v)
	case search.KindReference:
		return g.reference(v)
	case search.KindString:
		return g.string(v)
	case search.KindURI:
		return g.uri(v)
	case search.KindComposite:
		return "", g.composite(r, p, v)
	}
	return "", g.plain(p.Kind, v)
}

// plain is a value of the kinds that composites are made of.
func (g *Questions) plain(k search.Kind, v value) string {
	switch k {
	case search.KindToken:
		return g.code(codings(v))
	case search.KindReference:
		_, text := g.reference(v)
		return text
	case search.KindString:
		return search.Escape(g.beginning(texts(v)))
	case search.KindDate:
		return g.prefix() + g.shorter(g.dateOf(v))
	case search.KindNumber:
		return g.prefix() + g.number(v)
	case search.KindQuantity:
		return g.prefix() + g.number(v) + g.unit(v)
	}
	return search.Escape(text(v.json))
}

func (g *Questions) composite(r *resource, p *search.Param, item value) string {
	var parts []string
	for i, component := range definition(r.Key.Type, p).Components {
		part := "x"
		if values := evaluate(r.root, component.Expression, item); len(values) > 0 {
			part = g.plain(p.Components[i].Kind, pick(g.rng, values))
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "$")
}

func (g *Questions) code(codes []coding) string {
	if len(codes) == 0 {
		return "x"
	}
	c := pick(g.rng, codes)
	if g.one(8) {
		c.code = strings.ToUpper(c.code)
	}
	system, code := search.Escape(c.system), search.Escape(c.code)
	switch n := g.rng.IntN(10); {
	case code == "" || n == 0 && system != "":
		return system + "|"
	case n == 1:
		return "|" + code
	case n <= 5:
		return system + "|" + code
	}
	return code
}

func (g *Questions) token(v value) (modifier, text string) {
	switch {
	case g.one(10):
		return ":not", g.code(codings(v))
	case g.one(8) && len(texts(v)) > 0:
		return ":text", search.Escape(g.beginning(texts(v)))
	case v.typ == "Identifier" && g.one(4):
		for _, c := range codings(value{member1(v, "type"), "CodeableConcept"}) {
			return ":of-type", search.Escape(c.system) + "|" + search.Escape(c.code) + "|" + search.Escape(str(v.json.(object), "value"))
		}
	}
	return "", g.code(codings(v))
}

// beginning is some first letters of a text.
func (g *Questions) beginning(texts []string) string {
	if len(texts) == 0 {
		return "x"
	}
	runes := []rune(pick(g.rng, texts))
	return string(runes[:1+g.rng.IntN(min(len(runes), 30))])
}

func (g *Questions) string(v value) (modifier, text string) {
	all := texts(v)
	if len(all) == 0 {
		return "", "x"
	}
	switch g.rng.IntN(6) {
	case 0:
		return ":exact", search.Escape(pick(g.rng, all))
	case 1:
		runes := []rune(pick(g.rng, all))
		return ":contains", search.Escape(g.beginning([]string{string(runes[g.rng.IntN(len(runes)):])}))
	}
	return "", search.Escape(g.beginning(all))
}

func (g *Questions) uri(v value) (modifier, written string) {
	s := text(v.json)
	if s == "" {
		return "", "x"
	}
	switch g.rng.IntN(6) {
	case 0:
		return ":below", search.Escape(s[:1+g.rng.IntN(len(s))])
	case 1:
		return ":above", search.Escape(s + pick(g.rng, []string{"/more", "more", ""}))
	case 2:
		return ":contains", search.Escape(s[g.rng.IntN(len(s)):])
	}
	return "", search.Escape(s)
}

func (g *Questions) reference(v value) (modifier, written string) {
	o, _ := v.json.(object)
	if c := codings(value{o["identifier"], "Identifier"}); v.typ == "Reference" && len(c) > 0 && g.one(2) {
		return ":identifier", g.code(c)
	}
	to := asker{World: g.world}.pointer(v)
	if to.key.ID == "" {
		return "", search.Escape(pick(g.rng, []string{to.url, to.whole, to.url}) + "")
	}
	typ := g.world.reg.Name(to.key.Type)
	switch g.rng.IntN(6) {
	case 0:
		return "", to.key.ID
	case 1:
		return ":" + typ, to.key.ID
	case 2:
		return "", g.world.base + typ + "/" + to.key.ID
	case 3:
		if to.version != "" {
			return "", typ + "/" + to.key.ID + "/_history/" + to.version
		}
	}
	return "", typ + "/" + to.key.ID
}

// dateOf is a date that stands in an element.
func (g *Questions) dateOf(v value) string {
	if s, ok := v.json.(string); ok {
		return s
	}
	for _, name := range []string{"start", "end"} {
		if s, ok := member1(v, name).(string); ok && g.one(2) {
			return s
		}
	}
	return "2012-01-01"
}

// shorter is a date with less precision, sometimes.
func (g *Questions) shorter(s string) string {
	if g.one(8) {
		return g.finer(s)
	}
	cuts := slices.DeleteFunc([]int{4, 7, 10}, func(n int) bool { return n > len(s) })
	if len(cuts) == 0 || g.one(3) {
		return s
	}
	return s[:pick(g.rng, cuts)]
}

// finer is a date's moment, or one next to it, with more digits than a millisecond
// has.
func (g *Questions) finer(s string) string {
	if len(s) < len("2006-01-02") {
		return s
	}
	time, zone := "T00:00:00", "Z"
	if len(s) >= len("2006-01-02T15:04:05") {
		time, zone = s[10:19], strings.TrimLeft(s[19:], ".0123456789")
	}
	digits := "000"
	if m := fraction.FindString(s); m != "" {
		digits = (m[4:] + "000")[:max(3, len(m)-4)]
	}
	return s[:10] + time + "." + digits + pick(g.rng, []string{"", "0", "000", "0001", "4", "9999"}) + zone
}

// number is a number that stands in an element, sometimes with less precision,
// sometimes another.
func (g *Questions) number(v value) string {
	s := text(v.json)
	for _, name := range []string{"value", "low", "high"} {
		if m := member1(v, name); m != nil && s == "" {
			if s = text(m); s == "" {
				s = text(member1(value{m, ""}, "value"))
			}
		}
	}
	switch {
	case s == "":
		return "5"
	case g.one(4):
		return s[:1+g.rng.IntN(len(s))] + "1"
	case g.one(6) && !strings.ContainsAny(s, "eE."):
		return s + ".0"
	}
	return s
}

// sameDimension are units to ask by, for units that Synthea and HL7's examples
// have.
var sameDimension = map[string][]string{
	"mg/dL": {"g/L", "mg/L"}, "kg": {"g", "[lb_av]"}, "cm": {"m", "[in_i]"}, "mm[Hg]": {"kPa"}, "%": {"1", "[ppth]"},
	"/min": {"Hz", "/s"}, "g/dL": {"g/L", "kg/m3"}, "mmol/L": {"mol/L", "umol/mL"}, "10*3/uL": {"10*9/L", "/L"},
	"Cel": {"K", "[degF]"}, "{score}": {"1"}, "kg/m2": {"g/cm2"}, "g": {"mg", "kg"}, "mg": {"g", "ug"},
}

func (g *Questions) unit(v value) string {
	o, _ := v.json.(object)
	system, code, unit := search.Escape(str(o, "system")), search.Escape(str(o, "code")), search.Escape(str(o, "unit"))
	if v.typ == "Money" {
		system, code = "urn:iso:std:iso:4217", search.Escape(str(o, "currency"))
	}
	if others := sameDimension[code]; system == search.Escape(ucumSystem) && len(others) > 0 && g.one(2) {
		return "|" + system + "|" + pick(g.rng, others)
	}
	return pick(g.rng, []string{"", "", "||" + code, "||" + unit, "|" + system + "|" + code, "|" + system + "|" + code, "|" + system + "|"})
}
