package interaction

import (
	"context"
	"errors"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Update stores a resource under the client's id (R4 http.html#update): a new
// version, or the first (update-as-create, Created true).
func (s *Session) Update(ctx context.Context, typ, id string, body []byte, match Match) (*Version, error) {
	key, err := s.key(typ, id)
	if err != nil {
		return nil, err
	}
	if err := s.mayChange(key.Type); err != nil {
		return nil, err
	}
	doc, err := s.parse(body, typ)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	if err := checkID(doc, id); err != nil {
		return nil, err
	}
	op, issues, err := s.put(ctx, key, doc, tagUpdate, match.conditions()...)
	if err != nil {
		return nil, err
	}
	d := s.draft(op, doc.Root())
	for range maxRaces {
		guard, err := s.holdNow(ctx, d, search.Update)
		if err != nil {
			return nil, err
		}
		v, err := s.commitHeld(ctx, op, issues, guard)
		if !errors.Is(err, errMoved) {
			return v, matchFault(err)
		}
	}
	return nil, raced()
}

// mayChange refuses updates that the grant or the type does not allow.
func (s *Session) mayChange(t plan.Type) error {
	if _, err := s.granted(t, search.Update); err != nil {
		return err
	}
	return s.changeable(t)
}

// checkID holds the body's id against the URL's (R4 http.html#update: it SHALL
// be there and be the same).
func checkID(doc *fhir.Document, id string) error {
	switch is := doc.ID(); is {
	case id:
		return nil
	case "":
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.update", Subject: "id", Detail: "the body has no id", Hint: "give it the id of the URL"}
	default:
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.update", Subject: "id", Detail: "the body's id " + quote(is) + " is not the URL's"}
	}
}

func quote(s string) string {
	if !fhir.ValidID(s) {
		return "(malformed)"
	}
	return `"` + s + `"`
}

// UpdateWhere is the conditional update (R4 http.html#cond-update): the one
// resource that matches, or a new one where none does.
func (s *Session) UpdateWhere(ctx context.Context, typ, criteria string, body []byte, match Match) (*Version, error) {
	t, err := s.typ(typ)
	if err != nil {
		return nil, err
	}
	if err := s.mayChange(t); err != nil {
		return nil, err
	}
	doc, err := s.parse(body, typ)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	where, err := s.criteria(ctx, t, criteria)
	if err != nil {
		return nil, err
	}
	id, err := writtenID(criteria, doc.ID())
	if err != nil {
		return nil, err
	}
	for range maxRaces {
		v, err := s.updateMatch(ctx, t, where, doc, id, match)
		if !again(err) {
			return v, err
		}
	}
	return nil, raced()
}

// updateMatch is one attempt: worth another (again) when the match or what the
// grant looks at changed meanwhile.
func (s *Session) updateMatch(ctx context.Context, t plan.Type, where *plan.Plan, doc *fhir.Document, id string, match Match) (*Version, error) {
	found, err := s.matches(ctx, where)
	if err != nil {
		return nil, err
	}
	target, err := s.conditionalTarget(t, found, id)
	if err != nil {
		return nil, err
	}
	conditions := append([]store.Condition{{Kind: store.Matches, Plan: where, Keys: found}}, match.conditions()...)
	if len(found) == 0 && id != "" {
		conditions = append(conditions, store.Condition{Kind: store.Absent})
	}
	op, issues, err := s.put(ctx, target, doc, tagUpdate, conditions...)
	if err != nil {
		return nil, err
	}
	access := search.Update
	if len(found) == 0 {
		access = s.making(t, id)
	}
	guard, err := s.holdNow(ctx, s.draft(op, doc.Root()), access)
	if err != nil {
		return nil, err
	}
	v, err := s.commitHeld(ctx, op, issues, guard)
	failed, ok := unmet(err)
	switch {
	case !ok || failed.Condition == 0:
		return v, err
	case op.If[failed.Condition].Kind == store.Absent:
		return nil, idTaken(target.ID)
	}
	return nil, matchFault(err)
}

// namedID is the id that criteria name in HealthLake's form: one _id, alone or
// with _tag, createdAt and _lastUpdated (devguide, "Conditional delete",
// "Conditional PUT in bundles").
func namedID(criteria string) (id string, ok bool) {
	pairs, err := search.ParsePairs(strings.TrimPrefix(criteria, "?"))
	if err != nil {
		return "", false
	}
	for _, p := range pairs {
		switch p.Name {
		case "_id":
			if id != "" || !fhir.ValidID(p.Value) {
				return "", false
			}
			id = p.Value
		case "_tag", "createdAt", "_lastUpdated":
		default:
			return "", false
		}
	}
	return id, id != ""
}

// writtenID is the id that a conditional update writes under when nothing
// matches: the body's, or the one that the criteria name; empty for a new one.
func writtenID(criteria, bodyID string) (string, error) {
	named, ok := namedID(criteria)
	switch {
	case !ok || named == bodyID:
		return bodyID, nil
	case bodyID == "":
		return named, nil
	}
	return "", &fault.Error{Kind: fault.Invalid, Op: "interaction.update", Subject: "id", Detail: "the body's id " + quote(bodyID) + " is not the one in the criteria"}
}

func idTaken(id string) error {
	return &fault.Error{Kind: fault.Conflict, Op: "interaction.update", Subject: id,
		Detail: "no resource matches the criteria, but the body's id is taken"}
}

// conditionalTarget settles which resource a conditional update writes.
func (s *Session) conditionalTarget(t plan.Type, found []plan.Key, bodyID string) (plan.Key, error) {
	switch {
	case len(found) > 1:
		return plan.Key{}, manyMatch()
	case len(found) == 1 && bodyID != "" && bodyID != found[0].ID:
		return plan.Key{}, &fault.Error{Kind: fault.Conflict, Op: "interaction.update", Subject: "id",
			Detail: "the resource that matches has another id than the body"}
	case len(found) == 1:
		return found[0], nil
	case bodyID != "":
		return s.key(s.Registry.Name(t), bodyID)
	}
	id, err := s.NewID()
	return plan.Key{Type: t, ID: id}, err
}

// matches finds the resources of a conditional interaction, cut at two.
func (s *Session) matches(ctx context.Context, where *plan.Plan) ([]plan.Key, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	return matchesIn(ctx, view, where)
}

func matchesIn(ctx context.Context, view store.View, where *plan.Plan) ([]plan.Key, error) {
	two := *where
	two.Limit, two.Total, two.Sort, two.After = 2, plan.TotalNone, nil, nil
	page, err := view.Search(ctx, &two)
	if err != nil {
		return nil, err
	}
	keys := make([]plan.Key, len(page.Records))
	for i, rec := range page.Records {
		keys[i] = rec.Key
	}
	return keys, nil
}
