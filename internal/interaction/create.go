package interaction

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Create stores a new resource under an id of the server's (R4
// http.html#create); an id in the body is not looked at. With ifNoneExist, the
// criteria of a conditional create, it makes nothing where one resource matches
// and gives that one, Changed false; several are fault.MultipleMatches.
func (s *Session) Create(ctx context.Context, typ string, body []byte, ifNoneExist string) (*Version, error) {
	t, err := s.typ(typ)
	if err != nil {
		return nil, err
	}
	if err := s.mayMake(t, search.Create); err != nil {
		return nil, err
	}
	doc, err := s.parse(body, typ)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	id, err := s.NewID()
	if err != nil {
		return nil, err
	}
	op, err := s.put(plan.Key{Type: t, ID: id}, doc, tagCreate, store.Condition{Kind: store.Never})
	if err != nil {
		return nil, err
	}
	if ifNoneExist == "" {
		return s.commitOne(ctx, op)
	}
	return s.createUnless(ctx, op, ifNoneExist)
}

func (s *Session) createUnless(ctx context.Context, op store.Op, criteria string) (*Version, error) {
	none, err := s.criteria(op.Key.Type, criteria)
	if err != nil {
		return nil, err
	}
	op.If = append(op.If, store.Condition{Kind: store.Matches, Plan: none})
	for range maxRaces {
		v, err := s.commitOne(ctx, op)
		failed, ok := unmet(err)
		if !ok {
			return v, err
		}
		if len(failed.Matched) > 1 {
			return nil, manyMatch()
		}
		if len(failed.Matched) == 1 {
			found, err := s.existing(ctx, failed.Matched[0])
			if err == nil || !fault.Is(err, fault.Gone) {
				return found, err
			}
		}
	}
	return nil, raced()
}

// existing is what a conditional create found.
func (s *Session) existing(ctx context.Context, key plan.Key) (*Version, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	return s.readIn(ctx, view, key)
}

func manyMatch() error {
	return &fault.Error{Kind: fault.MultipleMatches, Op: "interaction", Hint: "make the criteria more selective"}
}

// criteria compiles the criteria of a conditional interaction: unknown
// parameters and empty criteria are refused, whatever handling asks for.
func (s *Session) criteria(t plan.Type, query string) (*plan.Plan, error) {
	pairs, err := search.ParsePairs(query)
	if err != nil {
		return nil, err
	}
	q, err := search.Parse(s.Registry, []plan.Type{t}, pairs, search.Options{Conditional: true, Base: s.Base + "/"})
	if err != nil {
		return nil, err
	}
	return q.Compile(s.env())
}

func (s *Session) env() search.Env {
	return search.Env{Registry: s.Registry, Key: s.Store.HashKey(), Grant: s.Grant, Now: s.Clock()}
}
