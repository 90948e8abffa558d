package lsm

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// cond is a plan.Node ready to be asked block by block.
type cond interface {
	// next gives the newest block, not newer than b, that may hold rows which
	// meet the condition; ok is false when there is none.
	next(b uint32) (block uint32, ok bool, err error)
	// keep narrows rows of block b to those that meet the condition. in is used
	// up.
	keep(b uint32, in set) (set, error)
	// bound is how many rows meet the condition at most.
	bound() (int64, error)
}

// choosy is a cond that can be asked row by row, which is cheaper when another
// condition leaves only few rows.
type choosy interface {
	cond
	// expect says how many rows will be asked about at most.
	expect(rows int64) error
}

func expect(c cond, rows int64) error {
	if c, ok := c.(choosy); ok {
		return c.expect(rows)
	}
	return nil
}

// hinted is a cond whose bound costs less when it is known how many rows will be
// asked about at most.
type hinted interface{ hint(rows int64) }

func hint(c cond, rows int64) {
	if c, ok := c.(hinted); ok {
		c.hint(rows)
	}
}

// rowwise is a cond that may have been turned to looking at rows: then byRow
// gives the test, else nil.
type rowwise interface {
	byRow() func(rid uint64) (bool, error)
}

// seeder is a cond that may give rows of a block of itself, among which all are
// that meet it: fewer than a type has, so that less has to be narrowed.
type seeder interface {
	// seed uses room; ok is false when there is nothing to begin with.
	seed(b uint32, room *set) (in set, ok bool, err error)
	// seeded is keep for rows that seed gave, or some of them.
	seeded(b uint32, in set) (set, error)
}

func seed(c cond, b uint32, room *set) (set, bool, error) {
	if c, ok := c.(seeder); ok {
		return c.seed(b, room)
	}
	return set{}, false, nil
}

func (t *term) seed(b uint32, room *set) (set, bool, error) { //nolint:unparam // a seeder's form
	at, rows, ok, err := t.postings.at(b)
	if err != nil || !ok || at != b {
		return set{}, true, err
	}
	err = rows.load(room)
	return *room, true, err
}

func (l *listed) seed(b uint32, room *set) (set, bool, error) { //nolint:unparam // a seeder's form
	s := l.at(b)
	if s == nil {
		return set{}, true, nil
	}
	room.copy(s)
	return *room, true, nil
}

func (a *all) seed(b uint32, room *set) (set, bool, error) {
	if err := a.arrange(); err != nil {
		return set{}, false, err
	}
	return seed(a.parts[0], b, room)
}

// seeded: the first part was met from the start.
func (a *all) seeded(b uint32, in set) (set, error) {
	first, ok := a.parts[0].(seeder)
	if !ok {
		return a.keep(b, in)
	}
	in, err := first.seeded(b, in)
	if err != nil {
		return set{}, err
	}
	return a.keepFrom(1, b, in)
}

func (t *term) seeded(_ uint32, in set) (set, error)   { return in, nil }
func (l *listed) seeded(_ uint32, in set) (set, error) { return in, nil }

// many is a bound that says nothing.
const many = math.MaxInt64 / 4

// compile makes a node ready for rows of one type. versions: the rows are
// versions of any age, and not the current ones.
func (q *query) compile(node plan.Node, t plan.Type, versions bool) (cond, error) {
	c, err := q.compileNode(node, t, versions)
	if q.nodes != nil && err == nil {
		_, none := c.(everything)
		if _, known := q.nodes[c]; !none && !known { // an Or of one is that one
			q.nodes[c] = node
		}
	}
	return c, err
}

func (q *query) compileNode(node plan.Node, t plan.Type, versions bool) (cond, error) {
	switch n := node.(type) {
	case nil:
		return everything{}, nil
	case plan.Term:
		return &term{postings: q.postings(indexPrefix(n.Param, n.Value)), n: -1}, nil
	case plan.Range:
		return q.compileRange(n)
	case plan.Contains:
		return newScan(q, n.Param, nil, nil, func(v []byte) bool { return bytes.Contains(v, n.Part) }), nil
	case plan.Test:
		return q.compileTest(n), nil
	case plan.Updated:
		return q.compileUpdated(n, versions)
	case plan.Created:
		return q.compileCreated(n)
	case plan.IDs:
		return q.compileIDs(n, t, versions)
	case plan.And:
		return q.compileAll(n, t, versions)
	case plan.Or:
		return q.compileAny(n, t, versions)
	case plan.Not:
		of, err := q.compile(n.Of, t, versions)
		return &negation{of}, err
	case plan.Chain:
		return q.compileChain(n)
	case plan.Has:
		return q.compileHas(n, t, versions)
	}
	return nil, corrupt("a plan with a node of unknown kind")
}

// everything is met by every row.
type everything struct{}

func (everything) next(b uint32) (uint32, bool, error)  { return b, true, nil }
func (everything) keep(_ uint32, in set) (set, error)   { return in, nil }
func (everything) bound() (int64, error)                { return many, nil }
func (n *negation) next(b uint32) (uint32, bool, error) { return b, true, nil }
func (n *negation) bound() (int64, error)               { return many, nil }
func (n *negation) expect(rows int64) error             { return expect(n.of, rows) }
func (t *term) keep(b uint32, in set) (set, error)      { return t.postings.keep(b, in) }
func (l *listed) bound() (int64, error)                 { return l.n, nil }
func (r *byRow) bound() (int64, error)                  { return many, nil }
func (s *span) bound() (int64, error)                   { return int64(s.high - min(s.low, s.high)), nil }

// negation is met by the rows that do not meet of.
type negation struct{ of cond }

func (n *negation) keep(b uint32, in set) (set, error) {
	out, err := n.of.keep(b, in.clone())
	if err != nil || out.empty() {
		return in, err
	}
	return in.narrowSet(out, true), nil
}

// term is met by the rows of one index key.
type term struct {
	postings *postings
	n        int64 // -1: not counted yet
}

func (t *term) next(b uint32) (uint32, bool, error) {
	at, _, ok, err := t.postings.at(b)
	return at, ok, err
}

func (t *term) bound() (n int64, err error) {
	if t.n < 0 {
		t.n, err = t.postings.bound()
	}
	return t.n, err
}

// listed is met by rows that were looked up beforehand. It does not change once it
// is made, so that queries may share it.
type listed struct {
	order []uint32 // blocks, newest first
	sets  []set    // of each block
	n     int64
}

// list makes a listed of what was gathered.
func list(gathered map[uint32]*gather) *listed {
	l := &listed{}
	order := slices.Collect(maps.Keys(gathered))
	slices.SortFunc(order, newerFirst)
	for _, b := range order {
		l.add(b, gathered[b].set())
	}
	return l
}

func newerFirst(a, b uint32) int { return cmp.Compare(b, a) }

// add adds the rows of a block that is older than all before.
func (l *listed) add(b uint32, s set) {
	l.order, l.sets, l.n = append(l.order, b), append(l.sets, s), l.n+int64(s.n)
}

// append adds the rows of older that lie in blocks before one.
func (l *listed) append(older *listed, before uint32) {
	if older == nil || before == 0 {
		return
	}
	for i := older.find(before - 1); i < len(older.order); i++ {
		l.add(older.order[i], older.sets[i])
	}
}

// find gives the place of the newest block that is not newer than b.
func (l *listed) find(b uint32) int {
	i, _ := slices.BinarySearchFunc(l.order, b, newerFirst)
	return i
}

// at gives the rows of a block; it is nil when there are none.
func (l *listed) at(b uint32) *set {
	if i := l.find(b); i < len(l.order) && l.order[i] == b {
		return &l.sets[i]
	}
	return nil
}

// bytes is about what it takes in memory.
func (l *listed) bytes() (sum int64) {
	if l == nil {
		return 0
	}
	for i := range l.sets {
		sum += l.sets[i].bytes()
	}
	return sum
}

func (l *listed) next(b uint32) (uint32, bool, error) {
	i := l.find(b)
	if i == len(l.order) {
		return 0, false, nil
	}
	return l.order[i], true, nil
}

func (l *listed) keep(b uint32, in set) (set, error) {
	s := l.at(b)
	if s == nil {
		return set{}, nil
	}
	return in.narrowSet(*s, false), nil
}

// gatherAt is the gather of a block.
func gatherAt(blocks map[uint32]*gather, b uint32) *gather {
	g := blocks[b]
	if g == nil {
		g = new(gather)
		blocks[b] = g
	}
	return g
}

// byRow is met by the rows for which test holds.
type byRow struct {
	q    *query
	test func(rid uint64) (bool, error)
}

func (r *byRow) next(b uint32) (uint32, bool, error) { return b, true, nil }

func (r *byRow) byRow() func(rid uint64) (bool, error) { return r.test }

// byBody is byRow for a test so dear that every other comes before it.
type byBody struct{ byRow }

func (r *byBody) bound() (int64, error) { return many + 1, nil }

func (r *byRow) keep(b uint32, in set) (set, error) { return keepRows(r.q, r.test, b, in) }

// keepRows narrows to the rows for which test holds.
func keepRows(q *query, test func(rid uint64) (bool, error), b uint32, in set) (set, error) {
	var failed error
	out := in.filter(func(o uint16) bool {
		if failed != nil {
			return false
		}
		ok, err := test(q.rid(b, o))
		failed = err
		return ok && err == nil
	}, false)
	return out, failed
}

// all is met by the rows that meet every part.
type all struct {
	q     *query
	parts []cond // the one with the fewest rows first, once ready
	ready bool

	rowTests []func(rid uint64) (bool, error) // see tests; nil: not asked for yet
	byRows   bool                             // one of them is there
	columns  []columnar                       // parts that columns may decide
	decided  []bool                           // which of the parts these are
}

func (q *query) compileAll(nodes plan.And, t plan.Type, versions bool) (cond, error) {
	parts, err := q.compileParts(nodes, t, versions)
	if err != nil {
		return nil, err
	}
	switch len(parts) {
	case 0:
		return everything{}, nil
	case 1:
		return parts[0], nil
	}
	return &all{q: q, parts: parts}, nil
}

func (q *query) compileParts(nodes []plan.Node, t plan.Type, versions bool) ([]cond, error) {
	parts := make([]cond, 0, len(nodes))
	for _, node := range nodes {
		part, err := q.compile(node, t, versions)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// arrange puts the part with the fewest rows first and tells the others how few
// there will be.
func (a *all) arrange() error {
	if a.ready {
		return nil
	}
	bounds := make(map[cond]int64, len(a.parts))
	least := int64(many)
	for _, late := range [...]bool{false, true} { // those that can use a hint come last
		for _, p := range a.parts {
			if _, can := p.(hinted); can != late {
				continue
			}
			hint(p, least)
			n, err := p.bound()
			if err != nil {
				return err
			}
			bounds[p] = n
			least = min(least, n)
		}
	}
	slices.SortStableFunc(a.parts, func(x, y cond) int {
		switch {
		case bounds[x] < bounds[y]:
			return -1
		case bounds[x] > bounds[y]:
			return 1
		}
		return 0
	})
	a.ready = true
	return a.expect(bounds[a.parts[0]])
}

func (a *all) expect(rows int64) error {
	if err := a.arrange(); err != nil {
		return err
	}
	first, err := a.parts[0].bound()
	if err != nil {
		return err
	}
	if rows < first {
		if err := expect(a.parts[0], rows); err != nil {
			return err
		}
	}
	for _, p := range a.parts[1:] {
		if err := expect(p, min(rows, first)); err != nil {
			return err
		}
	}
	return nil
}

func (a *all) bound() (int64, error) {
	if err := a.arrange(); err != nil {
		return 0, err
	}
	return a.parts[0].bound()
}

func (a *all) next(b uint32) (uint32, bool, error) {
	if err := a.arrange(); err != nil {
		return 0, false, err
	}
	return a.parts[0].next(b)
}

func (a *all) keep(b uint32, in set) (set, error) {
	if err := a.arrange(); err != nil {
		return set{}, err
	}
	return a.keepFrom(0, b, in)
}

// keepFrom narrows to the rows that meet the parts from one on.
func (a *all) keepFrom(first int, b uint32, in set) (_ set, err error) {
	tests := a.tests()
	for i, p := range a.parts {
		if in.empty() {
			return in, nil
		}
		if i < first || tests[i] != nil || a.decided[i] {
			continue
		}
		if in, err = p.keep(b, in); err != nil {
			return set{}, err
		}
	}
	if len(a.columns) > 0 && !in.empty() {
		if in, err = a.q.keepColumns(b, in, a.columns); err != nil {
			return set{}, err
		}
	}
	if a.byRows && !in.empty() {
		return keepRows(a.q, func(rid uint64) (bool, error) { return meetsAll(tests, rid) }, b, in)
	}
	return in, nil
}

// tests are those of the parts that look at rows, and that no columns decide, so
// that all look at a row while it is at hand; nil for the other parts.
func (a *all) tests() []func(rid uint64) (bool, error) {
	if a.rowTests != nil {
		return a.rowTests
	}
	a.rowTests = make([]func(rid uint64) (bool, error), len(a.parts))
	a.decided = make([]bool, len(a.parts))
	for i, p := range a.parts {
		r, ok := p.(rowwise)
		if !ok {
			continue
		}
		if c, ok := p.(columnar); ok && c.byRow() != nil {
			a.columns, a.decided[i] = append(a.columns, c), true
			continue
		}
		a.rowTests[i] = r.byRow()
		a.byRows = a.byRows || a.rowTests[i] != nil
	}
	return a.rowTests
}

func meetsAll(tests []func(rid uint64) (bool, error), rid uint64) (bool, error) {
	for _, test := range tests {
		if test == nil {
			continue
		}
		if met, err := test(rid); !met || err != nil {
			return false, err
		}
	}
	return true, nil
}

// anyOf is met by the rows that meet one part at least.
type anyOf struct {
	q     *query
	parts []cond

	asked     bool       // for what follows
	columnars []columnar // see columns
	lists     []*listed  // the other parts, but those that nothing meets
}

func (q *query) compileAny(nodes plan.Or, t plan.Type, versions bool) (cond, error) {
	parts, err := q.compileParts(nodes, t, versions)
	if err != nil {
		return nil, err
	}
	if parts, err = q.possible(parts); err != nil {
		return nil, err
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return &anyOf{q: q, parts: parts}, nil
}

// possible leaves out alternatives that need an entry which nothing has, so that
// what is rare in all stores (texts that were cut, contained resources) costs one
// look where it is not there.
func (q *query) possible(parts []cond) ([]cond, error) {
	kept := parts[:0]
	for _, p := range parts {
		none, err := q.impossible(p)
		if err != nil {
			return nil, err
		}
		if !none {
			kept = append(kept, p)
		}
	}
	return kept, nil
}

// impossible reports whether a condition is a term, or needs one, that no row has.
func (q *query) impossible(c cond) (bool, error) {
	switch c := c.(type) {
	case *term:
		newest, ok := q.newestBlock()
		if !ok {
			return true, nil
		}
		_, _, ok, err := c.postings.at(newest)
		return !ok, err
	case *all:
		for _, part := range c.parts {
			if t, ok := part.(*term); ok {
				if none, err := q.impossible(t); none || err != nil {
					return none, err
				}
			}
		}
	}
	return false, nil
}

func (a *anyOf) expect(rows int64) error {
	for _, p := range a.parts {
		if err := expect(p, rows); err != nil {
			return err
		}
	}
	return nil
}

func (a *anyOf) bound() (sum int64, err error) {
	for _, p := range a.parts {
		n, err := p.bound()
		if err != nil {
			return 0, err
		}
		sum = min(many, sum+n)
	}
	return sum, nil
}

func (a *anyOf) next(b uint32) (newest uint32, found bool, err error) {
	for _, p := range a.parts {
		at, ok, err := p.next(b)
		if err != nil {
			return 0, false, err
		}
		if ok && (!found || at > newest) {
			newest, found = at, true
		}
	}
	return newest, found, nil
}

func (a *anyOf) keep(b uint32, in set) (set, error) {
	if a.byRow() != nil {
		return a.q.keepColumns(b, in, []columnar{a})
	}
	var met gather
	for i, p := range a.parts {
		if in.empty() {
			break
		}
		s, err := p.keep(b, in.clone())
		if err != nil {
			return set{}, err
		}
		if i < len(a.parts)-1 && !s.empty() { // what is met needs no other part
			in = in.narrowSet(s, true)
		}
		met.union(s)
	}
	return met.set(), nil
}

func (a *anyOf) hint(rows int64) {
	for _, p := range a.parts {
		hint(p, rows)
	}
}

// byRow makes one test of those of all parts, so that a row is read once, where
// one of them looks at rows: rows that are listed are known before.
func (a *anyOf) byRow() func(rid uint64) (bool, error) {
	var tests []func(rid uint64) (bool, error)
	var lists []*listed
	for _, p := range a.parts {
		if l := listOf(p); l != nil {
			lists = append(lists, l)
			continue
		}
		r, ok := p.(rowwise)
		if !ok {
			return nil
		}
		test := r.byRow()
		if test == nil {
			return nil
		}
		tests = append(tests, test)
	}
	if len(tests) == 0 {
		return nil
	}
	return func(rid uint64) (bool, error) {
		for _, l := range lists {
			if rows := l.at(a.q.block(rid)); rows != nil && rows.has(a.q.store.ord(rid)) {
				return true, nil
			}
		}
		for _, test := range tests {
			if met, err := test(rid); met || err != nil {
				return met, err
			}
		}
		return false, nil
	}
}

// listOf is the list of a condition that is one, or was read to one; else nil.
func listOf(c cond) *listed {
	switch c := c.(type) {
	case *listed:
		return c
	case *scan:
		if c.rows == nil {
			return c.done
		}
	}
	return nil
}

// span is met by the rows from low to high, high excluded.
type span struct {
	q         *query
	low, high uint64
	versions  bool
}

func (s *span) next(b uint32) (uint32, bool, error) {
	if s.low >= s.high || b < s.q.block(s.low) {
		if s.versions { // a deletion is tested by an older row
			return b, true, nil
		}
		return 0, false, nil
	}
	return min(b, s.q.block(s.high-1)), true, nil
}

func (s *span) keep(b uint32, in set) (set, error) {
	if s.versions && s.q.as != 0 {
		if s.low <= s.q.as && s.q.as < s.high {
			return in, nil
		}
		return set{}, nil
	}
	first, rows := s.q.rid(b, 0), uint64(1)<<s.q.store.shift
	low := min(rows, s.low-min(s.low, first))
	high := min(rows, s.high-min(s.high, first))
	return in.span(int(low), int(high)), nil
}

// compileUpdated makes rows of times: Updated never decreases along them.
func (q *query) compileUpdated(n plan.Updated, versions bool) (cond, error) {
	low, high, err := q.rowsBetween(n.Low, n.High)
	return &span{q, low, high, versions}, err
}

func (q *query) rowsBetween(from, to time.Time) (low, high uint64, err error) {
	high = q.w
	if !from.IsZero() {
		if low, err = q.rowAt(ceilMillis(from)); err != nil {
			return 0, 0, err
		}
	}
	if !to.IsZero() {
		if high, err = q.rowAt(ceilMillis(to)); err != nil {
			return 0, 0, err
		}
	}
	return low, high, nil
}

// ceilMillis is the first whole millisecond not before t.
func ceilMillis(t time.Time) int64 {
	ms := t.UnixMilli()
	if fromMillis(ms).Before(t) {
		ms++
	}
	return ms
}

// rowAt finds the first row before w that was made at a time or later.
func (q *query) rowAt(ms int64) (uint64, error) {
	it, err := q.iter([]byte{spaceBody}, rowKey(spaceBody, q.w))
	if err != nil {
		return 0, err
	}
	low, high := uint64(0), q.w // the answer lies from low to high
	for low < high {
		if err := q.step(); err != nil {
			return 0, err
		}
		middle := low + (high-low)/2
		rid, updated, ok, err := q.firstFrom(it, middle)
		switch {
		case err != nil:
			return 0, err
		case !ok, rid >= high:
			high = middle
		case updated >= ms: // and there is none from middle to rid
			high = middle
		default:
			low = rid + 1
		}
	}
	return low, nil
}

// firstFrom reads number and time of the first row from rid on.
func (q *query) firstFrom(it *pebble.Iterator, rid uint64) (at uint64, updated int64, ok bool, err error) {
	if !it.SeekGE(rowKey(spaceBody, rid)) {
		return 0, 0, false, it.Error()
	}
	if at, err = keyRID(it.Key()); err != nil {
		return 0, 0, false, err
	}
	row, err := it.ValueAndErr()
	if err != nil {
		return 0, 0, false, err
	}
	h, _, err := parseHeader(row)
	return at, h.updated, err == nil, err
}

// compileCreated looks at headers: a later version of a resource has the time
// of its first. None is older than its resource, which bounds the rows.
func (q *query) compileCreated(n plan.Created) (cond, error) {
	low, _, err := q.rowsBetween(n.Low, time.Time{})
	if err != nil {
		return nil, err
	}
	test := &byRow{q, func(rid uint64) (bool, error) {
		h, err := q.header(rid)
		return err == nil && n.Holds(fromMillis(h.created)), err
	}}
	return &all{q: q, parts: []cond{&span{q: q, low: low, high: q.w}, test}}, nil
}

// compileTest reads bodies.
func (q *query) compileTest(n plan.Test) cond {
	return &byBody{byRow{q, func(rid uint64) (bool, error) {
		if err := q.look(plan.TestWork); err != nil {
			return false, err
		}
		h, packed, err := q.openRow(nil, rid)
		if err != nil {
			return false, err
		}
		record, err := q.store.recordOf(nil, &h, packed)
		return err == nil && n.Holds(record.Key, record.Body), err
	}}}
}

// compileIDs looks the ids up.
func (q *query) compileIDs(n plan.IDs, t plan.Type, versions bool) (cond, error) {
	if versions {
		return &byRow{q, func(rid uint64) (bool, error) {
			h, err := q.header(rid)
			return err == nil && slices.Contains(n.IDs, h.key.ID), err
		}}, nil
	}
	found := map[uint32]*gather{}
	for _, id := range n.IDs {
		if err := q.look(1); err != nil {
			return nil, err
		}
		p, err := q.pointer(q.store.hash.Self(plan.Key{Type: t, ID: id}))
		if err != nil {
			return nil, err
		}
		if p.alive() {
			gatherAt(found, q.block(p.rid)).add(q.store.ord(p.rid))
		}
	}
	return list(found), nil
}
