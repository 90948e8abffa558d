package lsm

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// group is the commits of one sync while they are judged and written. What is
// written stands in the batch, but for containers, which are put together over
// the whole group and written at its end (settleContainers): many rows of one
// entry make one write.
type group struct {
	q       *sequencer
	batch   *pebble.Batch
	answers []answer
	rows    int
	wrote   bool // something of this group needs a sync
	purging bool // the batch holds containers that a purge wrote

	pointers map[plan.Hash]pointer // as after the group's commits, and as read
	block    uint32                // of containers
	ords     map[string][]uint16   // key without block → rows of block
	dead     map[uint32][]uint16   // block → rows
}

func newGroup(q *sequencer) *group {
	return &group{
		q: q, batch: q.store.db.NewBatch(),
		pointers: map[plan.Hash]pointer{}, ords: map[string][]uint16{}, dead: map[uint32][]uint16{},
	}
}

// full reports whether the next commit opens another group: there are enough, or what is
// written takes what there is room for in memory.
func (g *group) full() bool {
	containers := int64(len(g.ords)) * (containerBytes + nodeBytes)
	return len(g.answers) >= maxGroup || g.rows >= maxGroupRows || g.q.store.mem.full(bytesIn(g.batch)+containers)
}

// close throws away a batch that was not applied.
func (g *group) close() { _ = g.batch.Close() /* an unused batch has nothing to lose */ }

// add judges a commit at its place in the order and writes it.
func (g *group) add(r *request) {
	outcomes, err := g.commit(r)
	g.answers = append(g.answers, answer{r, reply{outcomes, err}})
}

func (g *group) commit(r *request) ([]store.Outcome, error) {
	q := g.q
	if q.broken != nil {
		return nil, q.broken
	}
	if r.seal != nil {
		return nil, g.seal(r.seal)
	}
	if err := q.floor.check(); err != nil && !onlyFrees(r) {
		return nil, err
	}
	now, err := q.date()
	if err != nil {
		return nil, err
	}
	if err := g.look(r.changes); err != nil {
		return nil, err
	}
	if err := g.judge(r); err != nil {
		return nil, err
	}
	if len(r.reentries) > 0 {
		p, err := g.planReindex(r.reentries)
		if err != nil {
			return nil, err
		}
		return g.reindex(r.reentries, p), nil
	}
	purges, err := g.planPurges(r.changes)
	if err != nil {
		return nil, err
	}
	return g.write(r, now, purges)
}

// onlyFrees reports whether a commit makes space, which a full disk allows.
func onlyFrees(r *request) bool {
	if len(r.reentries) > 0 {
		return false
	}
	for i := range r.changes {
		if k := r.changes[i].kind; !r.changes[i].frees && (k == store.Put || k == store.Delete) {
			return false
		}
	}
	return true
}

// look reads the pointers of all keys: what follows needs no read that could
// fail half way.
func (g *group) look(changes []change) error {
	for i := range changes {
		if changes[i].key.ID == "" {
			continue
		}
		if _, err := g.pointerOf(changes[i].self); err != nil {
			return err
		}
	}
	return nil
}

// pointerOf is the pointer of a resource after what this group wrote so far.
func (g *group) pointerOf(self plan.Hash) (pointer, error) {
	p, known := g.pointers[self]
	if known {
		return p, nil
	}
	value, found, err := get(g.q.store.db, pointerKey(self))
	if err != nil {
		return p, fault.Wrap(fault.Internal, "lsm.Commit", err)
	}
	if found {
		if p, err = parsePointer(value); err != nil {
			return p, err
		}
	}
	g.pointers[self] = p
	return p, nil
}

// judge finds the first precondition that does not hold.
func (g *group) judge(r *request) error {
	changes := r.changes
	for i := range changes {
		for j := range changes[i].conditions {
			current := g.pointers[changes[i].self]
			if changes[i].key.ID == "" {
				current = pointer{}
			}
			matched, ok, err := g.meets(r.ctx, &changes[i].conditions[j], current)
			if err != nil {
				return err
			}
			if !ok {
				return &store.Unmet{Op: i, Condition: j, Current: current.version, Deleted: current.deleted, Matched: matched}
			}
		}
	}
	return nil
}

// meets judges one condition; for Matches it says what the plan found.
func (g *group) meets(ctx context.Context, c *condition, current pointer) ([]plan.Key, bool, error) {
	switch c.Kind {
	case store.AtVersion:
		return nil, current.alive() && current.version == c.Version, nil
	case store.Exists:
		return nil, current.alive(), nil
	case store.Absent:
		return nil, !current.alive(), nil
	case store.Never:
		return nil, !current.found, nil
	}
	if g.stale(c) {
		if err := g.ask(ctx, c); err != nil {
			return nil, false, err
		}
	}
	return c.found, sameKeys(c.found, c.Keys), nil
}

// stale reports whether a type that the condition reads was committed to since
// it was answered.
func (g *group) stale(c *condition) bool {
	for t := range c.reads {
		if g.q.types[t] > c.at {
			return true
		}
	}
	return !c.asked
}

// ask runs the condition's plan over everything before this commit.
func (g *group) ask(ctx context.Context, c *condition) error {
	if err := g.settle(); err != nil {
		return err
	}
	s := g.q.store
	found, err := s.firstMatches(ctx, &reader{store: s, r: s.db, w: g.q.next.rid, live: true, loose: g.q.next.loose}, c.around)
	if err != nil {
		return err
	}
	c.found = found
	return nil
}

// settle applies what the group has written so far, so that it can be searched.
// It is not synced yet, and therefore the sync under way must be done and
// published first.
func (g *group) settle() error {
	if g.batch.Empty() && len(g.ords) == 0 && len(g.dead) == 0 {
		return nil
	}
	g.q.land()
	g.settleContainers()
	if err := g.q.apply(g.batch, false); err != nil {
		g.q.fail(err)
		return g.q.broken
	}
	g.batch, g.purging = g.q.store.db.NewBatch(), false
	return nil
}

// settleContainers writes the containers put together so far into the batch.
func (g *group) settleContainers() {
	g.settleBlock()
	for block, ords := range g.dead {
		var all gather // superseded in any order
		for _, o := range ords {
			all.add(o)
		}
		g.union(deadKey(block), &all)
	}
	clear(g.dead)
}

func (g *group) settleBlock() {
	for prefix, ords := range g.ords {
		g.union(appendBlock([]byte(prefix), g.block), &gather{ords: ords})
	}
	clear(g.ords)
}

// must takes the error of a write into a batch: it has one only when the batch
// was applied or closed before, which would be our mistake.
func must(err error) {
	if err != nil {
		panic("lsm: " + err.Error())
	}
}

// post adds a row to the container of a key without block.
func (g *group) post(prefix string, rid uint64) {
	if block := uint32(rid >> g.q.store.shift); block != g.block {
		g.settleBlock()
		g.block = block
	}
	g.ords[prefix] = append(g.ords[prefix], g.q.store.ord(rid))
}

// ord is a row's place in its block.
func (s *Store) ord(rid uint64) uint16 { return uint16(rid & (1<<s.shift - 1)) }

// write carries a commit out. It cannot fail: whatever may was done before.
func (g *group) write(r *request, now int64, purges map[int]*purge) ([]store.Outcome, error) {
	rows := g.countRows(r.changes)
	if g.q.next.rid+rows > maxRID {
		return nil, fault.New(fault.Full, "lsm.Commit", "no row numbers are left")
	}
	for _, edit := range r.meta {
		g.writeMeta(edit)
	}
	if r.scrubbed > 0 && g.q.purged <= r.scrubbed {
		g.writeMeta(metaEdit{key: purgedKey})
	}
	c := commitWriter{group: g, number: g.q.next.commit + 1, end: g.q.next.rid + rows, now: now}
	for i := range r.changes {
		if p := purges[i]; p != nil { // in order: a container of two is written last as both leave it
			g.purging = true
			c.takeAway(p) // first: what a purge rewrites, the other changes merge into
		}
	}
	outcomes := make([]store.Outcome, len(r.changes))
	for i := range r.changes {
		outcomes[i] = c.change(&r.changes[i], purges[i])
	}
	if rows > 0 {
		g.q.next.commit, g.q.next.last = c.number, now
		g.wrote = true
		g.rows += int(rows)
	}
	return outcomes, nil
}

func (g *group) writeMeta(edit metaEdit) {
	g.wrote = true
	if edit.idle {
		must(g.batch.Delete(edit.key, nil))
		return
	}
	switch edit.key[0] {
	case spaceBody, spacePointer, spaceHistory:
		g.q.touchedAll()
	case spaceFacts, spaceSheet:
		g.q.next.loosened(0) // where it is does not matter for what happens so seldom
	case spaceIndex, spaceDead, spaceType:
		g.q.next.edits++
	}
	if edit.value == nil {
		must(g.batch.Delete(edit.key, nil))
		return
	}
	must(g.batch.Set(edit.key, edit.value, nil))
}

// countRows is the number of rows that a commit makes: one per version, deletion
// and purge. An import may write a key twice, but only by puts.
func (g *group) countRows(changes []change) (rows uint64) {
	for i := range changes {
		p := g.pointers[changes[i].self]
		switch changes[i].kind {
		case store.Put:
			rows++
		case store.Delete:
			if p.alive() {
				rows++
			}
		case store.Purge:
			if p.found {
				rows++
			}
		}
	}
	return rows
}

// commitWriter writes the rows of one commit.
type commitWriter struct {
	*group
	number uint64 // of the commit
	end    uint64 // the row behind its last one
	now    int64
}

func (c *commitWriter) change(ch *change, p *purge) store.Outcome {
	current := c.pointers[ch.self]
	if ch.key.ID == "" {
		current = pointer{}
	}
	switch {
	case ch.kind == store.Put, ch.kind == store.Delete && current.alive():
		made := c.version(ch, current)
		return store.Outcome{
			Version: made.version, Updated: fromMillis(made.updated),
			Created: ch.kind == store.Put && !current.alive(), Changed: true,
		}
	case ch.kind == store.Purge && p != nil:
		c.q.next.edits++ // a sheet under way may hold its facts
		c.purge(ch)
		return store.Outcome{Changed: true}
	case ch.kind == store.Purge || !current.found:
		return store.Outcome{}
	default: // Check, or Delete of what is deleted
		return store.Outcome{Version: current.version, Updated: fromMillis(current.updated)}
	}
}

// row takes the next row number and begins its header.
func (c *commitWriter) row(ch *change) (uint64, header) {
	rid := c.q.next.rid
	c.q.next.rid++
	c.q.types[ch.key.Type] = c.number
	c.q.touched(ch.self)
	return rid, header{key: ch.key, commit: c.number, end: c.end, updated: c.now, created: c.now, tag: ch.tag}
}

// version writes the next version of a resource, or its deletion.
func (c *commitWriter) version(ch *change, current pointer) pointer {
	rid, h := c.row(ch)
	h.version, h.deleted, h.codec, h.dict = 1, ch.kind == store.Delete, ch.codec, ch.dict
	if current.found {
		h.version, h.created = current.version+1, current.created
		c.supersede(ch.self, current, rid)
	}
	must(c.batch.Set(bodyKey(rid), c.q.store.bodies.row(&h, ch.packed), nil))
	kind := byte(kindPut)
	if h.deleted {
		kind = kindDelete
	} else {
		must(c.batch.Set(factsKey(rid), ch.facts, nil))
		for _, prefix := range ch.prefixes {
			c.post(prefix, rid)
		}
	}
	c.post(string(typePrefix(ch.key.Type, kind)), rid)
	made := pointer{rid: rid, version: h.version, updated: h.updated, created: h.created, deleted: h.deleted, found: true}
	must(c.batch.Set(pointerKey(ch.self), made.append(nil), nil))
	c.pointers[ch.self] = made
	return made
}

// supersede makes the current version a past one.
func (c *commitWriter) supersede(self plan.Hash, old pointer, by uint64) {
	must(c.batch.Set(historyKey(self, old.version), appendRID(nil, old.rid), nil))
	must(c.batch.Set(successorKey(old.rid), appendRID(nil, by), nil))
	if !old.deleted {
		block := uint32(old.rid >> c.q.store.shift)
		c.dead[block] = append(c.dead[block], c.q.store.ord(old.rid))
		c.q.next.buried++
	}
}
