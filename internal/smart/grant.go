package smart

import (
	"slices"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// World is what a Grant is made under: one data store.
type World struct {
	Registry search.Registry
	Key      plan.HashKey // the store's; a Grant holds within it only
	Base     string       // absolute URL of the store, with or without the slash at the end
	Now      time.Time    // what ap compares dates with
}

// Launch is whom a token speaks of.
type Launch struct {
	Patient     string // id of the patient in context, or "Patient/id"; empty is none
	FHIRUser    string // "Practitioner/id", relative or below the store's base; empty is none
	FineGrained bool   // user/ scopes are narrowed by FHIRUser
}

// NewGrant is what scopes allow within a launch context. Scopes that turn out to
// grant nothing (an unknown type, a filter that does not parse, a patient/ scope
// without a patient) are given back with the reason.
func NewGrant(w World, scopes []Scope, l Launch) (*search.Grant, []Refusal) {
	g := &granting{World: w, launch: l, rules: map[plan.Type][]search.Rule{}, allowances: map[plan.Type]*allowance{}}
	for _, s := range scopes {
		if reason := g.add(s); reason != "" {
			g.refused = append(g.refused, Refusal{s.Text, reason})
		}
	}
	if g.everything() {
		return search.Everything(), g.refused
	}
	for _, t := range w.Registry.Types() {
		g.settle(t)
	}
	return search.NewGrant(g.rules), g.refused
}

// granting is a Grant in the making.
type granting struct {
	World
	launch     Launch
	allowances map[plan.Type]*allowance
	rules      map[plan.Type][]search.Rule
	refused    []Refusal
	wild       [3]search.Access // of all types, by Context
	patient    *reach           // of patient/ scopes
	user       *reach           // of user/ scopes, when fine-grained
}

// allowance is what the scopes say of one type.
type allowance struct {
	access   [3]search.Access // by Context, without filters
	filtered []filtered
}

type filtered struct {
	context Context
	access  search.Access
	where   plan.Node
}

// add takes one scope in; reason is why it grants nothing.
func (g *granting) add(s Scope) (reason string) {
	if reason := g.prepare(s.Context); reason != "" {
		return reason
	}
	switch s.Type {
	case AnyType:
		g.wild[s.Context] |= s.Access
		return ""
	case pseudoTransaction:
		return "" // no resource: Permit looks at it
	}
	t, ok := g.Registry.Type(s.Type)
	if !ok {
		return "there is no such resource type in R4"
	}
	if len(s.Filter) == 0 {
		g.of(t).access[s.Context] |= s.Access
		return ""
	}
	where, err := g.filter(t, s.Filter)
	if err != nil {
		return "InvalidScope: " + fault.From(err).Message()
	}
	a := g.of(t)
	a.filtered = append(a.filtered, filtered{s.Context, s.Access, where})
	return ""
}

func (g *granting) of(t plan.Type) *allowance {
	if g.allowances[t] == nil {
		g.allowances[t] = &allowance{}
	}
	return g.allowances[t]
}

// prepare finds out whom scopes of a context reach.
func (g *granting) prepare(c Context) (reason string) {
	switch {
	case c == Patient && g.patient == nil:
		id, ok := patientID(g.launch.Patient)
		if !ok {
			return "the token names no patient"
		}
		g.patient, reason = g.reachPatient(id)
	case c == User && g.launch.FineGrained && g.user == nil:
		g.user, reason = g.reachUser(g.launch.FHIRUser)
	}
	return reason
}

// everything reports whether nothing is left to narrow.
func (g *granting) everything() bool {
	whole := g.wild[System]
	if !g.launch.FineGrained {
		whole |= g.wild[User]
	}
	return whole == search.AllAccess
}

// filter compiles the search parameters of a scope into a condition on a type:
// no chains, composites or result parameters (HealthLake developer guide, "SMART
// V2.2 scopes").
func (g *granting) filter(t plan.Type, pairs []search.Pair) (plan.Node, error) {
	q, err := search.Parse(g.Registry, []plan.Type{t}, pairs, search.Options{Conditional: true, Base: slashed(g.Base)})
	if err != nil {
		return nil, err
	}
	if len(q.Clauses) != len(pairs) || !slices.Equal(q.Types, []plan.Type{t}) {
		return nil, fault.New(fault.Invalid, "smart.filter", "result parameters have no place in a scope")
	}
	for _, clause := range q.Clauses {
		if !plain(clause.On[0].Cond) {
			return nil, &fault.Error{Kind: fault.Invalid, Op: "smart.filter", Subject: clause.Name,
				Detail: "chained and composite parameters have no place in a scope"}
		}
	}
	return g.compile(q)
}

// plain reports whether a condition looks at the resource alone, by one
// parameter.
func plain(c search.Cond) bool {
	switch c := c.(type) {
	case search.Match:
		return c.Param.Kind != search.KindComposite
	case search.Missing:
		return c.Param.Kind != search.KindComposite
	case search.ByID, search.ByTime, search.Never:
		return true
	}
	return false
}

// compile gives the condition of a query, which is on one type. It makes no hops, so that
// there is nothing for a grant to narrow.
func (g *granting) compile(q *search.Query) (plan.Node, error) {
	p, err := q.Compile(search.Env{Registry: g.Registry, Key: g.Key, Grant: search.Everything(), Now: g.Now})
	if err != nil {
		return nil, err
	}
	if len(p.Arms) == 0 {
		return plan.Or{}, nil
	}
	return p.Arms[0].Where, nil
}

// settle turns what the scopes say of a type into rules.
func (g *granting) settle(t plan.Type) {
	unfiltered := g.wild
	a := g.allowances[t]
	if a == nil {
		a = &allowance{}
	}
	for c, access := range a.access {
		unfiltered[c] |= access
		g.allow(t, Context(c), unfiltered[c], nil)
	}
	for _, f := range a.filtered {
		g.allow(t, f.context, f.access&^unfiltered[f.context], f.where) // an unfiltered scope wins
	}
}

func (g *granting) allow(t plan.Type, c Context, access search.Access, where plan.Node) {
	if access == 0 {
		return
	}
	switch {
	case c == Patient:
		g.bound(g.patient, t, access, where)
	case c == User && g.launch.FineGrained:
		g.bound(g.user, t, access, where)
	default:
		g.rule(t, access, where)
	}
}

// bound adds the rules for what a reach has of a type.
func (g *granting) bound(r *reach, t plan.Type, access search.Access, where plan.Node) {
	if r == nil {
		return
	}
	if access&reading != 0 {
		g.rule(t, access&reading, plan.And{r.readable(t), where})
	}
	if access&writing != 0 {
		g.rule(t, access&writing, plan.And{r.writable(t), where})
	}
}

func (g *granting) rule(t plan.Type, access search.Access, where plan.Node) {
	where = search.Simplify(where)
	if or, never := where.(plan.Or); access == 0 || never && len(or) == 0 {
		return
	}
	g.rules[t] = append(g.rules[t], search.Rule{Access: access, Where: where})
}

// patientID reads a launch context's patient.
func patientID(s string) (string, bool) {
	id := strings.TrimPrefix(s, "Patient/")
	return id, fhir.ValidID(id)
}

func slashed(base string) string { return strings.TrimSuffix(base, "/") + "/" }
