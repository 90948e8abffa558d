package memory

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// momentPrefix begins every Moment of this engine; the number of a commit
// follows, in decimal.
const momentPrefix = "memory-"

func moment(commit uint64) store.Moment {
	return store.Moment(momentPrefix + strconv.FormatUint(commit, 10))
}

// parseMoment reads a moment that is not after commit newest; the zero Moment
// reads as zero.
func parseMoment(op string, m store.Moment, zero, newest uint64) (uint64, error) {
	if m == "" {
		return zero, nil
	}
	digits, ok := strings.CutPrefix(string(m), momentPrefix)
	commit, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || commit > newest {
		return 0, fault.New(fault.Invalid, op, "not a moment of this store")
	}
	return commit, nil
}

// View implements store.Store.
func (h *handle) View(ctx context.Context, at store.Moment) (store.View, error) {
	const op = "memory.View"
	if err := h.ready(ctx, op); err != nil {
		return nil, err
	}
	h.data.mu.RLock()
	defer h.data.mu.RUnlock()
	commit, err := parseMoment(op, at, h.data.commits, h.data.commits)
	if err != nil {
		return nil, err
	}
	return &view{store: h, commit: commit}, nil
}

// view is a store as it is after one commit.
type view struct {
	store  *handle
	commit uint64
	closed atomic.Bool
}

// enter is what every method does first: it asks whether view and caller are
// still there, and holds writers off until leave.
func (v *view) enter(ctx context.Context, op string) (leave func(), err error) {
	if err := v.store.ready(ctx, op); err != nil {
		return nil, err
	}
	if v.closed.Load() {
		return nil, fault.New(fault.Unavailable, op, "the view is closed")
	}
	v.store.data.mu.RLock()
	return v.store.data.mu.RUnlock, nil
}

// Moment implements store.View.
func (v *view) Moment() store.Moment { return moment(v.commit) }

// Close implements store.View.
func (v *view) Close() error {
	v.closed.Store(true)
	return nil
}

// Get implements store.View.
func (v *view) Get(ctx context.Context, key plan.Key) (store.Record, error) {
	const op = "memory.Get"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return store.Record{}, err
	}
	defer leave()
	found := v.store.data.at(key, v.commit)
	if found == nil {
		return store.Record{}, fault.New(fault.NotFound, op, "no such resource")
	}
	return found.record(), nil
}

// GetVersion implements store.View.
func (v *view) GetVersion(ctx context.Context, key plan.Key, number uint64) (store.Record, error) {
	const op = "memory.GetVersion"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return store.Record{}, err
	}
	defer leave()
	for _, found := range v.store.data.resources[key] {
		if found.Version == number && found.commit <= v.commit {
			return found.record(), nil
		}
	}
	return store.Record{}, fault.New(fault.NotFound, op, "no such version")
}

// record is a copy that its receiver may spoil.
func (v *version) record() store.Record {
	r := v.Record
	r.Body = bytes.Clone(r.Body)
	return r
}

// Count implements store.View.
func (v *view) Count(ctx context.Context, p *plan.Plan) (int64, error) {
	const op = "memory.Count"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return 0, err
	}
	defer leave()
	matches, err := v.matches(op, p)
	return int64(len(matches)), err
}

// Search implements store.View.
func (v *view) Search(ctx context.Context, p *plan.Plan) (store.Page, error) {
	const op = "memory.Search"
	leave, err := v.enter(ctx, op)
	if err != nil {
		return store.Page{}, err
	}
	defer leave()
	matches, err := v.matches(op, p)
	if err != nil {
		return store.Page{}, err
	}
	rows := make([]row, len(matches))
	for i, m := range matches {
		rows[i] = row{m, placeOf(m, p.Sort)}
	}
	return cut(op, rows, pageOf{after: p.After, limit: p.Limit, total: p.Total != plan.TotalNone, keys: len(p.Sort)})
}

// matches finds what meets a plan, in no order. Looking at a resource is what
// it counts as work.
func (v *view) matches(op string, p *plan.Plan) ([]*version, error) {
	if err := store.CheckPlan(op, p); err != nil {
		return nil, err
	}
	d := v.store.data
	world := d.world(v.commit)
	var found []*version
	looked := int64(0)
	for _, candidate := range d.current(v.commit) {
		if !slices.ContainsFunc(p.Arms, func(a plan.Arm) bool { return a.Type == candidate.Key.Type }) {
			continue
		}
		if looked++; p.Work > 0 && looked > p.Work {
			return nil, fault.New(fault.TooCostly, op, "more resources to look at than allowed")
		}
		if world.Matches(p.Arms, candidate.candidate()) {
			found = append(found, candidate)
		}
	}
	return found, nil
}

// row is a match with its place in the answer's order.
type row struct {
	version *version
	place   place
}

// place orders an answer: by keys, then by Order from high to low. Written as
// JSON it is the token behind a row.
type place struct {
	Keys  []sortKey `json:"k,omitempty"`
	Order int64     `json:"o"` // negative where the oldest comes first
}

// sortKey is one key of a place, made so that what comes first is smaller.
type sortKey struct {
	Missing bool   `json:"m,omitempty"`
	Desc    bool   `json:"d,omitempty"` // Value counts downwards
	Value   []byte `json:"v,omitempty"`
}

func (p place) compare(q place) int {
	for i := range p.Keys {
		if c := p.Keys[i].compare(q.Keys[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(q.Order, p.Order)
}

func (k sortKey) compare(l sortKey) int {
	switch {
	case k.Missing && l.Missing:
		return 0
	case k.Missing:
		return 1
	case l.Missing:
		return -1
	case k.Desc:
		return bytes.Compare(l.Value, k.Value)
	default:
		return bytes.Compare(k.Value, l.Value)
	}
}

func placeOf(v *version, sorts []plan.Sort) place {
	p := place{Order: int64(v.order)}
	for _, s := range sorts {
		p.Keys = append(p.Keys, keyOf(v, s))
	}
	return p
}

func keyOf(v *version, s plan.Sort) sortKey {
	switch s.By {
	case plan.ByUpdated: // never decreases along the order, and the order breaks its ties
		return sortKey{Desc: s.Desc, Value: bigEndian(v.order)}
	case plan.ByID:
		return sortKey{Desc: s.Desc, Value: []byte(v.Key.ID)}
	case plan.ByType:
		return sortKey{Desc: s.Desc, Value: bigEndian(uint64(v.Key.Type))}
	}
	key := sortKey{Desc: s.Desc, Missing: true}
	for _, e := range v.entries {
		if !slices.Contains(s.Params, e.Param) {
			continue
		}
		better := key.Missing || s.Desc == (bytes.Compare(e.Value, key.Value) > 0)
		if better {
			key.Missing, key.Value = false, e.Value
		}
	}
	return key
}

func bigEndian(n uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (56 - 8*i))
	}
	return b
}

// pageOf says which piece of an answer is wanted.
type pageOf struct {
	after []byte
	limit int
	total bool
	keys  int // sort keys that a token of this question has
}

// cut sorts rows and takes one page of them.
func cut(op string, rows []row, want pageOf) (store.Page, error) {
	page := store.Page{Total: -1}
	if want.total {
		page.Total = int64(len(rows))
	}
	slices.SortFunc(rows, func(a, b row) int { return a.place.compare(b.place) })
	if want.after != nil {
		last, err := parsePlace(op, want.after, want.keys)
		if err != nil {
			return store.Page{}, err
		}
		rows = slices.DeleteFunc(rows, func(r row) bool { return r.place.compare(last) <= 0 })
	}
	for _, r := range rows[:min(want.limit, len(rows))] {
		page.Records = append(page.Records, r.version.record())
	}
	if want.limit > 0 && want.limit < len(rows) {
		next, err := json.Marshal(rows[want.limit-1].place)
		if err != nil {
			return store.Page{}, fault.Wrap(fault.Internal, op, err)
		}
		// As long however many commits there are: a link's length tells nobody.
		width := len(strconv.FormatInt(rows[want.limit-1].place.Order, 10))
		page.Next = slices.Concat(next, bytes.Repeat([]byte(" "), len("-9223372036854775808")-width))
	}
	return page, nil
}

func parsePlace(op string, token []byte, keys int) (place, error) {
	var p place
	if err := json.Unmarshal(token, &p); err != nil || len(p.Keys) != keys || p.Order == math.MinInt64 {
		return place{}, fault.New(fault.Invalid, op, "not the token of a page of this question")
	}
	return p, nil
}
