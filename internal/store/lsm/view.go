package lsm

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// A Moment of this engine is "lsm1-<commit>-<row>", both in base 36: the number
// of the newest commit, and the first row number after it.
const (
	momentPrefix = "lsm1-"
	momentBase   = 36
)

func moment(commit, rid uint64) store.Moment {
	return store.Moment(momentPrefix + strconv.FormatUint(commit, momentBase) + "-" + strconv.FormatUint(rid, momentBase))
}

// parseMoment gives the row number of a moment that is not after now.
func parseMoment(op string, m store.Moment, now state) (rid uint64, err error) {
	text, ok := strings.CutPrefix(string(m), momentPrefix)
	first, second, cut := strings.Cut(text, "-")
	commit, err1 := strconv.ParseUint(first, momentBase, 64)
	rid, err2 := strconv.ParseUint(second, momentBase, 64)
	if !ok || !cut || err1 != nil || err2 != nil || commit > now.commit || rid > now.rid || moment(commit, rid) != m {
		return 0, fault.New(fault.Invalid, op, "not a moment of this store")
	}
	return rid, nil
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, at store.Moment) (store.View, error) {
	const op = "lsm.View"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return nil, err
	}
	defer leave()
	s.use()
	snap := s.published.take()
	v := &View{snapshot: snap, moment: at, reader: reader{store: s, r: snap.Snapshot, w: snap.rid, live: true, loose: snap.loose, keeps: true, edits: snap.edits, buried: snap.buried}}
	if at == "" {
		v.moment = moment(snap.commit, snap.rid)
		return v, nil
	}
	rid, err := parseMoment(op, at, snap.state)
	if err != nil {
		s.published.drop(snap)
		return nil, err
	}
	v.live = rid == snap.rid
	v.w = rid
	return v, nil
}

// View is a store at one moment.
type View struct {
	reader
	snapshot *snapshot
	moment   store.Moment

	mu     sync.RWMutex // held for reading by methods, for writing by Close
	closed bool
}

var (
	_ store.View      = (*View)(nil)
	_ store.Explainer = (*View)(nil)
)

// enter is what every method asks first.
func (v *View) enter(ctx context.Context, op string) (leave func(), err error) {
	leaveStore, err := v.store.enter(ctx, op)
	if err != nil {
		return nil, err
	}
	v.mu.RLock()
	leave = func() {
		v.mu.RUnlock()
		leaveStore()
	}
	if v.closed {
		leave()
		return nil, fault.New(fault.Unavailable, op, "the view is closed")
	}
	return leave, nil
}

// Moment implements store.View.
func (v *View) Moment() store.Moment { return v.moment }

// Close implements store.View.
func (v *View) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.closed = true
		v.store.published.drop(v.snapshot)
	}
	return nil
}

// Get implements store.View.
func (v *View) Get(ctx context.Context, key plan.Key) (store.Record, error) {
	const op = "lsm.Get"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return store.Record{}, err
	}
	defer leave()
	p, err := v.pointer(v.store.hash.Self(key))
	if err != nil {
		return store.Record{}, fault.Wrap(fault.Internal, op, err)
	}
	if !p.found {
		return store.Record{}, fault.New(fault.NotFound, op, "no such resource")
	}
	return v.recordAs(op, key, p.rid)
}

// GetVersion implements store.View.
func (v *View) GetVersion(ctx context.Context, key plan.Key, version uint64) (store.Record, error) {
	const op = "lsm.GetVersion"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return store.Record{}, err
	}
	defer leave()
	rid, found, err := v.versionRow(v.store.hash.Self(key), version)
	if err != nil {
		return store.Record{}, fault.Wrap(fault.Internal, op, err)
	}
	if !found {
		return store.Record{}, fault.New(fault.NotFound, op, "no such version")
	}
	return v.recordAs(op, key, rid)
}

// recordAs reads a row that must be of this resource: pointers know only the
// hash of it.
func (v *View) recordAs(op string, key plan.Key, rid uint64) (store.Record, error) {
	record, err := v.record(rid)
	if err != nil {
		return store.Record{}, fault.Wrap(fault.Internal, op, err)
	}
	if record.Key != key {
		return store.Record{}, corrupt("a pointer leads to another resource")
	}
	return record, nil
}

// Search implements store.View.
func (v *View) Search(ctx context.Context, p *plan.Plan) (store.Page, error) {
	const op = "lsm.Search"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return store.Page{}, err
	}
	defer leave()
	if err := store.CheckPlan(op, p); err != nil {
		return store.Page{}, err
	}
	page, err := v.search(ctx, p, false)
	return page, fault.Wrap(fault.Internal, op, err)
}

// Count implements store.View.
func (v *View) Count(ctx context.Context, p *plan.Plan) (int64, error) {
	const op = "lsm.Count"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return 0, err
	}
	defer leave()
	if err := store.CheckPlan(op, p); err != nil {
		return 0, err
	}
	q := newQuery(ctx, &v.reader, p.Work)
	n, err := q.count(p.Arms)
	if err = q.close(err); err != nil {
		return 0, fault.Wrap(fault.Internal, op, err)
	}
	return n, nil
}
