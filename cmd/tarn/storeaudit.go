package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
)

// storeAudit records events where next does, and in data stores that ask for it
// (the setting AuditEvents) as FHIR AuditEvents.
type storeAudit struct {
	next     audit.Recorder
	plane    *datastore.Plane
	sessions *sessions
	log      *slog.Logger
}

// Record returns when the event is durable in its data store too.
func (a *storeAudit) Record(ctx context.Context, e audit.Event) {
	a.next.Record(ctx, e)
	if !a.wanted(ctx, e) {
		return
	}
	if err := a.write(ctx, e); err != nil {
		a.log.Error("an audit event is lost to the data store", "request", e.RequestID, "action", e.Action, "datastore", e.Datastore, "status", e.Status, "error", err)
	}
}

// wanted reports whether an event goes into its data store. What strangers ask
// does not, nor what is refused for its rate: else they could fill the store.
func (a *storeAudit) wanted(ctx context.Context, e audit.Event) bool {
	if e.Datastore == "" || e.Principal == "" && e.App == nil || e.Status == http.StatusTooManyRequests {
		return false
	}
	d, err := a.plane.Record(ctx, e.Datastore)
	return err == nil && d.Operator.AuditEvents && d.Status.Serves()
}

func (a *storeAudit) write(ctx context.Context, e audit.Event) error {
	lease, err := a.plane.Open(ctx, e.Datastore)
	if err != nil {
		return err
	}
	defer lease.Release()
	session, err := a.sessions.Session(lease, iam.Principal{}, nil)
	if err != nil {
		return err
	}
	session.Rules = interaction.Rules{} // the server's own bounds
	return session.WriteAudit(ctx, e)
}
