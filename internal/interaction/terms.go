package interaction

import (
	"context"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/terminology"
)

// env is what queries are compiled under; value sets, code systems and what
// canonicals lead to are looked up in the view, nil: in the newest there is when
// they are asked for.
func (s *Session) env(ctx context.Context, view store.View) search.Env {
	env := s.plainEnv()
	env.Terms = terminology.New(codeBook{ctx, s, view})
	env.Canonicals = canonicals{ctx, s, view}
	return env
}

// plainEnv is for queries of our own, which ask no terminology and no canonicals.
func (s *Session) plainEnv() search.Env {
	return search.Env{Registry: s.Registry, Key: s.Store.HashKey(), Grant: s.Grant, Now: s.Clock(), Refuse: s.Unsearchable, Bodies: s.Extractor}
}

// codeBook is the value sets and code systems stored in a data store, as far
// as the grant shows them: a terminology.Source.
type codeBook struct {
	ctx  context.Context // of the one request that the Source is made for
	s    *Session
	view store.View // nil: now
}

// Find implements terminology.Source. Of several resources with the same URL the
// one that changed last is taken.
func (d codeBook) Find(resourceType, canonical string) ([]byte, error) {
	t, ok := d.s.Registry.Type(resourceType)
	if _, err := d.s.granted(t, search.Search); !ok || err != nil {
		return nil, nil // what is not shown is not there
	}
	view := d.view
	if view == nil {
		var err error
		if view, err = d.s.Store.View(d.ctx, ""); err != nil {
			return nil, err
		}
		defer view.Close()
	}
	p, err := d.plan(t, resourceType, canonical)
	if err != nil {
		return nil, err
	}
	page, err := view.Search(d.ctx, p)
	if err != nil || len(page.Records) == 0 {
		return nil, err
	}
	return d.s.version(page.Records[0]).Resource(), nil
}

// plan finds a definition by canonical, or by its reference in this data store.
func (d codeBook) plan(t plan.Type, resourceType, canonical string) (*plan.Plan, error) {
	pairs := []search.Pair{{Name: "_sort", Value: "-_lastUpdated"}, {Name: "_count", Value: "1"}, {Name: "_total", Value: "none"}}
	id := strings.TrimPrefix(strings.TrimPrefix(canonical, d.s.Base+"/"), resourceType+"/")
	if id != canonical && fhir.ValidID(id) {
		pairs = append(pairs, search.Pair{Name: "_id", Value: id})
	} else {
		url, version, _ := strings.Cut(canonical, "|")
		pairs = append(pairs, search.Pair{Name: "url", Value: searchEscape.Replace(url)})
		if version != "" {
			pairs = append(pairs, search.Pair{Name: "version", Value: searchEscape.Replace(version)})
		}
	}
	q, err := search.Parse(d.s.Registry, []plan.Type{t}, pairs, search.Options{Base: d.s.Base + "/"})
	if err != nil {
		return nil, err
	}
	return q.Compile(d.s.plainEnv())
}
