package interaction

import (
	"context"
	"fmt"

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
	out, err := s.Store.Commit(ctx, []store.Op{op})
	if failed, no := unmet(err); no && op.If[failed.Condition].Kind == store.Matches {
		return nil, notFound(typ, id)
	}
	if err != nil {
		return nil, matchFault(err)
	}
	if out[0].Version == 0 {
		return nil, notFound(typ, id)
	}
	return s.made(op, out[0]), nil
}

// deleteOp is the op that deletes. What a narrowing grant does not show fails
// its first condition, before any other could tell that it is there.
func (s *Session) deleteOp(key plan.Key, match Match) (store.Op, error) {
	where, err := s.granted(key.Type, search.Delete)
	if err == nil {
		err = s.changeable(key.Type)
	}
	if err != nil {
		return store.Op{}, err
	}
	op := store.Op{Kind: store.Delete, Key: key, Tag: tagDelete}
	if where != nil {
		mine := &plan.Plan{Arms: []plan.Arm{{Type: key.Type, Where: plan.And{plan.IDs{IDs: []string{key.ID}}, where}}}}
		op.If = append(op.If, store.Condition{Kind: store.Matches, Plan: mine, Keys: []plan.Key{key}})
	}
	op.If = append(op.If, match.conditions()...)
	return op, nil
}

// DeleteWhere is the conditional delete (R4 http.html#3.1.0.7.1) of the one
// resource that matches: none is fault.NotFound, several fault.MultipleMatches
// unless the store's Rules allow them; then the Version has no number.
func (s *Session) DeleteWhere(ctx context.Context, typ, criteria string, match Match) (*Version, error) {
	t, err := s.typ(typ)
	if err != nil {
		return nil, err
	}
	if err := s.changeable(t); err != nil {
		return nil, err
	}
	where, err := s.criteria(ctx, t, criteria)
	if err != nil {
		return nil, err
	}
	attempt := s.deleteMatch
	if s.Rules.MultipleDelete {
		attempt = s.deleteMatches
	}
	for range maxRaces {
		v, err := attempt(ctx, where, match)
		if id, named := namedID(criteria); named && fault.Is(err, fault.NotFound) {
			return s.missed(ctx, plan.Key{Type: t, ID: id})
		}
		if _, again := unmet(err); !again {
			return v, err
		}
	}
	return nil, raced()
}

// missed is what a conditional delete by _id answers when nothing matches, as
// HealthLake does: nothing to do for what is deleted already, a conflict for
// what does not meet the other criteria.
func (s *Session) missed(ctx context.Context, key plan.Key) (*Version, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	rec, ok, err := s.current(ctx, view, key, search.Delete)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, noneMatch()
	case !rec.Deleted:
		return nil, &fault.Error{Kind: fault.Conflict, Op: "interaction.missed", Subject: "_id", Detail: "the resource does not meet the other criteria"}
	}
	return s.version(rec), nil
}

// deleteMatch is one attempt: *store.Unmet when the match changed meanwhile.
func (s *Session) deleteMatch(ctx context.Context, where *plan.Plan, match Match) (*Version, error) {
	found, err := s.matches(ctx, where)
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, noneMatch()
	case len(found) > 1:
		return nil, manyMatch()
	}
	op, err := s.deleteOp(found[0], match)
	if err != nil {
		return nil, err
	}
	op.If = append([]store.Condition{{Kind: store.Matches, Plan: where, Keys: found}}, op.If...)
	v, err := s.commitHeld(ctx, op, nil, nil)
	failed, no := unmet(err)
	switch {
	case !no || failed.Condition == 0:
		return v, err
	case op.If[failed.Condition].Kind == store.Matches: // the grant's
		return nil, noneMatch()
	}
	return nil, matchFault(err)
}

// deleteMatches is one attempt to delete everything that matches, in one commit:
// *store.Unmet when one of them changed meanwhile.
func (s *Session) deleteMatches(ctx context.Context, where *plan.Plan, match Match) (*Version, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	all := *where
	all.Limit, all.Total, all.Sort, all.After = MaxDeletes+1, plan.TotalNone, nil, nil
	page, err := view.Search(ctx, &all)
	switch {
	case err != nil:
		return nil, err
	case len(page.Records) <= 1:
		return s.deleteMatch(ctx, where, match)
	case match != (Match{}):
		return nil, manyMatch() // a version is one resource's
	case len(page.Records) > MaxDeletes:
		return nil, &fault.Error{Kind: fault.TooCostly, Op: "interaction.deleteMatches",
			Detail: fmt.Sprintf("the criteria match more than %d resources", MaxDeletes), Hint: "narrow them"}
	}
	ops := make([]store.Op, len(page.Records))
	for i, rec := range page.Records {
		// What the grant does not show is not among the matches, and the version
		// that was looked at is the one that goes.
		if ops[i], err = s.deleteOp(rec.Key, Match{Version: rec.Version}); err != nil {
			return nil, err
		}
	}
	out, err := s.Store.Commit(ctx, ops)
	if failed, no := unmet(err); no && ops[failed.Op].If[failed.Condition].Kind == store.Matches {
		return nil, noneMatch() // found, and not to be deleted by this grant
	}
	if err != nil {
		return nil, err
	}
	for i, op := range ops {
		s.made(op, out[i])
	}
	return &Version{Type: s.Registry.Name(page.Records[0].Key.Type), Deleted: true, Changed: true}, nil
}

func noneMatch() error {
	return &fault.Error{Kind: fault.NotFound, Op: "interaction", Detail: "no resource matches the criteria"}
}
