package lsm

import (
	"bytes"
	"context"
	"errors"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// The parts of a store, as problems name them: keyspaces, and files.
const (
	partBody      = "body"
	partPointer   = "pointer"
	partHistory   = "history"
	partIndex     = "index"
	partDead      = "dead"
	partSuccessor = "successor"
	partType      = "type"
	partFacts     = "facts"
	partSheet     = "sheet"
	partMeta      = "meta"
	partUnknown   = "unknown keyspace"
	partFile      = "file"
)

var _ store.Checker = (*Store)(nil)

// Check implements store.Checker: every row verifies, is found by its resource
// and by each of its entries; whatever leads to a row leads to one that is
// there and says the same; every file opens under the store's key, and every
// block of every table has its checksum.
func (s *Store) Check(ctx context.Context) (store.Report, error) {
	const op = "lsm.Check"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return store.Report{}, err
	}
	defer leave()
	report, err := s.check(ctx, nil)
	return report, fault.Wrap(fault.Internal, op, err)
}

// check looks at everything, and notes in mends, when there are any, what would
// mend it. What cannot be read at all is a problem of its file; the keyspace it
// is in is left there.
func (s *Store) check(ctx context.Context, mends *mends) (store.Report, error) {
	snap := s.published.take()
	defer s.published.drop(snap)
	c := checker{query: newQuery(ctx, &reader{store: s, r: snap.Snapshot, w: snap.rid, live: true, loose: snap.loose}, 0), mends: mends}
	var stopped error
	for _, pass := range []struct {
		part string
		do   func() error
	}{
		{partFile, c.checkFiles}, {partSheet, c.checkSheets}, {partBody, c.checkRows}, {partPointer, c.checkPointers}, {partHistory, c.checkHistory},
		{partIndex, c.checkIndex}, {partDead, c.checkDead}, {partSuccessor, c.checkSuccessors}, {partType, c.checkTypes},
		{partFacts, c.checkFactRows}, {partMeta, c.checkMeta}, {partUnknown, c.checkUnknown},
	} {
		err := c.close(pass.do())
		c.factReader, c.resolver, c.bodyRows, c.deadKnown = factReader{}, nil, nil, false
		if interrupted(err) {
			stopped = err
			break
		}
		if err != nil {
			c.report.Add(pass.part, "cannot be read to its end: %v", err)
		}
	}
	return c.report, stopped
}

// interrupted tells an end from outside from damage.
func interrupted(err error) bool {
	return fault.Is(err, fault.Canceled) || fault.Is(err, fault.Timeout) || fault.Is(err, fault.Unavailable)
}

type checker struct {
	*query
	report store.Report
	mends  *mends // nil: only look
}

// each calls do for every key of a keyspace.
func (c *checker) each(space byte, do func(key, value []byte) error) error {
	it, err := c.iter([]byte{space}, []byte{space + 1})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if err := c.step(); err != nil {
			return err
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := do(it.Key(), value); err != nil {
			return err
		}
	}
	return it.Error()
}

// checkRows goes from rows to what leads to them.
func (c *checker) checkRows() error {
	return c.each(spaceBody, func(key, row []byte) error {
		c.report.Rows++
		rid, err := keyRID(key)
		if err != nil {
			c.report.Add(partBody, "a key of %d bytes", len(key))
			return nil
		}
		h, packed, err := c.store.bodies.open(row)
		if err == nil && !h.deleted && !h.purge {
			_, err = c.store.bodies.unpack(nil, packed, h.codec, h.dict)
		}
		if err != nil {
			c.report.Add(partBody, "row %d: %v", rid, err)
			return nil
		}
		if h.purge {
			return nil
		}
		return c.checkRow(rid, &h)
	})
}

func (c *checker) checkRow(rid uint64, h *header) error {
	self := c.store.hash.Self(h.key)
	if err := c.checkPlace(rid, self, h); err != nil {
		return err
	}
	if err := c.checkIn(partType, rid, typePrefix(h.key.Type, kindOf(h))); err != nil {
		return err
	}
	if h.deleted {
		return nil
	}
	return c.checkFacts(rid, self)
}

func kindOf(h *header) byte {
	if h.deleted {
		return kindDelete
	}
	return kindPut
}

// checkPlace looks whether a row stands right among its resource's versions:
// current and led to by the pointer, or superseded, dead and led to by history.
func (c *checker) checkPlace(rid uint64, self plan.Hash, h *header) error {
	current, err := c.pointerOrNone(self)
	if err != nil {
		return err
	}
	isCurrent := current.found && current.rid == rid
	past, found, err := get(c.r, historyKey(self, h.version))
	if err != nil {
		return err
	}
	inHistory := found && len(past) == ridSize && getRID(past) == rid
	_, superseded, err := get(c.r, successorKey(rid))
	if err != nil {
		return err
	}
	dead, err := c.dead(c.block(rid))
	if err != nil {
		return err
	}
	isDead, err := dead.has(c.store.ord(rid))
	switch {
	case !isCurrent && !inHistory && current.found && current.version > h.version:
		c.resource(partHistory, self, "row %d: the history of its resource does not lead to it", rid)
	case !isCurrent && !inHistory:
		c.resource(partPointer, self, "row %d: the pointer of its resource does not lead to it", rid)
	case isCurrent && found:
		c.resource(partHistory, self, "row %d: it is current, and its version is in history too", rid)
	case superseded == isCurrent:
		c.resource(partSuccessor, self, "row %d: current %t, superseded %t", rid, isCurrent, superseded)
	case err != nil || isDead != (superseded && !h.deleted):
		c.resource(partDead, self, "row %d: dead %t, superseded %t (%v)", rid, isDead, superseded, err)
	}
	return nil
}

// pointerOrNone reads a pointer; one in a wrong form is as good as none, and
// checkPointers tells of it.
func (c *checker) pointerOrNone(self plan.Hash) (pointer, error) {
	value, found, err := get(c.r, pointerKey(self))
	if err != nil || !found {
		return pointer{}, err
	}
	p, err := parsePointer(value)
	if err != nil {
		return pointer{}, nil //nolint:nilerr // see above
	}
	return p, nil
}

// checkFacts goes from a version to the containers of its entries.
func (c *checker) checkFacts(rid uint64, self plan.Hash) error {
	f, err := c.factsOf(rid)
	switch {
	case err != nil:
		return err
	case f == nil:
		c.report.Add(partFacts, "row %d: it has no facts that can be read", rid)
		c.mends.fact(rid, self)
		return nil
	case f.loose != nil:
		if of, err := f.loose.self(); err != nil || of != self {
			c.report.Add(partFacts, "row %d: its facts are not those of its resource", rid)
			c.mends.fact(rid, self)
			return nil
		}
	}
	var failed error
	err = f.each(nil, func(param plan.Param, value []byte, whole bool) bool {
		if whole {
			failed = c.checkIn(partIndex, rid, indexPrefix(param, value))
		} else {
			failed = c.checkCut(rid, param, value)
		}
		return failed == nil
	})
	if err != nil {
		c.report.Add(partFacts, "row %d: %v", rid, err)
		c.mends.fact(rid, self)
	}
	return failed
}

// factsOf reads facts; nil when there are none, or none in a right form.
func (c *checker) factsOf(rid uint64) (*factRow, error) {
	f, err := c.facts(rid)
	if damaged(err) {
		return nil, nil
	}
	return f, err
}

// checkCut looks whether exactly one container that an entry may mean has a row.
// One that is lost cannot be made of what is left of the value in the sheet.
func (c *checker) checkCut(rid uint64, param plan.Param, known []byte) error {
	n := 0
	err := c.resolve(rid, param, known, func([]byte) { n++ })
	if err == nil && n != 1 {
		c.report.Reindex = true
		c.report.Add(partIndex, "row %d: of an entry of %08x there are %d containers that have it: only a reindex of its resource mends that", rid, uint32(param), n)
	}
	return err
}

// checkIn looks for a row in the container of a prefix.
func (c *checker) checkIn(part string, rid uint64, prefix []byte) error {
	key := appendBlock(prefix, c.block(rid))
	value, _, err := get(c.r, key)
	if err != nil {
		return err
	}
	if in, err := containerHas(value, c.store.ord(rid)); err != nil || !in {
		c.report.Add(part, "row %d: the container %s does not have it (%v)", rid, named(key), err)
		c.mends.add(key, c.store.ord(rid))
	}
	return nil
}

// named is a key as a problem tells it: without the value that a client wrote.
func named(key []byte) string {
	const digits = "0123456789abcdef"
	var out []byte
	for _, b := range key[:min(len(key), 1+paramSize)] {
		out = append(out, digits[b>>4], digits[b&15])
	}
	return string(out)
}

func containerHas(container []byte, ord uint16) (bool, error) {
	in, err := set{ords: []uint16{ord}, n: 1}.narrow(container, false)
	return in.n > 0, err
}

// resource tells of a problem that is mended by writing again all that leads to
// a resource's rows.
func (c *checker) resource(part string, self plan.Hash, format string, args ...any) {
	c.report.Add(part, format, args...)
	c.mends.resource(self)
}

// stray tells of a key that should not be there.
func (c *checker) stray(part string, key []byte, format string, args ...any) {
	c.report.Add(part, format, args...)
	c.mends.remove(key)
}

// checkPointers goes from pointers to rows.
func (c *checker) checkPointers() error {
	return c.each(spacePointer, func(key, value []byte) error {
		if len(key) != 1+hashSize {
			c.stray(partPointer, key, "a key of %d bytes", len(key))
			return nil
		}
		p, err := parsePointer(value)
		if err != nil {
			c.stray(partPointer, key, "%x: %v", key[1:], err)
			c.mends.resource(plan.Hash(key[1:]))
			return nil
		}
		h, err := c.headerOf(p.rid)
		if err != nil {
			return err
		}
		if !c.isVersion(h, plan.Hash(key[1:])) || h.version != p.version || h.updated != p.updated || h.created != p.created || h.deleted != p.deleted {
			c.stray(partPointer, key, "%x: row %d, to which it leads, is not what it says", key[1:], p.rid)
			c.mends.resource(plan.Hash(key[1:]))
		}
		return nil
	})
}

// headerOf reads a header; nil when the row is not there or does not verify,
// which checkRows tells of.
func (c *checker) headerOf(rid uint64) (*header, error) {
	h, err := c.header(rid)
	switch {
	case err == nil:
		return &h, nil
	case damaged(err):
		return nil, nil
	}
	return nil, err
}

// damaged tells rows in a wrong form from what could not be read.
func damaged(err error) bool {
	f, ok := errors.AsType[*fault.Error](err)
	return ok && f.Kind == fault.Internal && f.Op == "lsm" && f.Cause == nil
}

// isVersion reports whether a row is a version of a resource.
func (c *checker) isVersion(h *header, self plan.Hash) bool {
	return h != nil && !h.purge && c.store.hash.Self(h.key) == self
}

// checkHistory goes from past versions to rows.
func (c *checker) checkHistory() error {
	return c.each(spaceHistory, func(key, value []byte) error {
		version, err := historyVersion(key)
		if err != nil || len(value) != ridSize {
			c.stray(partHistory, key, "a key of %d bytes with a value of %d", len(key), len(value))
			return nil
		}
		self := plan.Hash(key[1 : 1+hashSize])
		h, err := c.headerOf(getRID(value))
		if err != nil {
			return err
		}
		if !c.isVersion(h, self) || h.version != version {
			c.stray(partHistory, key, "%x: row %d is not version %d", self[:], getRID(value), version)
			c.mends.resource(self)
		}
		return nil
	})
}

// checkSuccessors goes from rows that were superseded to those that did it.
func (c *checker) checkSuccessors() error {
	return c.each(spaceSuccessor, func(key, value []byte) error {
		rid, err := keyRID(key)
		if err != nil || len(value) != ridSize {
			c.stray(partSuccessor, key, "a key of %d bytes with a value of %d", len(key), len(value))
			return nil
		}
		old, err := c.headerOf(rid)
		if err != nil {
			return err
		}
		by, err := c.headerOf(getRID(value))
		if err != nil {
			return err
		}
		switch {
		case old == nil || old.purge:
			c.stray(partSuccessor, key, "row %d, which was superseded, is not there", rid)
		case by == nil || by.purge || by.key != old.key || by.version != old.version+1:
			c.resource(partSuccessor, c.store.hash.Self(old.key), "row %d: row %d is not the version after it", rid, getRID(value))
		}
		return nil
	})
}

// checkFactRows goes from loose facts to rows.
func (c *checker) checkFactRows() error {
	return c.each(spaceFacts, func(key, value []byte) error {
		rid, err := keyRID(key)
		if err != nil {
			c.stray(partFacts, key, "a key of %d bytes", len(key))
			return nil
		}
		if facts(value).none() {
			return nil
		}
		h, err := c.headerOf(rid)
		if err == nil && (h == nil || h.purge || h.deleted) {
			c.stray(partFacts, key, "row %d, whose they are, is no version with a body", rid)
		}
		return err
	})
}

// checkSheets goes from sheets to rows.
func (c *checker) checkSheets() error {
	next := uint64(0) // behind the sheet before
	return c.each(spaceSheet, func(key, value []byte) error {
		last, err := keyRID(key)
		if err != nil {
			c.stray(partSheet, key, "a key of %d bytes", len(key))
			return nil
		}
		s, err := parseSheet(last, value)
		if err != nil || s.first < next {
			c.stray(partSheet, key, "the sheet up to row %d begins before row %d (%v)", last, next, err)
			return nil
		}
		next = last + 1
		for rid := s.first; rid <= last; rid++ {
			if err := c.checkInSheet(&s, rid); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkInSheet looks whether a row of a sheet is a version with a body.
func (c *checker) checkInSheet(s *sheet, rid uint64) error {
	if !s.has(rid) {
		return nil
	}
	h, err := c.headerOf(rid)
	if err != nil || h != nil && !h.purge && !h.deleted {
		return err
	}
	loose, err := c.looseFacts(rid)
	if err == nil && !loose.none() {
		c.report.Add(partSheet, "row %d, which is in the sheet up to row %d, is no version with a body", rid, s.last)
		c.mends.bare(rid)
	}
	return err
}

// checkIndex goes from containers to the rows in them.
func (c *checker) checkIndex() error {
	return c.eachContainer(spaceIndex, partIndex, func(key []byte, rid uint64) (bool, error) {
		param, escaped, _, err := indexKeyParts(key)
		if err != nil {
			return false, nil //nolint:nilerr // a stray key
		}
		value, err := unescape(nil, escaped)
		if err != nil {
			return false, nil //nolint:nilerr // a stray key
		}
		f, err := c.factsOf(rid)
		if err != nil {
			return false, err
		}
		if f == nil {
			// Facts that a version lost are rebuilt from here: see checkFacts.
			h, err := c.headerOf(rid)
			return h != nil && !h.purge && !h.deleted, err
		}
		has := false
		err = f.each(func(p plan.Param) bool { return p == param }, func(_ plan.Param, known []byte, whole bool) bool {
			has = sameEntry(known, whole, value)
			return !has
		})
		return has || err != nil && c.mends.rebuilds(rid), nil
	})
}

// checkTypes goes from the containers of types to the rows in them.
func (c *checker) checkTypes() error {
	return c.eachContainer(spaceType, partType, func(key []byte, rid uint64) (bool, error) {
		h, err := c.headerOf(rid)
		return h != nil && !h.purge && bytes.HasPrefix(key, typePrefix(h.key.Type, kindOf(h))), err
	})
}

// checkDead goes from the containers of superseded rows to their successors.
func (c *checker) checkDead() error {
	return c.eachContainer(spaceDead, partDead, func(_ []byte, rid uint64) (bool, error) {
		h, err := c.headerOf(rid)
		if h == nil || h.purge || h.deleted || err != nil {
			return false, err
		}
		_, superseded, err := get(c.r, successorKey(rid))
		return superseded || c.mends.writesAgain(c.store.hash.Self(h.key)), err
	})
}

// eachContainer asks for every row of every container of a keyspace whether it
// belongs there.
func (c *checker) eachContainer(space byte, part string, belongs func(key []byte, rid uint64) (bool, error)) error {
	return c.each(space, func(key, value []byte) error {
		block, ok := containerBlock(key)
		var s set
		if err := s.load(value); err != nil || s.n == 0 || !ok {
			c.stray(part, key, "container %s: empty, or in a wrong form (%v)", named(key), err)
			return nil
		}
		for _, o := range s.all() {
			c.report.Postings++
			in, err := belongs(key, c.rid(block, o))
			if err != nil {
				return err
			}
			if !in {
				c.report.Add(part, "row %d: the container %s has it, and should not", c.rid(block, o), named(key))
				c.mends.drop(key, o)
			}
		}
		return nil
	})
}

// containerBlock is the block of a container's key.
func containerBlock(key []byte) (block uint32, ok bool) {
	if key[0] == spaceDead {
		if len(key) != 1+blockSize {
			return 0, false
		}
		return ^keyBlock(key), true
	}
	if len(key) != split(key)+blockSize {
		return 0, false
	}
	return keyBlock(key), true
}

// checkMeta looks at the store's own notes.
func (c *checker) checkMeta() error {
	return c.each(spaceMeta, func(key, value []byte) error {
		switch {
		case bytes.Equal(key, purgedKey):
		case len(key) > 2 && key[1] == metaCursor && bytes.IndexByte(key, 0) > 1:
			if len(value) == 0 || value[0] != cursorForm {
				c.report.Add(partMeta, "the cursor of an import has a wrong form")
			}
		default:
			c.report.Add(partMeta, "an entry of an unknown kind")
		}
		return nil
	})
}

// checkUnknown looks for keys outside of the key table.
func (c *checker) checkUnknown() error {
	it, err := c.r.NewIter(nil)
	if err != nil {
		return err
	}
	c.iters = append(c.iters, it)
	known := []byte{spaceBody, spacePointer, spaceHistory, spaceIndex, spaceDead, spaceSuccessor, spaceType, spaceFacts, spaceSheet, spaceMeta}
	for it.First(); it.Valid(); {
		space := it.Key()[0]
		if bytes.IndexByte(known, space) < 0 {
			c.stray(partUnknown, it.Key(), "a key of keyspace %02x", space)
			it.Next()
			continue
		}
		it.SeekGE([]byte{space + 1})
	}
	return it.Error()
}
