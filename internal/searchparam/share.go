package searchparam

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
)

// Many parameters of R4 say what others of the same type say. Their entries are
// kept once. Which parameter keeps them follows from the tables alone (the one
// with the lowest number), and is part of what a data store's index means:
// R4's definitions are frozen, so it does not change.

// shareEntries finds, for each base type, parameters whose entries others hold.
func (r *Registry) shareEntries() {
	bases := map[string][]*r4.SearchParam{}
	for _, p := range r4.AllParams() {
		if kind := r.params[p].Kind; kind != search.KindSpecial && kind != search.KindWords && !storeParams[p.Code] {
			bases[p.Base] = append(bases[p.Base], p)
		}
	}
	for _, params := range bases {
		for _, p := range params {
			r.share(p, params)
		}
	}
}

// share settles one parameter against those of its base, which stand in order
// of their numbers.
func (r *Registry) share(p *r4.SearchParam, params []*r4.SearchParam) {
	param := r.params[p]
	for _, q := range params {
		if q == p || q.Type != p.Type || r.params[q].Union != nil {
			continue
		}
		if q.Number < p.Number && r.params[q].Of == nil && r.says(q) == r.says(p) {
			param.Of = r.params[q]
			return
		}
	}
	if param.Union = r.union(p, params); param.Union != nil {
		return
	}
	for _, q := range params {
		if q.Type == r4.ParamReference && p.Type == r4.ParamReference && r.params[q].Of == nil && narrows(p, q) {
			param.Of, param.OfMain = r.params[q], true
			return
		}
	}
}

// says is all that decides a parameter's entries: its expression, those of its
// components, and the types of resources that stand there themselves.
func (r *Registry) says(p *r4.SearchParam) string {
	parts := []string{p.Expression}
	if r.params[p].Inline {
		parts = append(parts, fmt.Sprint(p.Targets))
	}
	for _, c := range p.Components {
		parts = append(parts, c.Expression, c.Param.Type.String())
	}
	return strings.Join(parts, "\x00")
}

// union finds parameters whose alternatives together are p's.
func (r *Registry) union(p *r4.SearchParam, params []*r4.SearchParam) []*search.Param {
	wanted := alternatives(p.Expression)
	if len(wanted) < 2 || p.Type == r4.ParamReference {
		return nil // references are joined by one column
	}
	covered := map[string]bool{}
	var parts []*search.Param
	for _, q := range params {
		if q == p || q.Type != p.Type || r.params[q].Of != nil || r.params[q].Union != nil || !sameComponents(p, q) {
			continue
		}
		offered := alternatives(q.Expression)
		if len(offered) >= len(wanted) || !subset(offered, wanted) || covered[offered[0]] {
			continue
		}
		for _, alternative := range offered {
			covered[alternative] = true
		}
		parts = append(parts, r.params[q])
	}
	if len(covered) != len(wanted) {
		return nil
	}
	return parts
}

func alternatives(expression string) []string {
	parts := splitTop(expression, '|')
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func subset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// sameComponents reports whether the components of composites take the same.
func sameComponents(p, q *r4.SearchParam) bool {
	return slices.EqualFunc(p.Components, q.Components, func(a, b r4.Component) bool {
		return a.Expression == b.Expression && a.Param.Type == b.Param.Type
	})
}

// narrows reports whether p is q restricted to references of one type
// (Observation.patient is Observation.subject to a Patient). Package search asks
// q's entries for resources of that type only.
func narrows(p, q *r4.SearchParam) bool {
	head, _, ok := strings.Cut(p.Expression, ".where(resolve() is ")
	return ok && len(p.Targets) == 1 && !strings.Contains(p.Expression, " | ") && q.Expression == head
}

// ownEntries reports whether a parameter has any entries of its own.
func ownEntries(p *search.Param) bool { return p.Union == nil && (p.Of == nil || p.OfMain) }
