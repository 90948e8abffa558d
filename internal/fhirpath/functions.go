package fhirpath

import "fmt"

// function is an entry of the function table.
type function struct {
	min, max int // arguments
	make     func(c *compiler, n call, in fn) (fn, error)
}

func (f function) arity() string {
	switch {
	case f.max == 0:
		return "no arguments"
	case f.min == f.max && f.max == 1:
		return "1 argument"
	case f.min == f.max:
		return fmt.Sprintf("%d arguments", f.max)
	}
	return fmt.Sprintf("%d to %d arguments", f.min, f.max)
}

// functions is filled once, at start: an initial value would refer to itself,
// because functions compile their arguments.
var functions = map[string]function{}

func init() {
	for _, table := range []map[string]function{
		collectionFunctions, lambdaFunctions, stringFunctions, mathFunctions, conversionFunctions, fhirFunctions,
	} {
		for name, f := range table {
			functions[name] = f
		}
	}
	lambdaTables()
}

// plain is a function whose arguments are evaluated before it, on $this.
type plain func(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error)

func eager(min, max int, do plain) function {
	return function{min, max, func(c *compiler, n call, in fn) (fn, error) {
		args, err := c.args(n)
		if err != nil {
			return nil, err
		}
		if len(args) == 0 {
			return withoutArgs(n.at(), in, do), nil
		}
		return withArgs(n.at(), in, args, do), nil
	}}
}

func (c *compiler) args(n call) ([]fn, error) {
	var args []fn
	for _, a := range n.args {
		arg, err := c.compile(a)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	return args, nil
}

func withoutArgs(pos int, in fn, do plain) fn {
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		if err := e.tick(); err != nil {
			return out, err
		}
		items, err := in(e, f, e.buf())
		if err != nil {
			return out, err
		}
		if out, err = do(e, pos, items, nil, out); err != nil {
			return out, err
		}
		e.free(items)
		return e.grow(out)
	}
}

func withArgs(pos int, in fn, args []fn, do plain) fn {
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		if err := e.tick(); err != nil {
			return out, err
		}
		items, err := in(e, f, e.buf())
		if err != nil {
			return out, err
		}
		values := make([][]Value, len(args))
		for i, arg := range args {
			if values[i], err = arg(e, f, e.buf()); err != nil {
				return out, err
			}
		}
		if out, err = do(e, pos, items, values, out); err != nil {
			return out, err
		}
		for i := len(values) - 1; i >= 0; i-- {
			e.free(values[i])
		}
		e.free(items)
		return e.grow(out)
	}
}
