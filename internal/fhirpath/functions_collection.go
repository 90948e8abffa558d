package fhirpath

// test makes a function that answers with a boolean.
func test(do func(in []Value) bool) function {
	return eager(0, 0, func(_ *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		return append(out, Boolean(do(in))), nil
	})
}

// allOf makes allTrue and its like: every item must be a boolean.
func allOf(result bool, want bool) function {
	return eager(0, 0, func(e *eval, pos int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		answer := result
		for i := range in {
			b, ok := in[i].Bool()
			if !ok {
				return out, e.fail(pos, "a boolean was expected, not a %s", in[i].TypeName())
			}
			if b == want {
				answer = !result
			}
		}
		return append(out, Boolean(answer)), nil
	})
}

// part makes a function that keeps a part of its input.
func part(do func(in []Value) []Value) function {
	return eager(0, 0, func(_ *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		return append(out, do(in)...), nil
	})
}

// counted makes a function that keeps a part by a number.
func counted(do func(in []Value, n int) []Value) function {
	return eager(1, 1, func(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		n, ok, err := e.integerOf(pos, args[0])
		if err != nil || !ok {
			return out, err
		}
		return append(out, do(in, int(max(0, min(n, int64(len(in))))))...), nil
	})
}

func (e *eval) integerOf(pos int, items []Value) (int64, bool, error) {
	v, ok, err := e.single(pos, items)
	if err != nil || !ok {
		return 0, false, err
	}
	i, ok := v.Integer()
	if !ok {
		return 0, false, e.fail(pos, "an integer was expected, not a %s", v.TypeName())
	}
	return i, true, nil
}

// collectionFunctions work on collections as wholes (N1 sections 5.1 to 5.4).
var collectionFunctions = map[string]function{
	"empty":    test(func(in []Value) bool { return len(in) == 0 }),
	"allTrue":  allOf(true, false),
	"anyTrue":  allOf(false, true),
	"allFalse": allOf(true, true),
	"anyFalse": allOf(false, false),

	"count": eager(0, 0, func(_ *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		return append(out, Integer(int64(len(in)))), nil
	}),
	"not": eager(0, 0, func(e *eval, pos int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		t, err := e.truthOf(pos, in)
		return t.not().appendTo(out), err
	}),
	"first": part(func(in []Value) []Value { return in[:min(1, len(in))] }),
	"last":  part(func(in []Value) []Value { return in[max(0, len(in)-1):] }),
	"tail":  part(func(in []Value) []Value { return in[min(1, len(in)):] }),
	"skip":  counted(func(in []Value, n int) []Value { return in[n:] }),
	"take":  counted(func(in []Value, n int) []Value { return in[:n] }),
	"single": eager(0, 0, func(e *eval, pos int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		_, _, err := e.single(pos, in)
		return append(out, in...), err
	}),

	"distinct": eager(0, 0, func(e *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		return e.appendDistinct(out, in)
	}),
	"isDistinct": eager(0, 0, func(e *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		d, err := e.setOf(in)
		if err != nil {
			return out, err
		}
		return append(out, Boolean(len(d.items) == len(in))), nil
	}),
	"subsetOf": eager(1, 1, func(e *eval, _ int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		return e.subset(in, args[0], out)
	}),
	"supersetOf": eager(1, 1, func(e *eval, _ int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		return e.subset(args[0], in, out)
	}),
	"union": eager(1, 1, func(e *eval, _ int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		return e.appendDistinct(out, in, args[0])
	}),
	"combine": eager(1, 1, func(_ *eval, _ int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		return append(append(out, in...), args[0]...), nil
	}),
	"intersect": eager(1, 1, func(e *eval, _ int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		kept, err := e.keep(in, args[0], true, nil)
		if err != nil {
			return out, err
		}
		return e.appendDistinct(out, kept)
	}),
	"exclude": eager(1, 1, func(e *eval, _ int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		return e.keep(in, args[0], false, out)
	}),
	"children": eager(0, 0, func(e *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		var err error
		for i := 0; i < len(in) && err == nil; i++ {
			out, err = children(e, &in[i], out)
		}
		return out, err
	}),
	"descendants": eager(0, 0, func(e *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		var err error
		for i := 0; i < len(in) && err == nil; i++ {
			out, err = descendants(e, &in[i], out)
		}
		return out, err
	}),
	"type": eager(0, 0, func(_ *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		for i := range in {
			out = append(out, Value{kind: kindType, ref: typeInfo{in[i].Namespace(), in[i].TypeName()}})
		}
		return out, nil
	}),
	"comparable": eager(1, 1, func(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		a, okA, err := e.single(pos, in)
		if err != nil {
			return out, err
		}
		b, okB, err := e.single(pos, args[0])
		if err != nil || !okA || !okB {
			return out, err
		}
		p, okP := a.Quantity()
		q, okQ := b.Quantity()
		return append(out, Boolean(okP && okQ && p.comparableWith(q, e.units))), nil
	}),

	"now": clock(kindDateTime), "today": clock(kindDate), "timeOfDay": clock(kindTime),
}

// clock makes now() and its like, from Env.Now.
func clock(kind systemKind) function {
	return eager(0, 0, func(e *eval, pos int, _ []Value, _ [][]Value, out []Value) ([]Value, error) {
		if e.env.Now.IsZero() {
			return out, e.fail(pos, "there is no clock here")
		}
		return append(out, Value{kind: kind, ref: momentOf(kind, e.env.Now)}), nil
	})
}

// subset answers whether every item of some is among all.
func (e *eval) subset(some, all, out []Value) ([]Value, error) {
	set, err := e.setOf(all)
	if err != nil {
		return out, err
	}
	for i := range some {
		if found, err := set.has(&some[i]); err != nil || !found {
			return append(out, Boolean(false)), err
		}
	}
	return append(out, Boolean(true)), nil
}

// keep appends the items of list that are in other, or those that are not.
func (e *eval) keep(list, other []Value, in bool, out []Value) ([]Value, error) {
	set, err := e.setOf(other)
	if err != nil {
		return out, err
	}
	for i := range list {
		found, err := set.has(&list[i])
		if err != nil {
			return out, err
		}
		if found == in {
			out = append(out, list[i])
		}
	}
	return out, nil
}
