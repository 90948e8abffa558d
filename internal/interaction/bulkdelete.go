package interaction

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// bulkDelete starts the deletion of a type's resources (devguide,
// "$bulk-delete"): those that there are now; what is changed later stays.
func bulkDelete(ctx context.Context, s *Session, req OperationRequest) (*Started, error) {
	const op = "interaction.bulkDelete"
	j := bulkJob{Kind: BulkDelete, Type: req.Type, Audit: true}
	if err := s.readDeletion(&j, req, "isHardDelete"); err != nil {
		return nil, err
	}
	t, err := s.typ(req.Type)
	if err == nil {
		err = s.wholly(op, t, search.Delete)
	}
	if err == nil {
		err = s.auditToo(op, &j, t)
	}
	if err != nil {
		return nil, err
	}
	return s.startDeletion(ctx, "$bulk-delete", j)
}

// erase starts the permanent deletion of one resource (devguide, "$erase").
func erase(ctx context.Context, s *Session, req OperationRequest) (*Started, error) {
	const op = "interaction.erase"
	j := bulkJob{Kind: BulkErase, Type: req.Type, ID: req.ID, Hard: true}
	if err := s.readDeletion(&j, req); err != nil {
		return nil, err
	}
	key, err := s.key(req.Type, req.ID)
	if err == nil {
		err = s.wholly(op, key.Type, search.Delete)
	}
	if err == nil {
		err = s.auditToo(op, &j, key.Type)
	}
	if err == nil {
		err = s.everThere(ctx, key)
	}
	if err != nil {
		return nil, err
	}
	return s.startDeletion(ctx, "$erase", j)
}

// purge starts the permanent deletion of a patient's compartment (devguide,
// "$purge").
func purge(ctx context.Context, s *Session, req OperationRequest) (*Started, error) {
	const op = "interaction.purge"
	j := bulkJob{Kind: BulkPurge, Type: req.Type, ID: req.ID, Hard: true}
	if err := s.readDeletion(&j, req); err != nil {
		return nil, err
	}
	key, err := s.key(req.Type, req.ID)
	if err != nil {
		return nil, err
	}
	for _, arm := range s.compartmentArms(key, j.Audit) {
		if err := s.wholly(op, arm.Type, search.Delete); err != nil {
			return nil, err
		}
	}
	if err := s.everThere(ctx, key); err != nil {
		return nil, err
	}
	started, err := s.startDeletion(ctx, "$purge", j)
	if err != nil {
		return nil, err
	}
	_, id, _ := strings.Cut(started.Poll, "/")
	started.FHIR, started.Body = true, fhir.AppendOutcome(nil, fhir.OutcomeIssue{
		Severity: "information", Code: "informational", Diagnostics: "Purge job started successfully. Job ID: " + id, Location: s.Base + "/" + started.Poll,
	})
	return started, nil
}

// auditToo refuses what would take AuditEvents that the caller may not delete,
// or has not said to delete.
func (s *Session) auditToo(op string, j *bulkJob, t plan.Type) error {
	audit, _ := s.Registry.Type("AuditEvent")
	if !j.Audit {
		if t == audit {
			return &fault.Error{Kind: fault.Invalid, Op: op, Subject: "deleteAuditEvent", Detail: "AuditEvents are deleted only where it is true"}
		}
		return nil
	}
	err := s.wholly(op, audit, search.Delete)
	if err != nil {
		fault.From(err).Hint = "or say deleteAuditEvent=false"
	}
	return err
}

// everThere refuses a resource that never was; a deleted one still has versions
// to take away.
func (s *Session) everThere(ctx context.Context, key plan.Key) error {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return err
	}
	defer view.Close()
	_, ok, err := s.current(ctx, view, key, search.Delete)
	if err == nil && !ok {
		err = notFound(s.Registry.Name(key.Type), key.ID)
	}
	return err
}

// startDeletion submits a job about the resources of this moment.
func (s *Session) startDeletion(ctx context.Context, operation string, j bulkJob) (*Started, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	j.Moment = view.Moment()
	if j.Kind == BulkDelete {
		t, _ := s.Registry.Type(j.Type)
		j.Count.Expected, err = view.Count(ctx, &plan.Plan{Arms: []plan.Arm{{Type: t, Where: j.window()}}})
	}
	if err = keep(err, view.Close()); err != nil {
		return nil, err
	}
	id, err := s.newJobID()
	if err != nil {
		return nil, err
	}
	kept, err := s.submitBulk(ctx, id, j)
	if err != nil {
		return nil, err
	}
	return s.startedBulk(operation, id, kept)
}

// newJobID mints a job id: 32 hexadecimal digits, as HealthLake's.
func (s *Session) newJobID() (string, error) {
	id, err := s.NewID()
	return strings.ReplaceAll(id, "-", ""), err
}

func validJobID(id string) bool { return arn.IsJobID(id) }

// readDeletion reads the parameters of a deletion: deleteAuditEvent, those of
// lastUpdated, and more.
func (s *Session) readDeletion(j *bulkJob, req OperationRequest, more ...string) error {
	pairs, err := req.pairs()
	if err != nil {
		return err
	}
	timed := map[string]bool{}
	for _, p := range pairs {
		switch {
		case p.Name == "deleteAuditEvent":
			j.Audit, err = boolean(p)
		case p.Name == "isHardDelete" && slices.Contains(more, p.Name):
			j.Hard, err = boolean(p)
		case j.Kind != BulkErase && (p.Name == "_since" || p.Name == "start"):
			timed[p.Name] = true
			j.Low, err = instantOf(p, false)
		case j.Kind != BulkErase && p.Name == "end":
			timed[p.Name] = true
			j.High, err = instantOf(p, true)
		case p.Name == "_format" || p.Name == "_pretty":
		default:
			err = invalidPair(p, "not a parameter of this operation")
		}
		if err != nil {
			return err
		}
	}
	if timed["_since"] && len(timed) > 1 {
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.readDeletion", Subject: "_since", Detail: "it does not go together with start and end"}
	}
	if !j.High.IsZero() && !j.Low.Before(j.High) {
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.readDeletion", Subject: "end", Detail: "it is before start"}
	}
	return nil
}

func boolean(p search.Pair) (bool, error) {
	if p.Value != "true" && p.Value != "false" {
		return false, invalidPair(p, "neither true nor false")
	}
	return p.Value == "true", nil
}

// instantOf is the beginning of a date, or, as an end, the moment behind it.
func instantOf(p search.Pair, end bool) (time.Time, error) {
	span, err := date(p)
	if err != nil {
		return time.Time{}, err
	}
	if end {
		return time.UnixMilli(span.High).UTC(), nil
	}
	return time.UnixMilli(span.Low).UTC(), nil
}

// window is the condition on lastUpdated; nil is none.
func (j *bulkJob) window() plan.Node {
	if j.Low.IsZero() && j.High.IsZero() {
		return nil
	}
	return plan.Updated{Low: j.Low, High: j.High}
}

// compartmentArms are what a patient's compartment holds, by type; AuditEvents
// where they are wanted.
func (s *Session) compartmentArms(of plan.Key, audit bool) []plan.Arm {
	var arms []plan.Arm
	for _, t := range s.Registry.Types() {
		params, _ := s.Registry.Compartment(of.Type, t)
		if writtenOnce[s.Registry.Name(t)] && !audit || len(params) == 0 && t != of.Type {
			continue
		}
		inside := plan.Or{search.InCompartment(s.Registry, s.Store.HashKey(), of, t)}
		if t == of.Type {
			inside = append(inside, plan.IDs{IDs: []string{of.ID}})
		}
		arms = append(arms, plan.Arm{Type: t, Where: search.Simplify(inside)})
	}
	return arms
}

// deleteStep deletes a page of a type.
func (r *bulkRun) deleteStep(ctx context.Context) error {
	t, ok := r.Registry.Type(r.job.Type)
	if !ok {
		return fault.New(fault.Internal, "interaction.deleteStep", "no type %s", r.job.Type)
	}
	return r.takePage(ctx, store.HistoryQuery{Types: []plan.Type{t}})
}

// maxPasses bounds how often $purge goes through a compartment that others keep
// writing to.
const maxPasses = 16

// purgeStep purges a page of the compartment. Behind the last page it begins
// again with what is there then, until a pass finds nothing: what is written
// meanwhile goes too.
func (r *bulkRun) purgeStep(ctx context.Context) error {
	t, ok := r.Registry.Type(r.job.Type)
	if !ok {
		return fault.New(fault.Internal, "interaction.purgeStep", "no type %s", r.job.Type)
	}
	arms := r.compartmentArms(plan.Key{Type: t, ID: r.job.ID}, r.job.Audit)
	q := store.HistoryQuery{Where: arms}
	for _, arm := range arms {
		q.Types = append(q.Types, arm.Type)
	}
	return r.takePage(ctx, q)
}

// eraseStep purges one resource, whatever its version is by now.
func (r *bulkRun) eraseStep(ctx context.Context) error {
	t, ok := r.Registry.Type(r.job.Type)
	if !ok {
		return fault.New(fault.Internal, "interaction.eraseStep", "no type %s", r.job.Type)
	}
	key := plan.Key{Type: t, ID: r.job.ID}
	if err := r.before(ctx, []plan.Key{key}); err != nil {
		return err
	}
	r.job.Over, r.job.Count.Done = true, 1
	return r.commit(ctx, []store.Op{{Kind: store.Purge, Key: key}})
}

// takePage takes away one page of what was there at the job's moment. The pages
// are of histories, so that a hard deletion finds deleted resources too; of a
// resource only its last version of the moment counts.
func (r *bulkRun) takePage(ctx context.Context, q store.HistoryQuery) error {
	view, err := r.Store.View(ctx, r.job.Moment)
	if err != nil {
		return err
	}
	defer view.Close()
	q.Low, q.High, q.After, q.Limit = r.job.Low, r.job.High, r.job.After, bulkPage
	page, err := view.History(ctx, q)
	if err != nil {
		return err
	}
	var last []store.Record
	var keys []plan.Key
	for _, rec := range page.Records {
		now, err := view.Get(ctx, rec.Key)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err == nil && now.Version == rec.Version && (r.job.Hard || !rec.Deleted) {
			last, keys = append(last, rec), append(keys, rec.Key)
		}
	}
	if err := r.before(ctx, keys); err != nil {
		return err
	}
	if page.Next == nil && r.job.Kind == BulkPurge && (r.job.Found || len(last) > 0) {
		if r.job.Pass++; r.job.Pass >= maxPasses {
			return fault.New(fault.Conflict, "interaction.purge", "others kept writing to the compartment")
		}
		r.job.Found = false
		return r.take(ctx, last, nil, true)
	}
	r.job.Found = r.job.Found || len(last) > 0
	r.job.Over = page.Next == nil
	return r.take(ctx, last, page.Next, false)
}

// take deletes or purges resources as they were found, and goes on behind next,
// or from the start of what is there afterwards. Those that were changed
// meanwhile stay.
func (r *bulkRun) take(ctx context.Context, found []store.Record, next []byte, again bool) error {
	r.job.After = next
	if again {
		view, err := r.Store.View(ctx, "")
		if err != nil {
			return err
		}
		// Later than what was found, earlier than this commit: what it purges is
		// gone at every moment.
		r.job.Moment = view.Moment()
		if err := view.Close(); err != nil {
			return err
		}
	}
	before := r.job.Count
	for {
		r.job.Count = before
		r.job.Count.Done += int64(len(found))
		err := r.commit(ctx, r.takeOps(found))
		failed, no := unmet(err)
		if !no {
			return err
		}
		lost := found[failed.Op-1]
		found = slices.Delete(slices.Clone(found), failed.Op-1, failed.Op)
		if r.job.Kind == BulkPurge {
			continue // the next pass finds it
		}
		before.Skipped++
		r.miss(&r.job.SkippedOnes, lost.Key, changedSince)
	}
}

// changedSince is why a resource was left as it was.
const changedSince = "changed since the job was submitted"

func (r *bulkRun) takeOps(found []store.Record) []store.Op {
	ops := make([]store.Op, len(found))
	for i, rec := range found {
		ops[i] = store.Op{Kind: store.Delete, Key: rec.Key, Tag: tagDelete, If: []store.Condition{{Kind: store.AtVersion, Version: rec.Version}}}
		if r.job.Hard {
			ops[i].Kind, ops[i].Tag = store.Purge, 0
		}
		if rec.Deleted {
			ops[i].If = []store.Condition{{Kind: store.Absent}}
		}
	}
	return ops
}

// before takes away what speaks of resources that are about to go: AuditEvents,
// and the answers of transactions that hold them. It may be repeated.
func (r *bulkRun) before(ctx context.Context, keys []plan.Key) error {
	if len(keys) == 0 {
		return nil
	}
	if r.job.Hard {
		if err := r.takeAnswers(ctx, keys); err != nil {
			return err
		}
	}
	if !r.job.Audit {
		return nil
	}
	for {
		events, err := r.auditEvents(ctx, keys)
		if err != nil || len(events) == 0 {
			return err
		}
		r.job.Count.Audit += int64(len(events))
		err = r.commit(ctx, r.takeOps(events))
		if _, no := unmet(err); no {
			r.job.Count.Audit -= int64(len(events)) // another deletion was there first
			continue
		}
		if err != nil {
			return err
		}
	}
}

// auditEvents are some of the AuditEvents about resources (AuditEvent.entity).
func (r *bulkRun) auditEvents(ctx context.Context, keys []plan.Key) ([]store.Record, error) {
	t, _ := r.Registry.Type("AuditEvent")
	entity, ok := r.Registry.Param(t, "entity")
	if !ok {
		return nil, fault.New(fault.Internal, "interaction.auditEvents", "AuditEvent has no parameter entity")
	}
	view, err := r.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	about := search.PointingTo(r.Store.HashKey(), []*search.Param{entity}, keys)
	page, err := view.Search(ctx, &plan.Plan{Arms: []plan.Arm{{Type: t, Where: about}}, Limit: bulkPage})
	return page.Records, err
}

// maxMisses bounds the resources that a status names, of each sort.
const maxMisses = 1000

func (r *bulkRun) miss(list *[]bulkMiss, key plan.Key, why string) {
	if len(*list) < maxMisses {
		*list = append(*list, bulkMiss{r.Registry.Name(key.Type) + "/" + key.ID, why})
	}
}

// answersKept says which answers of asynchronous transactions hold which
// resources: those with GET entries, or sent under return=representation.
type answersKept struct{ by map[plan.Key][]string }

// takeAnswers purges the answers of transactions that hold resources. Answers
// that are written while the job runs hold newer versions, which stay anyway.
func (r *bulkRun) takeAnswers(ctx context.Context, keys []plan.Key) error {
	if r.hide == nil {
		kept, err := r.readAnswers(ctx)
		if err != nil {
			return err
		}
		r.hide = kept
	}
	gone := map[string]bool{}
	for _, key := range keys {
		for _, id := range r.hide.by[key] {
			gone[id] = true
		}
	}
	ops := make([]store.Op, 0, len(gone))
	for id := range gone {
		ops = append(ops, store.Op{Kind: store.Purge, Key: plan.Key{Type: TypeTransaction, ID: id}})
	}
	if len(ops) == 0 {
		return nil
	}
	_, err := r.Store.Commit(ctx, ops)
	return err
}

func (r *bulkRun) readAnswers(ctx context.Context) (*answersKept, error) {
	kept := &answersKept{by: map[plan.Key][]string{}}
	err := r.eachOld(ctx, TypeTransaction, time.Time{}, func(id string) error {
		t, _, err := r.openTask(ctx, id)
		if fault.Is(err, fault.NotFound) || err == nil && t.State != TransactionEnded {
			return nil
		}
		if err != nil {
			return err
		}
		doc, err := fhir.Parse(t.Answer)
		if err != nil {
			return fault.Wrap(fault.Internal, "interaction.readAnswers", err)
		}
		defer doc.Release()
		r.resourcesIn(doc.Root(), func(key plan.Key) {
			if !slices.Contains(kept.by[key], id) {
				kept.by[key] = append(kept.by[key], id)
			}
		})
		return nil
	})
	return kept, err
}

// resourcesIn calls found for every resource in the entries of a Bundle, also of
// Bundles in it.
func (s *Session) resourcesIn(bundle fhir.Node, found func(plan.Key)) {
	for e := range bundle.Get("entry").Items() {
		resource := e.Get("resource")
		if t, ok := s.Registry.Type(resource.ResourceType()); ok {
			found(plan.Key{Type: t, ID: resource.Get("id").Text()})
		}
		if resource.Get("resourceType").Is("Bundle") {
			s.resourcesIn(resource, found)
		}
	}
}
