package lsm

import (
	"slices"
	"sort"
)

// columnar is a condition on rows that kept columns may decide for many rows at
// once, which costs a tenth of asking one after the other.
type columnar interface {
	rowwise
	// decides gives of how many rows of a run, from its first on, columns decide; 0:
	// they do not.
	decides(run uint64) int
	// mark notes which rows meet the condition, where that is not noted yet. Columns
	// must decide all of them.
	mark(rows runRows, met []bool) error
}

// runRows is rows of one block that lie in one run of kept columns: their ords,
// ascending, and what is to be added to one for its place in the run.
type runRows struct {
	run  uint64
	off  int
	ords []uint16
}

// before is how many of them have a place before one.
func (r *runRows) before(place int) int {
	return sort.Search(len(r.ords), func(i int) bool { return int(r.ords[i])+r.off >= place })
}

// eachRun calls do for the rows of a block, run by run.
func (q *query) eachRun(b uint32, ords []uint16, do func(rows runRows) error) error {
	first, shift := q.rid(b, 0), q.store.tuning.keptShift
	for len(ords) > 0 {
		run := (first + uint64(ords[0])) >> shift
		rows := runRows{run: run, off: int(int64(first) - int64(run<<shift)), ords: ords}
		n := rows.before(1 << shift)
		rows.ords, ords = ords[:n], ords[n:]
		if err := do(rows); err != nil {
			return err
		}
	}
	return nil
}

// keepColumns narrows to the rows that meet all parts: by columns where they are
// kept of every part, else one after the other.
func (q *query) keepColumns(b uint32, in set, parts []columnar) (set, error) {
	ords := in.all()
	kept := ords[:0]
	tests := make([]func(rid uint64) (bool, error), len(parts))
	err := q.eachRun(b, ords, func(rows runRows) error {
		decided := 1 << q.store.tuning.keptShift
		for _, p := range parts {
			decided = min(decided, p.decides(rows.run))
		}
		n := rows.before(decided)
		rest := rows.ords[n:]
		rows.ords = rows.ords[:n]
		for i := 0; i < len(parts) && len(rows.ords) > 0; i++ {
			if err := q.keepMarked(&rows, parts[i]); err != nil {
				return err
			}
		}
		kept = append(kept, rows.ords...)
		if len(rest) > 0 && tests[0] == nil {
			for i, p := range parts {
				tests[i] = p.byRow()
			}
		}
		for _, o := range rest {
			met, err := meetsAll(tests, q.rid(b, o))
			if err != nil {
				return err
			}
			if met {
				kept = append(kept, o)
			}
		}
		return nil
	})
	return set{ords: kept, n: len(kept)}, err
}

// keepMarked narrows rows, in place, to those that meet a condition.
func (q *query) keepMarked(rows *runRows, c columnar) error {
	q.met = slices.Grow(q.met[:0], len(rows.ords))[:len(rows.ords)]
	clear(q.met)
	if err := c.mark(*rows, q.met); err != nil {
		return err
	}
	n := 0
	for i, o := range rows.ords {
		rows.ords[n] = o
		if q.met[i] {
			n++
		}
	}
	rows.ords = rows.ords[:n]
	return nil
}

// scanCodes is what a scan knows of the values of one kept column.
type scanCodes struct {
	of        *keptColumn
	low, high uint16 // values from low on, high excluded, lie in the range
	verdicts  []byte // where they must hold too: of each value, one more than its verdict; 0: not known
}

// codesIn makes the scan's codes ready for a column.
func (s *scan) codesIn(kept *keptColumn) *scanCodes {
	c := &s.codes
	if c.of == kept {
		return c
	}
	n := kept.values.count()
	c.of, c.low, c.high = kept, kept.values.from(s.low, false), uint16(n)
	if s.high != nil {
		c.high = max(c.low, kept.values.from(s.high, false))
	}
	c.verdicts = c.verdicts[:0]
	if s.holds != nil {
		c.verdicts = slices.Grow(c.verdicts, n)[:n]
		clear(c.verdicts)
	}
	return c
}

func (s *scan) decides(run uint64) int { return s.column.covered(s.q, run) }

func (s *scan) mark(rows runRows, met []bool) error {
	if err := s.q.look(len(rows.ords)); err != nil {
		return err
	}
	s.column.turnKept(s.q, rows.run)
	kept := s.column.kept.column
	if kept.codes == nil {
		return nil
	}
	codes := s.codesIn(kept)
	low, width := codes.low, codes.high-codes.low
	if width == 0 {
		return nil
	}
	for i, o := range rows.ords {
		code := kept.codes[int(o)+rows.off]
		if code-low < width { // codes that are no number are larger than all that are
			met[i] = met[i] || s.holds == nil || s.verdictOf(code) == yes
		} else if code == keptMany && !met[i] {
			met[i] = slices.ContainsFunc(kept.severalOf(int(o)+rows.off), func(c uint16) bool {
				return c-low < width && (s.holds == nil || s.verdictOf(c) == yes)
			})
		}
	}
	return nil
}

func (s *scan) verdictOf(n uint16) verdict {
	c := &s.codes
	if c.verdicts[n] == 0 {
		c.verdicts[n] = 1 + byte(s.inside(c.of.values.value(n), true))
	}
	return verdict(c.verdicts[n] - 1)
}

// columns are the parts that are no lists, if columns may decide all of them.
func (a *anyOf) columns() []columnar {
	if a.asked {
		return a.columnars
	}
	a.asked = true
	var all []columnar
	for _, p := range a.parts {
		if l := listOf(p); l != nil {
			a.lists = append(a.lists, l)
			continue
		}
		c, ok := p.(columnar)
		if !ok || c.byRow() == nil {
			return nil
		}
		all = append(all, c)
	}
	a.columnars = all
	return all
}

func (a *anyOf) decides(run uint64) int {
	columns := a.columns()
	if len(columns) == 0 {
		return 0
	}
	decided := columns[0].decides(run)
	for _, c := range columns[1:] {
		decided = min(decided, c.decides(run))
	}
	return decided
}

func (a *anyOf) mark(rows runRows, met []bool) error {
	if len(a.lists) > 0 {
		rid := rows.run<<a.q.store.tuning.keptShift + uint64(int(rows.ords[0])+rows.off)
		for _, l := range a.lists {
			if of := l.at(a.q.block(rid)); of != nil {
				for i, o := range rows.ords {
					met[i] = met[i] || of.has(o)
				}
			}
		}
	}
	for _, c := range a.columnars {
		if err := c.mark(rows, met); err != nil {
			return err
		}
	}
	return nil
}
