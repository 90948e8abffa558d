package interaction

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Bounds of includes: how many resources one page may include, and how many
// rounds :iterate goes.
const (
	maxIncluded = 10_000
	maxRounds   = 16
)

// include finds what _include and _revinclude ask for, in the same view and
// under the same grant as the matches (R4 search.html#revinclude). A resource
// stands in the answer once, and so does each version of it.
func (s *Session) include(ctx context.Context, view store.View, q *search.Query, matches []store.Record) ([]store.Record, error) {
	if len(q.Includes) == 0 {
		return nil, nil
	}
	in := &inclusion{s, ctx, view, map[plan.Key]bool{}, map[pinned]bool{}}
	for _, rec := range matches {
		in.fresh(rec)
	}
	var included []store.Record
	from := matches
	for round := 0; len(from) > 0 && round < maxRounds; round++ {
		var found []store.Record
		for _, inc := range q.Includes {
			if round > 0 && !inc.Iterate {
				continue
			}
			more, err := in.hop(inc, from)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
		included = append(included, found...)
		if len(included) > maxIncluded {
			return nil, &fault.Error{Kind: fault.TooCostly, Op: "interaction.include", Subject: "_include",
				Detail: "one page would include too many resources", Hint: "ask for a smaller _count"}
		}
		from = found
	}
	return included, nil
}

// inclusion is what one page draws in.
type inclusion struct {
	*Session
	ctx      context.Context // of the one request that it is made for
	view     store.View
	current  map[plan.Key]bool // resources that stand in the answer as they are
	versions map[pinned]bool   // versions that stand in the answer
}

// pinned is one version of a resource.
type pinned struct {
	key     plan.Key
	version uint64
}

// fresh notes a current version, and reports whether it is new to the answer.
func (in *inclusion) fresh(rec store.Record) bool {
	in.current[rec.Key] = true
	return in.freshVersion(rec)
}

func (in *inclusion) freshVersion(rec store.Record) bool {
	is := pinned{rec.Key, rec.Version}
	known := in.versions[is]
	in.versions[is] = true
	return !known
}

// hop runs one include over the resources of one round.
func (in *inclusion) hop(inc search.Include, from []store.Record) ([]store.Record, error) {
	ask := in.forward
	if inc.Reverse {
		ask = in.reverse
	}
	found, plans, err := ask(inc, from)
	if err != nil {
		return nil, err
	}
	for _, p := range plans {
		p.Limit, p.Work = maxIncluded+1, in.Limits.rows()
		page, err := in.view.Search(in.ctx, p)
		if err != nil {
			return nil, err
		}
		for _, rec := range page.Records {
			if in.fresh(rec) {
				found = append(found, rec)
			}
		}
	}
	return found, nil
}

// forward asks for the resources that those of from point to: by id, for
// canonicals by url, and where a version is named gives that version.
func (in *inclusion) forward(inc search.Include, from []store.Record) (found []store.Record, plans []*plan.Plan, err error) {
	ids, urls := map[plan.Key]bool{}, map[search.CanonicalURL]bool{}
	for _, rec := range from {
		if inc.Source != 0 && rec.Key.Type != inc.Source {
			continue
		}
		targets, err := in.pointsTo(rec, inc.Param)
		if err != nil {
			return nil, nil, err
		}
		for _, to := range targets {
			if c, ok := to.Canonical(); ok {
				urls[c] = true
			}
			if to.Key.ID == "" || inc.Target != 0 && to.Key.Type != inc.Target {
				continue
			}
			version, ok, err := in.versioned(to)
			switch {
			case err != nil:
				return nil, nil, err
			case !ok:
				ids[to.Key] = !in.current[to.Key]
			case in.freshVersion(version):
				found = append(found, version)
			}
		}
	}
	maps.DeleteFunc(ids, func(_ plan.Key, wanted bool) bool { return !wanted })
	return found, append(in.byIDs(ids), in.byURLs(inc, urls)...), nil
}

// versioned is the version that a reference names (R4 search.html#include: "the
// server SHOULD return that version"); false when it names none, or one that is
// not at hand or not for whoever asks: then the current one is meant.
func (in *inclusion) versioned(to search.Target) (store.Record, bool, error) {
	number, ok := parseVersion(to.Version)
	if !ok || in.Forbids != nil && in.Forbids(actionVread) != nil {
		return store.Record{}, false, nil
	}
	if _, allowed := in.Grant.Where(to.Key.Type, search.Search); !allowed {
		return store.Record{}, false, nil
	}
	rec, ok, err := in.shown(in.ctx, in.view, to.Key, search.Read, func() (store.Record, error) {
		return in.view.GetVersion(in.ctx, to.Key, number)
	})
	return rec, ok && !rec.Deleted, err
}

// byIDs is one plan for all of these keys, narrowed by the grant.
func (s *Session) byIDs(keys map[plan.Key]bool) []*plan.Plan {
	ids := map[plan.Type][]string{}
	for key := range keys {
		ids[key.Type] = append(ids[key.Type], key.ID)
	}
	p := &plan.Plan{}
	for t, list := range ids {
		slices.Sort(list)
		if arm, ok := s.Grant.Arm(t, plan.IDs{IDs: list}); ok {
			p.Arms = append(p.Arms, arm)
		}
	}
	if len(p.Arms) == 0 {
		return nil
	}
	slices.SortFunc(p.Arms, func(a, b plan.Arm) int { return int(a.Type) - int(b.Type) })
	return []*plan.Plan{p}
}

// byURLs are the plans for what canonicals name: resources that have a url, of
// the types the parameter may point to.
func (s *Session) byURLs(inc search.Include, urls map[search.CanonicalURL]bool) []*plan.Plan {
	if len(urls) == 0 {
		return nil
	}
	refs := slices.SortedFunc(maps.Keys(urls), func(a, b search.CanonicalURL) int {
		return cmp.Or(strings.Compare(a.URL, b.URL), strings.Compare(a.Version, b.Version))
	})
	var plans []*plan.Plan
	for _, t := range s.canonicalTargets(inc) {
		if arm, ok := s.Grant.Arm(t, search.Named(s.Registry, s.Store.HashKey(), t, refs)); ok {
			plans = append(plans, &plan.Plan{Arms: []plan.Arm{arm}})
		}
	}
	return plans
}

// searchEscape protects what separates values (R4 search.html#escaping).
var searchEscape = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `$`, `\$`, `|`, `\|`)

// canonicalTargets are the types with a url that an include may reach.
func (s *Session) canonicalTargets(inc search.Include) []plan.Type {
	targets := s.Registry.Types()
	switch {
	case inc.Target != 0:
		targets = []plan.Type{inc.Target}
	case inc.Param != nil && len(inc.Param.Targets) > 0:
		targets = inc.Param.Targets
	}
	return slices.DeleteFunc(slices.Clone(targets), func(t plan.Type) bool { return !search.HasURL(s.Registry, t) })
}

// pointsTo lists what a parameter of a resource refers to, without a parameter
// what every reference parameter does.
func (s *Session) pointsTo(rec store.Record, p *search.Param) ([]search.Target, error) {
	doc, err := fhir.ParseStored(fhir.StoredJSON(rec.Body))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.pointsTo", err)
	}
	defer doc.Release()
	return s.Extractor.Pointed(rec.Key.Type, p, doc.Root()), nil
}

// reverse asks for the resources that point to those of from.
func (in *inclusion) reverse(inc search.Include, from []store.Record) ([]store.Record, []*plan.Plan, error) {
	arms, err := in.reverseArms(inc, from)
	if len(arms) == 0 || err != nil {
		return nil, nil, err
	}
	return nil, []*plan.Plan{{Arms: arms}}, nil
}

// reverseArms are the resources that point to those of from, by id or by canonical.
func (in *inclusion) reverseArms(inc search.Include, from []store.Record) ([]plan.Arm, error) {
	var keys []plan.Key
	var urls []search.CanonicalURL
	for _, rec := range from {
		if inc.Target != 0 && rec.Key.Type != inc.Target {
			continue
		}
		keys = append(keys, rec.Key)
		c, ok, err := in.canonicalOf(rec)
		if err != nil {
			return nil, err
		}
		if ok {
			urls = append(urls, c)
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	var arms []plan.Arm
	for _, t := range in.Registry.Types() {
		if inc.Source != 0 && t != inc.Source {
			continue
		}
		params := in.references(t, inc.Param)
		if len(params) == 0 {
			continue
		}
		any := plan.Or{search.PointingTo(in.Store.HashKey(), params, keys)}
		for _, p := range params {
			if p.Canonical && len(urls) > 0 {
				any = append(any, search.Naming(in.Store.HashKey(), p, in.Extractor, urls))
			}
		}
		if arm, ok := in.Grant.Arm(t, search.Simplify(any)); ok {
			arms = append(arms, arm)
		}
	}
	return arms, nil
}

// references is the one parameter, or every reference parameter of the type.
func (s *Session) references(t plan.Type, one *search.Param) []*search.Param {
	if one != nil {
		return []*search.Param{one}
	}
	var all []*search.Param
	for _, code := range s.Registry.Codes(t) {
		if p, ok := s.Registry.Param(t, code); ok && p.Kind == search.KindReference {
			all = append(all, p)
		}
	}
	return all
}
