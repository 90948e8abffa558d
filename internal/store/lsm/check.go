package lsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// maxProblems bounds the problems that a Report lists.
const maxProblems = 100

// Report is what Check found.
type Report struct {
	Rows     int64    // versions, deletions and purges
	Postings int64    // rows in containers
	Problems []string // the first 100: keys and numbers, nothing that a client wrote
	More     int64    // problems beyond those
}

func (r *Report) problem(format string, args ...any) {
	if len(r.Problems) == maxProblems {
		r.More++
		return
	}
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Check reads the whole store as it is now: every row verifies and can be found
// by its resource and by each of its entries, and every row in a container is
// there and has the entry. Problems are in the Report; the error is only that
// the check could not be done.
func (s *Store) Check(ctx context.Context) (Report, error) {
	const op = "lsm.Check"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return Report{}, err
	}
	defer leave()
	snap := s.published.take()
	defer s.published.drop(snap)
	c := checker{query: newQuery(ctx, &reader{store: s, r: snap.Snapshot, w: snap.rid, live: true}, 0)}
	err = errors.Join(c.checkRows(), c.checkIndex(), c.checkTypes())
	return c.report, fault.Wrap(fault.Internal, op, c.close(err))
}

type checker struct {
	*query
	report Report
}

// checkRows goes from rows to what leads to them.
func (c *checker) checkRows() error {
	it, err := c.iter([]byte{spaceBody}, []byte{spaceBody + 1})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if err := c.step(); err != nil {
			return err
		}
		rid, err := keyRID(it.Key())
		if err != nil {
			return err
		}
		row, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		c.report.Rows++
		h, packed, err := c.store.bodies.open(row)
		if err == nil && !h.deleted && !h.purge {
			_, err = c.store.bodies.unpack(packed, h.codec, h.dict)
		}
		if err != nil {
			c.report.problem("row %d: %v", rid, err)
			continue
		}
		if !h.purge {
			if err := c.checkRow(rid, &h); err != nil {
				return err
			}
		}
	}
	return it.Error()
}

func (c *checker) checkRow(rid uint64, h *header) error {
	self := c.store.hash.Self(h.key)
	at, found, err := c.versionRow(self, h.version)
	if err != nil {
		return err
	}
	if !found || at != rid {
		c.report.problem("row %d: its resource does not lead to it", rid)
	}
	_, superseded, err := c.successor(rid)
	if err != nil {
		return err
	}
	current, err := c.pointer(self)
	if err != nil {
		return err
	}
	if superseded == (current.rid == rid) {
		c.report.problem("row %d: it has a successor and is current, or neither", rid)
	}
	kind := byte(kindPut)
	if h.deleted {
		kind = kindDelete
	}
	if err := c.checkIn(rid, typePrefix(h.key.Type, kind), "its type"); err != nil {
		return err
	}
	if h.deleted {
		return nil
	}
	return c.checkFacts(rid, self, superseded)
}

// checkFacts goes from a version to the containers of its entries.
func (c *checker) checkFacts(rid uint64, self plan.Hash, superseded bool) error {
	dead, err := c.dead(c.block(rid))
	if err != nil {
		return err
	}
	if in, err := containerHas(dead, c.store.ord(rid)); err != nil || in != superseded {
		c.report.problem("row %d: dead %t, superseded %t (%v)", rid, in, superseded, err)
	}
	raw, found, err := get(c.r, factsKey(rid))
	if err != nil {
		return err
	}
	if !found {
		c.report.problem("row %d: it has no facts", rid)
		return nil
	}
	if of, err := facts(raw).self(); err != nil || of != self {
		c.report.problem("row %d: its facts are another resource's", rid)
	}
	var failed error
	err = facts(raw).each(func(param plan.Param, value []byte) bool {
		failed = c.checkIn(rid, indexPrefix(param, value), fmt.Sprintf("an entry of param %d", param))
		return failed == nil
	})
	if err != nil {
		c.report.problem("row %d: %v", rid, err)
	}
	return failed
}

func (c *checker) checkIn(rid uint64, prefix []byte, what string) error {
	value, _, err := get(c.r, appendBlock(prefix, c.block(rid)))
	if err != nil {
		return err
	}
	if in, err := containerHas(value, c.store.ord(rid)); err != nil || !in {
		c.report.problem("row %d: the container of %s does not have it (%v)", rid, what, err)
	}
	return nil
}

func containerHas(container []byte, ord uint16) (bool, error) {
	var s set
	err := s.load(container)
	return err == nil && s.n > 0 && s.has(ord), err
}

// checkIndex goes from containers to the rows in them.
func (c *checker) checkIndex() error {
	return c.eachContainer(spaceIndex, func(key []byte, rid uint64) error {
		param, escaped, _, err := indexKeyParts(key)
		if err != nil {
			return err
		}
		value, err := unescape(nil, escaped)
		if err != nil {
			return err
		}
		f, err := c.facts(rid)
		if err != nil {
			return err
		}
		has := false
		if f != nil {
			err = f.each(func(p plan.Param, v []byte) bool {
				has = has || p == param && bytes.Equal(v, value)
				return !has
			})
		}
		if err != nil || !has {
			c.report.problem("row %d: a container of param %d has it, its facts do not have the entry (%v)", rid, param, err)
		}
		return nil
	})
}

// checkTypes goes from the containers of types to the rows in them.
func (c *checker) checkTypes() error {
	return c.eachContainer(spaceType, func(key []byte, rid uint64) error {
		h, _, err := c.row(rid)
		if err != nil {
			c.report.problem("row %d: the container of a type has it: %v", rid, err)
			return nil
		}
		kind := byte(kindPut)
		if h.deleted {
			kind = kindDelete
		}
		if !bytes.HasPrefix(key, typePrefix(h.key.Type, kind)) {
			c.report.problem("row %d: the container of another type has it", rid)
		}
		return nil
	})
}

// eachContainer calls do for every row of every container of a keyspace.
func (c *checker) eachContainer(space byte, do func(key []byte, rid uint64) error) error {
	it, err := c.r.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
	if err != nil {
		return err
	}
	c.iters = append(c.iters, it)
	for it.First(); it.Valid(); it.Next() {
		if err := c.step(); err != nil {
			return err
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		var s set
		if err := s.load(value); err != nil || s.n == 0 || len(it.Key()) != split(it.Key())+blockSize {
			c.report.problem("container at %x: empty, or in a wrong form (%v)", it.Key()[:min(len(it.Key()), 1+paramSize)], err)
			continue
		}
		for _, o := range s.all() {
			c.report.Postings++
			if err := do(it.Key(), c.rid(keyBlock(it.Key()), o)); err != nil {
				return err
			}
		}
	}
	return it.Error()
}
