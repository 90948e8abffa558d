package search

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Canonicals (R4 references.html#canonical) are references by url and version, and
// not by id, so that no hop of a plan can follow them. Who is at the other end is
// found first, and asked for by what both ends say: for the few parameters that
// look at canonicals (Param.Canonical), and never for others.

// CanonicalURL is a url and, where it is stated, a version: of a resource, or as a
// reference names one.
type CanonicalURL struct{ URL, Version string }

// MaxCanonicals is how many resources may stand at the other end of a canonical in
// a chain, a _has or an include.
const MaxCanonicals = 10_000

// Canonicals finds who is at the other end. Errors are given to the client as they
// are; more than MaxCanonicals are fault.TooCostly.
type Canonicals interface {
	// Of are the urls and versions of the resources that arms describe, of those
	// that have a url.
	Of(arms []plan.Arm) ([]CanonicalURL, error)
	// NamedBy are the canonicals in a reference parameter of the resources that
	// arms describe.
	NamedBy(arms []plan.Arm, p *Param) ([]CanonicalURL, error)
}

// TooManyCanonicals is the error of Canonicals that find more.
func TooManyCanonicals(what string) error {
	return fault.New(fault.TooCostly, "search", "%s: over %d resources stand at the other end of canonicals; ask for fewer", what, MaxCanonicals)
}

// Naming is the condition on a resource to name, by a reference parameter, one of
// the resources that have these urls and versions: without version, or in theirs.
// The caller passes it through Grant.Arm.
func Naming(key plan.HashKey, p *Param, bodies Bodies, of []CanonicalURL) plan.Node {
	any, bare := plan.Or{}, plan.Or{}
	urls := map[string]bool{}
	for _, c := range of {
		if c.Version != "" {
			any = append(any, term(p, Main, key.Sum(domainURL, versionedURL(c))))
		}
		if !urls[c.URL] {
			urls[c.URL] = true
			bare = append(bare, term(p, Main, key.Sum(domainURL, c.URL)))
		}
	}
	// Entries do not tell a url without version from one with another.
	any = append(any, plan.And{bare, plan.Test{Name: p.Code + ", without version", Holds: func(k plan.Key, body []byte) bool {
		return slices.ContainsFunc(bodies.Names(k, body, p), func(c CanonicalURL) bool { return c.Version == "" && urls[c.URL] })
	}}})
	return Simplify(any)
}

func versionedURL(c CanonicalURL) string { return c.URL + "|" + c.Version }

// Named is the condition on a resource of a type to be what one of refs names: by
// its url, and in the version that the reference states. The caller passes it
// through Grant.Arm.
func Named(reg Registry, key plan.HashKey, t plan.Type, refs []CanonicalURL) plan.Node {
	url, ok := urlParam(reg, t)
	if !ok {
		return never
	}
	c := &compiler{env: Env{Registry: reg, Key: key}, most: MaxTextBytes}
	version, hasVersion := reg.Param(t, "version")
	any := plan.Or{}
	for _, ref := range refs {
		is := c.exactURI(url, ref.URL)
		if ref.Version != "" && hasVersion && version.Kind == KindToken {
			is = plan.And{is, c.plainToken(version, TokenValue{Any: true, Code: ref.Version})}
		}
		any = append(any, is)
	}
	return Simplify(any)
}

// urlParam is the parameter by which resources of a type have a canonical url.
func urlParam(reg Registry, t plan.Type) (*Param, bool) {
	p, ok := reg.Param(t, "url")
	return p, ok && p.Kind == KindURI
}

// HasURL reports whether resources of a type can be named by canonicals.
func HasURL(reg Registry, t plan.Type) bool {
	_, ok := urlParam(reg, t)
	return ok
}

// versionOf is the parameter of a resource's version, where a value of its url has
// a version behind it.
func (p *parser) versionOf(t plan.Type, url *Param, modifier string, pair Pair) (*Param, bool) {
	if url.Code != "url" || url.Kind != KindURI || modifier != "" || strings.IndexByte(pair.Value, '|') < 0 {
		return nil, false
	}
	version, ok := p.reg.Param(t, "version")
	return version, ok && version.Kind == KindToken
}

// canonical reads urls that may have a version behind them, url|version: no URL has
// a bar in it. A fragment behind the version is not looked at.
func (p *parser) canonical(url, version *Param, pair Pair) (Cond, error) {
	texts, err := alternatives(pair)
	if err != nil {
		return nil, err
	}
	var any AnyOf
	for _, text := range texts {
		parts := split(text, '|')
		if len(parts) > 2 {
			return nil, invalid(pair, fmt.Sprintf("%q has more than one bar", cut(text, maxSubjectBytes)), "write url|version")
		}
		all := AllOf{Match{Param: url, Values: []Value{URIValue(unescape(parts[0]))}}}
		if is, _, _ := strings.Cut(unescape(parts[len(parts)-1]), "#"); len(parts) == 2 && is != "" {
			all = append(all, Match{Param: version, Values: []Value{TokenValue{Any: true, Code: is}}})
		}
		any = append(any, all)
	}
	return any, nil
}

// naming is a chain over canonicals: to name one of the resources that arms
// describe.
func (c *compiler) naming(p *Param, arms []plan.Arm) (plan.Node, error) {
	if !p.Canonical || c.env.Canonicals == nil || c.env.Bodies == nil {
		return never, nil
	}
	with := slices.DeleteFunc(slices.Clone(arms), func(a plan.Arm) bool { return !HasURL(c.env.Registry, a.Type) })
	if len(with) == 0 {
		return never, nil
	}
	of, err := c.env.Canonicals.Of(with)
	return Naming(c.env.Key, p, c.env.Bodies, of), err
}

// named is a _has over canonicals: to be named by one of the resources that arms
// describe.
func (c *compiler) named(cond Having, arms []plan.Arm) (plan.Node, error) {
	if !cond.Param.Canonical || c.env.Canonicals == nil || len(arms) == 0 || !HasURL(c.env.Registry, cond.Of) {
		return never, nil
	}
	refs, err := c.env.Canonicals.NamedBy(arms, cond.Param)
	return Named(c.env.Registry, c.env.Key, cond.Of, refs), err
}
