package search

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Bounds of a query.
const (
	// MaxParameters is how many parameters a search may have.
	MaxParameters = 256
	// MaxValues is how many comma-separated alternatives one parameter may have:
	// enough for a posted list of ids.
	MaxValues = 10_000
	// MaxValueBytes is the length of one alternative.
	MaxValueBytes = 8_192
	// MaxChain is how many hops a chain or nested _has may make.
	MaxChain = 8
	// MaxHops is how many typed hops one parameter may fan out into, an untyped
	// chain counting one per target type.
	MaxHops = 2_000
	// MaxSortKeys is how many rules _sort may have.
	MaxSortKeys = 16
	// MaxIncludes is how many _include and _revinclude a search may have.
	MaxIncludes = 64
	// MaxElements is how many names _elements may list.
	MaxElements = 256
)

// Page sizes, unless Options say otherwise.
const (
	DefaultCount = 20
	MaxCount     = 1000
)

// Options are how a search is read.
type Options struct {
	// Lenient lets unknown parameters pass (Prefer: handling=lenient); they are
	// in Query.Ignored.
	Lenient bool
	// Conditional is for criteria of conditional interactions: nothing unknown
	// passes, criteria must be there, and result parameters are refused.
	Conditional bool
	// DefaultCount and MaxCount are page sizes; zero is the package's.
	DefaultCount, MaxCount int
	// RefuseLargeCount answers a _count beyond MaxCount, or of zero, with an
	// error, as HealthLake does; otherwise it is cut.
	RefuseLargeCount bool
	// In narrows to a compartment.
	In *Compartment
	// Base is this store's own base URL, "https://host/datastore/id/r4/":
	// absolute references below it are references to its resources.
	Base string
}

// ParsePairs reads a query string, or a form body, in order.
func ParsePairs(raw string) ([]Pair, error) {
	var pairs []Pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err := errors.Join(err1, err2); err != nil {
			return nil, &fault.Error{Kind: fault.Syntax, Op: "search.ParsePairs", Subject: part,
				Detail: "not percent-encoded properly", Hint: "encode a literal % as %25", Cause: err}
		}
		if pairs = append(pairs, Pair{n, v}); len(pairs) > MaxParameters {
			return nil, tooMany("parameters", MaxParameters)
		}
	}
	return pairs, nil
}

func tooMany(what string, most int) error {
	return fault.New(fault.TooCostly, "search.Parse", "more than %d %s", most, what)
}

// Parse reads a search over types, none meaning all of them. What it does not
// know it refuses with fault.Invalid, naming parameter, value and the mend.
func Parse(reg Registry, types []plan.Type, pairs []Pair, o Options) (*Query, error) {
	if len(pairs) > MaxParameters {
		return nil, tooMany("parameters", MaxParameters)
	}
	p := &parser{reg: reg, o: o, locator: Locator{Base: o.Base, Types: reg}, q: &Query{In: o.In, Total: plan.TotalExact}}
	if err := p.chooseTypes(types, pairs); err != nil {
		return nil, err
	}
	for _, pair := range pairs {
		if err := p.pair(pair); err != nil {
			return nil, err
		}
	}
	return p.q, p.finish()
}

type parser struct {
	reg     Registry
	o       Options
	locator Locator
	q       *Query
	hops    int
	read    filterRead
	count   *int
	many    bool // all types are searched, because none was named
}

// chooseTypes settles the types, which every other parameter is read by.
func (p *parser) chooseTypes(types []plan.Type, pairs []Pair) error {
	p.q.Types = slices.Clone(types)
	if len(types) == 0 {
		p.q.Types, p.many = slices.Clone(p.reg.Types()), true
	}
	for _, pair := range pairs {
		if pair.Name != "_type" && pair.Name != "_type:not" {
			continue
		}
		named, err := p.namedTypes(pair)
		if err != nil {
			return err
		}
		if pair.Name == "_type:not" {
			p.q.Types = slices.DeleteFunc(p.q.Types, func(t plan.Type) bool { return slices.Contains(named, t) })
			continue
		}
		p.q.Types = slices.DeleteFunc(named, func(t plan.Type) bool { return !slices.Contains(p.q.Types, t) })
		p.many = false
	}
	return nil
}

// namedTypes are the types that _type names. Names of no type are refused, or
// passed over where the client asked for lenience and others are left.
func (p *parser) namedTypes(pair Pair) ([]plan.Type, error) {
	named, strange := p.typesIn(pair.Value)
	if len(strange) > 0 && (!p.o.Lenient || p.o.Conditional || len(named) == 0) {
		return nil, noType(pair, strange[0])
	}
	for _, name := range strange {
		p.q.Ignored = append(p.q.Ignored, Ignored{Pair{pair.Name, name}, "is no resource type"})
	}
	return named, nil
}

func noType(pair Pair, name string) error {
	return invalid(pair, fmt.Sprintf("%q is no resource type", name), "")
}

// typesIn reads a list of types, each once, and the names that are none.
func (p *parser) typesIn(list string) (named []plan.Type, strange []string) {
	for name := range strings.SplitSeq(list, ",") {
		t, ok := p.reg.Type(name)
		switch {
		case !ok:
			strange = append(strange, name)
		case !slices.Contains(named, t):
			named = append(named, t)
		}
	}
	return named, strange
}

func invalid(pair Pair, detail, hint string) error {
	return &fault.Error{Kind: fault.Invalid, Op: "search.Parse", Subject: subject(pair), Detail: detail, Hint: hint}
}

func unsupported(pair Pair, detail string) error {
	return &fault.Error{Kind: fault.NotSupported, Op: "search.Parse", Subject: subject(pair), Detail: detail}
}

// maxSubjectBytes is how much of a value is given back in a message.
const maxSubjectBytes = 200

func subject(pair Pair) string { return cut(pair.Name+"="+pair.Value, maxSubjectBytes) }

// unknown is a parameter that nobody knows: handling=lenient lets it pass.
type unknown struct{ fault *fault.Error }

func (u unknown) Error() string { return u.fault.Error() }
func (u unknown) Unwrap() error { return u.fault }

// pair reads one parameter.
func (p *parser) pair(pair Pair) error {
	read, isResult := resultParameters[baseName(pair.Name)]
	if isResult {
		return p.result(pair, read)
	}
	if pair.Value == "" {
		return p.maybeIgnore(pair, noValue(pair))
	}
	p.hops = 0
	clause := Clause{Pair: pair}
	for _, t := range p.q.Types {
		cond, err := p.condition(t, pair.Name, pair, MaxChain)
		if err != nil {
			return p.maybeIgnore(pair, err)
		}
		clause.On = append(clause.On, On{t, cond})
	}
	p.q.Clauses = append(p.q.Clauses, clause)
	p.q.understand(pair.Name, understoodValue(clause.On, pair.Value))
	return nil
}

// understoodValue is a value as it was read: with the + of a date's offset that
// URL decoding made a blank.
func understoodValue(ons []On, value string) string {
	for _, on := range ons {
		if isDate(on.Cond) {
			return strings.ReplaceAll(value, " ", "+")
		}
	}
	return value
}

func isDate(cond Cond) bool {
	switch cond := cond.(type) {
	case ByTime:
		return true
	case Match:
		return cond.Param.Kind == KindDate
	case Chained:
		return isDate(cond.To[0].Cond)
	case Having:
		return isDate(cond.From.Cond)
	}
	return false
}

func (p *parser) result(pair Pair, read func(*parser, Pair) error) error {
	if p.o.Conditional && pair.Name != "_format" && pair.Name != "_pretty" && pair.Name != "_type" {
		return invalid(pair, "has no place in the criteria of a conditional interaction", "")
	}
	if _, modifier, ok := strings.Cut(pair.Name, ":"); ok && pair.Name != "_type:not" && !includeModifier(pair.Name, modifier) {
		return invalid(pair, "takes no such modifier", "")
	}
	if pair.Value == "" && pair.Name != "_format" && baseName(pair.Name) != "_type" && pair.Name != "page" {
		return p.maybeIgnore(pair, noValue(pair))
	}
	return read(p, pair)
}

// noValue is a parameter without a value, which says nothing.
func noValue(pair Pair) error {
	return unknown{&fault.Error{Kind: fault.Invalid, Op: "search.Parse", Subject: pair.Name, Detail: "has no value"}}
}

// includeModifier reports the modifiers of includes; recurse is STU3's iterate.
func includeModifier(name, modifier string) bool {
	base := baseName(name)
	return (base == "_include" || base == "_revinclude") && (modifier == "iterate" || modifier == "recurse")
}

// maybeIgnore lets an unknown parameter pass where the client asked for it.
func (p *parser) maybeIgnore(pair Pair, err error) error {
	var u unknown
	if !errors.As(err, &u) {
		return err
	}
	if !p.o.Lenient || p.o.Conditional {
		return u.fault
	}
	p.q.Ignored = append(p.q.Ignored, Ignored{pair, u.fault.Detail})
	return nil
}

// baseName is a parameter's name without modifier.
func baseName(name string) string {
	base, _, _ := strings.Cut(name, ":")
	return base
}

// finish checks what only the whole shows.
func (p *parser) finish() error {
	if p.o.Conditional && len(p.q.Clauses) == 0 {
		return fault.New(fault.Invalid, "search.Parse", "the criteria are empty: they would match everything")
	}
	if len(p.q.Elements) > 0 && p.q.Summary != SummaryFalse {
		return fault.New(fault.Invalid, "search.Parse", "_elements and _summary exclude each other")
	}
	if p.q.Summary == SummaryText && len(p.q.Includes) > 0 {
		return fault.New(fault.Invalid, "search.Parse", "_summary=text cannot go with _include or _revinclude")
	}
	if p.q.Contained != ContainedFalse && slices.ContainsFunc(p.q.Sort, func(k SortKey) bool { return k.By == plan.ByParam }) {
		return &fault.Error{Kind: fault.NotSupported, Op: "search.Parse", Subject: "_sort",
			Detail: "a search in contained resources is sorted by _lastUpdated, _id or _type of their containers only"}
	}
	return p.settleCount()
}
