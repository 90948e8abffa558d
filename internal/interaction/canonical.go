package interaction

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

var nameVersion = fhir.Intern("version")

// canonicals are the resources of a data store that have a url, and those that
// name them, as far as the arms show them: a search.Canonicals.
type canonicals struct {
	ctx  context.Context // of the one request that it is made for
	s    *Session
	view store.View // nil: now
}

// Of implements search.Canonicals.
func (c canonicals) Of(arms []plan.Arm) ([]search.CanonicalURL, error) {
	var all []search.CanonicalURL
	err := c.each(arms, "chain", func(rec store.Record) error {
		is, ok, err := c.s.canonicalOf(rec)
		if ok {
			all = append(all, is)
		}
		return err
	})
	return all, err
}

// NamedBy implements search.Canonicals.
func (c canonicals) NamedBy(arms []plan.Arm, p *search.Param) ([]search.CanonicalURL, error) {
	var all []search.CanonicalURL
	seen := map[search.CanonicalURL]bool{}
	err := c.each(arms, "_has", func(rec store.Record) error {
		for _, ref := range c.s.Extractor.Names(rec.Key, rec.Body, p) {
			if !seen[ref] {
				seen[ref] = true
				all = append(all, ref)
			}
		}
		return nil
	})
	return all, err
}

// each goes through the resources that arms describe.
func (c canonicals) each(arms []plan.Arm, what string, do func(store.Record) error) error {
	view := c.view
	if view == nil {
		var err error
		if view, err = c.s.Store.View(c.ctx, ""); err != nil {
			return err
		}
		defer view.Close()
	}
	page, err := view.Search(c.ctx, &plan.Plan{Arms: arms, Limit: search.MaxCanonicals + 1, Work: c.s.Limits.rows()})
	if err != nil {
		return err
	}
	if len(page.Records) > search.MaxCanonicals {
		return search.TooManyCanonicals(what)
	}
	for _, rec := range page.Records {
		if err := do(rec); err != nil {
			return err
		}
	}
	return nil
}

// canonicalOf is the url and version of a resource; false without url.
func (s *Session) canonicalOf(rec store.Record) (search.CanonicalURL, bool, error) {
	if !search.HasURL(s.Registry, rec.Key.Type) {
		return search.CanonicalURL{}, false, nil
	}
	doc, err := fhir.ParseStored(fhir.StoredJSON(rec.Body))
	if err != nil {
		return search.CanonicalURL{}, false, fault.Wrap(fault.Internal, "interaction.canonicalOf", err)
	}
	defer doc.Release()
	is := search.CanonicalURL{URL: doc.Root().GetName(nameURL).Text(), Version: doc.Root().GetName(nameVersion).Text()}
	return is, is.URL != "", nil
}
