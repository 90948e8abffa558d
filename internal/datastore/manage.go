package datastore

import (
	"context"
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Describe reads one record, in whatever state; fault.NotFound.
func (p *Plane) Describe(ctx context.Context, id string) (*Datastore, error) {
	if !arn.IsDatastoreID(id) {
		return nil, absent(id) // the model's shape allows more than ids there are
	}
	d, err := datastores.Get(ctx, p.System, id)
	if err != nil {
		return nil, p.absentOr(id, err)
	}
	return d, nil
}

func (p *Plane) absentOr(id string, err error) error {
	if fault.Is(err, fault.NotFound) {
		return absent(id)
	}
	return err
}

func absent(id string) error {
	return &fault.Error{Kind: fault.NotFound, Op: "datastore.Describe", Subject: "Datastore " + id, Detail: "no such data store"}
}

// Filter narrows List; set members must all hold (DatastoreFilter).
type Filter struct {
	Name          string
	Status        Status
	CreatedBefore time.Time
	CreatedAfter  time.Time
}

func (f Filter) where() plan.Node {
	var all plan.And
	if f.Name != "" {
		all = append(all, record.Is(entryName, f.Name))
	}
	if f.Status != "" {
		all = append(all, record.Is(entryStatus, string(f.Status)))
	}
	if !f.CreatedBefore.IsZero() {
		all = append(all, record.Before(entryCreated, f.CreatedBefore))
	}
	if !f.CreatedAfter.IsZero() {
		all = append(all, record.From(entryCreated, f.CreatedAfter.Add(time.Millisecond)))
	}
	if all == nil {
		return nil
	}
	return all
}

// ListPage is a piece of List's answer; At and After continue it.
type ListPage struct {
	Datastores []*Datastore
	At         store.Moment
	After      []byte // nil at the end
}

// List gives records, newest first, as of one moment across its pages;
// fault.Gone when that moment is too long ago.
func (p *Plane) List(ctx context.Context, f Filter, limit int, at store.Moment, after []byte) (ListPage, error) {
	page, err := datastores.List(ctx, p.System, record.Query{
		Where: f.where(), Sort: []plan.Sort{record.ByTime(entryCreated, true)}, At: at, After: after, Limit: limit,
	})
	if err != nil {
		return ListPage{}, err
	}
	return ListPage{Datastores: page.Docs, At: page.Moment, After: page.Next}, nil
}

// UpdateRequest is UpdateFHIRDatastore after its shape was checked; nil members
// stay as they are, and Identity is replaced whole.
type UpdateRequest struct {
	ID              string
	Name            *string
	NLP             *string
	Analytics       *string
	DefaultProfiles *[]string
	Backup          *Backup
	Identity        *Identity
}

// Update changes an ACTIVE store's configuration at once.
func (p *Plane) Update(ctx context.Context, req UpdateRequest) (*Datastore, error) {
	if _, err := p.Describe(ctx, req.ID); err != nil {
		return nil, err
	}
	if err := p.offered(req.Backup); err != nil {
		return nil, err
	}
	var before *Backup
	d, err := p.change(ctx, req.ID, func(d *Datastore) error {
		if d.Status != Active && d.Status != UpdateFailed {
			return inTransition("datastore.Update", d)
		}
		before = d.Settings.Backup
		if err := req.apply(d); err != nil {
			return err
		}
		if req.Backup != nil {
			d.Settings.Backup = req.Backup.since(before, p.Clock())
		}
		return nil
	})
	if err == nil && before.On() && !d.Settings.Backup.On() {
		p.dropBackups(d.ID)
	}
	return d, err
}

// change changes a record, and says so to the pool.
func (p *Plane) change(ctx context.Context, id string, do func(*Datastore) error) (*Datastore, error) {
	d, err := datastores.Update(context.WithoutCancel(ctx), p.System, id, do)
	if err != nil {
		return nil, p.absentOr(id, err)
	}
	p.pool.changed(id)
	return d, nil
}

func (req UpdateRequest) apply(d *Datastore) error {
	set(&d.Name, req.Name)
	set(&d.Settings.NLP, req.NLP)
	set(&d.Settings.Analytics, req.Analytics)
	set(&d.Settings.DefaultProfiles, req.DefaultProfiles)
	if req.Backup != nil {
		d.Settings.Backup = req.Backup
	}
	if req.Identity != nil {
		d.Identity = *req.Identity
		d.Identity.Strategy = orDefault(d.Identity.Strategy, AWSAuth)
	}
	if err := d.Identity.check(); err != nil {
		return err
	}
	return d.Settings.check(false)
}

func set[T any](member *T, to *T) {
	if to != nil {
		*member = *to
	}
}

// byARN finds the store that an ARN names, in this account and region only.
func (p *Plane) byARN(ctx context.Context, name string) (*Datastore, error) {
	parsed, err := arn.ParseDatastore(name)
	if err == nil && p.ARN(parsed.ID) == parsed.String() {
		var d *Datastore
		if d, err = p.Describe(ctx, parsed.ID); err == nil {
			return d, nil
		}
	}
	if err == nil || fault.Is(err, fault.Invalid) || fault.Is(err, fault.NotFound) {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "datastore.byARN", Subject: name, Detail: "no such resource", Cause: err}
	}
	return nil, err
}

// Tags lists a store's tags.
func (p *Plane) Tags(ctx context.Context, name string) ([]Tag, error) {
	d, err := p.byARN(ctx, name)
	if err != nil {
		return nil, err
	}
	return d.Tags, nil
}

// Record is Describe for every request: of a store that is open it reads no
// disk. The record is not to be changed.
func (p *Plane) Record(ctx context.Context, id string) (*Datastore, error) {
	if d := p.pool.known(id); d != nil {
		return d, nil
	}
	return p.Describe(ctx, id)
}

// ResourceTags are the tags of a store as policies look at them (aws:ResourceTag);
// none for a store that is not there.
func (p *Plane) ResourceTags(ctx context.Context, id string) (map[string]string, error) {
	d, err := p.Record(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(d.Tags) == 0 {
		return nil, nil
	}
	tags := make(map[string]string, len(d.Tags))
	for _, tag := range d.Tags {
		tags[tag.Key] = tag.Value
	}
	return tags, nil
}

// Tag adds tags; a key that is there gets the new value.
func (p *Plane) Tag(ctx context.Context, name string, tags []Tag) error {
	return p.changeTags(ctx, name, func(d *Datastore) error {
		for _, tag := range tags {
			at := slices.IndexFunc(d.Tags, func(t Tag) bool { return t.Key == tag.Key })
			if at < 0 {
				d.Tags = append(d.Tags, tag)
			} else {
				d.Tags[at] = tag
			}
		}
		return checkTags(d.Tags)
	})
}

// Untag removes tags by key; absent keys are no error.
func (p *Plane) Untag(ctx context.Context, name string, keys []string) error {
	return p.changeTags(ctx, name, func(d *Datastore) error {
		d.Tags = slices.DeleteFunc(d.Tags, func(t Tag) bool { return slices.Contains(keys, t.Key) })
		return nil
	})
}

func (p *Plane) changeTags(ctx context.Context, name string, change func(*Datastore) error) error {
	d, err := p.byARN(ctx, name)
	if err != nil {
		return err
	}
	_, err = p.change(ctx, d.ID, func(d *Datastore) error {
		if d.Status == Deleted {
			return absent(d.ID)
		}
		return change(d)
	})
	return err
}
