package lsm

import (
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// arm is a plan.Arm ready to be asked: the current resources of one type that
// meet a condition.
type arm struct {
	q        *query
	typ      plan.Type
	universe *postings // all versions of the type that are no deletions
	where    cond
	node     plan.Node // that where was made of
	asked    bool      // where was told what to expect
	scratch  set       // room for a block of the universe
}

func (q *query) arm(a plan.Arm) (*arm, error) {
	where, err := q.compile(a.Where, a.Type, false)
	if err != nil {
		return nil, err
	}
	return &arm{q: q, typ: a.Type, universe: q.postings(typePrefix(a.Type, kindPut)), where: where, node: a.Where}, nil
}

// bound is how many resources there are at most.
func (a *arm) bound() (int64, error) {
	n, err := a.where.bound()
	if err != nil {
		return 0, err
	}
	size, err := a.universe.bound()
	return min(n, size), err
}

// settle tells the condition how many rows it will be asked about.
func (a *arm) settle() error {
	if a.asked {
		return nil
	}
	a.asked = true
	if _, ok := a.where.(choosy); !ok {
		return nil
	}
	size, err := a.universe.bound()
	if err != nil {
		return err
	}
	return expect(a.where, size)
}

// next gives the newest block, not newer than b, that may hold some.
func (a *arm) next(b uint32) (uint32, bool, error) {
	if err := a.settle(); err != nil {
		return 0, false, err
	}
	for {
		at, ok, err := a.where.next(b)
		if err != nil || !ok {
			return 0, false, err
		}
		all, _, ok, err := a.universe.at(at)
		if err != nil || !ok || all == at {
			return all, ok, err
		}
		b = all
	}
}

// block gives the rows of a block, valid until the next call.
func (a *arm) block(b uint32) (set, error) {
	if err := a.settle(); err != nil {
		return set{}, err
	}
	if in, ok, err := seed(a.where, b, &a.scratch); err != nil || ok {
		if err == nil && !in.empty() {
			in, err = a.universe.keep(b, in)
		}
		if err != nil {
			return set{}, err
		}
		return a.filter(b, in, a.where.(seeder).seeded)
	}
	at, container, ok, err := a.universe.at(b)
	if err != nil || !ok || at != b {
		return set{}, err
	}
	if err := container.load(&a.scratch); err != nil {
		return set{}, err
	}
	return a.filter(b, a.scratch, a.where.keep)
}

// within narrows rows of any type to those of the arm; in is used up.
func (a *arm) within(b uint32, in set) (set, error) {
	if err := a.settle(); err != nil {
		return set{}, err
	}
	in, err := a.universe.keep(b, in)
	if err != nil {
		return set{}, err
	}
	return a.filter(b, in, a.where.keep)
}

// filter narrows versions of the arm's type to the current ones that meet the
// condition, which keep asks. At an older moment, versions superseded since are
// current again; that takes a look at each, so it comes last.
func (a *arm) filter(b uint32, in set, keep func(b uint32, in set) (set, error)) (set, error) {
	if in.empty() {
		return in, nil
	}
	q := a.q
	if q.live {
		dead, err := q.dead(b)
		if err != nil {
			return set{}, err
		}
		if in, err = dead.narrow(in, true); err != nil || in.empty() {
			return in, err
		}
		return keep(b, in)
	}
	in = in.span(0, int(min(q.w-min(q.w, q.rid(b, 0)), 1<<q.store.shift)))
	in, err := keep(b, in)
	if err != nil || in.empty() {
		return in, err
	}
	return q.currentThen(b, in)
}

// currentThen narrows to the rows that were not superseded yet at the moment.
func (q *query) currentThen(b uint32, in set) (set, error) {
	superseded, err := q.dead(b)
	if err != nil {
		return set{}, err
	}
	var dead set
	if err := superseded.load(&dead); err != nil || dead.empty() {
		return in, err
	}
	var failed error
	out := in.filter(func(o uint16) bool {
		if failed != nil || !dead.has(o) {
			return failed == nil
		}
		if failed = q.step(); failed != nil {
			return false
		}
		_, found, err := q.successor(q.rid(b, o))
		failed = err
		return !found
	}, false)
	return out, failed
}

// arms are alternatives over types; no row is of two.
type arms struct {
	q    *query
	list []*arm
}

func (q *query) arms(of []plan.Arm) (*arms, error) {
	a := &arms{q: q}
	for _, one := range of {
		ready, err := q.arm(one)
		if err != nil {
			return nil, err
		}
		a.list = append(a.list, ready)
	}
	return a, nil
}

func (a *arms) bound() (sum int64, err error) {
	for _, one := range a.list {
		n, err := one.bound()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (a *arms) next(b uint32) (newest uint32, found bool, err error) {
	for _, one := range a.list {
		at, ok, err := one.next(b)
		if err != nil {
			return 0, false, err
		}
		if ok && (!found || at > newest) {
			newest, found = at, true
		}
	}
	return newest, found, nil
}

// union asks every arm for its rows of one block.
func (a *arms) union(ask func(*arm) (set, error)) (set, error) {
	if len(a.list) == 1 {
		return ask(a.list[0])
	}
	var met gather
	for _, one := range a.list {
		s, err := ask(one)
		if err != nil {
			return set{}, err
		}
		met.union(s)
	}
	return met.set(), nil
}

func (a *arms) block(b uint32) (set, error) {
	return a.union(func(one *arm) (set, error) { return one.block(b) })
}

func (a *arms) within(b uint32, in set) (set, error) {
	return a.union(func(one *arm) (set, error) { return one.within(b, in.clone()) })
}

// each calls do with the rows of every block, newest block first, until it
// returns false.
func (a *arms) each(from uint32, do func(b uint32, rows set) (bool, error)) error {
	b, ok, err := a.next(from)
	for ; err == nil && ok; b, ok, err = a.next(b - 1) {
		rows, err := a.block(b)
		if err != nil {
			return err
		}
		if err := a.q.look(rows.n); err != nil {
			return err
		}
		if !rows.empty() {
			if more, err := do(b, rows); err != nil || !more {
				return err
			}
		}
		if b == 0 {
			return nil
		}
	}
	return err
}
