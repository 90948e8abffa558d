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
	// meets gives what columns say of the condition for all rows at once, if they do.
	meets(rows runRows) columnVerdict
	// mark notes which rows meet the condition, where that is not noted yet. Columns
	// must decide all of them.
	mark(rows runRows, met []bool) error
}

// columnVerdict is what columns say of a condition for rows of a run.
type columnVerdict struct {
	alone *scanCodes // rows whose codes are these meet it, and no others; nil: they must be marked
	none  bool       // no row meets it
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
	switch v := c.meets(*rows); {
	case v.none:
		rows.ords = rows.ords[:0]
		return nil
	case v.alone != nil:
		if err := q.look(len(rows.ords)); err != nil {
			return err
		}
		rows.ords = keepCodes(v.alone.of.codes, v.alone.low, v.alone.high-v.alone.low, rows.ords, rows.off)
		return nil
	}
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

// keepCodes narrows ords, in place, to those whose codes are no further than width
// from low: most of what a search by ranges does, and so written that the processor
// has nothing to guess.
func keepCodes(codes []uint16, low, width uint16, ords []uint16, off int) []uint16 {
	n := 0
	for _, o := range ords {
		ords[n] = o
		kept := n + 1
		if codes[int(o)+off]-low >= width {
			kept = n
		}
		n = kept
	}
	return ords[:n]
}

// scanCodes is what a scan knows of the values of one kept column.
type scanCodes struct {
	of        *keptColumn
	low, high uint16 // values from low on, high excluded, lie in the range
	hold      bool   // all of these hold
	verdicts  []byte // where they must hold too: of each value from low on, one more than its verdict; 0: not known
}

// codesIn makes the scan's codes ready for a column.
func (s *scan) codesIn(kept *keptColumn) *scanCodes {
	c := &s.codes
	if c.of == kept {
		return c
	}
	c.of, c.low, c.high = kept, kept.values.from(s.low, false), uint16(kept.values.count())
	if s.high != nil {
		c.high = max(c.low, kept.values.from(s.high, false))
	}
	if c.hold = s.holds == nil; !c.hold {
		s.judge()
	}
	return c
}

// judge makes ready to tell which values in the range hold. Of few of them it leaves
// out those at either end that do not, and finds out whether all others do: of the day
// that a range of dates begins in, mostly none holds.
func (s *scan) judge() {
	c := &s.codes
	few := c.high-c.low <= s.q.store.tuning.keptFew
	in := func(n uint16) bool { return s.inside(c.of.values.value(n), true) == yes }
	for few && c.low < c.high && !in(c.low) {
		c.low++
	}
	for few && c.low < c.high && !in(c.high-1) {
		c.high--
	}
	c.hold = few
	for n := c.low; c.hold && n < c.high; n++ {
		c.hold = in(n)
	}
	c.verdicts = slices.Grow(c.verdicts[:0], int(c.high-c.low))[:c.high-c.low]
	clear(c.verdicts)
}

func (s *scan) decides(run uint64) int { return s.column.covered(s.q, run) }

func (s *scan) meets(rows runRows) columnVerdict {
	s.column.turnKept(s.q, rows.run)
	kept := s.column.kept.column
	if kept.codes == nil {
		return columnVerdict{none: true}
	}
	codes := s.codesIn(kept)
	switch {
	case codes.low == codes.high:
		return columnVerdict{none: true}
	case codes.hold && len(kept.many) == 0:
		return columnVerdict{alone: codes}
	}
	return columnVerdict{}
}

func (s *scan) mark(rows runRows, met []bool) error {
	if s.meets(rows).none {
		return nil
	}
	if err := s.q.look(len(rows.ords)); err != nil {
		return err
	}
	codes := &s.codes
	kept, low, width := codes.of, codes.low, codes.high-codes.low
	for i, o := range rows.ords {
		code := kept.codes[int(o)+rows.off]
		if code-low < width { // codes that are no number are larger than all that are
			met[i] = met[i] || codes.hold || s.verdictOf(code) == yes
		} else if code == keptMany && !met[i] {
			met[i] = slices.ContainsFunc(kept.severalOf(int(o)+rows.off), func(c uint16) bool {
				return c-low < width && (codes.hold || s.verdictOf(c) == yes)
			})
		}
	}
	return nil
}

func (s *scan) verdictOf(n uint16) verdict {
	known := &s.codes.verdicts[n-s.codes.low]
	if *known == 0 {
		*known = 1 + byte(s.inside(s.codes.of.values.value(n), true))
	}
	return verdict(*known - 1)
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
			if l.n > 0 {
				a.lists = append(a.lists, l)
			}
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

// meets is that of the one part that some of the rows may meet, if no other is.
func (a *anyOf) meets(rows runRows) columnVerdict {
	if len(a.listsAt(rows)) > 0 {
		return columnVerdict{}
	}
	verdict := columnVerdict{none: true}
	for _, c := range a.columnars {
		v := c.meets(rows)
		switch {
		case v.none:
		case !verdict.none:
			return columnVerdict{}
		default:
			verdict = v
		}
	}
	return verdict
}

// listsAt is what is listed of the rows' block.
func (a *anyOf) listsAt(rows runRows) (there []*set) {
	if len(a.lists) == 0 {
		return nil
	}
	b := a.q.block(rows.run<<a.q.store.tuning.keptShift + uint64(int(rows.ords[0])+rows.off))
	for _, l := range a.lists {
		if of := l.at(b); of != nil {
			there = append(there, of)
		}
	}
	return there
}

func (a *anyOf) mark(rows runRows, met []bool) error {
	for _, of := range a.listsAt(rows) {
		for i, o := range rows.ords {
			met[i] = met[i] || of.has(o)
		}
	}
	for _, c := range a.columnars {
		if err := c.mark(rows, met); err != nil {
			return err
		}
	}
	return nil
}
