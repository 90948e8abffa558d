package fhirpath

import "slices"

// lambda is a function whose argument is evaluated for each item, as $this.
type lambda func(e *eval, f *frame, pos int, in []Value, body fn, out []Value) ([]Value, error)

func perItem(do lambda) function {
	return function{1, 1, func(c *compiler, n call, in fn) (fn, error) {
		body, err := c.compile(n.args[0])
		if err != nil {
			return nil, err
		}
		return iterate(n.at(), in, body, do), nil
	}}
}

func iterate(pos int, in, body fn, do lambda) fn {
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		items, err := in(e, f, e.buf())
		if err != nil {
			return out, err
		}
		inner := e.enter(f)
		if out, err = do(e, inner, pos, items, body, out); err != nil {
			return out, err
		}
		e.leave(inner)
		e.free(items)
		return e.grow(out)
	}
}

// lambdaFunctions evaluate an argument again and again.
var lambdaFunctions = map[string]function{
	"where": perItem(func(e *eval, f *frame, pos int, in []Value, body fn, out []Value) ([]Value, error) {
		for i, v := range in {
			f.set(v, i)
			t, err := e.truth(pos, body, f)
			if err != nil {
				return out, err
			}
			if t == yes {
				out = append(out, v)
			}
		}
		return out, e.cost(len(in))
	}),
	"select": perItem(func(e *eval, f *frame, _ int, in []Value, body fn, out []Value) ([]Value, error) {
		var err error
		for i, v := range in {
			f.set(v, i)
			if out, err = body(e, f, out); err != nil {
				return out, err
			}
			if out, err = e.grow(out); err != nil {
				return out, err
			}
		}
		return out, e.cost(len(in))
	}),
	"all": perItem(func(e *eval, f *frame, pos int, in []Value, body fn, out []Value) ([]Value, error) {
		for i, v := range in {
			f.set(v, i)
			t, err := e.truth(pos, body, f)
			if err != nil || t != yes {
				return append(out, Boolean(false)), err
			}
		}
		return append(out, Boolean(true)), e.cost(len(in))
	}),
	"repeat": perItem(repeat),
}

// lambdaTables adds the functions that need more than one body.
func lambdaTables() {
	functions["exists"] = function{0, 1, makeExists}
	functions["iif"] = function{2, 3, makeIif}
	functions["aggregate"] = function{1, 2, makeAggregate}
	functions["trace"] = function{1, 2, makeTrace}
	functions["sort"] = function{0, maxArgs, makeSort}
	for name, make := range typeFunctions {
		functions[name] = function{1, 1, func(c *compiler, n call, in fn) (fn, error) {
			return c.typeCall(n, in, make)
		}}
	}
}

func (c *compiler) typeCall(n call, in fn, make func(int, fn, matcher) fn) (fn, error) {
	spec, err := c.typeSpec(n.args[0])
	if err != nil {
		return nil, err
	}
	if of, ok := n.of.(call); ok && n.name == "is" && isResolve(of) {
		return c.resolvesTo(of, spec, n.at())
	}
	m, err := c.matcher(spec, n.at())
	if err != nil {
		return nil, err
	}
	return make(n.at(), in, m), nil
}

// repeat evaluates body on what body gave, until nothing new comes (N1 section
// 5.2.3).
func repeat(e *eval, f *frame, _ int, in []Value, body fn, out []Value) ([]Value, error) {
	seen := distinct{e: e, items: out, first: len(out)}
	for i, v := range in {
		f.set(v, i)
		if err := e.addDistinct(&seen, body, f); err != nil {
			return out, err
		}
	}
	for next := seen.first; next < len(seen.items); next++ {
		f.set(seen.items[next], next-seen.first)
		if err := e.addDistinct(&seen, body, f); err != nil {
			return out, err
		}
	}
	return seen.items, nil
}

func (e *eval) addDistinct(seen *distinct, body fn, f *frame) error {
	found, err := body(e, f, e.buf())
	if err != nil {
		return err
	}
	for _, v := range found {
		if err := seen.add(v); err != nil {
			return err
		}
	}
	e.free(found)
	_, err = e.grow(seen.items)
	return err
}

// makeExists: with a criterion, whether where() leaves anything.
func makeExists(c *compiler, n call, in fn) (fn, error) {
	if len(n.args) == 0 {
		return withoutArgs(n.at(), in, func(_ *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
			return append(out, Boolean(len(in) > 0)), nil
		}), nil
	}
	body, err := c.compile(n.args[0])
	return iterate(n.at(), in, body, existsSuch), err
}

func existsSuch(e *eval, f *frame, pos int, in []Value, body fn, out []Value) ([]Value, error) {
	for i, v := range in {
		f.set(v, i)
		t, err := e.truth(pos, body, f)
		if err != nil || t == yes {
			return append(out, Boolean(true)), err
		}
	}
	return append(out, Boolean(false)), e.cost(len(in))
}

// makeIif: only the branch that is taken is evaluated (N1 section 5.5.1). Its
// input, one item at most, is $this in its arguments.
func makeIif(c *compiler, n call, in fn) (fn, error) {
	args, err := c.args(n)
	if err != nil {
		return nil, err
	}
	pos, bare := n.at(), n.of == nil
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		if bare {
			return choose(e, f, pos, args, out)
		}
		v, ok, err := e.one(pos, in, f)
		if err != nil {
			return out, err
		}
		inner := e.enter(f)
		inner.set(v, int(f.index))
		if !ok {
			inner.this = nil
		}
		if out, err = choose(e, inner, pos, args, out); err != nil {
			return out, err
		}
		e.leave(inner)
		return out, nil
	}, nil
}

func choose(e *eval, f *frame, pos int, args []fn, out []Value) ([]Value, error) {
	t, err := e.criterion(pos, args[0], f)
	if err != nil {
		return out, err
	}
	switch {
	case t == yes:
		return args[1](e, f, out)
	case len(args) == 3:
		return args[2](e, f, out)
	}
	return out, nil
}

// makeAggregate: $total is what the body gave for the item before (N1 section
// 7.1).
func makeAggregate(c *compiler, n call, in fn) (fn, error) {
	args, err := c.args(n)
	if err != nil {
		return nil, err
	}
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		items, err := in(e, f, e.buf())
		if err != nil {
			return out, err
		}
		total := e.buf()
		if len(args) == 2 {
			if total, err = args[1](e, f, total); err != nil {
				return out, err
			}
		}
		inner := e.enter(f)
		for i, v := range items {
			inner.set(v, i)
			inner.total = total
			next, err := args[0](e, inner, e.buf())
			if err != nil {
				return out, err
			}
			e.free(total)
			if total, err = e.grow(next); err != nil {
				return out, err
			}
		}
		e.leave(inner)
		e.free(items)
		out = append(out, total...)
		e.free(total)
		return out, nil
	}, nil
}

// makeTrace passes its input on and shows it, or what a projection makes of it,
// to Env.Trace.
func makeTrace(c *compiler, n call, in fn) (fn, error) {
	args, err := c.args(n)
	if err != nil {
		return nil, err
	}
	pos := n.at()
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		first := len(out)
		out, err := in(e, f, out)
		if err != nil {
			return out, err
		}
		name, _, err := e.one(pos, args[0], f)
		if err != nil {
			return out, err
		}
		shown := slices.Clone(out[first:])
		if len(args) == 2 {
			if shown, err = lambdaSelect(e, f, shown, args[1]); err != nil {
				return out, err
			}
		}
		if e.env.Trace != nil {
			e.env.Trace(name.String(), shown)
		}
		return out, nil
	}, nil
}

func lambdaSelect(e *eval, f *frame, in []Value, body fn) ([]Value, error) {
	inner := e.enter(f)
	var out []Value
	var err error
	for i, v := range in {
		inner.set(v, i)
		if out, err = body(e, inner, out); err != nil {
			return nil, err
		}
	}
	e.leave(inner)
	return out, nil
}

// sortKey is an argument of sort.
type sortKey struct {
	key  fn
	desc bool
}

// makeSort: keys are expressions on each item; a minus in front, or desc behind,
// turns the order around. Without keys the items themselves are the keys.
func makeSort(c *compiler, n call, in fn) (fn, error) {
	keys := []sortKey{{key: this}}
	if len(n.args) > 0 {
		keys = nil
	}
	for _, a := range n.args {
		desc := false
		if o, ok := a.(ordered); ok {
			a, desc = o.of, o.desc
		}
		if s, ok := a.(sign); ok && s.op == "-" {
			a, desc = s.of, !desc
		}
		key, err := c.compile(a)
		if err != nil {
			return nil, err
		}
		keys = append(keys, sortKey{key, desc})
	}
	return iterate(n.at(), in, nil, func(e *eval, f *frame, pos int, in []Value, _ fn, out []Value) ([]Value, error) {
		return sorted(e, f, pos, in, keys, out)
	}), nil
}

// sortRow is an item with its keys; nil is an empty one.
type sortRow struct {
	item Value
	keys []*Value
}

func sorted(e *eval, f *frame, pos int, in []Value, keys []sortKey, out []Value) ([]Value, error) {
	rows := make([]sortRow, len(in))
	for i, v := range in {
		rows[i] = sortRow{item: v}
		f.set(v, i)
		for _, k := range keys {
			key, ok, err := e.one(pos, k.key, f)
			if err != nil {
				return out, err
			}
			var p *Value
			if ok {
				p = &key
			}
			rows[i].keys = append(rows[i].keys, p)
		}
	}
	var failed error
	slices.SortStableFunc(rows, func(a, b sortRow) int {
		o, err := compareRows(e, pos, a, b, keys)
		if err != nil {
			failed = err
		}
		return o
	})
	for _, r := range rows {
		out = append(out, r.item)
	}
	return out, failed
}

// compareRows puts items without key first, whatever the direction.
func compareRows(e *eval, pos int, a, b sortRow, keys []sortKey) (int, error) {
	if err := e.tick(); err != nil {
		return 0, err
	}
	for i, k := range keys {
		x, y := a.keys[i], b.keys[i]
		switch {
		case x == nil && y == nil:
			continue
		case x == nil:
			return -1, nil
		case y == nil:
			return 1, nil
		}
		o, err := e.compare(pos, *x, *y)
		if err != nil {
			return 0, err
		}
		if o == unknown || o == same {
			continue
		}
		if k.desc {
			o = -o
		}
		return int(o), nil
	}
	return 0, nil
}
