package interaction

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// auditCommit is how many AuditEvents one commit makes.
const auditCommit = 500

// WriteAudit keeps an event as FHIR AuditEvents in the store itself, by the way
// that every resource is created: on return they are durable and found. The
// session must be the server's own, with a grant for everything and Touched nil,
// so that the record of an access is no access.
func (s *Session) WriteAudit(ctx context.Context, e audit.Event) error {
	about, err := s.disclosures(ctx, e.Resources)
	if err != nil {
		return err
	}
	events, err := audit.FHIREvents(e, s.Base, about)
	if err != nil {
		return fault.Wrap(fault.Internal, "interaction.WriteAudit", err)
	}
	for part := range slices.Chunk(events, auditCommit) {
		if _, err := s.Bundle(ctx, creating(part)); err != nil {
			return err
		}
	}
	return nil
}

// creating is a transaction that creates AuditEvents.
func creating(events []json.RawMessage) []byte {
	var b bytes.Buffer
	b.WriteString(`{"resourceType":"Bundle","type":"transaction","entry":[`)
	for i, event := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"request":{"method":"POST","url":"AuditEvent"},"resource":`)
		b.Write(event)
		b.WriteByte('}')
	}
	b.WriteString("]}")
	return b.Bytes()
}

// disclosures sorts resources by the patients whose records they are in, in the
// order of their first appearance; what is in several records stands with each.
func (s *Session) disclosures(ctx context.Context, targets []audit.Target) ([]audit.Disclosure, error) {
	if len(targets) == 0 {
		return nil, nil
	}
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	var all []audit.Disclosure
	at := map[string]int{} // by patient
	seen := map[audit.Target]bool{}
	for _, target := range targets {
		if seen[target] {
			continue
		}
		seen[target] = true
		patients, err := s.patientsOf(ctx, view, target)
		if err != nil {
			return nil, err
		}
		for _, patient := range patients {
			i, known := at[patient]
			if !known {
				i = len(all)
				at[patient] = i
				all = append(all, audit.Disclosure{Patient: patient})
			}
			all[i].Resources = append(all[i].Resources, target)
		}
	}
	return all, nil
}

// nobody stands for the resources that are in no patient's record.
var nobody = []string{""}

// patientsOf are the ids of the patients whose record a version is in; of a
// deletion, that of the version before. What was removed for good since is
// nobody's.
func (s *Session) patientsOf(ctx context.Context, view store.View, target audit.Target) ([]string, error) {
	t, ok := s.Registry.Type(target.Type)
	if !ok {
		return nobody, nil
	}
	if target.Type == "Patient" {
		return []string{target.ID}, nil
	}
	params := s.patientParams(t)
	if len(params) == 0 {
		return nobody, nil
	}
	rec, err := view.GetVersion(ctx, plan.Key{Type: t, ID: target.ID}, target.Version)
	if err == nil && rec.Deleted && rec.Version > 1 {
		rec, err = view.GetVersion(ctx, rec.Key, rec.Version-1)
	}
	if fault.Is(err, fault.NotFound) || err == nil && rec.Deleted {
		return nobody, nil
	}
	if err != nil {
		return nil, err
	}
	doc, err := fhir.Parse(s.version(rec).Resource())
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.patientsOf", err)
	}
	defer doc.Release()
	return s.patientsIn(doc.Root(), t, params), nil
}

func (s *Session) patientsIn(root fhir.Node, t plan.Type, params []*search.Param) []string {
	patient, _ := s.Registry.Type("Patient")
	var ids []string
	for _, p := range params {
		if p.Of != nil {
			p = p.Of // which holds what it refers to
		}
		for _, key := range s.Extractor.Targets(t, p, root) {
			if key.Type == patient && !slices.Contains(ids, key.ID) {
				ids = append(ids, key.ID)
			}
		}
	}
	if ids == nil {
		return nobody
	}
	return ids
}

// patientParams are the references by which resources of a type are in the
// record of a patient: those of R4's compartment, of Device and Binary what binds
// them to one.
func (s *Session) patientParams(t plan.Type) []*search.Param {
	patient, _ := s.Registry.Type("Patient")
	params, _ := s.Registry.Compartment(patient, t)
	for _, code := range []string{"patient", "security-context"} {
		if p, ok := s.Registry.Param(t, code); len(params) == 0 && ok && p.Kind == search.KindReference {
			params = append(params, p)
		}
	}
	return params
}
