package interaction

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// clinicalDate is, by type, the search parameter whose date start and end of
// $everything look at: the element HealthLake names for the type (devguide,
// "Patient $everything"), where R4 has a parameter for it. Types that are not
// listed have no date and are always in.
var clinicalDate = map[string]string{
	"AdverseEvent": "date", "AllergyIntolerance": "date", "Appointment": "date", "AuditEvent": "date",
	"Basic": "created", "CarePlan": "date", "CareTeam": "date", "ChargeItem": "occurrence", "Claim": "created",
	"ClaimResponse": "created", "ClinicalImpression": "date", "Communication": "sent", "CommunicationRequest": "occurrence",
	"Composition": "date", "Condition": "recorded-date", "Consent": "date", "CoverageEligibilityRequest": "created",
	"CoverageEligibilityResponse": "created", "DetectedIssue": "identified", "DeviceRequest": "authored-on",
	"DiagnosticReport": "date", "DocumentManifest": "created", "DocumentReference": "period", "Encounter": "date",
	"EpisodeOfCare": "date", "ExplanationOfBenefit": "created", "Flag": "date", "ImagingStudy": "started", "Immunization": "date",
	"ImmunizationEvaluation": "date", "ImmunizationRecommendation": "date", "Invoice": "date", "List": "date", "MeasureReport": "period",
	"Media": "created", "MedicationAdministration": "effective-time", "MedicationDispense": "whenprepared",
	"MedicationRequest": "authoredon", "NutritionOrder": "datetime", "Observation": "date", "Procedure": "date",
	"Provenance": "recorded", "QuestionnaireResponse": "authored", "RequestGroup": "authored", "ResearchSubject": "date",
	"RiskAssessment": "date", "Schedule": "date", "ServiceRequest": "authored", "SupplyRequest": "date", "VisionPrescription": "datewritten",
}

// everything gives the resources of a compartment, by type and id, and what
// they refer to outside of it (R4 patient-operation-everything.html). Pages see
// one moment; total counts the compartment.
func everything(ctx context.Context, s *Session, req OperationRequest) ([]byte, error) {
	asking, err := req.pairs()
	if err != nil {
		return nil, err
	}
	token, pairs, err := s.followed(req.Type+"/"+req.ID+"/$everything", asking)
	if err != nil {
		return nil, err
	}
	of, err := s.key(req.Type, req.ID)
	if err != nil {
		return nil, err
	}
	e, err := s.readEverything(of, pairs)
	if err != nil {
		return nil, err
	}
	view, err := s.Store.View(ctx, token.Moment)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	v, err := s.readIn(ctx, view, of)
	if err != nil {
		return nil, err
	}
	if err := e.choose(v); err != nil {
		return nil, err
	}
	asked, err := e.plan(s.env(ctx, view))
	if err != nil {
		return nil, err
	}
	asked.After, token.Moment, token.Query = token.After, view.Moment(), search.Encode(pairs)
	page, err := view.Search(ctx, asked)
	if err != nil {
		return nil, err
	}
	included, err := e.related(ctx, view, page.Records)
	if err != nil {
		return nil, err
	}
	return e.bundle(token, page, included)
}

// scope is a $everything as understood.
type scope struct {
	*Session
	of          plan.Key
	owners      []plan.Key  // whose compartments: of itself, or the patients of a Group
	types, only []plan.Type // of the compartment that are asked for; _type, nil for all
	count       int
	since       time.Time
	dates       []string // conditions on the clinical date: "ge2026", "le2026"
}

func (s *Session) readEverything(of plan.Key, pairs []search.Pair) (*scope, error) {
	e := &scope{Session: s, of: of, count: search.DefaultCount}
	for _, p := range pairs {
		if err := e.parameter(p); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// maxMembers bounds the patients of a Group: each is a condition on every type.
const maxMembers = 256

// choose settles whose compartments are given, and which types are in them.
func (e *scope) choose(v *Version) error {
	e.owners = []plan.Key{e.of}
	if v.Type == "Group" {
		doc, err := fhir.ParseStored(v.Resource())
		if err != nil {
			return fault.Wrap(fault.Internal, "interaction.everything", err)
		}
		defer doc.Release()
		if e.owners = e.members(doc.Root()); len(e.owners) > maxMembers {
			return fault.New(fault.TooCostly, "interaction.everything", "the group has more than %d patients", maxMembers)
		}
	}
	for _, t := range e.Registry.Types() {
		if e.member(t) && (e.only == nil || slices.Contains(e.only, t)) {
			e.types = append(e.types, t)
		}
	}
	return nil
}

// members are the patients of a Group that are active in it. Groups in groups
// are not followed.
func (e *scope) members(group fhir.Node) []plan.Key {
	seen := map[plan.Key]bool{}
	var keys []plan.Key
	for m := range group.Get("member").Items() {
		ref := fhir.ParseReference(m.Get("entity").Get("reference").Text())
		here := ref.Form == fhir.Relative || ref.Form == fhir.Absolute && ref.Base == e.Base
		if !here || ref.Type != "Patient" || m.Get("inactive").Bool() {
			continue
		}
		if key, err := e.key(ref.Type, ref.ID); err == nil && !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	return keys
}

// member reports whether resources of a type can be in the compartments.
func (e *scope) member(t plan.Type) bool {
	if t == e.of.Type {
		return true
	}
	if len(e.owners) == 0 {
		return false
	}
	owner := e.owners[0].Type
	params, self := e.Registry.Compartment(owner, t)
	return len(params) > 0 || self || t == owner
}

func (e *scope) parameter(p search.Pair) (err error) {
	switch p.Name {
	case "_count":
		e.count, err = parseCount(p.Value, e.Rules.maxCount())
	case "_since", "since":
		var since fhir.Interval
		since, err = date(p)
		e.since = time.UnixMilli(since.Low)
	case "start", "end":
		_, err = date(p)
		prefix := map[string]string{"start": "ge", "end": "le"}[p.Name]
		e.dates = append(e.dates, prefix+p.Value)
	case "_type":
		for name := range strings.SplitSeq(p.Value, ",") {
			t, known := e.Registry.Type(strings.TrimSpace(name))
			if !known {
				return invalidPair(p, "it names something that is no resource type")
			}
			e.only = append(e.only, t)
		}
	case "_format", "_pretty":
	default:
		return invalidPair(p, "not a parameter of $everything; it takes start, end, _since, _type, _count, _format and _pretty")
	}
	return err
}

// plan asks for the compartment, narrowed by the grant.
func (e *scope) plan(env search.Env) (*plan.Plan, error) {
	p := &plan.Plan{Limit: e.count, Total: plan.TotalExact, Work: maxSearchWork, Sort: []plan.Sort{{By: plan.ByType}, {By: plan.ByID}}}
	for _, t := range e.types {
		where := plan.And{e.inside(t)}
		if !e.since.IsZero() {
			where = append(where, plan.Updated{Low: e.since})
		}
		dated, err := e.dated(t, env)
		if err != nil {
			return nil, err
		}
		if arm, ok := e.Grant.Arm(t, append(where, dated...)); ok {
			p.Arms = append(p.Arms, arm)
		}
	}
	return p, nil
}

// inside is the condition to be in one of the compartments; their own resources
// always are, and so is the one that was asked about.
func (e *scope) inside(t plan.Type) plan.Node {
	var inside plan.Or
	var ids []string
	if t == e.of.Type {
		ids = append(ids, e.of.ID)
	}
	for _, owner := range e.owners {
		if params, self := e.Registry.Compartment(owner.Type, t); len(params) > 0 || self {
			inside = append(inside, search.InCompartment(e.Registry, e.Store.HashKey(), owner, t))
		}
		if t == owner.Type && owner != e.of {
			ids = append(ids, owner.ID)
		}
	}
	if ids != nil {
		inside = append(inside, plan.IDs{IDs: ids})
	}
	return search.Simplify(inside)
}

// dated are the conditions of start and end on a type that has a clinical date.
func (e *scope) dated(t plan.Type, env search.Env) (plan.And, error) {
	code, has := clinicalDate[e.Registry.Name(t)]
	if !has || t == e.of.Type || len(e.dates) == 0 {
		return nil, nil
	}
	var pairs []search.Pair
	for _, value := range e.dates {
		pairs = append(pairs, search.Pair{Name: code, Value: value})
	}
	q, err := search.Parse(e.Registry, []plan.Type{t}, pairs, search.Options{})
	if err != nil {
		return nil, err
	}
	p, err := q.Compile(env)
	if err != nil || len(p.Arms) == 0 {
		return plan.And{plan.Or{}}, err
	}
	return plan.And{p.Arms[0].Where}, nil
}

// related are the resources that those of a page refer to, of types outside of
// the compartment: so nothing stands on two pages, and no other patient's data
// is drawn in.
func (e *scope) related(ctx context.Context, view store.View, from []store.Record) ([]store.Record, error) {
	wanted := map[plan.Key]bool{}
	for _, rec := range from {
		targets, err := e.pointsTo(rec, nil)
		if err != nil {
			return nil, err
		}
		for _, to := range targets {
			if to.Key.ID != "" && !e.member(to.Key.Type) && (e.only == nil || slices.Contains(e.only, to.Key.Type)) {
				wanted[to.Key] = true
			}
		}
	}
	var found []store.Record
	for _, p := range e.byIDs(wanted) {
		p.Limit, p.Work = len(wanted), maxSearchWork
		page, err := view.Search(ctx, p)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Records...)
	}
	return found, nil
}

func (e *scope) bundle(token pageToken, page store.Page, included []store.Record) ([]byte, error) {
	w := fhir.NewBundle(nil, "searchset")
	w.Total(uint64(page.Total))
	self := e.Base + "/" + token.Path
	if token.Query != "" {
		self += "?" + token.Query
	}
	w.Link("self", self)
	if err := e.pageLinks(w, token, page.Next, e.count); err != nil {
		return nil, err
	}
	q := &search.Query{}
	for _, rec := range page.Records {
		if err := e.matchEntry(w, q, match{container: &rec}, nil); err != nil {
			return nil, err
		}
	}
	for _, rec := range included {
		e.entry(w, rec, "include", "")
	}
	return w.Finish(), nil
}
