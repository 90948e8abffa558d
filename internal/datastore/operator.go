package datastore

import (
	"context"
	"fmt"

	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/search"
)

// Operator is what the operator of a data store sets beyond AWS's
// configurations: how its FHIR API bounds and treats requests. Absent members
// are Tarn's own choice, and so is the zero value; members are named on the wire
// as here.
type Operator struct {
	// The entries that bundles may have; absent: interaction.MaxEntries.
	MaxBatchEntries       int `json:",omitempty"`
	MaxTransactionEntries int `json:",omitempty"`
	MaxAsyncEntries       int `json:",omitempty"` // of transactions with Prefer: respond-async
	// MaxResourceBytes bounds one resource as JSON; absent:
	// interaction.MaxResource.
	MaxResourceBytes int `json:",omitempty"`
	// MaxCount bounds _count; absent: search.MaxCount. RefuseLargeCount refuses
	// what is beyond it, instead of cutting it.
	MaxCount         int  `json:",omitempty"`
	RefuseLargeCount bool `json:",omitempty"`
	// MultipleConditionalDelete lets a conditional delete remove all that match.
	MultipleConditionalDelete bool `json:",omitempty"`
	// IgnoreUnknownParameters passes over search parameters that are not known,
	// unless the client says Prefer: handling=strict.
	IgnoreUnknownParameters bool `json:",omitempty"`
	// AuditEvents keeps every access as FHIR AuditEvents in the data store itself.
	AuditEvents bool `json:",omitempty"`
}

// HealthLakeOperator answers as HealthLake does, limits and all.
func HealthLakeOperator() Operator {
	r := interaction.HealthLakeRules
	return Operator{
		MaxBatchEntries: r.Entries.Batch, MaxTransactionEntries: r.Entries.Transaction, MaxAsyncEntries: r.Entries.Async,
		MaxResourceBytes: r.MaxResource, MaxCount: r.MaxCount, RefuseLargeCount: r.RefuseLargeCount,
	}
}

// Rules are the settings as interactions read them.
func (o Operator) Rules() interaction.Rules {
	return interaction.Rules{
		Entries:     interaction.EntryLimits{Batch: o.MaxBatchEntries, Transaction: o.MaxTransactionEntries, Async: o.MaxAsyncEntries},
		MaxResource: o.MaxResourceBytes, MaxCount: o.MaxCount, RefuseLargeCount: o.RefuseLargeCount,
		MultipleDelete: o.MultipleConditionalDelete, PassUnknown: o.IgnoreUnknownParameters,
	}
}

// Effective is what holds: defaults in the place of absent members.
func (o Operator) Effective() Operator {
	o.MaxBatchEntries = orDefault(o.MaxBatchEntries, interaction.MaxEntries)
	o.MaxTransactionEntries = orDefault(o.MaxTransactionEntries, interaction.MaxEntries)
	o.MaxAsyncEntries = orDefault(o.MaxAsyncEntries, interaction.MaxEntries)
	o.MaxResourceBytes = orDefault(o.MaxResourceBytes, interaction.MaxResource)
	o.MaxCount = orDefault(o.MaxCount, search.MaxCount)
	return o
}

// check holds numbers against what the machinery carries; 0 is absent.
func (o Operator) check() error {
	for _, bound := range []struct {
		name           string
		n, least, most int
	}{
		{"maxBatchEntries", o.MaxBatchEntries, 1, interaction.MaxEntries},
		{"maxTransactionEntries", o.MaxTransactionEntries, 1, interaction.MaxEntries},
		{"maxAsyncEntries", o.MaxAsyncEntries, 1, interaction.MaxEntries},
		{"maxResourceBytes", o.MaxResourceBytes, interaction.LeastResource, interaction.MostResource},
		{"maxCount", o.MaxCount, 1, search.MaxCount},
	} {
		if bound.n != 0 && (bound.n < bound.least || bound.n > bound.most) {
			return invalid("settings."+bound.name, fmt.Sprintf("%d is not from %d to %d", bound.n, bound.least, bound.most), "")
		}
	}
	return nil
}

// Operate changes a data store's operator settings; they hold from the next
// request on. do sees the settings as they are.
func (p *Plane) Operate(ctx context.Context, id string, do func(*Operator) error) (*Datastore, error) {
	if _, err := p.Describe(ctx, id); err != nil {
		return nil, err
	}
	return p.change(ctx, id, func(d *Datastore) error {
		if d.Status == Deleting || d.Status == Deleted {
			return inTransition("datastore.Operate", d)
		}
		if err := do(&d.Operator); err != nil {
			return err
		}
		return d.Operator.check()
	})
}
