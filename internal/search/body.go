package search

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Bodies reads of stored bodies what their entries do not hold. What is no
// resource has nothing. It may be used by many goroutines.
type Bodies interface {
	// Whole are a resource's entries with no text cut, and with all digits of dates.
	Whole(key plan.Key, body []byte) []plan.Entry
	// Words are the words of all its strings, as entries of that column.
	Words(key plan.Key, body []byte, column *Param) []plan.Entry
	// Contained are the resources inside it, with no text cut, that the last of the
	// hops leads to, from one to the next.
	Contained(key plan.Key, body []byte, hops ...Hop) []ContainedResource
	// Names are the canonicals in a reference parameter.
	Names(key plan.Key, body []byte, p *Param) []CanonicalURL
}

// Hop leads to the resources of a type beside it that the reference Via points to,
// or that are its values (Param.Inline); without Via to all.
type Hop struct {
	Type plan.Type
	Via  *Param
}

// ContainedResource is a resource inside another.
type ContainedResource struct {
	ID      string // without #
	JSON    []byte
	Entries []plan.Entry
}

// A text that is longer than MaxTextBytes stands cut in the entries, and Long
// says that there is one. What entries cannot tell then, the body does: only of
// resources with such a text, which are few.

// longText is the condition on a string, or a token's text, where a cut text may
// matter; ok is false where entries alone are exact, or bodies cannot be read.
func (c *compiler) longText(p *Param, m Modifier, s string) (plan.Node, bool) {
	if c.env.Bodies == nil {
		return nil, false
	}
	folded := foldedText(s, len(s)*foldedMost)
	fits := len(folded) <= c.most
	short := func() plan.Node { return c.shortText(p, m, s, folded) }
	switch m {
	case Plain, ModStarts, ModText, ModCodeText:
		if fits {
			return nil, false
		}
		return c.ofLong(p, func(w *compiler) plan.Node { return w.text(p, m, s) }), true
	case ModContains, ModEnds:
		long := c.ofLong(p, func(w *compiler) plan.Node { return w.text(p, m, s) })
		switch {
		case !fits:
			return long, true
		case m == ModContains:
			return plan.Or{short(), long}, true
		}
		return plan.Or{plan.And{short(), plan.Not{Of: plan.Term{Param: p.At(Long)}}}, long}, true
	case ModIs, ModIsNot, ModAfter, ModFrom, ModBefore, ModUpTo:
		if len(folded) <= c.most-utf8.UTFMax {
			return nil, false // what stands cut is longer, and decided by then
		}
		long := c.ofLong(p, func(w *compiler) plan.Node { return w.text(p, m, s) })
		whole, _ := wholeText(p.At(Main), m, folded[:min(len(folded), c.most+1)])
		return plan.Or{plan.And{whole, plan.Not{Of: plan.Term{Param: p.At(Long)}}}, long}, true
	}
	return nil, false
}

// longURI is short where no URI is cut, and what the body says where one is.
func (c *compiler) longURI(p *Param, m Modifier, s string, short plan.Node) plan.Node {
	if c.env.Bodies == nil {
		return short
	}
	long := c.ofLong(p, func(w *compiler) plan.Node {
		node, err := w.uri(p, m, s)
		if err != nil {
			return never
		}
		return node
	})
	if len(s) > c.most {
		return long
	}
	return plan.Or{plan.And{short, plan.Not{Of: plan.Term{Param: p.At(Long)}}}, long}
}

// ofLong is the condition on resources with a cut text, compiled for whole texts.
func (c *compiler) ofLong(p *Param, compile func(*compiler) plan.Node) plan.Node {
	node := Simplify(compile(c.onBodies()))
	return plan.And{plan.Term{Param: p.At(Long)}, c.testBody(p.Code+" in the text itself", node)}
}

// testBody holds a condition that was compiled for whole texts against the body.
func (c *compiler) testBody(name string, node plan.Node) plan.Test {
	bodies := c.env.Bodies
	return plan.Test{Name: name, Holds: func(key plan.Key, body []byte) bool {
		meets, ok := plan.Meets(node, key.ID, bodies.Whole(key, body))
		return meets && ok
	}}
}

// onBodies compiles for entries that were read of a body.
func (c *compiler) onBodies() *compiler {
	env := c.env
	env.Bodies = nil
	return &compiler{env: env, most: maxInBody}
}

// whole reports whether the entries that are asked are of a body.
func (c *compiler) whole() bool { return c.most == maxInBody }

// maxInBody is more than a text in a search can have.
const maxInBody = MaxValueBytes * foldedMost

// Content holds when a resource's strings have these words (_content), where the
// registry has no entries of them.
type Content struct{ Words []WordsValue }

func (Content) cond() {}

// contentParam names the column of the words that were read of one body.
var contentParam = &Param{Code: "_content", Kind: KindWords}

func (p *parser) content(modifier string, pair Pair) (Cond, error) {
	if modifier != "" {
		return nil, invalid(pair, fmt.Sprintf("_content has no modifier :%s", modifier), "")
	}
	texts, err := alternatives(pair)
	if err != nil {
		return nil, err
	}
	var cond Content
	for _, text := range texts {
		v, wrong := parseWords(text)
		if wrong != "" {
			return nil, invalid(pair, fmt.Sprintf("%q %s", cut(text, maxSubjectBytes), wrong), "")
		}
		cond.Words = append(cond.Words, v)
	}
	return cond, nil
}

func (c *compiler) content(cond Content) (plan.Node, error) {
	bodies := c.env.Bodies
	if bodies == nil {
		return nil, fault.New(fault.NotSupported, "search.Compile", "_content: search in whole resources is not offered here")
	}
	any := plan.Or{}
	for _, v := range cond.Words {
		any = append(any, v.on(contentParam.At(Main)))
	}
	node := Simplify(any)
	return plan.Test{Name: "_content", Holds: func(key plan.Key, body []byte) bool {
		meets, ok := plan.Meets(node, key.ID, bodies.Words(key, body, contentParam))
		return meets && ok
	}}, nil
}

// within is a chain into what the resource contains itself (R4 3.1.1.5.5): a
// contained resource that the reference points to, of a type that may be
// searched, meets the condition. It leads on to those that stand beside, and not
// to resources outside.
func (c *compiler) within(cond Chained, hops ...Hop) plan.Node {
	if c.env.Bodies == nil {
		return never
	}
	any := plan.Or{}
	for _, on := range cond.To {
		if _, ok := c.env.Grant.Where(on.Type, Search); !ok {
			continue
		}
		hops := append(slices.Clone(hops), Hop{on.Type, cond.Param})
		if next, ok := on.Cond.(Chained); ok && !cond.Param.Inline && !next.Param.Inline {
			any = append(any, c.within(next, hops...))
		} else if node, err := c.onBodies().cond(on.Cond); err == nil && local(node) {
			any = append(any, c.inside(node, hops...))
		}
	}
	return any
}

// local reports whether entries alone can tell whether a condition holds.
func local(node plan.Node) bool {
	_, ok := plan.Meets(node, "", nil)
	return ok
}

// inside is the condition to contain a resource at the end of hops that meets node.
func (c *compiler) inside(node plan.Node, hops ...Hop) plan.Node {
	bodies, all := c.env.Bodies, plan.And{}
	for _, hop := range hops {
		if hop.Via != nil && hop.Via.Inline {
			all = append(all, present(hop.Via))
		} else {
			all = append(all, containedTerm(hop.Type))
		}
	}
	return append(all, plan.Test{Name: "contained", Holds: func(key plan.Key, body []byte) bool {
		return slices.ContainsFunc(bodies.Contained(key, body, hops...), func(r ContainedResource) bool {
			meets, ok := plan.Meets(node, r.ID, r.Entries)
			return meets && ok
		})
	}})
}

// containers are the arms of a search in contained resources: whatever contains
// one of the searched types that meets every clause. Under a grant a contained
// resource is its container's, and of a type that may be searched.
func (c *compiler) containers(q *Query) ([]plan.Arm, error) {
	inside, err := c.containedNodes(q)
	if err != nil {
		return nil, err
	}
	any := plan.Or{}
	for _, on := range inside {
		any = append(any, c.inside(on.Where, Hop{Type: on.Type}))
	}
	var arms []plan.Arm
	for _, t := range c.env.Registry.Types() {
		where := slices.Clone(any)
		if i := slices.Index(q.Types, t); i >= 0 && q.Contained == ContainedBoth {
			itself, err := c.all(q, i)
			if err != nil {
				return nil, err
			}
			where = append(where, plan.And{itself})
		}
		if arm, ok := c.env.Grant.Arm(t, where); ok {
			arms = append(arms, arm)
		}
	}
	return arms, nil
}

// containedNodes are what a contained resource of each searched type must meet.
func (c *compiler) containedNodes(q *Query) ([]plan.Arm, error) {
	if c.env.Bodies == nil {
		return nil, fault.New(fault.NotSupported, "search.Compile", "_contained: contained resources cannot be searched here")
	}
	var arms []plan.Arm
	inner := c.onBodies()
	for i, t := range q.Types {
		if _, ok := c.env.Grant.Where(t, Search); !ok {
			continue
		}
		node, err := inner.all(q, i)
		if err != nil {
			return nil, err
		}
		if !local(node) {
			return nil, &fault.Error{Kind: fault.NotSupported, Op: "search.Compile", Subject: "_contained=" + q.Contained.String(),
				Detail: "chains, _has, _list, _lastUpdated and the like do not look into contained resources"}
		}
		arms = append(arms, plan.Arm{Type: t, Where: node})
	}
	return arms, nil
}

// Within gives the contained resources of one match of a search in contained
// resources, with their types.
func (q *Query) Within(env Env, key plan.Key, body []byte) ([]plan.Type, []ContainedResource, error) {
	nodes, err := (&compiler{env: env, most: MaxTextBytes}).containedNodes(q)
	if err != nil {
		return nil, nil, err
	}
	var types []plan.Type
	var found []ContainedResource
	for _, on := range nodes {
		for _, r := range env.Bodies.Contained(key, body, Hop{Type: on.Type}) {
			if meets, ok := plan.Meets(on.Where, r.ID, r.Entries); meets && ok {
				types, found = append(types, on.Type), append(found, r)
			}
		}
	}
	return types, found, nil
}

// Themselves narrows a query to the matches among keys that are not contained.
func (q *Query) Themselves(env Env, keys []plan.Key) ([]plan.Arm, error) {
	arms, err := (&compiler{env: env, most: MaxTextBytes}).matches(q)
	if err != nil {
		return nil, err
	}
	var narrowed []plan.Arm
	for _, arm := range arms {
		var ids []string
		for _, key := range keys {
			if key.Type == arm.Type {
				ids = append(ids, key.ID)
			}
		}
		if len(ids) > 0 {
			narrowed = append(narrowed, plan.Arm{Type: arm.Type, Where: Simplify(plan.And{plan.IDs{IDs: ids}, arm.Where})})
		}
	}
	return narrowed, nil
}
