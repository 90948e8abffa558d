// Package oracle says what a search means, slowly and by other means: a Query
// evaluated over the JSON of resources. It is for differential tests.
//
//	World      resources → those that a Query finds     oracle.go
//	path       FHIRPath expression over JSON            path.go
//	value      a parameter's value on an element        value.go
//	Questions  random queries that often find something questions.go
//
// It shares the reading of the query (package search's Query) and R4's tables,
// but neither extraction nor entries nor plan, and is written to be obviously
// right: no index, no cleverness, every rule as R4's text has it.
//
//	w := oracle.NewWorld(registry, base, resources)
//	keys := w.Find(query, now)
package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Resource is a current resource.
type Resource struct {
	Key              plan.Key
	JSON             []byte
	Updated, Created time.Time
}

// World is the current resources of a store.
type World struct {
	reg  search.Registry
	base string // the store's own, with a slash at the end
	all  []*resource
}

type resource struct {
	Resource
	root object
}

// object and array are JSON as encoding/json gives it, with numbers as text.
type (
	object = map[string]any
	array  = []any
)

// NewWorld reads resources. It fails on text that is no JSON object.
func NewWorld(reg search.Registry, base string, resources []Resource) (*World, error) {
	w := &World{reg: reg, base: base}
	for _, r := range resources {
		d := json.NewDecoder(bytes.NewReader(r.JSON))
		d.UseNumber()
		read := &resource{Resource: r}
		if err := d.Decode(&read.root); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", reg.Name(r.Key.Type), r.Key.ID, err)
		}
		w.all = append(w.all, read)
	}
	return w, nil
}

// Find gives the resources that the query means, in the World's order. now is
// what ap compares dates with.
func (w *World) Find(q *search.Query, now time.Time) []plan.Key {
	a := asker{w, now}
	var found []plan.Key
	for _, r := range w.all {
		if a.matches(q, r) {
			found = append(found, r.Key)
		}
	}
	return found
}

// asker evaluates at a moment.
type asker struct {
	*World
	now time.Time
}

func (a asker) matches(q *search.Query, r *resource) bool {
	if !slices.Contains(q.Types, r.Key.Type) || q.In != nil && !a.inCompartment(q.In.Of, r) {
		return false
	}
	for _, clause := range q.Clauses {
		if !a.any(clause.On, r) {
			return false
		}
	}
	return true
}

// any reports whether a resource meets the condition on its type.
func (a asker) any(ons []search.On, r *resource) bool {
	return slices.ContainsFunc(ons, func(on search.On) bool { return on.Type == r.Key.Type && a.holds(on.Cond, r) })
}

func (a asker) inCompartment(of plan.Key, r *resource) bool {
	params, self := a.reg.Compartment(of.Type, r.Key.Type)
	if self && r.Key.ID == of.ID {
		return true
	}
	return slices.ContainsFunc(params, func(p *search.Param) bool { return slices.Contains(a.targets(r, p), of) })
}

func (a asker) holds(cond search.Cond, r *resource) bool {
	switch cond := cond.(type) {
	case search.Match:
		return a.match(cond, r)
	case search.Missing:
		return a.present(r, cond.Param) == cond.Not
	case search.Chained:
		var keys []plan.Key
		if !cond.Param.Inline {
			keys = a.targets(r, cond.Param)
		}
		return slices.ContainsFunc(a.all, func(to *resource) bool { return slices.Contains(keys, to.Key) && a.any(cond.To, to) }) ||
			slices.ContainsFunc(a.inside(r, cond.Param), func(to *resource) bool {
				return slices.ContainsFunc(cond.To, func(on search.On) bool {
					return on.Type == to.Key.Type && staysInside(on.Cond) && a.holds(on.Cond, to)
				})
			})
	case search.Having:
		return slices.ContainsFunc(a.all, func(from *resource) bool {
			return a.any([]search.On{cond.From}, from) && slices.Contains(a.targets(from, cond.Param), r.Key)
		})
	case search.ByID:
		return slices.Contains(cond.IDs, r.Key.ID) != cond.Not
	case search.ByTime:
		at := r.Updated
		if cond.Created {
			at = r.Created
		}
		return slices.ContainsFunc(cond.Values, func(v search.DateValue) bool { return instantMeets(at.UnixMilli(), v, a.now) })
	case search.AllOf:
		return !slices.ContainsFunc(cond, func(c search.Cond) bool { return !a.holds(c, r) })
	case search.AnyOf:
		return slices.ContainsFunc(cond, func(c search.Cond) bool { return a.holds(c, r) })
	case search.Not:
		return !a.holds(cond.Of, r)
	}
	return false // search.Never
}

// definition is a parameter as R4 defines it for a type.
func definition(t plan.Type, p *search.Param) *r4.SearchParam {
	d, ok := r4.Param(t, p.Code)
	if !ok {
		panic("oracle: the registry knows " + p.Code + ", R4 does not")
	}
	return d
}

// values are what a parameter looks at in a resource.
func (a asker) values(r *resource, p *search.Param) []value {
	all := evaluate(r.root, definition(r.Key.Type, p).Expression, value{r.root, a.reg.Name(r.Key.Type)})
	return slices.DeleteFunc(all, func(v value) bool { // a resource that stands there is of a type that is meant
		o, _ := v.json.(object)
		t, known := a.reg.Type(str(o, "resourceType"))
		return v.typ == "Resource" && (!known || !slices.Contains(p.Targets, t))
	})
}

// present reports whether a parameter has a value.
func (a asker) present(r *resource, p *search.Param) bool {
	for _, v := range a.values(r, p) {
		switch p.Kind {
		case search.KindURI:
			if text(v.json) != "" {
				return true
			}
		case search.KindComposite:
			if a.whole(r, p, v) {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// whole reports whether an item of a composite has something for each part.
func (a asker) whole(r *resource, p *search.Param, item value) bool {
	for i, component := range definition(r.Key.Type, p).Components {
		some := slices.ContainsFunc(evaluate(r.root, component.Expression, item), func(v value) bool {
			return a.searchable(p.Components[i].Kind, v)
		})
		if !some {
			return false
		}
	}
	return true
}

// targets are the resources of this store that a reference parameter points to.
func (a asker) targets(r *resource, p *search.Param) []plan.Key {
	var keys []plan.Key
	for _, v := range a.values(r, p) {
		if to := a.pointer(v); to.key.ID != "" {
			keys = append(keys, to.key)
		}
	}
	return keys
}

// inside are the contained resources that a reference points to.
func (a asker) inside(r *resource, p *search.Param) []*resource {
	var found []*resource
	for _, v := range a.values(r, p) {
		o, _ := v.json.(object)
		id, ok := strings.CutPrefix(str(o, "reference"), "#")
		if v.typ == "Resource" {
			t, _ := a.reg.Type(str(o, "resourceType"))
			found = append(found, &resource{Resource{Key: plan.Key{Type: t, ID: str(o, "id")}}, o})
			continue
		}
		if !ok {
			continue
		}
		contained, _ := r.root["contained"].(array)
		for _, c := range contained {
			o, _ := c.(object)
			if t, known := a.reg.Type(str(o, "resourceType")); known && str(o, "id") == id {
				found = append(found, &resource{Resource{Key: plan.Key{Type: t, ID: id}}, o})
			}
		}
	}
	return found
}

// staysInside reports a condition that leads to no other resource.
func staysInside(cond search.Cond) bool {
	switch cond := cond.(type) {
	case search.Chained, search.Having, search.ByTime:
		return false
	case search.AllOf:
		return !slices.ContainsFunc(cond, func(c search.Cond) bool { return !staysInside(c) })
	case search.AnyOf:
		return !slices.ContainsFunc(cond, func(c search.Cond) bool { return !staysInside(c) })
	case search.Not:
		return staysInside(cond.Of)
	}
	return true
}

func (a asker) match(m search.Match, r *resource) bool {
	values := a.values(r, m.Param)
	found := slices.ContainsFunc(m.Values, func(wanted search.Value) bool {
		return slices.ContainsFunc(values, func(v value) bool { return a.meets(r, m.Param, m.Modifier, v, wanted) }) ||
			impliedSystem(m, wanted) && a.present(r, m.Param)
	})
	return found != (m.Modifier == search.ModNot)
}

// impliedSystem: "system|" of a parameter whose codes all are of that system.
func impliedSystem(m search.Match, wanted search.Value) bool {
	v, ok := wanted.(search.TokenValue)
	return ok && !v.Any && v.Code == "" && (m.Modifier == search.Plain || m.Modifier == search.ModNot) &&
		m.Param.Implied != nil && m.Param.Implied(v.System, "")
}

// meets reports whether one element meets one wanted value.
func (a asker) meets(r *resource, p *search.Param, m search.Modifier, v value, wanted search.Value) bool {
	composite, ok := wanted.(search.CompositeValue)
	if !ok {
		return a.one(p, m, v, wanted)
	}
	for i, component := range definition(r.Key.Type, p).Components {
		some := slices.ContainsFunc(evaluate(r.root, component.Expression, v), func(part value) bool {
			return a.one(p.Components[i], search.Plain, part, composite[i])
		})
		if !some {
			return false
		}
	}
	return true
}
