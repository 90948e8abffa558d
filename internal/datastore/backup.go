package datastore

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/backup"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/record"
	"github.com/tarn-fhir/tarn/internal/store"
)

// DefaultRetentionDays is how far back a store can be restored when the request
// does not say (RetentionPeriodInDays, 1 to 30).
const DefaultRetentionDays = 7

// backupOn is BackupConfiguration.Status of a store with continuous backup.
const backupOn = "ENABLED"

// On reports whether continuous backup is on.
func (b *Backup) On() bool { return b != nil && b.Status == backupOn }

func (b *Backup) retention() time.Duration {
	return time.Duration(b.RetentionDays) * 24 * time.Hour
}

// since fills in what a configuration that turns backup on leaves out; it was on
// since before when the one before says so.
func (b *Backup) since(before *Backup, now time.Time) *Backup {
	if !b.On() {
		return b
	}
	full := *b
	full.Type, full.RetentionDays = orDefault(b.Type, "CONTINUOUS"), orDefault(b.RetentionDays, DefaultRetentionDays)
	full.EnabledAt = now.Truncate(time.Millisecond)
	if before.On() {
		full.EnabledAt = before.EnabledAt
	}
	return &full
}

// offered refuses continuous backup on a server that has nowhere to keep it.
func (p *Plane) offered(b *Backup) error {
	if b.On() && p.Backups == nil {
		return invalid("backupConfiguration.status", "this server keeps no backups", "start it with --backup-dir, or leave BackupConfiguration out")
	}
	return nil
}

// backups is what the server knows of its backups in memory: the folder is what
// is true.
type backups struct {
	mu   sync.Mutex
	seen map[string]seen
	busy map[string]*sync.Mutex
}

// refreshEvery is after how long a store that did not change is backed up again:
// what was purged leaves a store's files some time after the purge, and with the
// next backups those of the backup folder.
const refreshEvery = 24 * time.Hour

// seen is how a store stood when it was looked at last.
type seen struct {
	moment store.Moment // that was backed up
	taken  time.Time    // when it was backed up
	latest time.Time    // when that was still the newest
	stale  bool         // there was a newer one when the store was closed
}

func newBackups() *backups {
	return &backups{seen: map[string]seen{}, busy: map[string]*sync.Mutex{}}
}

func (b *backups) of(id string) (seen, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, known := b.seen[id]
	return s, known
}

func (b *backups) set(id string, s seen) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[id] = s
}

func (b *backups) forget(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.seen, id)
}

// lock holds a store's backups to one at a time.
func (b *backups) lock(id string) (unlock func()) {
	b.mu.Lock()
	m := b.busy[id]
	if m == nil {
		m = new(sync.Mutex)
		b.busy[id] = m
	}
	b.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// update changes what is known of a store; of one that is not known, nothing is.
func (b *backups) update(id string, change func(*seen)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s, known := b.seen[id]; known {
		change(&s)
		b.seen[id] = s
	}
}

// rests reports whether a closed store has nothing that is in no backup yet, and
// needs no refreshing; its backup is then the latest as of now.
func (b *backups) rests(id string, now time.Time) (yes bool) {
	b.update(id, func(s *seen) {
		if yes = !s.stale && now.Sub(s.taken) < refreshEvery; yes {
			s.latest = now
		}
	})
	return yes
}

// doubt says that a store may hold what is in no backup. It is called before
// anyone can find the store closed.
func (b *backups) doubt(id string) { b.update(id, func(s *seen) { s.stale = true }) }

// settle takes the doubt back where the last that was written is in a backup; s
// takes no more writes.
func (b *backups) settle(id string, s store.Store) {
	if at, err := momentOf(context.Background(), s); err == nil {
		b.update(id, func(last *seen) { last.stale = at != last.moment })
	}
}

func momentOf(ctx context.Context, s store.Store) (store.Moment, error) {
	v, err := s.View(ctx, "")
	if err != nil {
		return "", err
	}
	defer v.Close()
	return v.Moment(), nil
}

// tendBackups backs up what changed, every BackupEvery, until ctx ends.
func (p *Plane) tendBackups(ctx context.Context) {
	tick := time.NewTicker(p.BackupEvery)
	defer tick.Stop()
	for {
		if err := p.BackUpAll(ctx); err != nil && ctx.Err() == nil {
			p.Log.Error("a backup failed and is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// BackUpAll looks at every store with continuous backup, and backs up those that
// changed since their last backup. Tend calls it.
func (p *Plane) BackUpAll(ctx context.Context) error {
	if p.Backups == nil {
		return nil
	}
	all, err := datastores.All(ctx, p.System, record.Is(entryStatus, string(Active)))
	for _, d := range all {
		if d.Settings.Backup.On() {
			err = errors.Join(err, p.backUp(ctx, d))
		}
	}
	return err
}

func (p *Plane) backUp(ctx context.Context, d *Datastore) error {
	now := p.Clock().Truncate(time.Millisecond) // before the look: what is written later is later
	lease := p.pool.borrow(d.ID)
	if lease == nil {
		if p.backups.rests(d.ID, now) {
			return nil
		}
		var err error
		if lease, err = p.Open(ctx, d.ID); err != nil {
			return err
		}
	}
	defer lease.Release()
	return p.takeBackup(ctx, d, lease.Store)
}

// BackUp takes a backup now, of a store that has continuous backup.
func (p *Plane) BackUp(ctx context.Context, id string) (time.Time, error) {
	lease, err := p.Open(ctx, id)
	if err != nil {
		return time.Time{}, err
	}
	defer lease.Release()
	if !lease.Datastore.Settings.Backup.On() || p.Backups == nil {
		return time.Time{}, invalid("datastoreId", "the data store has no continuous backup", "turn it on with BackupConfiguration")
	}
	err = p.takeBackup(ctx, lease.Datastore, lease.Store)
	last, _ := p.backups.of(id)
	return last.latest, err
}

// takeBackup brings a store's backup up to date.
func (p *Plane) takeBackup(ctx context.Context, d *Datastore, s store.Store) error {
	defer p.backups.lock(d.ID)()
	began := p.Clock().Truncate(time.Millisecond)
	d, err := p.Describe(ctx, d.ID) // which key opens the store may have changed
	if err != nil {
		return err
	}
	at, err := momentOf(ctx, s)
	if err != nil {
		return err
	}
	if last, known := p.backups.of(d.ID); known && last.moment == at && began.Sub(last.taken) < refreshEvery {
		p.backups.set(d.ID, seen{moment: at, taken: last.taken, latest: began})
		return nil
	}
	power, ok := s.(store.Backuper)
	if !ok {
		return fault.New(fault.NotSupported, "datastore.backup", "the storage engine cannot back up a store")
	}
	key, err := p.dataKey(ctx, d)
	if err != nil {
		return err
	}
	defer key.Wipe()
	wrapped, err := p.wrappedKey(ctx, d.ID, d.KeyNumber)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return fault.Wrap(fault.Internal, "datastore.backup", err)
	}
	to := p.Backups.Store(d.ID)
	files, err := power.Backup(ctx, to)
	if err != nil {
		return err
	}
	m := backup.Manifest{Store: d.ID, Taken: began, Key: wrapped, Context: d.keyContext(), Datastore: raw, Files: files}
	if err := errors.Join(to.Commit(m, key), to.Prune()); err != nil {
		return err
	}
	p.backups.set(d.ID, seen{moment: at, taken: began, latest: began})
	if _, err := momentOf(ctx, s); err != nil {
		p.backups.forget(d.ID) // closed meanwhile: nobody knows what was written last
	}
	return nil
}

// Window is between which times a store can be restored; ok is false before its
// first backup and without any.
func (p *Plane) Window(d *Datastore) (earliest, latest time.Time, ok bool) {
	if !d.Settings.Backup.On() || p.Backups == nil {
		return earliest, latest, false
	}
	end := p.Clock()
	if last, known := p.backups.of(d.ID); known && d.Status != Deleted {
		latest = last.latest
	} else if m, err := p.Backups.Store(d.ID).Newest(); err == nil {
		latest = m.Taken
	} else {
		return earliest, latest, false
	}
	if !d.DeletedAt.IsZero() {
		end = d.DeletedAt
	}
	earliest = end.Add(-d.Settings.Backup.retention()).Truncate(time.Millisecond)
	if earliest.Before(d.Settings.Backup.EnabledAt) {
		earliest = d.Settings.Backup.EnabledAt
	}
	if latest.Before(earliest) {
		latest = earliest
	}
	return earliest, latest, true
}

// dropBackups removes the backups of a store that does without from now on.
func (p *Plane) dropBackups(id string) {
	if p.Backups == nil {
		return
	}
	defer p.backups.lock(id)()
	p.backups.forget(id)
	if err := p.Backups.Store(id).Remove(); err != nil {
		p.Log.Error("the backups of a data store without backup were not removed", "datastore", id, "error", err)
	}
}

// lastBackup is taken before a store's files go. A store whose key is lost can
// not be opened, and neither can its backups.
func (p *Plane) lastBackup(ctx context.Context, d *Datastore) error {
	if !d.Settings.Backup.On() {
		return nil
	}
	if p.Backups == nil {
		return fault.New(fault.FailedDependency, "datastore.delete", "the data store has continuous backup and this server has no backup folder: start it with --backup-dir")
	}
	if _, err := p.wrappedKey(ctx, d.ID, d.KeyNumber); fault.Is(err, fault.NotFound) {
		return nil // this deletion went further before
	}
	lease, err := p.pool.acquire(ctx, d.ID, func(*Datastore) error { return nil })
	if fault.Is(err, fault.Forbidden) {
		p.Log.Warn("no last backup of a data store whose key is lost", "datastore", d.ID)
		return nil
	}
	if err != nil {
		return err
	}
	defer lease.Release()
	return p.takeBackup(ctx, d, lease.Store)
}

// sweepBackups removes the backups of stores that were deleted longer ago than
// their retention, and with them the last copy of their wrapped keys.
func (p *Plane) sweepBackups(ctx context.Context) error {
	if p.Backups == nil {
		return nil
	}
	gone, err := datastores.All(ctx, p.System, record.Is(entryStatus, string(Deleted)))
	for _, d := range gone {
		if d.RemoveAt.IsZero() || p.Clock().Before(d.RemoveAt) {
			continue
		}
		if failed := p.Backups.Store(d.ID).Remove(); failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		_, failed := p.change(ctx, d.ID, func(d *Datastore) error {
			d.RemoveAt, d.Settings.Backup = time.Time{}, &Backup{Status: backupOff}
			return nil
		})
		err = errors.Join(err, failed)
	}
	return err
}

// Restore is where a store's content comes from.
type Restore struct {
	Source string
	At     time.Time `json:",omitzero"` // zero: the latest
}

// checkRestore holds a request against its source's backups, and copies the
// source's tags where its configuration says so.
func (p *Plane) checkRestore(ctx context.Context, req *CreateRequest) error {
	source, err := p.restorable(ctx, req.Restore.Source)
	if err != nil {
		return err
	}
	if source.Status == Creating || source.Status == Deleting {
		return inTransition("datastore.Restore", source)
	}
	earliest, latest, ok := p.Window(source)
	if !ok {
		return invalid("sourceDatastoreId", "the data store has no backup", "turn on BackupConfiguration, and wait for LatestRestorePoint")
	}
	if at := req.Restore.At; !at.IsZero() && (at.Before(earliest) || at.After(latest)) {
		return invalid("restoreConfiguration.continuousBackupRestoreConfiguration.restorePointTime",
			"the time is not between EarliestRestorePoint "+earliest.UTC().Format(time.RFC3339Nano)+" and LatestRestorePoint "+latest.UTC().Format(time.RFC3339Nano), "name a time between them, or none for the latest")
	}
	under, err := datastores.All(ctx, p.System, record.Is(entryStatus, string(Creating)))
	if err != nil {
		return err
	}
	for _, other := range under {
		if other.Restore != nil && other.Restore.Source == source.ID {
			return &fault.Error{Kind: fault.Conflict, Op: "datastore.Restore", Subject: "Datastore " + source.ID, Detail: "another restore of the data store is under way", Retry: 1}
		}
	}
	if source.Settings.Backup.Tags {
		for _, tag := range source.Tags {
			if !slices.ContainsFunc(req.Tags, func(t Tag) bool { return t.Key == tag.Key }) {
				req.Tags = append(req.Tags, tag)
			}
		}
	}
	return nil
}

// restorable is the record of a store, or, where the server does not know it any
// more, what its backup says that it was.
func (p *Plane) restorable(ctx context.Context, id string) (*Datastore, error) {
	d, err := p.Describe(ctx, id)
	if err == nil || !fault.Is(err, fault.NotFound) || p.Backups == nil || !arn.IsDatastoreID(id) {
		return d, err
	}
	m, failed := p.Backups.Store(id).Newest()
	if failed != nil {
		return nil, err
	}
	d = new(Datastore)
	if failed := json.Unmarshal(m.Datastore, d); failed != nil {
		return nil, fault.Wrap(fault.Internal, "datastore.Restore", failed)
	}
	d.Status, d.DeletedAt = Deleted, m.Taken
	return d, nil
}

// restoreStore makes the engine's store of the source's backup.
func (p provisioner) restoreStore(ctx context.Context, d *Datastore) error {
	power, ok := p.Engine.(store.Restorer)
	if !ok || p.Backups == nil {
		return fault.New(fault.NotSupported, "datastore.restore", "this server cannot restore a store")
	}
	if source, err := p.Describe(ctx, d.Restore.Source); err == nil && source.Status.Serves() && d.Restore.At.IsZero() {
		if _, err := p.BackUp(ctx, source.ID); err != nil {
			return err
		}
	}
	defer p.backups.lock(d.Restore.Source)()
	from := p.Backups.Store(d.Restore.Source)
	m, err := from.Newest()
	if err != nil {
		return err
	}
	old, err := p.Keyring.Unwrap(ctx, m.Key, m.Context)
	if err != nil {
		return err
	}
	defer old.Wipe()
	kept, err := from.Opened(old)
	if err != nil {
		return err
	}
	key, err := p.dataKey(ctx, d)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if err := power.Restore(ctx, store.ID(d.ID), key, kept); err != nil || d.Restore.At.IsZero() {
		return err
	}
	return p.truncate(ctx, d)
}

// truncate cuts a restored store off at its moment.
func (p provisioner) truncate(ctx context.Context, d *Datastore) error {
	key, err := p.dataKey(ctx, d)
	if err != nil {
		return err
	}
	defer key.Wipe()
	s, err := p.Engine.Open(ctx, store.ID(d.ID), key)
	if err != nil {
		return err
	}
	power, ok := s.(store.Truncater)
	if !ok {
		return errors.Join(fault.New(fault.NotSupported, "datastore.restore", "the storage engine cannot cut a store off at a time"), s.Close())
	}
	err = power.Truncate(ctx, d.Restore.At)
	if scrub, ok := s.(store.Scrubber); ok && err == nil {
		err = scrub.Scrub(ctx)
	}
	return errors.Join(err, s.Close())
}
