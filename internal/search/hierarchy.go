package search

import (
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// References under :above and :below (R4 3.1.1.4.13 and 3.1.1.4.14): of resources
// that are parts of one another, and of canonicals with their versions.

// parents are the codes by which resources are parts of others of their type.
// References that may lead round in circles (replaces, derived-from) are none.
var parents = []string{"part-of", "partof", "parent"}

// MaxHierarchy is how many steps :above and :below of references go.
const MaxHierarchy = 16

// parentOf is the parameter by which a type's resources are parts of others of it.
func parentOf(reg Registry, t plan.Type) (*Param, bool) {
	for _, code := range parents {
		if p, ok := reg.Param(t, code); ok && p.Kind == KindReference && slices.Contains(p.Targets, t) {
			return p, true
		}
	}
	return nil, false
}

// parseHierarchy reads the value of a reference under :above or :below.
func (p *parser) parseHierarchy(param *Param, m Modifier, text string) (Value, string) {
	v, wrong := p.parseReference(param, nil, text)
	if wrong != "" {
		return nil, wrong
	}
	ref := v.(ReferenceValue)
	if ref.URL != "" {
		if fhir.ParseReference(text).Form == fhir.Canonical && m == ModBelow {
			return CanonicalBelow(text), ""
		}
		return nil, "is no resource of this server, and what lies above or below others is not known"
	}
	kept := slices.DeleteFunc(slices.Clone(ref.Keys), func(k plan.Key) bool {
		_, ok := parentOf(p.reg, k.Type)
		return !ok
	})
	if len(ref.Keys) > 0 && len(kept) == 0 {
		return nil, "is of a type whose resources are no parts of one another: " + param.Code + " has no :above and :below"
	}
	ref.Keys, ref.Version = kept, ""
	return ref, ""
}

// CanonicalBelow is a canonical under :below: any version, or those that begin
// with the one given, at a dot.
type CanonicalBelow string

func (CanonicalBelow) value() {}

// canonical is a canonical in any version, or in those below the one given.
func (c *compiler) canonical(p *Param, v CanonicalBelow) plan.Node {
	url, version, _ := strings.Cut(string(v), "|")
	any := term(p, Main, c.env.Key.Sum(domainURL, url))
	if version == "" {
		return any
	}
	bodies := c.env.Bodies
	if bodies == nil {
		return term(p, Main, c.env.Key.Sum(domainURL, string(v)))
	}
	return plan.And{any, plan.Test{Name: p.Code + ", versions below", Holds: func(key plan.Key, body []byte) bool {
		return slices.ContainsFunc(bodies.Names(key, body, p), func(is CanonicalURL) bool {
			rest, ok := strings.CutPrefix(is.Version, version)
			return ok && is.URL == url && (rest == "" || rest[0] == '.')
		})
	}}}
}

// hierarchy is a reference to a resource, or to what lies below it or above it
// within MaxHierarchy steps. What the grant hides leads nowhere.
func (c *compiler) hierarchy(p *Param, m Modifier, v ReferenceValue) (plan.Node, error) {
	any := plan.Or{c.reference(p, v)}
	for _, key := range v.Keys {
		parent, ok := parentOf(c.env.Registry, key.Type)
		if !ok {
			continue
		}
		node := c.descendants(parent, key)
		if m == ModAbove {
			node = c.ancestors(parent, key)
		}
		if arm, ok := c.env.Grant.Arm(key.Type, node); ok {
			any = append(any, plan.Chain{Params: p.Columns(Main), To: []plan.Arm{arm}})
		}
	}
	return Simplify(any), nil
}

// descendants is the condition to be a part, of a part, of a resource.
func (c *compiler) descendants(parent *Param, key plan.Key) plan.Node {
	direct := c.reference(parent, ReferenceValue{Keys: []plan.Key{key}})
	node := direct
	for range MaxHierarchy - 1 {
		arm, ok := c.env.Grant.Arm(key.Type, node)
		if !ok {
			return never
		}
		node = plan.Or{direct, plan.Chain{Params: parent.Columns(Main), To: []plan.Arm{arm}}}
	}
	return node
}

// ancestors is the condition to have a resource as part, of a part.
func (c *compiler) ancestors(parent *Param, key plan.Key) plan.Node {
	var node plan.Node = plan.IDs{IDs: []string{key.ID}}
	for range MaxHierarchy {
		arm, ok := c.env.Grant.Arm(key.Type, node)
		if !ok {
			return never
		}
		node = plan.Or{plan.IDs{IDs: []string{key.ID}}, plan.Has{Params: parent.Columns(Main), From: []plan.Arm{arm}}}
	}
	return node
}
