package fhirpath

import (
	"sync"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// fn is a compiled expression: it appends its collection to out.
type fn func(e *eval, f *frame, out []Value) ([]Value, error)

// frame is what $this, $index and $total mean in one place. Frames live in
// their eval and are used again.
type frame struct {
	this  []Value // one item, or none
	index int64   // -1 outside of an iteration
	total []Value
	item  [1]Value
}

// set makes v the frame's $this.
func (f *frame) set(v Value, index int) {
	f.item[0] = v
	f.this, f.index = f.item[:], int64(index)
}

// eval is one evaluation.
type eval struct {
	env   *Env
	src   string
	base  *frame
	units Units

	steps, maxSteps, maxItems int

	bufs   [][]Value
	frames []*frame
	// scratch is a stack of nodes, and push puts one more on it.
	scratch []fhir.Node
	push    func(fhir.Node) bool
}

var evals = sync.Pool{New: func() any {
	e := &eval{base: new(frame)}
	e.push = func(n fhir.Node) bool {
		e.scratch = append(e.scratch, n)
		return true
	}
	return e
}}

var noEnv Env

func begin(env *Env, x *Expr, root Value) *eval {
	if env == nil {
		env = &noEnv
	}
	e := evals.Get().(*eval)
	e.env, e.src, e.steps = env, x.src, 0
	e.maxSteps, e.maxItems = env.Limits.MaxSteps, env.Limits.MaxItems
	if e.maxSteps <= 0 {
		e.maxSteps = DefaultLimits.MaxSteps
	}
	if e.maxItems <= 0 {
		e.maxItems = DefaultLimits.MaxItems
	}
	if e.units = env.Units; e.units == nil {
		e.units = commonUnits{}
	}
	e.base.set(root, -1)
	if root.kind == kindNode && !root.node.Exists() {
		e.base.this = nil
	}
	return e
}

// maxPooled bounds what an eval keeps for the next one.
const (
	maxPooledItems = 1 << 12 // items of a kept buffer
	maxPooledBufs  = 32
)

func (e *eval) end() {
	e.env, e.units, e.base.total = nil, nil, nil
	e.base.item[0] = Value{}
	if len(e.bufs) > maxPooledBufs {
		clear(e.bufs[maxPooledBufs:])
		e.bufs = e.bufs[:maxPooledBufs]
	}
	e.drop(0)
	if cap(e.scratch) > maxPooledItems {
		e.scratch = nil
	}
	evals.Put(e)
}

// buf lends an empty buffer; free takes it back. On an error nobody need free.
func (e *eval) buf() []Value {
	if n := len(e.bufs); n > 0 {
		b := e.bufs[n-1]
		e.bufs = e.bufs[:n-1]
		return b
	}
	return make([]Value, 0, 8)
}

func (e *eval) free(b []Value) {
	if cap(b) > maxPooledItems {
		return
	}
	clear(b) // let go of documents and texts
	e.bufs = append(e.bufs, b[:0])
}

// enter lends a frame inside f: $total goes on to mean the same.
func (e *eval) enter(f *frame) *frame {
	var inner *frame
	if n := len(e.frames); n > 0 {
		inner = e.frames[n-1]
		e.frames = e.frames[:n-1]
	} else {
		inner = new(frame)
	}
	inner.total = f.total
	return inner
}

func (e *eval) leave(f *frame) {
	*f = frame{}
	e.frames = append(e.frames, f)
}

// list gives the members or items of a node, to be given back by drop with the
// mark. (Ranging over Children would allocate for each range.)
func (e *eval) list(n fhir.Node) (nodes []fhir.Node, mark int) {
	mark = len(e.scratch)
	n.Children()(e.push)
	return e.scratch[mark:], mark
}

func (e *eval) drop(mark int) {
	clear(e.scratch[mark:])
	e.scratch = e.scratch[:mark]
}

// tick counts a step.
func (e *eval) tick() error { return e.cost(1) }

func (e *eval) cost(steps int) error {
	if e.steps += steps; e.steps > e.maxSteps {
		return errorAt(fault.TooCostly, e.src, 0, "the evaluation takes more than %d steps", e.maxSteps)
	}
	return nil
}

// grow checks the size of a collection.
func (e *eval) grow(out []Value) ([]Value, error) {
	if len(out) > e.maxItems {
		return out, errorAt(fault.TooCostly, e.src, 0, "a collection has more than %d items", e.maxItems)
	}
	return out, nil
}

// charsPerItem says how many characters of built text weigh as much as an item.
const charsPerItem = 100

// sized checks the size of a text that a function built.
func (e *eval) sized(text string) error {
	if len(text)/charsPerItem > e.maxItems {
		return errorAt(fault.TooCostly, e.src, 0, "a text is longer than %d bytes", e.maxItems*charsPerItem)
	}
	return e.cost(len(text) / charsPerItem)
}

// one evaluates an expression that must give one item or none.
func (e *eval) one(pos int, x fn, f *frame) (Value, bool, error) {
	b, err := x(e, f, e.buf())
	if err != nil {
		return Value{}, false, err
	}
	v, ok, err := e.single(pos, b)
	e.free(b)
	return v, ok, err
}

// single is the only item of a collection (N1 section 4.5).
func (e *eval) single(pos int, items []Value) (Value, bool, error) {
	switch len(items) {
	case 0:
		return Value{}, false, nil
	case 1:
		return items[0], true, nil
	}
	return Value{}, false, e.fail(pos, "one item was expected, there are %d", len(items))
}

// tri is a boolean that may be open.
type tri uint8

const (
	open tri = iota
	no
	yes
)

func triOf(b bool) tri {
	if b {
		return yes
	}
	return no
}

// not turns yes and no around.
func (t tri) not() tri {
	switch t {
	case yes:
		return no
	case no:
		return yes
	}
	return open
}

// appendTo appends the truth as a boolean; what is open is empty.
func (t tri) appendTo(out []Value) []Value {
	if t == open {
		return out
	}
	return append(out, Boolean(t == yes))
}

// truth evaluates an expression as a boolean: one item that is no boolean
// counts as true (N1 section 4.5, "Singleton Evaluation of Collections").
func (e *eval) truth(pos int, x fn, f *frame) (tri, error) {
	b, err := x(e, f, e.buf())
	if err != nil {
		return open, err
	}
	t, err := e.truthOf(pos, b)
	e.free(b)
	return t, err
}

func (e *eval) truthOf(pos int, items []Value) (tri, error) {
	v, ok, err := e.single(pos, items)
	if err != nil || !ok {
		return open, err
	}
	if b, ok := v.Bool(); ok {
		return triOf(b), nil
	}
	return yes, nil
}

// criterion is truth where the specification wants a boolean and nothing else.
func (e *eval) criterion(pos int, x fn, f *frame) (tri, error) {
	v, ok, err := e.one(pos, x, f)
	if err != nil || !ok {
		return open, err
	}
	b, ok := v.Bool()
	if !ok {
		return open, e.fail(pos, "a boolean was expected, not a %s", v.TypeName())
	}
	return triOf(b), nil
}

// resource is %resource: what holds the root.
func (e *eval) resource() fhir.Node {
	if e.env.Resource.Exists() {
		return e.env.Resource
	}
	if e.base.item[0].kind != kindNode {
		return fhir.Node{}
	}
	n := e.base.item[0].node
	for n.Exists() && n.ResourceType() == "" {
		n = n.Parent()
	}
	return n
}

// rootResource is %rootResource: the resource that contains %resource, or
// itself. Entries of a Bundle are their own.
func (e *eval) rootResource() fhir.Node {
	if e.env.RootResource.Exists() {
		return e.env.RootResource
	}
	n := e.resource()
	list := n.Parent()
	if list.Kind() == fhir.Array && list.NameID() == nameContained {
		return list.Parent()
	}
	return n
}
