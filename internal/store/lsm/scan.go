package lsm

import (
	"bytes"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// scan is met by the rows of all index keys of one param between two values,
// whose value holds.
type scan struct {
	q            *query
	param        plan.Param
	low, high    []byte                  // values; high nil: no bound
	lower, upper []byte                  // keys
	holds        func(value []byte) bool // nil: all do
	tail         *plan.Tail              // what holds asks, where it is told by a range

	it       *pebble.Iterator
	last     []byte // prefix of the key before
	wanted   bool   // whether its value holds
	value    []byte // scratch
	gathered map[uint32]*gather
	n        int64
	probe    int     // keys that bound reads at most
	asked    bool    // whether its rows are kept
	done     *listed // once read to its end
	rows     *byRow  // when rows are looked at instead
	column   column  // for that
	codes    scanCodes
}

// compileRange makes a range; an empty one has no keys.
func (q *query) compileRange(n plan.Range) (cond, error) {
	if n.High != nil && bytes.Compare(n.Low, n.High) >= 0 {
		return list(nil), nil
	}
	s := newScan(q, n.Param, n.Low, n.High, nil)
	if n.Tail != nil {
		s.holds, s.tail = n.Holds, n.Tail
	}
	return s, nil
}

func newScan(q *query, param plan.Param, low, high []byte, holds func([]byte) bool) *scan {
	lower, upper := indexBounds(param, low, high)
	return &scan{q: q, param: param, low: low, high: high, lower: lower, upper: upper, holds: holds, gathered: map[uint32]*gather{}, probe: q.store.tuning.scanProbe, column: column{param: param}}
}

// read reads up to limit more keys; 0 is no limit.
func (s *scan) read(limit int) error {
	if s.it == nil {
		it, err := s.q.iter(s.lower, s.upper)
		if err != nil {
			return err
		}
		s.it = it
		it.First()
	}
	for n := 0; s.it.Valid(); n++ {
		if limit > 0 && n == limit {
			return nil
		}
		if err := s.q.look(1); err != nil {
			return err
		}
		if err := s.readKey(); err != nil {
			return err
		}
	}
	if err := s.it.Error(); err != nil {
		return err
	}
	s.done, s.gathered = list(s.gathered), nil
	return nil
}

// ask finds out whether its rows are kept.
func (s *scan) ask() (err error) {
	if s.asked || s.holds != nil && s.tail == nil || s.it != nil || s.done != nil {
		return nil
	}
	s.asked = true
	key := appendBytes(nil, s.lower) // no key of the index begins so
	key = appendBytes(key, s.upper)
	if s.tail != nil {
		key = appendBytes(binary.AppendUvarint(key, uint64(s.tail.At)), s.tail.Low)
		if s.tail.High != nil {
			key = appendBytes(key, s.tail.High)
		}
	}
	s.done, err = s.q.keptOf(key, s.readKept)
	return err
}

// readKept reads the rows in blocks from one on; nil: they have too many keys.
func (s *scan) readKept(from uint32) (*listed, error) {
	it, err := s.q.iter(s.lower, s.upper)
	if err != nil {
		return nil, err
	}
	most := s.q.store.tuning.scanProbe
	if s.tail != nil {
		most = max(1, most/keptTailed)
	}
	gathered := map[uint32]*gather{}
	for ok, n := it.First(), 0; ok; n++ {
		if n == most {
			return nil, s.q.dropIter(it)
		}
		if err := s.q.look(1); err != nil {
			return nil, err
		}
		b := keyBlock(it.Key())
		wanted, err := s.wants(it.Key())
		if err != nil {
			return nil, err
		}
		if !wanted || b < from { // and so are all of this value that come
			ok = it.NextPrefix()
			continue
		}
		if container, err := it.ValueAndErr(); err != nil {
			return nil, err
		} else if err := gatherAt(gathered, b).merge(container); err != nil {
			return nil, err
		}
		ok = it.Next()
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	return list(gathered), s.q.dropIter(it)
}

// wants reports whether the value of a key holds.
func (s *scan) wants(key []byte) (wanted bool, err error) {
	prefix := key[:split(key)]
	if s.holds == nil || bytes.Equal(prefix, s.last) {
		return s.holds == nil || s.wanted, nil
	}
	if s.value, err = unescape(s.value[:0], prefix[1+paramSize:len(prefix)-1]); err != nil {
		return false, err
	}
	s.last, s.wanted = append(s.last[:0], prefix...), s.holds(s.value)
	return s.wanted, nil
}

// readKey takes the key that the iterator stands on, and goes on.
func (s *scan) readKey() error {
	key := s.it.Key()
	if wanted, err := s.wants(key); err != nil {
		return err
	} else if !wanted {
		s.it.NextPrefix()
		return nil
	}
	container, err := s.it.ValueAndErr()
	if err != nil {
		return err
	}
	size, err := countContainer(container)
	if err != nil {
		return err
	}
	s.n += int64(size)
	if err := gatherAt(s.gathered, keyBlock(key)).merge(container); err != nil {
		return err
	}
	s.it.Next()
	return nil
}

// bound is exact for small ranges, and says nothing for others.
func (s *scan) bound() (int64, error) {
	if err := s.ask(); err != nil {
		return 0, err
	}
	if s.done == nil && s.it == nil && s.rows == nil && !s.isLarge() {
		if err := s.read(s.probe); err != nil {
			return 0, err
		}
	}
	if s.done != nil {
		return s.done.n, nil
	}
	return many, nil
}

// isLarge reports whether columns show that a range has more keys than are read to
// learn its size: values of a run alone.
func (s *scan) isLarge() bool {
	newest, ok := s.q.newestBlock()
	if !ok {
		return false
	}
	last := (s.q.rid(newest+1, 0) - 1) >> s.q.store.tuning.keptShift
	for run := range min(last+1, probeRuns) {
		if s.column.covered(s.q, last-run) == 0 || s.column.kept.column.codes == nil {
			continue
		}
		if codes := s.codesIn(s.column.kept.column); int(codes.high-codes.low) >= s.probe {
			return true
		}
	}
	return false
}

const (
	// probeRuns is in how many runs of columns, the newest, the size of a range shows.
	probeRuns = 4
	// leastProbe is how many keys are read to learn the size of a range, however
	// few rows other conditions leave.
	leastProbe = 16
	// keptTailed is the part of scanProbe that a range may have keys to be kept, whose
	// values must hold: those of a day or two, as all are gone over again after a commit,
	// and columns tell of more in less time.
	keptTailed = 8
	// keyCost is how many rows are tested in the time of reading a key, where their
	// values are kept.
	keyCost = 128
)

// hint says that rows will be asked about at most: to read more keys than would
// be cheaper only to learn the range's size does not pay.
func (s *scan) hint(rows int64) {
	s.probe = int(min(int64(s.probe), max(leastProbe, rows/keyCost)))
}

// expect turns to rows when the range is large and the rows are few.
func (s *scan) expect(rows int64) error {
	if _, err := s.bound(); err != nil {
		return err
	}
	if s.done == nil && s.rows == nil && rows <= s.q.store.tuning.scanRows {
		s.rows = &byRow{s.q, s.test}
	}
	return nil
}

// test looks at one row's own entries.
func (s *scan) test(rid uint64) (met bool, err error) {
	if err := s.q.look(1); err != nil {
		return false, err
	}
	kept, err := s.column.keptOf(s.q, rid)
	if err != nil {
		return false, err
	}
	if kept != nil {
		return s.testKept(rid, kept), nil
	}
	f, err := s.q.factsOf(rid)
	if err != nil || f == nil {
		return false, err
	}
	if f.loose == nil {
		return s.testSheet(rid, &f.sheet)
	}
	err = f.loose.each(func(param plan.Param, value []byte) bool {
		met = param == s.param && s.inside(value, true) == yes
		return !met
	})
	return met, err
}

// testKept is test for a row of a kept column.
func (s *scan) testKept(rid uint64, kept *keptColumn) bool {
	var room [1]uint16
	for _, n := range kept.numbers(s.q.keptOrd(rid), room[:]) {
		if s.inside(kept.values.value(n), true) == yes {
			return true
		}
	}
	return false
}

// testSheet is test for a row of a sheet.
func (s *scan) testSheet(rid uint64, r *sheetRow) (met bool, err error) {
	refs, err := s.column.refs(r)
	for ; err == nil && !met && len(refs) > 0; refs = refs[s.column.size:] {
		n := s.column.first + getRef(refs, s.column.size)
		inside := s.column.learned.recall(n)
		if inside != unsure {
			met = inside == yes
			continue
		}
		value, whole, failed := r.valueAt(n)
		if failed != nil {
			return false, failed
		}
		if inside = s.inside(value, whole); inside == unsure {
			err = s.q.resolve(rid, s.param, value, func(value []byte) { met = met || s.inside(value, true) == yes })
			continue
		}
		s.learn(n, value, inside)
		met = inside == yes
	}
	return met, err
}

// learn notes what was found of value n, where it tells of others too: a value
// may lie between the bounds and not hold.
func (s *scan) learn(n int, value []byte, inside verdict) {
	l := &s.column.learned
	switch {
	case inside == yes && s.holds == nil:
		l.from, l.to = min(l.from, n), max(l.to, n)
	case inside == no && bytes.Compare(value, s.low) < 0:
		l.below = max(l.below, n)
	case inside == no && s.high != nil && bytes.Compare(value, s.high) >= 0:
		l.above = min(l.above, n)
	}
}

// verdict is what is known of a value.
type verdict byte

const (
	no verdict = iota
	yes
	unsure
)

// inside tells whether a value lies in the range and holds; value is whole, or
// the beginning of one.
func (s *scan) inside(value []byte, whole bool) verdict {
	switch {
	case bytes.Compare(value, s.low) < 0:
		if whole || !bytes.HasPrefix(s.low, value) {
			return no
		}
		return unsure
	case s.high != nil && bytes.Compare(value, s.high) >= 0:
		return no
	case !whole && (s.holds != nil || bytes.HasPrefix(s.high, value)):
		return unsure
	case s.holds != nil && !s.holds(value):
		return no
	}
	return yes
}

func (s *scan) byRow() func(rid uint64) (bool, error) {
	if s.rows == nil {
		return nil
	}
	return s.test
}

func (s *scan) load() error {
	if err := s.ask(); err != nil || s.done != nil {
		return err
	}
	return s.read(0)
}

func (s *scan) next(b uint32) (uint32, bool, error) {
	if s.rows != nil {
		return b, true, nil
	}
	if err := s.load(); err != nil {
		return 0, false, err
	}
	return s.done.next(b)
}

func (s *scan) keep(b uint32, in set) (set, error) {
	if s.rows != nil {
		return s.q.keepColumns(b, in, []columnar{s})
	}
	if err := s.load(); err != nil {
		return set{}, err
	}
	return s.done.keep(b, in)
}

func (s *scan) seed(b uint32, room *set) (set, bool, error) {
	if s.rows != nil {
		return set{}, false, nil
	}
	if err := s.load(); err != nil {
		return set{}, false, err
	}
	return s.done.seed(b, room)
}

func (s *scan) seeded(_ uint32, in set) (set, error) { return in, nil }
