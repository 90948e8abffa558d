package interaction

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// match is what a search found: a resource, or with an id a resource that is
// contained in it.
type match struct {
	container *store.Record // of the page
	typ       plan.Type
	id        string
	json      []byte
}

// matched are the matches of a page. With _containedType=contained each container
// gives way to what it contains (R4 search.html#contained); how many there are in
// all is then known only where they are all on the page.
func (s *Session) matched(ctx context.Context, view store.View, q *search.Query, token pageToken, page *store.Page) ([]match, error) {
	alone := q.Contained != search.ContainedFalse && q.ContainedAlone
	var themselves map[plan.Key]bool
	if alone && q.Contained == search.ContainedBoth {
		var err error
		if themselves, err = s.themselves(ctx, view, q, page.Records); err != nil {
			return nil, err
		}
	}
	all := make([]match, 0, len(page.Records))
	for i := range page.Records {
		rec := &page.Records[i]
		if !alone || themselves[rec.Key] {
			all = append(all, match{container: rec})
		}
		if !alone {
			continue
		}
		types, found, err := q.Within(s.env(ctx, view), rec.Key, rec.Body)
		if err != nil {
			return nil, err
		}
		for i, r := range found {
			all = append(all, match{rec, types[i], r.ID, r.JSON})
		}
	}
	if alone && page.Total >= 0 {
		if page.Total = -1; token.After == nil && page.Next == nil && q.Count > 0 {
			page.Total = int64(len(all))
		}
	}
	return all, nil
}

// themselves are those of a page that match by what they say outside of their
// contained resources.
func (s *Session) themselves(ctx context.Context, view store.View, q *search.Query, records []store.Record) (map[plan.Key]bool, error) {
	keys := make([]plan.Key, len(records))
	for i, rec := range records {
		keys[i] = rec.Key
	}
	arms, err := q.Themselves(s.env(ctx, view), keys)
	if err != nil {
		return nil, err
	}
	page, err := view.Search(ctx, &plan.Plan{Arms: arms, Limit: len(keys) + 1, Work: s.Limits.rows()})
	found := map[plan.Key]bool{}
	for _, rec := range page.Records {
		found[rec.Key] = true
	}
	return found, err
}
