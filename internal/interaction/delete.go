package interaction

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Delete makes a deletion marker (R4 http.html#delete). Of a resource that is
// deleted already it does nothing (Changed false); an id that never was is
// fault.NotFound, as in HealthLake.
func (s *Session) Delete(ctx context.Context, typ, id string, match Match) (*Version, error) {
	key, err := s.key(typ, id)
	if err != nil {
		return nil, err
	}
	op, err := s.deleteOp(key, match)
	if err != nil {
		return nil, err
	}
	v, err := s.commitOne(ctx, op)
	if failed, hidden := unmet(err); hidden && op.If[failed.Condition].Kind == store.Matches {
		return nil, notFound(typ, id)
	}
	if err != nil {
		return nil, matchFault(err)
	}
	if v.Number == 0 {
		return nil, notFound(typ, id)
	}
	return v, nil
}

func (s *Session) deleteOp(key plan.Key, match Match) (store.Op, error) {
	where, err := s.granted(key.Type, search.Delete)
	if err != nil {
		return store.Op{}, err
	}
	op := store.Op{Kind: store.Delete, Key: key, Tag: tagDelete, If: match.conditions()}
	if where != nil {
		mine := &plan.Plan{Arms: []plan.Arm{{Type: key.Type, Where: plan.And{plan.IDs{IDs: []string{key.ID}}, where}}}}
		op.If = append(op.If, store.Condition{Kind: store.Matches, Plan: mine, Keys: []plan.Key{key}})
	}
	return op, nil
}

// DeleteWhere is the conditional delete (R4 http.html#3.1.0.7.1) of the one
// resource that matches: none is fault.NotFound, several fault.MultipleMatches.
func (s *Session) DeleteWhere(ctx context.Context, typ, criteria string, match Match) (*Version, error) {
	t, err := s.typ(typ)
	if err != nil {
		return nil, err
	}
	where, err := s.criteria(t, criteria)
	if err != nil {
		return nil, err
	}
	for range maxRaces {
		v, err := s.deleteMatch(ctx, where, match)
		if failed, again := unmet(err); !again || failed.Condition < len(match.conditions()) {
			return v, matchFault(err)
		}
	}
	return nil, raced()
}

func (s *Session) deleteMatch(ctx context.Context, where *plan.Plan, match Match) (*Version, error) {
	found, err := s.matches(ctx, where)
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, &fault.Error{Kind: fault.NotFound, Op: "interaction.delete", Detail: "no resource matches the criteria"}
	case len(found) > 1:
		return nil, manyMatch()
	}
	op, err := s.deleteOp(found[0], match)
	if err != nil {
		return nil, err
	}
	op.If = append(op.If, store.Condition{Kind: store.Matches, Plan: where, Keys: found})
	return s.commitOne(ctx, op)
}
